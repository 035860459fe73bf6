//! What is seen of a run: the true error at each look, and what it comes to.

use driftless_core::clock::Rate;
use driftless_core::estimator::Estimate;
use driftless_core::time::Span;
use serde::Serialize;

use crate::truth::TrueTime;

/// One look at the guest from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// When.
    pub at: TrueTime,
    /// True offset, truth − wall clock, s: positive is behind.
    pub offset: f64,
    /// How fast the wall clock runs against the truth, minus one.
    pub rate_error: f64,
    /// What the engine believes.
    pub estimate: Option<Estimate>,
    /// Tick and frequency in force.
    pub rate: Rate,
    /// All steps so far together.
    pub stepped: Span,
}

/// What a run came to: the keys of `driftless simulate --json`. Seconds, and ppm for frequencies.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Its scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// How long it ran.
    pub duration: f64,
    /// RMS of the true offset after settling.
    pub rms_offset: f64,
    /// Largest true offset after settling.
    pub max_offset: f64,
    /// From the start until the clock is right to 1 ms and stays so for ten seconds.
    pub time_to_1ms: Option<f64>,
    /// The longest such time from the end of a disturbance; absent without one, or where it never came.
    pub recovery: Option<f64>,
    /// RMS error of the clock's rate against the truth after settling, ppm.
    pub rms_frequency_error: f64,
    /// Steps backwards.
    pub backward_steps: u64,
    /// Steps.
    pub steps: u64,
    /// Requests sent.
    pub packets: u64,
    /// Changes of the rate.
    pub adjustments: u64,
    /// Changes of the tick.
    pub tick_changes: u64,
    /// Part of the looks at which the published bound did not hold the truth.
    pub bound_misses: f64,
    /// Median of the published bound.
    pub median_bound: f64,
    /// The same over the least root distance that was seen: how much is padding.
    pub bound_ratio: f64,
    /// How often something was broken that must always hold.
    pub violations: u64,
    /// RMS error of a filter that is told the laws of chance, on the same samples.
    pub oracle_rms_offset: Option<f64>,
}

/// Takes looks in and adds them up.
#[derive(Debug, Clone)]
pub struct Record {
    /// Errors count from here on.
    pub settle: TrueTime,
    looks: u32,
    offset_square: f64,
    offset_max: f64,
    rate_square: f64,
    bounds: u32,
    misses: u32,
    bound: Histogram,
    distance_least: f64,
    start: Finding,
    disturbances: Vec<Finding>,
    /// Every look, where somebody wants them.
    pub kept: Option<Vec<Look>>,
}

/// Finding the right time after something.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Finding {
    since: TrueTime,
    right_since: Option<TrueTime>,
    /// No later look changes it.
    is_settled: bool,
}

/// The clock is right below this.
const RIGHT_S: f64 = 1e-3;
/// It is right for good when it has been so for this long.
const FOR_GOOD: Span = Span::from_secs(10);

impl Record {
    /// Nothing seen yet; errors count from `settle` on.
    #[must_use]
    pub fn new(settle: TrueTime) -> Self {
        Self {
            settle,
            looks: 0,
            offset_square: 0.0,
            offset_max: 0.0,
            rate_square: 0.0,
            bounds: 0,
            misses: 0,
            bound: Histogram::default(),
            distance_least: f64::INFINITY,
            start: Finding::new(TrueTime::ZERO),
            disturbances: Vec::new(),
            kept: None,
        }
    }

    /// The daemon starts only now.
    pub fn started(&mut self, at: TrueTime) {
        self.start = Finding::new(at);
    }

    /// Something disturbed the clock until `at`.
    pub fn disturbed(&mut self, at: TrueTime) {
        self.disturbances.push(Finding::new(at));
    }

