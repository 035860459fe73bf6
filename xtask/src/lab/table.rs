//! Scenarios with each client in turn, as the Markdown table of docs/lab.md.

use anyhow::Result;
use driftless_core::time::Seconds;
use driftless_linux::signal::Signals;

use super::client::Kind;
use super::process::go_on;
use super::scenario::Scenario;
use super::summary::{Summary, quantile, sorted};
use super::{Plan, Settings};

/// Who is compared unless told otherwise.
const CLIENTS: [Kind; 3] = [Kind::Driftless, Kind::Chronyd, Kind::Openntpd];

/// Runs each scenario `runs` times with each client, one guest at a time, and prints a row when it is measured.
pub(crate) fn print(scenarios: &[Scenario], clients: &[Kind], runs: u32, settings: Settings) -> Result<()> {
    let clients = if clients.is_empty() { CLIENTS.as_slice() } else { clients };
    let signals = Signals::install()?;
    println!(
        "| scenario | client | below 1 ms after | median | 99 % | max | after median | steps (back) | recovery | resident |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut ratios = Vec::new();
    for scenario in scenarios {
        let mut about_median: Vec<(Kind, f64)> = Vec::new();
        for _ in 0..runs {
            for &kind in clients {
                match (Plan { scenario, kind, settings }).measure(&signals) {
                    Ok(summary) => {
                        println!("{}", row(&summary));
                        about_median.push((kind, summary.rms_about_median));
                    }
                    Err(error) => {
                        go_on(&signals)?;
                        println!("| {} | {} | not measured: {error:#} |", scenario.name, kind.name());
                    }
                }
            }
        }
        let median = |kind: Kind| {
            let figures = about_median.iter().filter(|(of, _)| *of == kind).map(|(_, figure)| *figure);
            quantile(&sorted(figures), 0.5)
        };
        ratios.push(format!("{} {:.2}", scenario.name, median(Kind::Driftless) / median(Kind::Chronyd)));
    }
    println!("\nRMS about the median, driftless / chronyd, median of the runs: {}", ratios.join(", "));
    Ok(())
}

fn row(of: &Summary) -> String {
    let plain = |seconds: f64| Seconds(seconds).to_string().trim_start_matches('+').to_owned();
    let took = |took: Option<f64>| took.map_or_else(|| "never".to_owned(), |took| format!("{took:.1} s"));
    // The slowest, and where it never came within the time, that.
    let slowest =
        of.recovery.iter().map(|took| took.unwrap_or(f64::INFINITY)).fold(f64::NEG_INFINITY, f64::max);
    let recovery =
        if of.recovery.is_empty() { "-".to_owned() } else { took(Some(slowest).filter(|s| s.is_finite())) };
    let cells = [
        of.scenario.clone(),
        of.client.clone(),
        took(of.time_to_1ms),
        plain(of.median_offset),
        plain(of.p99_offset),
        plain(of.max_offset),
        plain(of.rms_about_median),
        format!("{} ({})", of.steps, of.backward_steps),
        recovery,
        format!("{}.{} MB", of.resident_kb / 1000, of.resident_kb % 1000 / 100),
    ];
    format!("| {} |", cells.join(" | "))
}
