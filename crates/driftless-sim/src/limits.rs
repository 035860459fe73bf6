//! Named limits: what must come of a scenario.

use serde::Deserialize;

use crate::record::Summary;

/// The largest values that are allowed; what is not named is free. Seconds, and ppm for frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// RMS of the true offset after settling.
    pub rms_offset: Option<f64>,
    /// Largest true offset after settling.
    pub max_offset: Option<f64>,
    /// RMS error of the clock's rate after settling, ppm.
    pub rms_frequency_error: Option<f64>,
    /// From the start until the clock is right to 1 ms and stays so.
    pub time_to_1ms: Option<f64>,
    /// The same from the end of each disturbance.
    pub recovery: Option<f64>,
    /// Steps.
    pub steps: Option<u64>,
    /// Steps backwards.
    pub backward_steps: Option<u64>,
    /// Requests.
    pub packets: Option<u64>,
    /// Part of the looks at which the published bound did not hold the truth.
    pub bound_misses: Option<f64>,
    /// Median of the bound over the least root distance.
    pub bound_ratio: Option<f64>,
    /// RMS offset over the oracle's, where one ran.
    pub oracle_ratio: Option<f64>,
    /// Changes of the tick.
    pub tick_changes: Option<u64>,
}

/// A limit that was not kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// Which.
    pub name: &'static str,
    /// What was allowed.
    pub limit: f64,
    /// What came; `None` where it never came.
    pub value: Option<f64>,
}

impl Limits {
    /// What of `summary` breaks them.
    #[must_use]
    pub fn breaches(&self, summary: &Summary) -> Vec<Breach> {
        let of = |count: u64| Some(exact(count));
        let ratio = summary.oracle_rms_offset.map(|floor| summary.rms_offset / floor);
        let kept = [
            ("rms_offset", self.rms_offset, Some(summary.rms_offset)),
            ("max_offset", self.max_offset, Some(summary.max_offset)),
            ("rms_frequency_error", self.rms_frequency_error, Some(summary.rms_frequency_error)),
            ("time_to_1ms", self.time_to_1ms, summary.time_to_1ms),
            ("recovery", self.recovery, summary.recovery),
            ("steps", self.steps.map(exact), of(summary.steps)),
            ("backward_steps", self.backward_steps.map(exact), of(summary.backward_steps)),
            ("packets", self.packets.map(exact), of(summary.packets)),
            ("bound_misses", self.bound_misses, Some(summary.bound_misses)),
            ("bound_ratio", self.bound_ratio, Some(summary.bound_ratio)),
            ("oracle_ratio", self.oracle_ratio.filter(|_| ratio.is_some()), ratio),
            ("violations", Some(0.0), of(summary.violations)),
            ("tick_changes", self.tick_changes.map(exact), of(summary.tick_changes)),
        ];
        let broken = kept.into_iter().filter_map(|(name, limit, value)| {
            let limit = limit?;
            // A value that is not a number keeps no limit.
            let is_kept = value.is_some_and(|value| value <= limit);
            (!is_kept).then_some(Breach { name, limit, value })
        });
        broken.collect()
    }
}

impl core::fmt::Display for Breach {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.value {
            Some(value) => write!(f, "{} is {value:.4e}, at most {:.4e} is allowed", self.name, self.limit),
            None => write!(f, "{} never came, at most {:.4e} is allowed", self.name, self.limit),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
const fn exact(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_and_broken_is_told() {
        let limits =
            Limits { rms_offset: Some(1e-6), steps: Some(1), recovery: Some(2.0), ..Limits::default() };
        let good = Summary {
            rms_offset: 1e-6,
            steps: 1,
            recovery: Some(1.0),
            max_offset: 9.0,
            ..Summary::default()
        };
        assert_eq!(limits.breaches(&good), []);
        let bad = Summary { rms_offset: f64::NAN, steps: 2, recovery: None, ..Summary::default() };
        let names: Vec<_> = limits.breaches(&bad).iter().map(|breach| breach.name).collect();
        assert_eq!(names, ["rms_offset", "recovery", "steps"]);
    }
}
