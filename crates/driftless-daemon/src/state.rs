//! What is kept over a restart: the learnt frequency. A prior, never a jump; refused when it cannot be.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use driftless_core::engine::{Engine, FrequencyPrior};
use driftless_core::time::{Frequency, Now, RawTime, Span};
use serde::{Deserialize, Serialize};

/// The state file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The reference's rate against the uncorrected counter, ppm.
    pub frequency: f64,
    /// Its standard deviation, ppm.
    pub frequency_error: f64,
    /// The kernel's clock source that it was learnt under.
    pub clocksource: String,
    /// The boot that it was learnt in: kernels measure the counter anew at each.
    pub boot_id: String,
}

/// Why a state file was not used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no state file.
    #[error("not a state file ({0}); it will be written anew")]
    Syntax(#[from] serde_json::Error),
    /// Its values cannot be.
    #[error("implausible ({0:+.1} ± {1:.1} ppm); ignored")]
    Implausible(f64, f64),
    /// Learnt under another clock source.
    #[error("learnt under clock source {0}, this is {1}; ignored")]
    OtherClocksource(String, String),
}

/// The name of the state file in the state directory.
pub const FILE: &str = "frequency.json";
/// What another boot adds to the standard deviation: each measures the counter anew, by hundreds of ppm at worst.
const OTHER_BOOT_PPM: f64 = 300.0;
/// What the same boot adds: the oscillator wandered meanwhile.
const SAME_BOOT_PPM: f64 = 0.5;

/// Keeps the learnt frequency while the daemon runs.
#[derive(Debug)]
pub(crate) struct Memory {
    directory: PathBuf,
    /// When it is written next.
    next: RawTime,
    /// Whether the last writing went well: a failure is told once.
    is_kept: bool,
}

/// How often it is written.
const SAVE_EVERY: Span = Span::from_secs(3_600);
/// The first time, so that an early end loses little.
const SAVE_FIRST: Span = Span::from_secs(60);

impl Memory {
    pub(crate) fn new(directory: &Path, now: RawTime) -> Self {
        Self { directory: directory.to_owned(), next: now + SAVE_FIRST, is_kept: true }
    }

    /// When to come back.
    pub(crate) const fn deadline(&self) -> RawTime {
        self.next
    }

    /// Writes it if it is time to.
    pub(crate) fn turn(&mut self, engine: &Engine, now: Now) {
        if now.raw >= self.next {
            self.next = now.raw + SAVE_EVERY;
            self.save(engine, now);
        }
    }

    /// Writes what is known, if it is worth it.
    pub(crate) fn save(&mut self, engine: &Engine, now: Now) {
        let Some(learnt) = engine.learnt_frequency(now) else { return };
        let result = save(&self.directory, learnt);
        let was_kept = std::mem::replace(&mut self.is_kept, result.is_ok());
        if let (Err(error), true) = (result, was_kept) {
            log::warn!("{}: the learnt frequency is not kept: {error}", self.directory.display());
        }
    }
}

/// Reads the kept frequency, with its deviation widened for what happened since; `None` where there is no file.
///
/// # Errors
/// [`StateError`]: say it and go on without.
pub fn load(directory: &Path) -> Result<Option<FrequencyPrior>, StateError> {
    let text = match fs::read(directory.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let state: State = serde_json::from_slice(&text)?;
    let sane = state.frequency.abs() <= 100_000.0 && (0.0..10_000.0).contains(&state.frequency_error);
    if !sane {
        return Err(StateError::Implausible(state.frequency, state.frequency_error));
    }
    let clocksource = clocksource();
    if state.clocksource != clocksource {
        return Err(StateError::OtherClocksource(state.clocksource, clocksource));
    }
    let added = if state.boot_id == boot_id() { SAME_BOOT_PPM } else { OTHER_BOOT_PPM };
    Ok(Some(FrequencyPrior {
        frequency: Frequency::from_ppm(state.frequency),
        error: Frequency::from_ppm(state.frequency_error.hypot(added)),
    }))
}

/// Writes it whole or not at all: a new file, synced, then renamed over the old one.
///
/// # Errors
/// What the system says.
pub fn save(directory: &Path, learnt: FrequencyPrior) -> Result<(), StateError> {
    let state = State {
        frequency: learnt.frequency.ppm(),
        frequency_error: learnt.error.ppm(),
        clocksource: clocksource(),
        boot_id: boot_id(),
    };
    fs::create_dir_all(directory)?;
    let new = directory.join(format!("{FILE}.new"));
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(&state)?)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(fs::rename(&new, directory.join(FILE))?)
}

/// The kernel's clock source, `unknown` where sysfs does not tell.
#[must_use]
pub fn clocksource() -> String {
    first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
}

fn boot_id() -> String {
    first_line("/proc/sys/kernel/random/boot_id")
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNT: FrequencyPrior = FrequencyPrior { frequency: Frequency(-676e-6), error: Frequency(1e-7) };

    #[test]
    fn what_is_saved_is_loaded_a_little_less_sure() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).unwrap().is_none());
        save(directory.path(), LEARNT).unwrap();
        let prior = load(directory.path()).unwrap().unwrap();
        assert!((prior.frequency.ppm() + 676.0).abs() < 1e-6 && prior.error > LEARNT.error);
    }

    #[test]
    fn a_torn_or_absurd_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{\"frequ").unwrap();
        assert!(matches!(load(directory.path()), Err(StateError::Syntax(_))));
        save(directory.path(), FrequencyPrior { frequency: Frequency(0.5), ..LEARNT }).unwrap();
        assert!(matches!(load(directory.path()), Err(StateError::Implausible(..))));
    }
}
