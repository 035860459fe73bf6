//! The binary as people and scripts use it: messages, exit statuses, and that observing wins over everything.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::io::Read as _;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_lab_stand::{Running, free_port, harmless};

fn driftless(arguments: &[&str]) -> Command {
    let mut command = harmless(env!("CARGO_BIN_EXE_driftless"));
    command.args(arguments);
    command
}

fn ended(arguments: &[&str]) -> (i32, String) {
    told(&driftless(arguments).output().unwrap())
}

fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn server(port: u16) -> Running {
    let listen = format!("127.0.0.1:{port}");
    serving(&["--listen", &listen], &listen)
}

fn serving(places: &[&str], asked: &str) -> Running {
    let mut command = driftless(&["serve", "--as-is"]);
    let server = Running(command.args(places).stderr(Stdio::null()).spawn().unwrap());
    let start = Instant::now();
    while ended(&["query", asked, "--timeout", "1"]).0 != 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "the server does not come up");
    }
    server
}

#[test]
fn a_real_time_clock_that_is_not_there_is_named_and_observing_forbids_to_set_one() {
    let device = ["rtc", "--device", "/dev/driftless-none"];
    let (status, text) = ended(&device);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("/dev/driftless-none: there is no such device"), "{text}");
    for action in ["--write", "--set-system"] {
        let (status, text) = ended(&[&device[..], &[action]].concat());
        assert_eq!(status, 3, "{text}");
        assert!(text.contains("DRIFTLESS_OBSERVE=1"), "{text}");
    }
    assert_eq!(ended(&["rtc", "--read", "--write"]).0, 2);
}

/// A server that answers each request with `reply` of it.
fn lying_server(reply: fn(&[u8]) -> Vec<u8>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut request = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut request) {
            let _ = socket.send_to(&reply(&request[..length]), from);
        }
    });
    port
}

#[test]
fn a_server_of_ours_gives_good_time_to_query() {
    let port = free_port();
    let _server = server(port);
    let output = driftless(&["query", &format!("127.0.0.1:{port}"), "--json"]).output().unwrap();
    let answers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answers[0]["offset"].as_f64().unwrap().abs() < 0.01, "{answers}");
    assert_eq!(answers[0]["stratum"], 10);
}

#[test]
fn faults_are_told_in_one_clear_line_with_the_right_status() {
    let port = free_port();
    let nobody = format!("127.0.0.1:{port}");
    for (arguments, status, expected) in [
        (vec!["query", nobody.as_str(), "--timeout", "1"], 1, "refused"),
        (vec!["query", "no-such-host.invalid"], 1, "leads to no address"),
        (vec!["run", "--source", "10.0.2.2"], 2, "write ntp:HOST"),
        (vec!["run", "--config", "/nonexistent.toml"], 2, "/nonexistent.toml"),
        (vec!["status", "--control", "/nonexistent/s"], 1, "start one with `driftless run`"),
        (vec!["serve", "--listen", "192.0.2.1:11123"], 1, "no such address"),
    ] {
        let (code, text) = ended(&arguments);
        assert_eq!((code, text.lines().count()), (status, 1), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn a_wrong_key_is_shown_where_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("driftless.toml");
    fs::write(&file, "sorces = [\"ntp:a\"]\n").unwrap();
    let (code, text) = ended(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(text.contains("line 1, column 1") && text.contains("did you mean `sources`?"), "{text}");
}

#[test]
fn replies_that_cannot_be_are_not_believed() {
    let cut = lying_server(|request| request[..20].to_vec());
    let stratum = lying_server(|request| {
        let mut reply = vec![0; 48];
        reply[0] = 0x24;
        reply[1] = 200;
        reply[24..32].copy_from_slice(&request[40..48]);
        reply
    });
    for (port, expected) in [(cut, "cut short"), (stratum, "its stratum cannot be")] {
        let (code, text) = ended(&["query", &format!("127.0.0.1:{port}"), "--timeout", "1"]);
        assert_eq!(code, 1);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn without_the_privilege_it_ends_with_status_3() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control.sock");
    let port = free_port();
    let mut command = driftless(&["run", "--source", &format!("ntp:127.0.0.1:{port}")]);
    command.args(["--control", control.to_str().unwrap()]).arg("--state-dir").arg(directory.path());
    let (code, text) = told(&command.env_remove("DRIFTLESS_OBSERVE").output().unwrap());
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("CAP_SYS_TIME") && text.contains("--observe"), "{text}");
}

#[test]
fn an_observing_daemon_reports_and_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (control, port) = (directory.path().join("control.sock"), free_port());
    let _server = server(port);
    let _daemon = Running(observer(&mut driftless(&[]), port, directory.path()).spawn().unwrap());
    let path = control.to_str().unwrap();
    let (code, text) = ended(&["waitsync", "--control", path, "--max-offset", "1", "--timeout", "20"]);
    assert_eq!(code, 0, "{text}");
    let output = driftless(&["status", "--json", "--control", path]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["state"], &report["observe"]), (&"synchronised".into(), &true.into()));
    for key in ["source", "stratum", "reference_id", "leap", "offset", "offset_bound", "frequency", "tick"] {
        assert!(!report[key].is_null(), "{key} is missing: {report}");
    }
    let (code, _) = ended(&["makestep", "--control", path]);
    assert_eq!(code, 3, "an observer does not step");
}

#[test]
fn time_comes_over_a_unix_socket_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("v.sock_123");
    let source = format!("ntp+unix:{}", socket.display());
    let _server = serving(&["--uds", socket.to_str().unwrap()], &source);
    let control = directory.path().join("control.sock");
    let _daemon = Running(observing(&mut driftless(&[]), &source, directory.path()).spawn().unwrap());
    let path = control.to_str().unwrap();
    let (code, text) = ended(&["waitsync", "--control", path, "--max-offset", "1", "--timeout", "20"]);
    assert_eq!(code, 0, "{text}");
    let output = driftless(&["status", "--json", "--control", path]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["source"], &report["reference_id"]), (&source.as_str().into(), &"554E4958".into()));
    assert!(report["sources"][0]["received"].as_u64().unwrap() >= 3, "{report}");
}

