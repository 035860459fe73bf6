//! How much the oscillator wanders, and what a delay says of a sample, is not configured: several filters, one a hypothesis, weighted by
//! how well each predicted.
//!
//! Two laws of measurement compete. *Interval*: the truth lies within half of the excess delay, which is exact for queues. *Scatter*: a
//! Gaussian whose variance is learnt, whatever the delay, which is exact for clocks that are read and for symmetric jitter.

use super::filter::{Filter, Interval};
use super::scatter::Scatter;

/// The hypotheses, in s/s/√s: from a host's own crystal to a counter in a hot, throttled laptop.
const WANDERS: [f64; 8] = [1e-10, 3e-10, 1e-9, 3e-9, 1e-8, 3e-8, 1e-7, 1e-6];
/// Each under two laws.
const FILTERS: usize = 2 * WANDERS.len();
/// Every one is as likely as another at first.
const FIRST_WEIGHT: f64 = 1.0 / 16.0;
/// What a weight remembers of earlier samples: about two hundred samples' worth.
const FORGETTING: f64 = 0.995;
/// No hypothesis is ever further than this from the best, in log weight, so that a change is found in a few samples.
const LOG_WEIGHT_MIN: f64 = -12.0;

/// What one sample says, under both laws.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// Under the interval law.
    pub(crate) interval: Interval,
    /// Under the scatter law, by wander.
    pub(crate) scattered: [Interval; WANDERS.len()],
}

/// One belief in several shades.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bank {
    filters: [Filter; FILTERS],
    /// log of each filter's weight, not normalised; the best is 0.
    log_weights: [f64; FILTERS],
    /// The same as parts of 1.
    weights: [f64; FILTERS],
    /// All of them as one: asked for far more often than changed.
    mixed: Filter,
}

impl Seen {
    /// A sample's two meanings; `lateness_s` is how far off it may be beyond what is usual.
    pub(crate) fn new(interval: Interval, scatter: &Scatter, lateness_s: f64) -> Self {
        let scattered = WANDERS.map(|wander| Interval {
            half_width_s: 0.0,
            noise_s: libm::hypot(scatter.variance(wander).sqrt().max(interval.noise_s), lateness_s),
            ..interval
        });
        Self { interval, scattered }
    }

    /// How far off it may be, under whichever law leaves more open, s.
    pub(crate) fn spread(&self) -> f64 {
        self.interval.half_width_s.max(self.scattered[0].noise_s)
    }

    /// What it says to the filter at `index` of a bank.
    const fn to(&self, index: usize) -> &Interval {
        if index < WANDERS.len() { &self.interval } else { &self.scattered[index - WANDERS.len()] }
    }
}

impl Bank {
    /// All filters believe the same, and none is preferred.
    pub(crate) fn new(belief: Filter) -> Self {
        let filters =
            core::array::from_fn(|index| Filter { wander: WANDERS[index % WANDERS.len()], ..belief });
        let mut bank =
            Self { filters, log_weights: [0.0; FILTERS], weights: [FIRST_WEIGHT; FILTERS], mixed: belief };
        bank.mix();
        bank
    }

    /// The belief after `elapsed_s` more seconds on the counter.
    #[must_use]
    pub(crate) fn predicted(&self, elapsed_s: f64) -> Self {
        let filters = core::array::from_fn(|index| self.filters[index].predicted(elapsed_s));
        Self { filters, mixed: self.mixed.predicted(elapsed_s), ..*self }
    }

    /// The least number of standard deviations by which any hypothesis worth hearing contradicts the sample. That delays bound the error is
    /// no hypothesis: a sample whose interval holds the belief contradicts nothing, however the others have learnt to scatter.
    pub(crate) fn contradiction(&self, seen: &Seen) -> f64 {
        (0..FILTERS)
            .filter(|index| self.is_worth_hearing(*index))
            .map(|index| self.filters[index].contradiction(seen.to(index)))
            .fold(f64::INFINITY, f64::min)
    }

    /// Whether a filter's wander is likely under either law, and its own law is the interval or likely.
    fn is_worth_hearing(&self, index: usize) -> bool {
        let weight = |index: usize| self.log_weights[index] > LOG_WEIGHT_MIN / 2.0;
        weight(index) || index < WANDERS.len() && weight(index + WANDERS.len())
    }

    /// How likely it is, 0 to 1, that delays say nothing of the offset.
    pub(crate) fn scatter_weight(&self) -> f64 {
        self.weights[WANDERS.len()..].iter().sum()
    }

    /// Learns from a sample; returns the log likelihood of it under the mixture.
    pub(crate) fn update(&mut self, seen: &Seen) -> f64 {
        let mut likelihood = 0.0;
        for (index, filter) in self.filters.iter_mut().enumerate() {
            let log_likelihood = filter.update(seen.to(index));
            likelihood += self.weights[index] * libm::exp(log_likelihood);
            self.log_weights[index] = FORGETTING * self.log_weights[index] + log_likelihood;
        }
        let best = self.log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for weight in &mut self.log_weights {
            *weight = (*weight - best).max(LOG_WEIGHT_MIN);
        }
        let plain = self.log_weights.map(f64::exp);
        let sum: f64 = plain.iter().sum();
        self.weights = plain.map(|weight| weight / sum);
        self.mix();
        libm::log(likelihood.max(f64::MIN_POSITIVE))
    }

    /// The mixture's mean and covariance as one belief. Its wander is the root of the weighted mean of squares, so that predicting it is the same
    /// as predicting each filter and mixing them then: both are linear.
    pub(crate) const fn belief(&self) -> Filter {
        self.mixed
    }

    fn mix(&mut self) {
        let mean = |value: fn(&Filter) -> f64| -> f64 {
            self.filters.iter().zip(&self.weights).map(|(filter, weight)| weight * value(filter)).sum()
        };
        let offset_s = mean(|f| f.offset_s);
        let frequency = mean(|f| f.frequency);
        let wander = mean(|f| f.wander * f.wander).sqrt();
        let mut belief =
            Filter { offset_s, frequency, var_offset: 0.0, covariance: 0.0, var_frequency: 0.0, wander };
        for (filter, weight) in self.filters.iter().zip(&self.weights) {
            let (dx, df) = (filter.offset_s - offset_s, filter.frequency - frequency);
            belief.var_offset += weight * (filter.var_offset + dx * dx);
            belief.covariance += weight * (filter.covariance + dx * df);
            belief.var_frequency += weight * (filter.var_frequency + df * df);
        }
        self.mixed = belief;
    }

    /// Moves every belief by `by_s`.
    pub(crate) fn shift(&mut self, by_s: f64) {
        for filter in &mut self.filters {
            filter.offset_s += by_s;
        }
        self.mix();
    }

    /// Moves every belief by `by_s` and opens the offset up to a standard deviation of `sd_s`; the frequency is kept.
    pub(crate) fn jump(&mut self, by_s: f64, sd_s: f64) {
        for filter in &mut self.filters {
            filter.offset_s += by_s;
            filter.var_offset = sd_s * sd_s;
            filter.covariance = 0.0;
        }
        self.mix();
    }

    /// Opens the frequency up to a standard deviation of `sd`.
    pub(crate) fn doubt_frequency(&mut self, sd: f64) {
        for filter in &mut self.filters {
            filter.var_frequency = filter.var_frequency.max(sd * sd);
            filter.covariance = 0.0;
        }
        self.mix();
    }
}
