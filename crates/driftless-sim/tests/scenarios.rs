//! Every scenario, once: its limits, and the table of results, whose diff is the review of a tuning change.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use driftless_sim::record::Summary;
use driftless_sim::{Scenario, World, catalogue};

/// Scenarios that do not keep their limits yet: one that does must leave this list.
const NOT_YET: [&str; 0] = [];

/// The seed of the table.
const SEED: u64 = 1;

struct Ran {
    summary: Summary,
    broken: Vec<String>,
}

fn ran(scenario: &Scenario) -> Ran {
    let mut world = World::new(scenario.clone(), SEED).with_oracle();
    world.finish();
    Ran { summary: world.summary(), broken: world.breaches().iter().map(ToString::to_string).collect() }
}

/// All of them, on all cores, in the catalogue's order.
fn all() -> Vec<Ran> {
    let scenarios = catalogue::builtin().expect("the catalogue parses");
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((index, scenario)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            scenarios.get(index).map(|scenario| (index, scenario))
        } {
            done.push((index, ran(scenario)));
        }
        done
    };
    let mut results = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a run panicked")).collect::<Vec<_>>()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, ran)| ran).collect()
}

/// Three digits: what a change of the last one means is not worth a review.
fn table(results: &[Ran]) -> String {
    let mut text = format!(
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6} {:>8} {:>9} {:>9}\n",
        "scenario",
        "rms",
        "max",
        "rate ppm",
        "to 1 ms",
        "recovery",
        "steps",
        "ticks",
        "packets",
        "x oracle",
        "bound"
    );
    let number = |value: f64| format!("{value:.2e}");
    let maybe = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for Ran { summary: s, .. } in results {
        let _ = writeln!(
            text,
            "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6} {:>8} {:>9} {:>9}",
            s.scenario,
            number(s.rms_offset),
            number(s.max_offset),
            number(s.rms_frequency_error),
            maybe(s.time_to_1ms),
            maybe(s.recovery),
            s.steps,
            s.tick_changes,
            s.packets,
            s.oracle_rms_offset.map_or_else(|| "-".to_owned(), |floor| number(s.rms_offset / floor)),
            number(s.median_bound)
        );
    }
    text
}

#[test]
fn every_scenario_keeps_its_limits_and_the_table_is_as_reviewed() {
    let results = all();
    let mut wrong = Vec::new();
    for Ran { summary, broken } in &results {
        let name = summary.scenario.as_str();
        if NOT_YET.contains(&name) {
            wrong.extend(
                broken.is_empty().then(|| format!("{name} keeps its limits now: take it off the list")),
            );
        } else if !broken.is_empty() {
            let again = format!("driftless simulate --scenario {name} --seed {SEED}");
            wrong.push(format!("{name}: {}; again: {again}", broken.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let reviewed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios.txt");
    let (old, new) = (std::fs::read_to_string(&reviewed).unwrap_or_default(), table(&results));
    if old != new {
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scenarios.txt");
        std::fs::write(&written, &new).unwrap();
        let changed = new.lines().filter(|line| !old.lines().any(|other| other == *line));
        panic!(
            "the results have changed:\n{}\nif that is meant: cp {} {}",
            changed.collect::<Vec<_>>().join("\n"),
            written.display(),
            reviewed.display()
        );
    }
}
