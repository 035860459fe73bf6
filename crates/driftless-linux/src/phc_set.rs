//! A PTP clock that the lab sets: the network card of a guest under test, to be the host's time as a hypervisor's clock would be.
//!
//! driftless itself never sets one. A device is a dynamic clock (`kernel/time/posix-clock.c`), so `clock_adjtime` steps it as it would the wall clock.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use driftless_core::time::{NANOS_PER_SECOND, RawTime, Span};

use crate::sys;

/// An open PTP clock that may be stepped.
#[derive(Debug)]
pub struct PhcSetter {
    device: OwnedFd,
}

impl PhcSetter {
    /// Opens a device for reading and writing.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        Ok(Self { device: sys::open(&path, libc::O_RDWR)? })
    }

    /// Its time, ns.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self) -> io::Result<i64> {
        let time = sys::clock_gettime(self.clock())?;
        Ok(RawTime::from_parts(time.tv_sec, time.tv_nsec).as_nanos())
    }

    /// Moves its time by `span`.
    ///
    /// # Errors
    /// What the system says.
    pub fn step(&self, span: Span) -> io::Result<()> {
        let mut request = sys::empty_timex();
        request.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        request.time.tv_sec = span.as_nanos().div_euclid(NANOS_PER_SECOND);
        request.time.tv_usec = span.as_nanos().rem_euclid(NANOS_PER_SECOND);
        sys::clock_adjtime_of(self.clock(), &mut request)
    }

    fn clock(&self) -> libc::clockid_t {
        sys::clock_of(self.device.as_fd())
    }
}
