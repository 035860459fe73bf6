//! Looks at a guest's clock, and what they add up to.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use driftless_core::time::{Seconds, Span};
use serde::Serialize;

use super::guest::Guest;
use super::scenario::{Limits, Scenario};

/// One look: truth beside what the client believes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    /// Seconds since the client's start.
    pub(crate) at_s: f64,
    /// Host − guest.
    pub(crate) offset: Seconds,
    pub(crate) bound: Seconds,
    /// The client's own idea of its offset.
    pub(crate) estimated: Option<Seconds>,
    /// The client's own idea of the counter's frequency error.
    pub(crate) estimated_ppm: Option<f64>,
    pub(crate) tick: i64,
    pub(crate) frequency_ppm: f64,
    pub(crate) state: String,
    pub(crate) steps: i64,
    pub(crate) spent: Spent,
}

/// What the client has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) resident_kb: i64,
    pub(crate) processor_ns: i64,
    pub(crate) wakes: i64,
}

/// What the agent timed of a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Start {
    /// From the process's start to the end of `waitsync --once`, s; the very first time, and the next.
    pub(crate) waitsync_first_s: Option<f64>,
    pub(crate) waitsync_s: Option<f64>,
    /// From the client's start to a right clock, s.
    pub(crate) right_after_s: Option<f64>,
}

/// Figures of a run. Offsets in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) scenario: String,
    pub(crate) client: String,
    pub(crate) duration: f64,
    /// From second 10 on, with a PTP clock from 3 on.
    pub(crate) rms_offset: f64,
    pub(crate) max_offset: f64,
    pub(crate) median_offset: f64,
    pub(crate) p99_offset: f64,
    pub(crate) rms_about_median: f64,
    /// The first look below 1 ms of the first 10 s that no worse one follows; `None`: never.
    pub(crate) time_to_1ms: Option<f64>,
    /// Of the wall clock, the first setting left out.
    pub(crate) backward_steps: i64,
    pub(crate) steps: i64,
    /// After each interruption, seconds from its end until |offset| stays right, below 1 ms unless an RTC is all there is; null: it did not.
    pub(crate) recovery: Vec<Option<f64>>,
    /// By how much the client's idea of the frequency changed over the interruptions, ppm.
    pub(crate) frequency_change: Option<f64>,
    /// Timed in the guest, where it has a PTP clock.
    #[serde(flatten)]
    pub(crate) start: Start,
    /// Changes of tick or frequency that were seen.
    pub(crate) adjustments: usize,
    pub(crate) resident_kb: i64,
    /// From second 10 on, the client's share of the guest's processor, as the guest's kernel counts it.
    pub(crate) processor_share: f64,
    /// In the same time, how often a second the client was woken.
    pub(crate) wakeups: f64,
    pub(crate) looks: usize,
    pub(crate) ok: bool,
}

/// The time to the first right look is searched in so many seconds, and costs count from there on.
const FIRST_S: f64 = 10.0;
const NANOS: f64 = 1e9;
/// A reading that bounds the truth worse than this says nothing about microseconds.
const BOUND_MAX: Seconds = Seconds(20e-6);

impl Look {
    pub(crate) const CSV_HEADER: &str =
        "seconds_since_client_start,true_offset_s,bound_s,estimated_offset_s,tick_us,frequency_ppm,state";

    /// Looks now. The guest's time should be its PTP clock's, where it has one that runs, else the host's, and `ahead_s` more.
    pub(crate) fn take(guest: &mut Guest, start: Instant, ahead_s: i64, patience: Duration) -> Result<Self> {
        let mut truth = guest.truth(patience)?;
        if let Some(device) = guest.phc_truth(patience)? {
            truth.offset = truth.offset - device.offset;
            truth.bound = truth.bound + device.bound;
        }
        let at_s = start.elapsed().as_secs_f64();
        let (tick, frequency_ppm) = guest.rate();
        let (backward, forward) = guest.steps();
        let status = guest.status();
        Ok(Self {
            at_s,
            offset: truth.offset + Seconds::from(Span::from_secs(ahead_s)),
            bound: truth.bound,
            estimated: status["offset"].as_f64().map(Seconds),
            estimated_ppm: status["frequency"].as_f64(),
            state: status["state"].as_str().unwrap_or("-").to_owned(),
            tick,
            frequency_ppm,
            steps: backward + forward,
            spent: guest.spent(),
        })
    }

