//! The real chronyc asks a running daemon, and a real chronyd that never touches the clock, the same: both observe one server that is a quarter of
//! a second ahead.
//!
//! Found as the peers are; without it the test says that it was skipped.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_lab_stand::{Running, free_port, harmless, peer, server_ahead};
use serde_json::Value;

/// By how much the server is ahead, and how far from it what is told may be: the machine is shared.
const AHEAD: Duration = Duration::from_millis(250);
const GOOD_S: f64 = 0.02;

/// Where a daemon is reached by chronyc.
struct Desk {
    chronyc: PathBuf,
    at: Vec<String>,
}

impl Desk {
    fn raw(&self, command: &str) -> String {
        let mut run = Command::new("timeout");
        run.args(["5"]).arg(&self.chronyc).args(["-n", "-c"]).args(&self.at).arg(command);
        let output = run.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The answer's fields, once `is_there` likes them.
    fn ask(&self, command: &str, is_there: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let text = self.raw(command);
            let fields: Vec<String> = text.trim().split(',').map(str::to_owned).collect();
            if is_there(&fields) {
                return fields;
            }
            assert!(Instant::now() < deadline, "chronyc {command}: {text}");
            sleep(Duration::from_millis(500));
        }
    }
}

fn number(field: &str) -> f64 {
    field.parse().unwrap()
}

fn is_near(one: &str, other: &str) -> bool {
    (number(one) - number(other)).abs() < GOOD_S
}

/// A daemon of ours that observes the server, at chronyc's service.
fn ours(server: u16, folder: &Path, chronyc: &Path, port: u16) -> (Running, Desk, Desk) {
    let config = folder.join("driftless.toml");
    let socket = folder.join("run/chronyd.sock");
    let text = format!(
        "sources = [\"ntp:127.0.0.1:{server}?minpoll=0&maxpoll=0\"]\ncontrol = {:?}\nstate_dir = {folder:?}\n[chronyc]\nsocket = {socket:?}\nport = {port}\n",
        folder.join("control.sock")
    );
    fs::write(&config, text).unwrap();
    let mut command = harmless(env!("CARGO_BIN_EXE_driftless"));
    command.args(["run", "--observe", "--config"]).arg(&config).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    let full = Desk { chronyc: chronyc.to_owned(), at: vec!["-h".into(), socket.to_str().unwrap().into()] };
    let at = ["-h", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec();
    (running, full, Desk { chronyc: chronyc.to_owned(), at })
}

#[test]
fn chronyc_reads_every_report_and_the_numbers_agree_with_status() {
    let Some(chronyc) = peer("chronyc") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_daemon, full, open) = ours(server_ahead(AHEAD), folder.path(), &chronyc, free_port());
    let is_right = |fields: &[String]| {
        fields.get(4).is_some_and(|s| (number(s) - 0.25).abs() < GOOD_S) && fields[0] != "00000000"
    };
    let tracking = full.ask("tracking", is_right);
    assert_eq!(tracking[..3], ["7F000001", "127.0.0.1", "2"]);
    assert_eq!(open.ask("tracking", is_right)[..3], tracking[..3]);
    let mut status = harmless(env!("CARGO_BIN_EXE_driftless"));
    status.args(["status", "--json", "--control"]).arg(folder.path().join("control.sock"));
    let status: Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
    assert!((status["offset"].as_f64().unwrap() - number(&tracking[4])).abs() < GOOD_S);
    assert_eq!(status["reference_id"], tracking[0]);
    let sources = full.ask("sources", |_| true);
    assert_eq!(sources[..5], ["^", "*", "127.0.0.1", "1", "0"]);
    assert!(number(&sources[7]).abs() < GOOD_S, "adjusted by what is known: {sources:?}");
    let stats = full.ask("sourcestats", |_| true);
    assert!(number(&stats[1]) >= 1.0 && number(&stats[6]).abs() < GOOD_S, "{stats:?}");
    assert_eq!(full.ask("selectdata", |_| true)[..3], ["*", "127.0.0.1", "N"]);
    let ntpdata = full.ask("ntpdata", |_| true);
    assert_eq!((ntpdata[8].as_str(), ntpdata[16].as_str()), ("1", "TEST"), "{ntpdata:?}");
    assert!((number(&ntpdata[18]) - 0.25).abs() < GOOD_S, "{ntpdata:?}");
    assert_eq!(full.raw("activity").trim(), "1,0,0,0,0");
    assert_eq!(full.raw("serverstats").trim().split(',').count(), 11);
    assert!(full.raw("waitsync 1").starts_with("1,7F000001,0.2"));
    assert_eq!(full.raw("sourcename 127.0.0.1").trim(), "127.0.0.1");
    for (order, answer) in
        [("makestep", "200 OK"), ("burst 1/2", "200 OK"), ("rtcdata", "513"), ("offline 10.9.9.9", "503")]
    {
        assert!(full.raw(order).starts_with(answer), "{order}: {}", full.raw(order));
        let open_answer = open.raw(order);
        assert!(order == "rtcdata" || open_answer.starts_with("501"), "{order}: {open_answer}");
    }
    assert!(full.raw("offline").starts_with("200 OK"));
    assert_eq!(full.raw("activity").trim(), "0,1,0,0,0");
    assert!(full.raw("online 127.0.0.1").starts_with("200 OK"));
    assert_eq!(full.raw("activity").trim(), "1,0,0,0,0");
}

#[test]
fn signs_and_units_are_those_of_a_real_chronyd() {
    let (Some(chronyc), Some(chronyd)) = (peer("chronyc"), peer("chronyd")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, port) = (server_ahead(AHEAD), free_port());
    let config = folder.path().join("chrony.conf");
    let text = format!(
        "server 127.0.0.1 port {server} iburst minpoll 0 maxpoll 0\nport 0\ncmdport {port}\nbindcmdaddress 127.0.0.1\npidfile {:?}\n",
        folder.path().join("pid")
    );
    fs::write(&config, text.replace('"', "")).unwrap();
    let mut command = harmless(&chronyd);
    command.args(["-x", "-d", "-u", "root", "-f"]).arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let _theirs = Running(command.spawn().unwrap());
    let at = ["-h", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec();
    let theirs = Desk { chronyc: chronyc.clone(), at };
    let (_daemon, _, ours) = ours(server, folder.path(), &chronyc, free_port());
    let is_right = |fields: &[String]| {
        fields.get(4).is_some_and(|s| (number(s) - 0.25).abs() < GOOD_S) && fields[0] != "00000000"
    };
    let (one, other) = (theirs.ask("tracking", is_right), ours.ask("tracking", is_right));
    assert_eq!(one[..3], other[..3]);
    assert_eq!(one[13], other[13], "leap");
    assert!((number(&one[10]) - number(&other[10])).abs() < GOOD_S, "root delay: {one:?} {other:?}");
    let has_samples = |fields: &[String]| fields.len() == 10 && fields[1] == "*";
    let (one, other) = (theirs.ask("sources", has_samples), ours.ask("sources", has_samples));
    assert_eq!(one[..5], other[..5]);
    assert!((7..10).all(|at| is_near(&one[at], &other[at])), "{one:?} {other:?}");
    let (one, other) = (theirs.raw("sourcestats"), ours.raw("sourcestats"));
    let (one, other): (Vec<_>, Vec<_>) = (one.trim().split(',').collect(), other.trim().split(',').collect());
    assert_eq!((one[0], one.len()), (other[0], other.len()));
    assert!(is_near(one[6], other[6]), "{one:?} {other:?}");
}
