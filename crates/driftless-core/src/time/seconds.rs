//! Differences of time that enter an estimate.

use serde::{Deserialize, Serialize};

use super::Span;

/// A difference of two times in seconds, as a float: for offsets, delays and their deviations, never for instants.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub f64);

impl Seconds {
    /// No difference.
    pub const ZERO: Self = Self(0.0);

    /// The magnitude.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.abs())
    }

    /// The larger of two.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// The smaller of two.
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// To whole nanoseconds, rounded to nearest; beyond ±292 years it saturates, and NaN becomes zero.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is promised")]
    pub fn to_span(self) -> Span {
        Span::from_nanos((self.0 * 1e9).round() as i64)
    }

    /// Whether it is neither infinite nor NaN.
    #[must_use]
    pub const fn is_finite(self) -> bool {
        self.0.is_finite()
    }
}

impl From<Span> for Seconds {
    #[expect(
        clippy::cast_precision_loss,
        reason = "spans that enter an estimate are far below 2^53 ns = 104 days"
    )]
    fn from(span: Span) -> Self {
        Self(span.as_nanos() as f64 * 1e-9)
    }
}

impl core::ops::Add for Seconds {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl core::ops::Sub for Seconds {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl core::ops::Neg for Seconds {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl core::ops::Mul<f64> for Seconds {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self(self.0 * factor)
    }
}

impl core::fmt::Display for Seconds {
    /// In the unit that a person would choose: `+1.25 s`, `-340.2 ms`, `+12.3 µs`, `+80 ns`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let magnitude = self.0.abs();
        let (factor, unit, decimals) = match magnitude {
            m if m >= 1.0 => (1.0, "s", 3),
            m if m >= 1e-3 => (1e3, "ms", 3),
            m if m >= 1e-6 => (1e6, "µs", 1),
            _ => (1e9, "ns", 0),
        };
        write!(f, "{:+.*} {unit}", decimals, self.0 * factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_goes_to_seconds_and_back() {
        for nanos in [0, 1, -1, 999_999_999, -120_000_000_000] {
            let span = Span::from_nanos(nanos);
            assert_eq!(Seconds::from(span).to_span(), span);
        }
    }

    #[test]
    fn nonsense_saturates_instead_of_panicking() {
        assert_eq!(Seconds(f64::NAN).to_span(), Span::ZERO);
        assert_eq!(Seconds(f64::INFINITY).to_span(), Span::from_nanos(i64::MAX));
    }

    #[test]
    fn prints_in_the_unit_that_fits() {
        let printed: Vec<String> =
            [1.25, -0.3402, 12.3e-6, 80e-9].iter().map(|s| Seconds(*s).to_string()).collect();
        assert_eq!(printed, ["+1.250 s", "-340.200 ms", "+12.3 µs", "+80 ns"]);
    }
}
