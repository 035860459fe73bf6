//! The dntpd that runs already: found by its pid file, ended so that another can take its place (contract D2).

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_linux::signal;

/// Where dntpd writes its process's number when nothing else is said.
pub const DEFAULT_PID_FILE: &str = "/var/run/dntpd.pid";
/// How long it may take to end, as built: a tenth of a second, a second, and nine.
const PATIENCE: Duration = Duration::from_millis(10_100);
const NAP: Duration = Duration::from_millis(20);

/// Why the one that runs was not ended.
#[derive(Debug, thiserror::Error)]
pub enum PredecessorError {
    /// The system refuses.
    #[error("the dntpd that runs as process {0} cannot be ended: {1}")]
    Refused(u32, io::Error),
    /// It goes on.
    #[error("the dntpd that runs as process {0} does not end; end it by hand")]
    Stays(u32),
}

/// The process that the pid file names, if it is a dntpd: numbers are given anew, and nobody else is to be ended.
#[must_use]
pub fn running(pid_file: &Path) -> Option<u32> {
    let process: u32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    is_dntpd(&line).then_some(process)
}

/// Ends the process that the pid file names, and waits until it has ended: which one that was, if there was one.
///
/// # Errors
/// [`PredecessorError`].
pub fn end(pid_file: &Path) -> Result<Option<u32>, PredecessorError> {
    let Some(process) = running(pid_file) else { return Ok(None) };
    match signal::interrupt(process) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PredecessorError::Refused(process, error));
        }
        _ => {}
    }
    let start = Instant::now();
    // Its last act is to take its pid file away.
    while running(pid_file) == Some(process) || is_there(process) {
        if start.elapsed() > PATIENCE {
            return Err(PredecessorError::Stays(process));
        }
        sleep(NAP);
    }
    Ok(Some(process))
}

/// Whether it still runs as a dntpd; one that waits to be buried has no command line.
fn is_there(process: u32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| is_dntpd(&line))
}

/// By its own name, or by the command that it was started with.
fn is_dntpd(line: &[u8]) -> bool {
    let mut words = line.split(|octet| *octet == 0);
    let is_name = |word: &[u8]| word.rsplit(|octet| *octet == b'/').next() == Some(b"dntpd");
    words.next().is_some_and(is_name) || words.next() == Some(b"dntpd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d2_only_a_dntpd_is_taken_for_one() {
        for (line, is_one) in [
            (&b"/usr/sbin/dntpd\0-s\0"[..], true),
            (b"driftless\0dntpd\0-s\0", true),
            (b"driftless\0run\0dntpd\0", false),
            (b"vi\0/etc/dntpd.conf\0", false),
            (b"", false),
        ] {
            assert_eq!(is_dntpd(line), is_one, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn d2_a_pid_file_that_names_somebody_else_ends_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("dntpd.pid");
        assert!(end(&pid_file).unwrap().is_none(), "no file");
        // This test itself.
        fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
        assert!(end(&pid_file).unwrap().is_none());
        fs::write(&pid_file, "nonsense\n").unwrap();
        assert!(end(&pid_file).unwrap().is_none());
    }
}
