//! One two-state filter: offset and frequency of a reference against the uncorrected counter, for one hypothesis about wander.

use super::normal;

/// No counter is this far off: a belief beyond it is the fruit of samples that fit no rate at all, s/s.
const FREQUENCY_MAX: f64 = 0.12;
/// ln √(2π).
const LN_SQRT_TAU: f64 = 0.918_938_533_204_672_7;

/// Belief about one reference at one instant: x = offset in s, f = frequency in s/s, with their covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Filter {
    /// Reference minus counter, s, against the estimator's anchor.
    pub(crate) offset_s: f64,
    /// The reference's rate against the counter, s/s.
    pub(crate) frequency: f64,
    /// Variance of the offset, s².
    pub(crate) var_offset: f64,
    /// Covariance of both, s.
    pub(crate) covariance: f64,
    /// Variance of the frequency.
    pub(crate) var_frequency: f64,
    /// Wander of the oscillator: standard deviation of its rate after a second, in s/s/√s.
    pub(crate) wander: f64,
}

/// What a sample says: the offset lies within ±`half_width_s` of `offset_s`, blurred by `noise_s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    /// Measured offset, s.
    pub(crate) offset_s: f64,
    /// Half of what the excess delay leaves open, s.
    pub(crate) half_width_s: f64,
    /// Standard deviation of what timestamps add, s.
    pub(crate) noise_s: f64,
}

impl Filter {
    /// The belief after `elapsed_s` more seconds on the counter, the rate walking randomly.
    #[must_use]
    pub(crate) fn predicted(mut self, elapsed_s: f64) -> Self {
        let q = self.wander * self.wander * elapsed_s;
        self.offset_s += self.frequency * elapsed_s;
        self.var_offset += elapsed_s * (2.0 * self.covariance + elapsed_s * self.var_frequency)
            + q * elapsed_s * elapsed_s / 3.0;
        self.covariance += elapsed_s * self.var_frequency + q * elapsed_s / 2.0;
        self.var_frequency += q;
        self
    }

    /// How many standard deviations the belief lies outside the interval; 0 inside.
    #[must_use]
    pub(crate) fn contradiction(&self, seen: &Interval) -> f64 {
        let sd = (self.var_offset + seen.noise_s * seen.noise_s).sqrt();
        (((seen.offset_s - self.offset_s).abs() - seen.half_width_s) / sd).max(0.0)
    }

    /// Multiplies the belief by the interval's indicator and keeps mean and variance of the product.
    /// Returns the log likelihood of the sample, as a density over offsets.
    pub(crate) fn update(&mut self, seen: &Interval) -> f64 {
        let variance = self.var_offset + seen.noise_s * seen.noise_s;
        let sd = variance.sqrt();
        let innovation = seen.offset_s - self.offset_s;
        if seen.half_width_s <= 0.0 {
            let deviations = innovation / sd;
            self.learn(variance, innovation, variance);
            return -0.5 * deviations * deviations - libm::log(sd) - LN_SQRT_TAU;
        }
        let cut =
            normal::truncate((innovation - seen.half_width_s) / sd, (innovation + seen.half_width_s) / sd);
        self.learn(variance, cut.mean * sd, variance * (1.0 - cut.variance));
        cut.log_probability - libm::log(2.0 * seen.half_width_s.max(1e-10))
    }

    /// A look of this variance moved its own mean by `shift` and shrank its variance by `shrink`: what that means for both states.
    fn learn(&mut self, variance: f64, shift: f64, shrink: f64) {
        let (gain_x, gain_f) = (self.var_offset / variance, self.covariance / variance);
        self.offset_s += gain_x * shift;
        self.frequency = (self.frequency + gain_f * shift).clamp(-FREQUENCY_MAX, FREQUENCY_MAX);
        self.var_offset = (self.var_offset - gain_x * gain_x * shrink).max(f64::MIN_POSITIVE);
        self.covariance -= gain_x * gain_f * shrink;
        self.var_frequency = (self.var_frequency - gain_f * gain_f * shrink).max(f64::MIN_POSITIVE);
    }

    /// Whether numbers and variances are what they must be.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn is_sound(&self) -> bool {
        self.offset_s.is_finite()
            && self.frequency.is_finite()
            && self.var_offset > 0.0
            && self.var_frequency > 0.0
            && self.covariance * self.covariance <= self.var_offset * self.var_frequency * 1.000_001
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fresh() -> Filter {
        Filter {
            offset_s: 0.0,
            frequency: 0.0,
            var_offset: 1e-6,
            covariance: 0.0,
            var_frequency: 1e-6,
            wander: 1e-9,
        }
    }

    #[test]
    fn samples_on_a_line_teach_its_slope() {
        let mut filter = fresh();
        for n in 1..=60_u32 {
            filter = filter.predicted(1.0);
            filter.update(&Interval { offset_s: 676e-6 * f64::from(n), half_width_s: 20e-6, noise_s: 1e-7 });
        }
        assert!((filter.frequency - 676e-6).abs() < 1e-6, "{}", filter.frequency * 1e6);
    }

    proptest! {
        #[test]
        fn the_covariance_stays_positive_whatever_comes(
            seen in proptest::collection::vec((-1e-2..1e-2_f64, 1e-9..1e-2_f64, 0.01..1e5_f64), 1..60)
        ) {
            let mut filter = fresh();
            for (offset_s, half_width_s, elapsed_s) in seen {
                filter = filter.predicted(elapsed_s);
                filter.update(&Interval { offset_s, half_width_s, noise_s: 1e-7 });
                prop_assert!(filter.is_sound(), "{filter:?}");
            }
        }
    }
}
