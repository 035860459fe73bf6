//! The natural drift of this machine's counter, measured over a stretch of time that has passed: the whole of it is looked at at once.
//!
//! What is measured is reference − counter. No correction of the wall clock, of ours or of anybody else's, is in it, so a clock that is steered
//! meanwhile is measured as if it were not; what the steering did is told apart (`steering`). Jumps are found first (`course`) and
//! cut out. Then the *mean rate* over the stretch is estimated (`rate`), the counter's wander and the path's scatter learnt with it.
//!
//! Sign: positive runs fast. A drift is what the counter gains on the reference in a second of its own: the opposite of
//! [`Estimate::frequency`], which corrects it.
//!
//! [`Estimate::frequency`]: crate::estimator::Estimate::frequency

pub mod allan;
mod course;
mod path;
mod rate;
mod steering;

use crate::clock::Rate;
use crate::discipline::split;
use crate::sample::Sample;
use crate::time::{Frequency, RawTime, Seconds};

pub use course::{Break, Cause};
pub use path::Path;
pub use steering::{Steering, Step};

/// One look at a reference, and what the kernel was told to make of the counter meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// The exchange.
    pub sample: Sample,
    /// The kernel's tick and frequency at that time.
    pub rate: Rate,
}

/// What a stretch of looks at one reference says.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// The counter's mean rate against the reference, by the counter's second: positive runs fast. Jumps are left out.
    pub drift: Frequency,
    /// With a chance of 95 % the truth lies within ± this.
    pub error: Frequency,
    /// Standard deviation of the counter's rate after a second of its random walk, in s/s/√s.
    pub wander: Wander,
    /// From the first look to the last.
    pub length: Seconds,
    /// Looks that were used.
    pub looks: usize,
    /// Looks that fitted nothing.
    pub outliers: usize,
    /// Where the course breaks off, the oldest first.
    pub breaks: Vec<Break>,
    /// What the way to the reference is like.
    pub path: Path,
    /// What was done to the wall clock meanwhile.
    pub steering: Steering,
}

/// How much the rate walks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wander {
    /// This much, in s/s/√s.
    Seen(f64),
    /// Less than this: it drowns in the path's noise.
    Below(f64),
}

/// Fewer looks say nothing of a rate and its error.
pub const LOOKS_MIN: usize = 5;

/// Measures. `None` where there are too few looks, or they are of one moment.
#[must_use]
pub fn measure(looks: &[Look]) -> Option<Drift> {
    let course = course::Course::of(looks);
    let path = Path::of(&course.points);
    let fit = rate::fit(&course.points, &path)?;
    Some(Drift {
        drift: -fit.mean,
        error: fit.error,
        wander: fit.wander,
        length: course.length(),
        looks: course.points.len(),
        outliers: course.outliers,
        path: path.with_asymmetry(&course.points, fit.mean),
        breaks: course.breaks,
        steering: Steering::of(looks),
    })
}

impl Drift {
    /// The kernel's tick and frequency that would cancel the drift.
    #[must_use]
    pub fn cancelled_by(&self) -> Rate {
        split(-self.drift, Rate::NOMINAL)
    }
}

/// A look as the fit sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// On the counter, s since the first look.
    pub(crate) at_s: f64,
    /// Reference − counter, s, against the first look.
    pub(crate) z_s: f64,
    /// Round trip, s.
    pub(crate) delay_s: f64,
    /// What reading the clocks adds, s.
    pub(crate) dispersion_s: f64,
    /// Whether time jumped just before this look.
    pub(crate) after_jump: bool,
    /// Whether the rate changed just before this look.
    pub(crate) after_rate_change: bool,
}

/// Reference − counter of each look against the first one, by seconds on the counter.
#[must_use]
pub fn curve(looks: &[Look]) -> Vec<(f64, f64)> {
    let Some(first) = looks.first() else { return Vec::new() };
    looks.iter().map(|look| against(&first.sample, &look.sample)).collect()
}

/// Seconds on the counter since `first`, and reference − counter against it.
fn against(first: &Sample, sample: &Sample) -> (f64, f64) {
    let elapsed = sample.raw - first.raw;
    let coarse = sample.local - first.local - elapsed;
    (Seconds::from(elapsed).0, Seconds::from(coarse).0 + sample.offset.0 - first.offset.0)
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "nobody takes 2^53 looks")]
pub(crate) const fn count(n: usize) -> f64 {
    n as f64
}

/// When a look was, for those who tell it.
pub(crate) const fn time_of(look: &Look) -> RawTime {
    look.sample.raw
}
