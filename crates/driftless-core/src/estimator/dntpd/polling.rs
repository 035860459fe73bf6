//! How often dntpd asks: quickly at first, then at the nominal rate, and rarely once the target is judged good (D15, D16).

use crate::time::Span;

use super::Line;

/// Polls at the shortest interval after the start (D15).
const STARTUP_POLLS: u32 = 6;
/// Polls at the nominal interval before a target can be judged good, as built.
const ACQUIRING_POLLS: u32 = 16;
/// Samples and correlation that make a target good, as built.
const GOOD: (usize, f64) = (8, 0.85);
/// Samples from which a correlation below this makes it bad again, as built.
const BAD: (usize, f64) = (15, 0.70);
/// Polls without an answer after which a target has failed, as built.
const FAILURES_MAX: u32 = 3;
/// The shortest interval between polls, unless the nominal one is shorter (D15).
const SHORTEST: Span = Span::from_secs(5);

/// What dntpd's command line says about polling and setting the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `-T`: the nominal poll interval.
    pub nominal: Span,
    /// `-L`: the poll interval once the target is judged good.
    pub longest: Span,
    /// `-s`: the first correction is coarse even below two minutes.
    pub coarse_at_start: bool,
}

impl Default for Settings {
    /// D7, D10.
    fn default() -> Self {
        Self { nominal: Span::from_secs(300), longest: Span::from_secs(1800), coarse_at_start: false }
    }
}

/// How far a target has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The first polls.
    #[default]
    Startup,
    /// Not judged yet.
    Acquire,
    /// Judged good.
    Maintain,
    /// It does not answer.
    Failed,
}

/// The poll policy of one target.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Polling {
    pub(super) mode: Mode,
    /// Answers since the mode was entered.
    answers: u32,
    /// Polls in a row without an answer.
    failures: u32,
}

impl Polling {
    pub(super) fn interval(&self, settings: &Settings) -> Span {
        let longest = settings.longest.max(settings.nominal);
        match self.mode {
            Mode::Startup => SHORTEST.min(settings.nominal),
            Mode::Acquire | Mode::Failed => settings.nominal,
            Mode::Maintain => longest,
        }
    }

    /// An answer came; `line` is the first regression with it.
    pub(super) fn answered(&mut self, line: Option<&Line>) {
        self.failures = 0;
        self.answers = self.answers.saturating_add(1);
        let reaches = |(samples, correlation): (usize, f64)| {
            line.is_some_and(|line| line.samples >= samples && line.correlation.abs() >= correlation)
        };
        let is_bad = line.is_some_and(|line| line.samples >= BAD.0 && line.correlation.abs() < BAD.1);
        match self.mode {
            Mode::Startup if self.answers >= STARTUP_POLLS => self.enter(Mode::Acquire),
            Mode::Acquire if self.answers >= ACQUIRING_POLLS && reaches(GOOD) => self.enter(Mode::Maintain),
            Mode::Maintain if is_bad => self.enter(Mode::Acquire),
            Mode::Failed => self.enter(Mode::Acquire),
            Mode::Startup | Mode::Acquire | Mode::Maintain => {}
        }
    }

    /// A poll stayed without an answer.
    pub(super) fn unanswered(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX && self.mode != Mode::Failed {
            self.enter(Mode::Failed);
        }
    }

    /// The target changed: it has to be judged again.
    pub(super) fn changed(&mut self) {
        if self.mode == Mode::Maintain {
            self.enter(Mode::Acquire);
        }
    }

    const fn enter(&mut self, mode: Mode) {
        self.mode = mode;
        self.answers = 0;
    }
}
