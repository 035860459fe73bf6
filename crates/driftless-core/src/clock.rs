//! The clock that is steered: the kernel's, a simulated one, or nobody's in observe mode.

use serde::{Deserialize, Serialize};

use crate::time::{Frequency, Now, Seconds, Span};

/// The rate of the clock: how fast wall time runs against the uncorrected counter.
///
/// The kernel adds the two: wall/raw − 1 = (tick − 10 000) × 100 ppm + frequency (`kernel/time/ntp.c`, at `USER_HZ` 100).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Microseconds added at each of 100 ticks a second: 9 000 to 11 000, nominally 10 000. One more is +100 ppm.
    pub tick: i32,
    /// The fine part, within ±500 ppm: beyond it the kernel clamps without a word.
    pub frequency: Frequency,
}

/// The leap second that is announced for the end of the current UTC day or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leap {
    /// None.
    #[default]
    None,
    /// A minute of 61 seconds: one is inserted.
    Insert,
    /// A minute of 59 seconds: one is deleted.
    Delete,
    /// The clock is not synchronised, so nothing can be said.
    Unknown,
}

/// What the kernel is told about the quality of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Clears or sets `STA_UNSYNC`.
    pub synchronised: bool,
    /// Sets `STA_INS` or `STA_DEL`.
    pub leap: Leap,
    /// Upper bound of the offset's magnitude; the kernel itself adds 500 µs a second to it.
    pub max_error: Seconds,
    /// Expected error (standard deviation).
    pub est_error: Seconds,
    /// TAI − UTC in seconds, where a source knows it.
    pub tai: Option<i32>,
}

/// What is asked of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ClockCommand {
    /// Only look.
    Read,
    /// Find out whether we may steer, cancel a pending `adjtime` and the kernel's PLL offset, leave the rate alone.
    TakeOver,
    /// Set tick and frequency in one call.
    SetRate(Rate),
    /// Move the clock by so much at once: positive is forwards.
    Step(Span),
    /// Tell the kernel how good its clock is.
    SetStatus(Status),
}

/// The clock's parameters as read back after a command.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockState {
    /// Tick and frequency in force.
    pub rate: Rate,
    /// Whether the kernel holds its clock to be synchronised (not `STA_UNSYNC`).
    pub synchronised: bool,
    /// Maximum error as the kernel has it now.
    pub max_error: Seconds,
    /// Estimated error as the kernel has it now.
    pub est_error: Seconds,
    /// TAI − UTC in seconds; 0 where nobody set it.
    pub tai: i32,
    /// What an `adjtime` or the kernel's PLL still has to add; positive is forwards.
    pub pending: Span,
}

/// Why the clock refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ClockError {
    /// `EPERM`: the process lacks `CAP_SYS_TIME`, or a sandbox forbids the call.
    #[error("not permitted to set the clock (CAP_SYS_TIME is missing)")]
    Permission,
    /// `EOPNOTSUPP`, `ENOSYS`: this clock cannot do that.
    #[error("this clock does not support the operation")]
    Unsupported,
    /// `ENODEV`, `ENOENT`: there is no such clock.
    #[error("there is no such clock")]
    NoDevice,
    /// `EINVAL`: the kernel finds the value out of range.
    #[error("the kernel refused the value as out of range")]
    Invalid,
    /// Any other errno.
    #[error("the kernel answered with errno {0}")]
    Other(i32),
}

/// A clock that can be read and steered. Implemented by the kernel's clock and by the simulator's.
pub trait Clock {
    /// Both clocks, read as one.
    fn now(&mut self) -> Now;

    /// Carries out a command and reads back what is then in force.
    ///
    /// # Errors
    /// What the kernel says, as [`ClockError`]. After an error nothing has changed.
    fn apply(&mut self, command: ClockCommand) -> Result<ClockState, ClockError>;
}

impl Rate {
    /// The kernel's nominal tick in µs at `USER_HZ` 100.
    pub const NOMINAL_TICK: i32 = 10_000;
    /// The smallest tick that the kernel takes.
    pub const TICK_MIN: i32 = 9_000;
    /// The largest tick that the kernel takes.
    pub const TICK_MAX: i32 = 11_000;
    /// What one tick more adds to the rate.
    pub const TICK_STEP: Frequency = Frequency(100e-6);
    /// The limit of the fine part.
    pub const FREQUENCY_MAX: Frequency = Frequency(500e-6);
    /// Neither faster nor slower than the counter.
    pub const NOMINAL: Self = Self { tick: Self::NOMINAL_TICK, frequency: Frequency::ZERO };

    /// The whole rate: wall against raw, minus one.
    #[must_use]
    pub fn total(self) -> Frequency {
        Frequency(f64::from(self.tick - Self::NOMINAL_TICK) * Self::TICK_STEP.0 + self.frequency.0)
    }
}
