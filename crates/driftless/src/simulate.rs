//! `driftless simulate`: the deterministic world from the command line. Files, threads and the terminal are here; the world has none.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use driftless_core::event::Severity;
use driftless_core::time::Seconds;
use driftless_sim::record::{Look, Summary};
use driftless_sim::truth::TrueTime;
use driftless_sim::{Scenario, World, catalogue, soak};
use serde_json::{Value, json};

use crate::{Outcome, say};

/// Arguments of `driftless simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless simulate --list
  driftless simulate --scenario 201-exponential          by name, or by the beginning of one
  driftless simulate --scenario 201 --seeds 20           twenty seeds on all cores: medians, and the worst
  driftless simulate --scenario my.toml --out looks.csv  a file of your own, with a line a look

Offsets are truth - clock in seconds, frequencies ppm. The same seed gives the same result, byte for byte. Exit status 1 when a limit is broken.")]
pub(crate) struct Args {
    /// The built-in scenarios
    #[arg(long, conflicts_with = "scenario")]
    list: bool,
    /// A built-in scenario, or a TOML file of scenarios
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "list")]
    scenario: Option<String>,
    /// The seed, or the first of several
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// The result as one line of JSON
    #[arg(long)]
    json: bool,
    /// A line for each look at the world: CSV
    #[arg(long, value_name = "F.csv", conflicts_with = "seeds")]
    out: Option<PathBuf>,
    /// Without the filter that gives the floor: quicker
    #[arg(long)]
    no_oracle: bool,
    /// What happened to the guest and what its engine told, on standard error; samples and rates left out
    #[arg(long, conflicts_with = "seeds")]
    events: bool,
}

