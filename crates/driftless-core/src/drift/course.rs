//! Where the course of reference − counter breaks off: jumps and changes of rate, found by the engine's own estimator, look by look.

use crate::estimator::{Estimator, Verdict};
use crate::time::{Frequency, RawTime, Seconds};

use super::{Look, Point, against, time_of};

/// A place where the course breaks off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Break {
    /// The first look after it, on the counter.
    pub at: RawTime,
    /// What happened.
    pub cause: Cause,
}

/// What a break is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cause {
    /// The reference moved by so much against the counter. Positive: this machine stood still, or the reference was set forwards.
    Jump(Seconds),
    /// The counter's drift changed by so much: another host, or a host whose rate is corrected.
    RateChange(Frequency),
    /// The way to the reference changed; measured offsets moved by so much, no clock did.
    Route(Seconds),
}

/// The course, cut where it breaks.
#[derive(Debug, Clone, Default)]
pub(super) struct Course {
    pub(super) points: Vec<Point>,
    pub(super) breaks: Vec<Break>,
    /// Looks that fitted nothing and are left out.
    pub(super) outliers: usize,
}

/// Looks before a changed route was told by the estimator: so many of them were already on it.
const ROUTE_LOOKS: usize = 8;

impl Course {
    pub(super) fn of(looks: &[Look]) -> Self {
        let Some(first) = looks.first() else { return Self::default() };
        let mut course = Self::default();
        let mut estimator = Estimator::default();
        // Looks that are in doubt.
        let mut aside: Vec<Look> = Vec::new();
        for look in looks {
            let point = |look: &Look| {
                let (at_s, z_s) = against(&first.sample, &look.sample);
                let (delay_s, dispersion_s) = (look.sample.delay.0, look.sample.dispersion.0);
                Point { at_s, z_s, delay_s, dispersion_s, after_jump: false, after_rate_change: false }
            };
            let verdict = estimator.add(&look.sample);
            match verdict {
                Verdict::Ignored => continue,
                Verdict::Doubtful => {
                    aside.push(*look);
                    continue;
                }
                Verdict::Outlier => {
                    course.outliers += aside.len();
                    aside.clear();
                }
                Verdict::Usual => {}
                Verdict::PathChanged(by) => {
                    let at = course.points.len().saturating_sub(ROUTE_LOOKS - 1);
                    if let Some(point) = course.points.get_mut(at) {
                        point.after_jump = true;
                    }
                    course.breaks.push(Break { at: time_of(look), cause: Cause::Route(by) });
                }
                Verdict::Jumped(_) | Verdict::RateChanged(_) => {}
            }
            let from = course.points.len();
            course.points.extend(aside.drain(..).map(|look| point(&look)));
            course.points.push(point(look));
            let cause = match verdict {
                Verdict::Jumped(by) => Cause::Jump(by),
                Verdict::RateChanged(by) => Cause::RateChange(-by),
                _ => continue,
            };
            if let Some(point) = course.points.get_mut(from) {
                point.after_jump = matches!(cause, Cause::Jump(_));
                point.after_rate_change = !point.after_jump;
                let at = first.sample.raw + Seconds(point.at_s).to_span();
                course.breaks.push(Break { at, cause });
            }
        }
        // What is still in doubt at the end decides nothing.
        course.outliers += aside.len();
        course
    }

    pub(super) fn length(&self) -> Seconds {
        let ends = self.points.first().zip(self.points.last());
        Seconds(ends.map_or(0.0, |(first, last)| last.at_s - first.at_s))
    }
}
