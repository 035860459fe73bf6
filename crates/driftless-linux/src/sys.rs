//! The system calls, one function each: the only unsafe code in the project.
//!
//! Everything goes through libc's symbols, never raw system calls, so that a preloaded simulator can stand in for them.

use std::io::{Error, Result};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `clock_gettime(2)`.
pub(crate) fn clock_gettime(clock: libc::clockid_t) -> Result<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes for the length of the call.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(time) }
}

/// `clock_adjtime(2)` on the wall clock.
pub(crate) fn clock_adjtime(request: &mut libc::timex) -> Result<()> {
    // SAFETY: `request` is a valid, exclusively borrowed timex.
    let code = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, request) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// `clock_settime(2)` on the wall clock.
pub(crate) fn clock_settime(time: libc::timespec) -> Result<()> {
    // SAFETY: `time` is valid for reads for the length of the call.
    let code = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// A timex with nothing asked for.
pub(crate) fn empty_timex() -> libc::timex {
    // SAFETY: timex holds only integers, for which zero is a valid value.
    unsafe { zeroed() }
}

/// `sysconf(_SC_CLK_TCK)`: ticks a second as user space sees them.
pub(crate) fn user_hz() -> i64 {
    // SAFETY: no pointers are passed.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }
}

/// `poll(2)`: how many are ready.
pub(crate) fn poll(set: &mut [libc::pollfd], timeout_ms: i32) -> Result<usize> {
    let count = libc::nfds_t::try_from(set.len()).map_err(Error::other)?;
    // SAFETY: pointer and count describe the exclusively borrowed slice.
    let ready = unsafe { libc::poll(set.as_mut_ptr(), count, timeout_ms) };
    usize::try_from(ready).map_err(|_| Error::last_os_error())
}

/// `getrandom(2)`: how many bytes were filled.
pub(crate) fn getrandom(buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: pointer and length describe the exclusively borrowed slice.
    let count = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// `socket(2)`.
pub(crate) fn socket(family: i32, kind: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `fcntl(2)` with an integer argument.
pub(crate) fn fcntl(fd: BorrowedFd<'_>, command: i32, argument: i32) -> Result<i32> {
    // SAFETY: used only with F_SETFL and F_SETFD, which take an int.
    let code = unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(code) }
}
