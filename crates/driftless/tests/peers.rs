//! Real peers: chronyd, never with control of this machine's clock, and ntpsec's ntpdig.
//!
//! They are found in PATH, /usr/sbin, or the folder that `DRIFTLESS_PEERS` names; without them a test says that it was skipped.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Without the power over the clock.
fn harmless(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    if fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t") {
        command.args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]);
    }
    command.arg(program).env("DRIFTLESS_OBSERVE", "1").stdin(Stdio::null());
    command
}

fn driftless() -> Command {
    harmless(env!("CARGO_BIN_EXE_driftless"))
}

fn peer(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("DRIFTLESS_PEERS").into_iter().chain(std::env::var_os("PATH"));
    let found = folders
        .flat_map(|folders| std::env::split_paths(&folders).collect::<Vec<_>>())
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    if found.is_none() {
        eprintln!("skipped: no {name} here");
    }
    found
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn started(command: &mut Command) -> Running {
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    sleep(Duration::from_millis(1_500));
    running
}

fn free_port() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn chronyd_gets_good_time_from_our_server() {
    let Some(chronyd) = peer("chronyd") else { return };
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    let listen = format!("127.0.0.1:{port}");
    let _server = started(driftless().args(["serve", "--as-is", "--listen", &listen]));
    let pid = format!("pidfile {}", directory.path().join("pid").display());
    let source = format!("server 127.0.0.1 port {port} iburst");
    let output = harmless(chronyd)
        .args(["-Q", "-x", "-t", "15", "-u", "root", "-f", "/dev/null", &source, "cmdport 0", &pid])
        .output()
        .unwrap();
    let text = said(&output);
    let off = text.split("wrong by ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or(&text);
    assert!(off.parse::<f64>().unwrap_or_else(|_| panic!("{text}")).abs() < 0.01, "{text}");
}

#[test]
fn we_get_good_time_from_chronyd() {
    let Some(chronyd) = peer("chronyd") else { return };
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    let config = directory.path().join("chrony.conf");
    let pid = directory.path().join("pid");
    fs::write(
        &config,
        format!(
            "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\nlocal stratum 5\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
            pid.display()
        ),
    )
    .unwrap();
    let _server = started(harmless(chronyd).args(["-x", "-d", "-u", "root", "-f"]).arg(&config));
    let query = driftless().args(["query", &format!("127.0.0.1:{port}")]).output().unwrap();
    assert!(query.status.success() && said(&query).contains("stratum 5"), "{}", said(&query));
    let source = format!("ntp:127.0.0.1:{port}");
    let observed = driftless().args(["waitsync", "--once", "--source", &source]).output().unwrap();
    assert!(observed.status.success(), "{}", said(&observed));
}
