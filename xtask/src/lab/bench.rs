//! What one guest needs on the host: packages, programs, an initramfs, and a server of the host's time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use driftless_linux::signal::Signals;

use crate::packages;

use super::boot::{Accelerator, Boot, PLANTED};
use super::client::{self, Client, Kind};
use super::guest::Guest;
use super::image;
use super::machine::{Machine, Qemu};
use super::network::Wire;
use super::process::{Ended, go_on};
use super::relay::Relay;
use super::scenario::Scenario;
use super::scratch::Scratch;
use super::vsock;

/// Everything that one guest needs on the host.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Where the run leaves what it leaves.
    pub(crate) folder: PathBuf,
    workspace: PathBuf,
    machine: Machine,
    initramfs: PathBuf,
    /// Whether the initramfs stays when this is dropped.
    pub(crate) keeps_initramfs: bool,
    /// Where the server listens.
    port: u16,
    server: Option<Ended>,
    scratch: Scratch,
    /// The guest's vsock, where it is to have one.
    vsock: Option<Ended>,
    /// The namespace of its network, where it is to find its server by itself.
    wire: Option<Wire>,
    /// What stands between it and the guest where the host's clock is to be off.
    _relay: Option<Relay>,
}

/// What drives a guest's vsock.
const VSOCK_DRIVER: &str = "vmw_vsock_virtio_transport";
/// What drives a virtio-serial port.
const PORT_DRIVER: &str = "virtio_console";

impl Bench {
    /// Fetches and builds what is missing and starts the host's server.
    pub(crate) fn new(scenario: &Scenario, kind: Kind, is_verbose: bool) -> Result<Self> {
        let name = scenario.name;
        let (workspace, lab) = (workspace()?, folder()?);
        let cache = lab.join("cache");
        let mut machine = prepare()?;
        if scenario.card.is_some_and(|card| card.is_of_own_qemu) {
            machine.qemu = Qemu::installed()?;
        }
        build(&workspace)?;
        let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let folder = lab.join("runs").join(format!("{name}-{}-{}-{unique}", kind.name(), std::process::id()));
        fs::create_dir_all(&folder)?;
        let scratch = Scratch::new(&folder)?;
        let vsock = if scenario.has_vsock {
            Some(vsock::start(&cache, scratch.path(), &folder.join("vsock.log"))?)
        } else {
            None
        };
        let wire = scenario.network.make(scratch.path(), &folder.join("network.log"))?;
        let port = free_port()?;
        let (asked, relay) = if scenario.host_ahead_s == 0 {
            (port, None)
        } else {
            let near = free_port()?;
            (near, Some(Relay::start(near, port, scenario.host_ahead_s)?))
        };
        let client: Client = client::prepare(kind, scenario, asked, is_verbose, (&workspace, &cache))?;
        let initramfs = folder.join("initramfs");
        if let Some(card) = scenario.card.filter(|card| !machine.qemu.has(card.name)) {
            bail!("{name} needs a QEMU with the device {}; this one has none", card.name);
        }
        image::initramfs(&machine.kernel, &client, &drivers(scenario), &workspace, &initramfs)?;
        let mut bench = Self {
            folder,
            workspace,
            machine,
            initramfs,
            keeps_initramfs: false,
            port,
            server: None,
            scratch,
            vsock,
            wire,
            _relay: relay,
        };
        bench.serve_or_not(false)?;
        Ok(bench)
    }

    /// Boots the guest; where KVM was asked for and brings none up, without it.
    pub(crate) fn boot(
        &self,
        scenario: &Scenario,
        accelerator: Accelerator,
        signals: &Signals,
    ) -> Result<Guest> {
        let boot = Boot {
            machine: &self.machine,
            accelerator,
            initramfs: &self.initramfs,
            folder: &self.folder,
            scratch: self.scratch.path(),
            drift_ppm: scenario.drift_ppm,
            ahead_s: scenario.ahead_s,
            card: scenario.card.map(|card| card.name),
            has_vsock: self.vsock.is_some(),
            share: None,
            counters: PLANTED,
            network: scenario.network,
            wire: self.wire.as_ref(),
            words: scenario.words,
            is_told: scenario.is_told,
        };
        let mut guest = match Guest::boot(&boot, signals) {
            Err(_) if accelerator == Accelerator::Kvm => {
                go_on(signals)?;
                eprintln!("xtask: no guest comes up under KVM here; taking TCG");
                Guest::boot(&Boot { accelerator: Accelerator::Tcg, ..boot }, signals)?
            }
            guest => guest?,
        };
        if scenario.card.is_some_and(|card| card.runs) {
            guest.set_phc()?;
        }
        Ok(guest)
    }

    /// Starts the host's server, or lets it vanish.
    pub(crate) fn serve_or_not(&mut self, is_gone: bool) -> Result<()> {
        if is_gone {
            self.server = None;
        } else if self.server.is_none() {
            let mut command = host_server(&self.workspace, &self.scratch);
            match &self.wire {
                Some(wire) => {
                    command.args(["--listen", &format!("{}:123", wire.server), "--allow", "10.0.2.0/24"])
                }
                None => command.args(["--listen", &format!("127.0.0.1:{}", self.port)]),
            };
            if self.vsock.is_some() {
                command.arg("--uds").arg(vsock::time_socket(self.scratch.path()));
            }
            let command = match &self.wire {
                Some(wire) => wire.within(&command),
                None => command,
            };
            self.server = Some(Ended::spawn(&command, &[], &self.folder.join("server.log"))?);
        }
        Ok(())
    }
}

/// The host's time, as it is; asked for its status where this machine's own server is not.
pub(super) fn host_server(workspace: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new(workspace.join("target/lab/driftless"));
    command.args(["serve", "--as-is", "--control"]).arg(scratch.path().join("serve.sock"));
    command
}

/// Of the devices that not every guest has.
fn drivers(scenario: &Scenario) -> Vec<&'static str> {
    let vsock = scenario.has_vsock.then_some(VSOCK_DRIVER);
    let port = scenario.is_told.then_some(PORT_DRIVER);
    scenario.card.map(|card| card.name).into_iter().chain(vsock).chain(port).collect()
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !self.keeps_initramfs {
            let _ = fs::remove_file(&self.initramfs);
        }
    }
}

/// Gets what a guest is made of: Debian's packages, installed or in the cache.
pub(crate) fn prepare() -> Result<Machine> {
    packages::need(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("depmod", "kmod"),
        ("setpriv", "util-linux"),
    ])?;
    let cache = folder()?.join("cache");
    fs::create_dir_all(&cache)?;
    Machine::find(&cache)
}

/// The workspace's root.
pub(crate) fn workspace() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask lies in the workspace")?.to_owned())
}

/// Where the lab keeps its cache and its runs.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(match std::env::var_os("DRIFTLESS_LAB_DIR") {
        Some(folder) => std::path::absolute(folder)?,
        None => workspace()?.join(".lab"),
    })
}

/// Builds what runs in the guest.
pub(super) fn build(workspace: &Path) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--profile", "lab", "-p", "driftless", "-p", "driftless-lab-probe"]);
    // The first time takes a minute: then cargo's own progress is shown.
    if workspace.join("target/lab/driftless").exists() {
        cargo.arg("--quiet");
    } else {
        eprintln!("xtask: building driftless and the guest's agent");
    }
    let built = cargo.current_dir(workspace).env_remove("CARGO_TARGET_DIR").status()?;
    if built.success() { Ok(()) } else { bail!("cargo build failed") }
}

/// A UDP port that nobody uses on loopback.
pub(super) fn free_port() -> Result<u16> {
    Ok(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}
