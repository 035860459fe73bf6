//! Every noteworthy thing, typed. The daemon turns each into a log line, a metric and a message; the core stays silent.

use serde::Serialize;

use crate::clock::{ClockError, Leap, Rate};
use crate::disruption::{Interruption, Sign};
use crate::source::{LookError, SourceId};
use crate::time::{Frequency, Seconds, Span};

/// How loudly an event is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The operator must act.
    Error,
    /// Worse than it should be.
    Warning,
    /// A change of state.
    Notice,
    /// Each sample, each adjustment.
    Debug,
}

/// Why the clock was stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepReason {
    /// The first setting after the start.
    Start,
    /// A detected interruption of the guest.
    Interruption,
    /// Too far behind to slew.
    Behind,
    /// Somebody ordered it.
    Order,
    /// The host pushed its time, and no source answers.
    Push,
    /// The policy sets the clock at intervals.
    Interval,
}

/// Why a reply was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// Shorter than a header, a mode or version that is not spoken, or an extension field that does not parse.
    Malformed,
    /// Not from the address that was asked, or not an answer to what was asked.
    NotOurs,
    /// The server says that it is not synchronised (leap 3 or stratum 0 or above 15).
    Unsynchronised,
    /// Its time cannot be: transmit before receive, zero timestamps, a stratum or reference time that contradicts itself.
    Implausible,
    /// Its root distance is too large to be of use.
    TooDistant,
    /// It takes its time from us.
    Loop,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A name led to addresses.
    Resolved {
        /// Whose name.
        source: SourceId,
        /// How many addresses.
        addresses: usize,
    },
    /// A name led nowhere.
    ResolveFailed {
        /// Whose name.
        source: SourceId,
    },
    /// A source answers again, or for the first time.
    Reachable {
        /// Which source.
        source: SourceId,
    },
    /// A source missed its last eight polls, or its first four.
    Unreachable {
        /// Which source.
        source: SourceId,
    },
    /// A reply was not used.
    Rejected {
        /// Which source.
        source: SourceId,
        /// Why.
        reason: Rejection,
    },
    /// The server sent a kiss-o'-death (RFC 5905, section 7.4).
    Kissed {
        /// Which source.
        source: SourceId,
        /// Its four letters.
        code: [u8; 4],
    },
    /// A request could not be sent.
    SendFailed {
        /// Which source.
        source: SourceId,
        /// The errno.
        errno: i32,
    },
    /// A device gave no time.
    LookFailed {
        /// Which source.
        source: SourceId,
        /// Why.
        error: LookError,
    },
    /// A source gave a sample.
    Sampled {
        /// Which source.
        source: SourceId,
        /// Reference − local.
        offset: Seconds,
        /// Round trip.
        delay: Seconds,
    },
    /// A source's time jumped against the counter.
    Jumped {
        /// Which source.
        source: SourceId,
        /// New − old; positive: the local clocks stood still meanwhile.
        by: Seconds,
    },
    /// A source's path became longer or shorter, in one direction more than in the other: its offsets moved, no clock did.
    PathChanged {
        /// Which source.
        source: SourceId,
        /// What the path adds to each measured offset, more than before.
        by: Seconds,
    },
    /// A source's rate against the counter changed at once.
    RateChanged {
        /// Which source.
        source: SourceId,
        /// New − old.
        by: Frequency,
    },
    /// Another source is followed now.
    Selected {
        /// Which, or nobody.
        source: Option<SourceId>,
    },
    /// An RTC is all that answers.
    LastResort {
        /// Which RTC.
        source: SourceId,
        /// Whether it is known where its second begins.
        is_learnt: bool,
        /// What its time may be off by.
        bound: Seconds,
    },
    /// A source contradicts the majority.
    Falseticker {
        /// Which source.
        source: SourceId,
    },
    /// Where an RTC's second begins is known now, by comparison with a better source.
    EdgeLearnt {
        /// Which RTC.
        source: SourceId,
        /// RTC − truth.
        phase: Seconds,
        /// Its largest credible error.
        error: Seconds,
    },
    /// Where an RTC's second begins is not known any more.
    EdgeForgotten {
        /// Which RTC.
        source: SourceId,
        /// Somebody set it; else it is another one now.
        was_set: bool,
    },
    /// We may steer, and do.
    TookOver {
        /// The rate found.
        rate: Rate,
    },
    /// The clock was stepped.
    Stepped {
        /// Positive is forwards.
        by: Span,
        /// Why.
        reason: StepReason,
    },
    /// The policy forbids the step that would be needed.
    StepWithheld {
        /// Positive is forwards.
        by: Span,
    },
    /// The rate was set.
    RateSet {
        /// The rate in force.
        rate: Rate,
    },
    /// The clock refused a command.
    ClockRefused {
        /// Why.
        error: ClockError,
    },
    /// dntpd's method has begun to slide an offset away.
    SlideBegun {
        /// Positive is forwards.
        by: Seconds,
    },
    /// Somebody else changed tick or frequency.
    OtherWriter {
        /// What we had set.
        expected: Rate,
        /// What was found.
        found: Rate,
    },
    /// Something may mean an interruption: nothing is steered until a source was looked at.
    Suspected {
        /// What was noticed first.
        sign: Sign,
    },
    /// The guest was interrupted, or its clock was moved by others; the correction follows.
    Interrupted(Interruption),
    /// What was suspected was nothing.
    Unchanged,
    /// Somebody else moved the clock, or the kernel did when the guest woke from a sleep that it knew of.
    OtherStepped {
        /// Positive is forwards.
        by: Span,
    },
    /// The kernel inserted or deleted the announced leap second.
    Leapt {
        /// −1 s inserted, +1 s deleted.
        by: Span,
    },
    /// The state changed.
    StateChanged {
        /// The new state.
        state: crate::report::State,
    },
    /// The announced leap second changed.
    LeapChanged {
        /// What is announced now.
        leap: Leap,
    },
}

impl Event {
    /// How loudly to tell it.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::ClockRefused { .. } => Severity::Error,
            Self::ResolveFailed { .. }
            | Self::Unreachable { .. }
            | Self::Kissed { .. }
            | Self::Falseticker { .. }
            | Self::StepWithheld { .. }
            | Self::SendFailed { .. }
            | Self::Rejected { .. }
            | Self::LookFailed { .. }
            | Self::OtherWriter { .. }
            | Self::OtherStepped { .. } => Severity::Warning,
            Self::Suspected { .. }
            | Self::Unchanged
            | Self::Sampled { .. }
            | Self::RateSet { .. }
            | Self::Resolved { .. } => Severity::Debug,
            _ => Severity::Notice,
        }
    }
}
