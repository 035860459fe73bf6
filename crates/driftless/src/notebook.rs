//! The file that a measurement leaves: CSV under a header that says what was measured, where, and what each column means.
//!
//! A file may hold several runs, each under a header of its own; a run that is resumed goes on under the old one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use driftless_core::clock::{Leap, Rate};
use driftless_core::drift::Look;
use driftless_core::sample::Sample;
use driftless_core::time::{Frequency, RawTime, Seconds, WallTime};

/// One run: its header and its looks.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Run {
    /// What the header says, by its keys.
    pub(crate) facts: BTreeMap<String, String>,
    /// The sources' SPECs, by the number that stands in the first column.
    pub(crate) sources: Vec<String>,
    /// The number of the source, and the look.
    pub(crate) looks: Vec<(usize, Look)>,
}

/// How a header begins.
const BEGINNING: &str = "# driftless measure ";
/// The columns, and what each means.
const COLUMNS: [(&str, &str); 8] = [
    ("source", "number of the source, as above"),
    ("raw_ns", "this machine's uncorrected counter (CLOCK_MONOTONIC_RAW) in the middle of the look, ns"),
    (
        "local_ns",
        "its wall clock at the same instant, ns since 1970; local_ns + offset_s is the source's time",
    ),
    ("offset_s", "source - wall clock, s: + means that the wall clock is behind"),
    ("delay_s", "round trip without the time that the source took, s: half of it bounds the error"),
    ("dispersion_s", "what reading the clocks adds to the error, s"),
    ("tick_us", "the kernel's tick, us: 10000 is nominal, one more is +100 ppm"),
    ("frequency_ppm", "the kernel's frequency, ppm: it stops at +-500"),
];

impl Run {
    /// The header with the names of the columns.
    pub(crate) fn header(&self) -> String {
        let mut text = format!("{BEGINNING}{}\n", env!("CARGO_PKG_VERSION"));
        for (key, value) in &self.facts {
            let _ = writeln!(text, "# {key}: {value}");
        }
        for (number, source) in self.sources.iter().enumerate() {
            let _ = writeln!(text, "# source {number}: {source}");
        }
        for (name, meaning) in COLUMNS {
            let _ = writeln!(text, "# column {name}: {meaning}");
        }
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(text, "{}", names.join(","));
        text
    }

    /// One look's line.
    pub(crate) fn line(source: usize, look: &Look) -> String {
        let Sample { raw, local, offset, delay, dispersion, .. } = &look.sample;
        format!(
            "{source},{},{},{:.9},{:.9},{:.9},{},{:.6}\n",
            raw.as_nanos(),
            local.as_nanos(),
            offset.0,
            delay.0,
            dispersion.0,
            look.rate.tick,
            look.rate.frequency.ppm()
        )
    }

    /// Whether a measurement with that header goes on with this one: the same counter in the same boot, the same sources.
    pub(crate) fn goes_on(&self, other: &Self) -> bool {
        let same = |key: &str| self.facts.get(key) == other.facts.get(key);
        ["boot", "clocksource", "label", "machine"].into_iter().all(same) && self.sources == other.sources
    }

    /// The looks of one source.
    pub(crate) fn of(&self, source: usize) -> Vec<Look> {
        self.looks.iter().filter(|(number, _)| *number == source).map(|(_, look)| *look).collect()
    }
}

/// All runs of a file; None where it is no such file. A last line that was cut off is left out.
pub(crate) fn parse(text: &str) -> Option<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for line in text.lines() {
        if line.starts_with(BEGINNING) {
            runs.push(Run::default());
            continue;
        }
        let run = runs.last_mut()?;
        if let Some((key, value)) = line.strip_prefix("# ").and_then(|fact| fact.split_once(": ")) {
            if key.starts_with("source ") {
                run.sources.push(value.to_owned());
            } else if !key.starts_with("column ") {
                run.facts.insert(key.to_owned(), value.to_owned());
            }
        } else if let Some(look) = look(line) {
            run.looks.push(look);
        }
    }
    (!runs.is_empty()).then_some(runs)
}

fn look(line: &str) -> Option<(usize, Look)> {
    let fields: Vec<&str> = line.split(',').collect();
    let [source, raw, local, offset, delay, dispersion, tick, frequency] = fields.as_slice() else {
        return None;
    };
    let seconds = |text: &str| text.parse().ok().map(Seconds).filter(|seconds| seconds.is_finite());
    let sample = Sample {
        raw: RawTime::from_nanos(raw.parse().ok()?),
        local: WallTime::from_nanos(local.parse().ok()?),
        offset: seconds(offset)?,
        delay: seconds(delay)?,
        dispersion: seconds(dispersion)?,
        root_delay: Seconds::ZERO,
        root_dispersion: Seconds::ZERO,
        stratum: 0,
        leap: Leap::None,
    };
    let rate = Rate { tick: tick.parse().ok()?, frequency: Frequency::from_ppm(frequency.parse().ok()?) };
    Some((source.parse().ok()?, Look { sample, rate }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A look so many seconds after the first at a counter that runs fast by so much.
    pub(crate) fn look_at(second: f64, drift_ppm: f64) -> Look {
        let raw = RawTime::from_nanos(5_000_000_000) + Seconds(second).to_span();
        let sample = Sample {
            raw,
            local: WallTime::from_nanos(1_700_000_000_000_000_000) + Seconds(second).to_span(),
            offset: Seconds(-drift_ppm * 1e-6 * second),
            delay: Seconds(200e-6),
            dispersion: Seconds(1e-7),
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds::ZERO,
            stratum: 0,
            leap: Leap::None,
        };
        Look { sample, rate: Rate::NOMINAL }
    }

    pub(crate) fn run(label: &str, drift_ppm: f64) -> Run {
        let facts = [("label", label), ("boot", "b"), ("clocksource", "tsc")];
        Run {
            facts: facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            sources: vec!["ntp:10.0.2.2".to_owned()],
            looks: (0..40).map(|n| (0, look_at(f64::from(n), drift_ppm))).collect(),
        }
    }

    fn text(run: &Run) -> String {
        run.looks.iter().fold(run.header(), |text, (source, look)| text + &Run::line(*source, look))
    }

    #[test]
    fn a_run_is_read_as_it_was_written_and_so_are_two() {
        let (one, two) = (run("one", 666.0), run("two", -3.0));
        let read = parse(&(text(&one) + &text(&two))).unwrap();
        let facts = |run: &Run| (run.facts.clone(), run.sources.clone());
        assert_eq!(read.iter().map(facts).collect::<Vec<_>>(), [facts(&one), facts(&two)]);
        assert_eq!(text(&read[0]) + &text(&read[1]), text(&one) + &text(&two));
    }

    #[test]
    fn a_line_that_was_cut_off_and_a_foreign_file_do_no_harm() {
        let whole = text(&run("one", 666.0));
        let read = parse(&whole[..whole.len() - 20]).unwrap();
        assert_eq!(read[0].looks.len(), 39);
        assert_eq!(parse("a,b,c\n1,2,3\n"), None);
    }

    #[test]
    fn another_boot_is_another_run() {
        let one = run("one", 1.0);
        let mut other = one.clone();
        assert!(one.goes_on(&other));
        other.facts.insert("boot".to_owned(), "c".to_owned());
        assert!(!one.goes_on(&other));
    }
}
