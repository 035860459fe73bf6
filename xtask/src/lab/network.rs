//! What network a guest has. Where it is to find its server by itself, that listens on NTP's own port in a network namespace of the host's, which QEMU joins by
//! a tap device; nothing in there leads outside.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::process::Ended;

/// What network a guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// QEMU's user network, with addresses set by the guest's init.
    User,
    /// None at all.
    None,
    /// The gateway is the host, and serves.
    Gateway,
    /// DHCP tells of a server, which is not the gateway.
    Dhcp,
}

/// A namespace with a tap device, as long as this lasts.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Keeps the namespace: a process that sleeps in it.
    holder: Ended,
    /// Hands out the lease.
    _dhcp: Option<Ended>,
    pub(crate) server: &'static str,
}

const GATEWAY: &str = "10.0.2.2";
const SERVER: &str = "10.0.2.3";
/// Told to the guest's init by the kernel's command line.
const WORD: &str = "lab.network";
const PATIENCE: Duration = Duration::from_secs(5);

impl Network {
    /// Makes it, where it needs to be made.
    pub(crate) fn make(self, scratch: &Path, log: &Path) -> Result<Option<Wire>> {
        let server = match self {
            Self::User | Self::None => return Ok(None),
            Self::Gateway => GATEWAY,
            Self::Dhcp => SERVER,
        };
        let ready = scratch.join("wire");
        let script = format!(
            "ip link set lo up && ip tuntap add tap0 mode tap && ip addr add {GATEWAY}/24 dev tap0 && ip addr add {SERVER}/24 dev tap0 \
            && ip link set tap0 up && : > '{}' && exec sleep infinity",
            ready.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--", "sh", "-c", &script]);
        let mut holder = Ended::spawn(&command, &[], log)?;
        let start = Instant::now();
        while !ready.exists() {
            if !holder.is_running() || start.elapsed() > PATIENCE {
                bail!("no network namespace with a tap device can be had here; see {}", log.display());
            }
            sleep(Duration::from_millis(20));
        }
        let mut wire = Wire { holder, _dhcp: None, server };
        if self == Self::Dhcp {
            wire._dhcp = Some(wire.hand_out(scratch, log)?);
        }
        Ok(Some(wire))
    }

    /// What QEMU is told.
    pub(crate) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::User => &["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="],
            Self::None => &[],
            Self::Gateway | Self::Dhcp => &[
                "-netdev",
                "tap,id=n0,ifname=tap0,script=no,downscript=no",
                "-device",
                "virtio-net-pci,netdev=n0,romfile=",
            ],
        }
    }

    /// What the guest's init is told.
    pub(crate) fn words(self) -> String {
        match self {
            Self::User | Self::Gateway => String::new(),
            Self::None => format!(" {WORD}=none"),
            Self::Dhcp => format!(" {WORD}=dhcp"),
        }
    }
}

impl Wire {
    /// A command as it is run within the namespace.
    pub(crate) fn within(&self, command: &Command) -> Command {
        let mut within = Command::new("nsenter");
        within.args([
            "--preserve-credentials",
            "--user",
            "--net",
            "--target",
            &self.holder.id().to_string(),
            "--",
        ]);
        within.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            within.env(key, value.unwrap_or_default());
        }
        within
    }

    /// Starts a DHCP server with option 42.
    fn hand_out(&self, scratch: &Path, log: &Path) -> Result<Ended> {
        let config = scratch.join("udhcpd.conf");
        let leases = scratch.join("udhcpd.leases");
        fs::write(&leases, "")?;
        let text = format!(
            "start 10.0.2.15\nend 10.0.2.15\ninterface tap0\nlease_file {}\npidfile {}\noption subnet 255.255.255.0\noption router {GATEWAY}\noption ntpsrv {SERVER}\n",
            leases.display(),
            scratch.join("udhcpd.pid").display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("busybox");
        command.args(["udhcpd", "-f"]).arg(&config);
        Ended::spawn(&self.within(&command), &[], log)
    }
}
