//! What was done to the wall clock while the counter was measured: how fast it was made to run against the counter, and its steps.

use crate::clock::Rate;
use crate::time::{Frequency, RawTime, Seconds};

use super::{Look, count, time_of};

/// Somebody's work on the wall clock, or nobody's.
#[derive(Debug, Clone, PartialEq)]
pub struct Steering {
    /// The wall clock's mean rate over the counter, steps left out: what it runs at is the drift and this.
    pub rate: Frequency,
    /// The least and the greatest frequency that the kernel was told.
    pub frequency: (Frequency, Frequency),
    /// The least and the greatest tick, µs.
    pub tick: (i32, i32),
    /// How often tick or frequency were found changed.
    pub changes: usize,
    /// Steps of the wall clock against the counter.
    pub steps: Vec<Step>,
    /// By how much the wall clock's rate differed from what tick and frequency say: an `adjtime` or the kernel's own loop at work.
    pub slew: Frequency,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The first look after it, on the counter.
    pub at: RawTime,
    /// Positive is forwards.
    pub by: Seconds,
}

/// No rate explains more than this part of the time between two looks, and no reading is worse than so many seconds.
const STEP_PART: f64 = 0.11;
const STEP_MIN_S: f64 = 2e-3;
/// What rounding and reading leave of a slew that is none.
const SLEW_MIN: Frequency = Frequency::from_ppm(1.0);

impl Steering {
    pub(super) fn of(looks: &[Look]) -> Self {
        let (mut moved_s, mut over_s, mut told) = (0.0, 0.0, 0.0);
        let mut steps = Vec::new();
        for pair in looks.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            let raw_s = Seconds::from(after.sample.raw - before.sample.raw).0;
            let extra = after.sample.local - before.sample.local - (after.sample.raw - before.sample.raw);
            let extra_s = Seconds::from(extra).0;
            if extra_s.abs() > STEP_PART * raw_s + STEP_MIN_S {
                steps.push(Step { at: time_of(after), by: Seconds(extra_s) });
                continue;
            }
            moved_s += extra_s;
            over_s += raw_s;
            told += raw_s * f64::midpoint(before.rate.total().0, after.rate.total().0);
        }
        let over_s = over_s.max(f64::MIN_POSITIVE);
        let (rate, told) = (Frequency(moved_s / over_s), Frequency(told / over_s));
        let slew = rate - told;
        let ticks = || looks.iter().map(|look| look.rate.tick);
        let frequencies = || looks.iter().map(|look| look.rate.frequency.0);
        let (least, most) =
            (frequencies().fold(f64::INFINITY, f64::min), frequencies().fold(f64::NEG_INFINITY, f64::max));
        // Tick and frequency are changed between two looks, not at one: half of that time is told wrongly.
        let changes = looks.windows(2).filter(|pair| pair[0].rate != pair[1].rate).count();
        let blur = Frequency((most - least).max(0.0) / count(looks.len()).max(1.0) * count(changes));
        Self {
            rate,
            frequency: (Frequency(least), Frequency(most)),
            tick: (ticks().min().unwrap_or(Rate::NOMINAL_TICK), ticks().max().unwrap_or(Rate::NOMINAL_TICK)),
            changes,
            steps,
            slew: if slew.abs() > SLEW_MIN + blur { slew } else { Frequency::ZERO },
        }
    }

    /// Whether somebody steered while it was measured.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.changes > 0 || !self.steps.is_empty() || self.slew != Frequency::ZERO
    }

    /// Whether the kernel's frequency stood at its limit of ±500 ppm.
    #[must_use]
    pub fn is_clamped(&self) -> bool {
        const ALL_BUT: Frequency = Frequency::from_ppm(499.9);
        self.frequency.0.abs() >= ALL_BUT || self.frequency.1.abs() >= ALL_BUT
    }
}