    /// Whether it says something about microseconds.
    pub(crate) fn is_good(&self) -> bool {
        self.bound < BOUND_MAX
    }

    pub(crate) fn csv(&self) -> String {
        let estimated = self.estimated.map_or_else(String::new, |offset| format!("{:.9}", offset.0));
        format!(
            "{:.3},{:.9},{:.9},{estimated},{},{:.4},{}",
            self.at_s, self.offset.0, self.bound.0, self.tick, self.frequency_ppm, self.state
        )
    }
}

impl Summary {
    /// `resumed`: when interruptions ended; `backward` and `forward`: steps that the guest's agent saw.
    pub(crate) fn of(
        (scenario, client): (&Scenario, &str),
        (looks, resumed): (&[Look], &[f64]),
        (backward, forward): (i64, i64),
    ) -> Self {
        let limits = scenario.limits;
        let good = || looks.iter().filter(|look| look.is_good());
        let spans = spans(resumed);
        let recovery: Vec<Option<f64>> =
            spans.iter().map(|&(from, to)| right_after(looks.iter(), limits.right, from, to)).collect();
        let is_steady =
            |look: &&Look| look.at_s >= limits.steady_from_s && !is_recovering(look.at_s, &spans, &recovery);
        let all: Vec<&Look> = good().filter(is_steady).collect();
        let steady = evenly(&all);
        let max_offset = all.iter().map(|look| look.offset.0.abs()).fold(f64::NAN, f64::max);
        let magnitudes = sorted(steady.iter().map(|offset| offset.abs()));
        let middle = quantile(&sorted(steady.iter().copied()), 0.5);
        // The first setting may go either way.
        let backward_steps = (backward - i64::from(looks.first().is_some_and(|l| l.offset.0 < 0.0))).max(0);
        let (median_offset, p99_offset) = (quantile(&magnitudes, 0.5), quantile(&magnitudes, 0.99));
        // Whoever only crosses zero on the way is not right.
        let time_to = |right: Seconds, within_s: f64| {
            right_after(looks.iter(), right, 0.0, within_s).filter(|_| median_offset < right.0)
        };
        let first = looks.iter().find(|look| look.at_s >= FIRST_S);
        let rate =
            |of: &dyn Fn(&Spent) -> i64| first.zip(looks.last()).map_or(0.0, |(a, b)| per_second(a, b, of));
        let frequency_change = frequency_change(looks, resumed);
        let is_right = time_to(limits.right, limits.right_within_s.max(FIRST_S))
            .is_some_and(|at| at <= limits.right_within_s)
            && recovery.iter().all(|took| took.is_some_and(|took| took <= limits.recovery_s))
            && frequency_change.is_none_or(|change| change.abs() <= limits.frequency_ppm);
        Self {
            scenario: scenario.name.to_owned(),
            client: client.to_owned(),
            duration: looks.last().map_or(0.0, |look| look.at_s),
            rms_offset: rms(&steady, 0.0),
            max_offset,
            median_offset,
            p99_offset,
            rms_about_median: rms(&steady, middle),
            time_to_1ms: time_to(Seconds(1e-3), FIRST_S),
            backward_steps,
            steps: backward + forward,
            frequency_change,
            recovery,
            start: Start::default(),
            adjustments: looks.windows(2).filter(|pair| is_adjusted(&pair[0], &pair[1])).count(),
            resident_kb: looks.last().map_or(0, |look| look.spent.resident_kb),
            processor_share: rate(&|spent| spent.processor_ns) / NANOS,
            wakeups: rate(&|spent| spent.wakes),
            looks: steady.len(),
            ok: is_right
                && median_offset < limits.median.0
                && p99_offset < limits.p99.0
                && backward_steps == 0,
        }
    }
}

