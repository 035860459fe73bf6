//! SIGTERM, SIGINT and SIGHUP as flags, and a pipe that wakes `poll`.
//!
//! The handler sets an atomic and writes one byte, both async-signal-safe (signal-safety(7)). Under preloaded time simulators foreign
//! descriptors always claim to be readable: then the pipe is left out and EINTR does the waking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use driftless_core::time::Span;

use crate::{poll, sys};

static TERMINATE: AtomicBool = AtomicBool::new(false);
static RELOAD: AtomicBool = AtomicBool::new(false);
/// The pipe's writing end; −1 before there is one.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// The process's signals.
#[derive(Debug)]
pub struct Signals {
    wake: Option<OwnedFd>,
    /// Held open for the handler.
    _writing: OwnedFd,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP from now on, and ignores SIGPIPE.
    ///
    /// # Errors
    /// What the system says.
    pub fn install() -> io::Result<Self> {
        let (reading, writing) = sys::pipe()?;
        WAKE.store(sys::raw(writing.as_fd()), Ordering::SeqCst);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            sys::sigaction(signal, handle)?;
        }
        let claims_to_be_ready = poll::wait(&[reading.as_fd()], Some(Span::ZERO))?.first() == Some(&true);
        Ok(Self { wake: (!claims_to_be_ready).then_some(reading), _writing: writing })
    }

    /// What to wait on beside everything else, if it is of use.
    #[must_use]
    pub fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(AsFd::as_fd)
    }

    /// Empties the pipe.
    pub fn drain(&self) {
        if let Some(wake) = &self.wake {
            let mut bytes = [0; 16];
            // Non-blocking: nothing there is no matter.
            let _ = sys::read(wake.as_fd(), &mut bytes);
        }
    }

    /// Whether somebody asked us to end.
    #[must_use]
    pub fn should_end(&self) -> bool {
        TERMINATE.load(Ordering::SeqCst)
    }

    /// Whether somebody asked us to read the configuration again; asks once.
    #[must_use]
    pub fn take_reload(&self) -> bool {
        RELOAD.swap(false, Ordering::SeqCst)
    }
}

/// Asks another process to end, by SIGINT: as dntpd ends its own kind.
///
/// # Errors
/// What the system says; `NotFound` where there is none.
pub fn interrupt(process: u32) -> io::Result<()> {
    // 0 and 1 are our own group and init.
    let process = libc::pid_t::try_from(process).ok().filter(|process| *process > 1);
    let process = process.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    sys::kill(process, libc::SIGINT).map_err(|error| {
        if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
    })
}

extern "C" fn handle(signal: libc::c_int) {
    let flag = if signal == libc::SIGHUP { &RELOAD } else { &TERMINATE };
    flag.store(true, Ordering::SeqCst);
    sys::write_byte(WAKE.load(Ordering::SeqCst));
}
