//! The host's time server as its clients see it: bad packets, many guests, restarts, peers, a capture.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod capture;
mod endurance;
mod guests;
mod packets;
mod peers;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_lab_stand::{Running, free_port, harmless};
use serde_json::Value;

fn driftless() -> Command {
    harmless(env!("CARGO_BIN_EXE_driftless"))
}

/// A server of ours.
struct Server {
    process: Running,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    /// On loopback, as it is, with more arguments.
    fn start(more: &[&str]) -> Self {
        Self::start_at(free_port(), more)
    }

    fn start_at(port: u16, more: &[&str]) -> Self {
        let mut command = driftless();
        command.args(["serve", "--as-is", "--listen", &format!("127.0.0.1:{port}")]).args(more);
        Self::of(command, port)
    }

    /// Whatever `command` starts; it answers on `port`.
    fn of(mut command: Command, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        command.arg("--control").arg(folder.path().join("control")).stderr(Stdio::null());
        let server = Self { process: Running(command.spawn().unwrap()), port, folder };
        soon("the server comes up", || {
            let socket = client(server.address());
            socket.send(&request(4, 3)).ok()?;
            socket.recv(&mut [0; 48]).ok()
        });
        server
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// What it says of itself.
    fn status(&self) -> Value {
        let control = self.folder.path().join("control");
        let output =
            driftless().args(["serve", "--status", "--json", "--control"]).arg(control).output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn counter(&self, name: &str) -> u64 {
        self.status()["counters"].pointer(&format!("/{name}")).and_then(Value::as_u64).unwrap()
    }

    /// A file of its own in /proc.
    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.process.0.id().to_string()).join(file)
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Memory that it holds and shares with nobody, in kB.
    fn private_kb(&self) -> u64 {
        let text = fs::read_to_string(self.proc("smaps_rollup")).unwrap();
        let private = |line: &&str| line.starts_with("Private_");
        text.lines()
            .filter(private)
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum()
    }
}

/// A socket that hears nobody but the server, and not for ever.
fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// A packet of 48 octets with a transmit timestamp to know it by.
fn request(version: u8, mode: u8) -> [u8; 48] {
    let mut packet = [0; 48];
    packet[0] = version << 3 | mode;
    packet[40..].copy_from_slice(b"transmit");
    packet
}

/// Tries until something comes of it, for at most 20 s.
fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        sleep(Duration::from_millis(50));
    }
}
