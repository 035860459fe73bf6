//! Instants, spans and rates, each with its timescale in its type.
//!
//! Instants are whole nanoseconds, as every kernel interface that we use gives and takes them. Differences that enter an
//! estimate are [`Seconds`]; the wire's 32.32 exists in [`crate::wire`] alone. Subtracting two timescales does not compile:
//!
//! ```compile_fail
//! use driftless_core::time::{RawTime, WallTime};
//! let _ = WallTime::from_nanos(1) - RawTime::from_nanos(1);
//! ```

pub mod civil;
mod frequency;
mod seconds;

use serde::{Deserialize, Serialize};

pub use frequency::Frequency;
pub use seconds::Seconds;

/// Nanoseconds on `CLOCK_MONOTONIC_RAW`: the counter as the kernel mis-measures it, which no correction disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RawTime(i64);

/// Nanoseconds since 1970 in UTC as the kernel counts it (`CLOCK_REALTIME`, or a reference's idea of the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WallTime(i64);

/// A signed length of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span(i64);

/// One look at both local clocks, taken as tightly as the kernel allows: the `now` of every call into the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// The uncorrected counter.
    pub raw: RawTime,
    /// The clock that programs see.
    pub wall: WallTime,
}

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;

macro_rules! instant {
    ($name:ident) => {
        impl $name {
            /// The instant `nanos` ns after its timescale's zero.
            #[must_use]
            pub const fn from_nanos(nanos: i64) -> Self {
                Self(nanos)
            }

            /// ns since its timescale's zero.
            #[must_use]
            pub const fn as_nanos(self) -> i64 {
                self.0
            }

            /// From whole seconds and nanoseconds, as in a `timespec`; saturates.
            #[must_use]
            pub const fn from_parts(seconds: i64, nanos: i64) -> Self {
                Self(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos))
            }
        }

        impl core::ops::Sub for $name {
            type Output = Span;

            fn sub(self, earlier: Self) -> Span {
                Span(self.0.saturating_sub(earlier.0))
            }
        }

        impl core::ops::Add<Span> for $name {
            type Output = Self;

            fn add(self, span: Span) -> Self {
                Self(self.0.saturating_add(span.0))
            }
        }

        impl core::ops::Sub<Span> for $name {
            type Output = Self;

            fn sub(self, span: Span) -> Self {
                Self(self.0.saturating_sub(span.0))
            }
        }
    };
}

instant!(RawTime);
instant!(WallTime);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `nanos` ns.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A span of `micros` µs; saturates.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// A span of `millis` ms; saturates.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A span of whole seconds; saturates.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// The span's length in ns.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The magnitude; saturates.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Half of the span, rounded towards zero.
    #[must_use]
    pub const fn half(self) -> Self {
        Self(self.0 / 2)
    }
}

impl core::ops::Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl core::ops::Sub for Span {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl core::ops::Neg for Span {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl core::fmt::Display for Span {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        Seconds::from(*self).fmt(f)
    }
}
