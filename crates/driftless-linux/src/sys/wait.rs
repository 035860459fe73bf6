//! Waiting for hundreds of descriptors.

use std::io::{Error, Result};
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use super::{check, raw};

/// `epoll_create1(2)`, closed on exec.
pub(crate) fn epoll() -> Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `epoll_ctl(2)`.
pub(crate) fn epoll_control(
    epoll: BorrowedFd<'_>,
    operation: i32,
    fd: BorrowedFd<'_>,
    token: u64,
) -> Result<()> {
    let mut event = libc::epoll_event { events: u32::try_from(libc::EPOLLIN).unwrap_or(1), u64: token };
    // SAFETY: the event lives over the call; bad descriptors are an error and no more.
    check(unsafe { libc::epoll_ctl(raw(epoll), operation, raw(fd), &raw mut event) }).map(drop)
}

/// `epoll_wait(2)`: how many of `events` were filled.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    timeout_ms: i32,
) -> Result<usize> {
    let room = i32::try_from(events.len()).map_err(Error::other)?;
    // SAFETY: pointer and count describe the exclusively borrowed slice.
    let count = unsafe { libc::epoll_wait(raw(epoll), events.as_mut_ptr(), room, timeout_ms) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// `setrlimit(2)`: as many descriptors as we may have. How many these are.
pub(crate) fn raise_descriptor_limit() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is exclusively borrowed over the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` lives over the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}
