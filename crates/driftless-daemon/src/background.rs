//! The daemon behind the scenes: `--background` and its pid file.
//!
//! Nothing is forked in the middle of a life: the program starts itself anew, in a session of its own, and stays until that one keeps the clock or has
//! failed. What it says until then is passed on, so that whoever started it learns why it does not run.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use driftless_linux::session;

/// Where the pid file is when nothing else is said.
pub const DEFAULT_PID_FILE: &str = "/run/driftless/driftless.pid";
/// What asks for it on the command line.
const FLAG: &str = "--background";
/// The same to the one that is started.
pub const DETACHED_FLAG: &str = "--detached";
/// What that one says on standard output when it keeps the clock.
const READY: &str = "ready";

/// How the daemon shows that it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Where its process's number is written.
    pub pid_file: Option<PathBuf>,
    /// Nobody looks at its standard output and error any more once it keeps the clock.
    pub is_detached: bool,
}

/// A pid file; it goes with the daemon.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

/// Starts this program anew in the background and waits until it keeps the clock: the status to end with.
///
/// # Errors
/// What the system says.
pub fn start() -> io::Result<i32> {
    let arguments =
        env::args_os().skip(1).map(|argument| if argument == FLAG { DETACHED_FLAG.into() } else { argument });
    start_with(&arguments.collect::<Vec<_>>())
}

/// The same with a command line of the caller's, the program's name left out, in which [`DETACHED_FLAG`] asks for it.
///
/// # Errors
/// What the system says.
pub fn start_with(arguments: &[OsString]) -> io::Result<i32> {
    let mut command = Command::new(env::current_exe()?);
    // Never one of the old tools' names, which would be taken for a command once more.
    command
        .arg0("driftless")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut daemon = command.spawn()?;
    let told = daemon.stderr.take();
    let passed_on = thread::spawn(move || {
        let lines = told.into_iter().flat_map(|told| BufReader::new(told).lines());
        lines.map_while(Result::ok).for_each(|line| say(&line));
    });
    let mut line = String::new();
    if let Some(told) = daemon.stdout.take() {
        BufReader::new(told).read_line(&mut line)?;
    }
    if line.trim_end() == READY {
        return Ok(0);
    }
    let status = daemon.wait()?;
    // It has ended, so this ends; a panic in there has been told already.
    let _ = passed_on.join();
    Ok(status.code().unwrap_or(1))
}

fn say(line: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

impl Presence {
    /// Leaves the session of whoever started it.
    ///
    /// # Errors
    /// What the system says.
    pub fn detach(&self) -> io::Result<()> {
        if self.is_detached {
            session::begin()?;
            env::set_current_dir("/")?;
        }
        Ok(())
    }

    /// The clock is kept from now on.
    pub(crate) fn announce(&self) -> io::Result<Option<PidFile>> {
        let file = self.pid_file.as_deref().map(PidFile::write).transpose()?;
        if self.is_detached {
            crate::log::to_syslog();
            // Whoever started it may have gone.
            let _ = writeln!(io::stdout(), "{READY}");
        }
        Ok(file)
    }
}

impl PidFile {
    fn write(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_goes_with_its_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/driftless.pid");
        let presence = Presence { pid_file: Some(path.clone()), is_detached: false };
        let file = presence.announce().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
