//! `cargo xtask bench soak`: weeks with random mishaps, no invariant broken.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Simulator;

/// Arguments of `cargo xtask bench soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many weeks, each of its own seed
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so many minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

/// Weeks between two lines of progress.
const AT_ONCE: u64 = 40;

pub(crate) fn run(args: &Args) -> Result<bool> {
    let simulator = Simulator::build()?;
    let (begun, limit) = (Instant::now(), Duration::from_secs(args.minutes * 60));
    let (mut done, mut broken) = (0, Vec::new());
    while done < args.seeds && begun.elapsed() < limit {
        let count = AT_ONCE.min(args.seeds - done).to_string();
        let first = (args.seed + done).to_string();
        let result =
            simulator.run(&["--scenario", "soak", "--seed", &first, "--seeds", &count, "--no-oracle"])?;
        for run in result["runs"].as_array().map_or_else(|| core::slice::from_ref(&result), Vec::as_slice) {
            done += 1;
            if run["broken"].as_array().is_some_and(|broken| !broken.is_empty()) {
                println!("seed {}: {}", run["seed"], run["broken"]);
                println!("  again: driftless simulate --scenario soak --seed {}", run["seed"]);
                broken.push(run["seed"].clone());
            }
        }
        eprintln!("xtask: {done} weeks in {:.0} s, {} broken", begun.elapsed().as_secs_f64(), broken.len());
    }
    if done < args.seeds {
        println!("stopped after {} minutes: {done} of {} weeks", args.minutes, args.seeds);
    }
    println!("{done} simulated weeks, {} with a broken invariant or limit", broken.len());
    Ok(broken.is_empty() && done == args.seeds)
}