    /// A look of the regular kind, or one of the `extra` ones that only time how soon the clock is right.
    pub fn look(&mut self, look: &Look, extra: bool) {
        for finding in self.disturbances.iter_mut().chain([&mut self.start]) {
            finding.look(look);
        }
        if extra {
            return;
        }
        if let Some(estimate) = &look.estimate {
            self.bounds += 1;
            self.bound.add(estimate.bound.0);
            self.distance_least = self.distance_least.min(estimate.root_distance.0);
            let error = (look.offset - estimate.offset.0).abs();
            // Not a number is a miss, too.
            self.misses += u32::from(error > estimate.bound.0 || error.is_nan() || estimate.bound.0.is_nan());
        }
        if look.at >= self.settle {
            self.looks += 1;
            self.offset_square += look.offset * look.offset;
            self.offset_max = self.offset_max.max(look.offset.abs());
            self.rate_square += look.rate_error * look.rate_error;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(*look);
        }
    }

    /// What it came to; names and counters are the world's to fill in.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let median_bound = self.bound.median();
        let looks = f64::from(self.looks.max(1));
        let recoveries: Option<Vec<f64>> = self.disturbances.iter().map(Finding::took).collect();
        Summary {
            rms_offset: (self.offset_square / looks).sqrt(),
            max_offset: self.offset_max,
            rms_frequency_error: (self.rate_square / looks).sqrt() * 1e6,
            time_to_1ms: self.start.took(),
            recovery: recoveries.and_then(|all| all.into_iter().reduce(f64::max)),
            median_bound,
            bound_ratio: median_bound / self.distance_least,
            bound_misses: f64::from(self.misses) / f64::from(self.bounds.max(1)),
            ..Summary::default()
        }
    }
}

/// Counts of positive values by their logarithm, 32 a power of two: good to 2 %.
#[derive(Debug, Clone)]
struct Histogram {
    counts: Vec<u32>,
    total: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; Self::BINS], total: 0 }
    }
}

impl Histogram {
    /// From 2^-40 to 2^24.
    const BINS: usize = 64 * 32;
    const LEAST_LOG2: f64 = -40.0;
    const PER_OCTAVE: f64 = 32.0;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the index is held"
    )]
    fn add(&mut self, value: f64) {
        let place = (libm::log2(value) - Self::LEAST_LOG2) * Self::PER_OCTAVE;
        let index = (place.max(0.0) as usize).min(Self::BINS - 1);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
            self.total += 1;
        }
    }

    fn median(&self) -> f64 {
        let (mut left, mut log2) = (self.total / 2, Self::LEAST_LOG2);
        for count in &self.counts {
            if left < *count {
                break;
            }
            left -= count;
            log2 += 1.0 / Self::PER_OCTAVE;
        }
        libm::exp2(log2)
    }
}

impl Finding {
    const fn new(since: TrueTime) -> Self {
        Self { since, right_since: None, is_settled: false }
    }

    fn look(&mut self, look: &Look) {
        if self.is_settled || look.at < self.since {
            return;
        }
        if look.offset.abs() >= RIGHT_S {
            self.right_since = None;
        } else {
            let since = *self.right_since.get_or_insert(look.at);
            self.is_settled = look.at - since >= FOR_GOOD;
        }
    }

    fn took(&self) -> Option<f64> {
        Some((TrueTime::ZERO + (self.right_since? - self.since)).seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(second: f64, offset: f64) -> Look {
        let at = TrueTime::from_seconds(second);
        Look { at, offset, rate_error: 1e-6, estimate: None, rate: Rate::NOMINAL, stepped: Span::ZERO }
    }

    #[test]
    fn errors_count_after_settling_and_right_means_to_stay_so() {
        let mut record = Record::new(TrueTime::from_seconds(30.0));
        record.disturbed(TrueTime::from_seconds(100.0));
        for (second, offset) in [(0.0, 1.0), (1.0, 0.0), (2.0, 5e-3), (3.0, 0.0), (20.0, 0.0), (21.0, 1.0)] {
            record.look(&look(second, offset), false);
        }
        for (second, offset) in [(50.0, 3e-4), (60.0, -4e-4), (110.0, 0.0)] {
            record.look(&look(second, offset), false);
        }
        let summary = record.summary();
        assert_eq!((summary.time_to_1ms, summary.recovery), (Some(3.0), Some(10.0)));
        assert!(
            (summary.max_offset - 4e-4).abs() < 1e-12 && (summary.rms_frequency_error - 1.0).abs() < 1e-9
        );
        assert!((summary.rms_offset - 5e-4 / 3.0_f64.sqrt()).abs() < 1e-9);
    }
}