/// Whether an interruption's end lies so short a time back that the clock was not right again.
fn is_recovering(at_s: f64, spans: &[(f64, f64)], recovery: &[Option<f64>]) -> bool {
    let mut each = spans.iter().zip(recovery);
    each.any(|(&(from, to), took)| (from..took.map_or(to, |took| from + took)).contains(&at_s))
}

/// The offsets of looks a quarter of a second apart: what is looked at more closely for a while counts no more for it.
fn evenly(looks: &[&Look]) -> Vec<f64> {
    const APART_S: f64 = 0.24;
    let mut last_s = f64::NEG_INFINITY;
    let mut is_next = |look: &&&Look| {
        let is_apart = look.at_s - last_s >= APART_S;
        if is_apart {
            last_s = look.at_s;
        }
        is_apart
    };
    looks.iter().filter(&mut is_next).map(|look| look.offset.0).collect()
}

/// From the end of each interruption to that of the next.
fn spans(resumed: &[f64]) -> Vec<(f64, f64)> {
    let ends = resumed.iter().skip(1).copied().chain([f64::INFINITY]);
    resumed.iter().copied().zip(ends).collect()
}

/// How much more there is of something a second.
#[expect(clippy::cast_precision_loss, reason = "a daemon's processor time over minutes")]
fn per_second(first: &Look, last: &Look, of: &dyn Fn(&Spent) -> i64) -> f64 {
    (of(&last.spent) - of(&first.spent)) as f64 / (last.at_s - first.at_s).max(1.0)
}

/// How long after `from` the first look was right that no wrong one follows before `to`.
fn right_after<'a>(looks: impl Iterator<Item = &'a Look>, right: Seconds, from: f64, to: f64) -> Option<f64> {
    let mut since: Option<f64> = None;
    // Enough to tell right from wrong, where a microsecond is not asked for.
    let tells = |look: &&Look| look.bound < right * 0.25 && (from..to).contains(&look.at_s);
    for look in looks.filter(tells) {
        since = if look.offset.abs() > right { None } else { since.or(Some(look.at_s - from)) };
    }
    since
}

/// Last idea of the frequency against the last one before the first interruption.
fn frequency_change(looks: &[Look], resumed: &[f64]) -> Option<f64> {
    let at_s = *resumed.first()?;
    let before = looks.iter().rfind(|look| look.at_s < at_s)?.estimated_ppm?;
    Some(looks.last()?.estimated_ppm? - before)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |seconds: f64| Seconds(seconds).to_string().trim_start_matches('+').to_owned();
        write!(
            f,
            "{} with {}: {}; below 1 ms from {}; after 10 s |true offset| median {}, 99 % {}, max {} ({} looks); {} step(s), {} backwards after the first{}{}",
            self.scenario,
            self.client,
            if self.ok { "kept right" } else { "NOT kept right" },
            self.time_to_1ms.map_or_else(|| "never".to_owned(), |at| format!("{at:.1} s")),
            plain(self.median_offset),
            plain(self.p99_offset),
            plain(self.max_offset),
            self.looks,
            self.steps,
            self.backward_steps,
            self.told_start() + &self.told_cost(),
            self.told_recovery()
        )
    }
}

impl Summary {
    /// With what was timed of the start. Who was not timed, as other clients' gates, is not judged by it.
    pub(crate) fn with_start(mut self, limits: Limits, start: Start) -> Self {
        self.start = start;
        let is_within = |took: Option<f64>, limit: f64| took.is_none_or(|took| took <= limit);
        self.ok &= is_within(start.waitsync_s, limits.waitsync_s)
            && is_within(start.right_after_s, limits.right_after_s);
        self
    }

