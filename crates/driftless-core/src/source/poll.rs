//! Poll intervals as the field writes them: log2 of seconds.

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// log2 of a poll interval in seconds, from −2 (250 ms) to 17 (36 h; RFC 5905, section 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PollExponent(i8);

impl PollExponent {
    /// 250 ms.
    pub const MIN: Self = Self(-2);
    /// 131 072 s, 36 hours.
    pub const MAX: Self = Self(17);

    /// The exponent nearest to `log2_s` that is allowed.
    #[must_use]
    pub const fn new(log2_s: i8) -> Self {
        match log2_s {
            i8::MIN..-2 => Self::MIN,
            18.. => Self::MAX,
            _ => Self(log2_s),
        }
    }

    /// log2 of seconds.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }

    /// The interval.
    #[must_use]
    pub const fn interval(self) -> Span {
        Span::from_millis(250 << (self.0 + 2))
    }

    /// Twice as long, within limits.
    #[must_use]
    pub const fn longer(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// Half as long, within limits.
    #[must_use]
    pub const fn shorter(self) -> Self {
        Self::new(self.0 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_powers_of_two_seconds() {
        assert_eq!(PollExponent::new(-2).interval(), Span::from_millis(250));
        assert_eq!(PollExponent::new(4).interval(), Span::from_secs(16));
        assert_eq!(PollExponent::new(17).interval(), Span::from_secs(131_072));
        assert_eq!(PollExponent::new(100), PollExponent::MAX);
    }
}
