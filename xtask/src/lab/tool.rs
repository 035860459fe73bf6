//! A hypervisor's tool that sets its guest's time after a pause, over a virtio-serial port: `guest-sync`, then `guest-set-time` (QEMU's
//! docs/interop/qemu-ga-ref), as `virsh domtime` does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use driftless_core::clock::Clock as _;
use driftless_linux::clock::ObservedClock;
use serde_json::{Value, json};

/// The tool, connected for as long as the guest runs, as libvirt's daemon is.
#[derive(Debug)]
pub(crate) struct Tool(BufReader<UnixStream>);

/// The port's socket in the scratch folder.
const PORT: &str = "agent";
/// The port's name, by which a guest's agent looks for it.
const NAME: &str = "org.qemu.guest_agent.0";
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that may be left over from before.
const STALE_MAX: u32 = 16;

/// What QEMU is told.
pub(crate) fn arguments(scratch: &Path) -> [String; 6] {
    let chardev = format!("socket,id=agent,server=on,wait=off,path={}", scratch.join(PORT).display());
    let port = format!("virtserialport,chardev=agent,name={NAME}");
    ["-device", "virtio-serial-pci", "-chardev", &chardev, "-device", &port].map(str::to_owned)
}

impl Tool {
    /// Connects to the port.
    pub(crate) fn connect(scratch: &Path) -> Result<Self> {
        let stream = UnixStream::connect(scratch.join(PORT)).context("the guest agent's port")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Tells the guest the host's time; returns when it has answered.
    pub(crate) fn tell(&mut self) -> Result<()> {
        let serial = std::process::id();
        self.execute("guest-sync", &json!({"id": serial}), &json!(serial))?;
        let now = ObservedClock.now().wall.as_nanos();
        self.execute("guest-set-time", &json!({"time": now}), &json!({}))
    }

    fn execute(&mut self, command: &str, arguments: &Value, wanted: &Value) -> Result<()> {
        writeln!(self.0.get_mut(), "{}", json!({"execute": command, "arguments": arguments}))?;
        for _ in 0..STALE_MAX {
            let mut line = String::new();
            self.0.read_line(&mut line).with_context(|| format!("nobody in the guest answers {command}"))?;
            let answer: Value = serde_json::from_str(&line).with_context(|| format!("{command}: {line}"))?;
            if !answer["error"].is_null() {
                bail!("the guest refuses {command}: {}", answer["error"]["desc"]);
            }
            if answer["return"] == *wanted {
                return Ok(());
            }
        }
        bail!("the guest does not answer {command}")
    }
}
