//! Mapped memory.

use std::io::{Error, Result};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI64, AtomicU64};

use super::raw;

/// `mmap(2)` of a file's first `words` 64-bit words, shared, for reading and writing.
pub(crate) fn map_shared(fd: BorrowedFd<'_>, words: usize) -> Result<&'static [AtomicI64]> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice; nothing of ours is replaced.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), words * 8, protection, libc::MAP_SHARED, raw(fd), 0) };
    if address == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    // SAFETY: the mapping is page-aligned, `words` long, never unmapped, and every access to it is atomic.
    Ok(unsafe { std::slice::from_raw_parts(address.cast::<AtomicI64>(), words) })
}

/// A page of a device, mapped for reading only as long as this lives.
#[derive(Debug)]
pub(crate) struct Page {
    start: *mut libc::c_void,
    length: usize,
}

impl Page {
    /// `mmap(2)` of a file's first page.
    pub(crate) fn map(fd: BorrowedFd<'_>) -> Result<Self> {
        // SAFETY: no pointers are passed.
        let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(Error::other)?;
        // SAFETY: a new mapping at a place of the kernel's choice; nothing of ours is replaced.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, raw(fd), 0)
        };
        if start == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(Self { start, length }) }
    }

    /// Its 64-bit words. Somebody else writes them, so only atomic loads make sense.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: page-aligned, mapped for as long as `self` lives, and never written through this.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length / size_of::<AtomicU64>()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; no borrow of it outlives `self`.
        unsafe { libc::munmap(self.start, self.length) };
    }
}
