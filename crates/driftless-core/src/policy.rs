//! What users may decide: whom to believe, when to step, what to do about others who steer, and what to leave behind.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::{NANOS_PER_SECOND, Span};

/// When the clock may be stepped (design 7). In writing `auto`, `forward-only`, `never`, `always N` or `always N forward-only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StepPolicy {
    /// At start and after an interruption either way, above 1 s forwards; otherwise slewed.
    #[default]
    Auto,
    /// As `Auto`, but never backwards: a clock that is ahead is slowed down.
    ForwardOnly,
    /// Never: always slewed.
    Never,
    /// Set to the reference at intervals, never slewed and its rate left alone: what simple clients do.
    Always {
        /// Between two settings.
        every: Span,
        /// Whether a clock that is ahead is left so.
        forward_only: bool,
    },
}

/// Whom to believe where sources of different kinds disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The hypervisor's clock, then the host's server, then the network: host and guest agree, even where the host is wrong.
    #[default]
    Host,
    /// The best truth: all sources are compared, whatever their kind.
    Utc,
}

/// What to do about somebody else who steers this clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherWriter {
    /// Say so, and go on steering.
    #[default]
    TakeOver,
    /// Say so, and let the clock alone until nobody else was seen for ten minutes.
    Yield,
    /// Say so, and let the clock alone until the daemon is started again.
    Hold,
}

/// What is left in the kernel at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leave {
    /// The learnt frequency: the clock stays nearly right without us.
    #[default]
    Learnt,
    /// Tick and frequency as they were found.
    Restore,
}

/// How offset and frequency are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Intervals and scatter, under several wanders (docs/algorithm.md).
    #[default]
    Interval,
    /// dntpd's two staggered regressions with its gates.
    Dntpd,
}

/// A step policy that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no step policy; known are auto, forward-only, never, always SECONDS, always SECONDS forward-only"
)]
pub struct StepPolicyError(String);

/// Shortest and longest interval of [`StepPolicy::Always`], s.
const EVERY_S: core::ops::RangeInclusive<i64> = 1..=86_400;

impl FromStr for StepPolicy {
    type Err = StepPolicyError;

    fn from_str(text: &str) -> Result<Self, StepPolicyError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let always = |seconds: &str, forward_only| {
            let seconds = seconds.parse().ok().filter(|seconds| EVERY_S.contains(seconds));
            let every = Span::from_secs(seconds.ok_or_else(|| StepPolicyError(text.to_owned()))?);
            Ok(Self::Always { every, forward_only })
        };
        match words.as_slice() {
            ["auto"] => Ok(Self::Auto),
            ["forward-only"] => Ok(Self::ForwardOnly),
            ["never"] => Ok(Self::Never),
            ["always", seconds] => always(seconds, false),
            ["always", seconds, "forward-only"] => always(seconds, true),
            _ => Err(StepPolicyError(text.to_owned())),
        }
    }
}

impl fmt::Display for StepPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::ForwardOnly => f.write_str("forward-only"),
            Self::Never => f.write_str("never"),
            Self::Always { every, forward_only } => {
                let suffix = if *forward_only { " forward-only" } else { "" };
                write!(f, "always {}{suffix}", every.as_nanos() / NANOS_PER_SECOND)
            }
        }
    }
}

impl TryFrom<String> for StepPolicy {
    type Error = StepPolicyError;

    fn try_from(text: String) -> Result<Self, StepPolicyError> {
        text.parse()
    }
}

impl From<StepPolicy> for String {
    fn from(policy: StepPolicy) -> Self {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_policies_are_written_as_they_are_read() {
        for text in ["auto", "forward-only", "never", "always 30", "always 5 forward-only"] {
            assert_eq!(text.parse::<StepPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "sometimes", "always", "always 0", "always 5 backward-only"] {
            assert!(text.parse::<StepPolicy>().is_err(), "{text}");
        }
    }
}
