//! vsock between host and guest without the host's kernel: vhost-device-vsock speaks vhost-user to QEMU and Unix sockets to us.
//!
//! A guest that connects to the host's port P reaches whoever listens on the Unix socket `vsock_P`, Firecracker's convention.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::process::Ended;
use crate::packages;

const PROGRAM: &str = "vhost-device-vsock";
/// The guest's context id: the first that is free.
const GUEST_CID: u32 = 3;
/// Names in the scratch folder.
const DEVICE: &str = "vhost";
const STREAMS: &str = "vsock";
/// Where the host's server of time listens, as the guest sees it.
pub(crate) const TIME_PORT: u32 = 123;
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the device, without any network.
pub(crate) fn start(cache: &Path, scratch: &Path, log: &Path) -> Result<Ended> {
    let cached = cache.join(PROGRAM).join("bin").join(PROGRAM);
    let program = Some(cached).filter(|file| file.is_file()).or_else(|| packages::find(PROGRAM));
    let program = program.with_context(|| {
        format!("{PROGRAM} is missing; `cargo install {PROGRAM} --root .lab/cache/{PROGRAM}` brings it, in some ten minutes")
    })?;
    let device = scratch.join(DEVICE);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--"]).arg(program).arg("--vm").arg(format!(
        "guest-cid={GUEST_CID},uds-path={},socket={}",
        scratch.join(STREAMS).display(),
        device.display()
    ));
    let mut process = Ended::spawn(&command, &[], log)?;
    let start = Instant::now();
    while !device.exists() {
        if !process.is_running() || start.elapsed() > PATIENCE {
            bail!("{PROGRAM} does not start; see {}", log.display());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// What QEMU is told: the guest's memory has to be shared with the device.
pub(crate) fn arguments(scratch: &Path) -> [String; 6] {
    let chardev = format!("socket,id=vsock,path={}", scratch.join(DEVICE).display());
    ["-machine", "memory-backend=mem", "-chardev", &chardev, "-device", "vhost-user-vsock-pci,chardev=vsock"]
        .map(str::to_owned)
}

/// The Unix socket on which the host's server listens for the guest.
pub(crate) fn time_socket(scratch: &Path) -> PathBuf {
    scratch.join(format!("{STREAMS}_{TIME_PORT}"))
}
