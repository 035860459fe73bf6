//! `DRIFTLESS_OBSERVE=1` wins over every path that sets, steps or slews: system calls are traced, and none of them sets a clock.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_lab_stand::{Running, harmless, server_ahead};

const RTC_SETS: [&str; 6] =
    ["RTC_SET_TIME", "RTC_ALM_SET", "RTC_WKALM_SET", "RTC_EPOCH_SET", "RTC_PARAM_SET", "RTC_PLL_SET"];

/// Each command that could set a clock, by every name, with what it would be set by; HOST is a server that is 40 s ahead, so that there is something to set.
const PATHS: [&[&str]; 13] = [
    &["driftless", "run", "--source", "ntp:HOST", "--control", "DIR/c", "--state-dir", "DIR"],
    &[
        "driftless",
        "run",
        "--step",
        "always 1",
        "--source",
        "ntp:HOST",
        "--control",
        "DIR/c",
        "--state-dir",
        "DIR",
    ],
    &["driftless", "waitsync", "--once", "--source", "ntp:HOST", "--timeout", "2"],
    &["driftless", "rtc", "--set-system"],
    &["driftless", "rtc", "--write"],
    &["driftless", "adjtimex", "--tick", "10001", "--frequency", "1", "--yes"],
    &[
        "adjtimex", "-t", "10001", "-f", "65536", "-o", "1", "-s", "1", "-S", "0", "-m", "1", "-e", "1",
        "-T", "1",
    ],
    &["driftless", "sntpc", "HOST"],
    &["sntpc", "-v", "-i", "1", "HOST"],
    &[
        "driftless",
        "dntpd",
        "-d",
        "-s",
        "-T",
        "1",
        "--control",
        "DIR/c",
        "--state-dir",
        "DIR",
        "-p",
        "DIR/p",
        "HOST",
    ],
    &["dntpd", "-F", "-s", "-T", "1", "--control", "DIR/c", "--state-dir", "DIR", "-p", "DIR/p", "HOST"],
    &["dntpd", "-t", "-T", "1", "HOST"],
    &["driftless", "query", "HOST"],
];
/// Long enough for the slowest of them to have set the clock: dntpd, after four samples.
const LENGTH: Duration = Duration::from_secs(7);

#[test]
fn observing_wins_over_every_path_that_sets_steps_or_slews() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let port = server_ahead(Duration::from_secs(40));
    let traced: Vec<_> = PATHS.iter().map(|path| std::thread::spawn(move || trace(path, port))).collect();
    let mut looked = 0;
    for (path, trace) in PATHS.iter().zip(traced) {
        let trace = trace.join().unwrap();
        assert!(!RTC_SETS.iter().any(|call| trace.contains(call)), "{path:?}: {trace}");
        for call in trace.lines().filter(|line| line.contains("time") && !line.contains("ioctl")) {
            assert!(call.contains("clock_adjtime") && call.contains("modes=0"), "{path:?}: {call}");
            looked += 1;
        }
    }
    assert!(looked > 3, "the traces must show the reads");
}

/// What `path` calls within [`LENGTH`], as far as clocks are concerned. Also without the power over the clock.
fn trace(path: &[&str], port: u16) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (place, host) = (folder.path().display().to_string(), format!("127.0.0.1:{port}"));
    let called = folder.path().join(path[0]);
    symlink(env!("CARGO_BIN_EXE_driftless"), &called).unwrap();
    let trace = folder.path().join("trace");
    let mut command = harmless("strace");
    command.args(["-f", "-e", "trace=clock_adjtime,adjtimex,clock_settime,settimeofday,ioctl", "-o"]);
    // strace's own end would leave the daemon running.
    command.arg(&trace).args(["setpriv", "--pdeathsig", "KILL"]).arg(called);
    command.args(path[1..].iter().map(|word| word.replace("HOST", &host).replace("DIR", &place)));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    let start = Instant::now();
    while start.elapsed() < LENGTH && running.0.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(50));
    }
    drop(running);
    fs::read_to_string(trace).unwrap()
}
