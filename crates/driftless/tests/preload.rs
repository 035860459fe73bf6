//! The real daemon in a simulated world: `lab/preload/world.c` stands in for libc's clocks, waits and UDP sockets, so that loop, engine
//! and clock code are exercised together, thousands of seconds in one.
//!
//! This is the one place where `driftless run` steers on the machine that tests. The clock it steers is simulated; that nothing reaches
//! the real one is made sure three times: the world replaces each symbol that sets a clock, the process has no power over the clock,
//! and the last test looks on with strace.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use driftless_lab_stand::harmless;
use tempfile::TempDir;

/// A second of the world, as its table has it.
struct Row {
    truth: f64,
    error: f64,
    sent: f64,
    wakes: f64,
    settings: f64,
    backward: f64,
}

/// A run, from the start to SIGTERM.
struct Life {
    rows: Vec<Row>,
    /// ppm, from the state file.
    learnt: f64,
    log: String,
}

/// Where the world's library was built, its table lies, and the daemon keeps its state.
struct World(TempDir);

impl World {
    /// `None` where there is no C compiler.
    fn build() -> Option<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/preload/world.c");
        let world = Self(tempfile::tempdir().unwrap());
        let flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"];
        let built = Command::new("cc").args(flags).arg(world.library()).arg(source).arg("-lm").status();
        let Ok(status) = built else {
            eprintln!("skipped: no cc here");
            return None;
        };
        assert!(status.success(), "lab/preload/world.c does not compile");
        Some(world)
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("world.so")
    }

    fn table(&self) -> PathBuf {
        self.0.path().join("table.csv")
    }

    /// The daemon in the world, watched by `watcher`, which may be nobody.
    fn command(&self, watcher: &[&str], flags: &[&str], settings: &[(&str, f64)]) -> Command {
        let mut preload = OsString::from("LD_PRELOAD=");
        preload.push(self.library());
        // setpriv, timeout and env live in the real world: only what env starts is preloaded.
        let mut command = harmless("timeout");
        command.arg("60").args(watcher).arg("env").arg(preload);
        command.arg(env!("CARGO_BIN_EXE_driftless")).arg("run").args(flags);
        command.args(["--source", "ntp:192.0.2.1?minpoll=2&maxpoll=4"]);
        command
            .arg("--state-dir")
            .arg(self.0.path())
            .arg("--control")
            .arg(self.0.path().join("control.sock"));
        // cargo forbids steering to all that it starts; here alone it is wanted, and harmless: see the head of this file.
        command.env_remove("DRIFTLESS_OBSERVE").env("WORLD_CSV", self.table());
        command.envs(settings.iter().map(|(name, value)| (format!("WORLD_{name}"), value.to_string())));
        command
    }

    fn live(&self, settings: &[(&str, f64)]) -> Life {
        self.live_with(&["--plain-io"], settings)
    }

    fn live_with(&self, flags: &[&str], settings: &[(&str, f64)]) -> Life {
        let output = self.command(&[], flags, settings).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "SIGTERM ends it well: {log}");
        let state = fs::read_to_string(self.0.path().join("frequency.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        Life { rows: self.rows(), learnt: state["frequency"].as_f64().unwrap(), log }
    }

    fn rows(&self) -> Vec<Row> {
        let table = fs::read_to_string(self.table()).unwrap();
        let read = |line: &str| {
            let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
            let &[truth, error, _, sent, wakes, settings, backward] = &fields[..] else { panic!("{line}") };
            Row { truth, error, sent, wakes, settings, backward }
        };
        table.lines().skip(1).map(read).collect()
    }
}

impl Life {
    fn last(&self) -> &Row {
        self.rows.last().unwrap()
    }

    /// The largest error from `from` to before `to`, µs.
    fn worst(&self, from: f64, to: f64) -> f64 {
        let rows = self.rows.iter().filter(|row| (from..to).contains(&row.truth));
        rows.map(|row| row.error.abs() * 1e6).reduce(f64::max).unwrap()
    }

    /// Few looks, few wakings, few settings, and the frequency learnt: what must hold in any world.
    fn is_frugal(&self, drift_ppm: f64) {
        let last = self.last();
        assert!(
            (last.truth / 16.0 - 50.0..last.truth / 12.0 + 50.0).contains(&last.sent),
            "{} packets",
            last.sent
        );
        assert!(last.wakes < last.sent * 4.0 + 100.0, "{} wakings, {} packets", last.wakes, last.sent);
        assert!(last.settings < last.sent * 10.0, "{} settings, {} packets", last.settings, last.sent);
        let right = -drift_ppm / (1.0 + drift_ppm * 1e-6);
        assert!((self.learnt - right).abs() < 1.0, "learnt {} instead of {right} ppm", self.learnt);
    }
}

#[test]
fn a_fast_counter_is_kept_within_tens_of_microseconds() {
    let Some(world) = World::build() else { return };
    let life = world.live(&[("DRIFT", 676.0), ("SECONDS", 4_000.0)]);
    assert!(life.worst(10.0, 300.0) < 1_000.0, "{} µs", life.worst(10.0, 300.0));
    assert!(life.worst(300.0, 4_000.0) < 150.0, "{} µs", life.worst(300.0, 4_000.0));
    assert!((life.last().backward - 1.0).abs() < 0.5, "it was ahead at the start: one step back");
    life.is_frugal(676.0);
}

