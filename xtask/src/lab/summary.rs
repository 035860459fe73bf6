//! Looks at a guest's clock, and what they add up to.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use driftless_core::time::{Seconds, Span};
use serde::Serialize;

use super::Guest;

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
}

/// Figures of a run. Offsets in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) scenario: String,
    pub(crate) client: String,
    pub(crate) duration: f64,
    /// From second 10 on.
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
    /// After each interruption, seconds from its end until |offset| stays below 1 ms; null: it did not.
    pub(crate) recovery: Vec<Option<f64>>,
    /// By how much the client's idea of the frequency changed over the interruptions, ppm.
    pub(crate) frequency_change: Option<f64>,
    /// Changes of tick or frequency that were seen.
    pub(crate) adjustments: usize,
    pub(crate) resident_kb: i64,
    pub(crate) looks: usize,
    pub(crate) ok: bool,
}

/// The limits of the promise: specification A4 and T1.
const RIGHT: f64 = 1e-3;
const RIGHT_WITHIN_S: f64 = 5.0;
const STEADY_FROM_S: f64 = 10.0;
const P99_MAX: f64 = 500e-6;
/// Specification T3, with host NTP.
const RECOVERY_MAX_S: f64 = 2.0;
/// A reading that bounds the truth worse than this says nothing about microseconds.
const BOUND_MAX: Seconds = Seconds(20e-6);

impl Look {
    pub(crate) const CSV_HEADER: &str =
        "seconds_since_client_start,true_offset_s,bound_s,estimated_offset_s,tick_us,frequency_ppm,state";

    /// Looks now; the guest's time should be the host's and `ahead_s` more.
    pub(crate) fn take(guest: &mut Guest, start: Instant, ahead_s: i64) -> Result<Self> {
        let truth = guest.truth()?;
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
    /// `resumed`: when interruptions ended. `backward` and `forward`: steps that the guest's agent saw.
    pub(crate) fn of(
        (scenario, client): (&str, &str),
        (looks, resumed): (&[Look], &[f64]),
        (backward, forward): (i64, i64),
        resident_kb: i64,
        median_max: Seconds,
    ) -> Self {
        let good = || looks.iter().filter(|look| look.is_good());
        let spans = spans(resumed);
        let recovery: Vec<Option<f64>> =
            spans.iter().map(|&(from, to)| right_after(good(), from, to)).collect();
        let is_recovering = |at_s: f64| {
            let mut each = spans.iter().zip(&recovery);
            each.any(|(&(from, to), took)| (from..took.map_or(to, |took| from + took)).contains(&at_s))
        };
        let is_steady = |look: &&Look| look.at_s >= STEADY_FROM_S && !is_recovering(look.at_s);
        let steady: Vec<f64> = good().filter(is_steady).map(|look| look.offset.0).collect();
        let magnitudes = sorted(steady.iter().map(|offset| offset.abs()));
        let middle = quantile(&sorted(steady.iter().copied()), 0.5);
        let time_to_1ms = right_after(good(), 0.0, STEADY_FROM_S);
        // The first setting may go either way.
        let backward_steps = (backward - i64::from(looks.first().is_some_and(|l| l.offset.0 < 0.0))).max(0);
        let (median_offset, p99_offset) = (quantile(&magnitudes, 0.5), quantile(&magnitudes, 0.99));
        let is_right = time_to_1ms.is_some_and(|at| at <= RIGHT_WITHIN_S)
            && recovery.iter().all(|took| took.is_some_and(|took| took <= RECOVERY_MAX_S));
        Self {
            scenario: scenario.to_owned(),
            client: client.to_owned(),
            duration: looks.last().map_or(0.0, |look| look.at_s),
            rms_offset: rms(&steady, 0.0),
            max_offset: magnitudes.last().copied().unwrap_or(f64::NAN),
            median_offset,
            p99_offset,
            rms_about_median: rms(&steady, middle),
            time_to_1ms,
            backward_steps,
            steps: backward + forward,
            frequency_change: resumed.first().and_then(|&first| frequency_change(looks, first)),
            recovery,
            adjustments: looks.windows(2).filter(|pair| is_adjusted(&pair[0], &pair[1])).count(),
            resident_kb,
            looks: steady.len(),
            ok: is_right && median_offset < median_max.0 && p99_offset < P99_MAX && backward_steps == 0,
        }
    }
}

/// From the end of each interruption to that of the next.
fn spans(resumed: &[f64]) -> Vec<(f64, f64)> {
    let ends = resumed.iter().skip(1).copied().chain([f64::INFINITY]);
    resumed.iter().copied().zip(ends).collect()
}

/// How long after `from` the first look was right that no wrong one follows before `to`.
fn right_after<'a>(looks: impl Iterator<Item = &'a Look>, from: f64, to: f64) -> Option<f64> {
    let mut right: Option<f64> = None;
    for look in looks.filter(|look| (from..to).contains(&look.at_s)) {
        right = if look.offset.abs().0 > RIGHT { None } else { right.or(Some(look.at_s - from)) };
    }
    right
}

/// Last idea of the frequency against the last one before `at_s`.
fn frequency_change(looks: &[Look], at_s: f64) -> Option<f64> {
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
            // A simulated client has no memory of its own.
            if self.resident_kb > 0 { format!("; {} kB resident", self.resident_kb) } else { String::new() },
            self.told_recovery()
        )
    }
}

impl Summary {
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
        }
    }

    fn looks(steady: f64) -> Vec<Look> {
        let wrong = (0..3).map(|n| look(f64::from(n), -120.0));
        wrong.chain((3..60).map(|n| look(f64::from(n), steady))).collect()
    }

    #[test]
    fn a_kept_clock_is_ok_and_its_first_step_back_is_forgiven() {
        let summary = Summary::of(("s", "c"), (&looks(50e-6), &[]), (1, 0), 0, Seconds(100e-6));
        assert!(summary.ok, "{summary}");
        assert_eq!((summary.time_to_1ms, summary.backward_steps), (Some(3.0), 0));
    }

    #[test]
    fn a_clock_that_is_off_or_goes_back_again_is_not() {
        assert!(!Summary::of(("s", "c"), (&looks(150e-6), &[]), (1, 0), 0, Seconds(100e-6)).ok);
        assert!(!Summary::of(("s", "c"), (&looks(50e-6), &[]), (2, 0), 0, Seconds(100e-6)).ok);
    }

    #[test]
    fn a_recovery_lasts_until_no_wrong_look_follows() {
        let pause = |at_s: f64| {
            let offset =
                if (30.0..32.0).contains(&at_s) || (40.0..43.0).contains(&at_s) { 5.0 } else { 50e-6 };
            look(at_s, offset)
        };
        let looks: Vec<Look> = (0..60).map(|n| pause(f64::from(n))).collect();
        let summary = Summary::of(("s", "c"), (&looks, &[29.5, 39.5]), (0, 2), 0, Seconds(100e-6));
        assert_eq!(summary.recovery, [Some(2.5), Some(3.5)]);
        assert!(summary.max_offset < 1e-3 && !summary.ok, "a recovery of 3.5 s is too slow");
        let summary = Summary::of(("s", "c"), (&looks[..42], &[29.5, 39.5]), (0, 1), 0, Seconds(100e-6));
        assert_eq!(summary.recovery, [Some(2.5), None]);
    }
}
