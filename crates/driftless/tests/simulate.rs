//! `driftless simulate` as scripts use it.
#![cfg(feature = "tools")]
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_driftless"))
        .arg("simulate")
        .args(arguments)
        .env("DRIFTLESS_OBSERVE", "1")
        .output()
        .unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = simulate(arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_result_has_the_promised_keys_and_comes_again() {
    let run = || json(&["--scenario", "101-boot-host", "--seed", "3", "--json"]);
    let result = run();
    for key in [
        "duration",
        "rms_offset",
        "max_offset",
        "time_to_1ms",
        "rms_frequency_error",
        "backward_steps",
        "steps",
        "packets",
        "adjustments",
        "oracle_rms_offset",
    ] {
        assert!(result[key].is_number(), "{key}: {result}");
    }
    assert_eq!((result["scenario"].as_str(), result["seed"].as_u64()), (Some("101-boot-host"), Some(3)));
    assert_eq!(result, run());
}

#[test]
fn several_seeds_give_medians_and_every_run() {
    let result = json(&["--scenario", "181", "--seeds", "3", "--json"]);
    let runs = result["runs"].as_array().unwrap();
    assert_eq!(runs.iter().map(|run| run["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    let mut rms: Vec<f64> = runs.iter().map(|run| run["rms_offset"].as_f64().unwrap()).collect();
    rms.sort_by(f64::total_cmp);
    assert_eq!(result["rms_offset"].as_f64(), Some(rms[1]));
}

#[test]
fn a_run_among_many_is_the_run_alone() {
    let many = json(&["--scenario", "soak", "--seed", "2", "--seeds", "2", "--json", "--no-oracle"]);
    for (index, seed) in ["2", "3"].into_iter().enumerate() {
        assert_eq!(
            many["runs"][index],
            json(&["--scenario", "soak", "--seed", seed, "--json", "--no-oracle"]),
            "{seed}"
        );
    }
}

#[test]
fn a_broken_limit_is_told_with_the_command_that_shows_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hard.toml");
    fs::write(
        &file,
        "[[scenario]]\nname = \"hard\"\nduration = 100\nsettle = 10\nlimits.max_offset = 1e-12\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let output = simulate(&["--scenario", file, "--seed", "5"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("max_offset is")
            && told.contains(&format!("driftless simulate --scenario {file} --seed 5")),
        "{told}"
    );
}

#[test]
fn looks_are_written_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("looks.csv");
    let output = simulate(&["--scenario", "101-boot-host", "--out", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = fs::read_to_string(file).unwrap();
    assert!(text.starts_with("second,true_offset,estimated_offset,bound,"));
    assert_eq!(text.lines().count(), 601);
}

#[test]
fn a_scenario_that_is_not_there_and_a_wrong_file_are_usage_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    fs::write(&file, "[[scenario]]\nname = \"x\"\nduratoin = 1\n").unwrap();
    for (scenario, says) in [("999-nothing", "no such scenario"), (file.to_str().unwrap(), "duratoin")] {
        let output = simulate(&["--scenario", scenario]);
        assert_eq!(output.status.code(), Some(2), "{scenario}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{output:?}");
    }
}