#[test]
fn a_slow_counter_is_held_over_an_outage() {
    let Some(world) = World::build() else { return };
    let outage = [("OUTAGE_FROM", 2_000.0), ("OUTAGE_TO", 2_600.0)];
    let usual = [("DRIFT", -2_000.0), ("SECONDS", 4_000.0), ("OFFSET", -0.05), ("SEED", 2.0), ("LOSS", 0.1)];
    let life = world.live(&[&usual[..], &outage].concat());
    assert!(life.worst(300.0, 2_000.0) < 150.0, "{} µs", life.worst(300.0, 2_000.0));
    assert!(life.worst(2_000.0, 2_700.0) < 500.0, "{} µs", life.worst(2_000.0, 2_700.0));
    assert!(life.worst(2_700.0, 4_000.0) < 150.0, "{} µs", life.worst(2_700.0, 4_000.0));
    assert!(life.log.contains("holdover"), "{}", life.log);
    assert!(life.last().backward < 0.5, "never stepped back");
    life.is_frugal(-2_000.0);
}

#[test]
fn a_pause_of_an_hour_is_put_right_and_leaves_the_frequency_alone() {
    let Some(world) = World::build() else { return };
    let pause = [("PAUSE_AT", 1_000.3), ("PAUSE_FOR", 3_600.0)];
    let usual = [("DRIFT", 676.0), ("SECONDS", 6_000.0), ("OFFSET", -0.05), ("SEED", 3.0)];
    let life = world.live(&[&usual[..], &pause].concat());
    assert!(life.worst(4_600.0, 4_602.0) > 1e9, "the world did pause");
    assert!(life.worst(4_640.0, 6_000.0) < 1_000.0, "{} µs", life.worst(4_640.0, 6_000.0));
    assert!(life.last().backward < 0.5, "never stepped back");
    assert!((life.learnt + 675.54).abs() < 1.0, "learnt {} ppm", life.learnt);
}

#[test]
fn commands_are_told_of_a_pause_and_that_the_clock_is_right_again() {
    let Some(world) = World::build() else { return };
    let (config, told) = (world.0.path().join("driftless.toml"), world.0.path().join("told"));
    let command = format!(
        r#"["sh", "-c", 'echo $DRIFTLESS_EVENT $DRIFTLESS_OFFSET $DRIFTLESS_SIGNS >> {}']"#,
        told.display()
    );
    fs::write(&config, format!("on_interruption = {command}\non_synchronised = {command}\n")).unwrap();
    let pause = [("PAUSE_AT", 500.3), ("PAUSE_FOR", 60.0), ("DRIFT", -300.0), ("SECONDS", 1_000.0)];
    let life = world.live_with(&["--plain-io", "--config", config.to_str().unwrap()], &pause);
    let told = fs::read_to_string(told).unwrap();
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(
        lines.iter().map(|line| line[0]).collect::<Vec<_>>(),
        ["synchronised", "interruption", "synchronised"]
    );
    assert!(
        (lines[1][1].parse::<f64>().unwrap() - 60.0).abs() < 0.1 && lines[1][2] == "contradiction",
        "{told}"
    );
    assert!(life.worst(600.0, 1_000.0) < 1_000.0, "{} µs", life.worst(600.0, 1_000.0));
}

/// No flags on sockets, no stamps, no control socket, and descriptors that always claim to be readable: still no spinning, even unasked.
#[test]
fn a_simulator_that_offers_the_least_is_enough() {
    let Some(world) = World::build() else { return };
    let life = world.live_with(&[], &[("DRIFT", 676.0), ("SECONDS", 4_000.0), ("BARE", 1.0)]);
    assert!(life.worst(300.0, 4_000.0) < 150.0, "{} µs", life.worst(300.0, 4_000.0));
    life.is_frugal(676.0);
}

#[test]
fn silence_is_told_once_and_asked_into_seldom() {
    let Some(world) = World::build() else { return };
    let output =
        world.command(&[], &["--plain-io"], &[("LOSS", 1.0), ("SECONDS", 4_000.0)]).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(log.matches("192.0.2.1?minpoll=2&maxpoll=4: no answer; asking on").count(), 1, "{log}");
    assert!(world.rows().last().unwrap().sent < 1_100.0, "not more often than each 4 s");
}

#[test]
fn the_same_world_is_lived_twice_alike() {
    let Some(world) = World::build() else { return };
    let errors = || -> Vec<f64> {
        let _ = fs::remove_file(world.0.path().join("frequency.json"));
        world.live(&[("DRIFT", 300.0), ("SECONDS", 300.0)]).rows.iter().map(|row| row.error).collect()
    };
    assert_eq!(errors(), errors());
}

#[test]
fn no_system_call_would_set_the_real_clock() {
    let Some(world) = World::build() else { return };
    let trace = world.0.path().join("trace");
    let calls = "--trace=clock_settime,settimeofday,adjtimex,clock_adjtime";
    let watcher = ["strace", "-f", "-o", trace.to_str().unwrap(), calls];
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
    {
        eprintln!("skipped: no strace here, or it may not look");
        return;
    }
    let output = world
        .command(&watcher, &["--plain-io"], &[("DRIFT", -2_000.0), ("SECONDS", 300.0)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(world.rows().last().unwrap().settings > 10.0, "the simulated clock was steered");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("exited with 0"), "{trace}");
    assert!(!trace.contains("time") && !trace.contains("adj"), "{trace}");
}
