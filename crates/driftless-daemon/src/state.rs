//! What is kept over a restart: the learnt frequency. A prior, never a jump; refused when it cannot be.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use driftless_core::engine::{Engine, FrequencyPrior};
use driftless_core::time::{Frequency, Now, RawTime, Span};
use driftless_linux::kmsg;
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
    /// How fast the kernel believed that clock source to run, kHz, where it said so.
    #[serde(default)]
    pub counter_khz: Option<f64>,
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
    /// Learnt with a counter of another kind.
    #[error("learnt with a counter of {0:.0} kHz, this one has {1:.0} kHz: another machine; ignored")]
    OtherCounter(f64, f64),
}

/// The name of the state file in the state directory.
pub const FILE: &str = "frequency.json";
/// What another boot adds to the standard deviation: each measures the counter anew, by hundreds of ppm at worst.
const OTHER_BOOT_PPM: f64 = 300.0;
/// What another boot adds where both said how fast they believe the counter to run: the same oscillator at another temperature, or that of
/// another host of the same kind.
const KNOWN_BOOT_PPM: f64 = 30.0;
/// Counters whose rates differ by more than this part are not of the same kind.
const SAME_KIND_PART: f64 = 0.01;
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
    /// How fast the kernel believes the counter to run: read at the first writing.
    counter_khz: Option<Option<f64>>,
    is_plain: bool,
}

/// How often it is written.
const SAVE_EVERY: Span = Span::from_secs(3_600);
/// The first time, so that an early end loses little.
const SAVE_FIRST: Span = Span::from_secs(60);

impl Memory {
    /// With `is_plain` nothing but the file is touched.
    pub(crate) fn new(directory: &Path, is_plain: bool, now: RawTime) -> Self {
        let (directory, next) = (directory.to_owned(), now + SAVE_FIRST);
        Self { directory, next, is_kept: true, counter_khz: None, is_plain }
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
        let is_plain = self.is_plain;
        let khz = *self.counter_khz.get_or_insert_with(|| if is_plain { None } else { counter_khz() });
        let result = save(&self.directory, learnt, khz);
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
    let boot = Boot { clocksource: clocksource(), id: boot_id(), counter_khz };
    prior(&state, &boot).map(Some)
}

/// What it was learnt under, or is to be used under.
struct Boot {
    clocksource: String,
    id: String,
    /// Only asked for where it matters: the kernel's log is long.
    counter_khz: fn() -> Option<f64>,
}

fn prior(state: &State, boot: &Boot) -> Result<FrequencyPrior, StateError> {
    if state.clocksource != boot.clocksource {
        return Err(StateError::OtherClocksource(state.clocksource.clone(), boot.clocksource.clone()));
    }
    let (mut ppm, mut added) = (state.frequency, SAME_BOOT_PPM);
    if state.boot_id != boot.id {
        added = OTHER_BOOT_PPM;
        if let Some((then, now)) = state.counter_khz.zip((boot.counter_khz)()) {
            if (now / then - 1.0).abs() > SAME_KIND_PART {
                return Err(StateError::OtherCounter(then, now));
            }
            // The oscillator is the same, and known: what the kernel believes of it has changed.
            ppm = ((1.0 + ppm * 1e-6) * now / then - 1.0) * 1e6;
            added = KNOWN_BOOT_PPM;
        }
    }
    let is_sane = ppm.abs() <= 100_000.0 && (0.0..10_000.0).contains(&state.frequency_error);
    if !is_sane {
        return Err(StateError::Implausible(ppm, state.frequency_error));
    }
    Ok(FrequencyPrior {
        frequency: Frequency::from_ppm(ppm),
        error: Frequency::from_ppm((state.frequency_error * state.frequency_error + added * added).sqrt()),
    })
}

/// How fast the kernel believes the counter to run, where that is what its clock source counts.
fn counter_khz() -> Option<f64> {
    if clocksource() == "tsc" { kmsg::counter_khz() } else { None }
}

/// Writes it whole or not at all: a new file, synced, then renamed over the old one.
///
/// # Errors
/// What the system says.
pub fn save(directory: &Path, learnt: FrequencyPrior, counter_khz: Option<f64>) -> Result<(), StateError> {
    let state = State {
        frequency: learnt.frequency.ppm(),
        frequency_error: learnt.error.ppm(),
        clocksource: clocksource(),
        counter_khz,
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
        save(directory.path(), LEARNT, None).unwrap();
        let prior = load(directory.path()).unwrap().unwrap();
        assert!((prior.frequency.ppm() + 676.0).abs() < 1e-6 && prior.error > LEARNT.error);
    }

    #[test]
    fn a_torn_or_absurd_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{\"frequ").unwrap();
        assert!(matches!(load(directory.path()), Err(StateError::Syntax(_))));
        save(directory.path(), FrequencyPrior { frequency: Frequency(0.5), ..LEARNT }, None).unwrap();
        assert!(matches!(load(directory.path()), Err(StateError::Implausible(..))));
    }

    fn learnt(counter_khz: Option<f64>) -> State {
        let (clocksource, boot_id) = ("tsc".to_owned(), "one".to_owned());
        State { frequency: -676.0, frequency_error: 0.1, clocksource, counter_khz, boot_id }
    }

    fn boot(id: &str, counter_khz: fn() -> Option<f64>) -> Boot {
        Boot { clocksource: "tsc".to_owned(), id: id.to_owned(), counter_khz }
    }

    #[test]
    fn another_boot_that_measured_the_counter_otherwise_is_reckoned_with() {
        // Believed to run 400 ppm faster than before, the counter loses that much more.
        let prior = |state: &State, boot: &Boot| {
            prior(state, boot).map(|prior| (prior.frequency.ppm(), prior.error.ppm()))
        };
        let faster = boot("two", || Some(2_000_800.0));
        let (ppm, error) = prior(&learnt(Some(2_000_000.0)), &faster).unwrap();
        assert!((ppm + 276.27).abs() < 0.1 && error < 31.0, "{ppm} {error}");
        let (ppm, error) = prior(&learnt(None), &faster).unwrap();
        assert!((ppm + 676.0).abs() < 1e-6 && error > 200.0, "{ppm} {error}");
        let (ppm, error) = prior(&learnt(Some(2_000_000.0)), &boot("one", || panic!("not asked"))).unwrap();
        assert!((ppm + 676.0).abs() < 1e-6 && error < 1.0, "{ppm} {error}");
    }

    #[test]
    fn a_frequency_of_another_machine_is_refused() {
        let other = prior(&learnt(Some(2_000_000.0)), &boot("two", || Some(3_000_000.0)));
        assert!(matches!(other, Err(StateError::OtherCounter(..))));
        let kvm = Boot { clocksource: "kvm-clock".to_owned(), ..boot("one", || None) };
        assert!(matches!(prior(&learnt(None), &kvm), Err(StateError::OtherClocksource(..))));
    }
}
