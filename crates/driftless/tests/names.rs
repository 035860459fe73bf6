//! The old tools' names as scripts use them: dntpd, sntpc, ntpctl, adjtimex. Nothing here can set this machine's clock.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_lab_stand::{Running, free_port, harmless, is_root};
use tempfile::TempDir;

/// A folder with the program under all of its names, and a server to ask.
struct Place {
    folder: TempDir,
    port: u16,
    _server: Running,
}

/// A dntpd in the background that ends with the test.
struct Background<'a>(&'a Place);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ = self.0.dntpd(&["-Q"]).status();
    }
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["driftless", "dntpd", "sntpc", "ntpctl", "adjtimex"] {
            symlink(env!("CARGO_BIN_EXE_driftless"), folder.path().join(name)).unwrap();
        }
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut server = harmless(folder.path().join("driftless"));
        server.args(["serve", "--as-is", "--listen", &address]).stderr(Stdio::null());
        let place = Self { port, _server: Running(server.spawn().unwrap()), folder };
        soon(|| place.called("driftless", &["query", &address]).output().unwrap().status.success());
        place
    }

    fn called(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = harmless(self.folder.path().join(name));
        command.args(arguments);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// dntpd with everything of its own in the folder.
    fn dntpd(&self, arguments: &[&str]) -> Command {
        let mut command = self.called("dntpd", arguments);
        command.arg("-p").arg(self.path("dntpd.pid")).arg("--control").arg(self.path("control"));
        command.arg("--state-dir").arg(self.folder.path());
        command
    }

    fn process(&self) -> Option<String> {
        fs::read_to_string(self.path("dntpd.pid")).ok().map(|text| text.trim().to_owned())
    }

    fn ntpctl(&self, what: &str) -> String {
        let output =
            self.called("ntpctl", &["-s", what, "--control"]).arg(self.path("control")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn soon(mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(start.elapsed() < Duration::from_secs(25), "it does not come");
        sleep(Duration::from_millis(50));
    }
}

fn is_running(process: &str) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn d2_dntpd_goes_into_the_background_replaces_itself_and_is_ended() {
    let place = Place::new();
    let host = place.host();
    let (code, text) = told(&place.dntpd(&["-T", "5", &host]).output().unwrap());
    assert_eq!(code, 0, "{text}");
    let _background = Background(&place);
    let first = place.process().unwrap();
    let line = fs::read(format!("/proc/{first}/cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&line).contains("dntpd"), "{line:?}");
    for foreground in ["-F", "-d"] {
        let (code, text) = told(&place.dntpd(&[foreground, &host]).output().unwrap());
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(&format!("process {first}")) && text.contains("dntpd -Q"), "{text}");
    }
    let (code, text) = told(&place.dntpd(&["-T", "5", &host]).output().unwrap());
    assert_eq!(code, 0, "{text}");
    let second = place.process().unwrap();
    assert!(first != second && !is_running(&first) && is_running(&second), "{first} {second}: {text}");
    let (code, text) = told(&place.dntpd(&["-Q"]).output().unwrap());
    assert_eq!(code, 0, "{text}");
    assert!(!is_running(&second) && place.process().is_none(), "{text}");
    let (code, text) = told(&place.dntpd(&["-Q"]).output().unwrap());
    assert!(code == 0 && text.contains("no dntpd is running"), "{text}");
}

#[test]
fn d2_a_dntpd_that_cannot_begin_says_why_and_leaves_the_old_one_alone() {
    let place = Place::new();
    let host = place.host();
    assert!(place.dntpd(&[&host]).status().unwrap().success());
    let _background = Background(&place);
    let first = place.process();
    for (arguments, expected) in [
        (&["-f", "/nonexistent.conf"][..], "/nonexistent.conf: "),
        (&["-f", "/dev/null"], "no server"),
        (&["-T", "soon", "a"], "invalid value"),
        (&["a:b"], "host or port is wrong"),
    ] {
        let (code, text) = told(&place.dntpd(arguments).output().unwrap());
        assert!(code == 2 && text.contains(expected), "{code} {text}");
    }
    assert_eq!(place.process(), first);
}

#[test]
fn d8_a_test_prints_one_regression_a_line_each_poll() {
    let place = Place::new();
    let mut command = place.called("dntpd", &["-t", "-T", "1", &place.host()]);
    let mut test = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(test.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let lines: Vec<String> = lines.take(3).collect();
    drop(test);
    for (number, line) in (1..).zip(&lines) {
        assert!(line.contains(&format!("iter={number:2} time=")) && line.contains(" off="), "{lines:?}");
    }
    let number = |name: &str| -> f64 {
        lines[2].split(name).nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(number(" corr ").abs() <= 1.0 && number("freq_ppm ").abs() < 5_000.0, "{lines:?}");
    assert!(number("stddev ") < 0.1 && number("off=").abs() < 0.1, "{lines:?}");
    let (code, text) = told(&place.called("dntpd", &["-t", "a", "b"]).output().unwrap());
    assert!(code == 2 && text.contains("one server"), "{text}");
}

#[test]
fn d3_and_d10_debugging_tells_each_sample_and_level_1_does_not() {
    let place = Place::new();
    for (level, tells_samples) in [("4", true), ("1", false)] {
        let mut command = place.dntpd(&["-d", "-l", level, "-T", "1", &place.host()]);
        let mut debugging = Running(command.stderr(Stdio::piped()).spawn().unwrap());
        soon(|| place.ntpctl("status").contains("1/1 peers valid"));
        sleep(Duration::from_millis(2_500));
        debugging.0.kill().unwrap();
        let log: Vec<String> =
            BufReader::new(debugging.0.stderr.take().unwrap()).lines().map_while(Result::ok).collect();
        assert!(log.iter().all(|line| line.starts_with("dntpd: ")), "{log:?}");
        assert_eq!(log.iter().any(|line| line.contains(": offset ")), tells_samples, "{level}: {log:?}");
        assert!(log.iter().any(|line| line.ends_with(": answers")), "{level}: {log:?}");
        assert!(place.process().is_none(), "no pid file");
    }
}

/// A /dev of the daemon's own, in which this test is the system's log.
#[test]
fn d9_in_the_foreground_it_logs_to_the_systems_log() {
    let place = Place::new();
    let device = place.path("dev");
    fs::create_dir(&device).unwrap();
    fs::write(device.join("null"), "").unwrap();
    let log = UnixDatagram::bind(device.join("log")).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let alone: &[&str] = if is_root() { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    if !Command::new("unshare").args(alone).arg("true").status().unwrap().success() {
        eprintln!("skipped: no mounts of our own here");
        return;
    }
    let script = "mount --bind /dev/null \"$0/null\" && mount --rbind \"$0\" /dev && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(alone).args(["sh", "-c", script]).arg(&device);
    let dntpd = place.dntpd(&["-F", "-l", "2", "-T", "1", &place.host()]);
    command.arg(dntpd.get_program()).args(dntpd.get_args()).env("DRIFTLESS_OBSERVE", "1");
    let foreground = Running(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut buffer = [0; 1_024];
    let length = log.recv(&mut buffer).unwrap();
    let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(line.starts_with("<30>dntpd["), "{line}");
    soon(|| place.process().is_some_and(|process| line.contains(&format!("dntpd[{process}]"))));
    drop(foreground);
}

/// Reads the lines as monitoring does that was written for OpenNTPD: a title, a header, then two lines each.
fn peers(text: &str) -> Vec<(String, Vec<String>)> {
    let lines: Vec<&str> = text.lines().skip_while(|line| *line != "peer").skip(2).collect();
    lines
        .chunks(2)
        .take_while(|pair| pair.len() == 2 && !pair[0].is_empty())
        .map(|pair| {
            let columns = pair[1].trim_start().trim_start_matches('*').split_whitespace();
            (pair[0].to_owned(), columns.map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn n5_ntpctl_shows_dntpd_in_openntpds_words() {
    let place = Place::new();
    let _running = Running(
        place.dntpd(&["-d", "-T", "1", &place.host(), "127.0.0.1:9"]).stderr(Stdio::null()).spawn().unwrap(),
    );
    soon(|| place.ntpctl("status").contains("clock synced, stratum 11"));
    assert_eq!(place.ntpctl("s"), "1/2 peers valid, clock synced, stratum 11\n");
    let all = place.ntpctl("all");
    let peers = peers(&all);
    assert_eq!(peers.len(), 2, "{all}");
    let (name, columns) = &peers[0];
    assert_eq!((name.as_str(), columns.len()), (place.host().as_str(), 8), "{all}");
    assert_eq!(columns[..3], ["1", "10", "10"], "{all}");
    assert!(columns[3..5].iter().all(|time| time.strip_suffix('s').unwrap().parse::<u32>().is_ok()), "{all}");
    assert!(columns[5..].iter().all(|time| time.strip_suffix("ms").unwrap().parse::<f64>().is_ok()), "{all}");
    assert!(all.contains("---- peer not valid ----"), "{all}");
    assert_eq!(place.ntpctl("Sensors"), "no sensors configured\n");
    let lonely = place.called("ntpctl", &["-s", "all", "--control", "/nonexistent/s"]).output().unwrap();
    assert_eq!(lonely.status.code(), Some(1));
}

#[test]
fn n5_sntpc_prints_the_offset_at_intervals_and_sets_nothing() {
    let place = Place::new();
    let mut command = place.called("sntpc", &["-i", "1", "-n", &place.host()]);
    let mut sntpc = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let start = Instant::now();
    let lines = BufReader::new(sntpc.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let lines: Vec<String> = lines.take(3).collect();
    assert!(start.elapsed() > Duration::from_millis(1_900), "{:?}", start.elapsed());
    for line in &lines {
        let offset = line.split("offset ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(offset.parse::<f64>().unwrap().abs() < 0.1 && !line.contains("clock set"), "{line}");
    }
    let (code, text) = told(&place.called("sntpc", &[&place.host()]).output().unwrap());
    assert!(code == 3 && text.contains("DRIFTLESS_OBSERVE=1"), "{code} {text}");
}

#[test]
fn n5_adjtimex_is_read_as_scripts_read_it() {
    let place = Place::new();
    let script = "\"$0\" --print | awk '/tick:/ {print $2} /status:/ {print $2} /raw time/ {print $6}'";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(place.path("adjtimex"));
    let output = command.output().unwrap();
    let values: Vec<f64> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(values.len() == 3 && (values[2] - now).abs() < 10.0, "{values:?}");
    let (code, text) =
        told(&place.called("adjtimex", &["-t", "10001", "-freq", "-6553600"]).output().unwrap());
    assert!(code == 3 && text.contains("DRIFTLESS_OBSERVE=1"), "{code} {text}");
    let (code, text) = told(&place.called("driftless", &["adjtimex", "--tick", "10001"]).output().unwrap());
    assert!(code == 2 && text.contains("--yes"), "{code} {text}");
}

#[test]
fn n4_monotonic_tells_a_machine_whose_clock_never_goes_back() {
    let place = Place::new();
    let output = place.called("driftless", &["monotonic", "--duration", "1s", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert_eq!(
        (&report["backward_steps"], &report["first"]),
        (&0.into(), &serde_json::Value::Null),
        "{report}"
    );
    assert!(report["readings"].as_u64().unwrap() > 10_000, "{report}");
}

/// docs/old-names.md names a test for each flag and rule: each of them has to exist.
#[test]
fn the_table_of_dntpds_rules_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(root.join("docs/old-names.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.extension().is_some_and(|end| end == "rs") => {
                    sources += &fs::read_to_string(path).unwrap();
                }
                _ => {}
            }
        }
    }
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| D")).collect();
    for id in 1..=18 {
        let row = rows.iter().find(|row| row.starts_with(&format!("| D{id} |")));
        let row = row.unwrap_or_else(|| panic!("D{id} has no row"));
        let tests: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|word| word.contains('_')).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            assert!(sources.contains(&format!("fn {test}()")), "{test} is named and does not exist");
        }
    }
}
