//! The kernel's clock for the tools: its parameters field by field, and one step.

use driftless_core::clock::{ClockCommand, ClockError};
use driftless_core::time::Span;
pub use driftless_linux::clock::is_observing;
pub use driftless_linux::timex::{Change, STA_NANO, STATUS_WORDS, Timex, read, set, user_hz};

/// Moves the wall clock by `by`, unless `DRIFTLESS_OBSERVE=1`.
///
/// # Errors
/// [`ClockError::Permission`] where the environment or the system forbids it; what else the system says.
pub fn step(by: Span) -> Result<(), ClockError> {
    driftless_linux::clock::clock(false).apply(ClockCommand::Step(by)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_is_made_where_the_environment_forbids_it() {
        // As everything that cargo starts, tests run with DRIFTLESS_OBSERVE=1.
        assert_eq!(step(Span::ZERO), Err(ClockError::Permission));
    }
}