    fn told_start(&self) -> String {
        let told = |what: &str, took: Option<f64>| {
            took.map_or_else(String::new, |took| format!("; {what} {:.0} ms", took * 1e3))
        };
        told("waitsync --once", self.start.waitsync_s) + &told("right after", self.start.right_after_s)
    }

    fn told_cost(&self) -> String {
        // A simulated client has no memory of its own.
        if self.resident_kb == 0 {
            return String::new();
        }
        let share = self.processor_share * 100.0;
        format!(
            "; {} kB resident, {share:.3} % of the processor, {:.1} wake-ups a second",
            self.resident_kb, self.wakeups
        )
    }

    fn told_recovery(&self) -> String {
        if self.recovery.is_empty() {
            return String::new();
        }
        let told =
            |took: &Option<f64>| took.map_or_else(|| "never".to_owned(), |took| format!("{took:.2} s"));
        let all: Vec<String> = self.recovery.iter().map(told).collect();
        format!("; recovered after {}", all.join(", "))
    }
}

fn is_adjusted(before: &Look, after: &Look) -> bool {
    before.tick != after.tick || (before.frequency_ppm - after.frequency_ppm).abs() > 1e-5
}

pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values; NaN of none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a run's few thousand looks"
)]
pub(super) fn quantile(values: &[f64], part: f64) -> f64 {
    let index = (values.len().saturating_sub(1) as f64 * part).ceil() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "a run has a few thousand looks")]
fn rms(values: &[f64], about: f64) -> f64 {
    let sum: f64 = values.iter().map(|value| (value - about) * (value - about)).sum();
    (sum / values.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_s: f64, offset: f64) -> Look {
        Look {
            at_s,
            offset: Seconds(offset),
            bound: Seconds(1e-6),
            estimated: None,
            estimated_ppm: None,
            tick: 10_000,
            frequency_ppm: 0.0,
            state: String::new(),
            steps: 0,
            spent: Spent::default(),
        }
    }

    fn scenario() -> Scenario {
        crate::lab::find("drift+676").unwrap()
    }

    fn looks(steady: f64) -> Vec<Look> {
        let wrong = (0..3).map(|n| look(f64::from(n), -120.0));
        wrong.chain((3..60).map(|n| look(f64::from(n), steady))).collect()
    }

    #[test]
    fn a_kept_clock_is_ok_and_its_first_step_back_is_forgiven() {
        let summary = Summary::of((&scenario(), "c"), (&looks(50e-6), &[]), (1, 0));
        assert!(summary.ok, "{summary}");
        assert_eq!((summary.time_to_1ms, summary.backward_steps), (Some(3.0), 0));
    }

    #[test]
    fn a_clock_that_is_off_or_goes_back_again_is_not() {
        assert!(!Summary::of((&scenario(), "c"), (&looks(150e-6), &[]), (1, 0)).ok);
        assert!(!Summary::of((&scenario(), "c"), (&looks(50e-6), &[]), (2, 0)).ok);
    }

    #[test]
    fn a_recovery_lasts_until_no_wrong_look_follows() {
        let pause = |at_s: f64| {
            let offset =
                if (30.0..32.0).contains(&at_s) || (40.0..43.0).contains(&at_s) { 5.0 } else { 50e-6 };
            look(at_s, offset)
        };
        let looks: Vec<Look> = (0..60).map(|n| pause(f64::from(n))).collect();
        let summary = Summary::of((&scenario(), "c"), (&looks, &[29.5, 39.5]), (0, 2));
        assert_eq!(summary.recovery, [Some(2.5), Some(3.5)]);
        assert!(summary.max_offset < 1e-3 && !summary.ok, "a recovery of 3.5 s is too slow");
        let summary = Summary::of((&scenario(), "c"), (&looks[..42], &[29.5, 39.5]), (0, 1));
        assert_eq!(summary.recovery, [Some(2.5), None]);
    }
}
