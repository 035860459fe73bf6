//! NTP's two fixed-point formats (RFC 5905, section 6).

use crate::time::{NANOS_PER_SECOND, Seconds, Span, WallTime};

/// Seconds since 1900 modulo 2^32 (the era is not on the wire) and a fraction of 2^-32 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NtpTimestamp(pub u64);

/// An unsigned length of time: 16 bits of seconds, 16 of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NtpShort(pub u32);

/// From 1900 to 1970: 70 years with 17 leap days (RFC 5905, figure 4).
const UNIX_EPOCH_S: i64 = 2_208_988_800;
/// One era in seconds: 136 years.
const ERA_S: i64 = 1 << 32;

impl NtpTimestamp {
    /// "Not known" (RFC 5905, section 6).
    pub const ZERO: Self = Self(0);

    /// The stamp of `time`, in whichever era it lies.
    #[must_use]
    pub fn from_wall(time: WallTime) -> Self {
        let seconds = time.as_nanos().div_euclid(NANOS_PER_SECOND) + UNIX_EPOCH_S;
        let nanos = time.as_nanos().rem_euclid(NANOS_PER_SECOND).unsigned_abs();
        // Rounded up, so that `resolve`, which rounds to nearest, gives the same nanosecond back.
        let fraction = ((nanos << 32).div_ceil(NANOS_PER_SECOND.unsigned_abs())).min(u64::from(u32::MAX));
        let seconds_in_era = seconds.rem_euclid(ERA_S).unsigned_abs();
        Self(seconds_in_era << 32 | fraction)
    }

    /// The instant nearest to `near` that has this stamp: here the era is decided.
    #[must_use]
    pub fn resolve(self, near: WallTime) -> WallTime {
        let seconds = i64::from(self.seconds_in_era()) - UNIX_EPOCH_S;
        let nanos = (u64::from(self.fraction()) * NANOS_PER_SECOND.unsigned_abs() + (1 << 31)) >> 32;
        let near_s = near.as_nanos().div_euclid(NANOS_PER_SECOND);
        let eras = (near_s - seconds + ERA_S / 2).div_euclid(ERA_S);
        let nanos = i64::try_from(nanos).unwrap_or(NANOS_PER_SECOND);
        WallTime::from_parts(seconds + eras * ERA_S, nanos)
    }

    /// Whether it says "not known".
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    const fn seconds_in_era(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    const fn fraction(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

impl NtpShort {
    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> Seconds {
        Seconds(f64::from(self.0) / 65_536.0)
    }

    /// Rounded up, so that a bound stays a bound; saturates at 18 hours, and below zero at zero.
    #[must_use]
    pub fn from_seconds(seconds: Seconds) -> Self {
        let units = Span::from_nanos(seconds.to_span().as_nanos().max(0)).as_nanos();
        let rounded =
            (i128::from(units) * 65_536 + i128::from(NANOS_PER_SECOND) - 1) / i128::from(NANOS_PER_SECOND);
        Self(u32::try_from(rounded).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_epoch_of_1970_has_the_documented_stamp() {
        assert_eq!(NtpTimestamp::from_wall(WallTime::from_nanos(0)), NtpTimestamp(2_208_988_800 << 32));
    }

    #[test]
    fn era_one_is_found_from_either_side_of_2036() {
        let after = WallTime::from_parts(2_085_978_496 + 5, 0);
        assert_eq!(NtpTimestamp::from_wall(after), NtpTimestamp(5 << 32));
        let before = WallTime::from_parts(2_085_978_496 - 100, 0);
        assert_eq!(NtpTimestamp(5 << 32).resolve(before), after);
        assert_eq!(NtpTimestamp::from_wall(before).resolve(after), before);
    }

    proptest! {
        #[test]
        fn every_nanosecond_survives_the_wire(nanos in -2_000_000_000_000_000_000..6_000_000_000_000_000_000_i64, off in -60_i64..60) {
            let time = WallTime::from_nanos(nanos);
            let near = time + Span::from_secs(off * 365 * 86_400);
            prop_assert_eq!(NtpTimestamp::from_wall(time).resolve(near), time);
        }

        #[test]
        fn a_bound_is_never_rounded_down(seconds in 0.0..60_000.0_f64) {
            prop_assert!(NtpShort::from_seconds(Seconds(seconds)).seconds().0 >= seconds - 1e-9);
        }
    }
}
