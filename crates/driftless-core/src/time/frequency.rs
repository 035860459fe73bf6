//! Relative rates.

use serde::{Deserialize, Serialize};

/// A relative rate in seconds a second, printed as ppm.
///
/// Sign: positive means *faster than what it is measured against*. The frequency that corrects a clock is the reference's
/// rate against the uncorrected counter: a counter that runs 676 ppm fast is corrected by about −676 ppm.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frequency(pub f64);

impl Frequency {
    /// The same rate.
    pub const ZERO: Self = Self(0.0);

    /// From parts per million.
    #[must_use]
    pub const fn from_ppm(ppm: f64) -> Self {
        Self(ppm * 1e-6)
    }

    /// In parts per million.
    #[must_use]
    pub const fn ppm(self) -> f64 {
        self.0 * 1e6
    }

    /// From the kernel's unit of 2^-16 ppm (`struct timex`, field `freq`).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the kernel keeps it within ±2^25")]
    pub const fn from_scaled_ppm(scaled: i64) -> Self {
        Self::from_ppm(scaled as f64 / 65_536.0)
    }

    /// In the kernel's unit of 2^-16 ppm, rounded to nearest; saturates.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is promised")]
    pub fn scaled_ppm(self) -> i64 {
        (self.ppm() * 65_536.0).round() as i64
    }

    /// The magnitude.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.abs())
    }

    /// Within ±`limit`.
    #[must_use]
    pub fn clamp_to(self, limit: Self) -> Self {
        Self(self.0.clamp(-limit.0, limit.0))
    }
}

impl core::ops::Add for Frequency {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl core::ops::Sub for Frequency {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl core::ops::Neg for Frequency {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl core::fmt::Display for Frequency {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:+.3} ppm", self.ppm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_unit_goes_both_ways() {
        assert_eq!(Frequency::from_ppm(500.0).scaled_ppm(), 32_768_000);
        assert_eq!(Frequency::from_scaled_ppm(-65_536).scaled_ppm(), -65_536);
    }
}
