//! `cargo xtask bench server`: what a reply costs, and what a server makes of too many requests, beside a bare echo, chronyd and ntpd-rs.
//!
//! Everything is compared within one run, each server in turn in each round, since a machine is not twice the same.

mod contestant;
mod instructions;
mod results;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use driftless_lab_load::Measured;
use driftless_linux::signal::Signals;

use crate::lab::{folder, go_on, workspace};
use contestant::{CLIENTS_CORE, Contestant, Programs, Running};
use results::{Entry, Results};

/// Arguments of `cargo xtask bench server`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench server                                      everything: about three minutes
  cargo xtask bench server --only echo,driftless --load closed  the inner loop: what a reply costs, and what it may
  cargo xtask bench server --callgrind                          instructions per reply, the same on any machine")]
pub(crate) struct Args {
    /// How long each load lasts
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each server gets its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these servers
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Contestant>,
    /// Only these loads; the closed loop is always among them, since it tells what the others start from
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LOAD")]
    load: Vec<Load>,
    /// Count the instructions of a reply instead
    #[arg(long)]
    callgrind: bool,
    /// The result as one line of JSON
    #[arg(long)]
    json: bool,
}

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Load {
    /// 32 requests under way, from four sockets
    Closed,
    /// One request under way
    Single,
    /// Half of the closed loop's rate, in bursts of 16
    Half,
    /// The closed loop's rate
    Full,
    /// Twice as much
    Double,
    /// Four times as much
    Fourfold,
    /// As much as the client can do, each request from another address, until a million are answered; once a run
    Crowd,
}

/// Addresses that are answered in the crowd, and how long that may take.
const CROWD: u32 = 1_000_000;
const CROWD_MAX_S: f64 = 30.0;

impl Load {
    const ALL: [Self; 7] =
        [Self::Closed, Self::Single, Self::Half, Self::Full, Self::Double, Self::Fourfold, Self::Crowd];

    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Single => "single",
            Self::Half => "half",
            Self::Full => "full",
            Self::Double => "double",
            Self::Fourfold => "fourfold",
            Self::Crowd => "crowd",
        }
    }

    /// The generator's arguments, after how long it lasts. The closed loop answered `peak` a second.
    fn arguments(self, seconds: f64, peak: f64) -> (f64, Vec<String>) {
        let open = |factor: f64, more: &[&str]| {
            let rate = format!("--rate={}", factor * peak);
            ["open", &rate].iter().chain(more).map(ToString::to_string).collect()
        };
        match self {
            Self::Closed => (seconds, vec!["closed".to_owned()]),
            Self::Single => (seconds, ["closed", "--window=1"].map(str::to_owned).to_vec()),
            Self::Half => (seconds, open(0.5, &[])),
            Self::Full => (seconds, open(1.0, &[])),
            Self::Double => (seconds, open(2.0, &[])),
            Self::Fourfold => (seconds, open(4.0, &[])),
            Self::Crowd => (CROWD_MAX_S, open(4.0, &["--burst=1", &format!("--addresses={CROWD}")])),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the server and its clients need a core each");
    }
    let signals = Signals::install()?;
    let programs = Programs::find(build()?)?;
    let place = folder()?.join("bench");
    fs::create_dir_all(&place)?;
    if args.callgrind {
        return instructions::run(&programs, &place);
    }
    let contestants: Vec<Contestant> = chosen(&args.only, Contestant::ALL)
        .into_iter()
        .filter(|contestant| {
            let is_there = programs.of(*contestant).is_some();
            if !is_there {
                eprintln!("xtask: {}: skipped, it is not installed", contestant.name());
            }
            is_there
        })
        .collect();
    let mut loads = chosen(&args.load, Load::ALL);
    loads.retain(|load| *load != Load::Closed);
    let mut results = Results::default();
    for round in 1..=args.rounds {
        for &contestant in &contestants {
            go_on(&signals)?;
            let running = contestant.start(&programs, &place, &[])?;
            let trial = Trial { programs: &programs, contestant, running };
            let closed = trial.measure(Load::Closed, args.seconds, 0.0)?;
            let peak = closed.measured.goodput();
            eprintln!(
                "xtask: round {round} of {}: {}: {:.2} µs a reply, {peak:.0} a second",
                args.rounds,
                contestant.name(),
                closed.measured.per_reply_s() * 1e6
            );
            results.add(closed);
            // What memory a crowd costs is the same in each round.
            for &load in loads.iter().filter(|load| round == 1 || **load != Load::Crowd) {
                go_on(&signals)?;
                results.add(trial.measure(load, args.seconds, peak)?);
            }
        }
    }
    results.tell(args.json)
}

/// Those that were named, or all.
fn chosen<T: Copy + PartialEq, const N: usize>(named: &[T], all: [T; N]) -> Vec<T> {
    all.into_iter().filter(|one| named.is_empty() || named.contains(one)).collect()
}

/// A server under load.
struct Trial<'a> {
    programs: &'a Programs,
    contestant: Contestant,
    running: Running,
}

impl Trial<'_> {
    fn measure(&self, load: Load, seconds: f64, peak: f64) -> Result<Entry> {
        let contestant = self.contestant;
        let (seconds, arguments) = load.arguments(seconds, peak);
        let measured = self
            .ask(seconds, &arguments)
            .with_context(|| format!("{} under the load `{}`", contestant.name(), load.name()))?;
        Ok(Entry { contestant, load, measured, resident_kb: self.running.resident_kb()? })
    }

    /// Runs the load generator on its own core.
    fn ask(&self, seconds: f64, load: &[String]) -> Result<Measured> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", CLIENTS_CORE]).arg(self.programs.generator()).arg("ask");
        command.arg(format!("127.0.0.1:{}", self.running.port)).arg(format!("--pid={}", self.running.id()));
        if self.contestant == Contestant::Echo {
            command.arg("--echo");
        }
        let output = command.arg(format!("--seconds={seconds}")).args(load).output().context("taskset")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("the load generator prints JSON")
    }
}

/// What is measured, built as for release, and what measures it.
fn build() -> Result<PathBuf> {
    eprintln!("xtask: building driftless and the load generator");
    let root = workspace()?;
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "lab", "-p", "driftless", "-p", "driftless-lab-load"])
        .current_dir(&root)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("cargo")?;
    if status.success() { Ok(root.join("target/lab")) } else { bail!("cargo build failed") }
}
