//! The kernel's log, watched for one line: that this machine is a copy woken from a saved state.
//!
//! `drivers/char/random.c` logs "crng reseeded due to virtual machine fork" at each new generation id, also where no uevent comes (seen with Linux 7.3).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys;

/// The kernel's log from now on.
#[derive(Debug)]
pub struct Kmsg(OwnedFd);

/// What the line says.
const FORK: &[u8] = b"due to virtual machine fork";
/// A record is never longer than this (`CONSOLE_EXT_LOG_MAX`).
const RECORD_MAX: usize = 8_192;
/// Records taken at once, so that a kernel that talks all the time does not hold us.
const RECORDS_MAX: u32 = 256;

impl Kmsg {
    /// Begins behind what was logged until now.
    ///
    /// # Errors
    /// What the system says; as a rule only root may.
    pub fn open() -> io::Result<Self> {
        let log = sys::open(c"/dev/kmsg", libc::O_RDONLY | libc::O_NONBLOCK)?;
        sys::seek_to_end(log.as_fd())?;
        Ok(Self(log))
    }

    /// Reads what is new: whether the line is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_fork(&self) -> io::Result<bool> {
        let mut record = [0; RECORD_MAX];
        let mut found = false;
        for _ in 0..RECORDS_MAX {
            match sys::read(self.as_fd(), &mut record) {
                Ok(length) => found |= tells_of_fork(record.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Records were overwritten before we came; the next read goes on behind them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn tells_of_fork(record: &[u8]) -> bool {
    record.windows(FORK.len()).any(|part| part == FORK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_counts() {
        assert!(tells_of_fork(b"5,812,9123456,-;random: crng reseeded due to virtual machine fork\n"));
        assert!(!tells_of_fork(b"5,813,9123457,-;random: crng init done\n"));
        assert!(!tells_of_fork(b""));
    }

    #[test]
    fn what_was_logged_before_is_not_read() {
        match Kmsg::open() {
            Ok(log) => assert!(!log.take_fork().unwrap()),
            Err(error) => eprintln!("skipped: no kernel log here: {error}"),
        }
    }
}
