//! The kernel's log: watched for one line, that this machine is a copy woken from a saved state, and read for how fast the kernel believes its counter to run.
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

/// How fast the kernel believes the processor's counter to run, in kHz, as it said at boot: each boot measures it anew (`arch/x86/kernel/tsc.c`).
/// None where it does not say, or the line is gone.
#[must_use]
pub fn counter_khz() -> Option<f64> {
    let log = sys::open(c"/dev/kmsg", libc::O_RDONLY | libc::O_NONBLOCK).ok()?;
    let mut record = [0; RECORD_MAX];
    let mut found = None;
    for _ in 0..LOG_MAX {
        match sys::read(log.as_fd(), &mut record) {
            Ok(length) => found = told_khz(record.get(..length).unwrap_or_default()).or(found),
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => break,
        }
    }
    found
}

/// What the kernel itself has said, oldest first, as far as `is_wanted` wants it: programs' own lines in its log are left out.
///
/// # Errors
/// What the system says; where `kernel.dmesg_restrict` is set only root may.
pub fn kernel_lines(is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let log = sys::open(c"/dev/kmsg", libc::O_RDONLY | libc::O_NONBLOCK)?;
    let mut record = [0; RECORD_MAX];
    let mut found = Vec::new();
    for _ in 0..LOG_MAX {
        match sys::read(log.as_fd(), &mut record) {
            Ok(length) => found
                .extend(kernels_own(record.get(..length).unwrap_or_default()).filter(|line| is_wanted(line))),
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => break,
        }
        if found.len() >= LINES_MAX {
            break;
        }
    }
    Ok(found)
}

/// Lines kept of a kernel that says too much.
const LINES_MAX: usize = 500;

/// "level and facility,sequence,time,flags;text": the facility is 0 for the kernel's own (`Documentation/ABI/testing/dev-kmsg`).
fn kernels_own(record: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(record).ok()?;
    let (head, told) = text.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let line = told.lines().next()?;
    (priority >> 3 == 0).then(|| line.to_owned())
}

/// Records read at most: what is said at boot stands at the beginning.
const LOG_MAX: u32 = 4_000;

/// "tsc: Detected 2443.776 MHz processor", later "tsc: Refined TSC clocksource calibration: 2443.779 MHz": the last one counts.
fn told_khz(record: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(record).ok()?;
    let (_, told) = text.split_once(";tsc: ")?;
    let rest = told
        .strip_prefix("Refined TSC clocksource calibration: ")
        .or_else(|| told.strip_prefix("Detected ").filter(|rest| !rest.contains("TSC deadline")))?;
    let (mhz, _) = rest.split_once(" MHz")?;
    mhz.parse().ok().map(|mhz: f64| mhz * 1e3).filter(|khz| khz.is_finite() && *khz > 0.0)
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
    fn the_counters_rate_is_found_in_what_the_kernel_says_of_it() {
        assert_eq!(told_khz(b"6,80,1234,-;tsc: Detected 2443.776 MHz processor\n"), Some(2_443_776.0));
        let refined =
            b"6,99,2345678,-;tsc: Refined TSC clocksource calibration: 2443.779 MHz\n SUBSYSTEM=x\n";
        assert!((told_khz(refined).unwrap() - 2_443_779.0).abs() < 1e-6);
        for other in
            ["6,1,1,-;tsc: Marking TSC unstable", "6,1,1,-;tsc: Detected few MHz", "6,1,1,-;other: 5 MHz"]
        {
            assert_eq!(told_khz(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_programs_line_is_not_taken_for_the_kernels() {
        assert_eq!(
            kernels_own(b"4,7,99,-;tsc: Marking TSC unstable\n KEY=x\n").unwrap(),
            "tsc: Marking TSC unstable"
        );
        assert_eq!(kernels_own(b"12,8,99,-;tsc: Marking TSC unstable\n"), None);
        assert_eq!(kernels_own(b"torn"), None);
    }

    #[test]
    fn what_was_logged_before_is_not_read() {
        match Kmsg::open() {
            Ok(log) => assert!(!log.take_fork().unwrap()),
            Err(error) => eprintln!("skipped: no kernel log here: {error}"),
        }
    }
}
