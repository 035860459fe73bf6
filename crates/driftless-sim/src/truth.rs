//! True time: what no clock in the world shows, and every result is measured against.

use driftless_core::time::{Span, WallTime};

/// Nanoseconds of true time since the world began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TrueTime(i64);

/// When the world begins, ns since 1970: 2023-11-14 22:13:20 UTC.
const BEGINNING: WallTime = WallTime::from_nanos(1_700_000_000_000_000_000);

impl TrueTime {
    /// The world's first instant.
    pub const ZERO: Self = Self(0);
    /// After everything.
    pub const NEVER: Self = Self(i64::MAX);

    /// `nanos` ns after the beginning.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// `seconds` after the beginning, to the nearest ns; saturates.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Self {
        Self(driftless_core::time::Seconds(seconds).to_span().as_nanos())
    }

    /// ns since the beginning.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the beginning, for people and pictures.
    #[must_use]
    pub fn seconds(self) -> f64 {
        driftless_core::time::Seconds::from(Span::from_nanos(self.0)).0
    }

    /// What a perfect clock shows.
    #[must_use]
    pub fn wall(self) -> WallTime {
        BEGINNING + Span::from_nanos(self.0)
    }
}

impl core::ops::Sub for TrueTime {
    type Output = Span;

    fn sub(self, earlier: Self) -> Span {
        Span::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Span> for TrueTime {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.as_nanos()))
    }
}
