//! One source's estimator, of whichever method was chosen.

use crate::policy::Method;
use crate::sample::Sample;
use crate::time::{Frequency, Now, Seconds, Span};

use super::dntpd::{Permits, Regressions, Settings};
use super::{Estimate, Estimator, Verdict};

/// One of the methods.
#[derive(Debug, Clone)]
pub(crate) enum Tracker {
    Interval(Box<Estimator>),
    Dntpd(Regressions),
}

/// Calls the same method of either.
macro_rules! either {
    ($tracker:expr, $inner:ident => $call:expr) => {
        match $tracker {
            Tracker::Interval($inner) => $call,
            Tracker::Dntpd($inner) => $call,
        }
    };
}

impl Tracker {
    pub(crate) fn new((method, dntpd): (Method, Settings), prior: Option<(Frequency, Frequency)>) -> Self {
        match method {
            Method::Interval => Self::Interval(Box::new(Estimator::new(prior))),
            Method::Dntpd => Self::Dntpd(Regressions::new(prior, dntpd)),
        }
    }

    pub(crate) fn add(&mut self, sample: &Sample) -> Verdict {
        either!(self, inner => inner.add(sample))
    }

    pub(crate) fn estimate(&self, now: Now) -> Option<Estimate> {
        either!(self, inner => inner.estimate(now))
    }

    pub(crate) fn predicted_error(&self, ahead: Span) -> Option<Seconds> {
        either!(self, inner => inner.predicted_error(ahead))
    }

    pub(crate) fn jitter(&self) -> Seconds {
        either!(self, inner => inner.jitter())
    }

    pub(crate) fn last(&self) -> Option<&Sample> {
        either!(self, inner => inner.last())
    }

    pub(crate) fn samples(&self) -> u64 {
        either!(self, inner => inner.samples())
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        either!(self, inner => inner.is_in_doubt())
    }

    /// Whether the doubt is about a jump that no rate explains.
    pub(crate) fn has_obviously_jumped(&self) -> bool {
        matches!(self, Self::Interval(estimator) if estimator.has_obviously_jumped())
    }

    pub(crate) fn forget_path(&mut self) {
        either!(self, inner => inner.forget_path());
    }

    pub(crate) fn absorb_jump(&mut self, by: Seconds, sd: Seconds) {
        match self {
            Self::Interval(estimator) => estimator.absorb_jump(by, sd),
            Self::Dntpd(regressions) => regressions.absorb_jump(by),
        }
    }

    /// The next look may show that time jumped: it alone decides.
    pub(crate) fn expect_jump(&mut self) {
        if let Self::Interval(estimator) = self {
            estimator.expect_jump();
        }
    }

    pub(crate) fn shift(&mut self, by: Seconds) {
        either!(self, inner => inner.shift(by));
    }

    /// A look stayed without an answer.
    pub(crate) fn unanswered(&mut self) {
        if let Self::Dntpd(regressions) = self {
            regressions.unanswered();
        }
    }

    /// Between two looks, where the method says so itself (contract D15).
    pub(crate) fn interval(&self) -> Option<Span> {
        match self {
            Self::Interval(_) => None,
            Self::Dntpd(regressions) => Some(regressions.poll()),
        }
    }

    /// What the method's gates let be done; `None` where it has none.
    pub(crate) fn permits(&self, now: Now) -> Option<Permits> {
        match self {
            Self::Interval(_) => None,
            Self::Dntpd(regressions) => Some(regressions.permits(now)),
        }
    }

    /// The regressions behind the gates.
    pub(crate) const fn regressions_mut(&mut self) -> Option<&mut Regressions> {
        match self {
            Self::Interval(_) => None,
            Self::Dntpd(regressions) => Some(regressions),
        }
    }
}
