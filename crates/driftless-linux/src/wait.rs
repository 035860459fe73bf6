//! Waiting for many descriptors: `epoll(7)`, which hundreds of streams need, or `poll(2)` where only that is to be used.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use driftless_core::time::Span;

use crate::{poll, sys};

/// Descriptors that are waited for, each with a number of its owner's.
#[derive(Debug)]
pub struct Waiter(Way);

enum Way {
    Epoll(OwnedFd, Vec<libc::epoll_event>),
    Poll(Vec<(RawFd, u64)>),
}

/// Descriptors told of at once; the others have their turn next.
const EVENTS: usize = 64;

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Epoll(fd, _) => write!(f, "Epoll({fd:?})"),
            Self::Poll(list) => write!(f, "Poll({list:?})"),
        }
    }
}

impl Waiter {
    /// With nothing to wait for yet. `is_plain` wants `poll`; so it is where there is no epoll.
    #[must_use]
    pub fn new(is_plain: bool) -> Self {
        match sys::epoll() {
            Ok(fd) if !is_plain => {
                Self(Way::Epoll(fd, vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS]))
            }
            _ => Self(Way::Poll(Vec::new())),
        }
    }

    /// Waits for `fd`, too: to be readable or in error.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        match &mut self.0 {
            Way::Epoll(epoll, _) => sys::epoll_control(epoll.as_fd(), libc::EPOLL_CTL_ADD, fd, token),
            Way::Poll(list) => {
                list.push((fd.as_raw_fd(), token));
                Ok(())
            }
        }
    }

    /// Waits for `fd` no more; to be called before it is closed.
    pub fn remove(&mut self, fd: BorrowedFd<'_>) {
        match &mut self.0 {
            // One that was never added is not waited for, either.
            Way::Epoll(epoll, _) => drop(sys::epoll_control(epoll.as_fd(), libc::EPOLL_CTL_DEL, fd, 0)),
            Way::Poll(list) => list.retain(|(known, _)| *known != fd.as_raw_fd()),
        }
    }

    /// Waits until one is ready, at most `timeout` (None is for ever), and puts the numbers of those that are in place of what `ready` holds.
    ///
    /// # Errors
    /// `Interrupted` where a signal came; otherwise what the system says.
    pub fn wait(&mut self, timeout: Option<Span>, ready: &mut Vec<u64>) -> io::Result<()> {
        ready.clear();
        let millis = timeout.map_or(-1, poll::millis);
        match &mut self.0 {
            Way::Epoll(epoll, events) => {
                let count = sys::epoll_wait(epoll.as_fd(), events, millis)?;
                ready.extend(events.iter().take(count).map(|event| event.u64));
            }
            Way::Poll(list) => {
                let entry =
                    |(fd, _): &(RawFd, u64)| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 };
                let mut set: Vec<_> = list.iter().map(entry).collect();
                sys::poll(&mut set, millis)?;
                let is_ready = |entry: &libc::pollfd| entry.revents != 0;
                ready.extend(
                    list.iter().zip(&set).filter(|(_, entry)| is_ready(entry)).map(|((_, token), _)| token),
                );
            }
        }
        Ok(())
    }
}

/// Raises this process's limit of descriptors to what it may have: how many these are.
///
/// # Errors
/// What the system says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    sys::raise_descriptor_limit()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn those_that_are_ready_are_told_by_their_numbers_either_way() {
        for is_plain in [false, true] {
            let mut waiter = Waiter::new(is_plain);
            let pairs: Vec<_> = (0..300).map(|_| UnixStream::pair().unwrap()).collect();
            for (token, (reading, _)) in (1_000..).zip(&pairs) {
                waiter.add(reading.as_fd(), token).unwrap();
            }
            let mut ready = vec![7];
            waiter.wait(Some(Span::ZERO), &mut ready).unwrap();
            assert!(ready.is_empty());
            for index in [5, 250] {
                (&pairs[index].1).write_all(b"!").unwrap();
            }
            waiter.wait(None, &mut ready).unwrap();
            ready.sort_unstable();
            assert_eq!(ready, [1_005, 1_250]);
            waiter.remove(pairs[5].0.as_fd());
            waiter.wait(None, &mut ready).unwrap();
            assert_eq!(ready, [1_250]);
        }
    }
}
