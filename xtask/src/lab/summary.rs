//! Looks at a guest's clock, and what they add up to.

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use driftless_core::time::Seconds;
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
/// A reading that bounds the truth worse than this says nothing about microseconds.
const BOUND_MAX: Seconds = Seconds(20e-6);

impl Look {
    pub(crate) const CSV_HEADER: &str =
        "seconds_since_client_start,true_offset_s,bound_s,estimated_offset_s,tick_us,frequency_ppm,state";

    pub(crate) fn take(guest: &mut Guest, start: Instant) -> Result<Self> {
        let truth = guest.truth()?;
        let at_s = start.elapsed().as_secs_f64();
        let (tick, frequency_ppm) = guest.rate();
        let (backward, forward) = guest.steps();
        let status = guest.status();
        Ok(Self {
            at_s,
            offset: truth.offset,
            bound: truth.bound,
            estimated: status["offset"].as_f64().map(Seconds),
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
    pub(crate) fn of(
        (scenario, client): (&str, &str),
        looks: &[Look],
        (backward, forward): (i64, i64),
        resident_kb: i64,
        median_max: Seconds,
    ) -> Self {
        let good = || looks.iter().filter(|look| look.is_good());
        let steady: Vec<f64> = good().filter(|l| l.at_s >= STEADY_FROM_S).map(|l| l.offset.0).collect();
        let magnitudes = sorted(steady.iter().map(|offset| offset.abs()));
        let middle = quantile(&sorted(steady.iter().copied()), 0.5);
        let late = good().filter(|look| look.offset.abs().0 > RIGHT && look.at_s < STEADY_FROM_S);
        let last_late_s = late.map(|look| look.at_s).fold(f64::NEG_INFINITY, f64::max);
        let time_to_1ms = good().find(|look| look.at_s > last_late_s).map(|look| look.at_s);
        let time_to_1ms = time_to_1ms.filter(|_| steady.iter().any(|offset| offset.abs() < RIGHT));
        // The first setting may go either way.
        let backward_steps = (backward - i64::from(looks.first().is_some_and(|l| l.offset.0 < 0.0))).max(0);
        let (median_offset, p99_offset) = (quantile(&magnitudes, 0.5), quantile(&magnitudes, 0.99));
        let is_right = time_to_1ms.is_some_and(|at| at <= RIGHT_WITHIN_S);
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
            adjustments: looks.windows(2).filter(|pair| is_adjusted(&pair[0], &pair[1])).count(),
            resident_kb,
            looks: steady.len(),
            ok: is_right && median_offset < median_max.0 && p99_offset < P99_MAX && backward_steps == 0,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |seconds: f64| Seconds(seconds).to_string().trim_start_matches('+').to_owned();
        write!(
            f,
            "{} with {}: {}; below 1 ms from {}; after 10 s |true offset| median {}, 99 % {}, max {} ({} looks); {} step(s), {} backwards after the first; {} kB resident",
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
            self.resident_kb
        )
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
        let summary = Summary::of(("s", "c"), &looks(50e-6), (1, 0), 0, Seconds(100e-6));
        assert!(summary.ok, "{summary}");
        assert_eq!((summary.time_to_1ms, summary.backward_steps), (Some(3.0), 0));
    }

    #[test]
    fn a_clock_that_is_off_or_goes_back_again_is_not() {
        assert!(!Summary::of(("s", "c"), &looks(150e-6), (1, 0), 0, Seconds(100e-6)).ok);
        assert!(!Summary::of(("s", "c"), &looks(50e-6), (2, 0), 0, Seconds(100e-6)).ok);
    }
}
