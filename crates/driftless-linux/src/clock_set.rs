//! A timer that the kernel cancels when somebody sets the wall clock (`TFD_TIMER_CANCEL_ON_SET`), and when the machine wakes from a sleep that it knew of.
//!
//! Our own steps cancel it as well: whoever steps takes the news afterwards and throws it away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys;

/// The armed timer: readable once the clock was set.
#[derive(Debug)]
pub struct ClockSet(OwnedFd);

impl ClockSet {
    /// Arms it.
    ///
    /// # Errors
    /// What the system says.
    pub fn arm() -> io::Result<Self> {
        // Never by itself: the kernel cuts it down to the end of its time, some 290 years from boot.
        let never = libc::timespec { tv_sec: libc::time_t::MAX, tv_nsec: 0 };
        sys::timer_cancelled_on_set(libc::CLOCK_REALTIME, never).map(Self)
    }

    /// Whether the clock was set since the last call; arms it again.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(&mut self) -> io::Result<bool> {
        let mut count = [0; 8];
        match sys::read(self.as_fd(), &mut count) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.raw_os_error() != Some(libc::ECANCELED) => Err(error),
            _ => {
                *self = Self::arm()?;
                Ok(true)
            }
        }
    }
}

impl AsFd for ClockSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll;
    use driftless_core::time::Span;

    #[test]
    fn a_clock_that_nobody_sets_wakes_nobody() {
        let mut timer = ClockSet::arm().unwrap();
        assert_eq!(poll::wait(&[timer.as_fd()], Some(Span::from_millis(20))).unwrap(), [false]);
        assert!(!timer.take().unwrap());
    }
}
