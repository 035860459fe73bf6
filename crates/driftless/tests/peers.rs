//! Real peers: chronyd, never with control of this machine's clock, ntpsec's ntpdig, ntpd-rs, and the adjtimex of old.
//!
//! They are found in the folders that `DRIFTLESS_PEERS` names, in PATH or /usr/sbin; without them a test says that it was skipped.
//! `cargo xtask test` unpacks those that the distribution has.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_lab_stand::{Running, free_port, harmless, is_root, peer};
use serde_json::Value;

/// Far from what two readings of one clock over loopback differ by, and far from what a wrong reading of a packet gives.
const GOOD_S: f64 = 0.01;

fn driftless() -> Command {
    harmless(env!("CARGO_BIN_EXE_driftless"))
}

fn started(command: &mut Command) -> Running {
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    sleep(Duration::from_millis(1_500));
    running
}

fn our_server(port: &str) -> Running {
    started(driftless().args(["serve", "--as-is", "--listen", &format!("127.0.0.1:{port}")]))
}

/// chronyd as a server that never touches the clock.
fn their_server(chronyd: &Path, port: &str, directory: &Path) -> Running {
    let config = directory.join("chrony.conf");
    let text = format!(
        "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\nlocal stratum 5\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
        directory.join("pid").display()
    );
    fs::write(&config, text).unwrap();
    started(harmless(chronyd).args(["-x", "-d", "-u", "root", "-f"]).arg(&config))
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Asks again and again until there is an answer, for at most 20 s.
fn soon<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(text) => assert!(start.elapsed() < Duration::from_secs(20), "{text}"),
        }
        sleep(Duration::from_millis(500));
    }
}