#[test]
fn a_host_that_wakes_the_daemon_waits_until_the_clock_was_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let (wake, config) = (directory.path().join("wake"), directory.path().join("driftless.toml"));
    fs::write(&config, format!("[push]\nwake = \"unix:{}\"\n", wake.display())).unwrap();
    let (control, port) = (directory.path().join("control.sock"), free_port());
    let _server = server(port);
    let mut command = driftless(&[]);
    observer(&mut command, port, directory.path()).args(["-v", "--config", config.to_str().unwrap()]);
    let mut daemon = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let path = control.to_str().unwrap();
    let (code, text) = ended(&["waitsync", "--control", path, "--max-offset", "1", "--timeout", "20"]);
    assert_eq!(code, 0, "{text}");
    let start = Instant::now();
    let mut host = UnixStream::connect(&wake).unwrap();
    assert_eq!(host.read(&mut [0; 8]).unwrap(), 0, "the end of the stream says: done");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    daemon.0.kill().unwrap();
    let mut log = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("the host says that something happened"), "{log}");
    assert!(log.contains("the clock is as it was"), "{log}");
}

/// A daemon in the background that ends with the test.
struct Detached(PathBuf);

impl Drop for Detached {
    fn drop(&mut self) {
        if let Ok(process) = fs::read_to_string(&self.0) {
            let _ = Command::new("kill").arg(process.trim()).status();
        }
    }
}

#[test]
fn in_the_background_it_is_there_or_says_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let (port, pid_file) = (free_port(), directory.path().join("driftless.pid"));
    let background = |arguments: &[&str]| {
        let mut command = driftless(&[]);
        observer(&mut command, port, directory.path()).args(["--background", "--pid-file"]).arg(&pid_file);
        told(&command.args(arguments).stderr(Stdio::piped()).output().unwrap())
    };
    let (code, text) = background(&["--source", "nonsense"]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("write ntp:HOST") && !pid_file.exists(), "{text}");
    let (code, text) = background(&[]);
    assert_eq!(code, 0, "{text}");
    let _daemon = Detached(pid_file.clone());
    let process = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    let control = directory.path().join("control.sock");
    let (code, text) = ended(&["burst", "--control", control.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = background(&[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("another driftless is running"), "{text}");
    assert!(Command::new("kill").arg(&process).status().unwrap().success());
    let start = Instant::now();
    while pid_file.exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "process {process} does not end");
        sleep(Duration::from_millis(20));
    }
}

fn observer<'a>(command: &'a mut Command, port: u16, directory: &Path) -> &'a mut Command {
    observing(command, &format!("ntp:127.0.0.1:{port}"), directory)
}

fn observing<'a>(command: &'a mut Command, source: &str, directory: &Path) -> &'a mut Command {
    command
        .args(["run", "--source", source])
        .arg("--control")
        .arg(directory.join("control.sock"))
        .arg("--state-dir")
        .arg(directory)
        .stderr(Stdio::null())
}

/// `DRIFTLESS_OBSERVE=1` wins: every call that could set a clock, the real-time clock among them, is traced, and none sets one; nobody is frozen.
#[test]
fn observing_makes_no_call_that_sets_a_clock() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (trace, port) = (directory.path().join("trace"), free_port());
    let _server = server(port);
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=clock_adjtime,adjtimex,clock_settime,settimeofday,ioctl", "-o"]);
    // strace's own end would leave the daemon running.
    command.arg(&trace).args(["setpriv", "--pdeathsig", "KILL"]);
    command.arg(env!("CARGO_BIN_EXE_driftless")).env("DRIFTLESS_OBSERVE", "1");
    observer(&mut command, port, directory.path()).args(["--source", "rtc:/dev/rtc0"]);
    let (config, freeze) = (directory.path().join("driftless.toml"), directory.path().join("cgroup.freeze"));
    fs::write(&config, format!("freeze = {:?}\n", directory.path())).unwrap();
    fs::write(&freeze, "0").unwrap();
    let _daemon = Running(command.arg("--config").arg(&config).spawn().unwrap());
    let control = directory.path().join("control.sock");
    let path = control.to_str().unwrap();
    let (code, text) = ended(&["waitsync", "--control", path, "--max-offset", "1", "--timeout", "30"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(fs::read_to_string(&freeze).unwrap(), "0");
    let _ = ended(&["makestep", "--control", path]);
    sleep(Duration::from_millis(1_500));
    let traced = fs::read_to_string(&trace).unwrap();
    let sets =
        ["RTC_SET_TIME", "RTC_ALM_SET", "RTC_WKALM_SET", "RTC_EPOCH_SET", "RTC_PARAM_SET", "RTC_PLL_SET"];
    assert!(!sets.iter().any(|call| traced.contains(call)), "{traced}");
    let calls: Vec<&str> =
        traced.lines().filter(|line| line.contains("time") && !line.contains("ioctl")).collect();
    assert!(!calls.is_empty(), "the trace must show the reads: {traced}");
    for call in calls {
        assert!(call.contains("clock_adjtime") && call.contains("modes=0"), "{call}");
    }
}
