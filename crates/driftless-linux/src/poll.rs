//! Waiting for a few descriptors with `poll(2)`, the one wait that a preloaded simulator of time knows well.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use driftless_core::time::Span;

use crate::sys;

/// Waits until one of `fds` is readable or in error, at most `timeout` (rounded up to 1 ms; None is for ever).
///
/// # Errors
/// `Interrupted` where a signal came; otherwise what `poll(2)` says.
pub fn wait(fds: &[BorrowedFd<'_>], timeout: Option<Span>) -> io::Result<Vec<bool>> {
    let mut set: Vec<_> =
        fds.iter().map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    sys::poll(&mut set, timeout.map_or(-1, millis))?;
    Ok(set.iter().map(|entry| entry.revents != 0).collect())
}

/// Whether `fd` hangs up or fails at once: a device whose driver cannot tell of changes does.
#[must_use]
pub fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut set = [libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    let failed = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    sys::poll(&mut set, 0).is_err() || set.iter().any(|entry| entry.revents & failed != 0)
}

fn millis(span: Span) -> i32 {
    let nanos = span.as_nanos().max(0);
    i32::try_from(nanos / 1_000_000 + i64::from(nanos % 1_000_000 != 0)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up() {
        assert_eq!(millis(Span::from_nanos(1)), 1);
        assert_eq!(millis(Span::from_nanos(-5)), 0);
        assert_eq!(millis(Span::from_millis(7)), 7);
    }
}
