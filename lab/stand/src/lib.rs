//! What the tests of the binary stand on: processes that cannot set this machine's clock and end with their test, peers where they are found, and a
//! server whose clock is ahead.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::ffi::OsStr;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// A program that is run without the power over the clock, and with `DRIFTLESS_OBSERVE=1`.
///
/// # Panics
/// Where /proc is missing.
pub fn harmless(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]);
    }
    command.arg(program).env("DRIFTLESS_OBSERVE", "1").stdin(Stdio::null());
    command
}

/// Whether the tests are run by root, who has the power to lose.
///
/// # Panics
/// Where /proc is missing.
#[must_use]
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t")
}

/// A program that may be here: in the folders that `DRIFTLESS_PEERS` names, or beside those, in PATH or in /usr/sbin. Where it is not, that is said.
#[must_use]
pub fn peer(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("DRIFTLESS_PEERS").into_iter().chain(std::env::var_os("PATH"));
    let folders = folders.flat_map(|folders| std::env::split_paths(&folders).collect::<Vec<_>>());
    // chronyc lies beside chronyd's folder.
    let near = folders.flat_map(|folder| [folder.join(name), folder.join("../bin").join(name)]);
    let found = near.chain([Path::new("/usr/sbin").join(name)]).find(|program| program.is_file());
    if found.is_none() {
        eprintln!("skipped: no {name} here");
    }
    found
}

/// A child that ends with its test.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A UDP port of loopback that nobody has yet.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The port of a server of stratum 1 whose clock is ahead by `ahead`; it answers as long as the test lives.
///
/// # Panics
/// Where loopback gives no socket.
#[must_use]
pub fn server_ahead(ahead: Duration) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut request = [0; 512];
        while let Ok((48.., from)) = socket.recv_from(&mut request) {
            let received = stamp(ahead);
            let mut reply = [0; 48];
            // Version 4, a server's reply, stratum 1.
            reply[..4].copy_from_slice(&[0x24, 1, request[2], 0xec]);
            reply[12..16].copy_from_slice(b"TEST");
            reply[16..24].copy_from_slice(&received);
            reply[24..32].copy_from_slice(&request[40..48]);
            reply[32..40].copy_from_slice(&received);
            reply[40..48].copy_from_slice(&stamp(ahead));
            let _ = socket.send_to(&reply, from);
        }
    });
    port
}

/// This machine's time and `ahead`, as the wire has it (RFC 5905, section 6).
fn stamp(ahead: Duration) -> [u8; 8] {
    const UNIX_IN_NTP: u64 = 2_208_988_800;
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap() + ahead;
    let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
    ((time.as_secs() + UNIX_IN_NTP) << 32 | fraction).to_be_bytes()
}
