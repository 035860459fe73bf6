//! How a guest is booted: QEMU's command line, and the kernel parameters that plant a drift beneath adjtimex.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use driftless_core::clock::Clock as _;
use driftless_core::time::{Seconds, Span};
use driftless_linux::clock::ObservedClock;
use driftless_linux::mapping::read_tsc;
use driftless_linux::signal::Signals;

use super::guest::MONITOR;
use super::machine::Machine;
use super::network::{Network, Wire};
use super::process::rest;
use super::{tool, vsock};

/// What is needed to boot a guest.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) accelerator: Accelerator,
    pub(crate) initramfs: &'a Path,
    pub(crate) folder: &'a Path,
    /// Where page and sockets lie.
    pub(crate) scratch: &'a Path,
    pub(crate) drift_ppm: f64,
    pub(crate) ahead_s: i64,
    /// A second network card, for its PTP clock.
    pub(crate) card: Option<&'a str>,
    pub(crate) has_vsock: bool,
    /// A folder of the host's that the guest may mount, by the tag `host` (9p).
    pub(crate) share: Option<&'a Path>,
    /// Words for the kernel about what it may count by.
    pub(crate) counters: &'a str,
    pub(crate) network: Network,
    /// The namespace that QEMU runs in, if it is to.
    pub(crate) wire: Option<&'a Wire>,
    /// More of the kernel's command line.
    pub(crate) words: &'a str,
    /// A port for the host's tool, and no driver for the real-time clock.
    pub(crate) is_told: bool,
}

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accelerator {
    /// QEMU's own translation: works everywhere, and the drift can be planted
    #[default]
    Tcg,
    /// The processor, where this machine lets us; tried, with the other to fall back to
    Kvm,
}

impl Accelerator {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }

    /// How long a boot may take: a busy host needs patience, but a guest under KVM that is not up by then has hung.
    pub(crate) const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Tcg => 180,
            Self::Kvm => 30,
        })
    }

    const fn processor(self) -> &'static str {
        match self {
            Self::Tcg => "max",
            Self::Kvm => "host",
        }
    }
}

/// Nothing is left to refine the counter's rate against, and the watchdog is off.
pub(crate) const PLANTED: &str = "tsc=reliable hpet=disable pmtmr=0";
/// What makes a guest under KVM believe its counter, too, and not the hypervisor's page.
const PLANTED_KVM: &str = "no-kvmclock";
/// Devices that only newer QEMUs have, and only newer kernels drive: each is used where it is there.
const NEWER_DEVICES: [(&str, &str); 2] = [("vmclock", "vmclock"), ("vmgenid", "vmgenid,guid=auto")];

impl Boot<'_> {
    /// The kernel's command line for a counter that is believed to run at `khz`.
    fn words(&self, khz: f64) -> String {
        let mut append = format!(
            "console=ttyS0 quiet panic=-1 tsc_early_khz={khz:.0} {} lab.offset_s={}{} {}",
            self.counters,
            self.ahead_s,
            self.network.words(),
            self.words
        );
        if self.accelerator == Accelerator::Kvm {
            append.push(' ');
            append.push_str(PLANTED_KVM);
        }
        if self.is_told {
            append.push_str(" initcall_blacklist=cmos_init");
        }
        append
    }

    /// QEMU's command line for a counter that is believed to run at `khz`.
    pub(crate) fn command(&self, khz: f64) -> Command {
        let qemu = &self.machine.qemu;
        let mut command = qemu.command();
        command.args([
            "-accel",
            self.accelerator.name(),
            "-machine",
            "q35",
            "-cpu",
            self.accelerator.processor(),
        ]);
        command.args(["-smp", "1", "-m", "256M", "-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-no-reboot", "-rtc", "base=utc,clock=host"]);
        command.args(self.network.arguments());
        let memory =
            format!("memory-backend-file,id=shm,share=on,size=1M,mem-path={}/page", self.scratch.display());
        command.args(["-object", &memory, "-device", "ivshmem-plain,memdev=shm,master=on"]);
        command.arg("-qmp").arg(format!("unix:{}/{MONITOR},server=on,wait=off", self.scratch.display()));
        if let Some(card) = self.card {
            command.args(["-device", card]);
        }
        if self.has_vsock {
            command.args(["-object", "memory-backend-memfd,id=mem,size=256M,share=on"]);
            command.args(vsock::arguments(self.scratch));
        }
        if let Some(share) = self.share {
            let options = format!("local,path={},mount_tag=host,security_model=none", share.display());
            command.args(["-virtfs", &options]);
        }
        if self.is_told {
            command.args(tool::arguments(self.scratch));
        }
        for (device, option) in NEWER_DEVICES {
            if qemu.has(device) {
                command.args(["-device", option]);
            }
        }
        let console = format!("file,id=console,append=on,path={}", self.folder.join("console.log").display());
        command.args(["-chardev", &console, "-serial", "chardev:console"]);
        command.arg("-kernel").arg(&self.machine.kernel.image);
        command.arg("-initrd").arg(self.initramfs).args(["-append", &self.words(khz)]);
        match self.wire {
            Some(wire) => wire.within(&command),
            None => command,
        }
    }

    /// Leaves the command line beside the run's other files.
    pub(crate) fn keep(&self, command: &Command) -> Result<()> {
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
        let variables = command
            .get_envs()
            .map(|(key, value)| format!("{}={}", key.to_string_lossy(), quoted(value.unwrap_or_default())));
        let words = [command.get_program()].into_iter().chain(command.get_args()).map(quoted);
        let line: Vec<String> = variables.chain(words).collect();
        let file = self.folder.join("qemu.sh");
        let script = format!("mkdir -p {}\n{}\n", quoted(self.scratch.as_os_str()), line.join(" "));
        fs::write(&file, script).with_context(|| file.display().to_string())
    }
}

/// The true rate of the counter that the guest will have: the host's, measured against its clock over two seconds.
pub(crate) fn tsc_khz(signals: &Signals) -> Result<f64> {
    let look = || {
        (0..50)
            .map(|_| {
                let (before, now, after) = (read_tsc(), ObservedClock.now(), read_tsc());
                (after.wrapping_sub(before), before.wrapping_add(after.wrapping_sub(before) / 2), now.wall)
            })
            .min_by_key(|(width, ..)| *width)
    };
    let first = look().context("no look at the counter")?;
    rest(signals, Duration::from_secs(2))?;
    let second = look().context("no look at the counter")?;
    let ticks = i64::try_from(second.1.wrapping_sub(first.1)).unwrap_or(0);
    if ticks <= 0 {
        bail!("this machine has no usable time-stamp counter: the lab cannot plant a drift here");
    }
    let elapsed = Seconds::from(second.2 - first.2).0;
    Ok(Seconds::from(Span::from_nanos(ticks)).0 * 1e9 / elapsed / 1e3)
}
