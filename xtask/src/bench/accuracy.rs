//! `cargo xtask bench accuracy`: every scenario over many seeds, as Markdown, chrony's figures beside ours where the scenario is the same.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use driftless_core::time::Seconds;
use serde_json::Value;

use super::Simulator;
use crate::lab::workspace;

/// Arguments of `cargo xtask bench accuracy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seeds of each scenario
    #[arg(long, default_value_t = 20)]
    seeds: u32,
    /// Only scenarios whose names begin so
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// Write the tables to docs/accuracy.md
    #[arg(long)]
    write: bool,
}

/// chrony 4.3 with its best configuration on the same links, medians of ten seeds: RMS, s; rate error, ppm; packets.
struct Chrony {
    rms: f64,
    rate: Option<f64>,
    packets: u32,
}

/// What was measured once of chrony, under the simulator that it is tested with.
fn chrony(scenario: &str) -> Option<Chrony> {
    let (rms, rate, packets) = match scenario {
        "201-exponential" => (20.9e-6, Some(0.092), 636),
        "202-exponential-16s" => (9.74e-6, None, 2_478),
        "203-exponential-slow" => (21.0e-6, Some(0.085), 636),
        "211-lossy" => (35.4e-6, Some(0.165), 646),
        "212-lossy-16s" => (14.1e-6, None, 2_482),
        "221-heavy" => (291e-6, Some(0.490), 1_566),
        "222-heavy-16s" => (284e-6, None, 6_189),
        "231-wide" => (311e-6, Some(1.084), 1_567),
        "232-wide-16s" => (314e-6, None, 6_187),
        _ => return None,
    };
    Some(Chrony { rms, rate, packets })
}

const FAMILIES: [(char, &str); 5] = [
    ('1', "Life of a virtual machine"),
    ('2', "Networks"),
    ('3', "Oscillators"),
    ('4', "Selection"),
    ('5', "Protocol"),
];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let simulator = Simulator::build()?;
    let list = simulator.run(&["--list"])?;
    let seeds = args.seeds.to_string();
    let mut results = Vec::new();
    for entry in list.as_array().into_iter().flatten() {
        let name = entry["scenario"].as_str().unwrap_or_default();
        if name.starts_with(&args.only) {
            eprintln!("xtask: {name}");
            let result = simulator.run(&["--scenario", name, "--seeds", &seeds])?;
            results.push((entry["about"].as_str().unwrap_or_default().to_owned(), result));
        }
    }
    let tables = tables(&results, args.seeds);
    println!("{tables}");
    if args.write {
        let file = document()?;
        fs::write(&file, format!("{PREFACE}\n{tables}")).with_context(|| file.display().to_string())?;
        eprintln!("xtask: wrote {}", file.display());
    }
    let broken: Vec<_> = results
        .iter()
        .filter(|(_, result)| broken(result) > 0)
        .map(|(_, result)| &result["scenario"])
        .collect();
    if !broken.is_empty() {
        eprintln!("xtask: limits are broken in {broken:?}");
    }
    Ok(broken.is_empty())
}

fn document() -> Result<PathBuf> {
    Ok(workspace()?.join("docs/accuracy.md"))
}

const PREFACE: &str = "\
# Accuracy

Written by `cargo xtask bench accuracy --write`: each scenario of [scenarios](../scenarios/) in the deterministic world, medians over the seeds.
RMS and max are the true error of the clock once a second after settling, the rate error is the clock's rate against the truth at the same moments,
*to 1 ms* is from the start of the daemon until the clock is right to a millisecond and stays so, *recovery* the longest such time after a
disturbance. *× oracle* is our RMS over that of a filter that is told each direction's floor and law of jitter, the oscillator's wander and all
intended changes, and sees the same samples: 1 is the optimum. *bound* is how often the published bound held the truth. *broken* counts
seeds in which a limit of the scenario was not kept; `driftless simulate --scenario NAME --seed N` shows one again.

chrony's figures are of chrony 4.3 in its best configuration (`iburst minpoll 4 maxpoll 6`, or `maxpoll 4` for 16 s, `makestep 0.1 -1`), on links and
oscillators with the same laws but other draws, in the public simulator with which it is tested: medians of ten seeds.
";

