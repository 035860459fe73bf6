//! Processes that do not outlive us, and the wish of whoever sits at the terminal that we end.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use driftless_linux::signal::Signals;

/// A child process that does not outlive us.
#[derive(Debug)]
pub(crate) struct Ended(Child);

impl Ended {
    /// Starts it, without the power over any clock. The kernel ends it if we are killed; a Ctrl-C reaches us alone, so that we end it.
    pub(crate) fn spawn(command: &Command, more: &[&str], log: &Path) -> Result<Self> {
        let log = File::options().append(true).create(true).open(log)?;
        let mut bound = Command::new("setpriv");
        bound
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .args(more);
        for (key, value) in command.get_envs() {
            bound.env(key, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            bound.current_dir(folder);
        }
        let child = bound
            .env("DRIFTLESS_OBSERVE", "1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fails where somebody wants us to end: by then everything that was started is about to be dropped.
pub(crate) fn go_on(signals: &Signals) -> Result<()> {
    if signals.should_end() || signals.take_reload() {
        bail!("interrupted; everything that was started is ended");
    }
    Ok(())
}

/// Sleeps, but not through a wish to end.
pub(crate) fn rest(signals: &Signals, length: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < length {
        go_on(signals)?;
        sleep(Duration::from_millis(50).min(length.saturating_sub(start.elapsed())));
    }
    go_on(signals)
}
