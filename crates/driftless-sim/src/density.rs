//! How likely each law of jitter is at each delay: for the oracle, which is told them.

use libm::lgamma;

use crate::link::Law;

/// log of a law's density, ready to be asked often. Constants that do not depend on the delay are left out.
#[derive(Debug, Clone)]
pub(crate) enum Density {
    /// Nothing is ever added.
    Point,
    Exponential {
        mean: f64,
    },
    Normal {
        mean: f64,
        sd: f64,
    },
    LogNormal {
        log_median: f64,
        sigma: f64,
    },
    Gamma {
        shape: f64,
        scale: f64,
    },
    /// Of a product of exponentials, over the logarithm of the delay.
    Table {
        scale: f64,
        logs: Vec<f64>,
    },
}

/// The table's range in natural logarithms of delay over scale, and its step.
const TABLE_FROM: f64 = -25.0;
const TABLE_STEP: f64 = 0.1;
const TABLE_LENGTH: u16 = 320;
/// What cannot be.
const NEVER: f64 = -1e9;

impl Density {
    pub(crate) fn of(law: Law) -> Self {
        match law {
            Law::None => Self::Point,
            Law::Exponential { mean } => Self::Exponential { mean },
            Law::Normal { mean, sd } => Self::Normal { mean, sd },
            Law::LogNormal { median, sigma } => Self::LogNormal { log_median: libm::log(median), sigma },
            Law::Gamma { shape, mean } => Self::Gamma { shape, scale: mean / shape },
            Law::Heavy { scale, factors, .. } => Self::Table { scale, logs: product(factors) },
        }
    }

    /// log density at `excess`, up to a constant.
    pub(crate) fn log(&self, excess: f64) -> f64 {
        if excess < 0.0 {
            return NEVER;
        }
        let log = libm::log(excess.max(1e-12));
        match self {
            Self::Point => 0.0,
            Self::Exponential { mean } => -excess / mean,
            Self::Normal { mean, sd } => -0.5 * ((excess - mean) / sd).powi(2),
            Self::LogNormal { log_median, sigma } => -0.5 * ((log - log_median) / sigma).powi(2) - log,
            Self::Gamma { shape, scale } => (shape - 1.0) * log - excess / scale - lgamma(*shape),
            Self::Table { scale, logs } => between(logs, (log - libm::log(*scale) - TABLE_FROM) / TABLE_STEP),
        }
    }
}

/// log densities of the product of `factors` unit exponentials: p(x) = ∫ p'(x/y) exp(−y)/y dy, y = exp(v).
fn product(factors: u8) -> Vec<f64> {
    let point = |index: u16| TABLE_FROM + TABLE_STEP * f64::from(index);
    let mut logs: Vec<f64> = (0..TABLE_LENGTH).map(|index| -libm::exp(point(index))).collect();
    for _ in 1..factors {
        let more = |index: u16| {
            let terms = (0..TABLE_LENGTH).map(|other| {
                let v = point(other) / 2.0;
                let rest = between(&logs, (point(index) - v - TABLE_FROM) / TABLE_STEP);
                libm::exp(rest - libm::exp(v))
            });
            libm::log((terms.sum::<f64>() * TABLE_STEP / 2.0).max(f64::MIN_POSITIVE))
        };
        logs = (0..TABLE_LENGTH).map(more).collect();
    }
    logs
}

/// The table at a place between two entries; its ends are continued.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped into the table first")]
fn between(logs: &[f64], place: f64) -> f64 {
    let place = place.clamp(0.0, f64::from(TABLE_LENGTH) - 1.001);
    let (index, part) = (place as usize, place.fract());
    match logs.get(index..index + 2) {
        Some([low, high]) => low + (high - low) * part,
        _ => NEVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_exponentials_multiply_to_a_bessel_function() {
        // 2 K0(2) = 0.2278, 2 K0(4) = 0.02232: the density of the product of two unit exponentials at 1 and at 4.
        let density = Density::of(Law::Heavy { scale: 1.0, factors: 2, cap: 1e9 });
        let at = |x: f64| libm::exp(density.log(x));
        assert!((at(1.0) - 0.2278).abs() < 3e-3, "{}", at(1.0));
        assert!((at(4.0) - 0.02232).abs() < 1e-3, "{}", at(4.0));
    }

    #[test]
    fn nothing_is_faster_than_the_floor() {
        for law in [Law::Exponential { mean: 1.0 }, Law::Gamma { shape: 2.0, mean: 1.0 }] {
            assert!(Density::of(law).log(-1e-9) < -1e6);
        }
    }
}
