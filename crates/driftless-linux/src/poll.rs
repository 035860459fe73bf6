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
    let fds: Vec<_> = fds.iter().map(|fd| (*fd, Direction::In)).collect();
    wait_for(&fds, timeout)
}

/// What is waited for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Something to read, or somebody to accept.
    In,
    /// Room to write, or a connection made.
    Out,
}

/// As [`wait`], where some of the descriptors are to be written to.
///
/// # Errors
/// As [`wait`].
pub fn wait_for(fds: &[(BorrowedFd<'_>, Direction)], timeout: Option<Span>) -> io::Result<Vec<bool>> {
    let mut set: Vec<_> = fds.iter().map(|(fd, direction)| entry(*fd, *direction)).collect();
    sys::poll(&mut set, timeout.map_or(-1, millis))?;
    Ok(set.iter().map(|entry| entry.revents != 0).collect())
}

/// Whether `fd` hangs up or fails at once: a device whose driver cannot tell of changes does.
#[must_use]
pub fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut set = [entry(fd, Direction::In)];
    let failed = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    sys::poll(&mut set, 0).is_err() || set.iter().any(|entry| entry.revents & failed != 0)
}

/// Waits until `fd` is writable, which a connection in the making is once it is decided, at most `timeout`.
#[must_use]
pub fn is_writable(fd: BorrowedFd<'_>, timeout: Span) -> bool {
    let mut set = [entry(fd, Direction::Out)];
    let ready = sys::poll(&mut set, millis(timeout));
    ready.is_ok() && set.iter().any(|entry| entry.revents & libc::POLLOUT != 0)
}

fn entry(fd: BorrowedFd<'_>, direction: Direction) -> libc::pollfd {
    let events = if direction == Direction::In { libc::POLLIN } else { libc::POLLOUT };
    libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
}

/// Rounded up, as a timeout.
pub(crate) fn millis(span: Span) -> i32 {
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