/// One run's end.
struct Ran {
    summary: Summary,
    /// Broken limits, in words.
    broken: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.list {
        return list(args.json);
    }
    let scenarios = match found(args.scenario.as_deref().unwrap_or_default()) {
        Ok(scenarios) => scenarios,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    let seeds = args.seed..args.seed.saturating_add(args.seeds);
    let jobs: Vec<(Scenario, u64)> =
        scenarios.iter().flat_map(|s| seeds.clone().map(move |seed| (of_seed(s, seed), seed))).collect();
    let ran = match (&args.out, jobs.as_slice()) {
        (Some(file), [(scenario, seed)]) => match recorded(scenario, *seed, file) {
            Ok(ran) => vec![ran],
            Err(error) => return Outcome::Wrong.told(&format!("{}: {error}", file.display())),
        },
        (Some(_), _) => return Outcome::Wrong.told(&"--out takes one scenario and one seed"),
        (None, [(scenario, seed)]) => vec![alone(scenario, *seed, args)],
        _ => all(&jobs, !args.no_oracle),
    };
    if args.json {
        say(&result(&ran).to_string());
    } else {
        say(&table(&ran));
    }
    complain(&ran, args.scenario.as_deref().unwrap_or_default())
}

fn list(json: bool) -> Outcome {
    let all = match catalogue::builtin() {
        Ok(all) => all,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    if json {
        let entry = |s: &Scenario| json!({"scenario": s.name, "about": s.about, "duration": s.duration});
        say(&Value::from_iter(all.iter().map(entry)).to_string());
    } else {
        all.iter().for_each(|s| say(&format!("{:<28} {}", s.name, s.about)));
        say(&format!("{:<28} a week with random mishaps, another with every seed", soak::NAME));
    }
    Outcome::Done
}

/// The soak is another scenario with every seed.
fn of_seed(scenario: &Scenario, seed: u64) -> Scenario {
    if scenario.name == soak::NAME { soak::week(seed) } else { scenario.clone() }
}

/// A built-in scenario by its name or the beginning of exactly one, or those of a file.
fn found(wanted: &str) -> Result<Vec<Scenario>, String> {
    let builtin = catalogue::builtin().map_err(|error| error.to_string())?;
    if let Some(exact) = builtin.iter().find(|s| s.name == wanted) {
        return Ok(vec![exact.clone()]);
    }
    if wanted == soak::NAME {
        return Ok(vec![soak::week(0)]);
    }
    let path = Path::new(wanted);
    if path.is_file() {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{wanted}: {error}"))?;
        return catalogue::parse(&[&text]).map_err(|error| format!("{wanted}: {error}"));
    }
    let begun: Vec<&Scenario> = builtin.iter().filter(|s| s.name.starts_with(wanted)).collect();
    match begun.as_slice() {
        [one] => Ok(vec![(*one).clone()]),
        [] => Err(format!(
            "{wanted}: no such scenario or file; `driftless simulate --list` shows those built in"
        )),
        _ => Err(format!(
            "{wanted}: {} scenarios begin so; `driftless simulate --list` shows them",
            begun.len()
        )),
    }
}

/// Runs every job on all cores; what comes is in the jobs' order.
fn all(jobs: &[(Scenario, u64)], oracle: bool) -> Vec<Ran> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len());
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Vec<Mutex<Option<Ran>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((scenario, seed)) = jobs.get(index) else { break };
            let mut world = begun(scenario, *seed, oracle);
            world.finish();
            if let Some(slot) = results.get(index) {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended(&world));
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress(&format!("{done} of {} runs", jobs.len()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    progress("");
    results.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

fn begun(scenario: &Scenario, seed: u64, oracle: bool) -> World {
    let world = World::new(scenario.clone(), seed);
    if oracle { world.with_oracle() } else { world }
}

fn alone(scenario: &Scenario, seed: u64, args: &Args) -> Ran {
    let mut world = begun(scenario, seed, !args.no_oracle);
    world.guest.told = args.events.then(Vec::new);
    with_progress(&mut world);
    progress("");
    if args.events {
        tell(&world);
    }
    ended(&world)
}

/// What happened to the guest, and what its engine told, in the order of time.
fn tell(world: &World) {
    let happened = world.scenario.events.iter().map(|event| (event.at, format!("WORLD {:?}", event.what)));
    let told = world.guest.told.iter().flatten().filter(|(_, event)| event.severity() != Severity::Debug);
    let mut lines: Vec<(f64, String)> =
        told.map(|(at, event)| (at.seconds(), format!("{event:?}"))).chain(happened).collect();
    lines.sort_by(|one, other| one.0.total_cmp(&other.0));
    for (second, line) in lines {
        eprintln!("{second:12.3}  {line}");
    }
}

/// Stops only where the world stops by itself, at looks: every other stop would round its clocks anew, and the run would not be the one that
/// is to be shown again.
fn with_progress(world: &mut World) {
    const PARTS: u32 = 50;
    let (duration, look) = (world.scenario.duration, world.scenario.look);
    for part in 1..PARTS {
        let share = f64::from(part) / f64::from(PARTS);
        world.run_until(TrueTime::from_seconds((duration * share / look).floor() * look));
        progress(&format!("{:3.0} %", share * 100.0));
    }
    world.finish();
}

/// One line that is drawn over itself; on a terminal only.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
        let _ = std::io::stderr().flush();
    }
}

fn ended(world: &World) -> Ran {
    let mut broken: Vec<String> = world.breaches().iter().map(ToString::to_string).collect();
    let violations = world.guest.invariants.seen.iter();
    broken.extend(violations.map(|(at, violation)| format!("first at {:.3} s: {violation}", at.seconds())));
    Ran { summary: world.summary(), broken }
}

/// Runs one and writes its looks.
fn recorded(scenario: &Scenario, seed: u64, file: &Path) -> std::io::Result<Ran> {
    let mut world = World::new(scenario.clone(), seed).with_oracle();
    world.record.kept = Some(Vec::new());
    with_progress(&mut world);
    progress("");
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    writeln!(
        out,
        "second,true_offset,estimated_offset,bound,rate_error_ppm,frequency_ppm,tick,kernel_frequency_ppm,stepped"
    )?;
    for look in world.record.kept.iter().flatten() {
        writeln!(out, "{}", csv(look))?;
    }
    out.flush()?;
    Ok(ended(&world))
}

fn csv(look: &Look) -> String {
    let estimate = look.estimate;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.9}"));
    format!(
        "{:.3},{:.9},{},{},{:.6},{},{},{:.6},{}",
        look.at.seconds(),
        look.offset,
        number(estimate.map(|e| e.offset.0)),
        number(estimate.map(|e| e.bound.0)),
        look.rate_error * 1e6,
        number(estimate.map(|e| e.frequency.ppm())),
        look.rate.tick,
        look.rate.frequency.ppm(),
        Seconds::from(look.stepped).0
    )
}