fn tables(results: &[(String, Value)], seeds: u32) -> String {
    let mut text = format!("{} scenarios, {seeds} seeds each.\n", results.len());
    for (digit, family) in FAMILIES {
        let of_family: Vec<_> =
            results.iter().filter(|(_, result)| name(result).starts_with(digit)).collect();
        if of_family.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {family}\n\n{HEADER}\n");
        for (about, result) in of_family {
            let _ = writeln!(text, "{}", row(about, result));
        }
    }
    text.push_str(&beside_chrony(results));
    text
}

const HEADER: &str = "\
| scenario | RMS | max | rate error | to 1 ms | recovery | packets | × oracle | bound | broken |
|---|---|---|---|---|---|---|---|---|---|";

fn row(about: &str, result: &Value) -> String {
    let number = |key: &str| result[key].as_f64();
    let seconds = |key: &str| number(key).map_or_else(|| "-".to_owned(), plain);
    let ratio = number("oracle_rms_offset")
        .zip(number("rms_offset"))
        .map_or_else(|| "-".to_owned(), |(floor, rms)| format!("{:.2}", rms / floor));
    format!(
        "| **{}** {about} | {} | {} | {} | {} | {} | {} | {ratio} | {:.3} % | {} |",
        name(result),
        seconds("rms_offset"),
        seconds("max_offset"),
        rate(number("rms_frequency_error").unwrap_or(f64::NAN)),
        seconds("time_to_1ms"),
        seconds("recovery"),
        number("packets").unwrap_or_default(),
        100.0 * (1.0 - number("bound_misses").unwrap_or(1.0)),
        broken(result)
    )
}

fn beside_chrony(results: &[(String, Value)]) -> String {
    let mut text = format!("\n## Beside chrony\n\n{CHRONY_HEADER}\n");
    let (mut logs, mut rate_logs) = (Vec::new(), Vec::new());
    for (_, result) in results {
        let Some(theirs) = chrony(name(result)) else { continue };
        let (rms, rate_error) = (
            result["rms_offset"].as_f64().unwrap_or(f64::NAN),
            result["rms_frequency_error"].as_f64().unwrap_or(f64::NAN),
        );
        logs.push((rms / theirs.rms).ln());
        rate_logs.extend(theirs.rate.map(|rate| (rate_error / rate).ln()));
        let _ = writeln!(
            text,
            "| {} | {} | {} | **{:.2}** | {} | {} | {} | {} | {} |",
            name(result),
            plain(rms),
            plain(theirs.rms),
            rms / theirs.rms,
            rate(rate_error),
            theirs.rate.map_or_else(|| "-".to_owned(), rate),
            theirs.rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.2}", rate_error / rate)),
            result["packets"],
            theirs.packets
        );
    }
    if logs.is_empty() {
        return String::new();
    }
    let _ = writeln!(
        text,
        "\nGeometric mean of the ratios: RMS **{:.2}**, rate error **{:.2}**.",
        mean(&logs),
        mean(&rate_logs)
    );
    text
}

const CHRONY_HEADER: &str = "\
| scenario | RMS | chrony's | ratio | rate error | chrony's | ratio | packets | chrony's |
|---|---|---|---|---|---|---|---|---|";

fn name(result: &Value) -> &str {
    result["scenario"].as_str().unwrap_or_default()
}

/// In how many seeds a limit was broken.
fn broken(result: &Value) -> usize {
    let is_broken = |run: &&Value| run["broken"].as_array().is_some_and(|broken| !broken.is_empty());
    result["runs"]
        .as_array()
        .map_or_else(|| usize::from(is_broken(&result)), |runs| runs.iter().filter(is_broken).count())
}

fn plain(seconds: f64) -> String {
    Seconds(seconds).to_string().trim_start_matches('+').to_owned()
}

fn rate(ppm: f64) -> String {
    if ppm < 1.0 { format!("{:.0} ppb", ppm * 1e3) } else { format!("{ppm:.2} ppm") }
}

/// Geometric mean from logarithms.
fn mean(logs: &[f64]) -> f64 {
    let count = u32::try_from(logs.len()).unwrap_or(u32::MAX);
    (logs.iter().sum::<f64>() / f64::from(count.max(1))).exp()
}
