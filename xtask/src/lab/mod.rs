//! Real guests under QEMU, with a chosen drift beneath adjtimex, measured through a shared page to a microsecond.

mod bench;
mod boot;
mod client;
mod doctor;
mod faults;
mod guest;
mod image;
mod machine;
mod monitor;
mod names;
mod network;
mod peers;
mod process;
mod relay;
mod scenario;
mod scratch;
mod summary;
mod table;
mod tool;
mod vsock;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use driftless_linux::signal::Signals;

pub(crate) use bench::{Bench, folder, prepare, workspace};
pub(crate) use boot::Accelerator;
pub(crate) use client::Kind;
pub(crate) use doctor::run as examine;
pub(crate) use guest::Guest;
pub(crate) use peers::peers;
pub(crate) use process::{Ended, go_on, rest};
pub(crate) use scenario::{Scenario, find};
pub(crate) use summary::{Look, Spent, Summary};
use watch::Watch;

/// Arguments of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab --list
  cargo xtask lab drift-2000 --json
  cargo xtask lab drift+676 --client chronyd
  cargo xtask lab doctor                             twenty faults, and whether driftless doctor finds them
  cargo xtask lab dntpd                              also monotonic, names: the old tools' names in guests, with a verdict
  cargo xtask lab --table                            every scenario with every client: docs/lab.md's table, half an hour
  cargo xtask lab drift+676 --table --client driftless,chronyd --runs 3 --duration 300

Each run leaves console, log, samples.csv, qemu.sh and summary.json in .lab/runs/ (or below DRIFTLESS_LAB_DIR).")]
pub(crate) struct Args {
    /// Which scenario; with --table several, or all
    #[arg(required_unless_present_any = ["list", "clean", "table"])]
    scenario: Vec<String>,
    /// What keeps the guest's clock: driftless, chronyd, openntpd or none; with --table several [default: driftless, with --table all]
    #[arg(long, value_delimiter = ',')]
    client: Vec<Kind>,
    /// One line of JSON at the end
    #[arg(long)]
    json: bool,
    /// Let driftless log each sample to the guest's console; that costs it processor time and wake-ups
    #[arg(long)]
    verbose: bool,
    /// Keep the guest's initramfs too, so that the run's qemu.sh boots it again
    #[arg(long)]
    keep: bool,
    /// Watch for so many seconds instead
    #[arg(long, value_name = "S")]
    duration: Option<u64>,
    /// Who executes the guest: tcg works everywhere; kvm is tried and left where no guest comes up
    #[arg(long, default_value = "tcg")]
    accel: Accelerator,
    /// Each scenario with each client in turn; prints a Markdown table
    #[arg(long)]
    table: bool,
    /// With --table: so many runs each
    #[arg(long, value_name = "N", default_value_t = 1, requires = "table")]
    runs: u32,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Remove what earlier runs left; what is downloaded stays
    #[arg(long)]
    clean: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if args.list {
        for scenario in scenario::SCENARIOS {
            println!("{:<14} {}", scenario.name, scenario.about);
        }
        println!("{:<14} {}", doctor::NAME, doctor::ABOUT);
        for trial in names::TRIALS {
            println!("{:<14} {}", trial.name, trial.about);
        }
        return Ok(true);
    }
    if args.scenario == [doctor::NAME] {
        return doctor::run(args.json);
    }
    if let Some(trial) = names::find(&args.scenario) {
        return trial.run(args.accel, args.json);
    }
    if args.clean {
        return clean().map(|()| true);
    }
    let mut scenarios: Vec<Scenario> = args
        .scenario
        .iter()
        .map(|name| {
            find(name).with_context(|| format!("no scenario {name}; `cargo xtask lab --list` shows all"))
        })
        .collect::<Result<_>>()?;
    if scenarios.is_empty() {
        scenarios.extend(scenario::SCENARIOS);
    }
    if let Some(seconds) = args.duration {
        scenarios.iter_mut().for_each(|scenario| scenario.watch = Duration::from_secs(seconds));
    }
    if args.table {
        let settings = Settings { accelerator: args.accel, keep: args.keep, verbose: args.verbose };
        return table::print(&scenarios, &args.client, args.runs, settings).map(|()| true);
    }
    let (scenario, kind) = match (scenarios.as_slice(), args.client.as_slice()) {
        ([scenario], []) => (scenario, Kind::Driftless),
        ([scenario], [kind]) => (scenario, *kind),
        _ => bail!("several scenarios or clients are for --table"),
    };
    let signals = Signals::install()?;
    let settings = Settings { accelerator: args.accel, keep: args.keep, verbose: args.verbose };
    let plan = Plan { scenario, kind, settings };
    let summary = plan.measure(&signals)?;
    eprintln!("{summary}");
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    }
    Ok(summary.ok || kind != Kind::Driftless)
}

/// One run to be.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) kind: Kind,
    pub(crate) settings: Settings,
}

/// How a run is made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    pub(crate) accelerator: Accelerator,
    /// Whether the initramfs stays.
    pub(crate) keep: bool,
    /// Whether driftless logs each sample.
    pub(crate) verbose: bool,
}

impl Plan<'_> {
    /// Carries it out to its end.
    pub(crate) fn measure(&self, signals: &Signals) -> Result<Summary> {
        self.measure_and_hear(signals).map(|(summary, _)| summary)
    }

    /// The same with all that the guest has said on its console.
    fn measure_and_hear(&self, signals: &Signals) -> Result<(Summary, String)> {
        let scenario = self.scenario;
        let mut bench = Bench::new(scenario, self.kind, self.settings.verbose)?;
        bench.keeps_initramfs = self.settings.keep;
        eprintln!("xtask: booting a guest for {}: {}", scenario.name, scenario.about);
        let mut guest = bench.boot(scenario, self.settings.accelerator, signals)?;
        let watch = Watch::over(scenario, &mut bench, &mut guest, signals)?;
        if self.kind != Kind::None && guest.spent().resident_kb == 0 {
            bail!(
                "{} has ended in the guest; its last words are in {}",
                self.kind.name(),
                bench.folder.display()
            );
        }
        let summary =
            Summary::of((scenario, self.kind.name()), (&watch.looks, &watch.resumed), guest.steps());
        let summary = summary.with_start(scenario.limits, guest.start());
        fs::write(bench.folder.join("summary.json"), serde_json::to_string(&summary)?)?;
        let console = fs::read(bench.folder.join("console.log"))?;
        Ok((summary, String::from_utf8_lossy(&console).into_owned()))
    }
}

/// Removes what runs left that have ended.
fn clean() -> Result<()> {
    let is_ours = |file: &PathBuf| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(scratch::PREFIX))
    };
    let scratches = files(Path::new(scratch::FOLDER)).into_iter().filter(is_ours);
    for left in files(&folder()?.join("runs")).into_iter().chain(scratches).filter(|left| !is_running(left)) {
        fs::remove_dir_all(&left).with_context(|| left.display().to_string())?;
        eprintln!("xtask: removed {}", left.display());
    }
    Ok(())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

/// Whether the process that a run's name tells, last but one, is an xtask that still runs.
fn is_running(left: &Path) -> bool {
    let name = left.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(process) = name.rsplit('-').nth(1) else { return false };
    fs::read_link(format!("/proc/{process}/exe"))
        .is_ok_and(|program| program.file_name().is_some_and(|name| name == "xtask"))
}