#[test]
fn chronyd_gets_good_time_from_our_server() {
    let Some(chronyd) = peer("chronyd") else { return };
    let (port, directory) = (free_port().to_string(), tempfile::tempdir().unwrap());
    let _server = our_server(&port);
    let pid = format!("pidfile {}", directory.path().join("pid").display());
    let source = format!("server 127.0.0.1 port {port} iburst");
    let output = harmless(chronyd)
        .args(["-Q", "-x", "-t", "15", "-u", "root", "-f", "/dev/null", &source, "cmdport 0", &pid])
        .output()
        .unwrap();
    let text = said(&output);
    let off = text.split("wrong by ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or(&text);
    assert!(off.parse::<f64>().unwrap_or_else(|_| panic!("{text}")).abs() < GOOD_S, "{text}");
}

/// ntpdig asks port 123 only: both live in a network namespace of their own, where that port is free.
#[test]
fn ntpdig_gets_good_time_from_our_server() {
    let (Some(ntpdig), Some(_)) = (peer("ntpdig"), peer("python3")) else { return };
    let modules = ntpdig.parent().unwrap().with_file_name("lib/python3/dist-packages");
    let alone: &[&str] = if is_root() { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
    if !Command::new("unshare")
        .args(alone)
        .args(["ip", "link", "set", "lo", "up"])
        .status()
        .unwrap()
        .success()
    {
        eprintln!("skipped: no network namespace of our own, or no ip(8), here");
        return;
    }
    let script = "ip link set lo up && { \"$0\" serve --as-is --listen 127.0.0.1:123 & sleep 1; \"$1\" -j 127.0.0.1; kill $!; }";
    let output = harmless("unshare")
        .args(alone)
        .args(["sh", "-c", script, env!("CARGO_BIN_EXE_driftless")])
        .arg(ntpdig)
        .env("PYTHONPATH", modules)
        .output()
        .unwrap();
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert!(answer["offset"].as_f64().unwrap().abs() < GOOD_S, "{answer}");
    assert_eq!((&answer["stratum"], &answer["adjusted"]), (&10.into(), &false.into()), "{answer}");
}

#[test]
fn query_and_waitsync_get_good_time_from_chronyd() {
    let Some(chronyd) = peer("chronyd") else { return };
    let (port, directory) = (free_port().to_string(), tempfile::tempdir().unwrap());
    let _server = their_server(&chronyd, &port, directory.path());
    let query = driftless().args(["query", &format!("127.0.0.1:{port}")]).output().unwrap();
    assert!(query.status.success() && said(&query).contains("stratum 5"), "{}", said(&query));
    let source = format!("ntp:127.0.0.1:{port}");
    let observed = driftless().args(["waitsync", "--once", "--source", &source]).output().unwrap();
    assert!(observed.status.success(), "{}", said(&observed));
}

#[test]
fn an_observing_daemon_gets_good_time_from_chronyd() {
    let Some(chronyd) = peer("chronyd") else { return };
    let (port, directory) = (free_port().to_string(), tempfile::tempdir().unwrap());
    let _server = their_server(&chronyd, &port, directory.path());
    let control = directory.path().join("control.sock");
    let mut daemon = driftless();
    daemon.args(["run", "--observe", "--source", &format!("ntp:127.0.0.1:{port}"), "--state-dir"]);
    let _daemon = started(daemon.arg(directory.path()).arg("--control").arg(&control));
    let report = soon(|| {
        let output = driftless().args(["status", "--json", "--control"]).arg(&control).output().unwrap();
        let report: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        report.filter(|report| report["state"] == "synchronised").ok_or_else(|| said(&output))
    });
    assert!(report["offset"].as_f64().unwrap().abs() < GOOD_S, "{report}");
    assert_eq!(report["stratum"], 6, "{report}");
}

/// ntpd-rs ends where it may not steer: strace tells it that it did, without the call ever being made.
#[test]
fn ntpd_rs_gets_good_time_from_our_server() {
    let (Some(daemon), Some(control), Some(_)) = (peer("ntp-daemon"), peer("ntp-ctl"), peer("strace")) else {
        return;
    };
    let (port, directory) = (free_port().to_string(), tempfile::tempdir().unwrap());
    let _server = our_server(&port);
    let config = directory.path().join("ntp.toml");
    let text = format!(
        "[observability]\nobservation-path = \"{}\"\n\n[[source]]\nmode = \"server\"\naddress = \"127.0.0.1:{port}\"\n",
        directory.path().join("observe").display()
    );
    fs::write(&config, text).unwrap();
    let mut client = harmless("strace");
    client.args(["-f", "-qq", "-e", "trace=clock_adjtime,adjtimex,clock_settime,settimeofday"]);
    client.args(["-e", "inject=clock_adjtime,adjtimex,clock_settime,settimeofday:retval=0"]);
    // strace's own end would leave it running.
    client.args(["setpriv", "--pdeathsig", "KILL"]);
    let _client = started(client.arg(daemon).arg("-c").arg(&config));
    let offset = soon(|| {
        let text = said(&harmless(&control).arg("-c").arg(&config).arg("status").output().unwrap());
        let number = |name: &str| text.split(name).nth(1)?.split_whitespace().next()?.parse::<f64>().ok();
        // Before the first reply is in, there are missing polls.
        let has_all = number("Missing polls:").is_some_and(|missing| missing < 0.5);
        number("Offset:").filter(|_| has_all).ok_or(text)
    });
    assert!(offset.abs() < GOOD_S, "{offset}");
}

/// Label by label, in one run: what both print of the same kernel. Neither is asked to set anything, and neither could.
#[test]
fn the_real_adjtimex_and_ours_print_the_same() {
    let Some(real) = peer("adjtimex") else { return };
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("adjtimex");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_driftless"), &ours).unwrap();
    let printed = |program: &Path| -> Vec<String> {
        let output = harmless(program).arg("--print").output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    // The errors grow and the time goes on: of those lines only what stands beside the figures can be the same.
    let moves = ["maxerror", "esterror", "raw time"];
    let shape = |lines: &[String]| -> Vec<String> {
        let without_figures = |line: &str| line.replace(|letter: char| letter.is_ascii_digit(), "");
        let is_moving = |line: &str| moves.iter().any(|label| line.contains(label));
        let filled = lines.iter().filter(|line| !line.is_empty());
        filled.map(|line| if is_moving(line) { without_figures(line) } else { line.clone() }).collect()
    };
    let (theirs, ours) = (printed(&real), printed(&ours));
    assert_eq!(shape(&theirs), shape(&ours), "{theirs:?} {ours:?}");
    assert!(ours.len() >= 12, "{ours:?}");
}
