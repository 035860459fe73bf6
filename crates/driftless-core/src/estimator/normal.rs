//! The normal distribution, cut to an interval: what remains of a Gaussian belief when the truth is known to lie between two bounds.

/// 1/√(2π).
const INV_SQRT_TAU: f64 = 0.398_942_280_401_432_7;

/// Mean, variance and probability of a standard normal variable that is known to lie in an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Truncated {
    /// Its mean.
    pub(crate) mean: f64,
    /// Its variance, at most 1.
    pub(crate) variance: f64,
    /// log of the probability that the untruncated variable lies there.
    pub(crate) log_probability: f64,
}

/// Cuts N(0, 1) to [`low`, `high`]. Far out in a tail the caller has already decided that the interval contradicts the belief;
/// what is returned there is the nearer edge with an exponential tail, which stays finite.
pub(crate) fn truncate(low: f64, high: f64) -> Truncated {
    if low + high < 0.0 {
        // Mirror to the right half, where erfc keeps its precision.
        let mirrored = truncate(-high, -low);
        return Truncated { mean: -mirrored.mean, ..mirrored };
    }
    if low > TAIL {
        return tail(low, high);
    }
    let width = high - low;
    if width < NARROW {
        return narrow(f64::midpoint(low, high), width);
    }
    let probability = upper_tail(low) - upper_tail(high);
    let (at_low, at_high) = (density(low), density(high));
    let mean = (at_low - at_high) / probability;
    let variance = 1.0 + (edge(low, at_low) - edge(high, at_high)) / probability - mean * mean;
    Truncated { mean, variance: variance.clamp(1e-12, 1.0), log_probability: libm::log(probability) }
}

/// The density is all but flat across so narrow an interval: uniform, tilted by its slope.
fn narrow(middle: f64, width: f64) -> Truncated {
    let variance = width * width / 12.0;
    Truncated {
        mean: middle - middle * variance,
        variance: variance.clamp(1e-12, 1.0),
        log_probability: -middle * middle / 2.0 + libm::log(INV_SQRT_TAU * width.max(f64::MIN_POSITIVE)),
    }
}

/// Beyond `low` the density falls about as exp(−low·x).
fn tail(low: f64, high: f64) -> Truncated {
    let length = (1.0 / low).min((high - low) / 2.0);
    Truncated {
        mean: low + length,
        variance: (length * length).max(1e-12),
        log_probability: -low * low / 2.0 + libm::log(INV_SQRT_TAU * length.max(f64::MIN_POSITIVE)),
    }
}

fn density(x: f64) -> f64 {
    if x.is_infinite() { 0.0 } else { INV_SQRT_TAU * libm::exp(-x * x / 2.0) }
}

fn edge(x: f64, density: f64) -> f64 {
    if x.is_infinite() { 0.0 } else { x * density }
}

fn upper_tail(x: f64) -> f64 {
    0.5 * libm::erfc(x * core::f64::consts::FRAC_1_SQRT_2)
}

/// Standard deviations beyond which erfc's difference has no digits left worth having.
const TAIL: f64 = 6.0;
/// Width below which the closed form cancels.
const NARROW: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_of_a_normal_has_the_known_moments() {
        let half = truncate(0.0, f64::INFINITY);
        assert!((half.mean - (2.0 / core::f64::consts::PI).sqrt()).abs() < 1e-12);
        assert!((half.variance - (1.0 - 2.0 / core::f64::consts::PI)).abs() < 1e-12);
        assert!((half.log_probability - 0.5_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_narrow_and_the_closed_form_agree_where_they_meet() {
        let closed = truncate(1.0, 1.0 + NARROW * 1.001);
        let flat = truncate(1.0, 1.0 + NARROW * 0.999);
        assert!((closed.mean - flat.mean).abs() < 1e-5);
        assert!((closed.variance / flat.variance - 1.0).abs() < 0.05);
    }

    proptest! {
        #[test]
        fn the_mean_lies_in_the_interval_and_the_variance_shrinks(low in -50.0..50.0_f64, width in 1e-9..100.0_f64) {
            let cut = truncate(low, low + width);
            let tolerance = 1e-6 * (1.0 + low.abs());
            prop_assert!(cut.mean >= low - tolerance && cut.mean <= low + width + tolerance);
            prop_assert!(cut.variance > 0.0 && cut.variance <= 1.0);
            prop_assert!(cut.log_probability <= 1e-9 && cut.log_probability.is_finite());
        }
    }
}
