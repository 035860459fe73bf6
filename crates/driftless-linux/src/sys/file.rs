//! Descriptors: opening, reading, waiting, ioctls.

use std::ffi::CStr;
use std::io::{Error, Result};
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::check;
use crate::ioctl::Request;

/// `poll(2)`: how many are ready.
pub(crate) fn poll(set: &mut [libc::pollfd], timeout_ms: i32) -> Result<usize> {
    let count = libc::nfds_t::try_from(set.len()).map_err(Error::other)?;
    // SAFETY: pointer and count describe the exclusively borrowed slice.
    let ready = unsafe { libc::poll(set.as_mut_ptr(), count, timeout_ms) };
    usize::try_from(ready).map_err(|_| Error::last_os_error())
}

/// `fcntl(2)` with an integer argument.
pub(crate) fn fcntl(fd: BorrowedFd<'_>, command: i32, argument: i32) -> Result<i32> {
    // SAFETY: used only with F_SETFL and F_SETFD, which take an int.
    let code = unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(code) }
}

/// `pipe2(2)`, non-blocking and closed on exec: the reading end and the writing end.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the kernel just made it, nobody else owns it.
    let reading = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let writing = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((reading, writing))
}

/// The descriptor's number.
pub(crate) fn raw(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}

/// `read(2)`.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer lives over the call and is as long as said.
    let count = unsafe { libc::read(raw(fd), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// `write(2)` of one byte from a signal handler; what it says does not matter, a full pipe wakes as well.
pub(crate) fn write_byte(fd: i32) {
    // SAFETY: one byte of a static is read; a bad descriptor is an error and no more.
    unsafe { libc::write(fd, b"!".as_ptr().cast(), 1) };
}

/// `open(2)`, closed on exec. Not std's, which calls `open64`: a preloaded simulator stands in for `open`.
pub(crate) fn open(path: &CStr, flags: i32) -> Result<OwnedFd> {
    // SAFETY: `path` ends in a zero byte; no mode is needed, as nothing is created.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `inotify_init1(2)`, non-blocking and closed on exec.
pub(crate) fn inotify() -> Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
    // SAFETY: the kernel just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `inotify_add_watch(2)`: the watch's number.
pub(crate) fn inotify_add(fd: BorrowedFd<'_>, path: &CStr, events: u32) -> Result<i32> {
    // SAFETY: `path` ends in a zero byte and lives over the call.
    check(unsafe { libc::inotify_add_watch(raw(fd), path.as_ptr(), events) })
}

/// `pread(2)`.
pub(crate) fn pread(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: libc::off_t) -> Result<usize> {
    // SAFETY: the buffer lives over the call and is as long as said.
    let count = unsafe { libc::pread(raw(fd), buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// `lseek(2)` to the end.
pub(crate) fn seek_to_end(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: no pointers are passed.
    if unsafe { libc::lseek(raw(fd), 0, libc::SEEK_END) } < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// `ioctl(2)` with the structure that its number was made for.
pub(crate) fn ioctl<T>(fd: BorrowedFd<'_>, request: &Request<T>, argument: &mut T) -> Result<()> {
    // SAFETY: only the ioctl module makes requests, each bound to the structure that its driver reads or fills.
    check(unsafe { libc::ioctl(raw(fd), request.number(), &raw mut *argument) }).map(drop)
}

/// Empty structures for ioctls.
pub(crate) trait Empty: Sized {
    /// All zeroes.
    fn empty() -> Self {
        // SAFETY: implemented only for structures of integers, for which zero is a valid value.
        unsafe { zeroed() }
    }
}

impl Empty for libc::ptp_sys_offset_precise {}
impl Empty for libc::ptp_sys_offset_extended {}
impl Empty for libc::ptp_sys_offset {}
