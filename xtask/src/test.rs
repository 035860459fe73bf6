//! `cargo xtask test`: everything that must hold before a commit lands.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use driftless_linux::signal::Signals;

use crate::lab::{self, Kind, Plan, Scenario, Settings, workspace};
use crate::packages::find;

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test            everything, with a real guest at the end
  cargo xtask test --no-lab   without it: a minute or two once everything is built")]
pub(crate) struct Args {
    /// Leave the real guest out
    #[arg(long)]
    no_lab: bool,
}

/// One step: what it is called, and its command line.
type Step = (&'static str, &'static [&'static str]);

const STEPS: [Step; 4] = [
    ("format", &["fmt", "--check"]),
    ("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("doc tests", &["test", "--quiet", "--doc", "--workspace"]),
    ("documentation", &["doc", "--quiet", "--workspace", "--no-deps"]),
];
const LICENCES: Step = ("licences", &["deny", "--offline", "check", "bans", "licenses", "sources"]);
/// The short run's scenario and length.
const LAB: (&str, Duration) = ("drift+676", Duration::from_secs(30));
/// Runs before a clock that was not kept counts: the guest shares two cores with whatever else the machine does.
const LAB_RUNS_MAX: u32 = 3;

pub(crate) fn run(args: &Args) -> Result<bool> {
    let mut failed: Vec<&str> = Vec::new();
    for step in STEPS {
        if !passes(step)? {
            failed.push(step.0);
        }
    }
    if !crate::tidy::run()? {
        failed.push("tidy");
    }
    if find("cargo-deny").is_none() {
        eprintln!("xtask: licences: skipped, cargo-deny is not installed");
    } else if !passes(LICENCES)? {
        failed.push(LICENCES.0);
    }
    if args.no_lab {
        eprintln!("xtask: a real guest: left out by --no-lab");
    } else if !is_guest_kept()? {
        failed.push("a real guest");
    } else if !are_faults_found()? {
        failed.push("faults in real guests");
    }
    let (are_tests_good, closing_line) = unit_tests()?;
    if !are_tests_good {
        failed.push("tests");
    }
    if !failed.is_empty() {
        eprintln!("xtask: failed: {}", failed.join(", "));
    }
    println!("{closing_line}");
    Ok(failed.is_empty())
}

/// A short run of the lab; where no guest can be had, that is said and nothing fails.
fn is_guest_kept() -> Result<bool> {
    if let Err(error) = lab::prepare() {
        eprintln!("xtask: a real guest: skipped, none can be booted here: {error:#}");
        return Ok(true);
    }
    let signals = Signals::install()?;
    let Some(scenario) = lab::find(LAB.0) else { bail!("there is no scenario {}", LAB.0) };
    let scenario = Scenario { watch: LAB.1, ..scenario };
    for run in 1..=LAB_RUNS_MAX {
        let plan = Plan { scenario: &scenario, kind: Kind::Driftless, settings: Settings::default() };
        match plan.measure(&signals) {
            Ok(summary) => {
                eprintln!("xtask: a real guest, run {run}: {summary}");
                if summary.ok {
                    return Ok(true);
                }
            }
            Err(error) => {
                lab::go_on(&signals)?;
                eprintln!("xtask: a real guest, run {run}: {error:#}");
            }
        }
    }
    Ok(false)
}

/// The doctor among real faults, where guests can be booted.
fn are_faults_found() -> Result<bool> {
    if lab::prepare().is_err() {
        return Ok(true);
    }
    for _ in 1..=LAB_RUNS_MAX {
        match lab::examine(false) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => eprintln!("xtask: faults in real guests: {error:#}"),
        }
    }
    Ok(false)
}

fn passes((name, arguments): Step) -> Result<bool> {
    let start = Instant::now();
    let passed = cargo(arguments)?.status().with_context(|| format!("starting {name}"))?.success();
    let word = if passed { "ok" } else { "FAILED" };
    eprintln!("xtask: {name}: {word} ({:.0} s)", start.elapsed().as_secs_f64());
    Ok(passed)
}

/// Unit, property and command line tests; returns the runner's closing line, for it to be the last thing printed.
fn unit_tests() -> Result<(bool, String)> {
    let has_nextest = find("cargo-nextest").is_some();
    let arguments: &[&str] = if has_nextest {
        &["nextest", "run", "--workspace", "--no-fail-fast"]
    } else {
        &["test", "--workspace"]
    };
    let mut command = cargo(arguments)?;
    command.env("DRIFTLESS_PEERS", lab::peers()?);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (errors, output) = (child.stderr.take(), child.stdout.take());
    let from_output = std::thread::spawn(move || output.map(|output| echo(output, "test result:")));
    let from_errors = errors.and_then(|errors| echo(errors, "Summary"));
    let from_output = from_output.join().ok().flatten().flatten();
    let passed = child.wait()?.success();
    let closing_line = if has_nextest { from_errors } else { from_output };
    Ok((passed, closing_line.unwrap_or_else(|| "the test runner printed no summary".to_owned())))
}

/// Passes lines on to standard error; returns the last that holds `mark`.
fn echo(from: impl std::io::Read, mark: &str) -> Option<String> {
    let mut closing_line = None;
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        eprintln!("{line}");
        if line.contains(mark) {
            closing_line = Some(line.trim().to_owned());
        }
    }
    closing_line
}

fn cargo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace()?);
    command.env("DRIFTLESS_OBSERVE", "1").env("RUSTDOCFLAGS", "-D warnings");
    Ok(command)
}
