//! `cargo xtask bench engine`: what one sample costs. The world round it is counted in: it is small, and nobody runs the engine without one.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Simulator;
use crate::lab::folder;

/// Specification C6.
const STEP_MAX_US: f64 = 20.0;
const TEN_DAYS_MAX_S: f64 = 1.0;
/// Runs of which the quickest counts: the machine has other things to do.
const RUNS: u32 = 5;

pub(crate) fn run() -> Result<bool> {
    let simulator = Simulator::build()?;
    let place = folder()?.join("bench");
    fs::create_dir_all(&place)?;
    let (short, long) = (place.join("short.toml"), place.join("long.toml"));
    fs::write(&short, eight_sources(20_000))?;
    fs::write(&long, eight_sources(60_000))?;
    let (short, long) = (short.to_string_lossy(), long.to_string_lossy());
    let (quick, slow) = (fastest(&simulator, &short)?, fastest(&simulator, &long)?);
    let samples = slow.1 - quick.1;
    let step_us = (slow.0 - quick.0) / samples * 1e6;
    println!(
        "one sample with eight sources: {step_us:.1} µs, world included (at most {STEP_MAX_US} promised)"
    );
    match (instructions(&simulator, &short)?, instructions(&simulator, &long)?) {
        (Some(few), Some(many)) => println!("the same in instructions: {:.0}", (many - few) / samples),
        _ => println!("instructions: skipped, valgrind is not installed"),
    }
    let days = place.join("days.toml");
    fs::write(
        &days,
        "[[scenario]]\nname = \"ten-days\"\nduration = 864e3\nserver = [{ minpoll = 4, maxpoll = 4 }]\n",
    )?;
    let (days_s, packets) = fastest(&simulator, &days.to_string_lossy())?;
    println!(
        "ten simulated days at 16 s, {packets} exchanges: {days_s:.2} s (at most {TEN_DAYS_MAX_S} promised)"
    );
    Ok(step_us <= STEP_MAX_US && days_s <= TEN_DAYS_MAX_S)
}

/// Eight servers, none of them wrong, looked at from outside as seldom as can be.
fn eight_sources(duration: u32) -> String {
    let servers = ["{ minpoll = 4, maxpoll = 4 }"; 8].join(", ");
    format!("[[scenario]]\nname = \"eight\"\nduration = {duration}\nlook = 1e9\nserver = [{servers}]\n")
}

/// Seconds and exchanges of the quickest of several runs.
fn fastest(simulator: &Simulator, scenario: &str) -> Result<(f64, f64)> {
    let mut best = f64::INFINITY;
    let mut result = Value::Null;
    for _ in 0..RUNS {
        let begun = Instant::now();
        result = simulator.run(&["--scenario", scenario, "--no-oracle"])?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok((best, result["packets"].as_f64().context("packets")?))
}

/// Instructions of a run by callgrind, where valgrind is installed.
fn instructions(simulator: &Simulator, scenario: &str) -> Result<Option<f64>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&simulator.0);
    valgrind.args(["simulate", "--scenario", scenario, "--no-oracle"]).env("DRIFTLESS_OBSERVE", "1");
    let output = match valgrind.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("valgrind"),
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    Ok(Some(
        collected.and_then(|count| count.trim().parse().ok()).context("callgrind says what it collected")?,
    ))
}
