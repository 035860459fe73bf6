//! `measure` and `plot` as people use them: a measurement on loopback, its file, and pictures that hold what the file holds.
#![cfg(feature = "tools")]
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use driftless_lab_stand::{Running, free_port, harmless};

fn driftless(arguments: &[&str]) -> Command {
    let mut command = harmless(env!("CARGO_BIN_EXE_driftless"));
    command.args(arguments);
    command
}

fn ran(arguments: &[&str]) -> Output {
    driftless(arguments).output().unwrap()
}

#[test]
fn a_measurement_on_loopback_finds_no_drift_to_speak_of_and_goes_on_in_its_file() {
    let place = format!("127.0.0.1:{}", free_port());
    let _server =
        Running(driftless(&["serve", "--as-is", "--listen", &place]).stderr(Stdio::null()).spawn().unwrap());
    let start = Instant::now();
    while !ran(&["query", &place, "--timeout", "1"]).status.success() {
        assert!(start.elapsed() < Duration::from_secs(20), "the server does not come up");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.csv");
    let (source, file) = (format!("ntp:{place}"), file.to_str().unwrap());
    let arguments = ["measure", "--source", &source, "--duration", "2s", "--interval", "50ms", "--out", file];
    for least in [20, 50] {
        let output = ran(&[&arguments[..], &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let result: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        // One clock measured against itself: what is left is the noise of a busy machine.
        let (drift, error) = (result["drift_ppm"].as_f64().unwrap(), result["error_ppm"].as_f64().unwrap());
        assert!(drift.abs() < 3.0 * error + 1.0 && error < 200.0, "{result}");
        assert!(result["sources"][0]["looks"].as_u64().unwrap() >= least, "{result}");
    }
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.matches("# driftless measure").count(), 1, "one run, resumed");
    for said in [
        "# kernel: Linux",
        "# clocksource: ",
        "# hypervisor: ",
        "# column raw_ns: ",
        &format!("# source 0: {source}"),
    ] {
        assert!(text.contains(said), "{said}");
    }
}

/// A file of a counter that runs `ppm` fast, looked at each second for a minute, its kernel's frequency at its limit.
fn file_of(folder: &Path, name: &str, ppm: f64) -> String {
    let mut text = format!("# driftless measure 0\n# label: {name}\n# source 0: ntp:192.0.2.1\n");
    for second in 0..60_u32 {
        let offset = -ppm * 1e-6 * f64::from(second);
        let delay = 200e-6 + f64::from(second * 7 % 5) * 20e-6;
        let nanos = u64::from(second) * 1_000_000_000;
        writeln!(
            text,
            "0,{nanos},{},{offset:.9},{delay:.9},0.000000001,10000,-500.000000",
            1_700_000_000_000_000_000 + nanos
        )
        .unwrap();
    }
    let path = folder.join(format!("{name}.csv"));
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_picture_holds_the_curves_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (slow, fast) = (file_of(folder.path(), "slow", -666.0), file_of(folder.path(), "fast", 300.0));
    let out = folder.path().join("p.svg");
    let out = out.to_str().unwrap();
    let curves = |kind: &str| {
        let output = ran(&["plot", &slow, &fast, "--kind", kind, "--out", out]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        driftless_picture::svg::curves(&fs::read_to_string(out).unwrap())
    };
    let drift = curves("drift");
    assert_eq!((drift[0].1.as_str(), drift[1].1.as_str()), ("slow: -666.00 ppm", "fast: +300.00 ppm"));
    for ((_, _, points), ppm) in drift.iter().zip([-666.0, 300.0]) {
        let ends = (points.first().unwrap(), points.last().unwrap());
        // ms over s: parts per thousand.
        let slope = (ends.1.1 - ends.0.1) / (ends.1.0 - ends.0.0) * 1e3;
        assert!((slope - ppm).abs() < 8.0, "{slope} {ppm}");
    }
    let frequency = curves("frequency");
    assert!(frequency[0].2.iter().all(|point| (point.1 + 500.0).abs() < 4.0), "{frequency:?}");
    assert!(fs::read_to_string(out).unwrap().contains("-500 ppm: the kernel takes no less"));
    let offset = curves("offset");
    let end = offset[0].2.last().unwrap();
    assert!((end.0 - 59.0).abs() < 0.2 && (end.1 - 39.3).abs() < 0.5, "behind by 39.3 ms: {end:?}");
}

#[test]
fn without_a_file_the_terminal_gets_braille_and_a_foreign_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let slow = file_of(folder.path(), "slow", -666.0);
    let text = String::from_utf8(ran(&["plot", &slow]).stdout).unwrap();
    assert!(text.starts_with("how far the wall clock is behind (reference − clock, ms)"), "{text}");
    let is_braille = |c: char| ('\u{2801}'..='\u{28ff}').contains(&c);
    assert!(text.chars().filter(|c| is_braille(*c)).count() > 50 && !text.contains('\x1b'), "{text}");
    let foreign = folder.path().join("x.csv");
    fs::write(&foreign, "a,b\n1,2\n").unwrap();
    let output = ran(&["plot", foreign.to_str().unwrap()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("x.csv: nothing to draw; give files of `driftless measure --out`"), "{told}");
    assert_eq!(ran(&["measure", "--source", "ftp:x"]).status.code(), Some(2));
}
