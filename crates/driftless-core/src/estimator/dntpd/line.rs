//! A least-squares line through reference − counter over the counter.
//!
//! The points are few (at most [`super::SAMPLES_MAX`]), so they are kept and the line is drawn anew each time, in two passes: means
//! first, then products of what lies beside them. Running sums of squares would lose every digit in a few days, when a drift of
//! seconds stands over a noise of microseconds.

use crate::sample::Sample;
use crate::time::{Frequency, RawTime, Seconds};

/// Samples from which a strict correlation is enough for a frequency correction (D12).
const FEW: (usize, f64) = (8, 0.99);
/// Samples from which a looser one is enough (D12).
const MANY: (usize, f64) = (16, 0.96);
/// Samples from which their own spread is believed; fewer agree by chance.
const SPREAD_SAMPLES: usize = 4;
/// No spread is believed below the counter's unit.
const SPREAD_MIN_S: f64 = 1e-9;

/// One sample in the regressions' plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Reference − counter since the anchor, s: what no correction of the local clock changes.
    pub(super) y_s: f64,
    /// The sample itself; its `raw` is the point's place on the other axis.
    pub(super) sample: Sample,
}

impl Point {
    /// From `origin` to the point on the counter, s.
    pub(super) fn after(&self, origin: RawTime) -> f64 {
        Seconds::from(self.sample.raw - origin).0
    }
}

/// A regression's result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Samples that it goes through.
    pub samples: usize,
    /// The reference's rate against the counter.
    pub slope: Frequency,
    /// Standard deviation of `slope`, if the rate was the same all along.
    pub slope_error: Frequency,
    /// Correlation of offset and time, −1 to 1; 0 where nothing drifts.
    pub correlation: f64,
    /// Standard deviation of the samples about the line.
    pub spread: Seconds,
    /// The part of the offsets' variance that the line leaves unexplained, 1 − correlation², without that difference's cancellation.
    pub unexplained: f64,
}

impl Line {
    /// The line through two points at least.
    pub(super) fn through(points: &[Point]) -> Option<Self> {
        let origin = points.first()?.sample.raw;
        let (mean_x, mean_y) = (mean(points, |p| p.after(origin)), mean(points, |p| p.y_s));
        let beside = |p: &Point| (p.after(origin) - mean_x, p.y_s - mean_y);
        let sum =
            |value: fn(f64, f64) -> f64| -> f64 { points.iter().map(beside).map(|(x, y)| value(x, y)).sum() };
        let (sxx, sxy, syy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
        if sxx <= 0.0 {
            return None;
        }
        let slope = sxy / sxx;
        let left: f64 = points.iter().map(beside).map(|(x, y)| (y - slope * x).powi(2)).sum();
        let spread_s = if points.len() < SPREAD_SAMPLES {
            spread_of_path(points)
        } else {
            (left / (count(points.len()) - 2.0)).sqrt().max(SPREAD_MIN_S)
        };
        Some(Self {
            samples: points.len(),
            slope: Frequency(slope),
            slope_error: Frequency(spread_s / sxx.sqrt()),
            correlation: if syy > 0.0 { (sxy / (sxx.sqrt() * syy.sqrt())).clamp(-1.0, 1.0) } else { 0.0 },
            spread: Seconds(spread_s),
            unexplained: if syy > 0.0 { (left / syy).min(1.0) } else { 1.0 },
        })
    }

    /// Whether the slope may correct the clock's frequency (D12).
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        [FEW, MANY].iter().any(|&(samples, least)| self.samples >= samples && self.correlation.abs() >= least)
    }
}

/// The mean of the offsets of a few samples, the drift between them taken out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    pub(super) samples: usize,
    /// When the mean holds: seconds before `raw` of the newest sample.
    age_s: f64,
    newest: RawTime,
    y_s: f64,
    frequency: f64,
    /// Standard deviation of one sample about the mean.
    pub(super) spread_s: f64,
}

impl Level {
    /// The level of `points`, which drift by `frequency`; `spread` is taken where they are too few to tell their own.
    pub(super) fn of(points: &[Point], frequency: Frequency, spread: Option<Seconds>) -> Option<Self> {
        let newest = points.last()?.sample.raw;
        let (mean_x, y_s) = (mean(points, |p| p.after(newest)), mean(points, |p| p.y_s));
        let beside = |p: &Point| p.y_s - y_s - frequency.0 * (p.after(newest) - mean_x);
        let spread_s = if points.len() < SPREAD_SAMPLES {
            spread.map_or_else(|| spread_of_path(points), |spread| spread.0)
        } else {
            let left: f64 = points.iter().map(|p| beside(p).powi(2)).sum();
            (left / (count(points.len()) - 1.0)).sqrt().max(SPREAD_MIN_S)
        };
        Some(Self { samples: points.len(), age_s: -mean_x, newest, y_s, frequency: frequency.0, spread_s })
    }

    /// Reference − counter at `at`, s.
    pub(super) fn at(&self, at: RawTime) -> f64 {
        self.y_s + self.frequency * self.lag(at)
    }

    /// Standard deviation of [`Self::at`] when the frequency is known to `frequency_error`.
    pub(super) fn error_at(&self, at: RawTime, frequency_error: Frequency) -> f64 {
        let of_mean = self.spread_s / count(self.samples).sqrt();
        libm::hypot(of_mean, frequency_error.0 * self.lag(at))
    }

    fn lag(&self, at: RawTime) -> f64 {
        Seconds::from(at - self.newest).0 + self.age_s
    }
}

/// The mean of something over points.
pub(super) fn mean(points: &[Point], value: impl Fn(&Point) -> f64) -> f64 {
    points.iter().map(value).sum::<f64>() / count(points.len())
}

/// What one sample may be off by, before the samples tell: anywhere in ± half its delay, and that has a deviation of 1/√3 of it.
fn spread_of_path(points: &[Point]) -> f64 {
    let half_s = mean(points, |p| p.sample.delay.0 / 2.0 + p.sample.dispersion.0);
    (half_s / 3.0_f64.sqrt()).max(SPREAD_MIN_S)
}

/// A small count as a float, never 0.
fn count(n: usize) -> f64 {
    f64::from(u16::try_from(n).unwrap_or(u16::MAX).max(1))
}