/// One run: its summary. Several: each key's median over them, and all of them under `runs`.
fn result(ran: &[Ran]) -> Value {
    let run = |ran: &Ran| {
        let mut run = json!(ran.summary);
        run["broken"] = json!(ran.broken);
        run
    };
    let runs: Vec<Value> = ran.iter().map(run).collect();
    let [one] = runs.as_slice() else {
        let mut whole = runs.first().cloned().unwrap_or_default();
        for (key, value) in whole.as_object_mut().into_iter().flatten() {
            if key != "seed" && !value.is_string() && !value.is_array() {
                *value = median(runs.iter().map(|run| run[key].as_f64()).collect());
            }
        }
        whole["broken"] = Value::from_iter(runs.iter().filter_map(|run| run["broken"].get(0).cloned()));
        whole["runs"] = Value::Array(runs);
        return whole;
    };
    one.clone()
}

/// The lower median; a value that never came counts as the largest.
fn median(mut values: Vec<Option<f64>>) -> Value {
    values.sort_by(|a, b| a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY)));
    values.get((values.len().saturating_sub(1)) / 2).copied().flatten().map_or(Value::Null, Value::from)
}

fn table(ran: &[Ran]) -> String {
    let mut text = format!(
        "{:<28} {:>6} {:>11} {:>8} {:>11} {:>12} {:>9} {:>9} {:>6} {:>8}",
        "scenario", "seed", "RMS", "x oracle", "max", "rate error", "to 1 ms", "recovery", "steps", "packets"
    );
    for ran in ran {
        let s = &ran.summary;
        let plain = |value: f64| Seconds(value).to_string().trim_start_matches('+').to_owned();
        let soon = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} s"));
        let _ = write!(
            text,
            "\n{:<28} {:>6} {:>11} {:>8} {:>11} {:>8.1} ppb {:>9} {:>9} {:>6} {:>8}{}",
            s.scenario,
            s.seed,
            plain(s.rms_offset),
            s.oracle_rms_offset
                .map_or_else(|| "-".to_owned(), |floor| format!("{:.2}", s.rms_offset / floor)),
            plain(s.max_offset),
            s.rms_frequency_error * 1e3,
            soon(s.time_to_1ms),
            soon(s.recovery),
            s.steps,
            s.packets,
            if ran.broken.is_empty() { "" } else { "  FAILED" }
        );
    }
    text
}

/// Says for each broken run what broke, and how to see it again.
fn complain(ran: &[Ran], named: &str) -> Outcome {
    let mut outcome = Outcome::Done;
    for ran in ran.iter().filter(|ran| !ran.broken.is_empty()) {
        let Summary { scenario, seed, .. } = &ran.summary;
        let named = if Path::new(named).is_file() { named } else { scenario };
        let again = format!("driftless simulate --scenario {named} --seed {seed}");
        outcome = Outcome::NotYet
            .told(&format!("{scenario}, seed {seed}: {}; again: {again}", ran.broken.join("; ")));
    }
    outcome
}
