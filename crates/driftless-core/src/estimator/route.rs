//! A changed route is no jump: what it adds to each offset is learnt from its first samples and taken off.
//!
//! A way that becomes longer by Δ in one direction moves every measured offset by Δ/2, and nothing in an exchange tells that from a clock that
//! jumped. But the delay changed at the same moment, and clocks do not jump when routes change: a shift of at most half of the
//! change of delay is the path's.

use crate::sample::Sample;
use crate::time::Seconds;

use super::{NewPath, Track, Verdict};

/// Samples of a new path before its asymmetry is taken from the quickest of them.
const SAMPLES: u8 = 8;
/// How much more than half of the change of delay a shift may be.
const MARGIN: f64 = 1.1;

impl Track {
    /// Takes part in learning a path, if there is a new one: `None` where there is none, and the sample goes its usual way.
    pub(super) fn learn_path(
        &mut self,
        sample: &Sample,
        change: Option<Seconds>,
        offset_s: f64,
    ) -> Option<Verdict> {
        let elapsed_s = Seconds::from(sample.raw - self.at).0;
        let shift_s = offset_s - self.bank.belief().predicted(elapsed_s).offset_s;
        if let Some(change) = change {
            let change_s = self.path.map_or(0.0, |path| path.change_s) + change.0;
            self.path = Some(NewPath { change_s, best: (f64::INFINITY, 0.0), samples: 0 });
        }
        let path = self.path.as_mut()?;
        path.samples += 1;
        if sample.delay.0 < path.best.0 {
            path.best = (sample.delay.0, shift_s);
        }
        let path = *path;
        if shift_s.abs() > path.change_s.abs() / 2.0 * MARGIN + (sample.delay.0 - path.best.0) / 2.0 {
            // More than the path explains: a clock moved as well.
            self.path = None;
            return None;
        }
        if path.samples < SAMPLES {
            return Some(Verdict::Usual);
        }
        self.path = None;
        self.asymmetry_s += path.best.1;
        self.bank = self.bank.predicted(elapsed_s);
        self.at = sample.raw;
        self.aside.clear();
        self.scatter.jumped();
        Some(Verdict::PathChanged(Seconds(path.best.1)))
    }
}
