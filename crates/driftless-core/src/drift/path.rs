//! The way to the reference: its least round trip, what queues add, and whether they add it on one side.

use crate::time::{Frequency, Seconds};

use super::{Point, count};

/// What the way to the reference is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// The least round trip that was seen. Half of it is what no measurement can show of the offset; of the rate it hides nothing.
    pub floor: Seconds,
    /// What queues add on average, each way.
    pub excess: Seconds,
    /// How far the floor may lie below the least that was seen.
    pub(crate) floor_uncertainty_s: f64,
    /// Where the queues are: +1 all on the way there, −1 all on the way back, 0 as much here as there. None where there are none to speak of.
    pub lopsided: Option<f64>,
}

/// Looks that tell on which side the queues are.
const LOPSIDED_LOOKS: usize = 16;

impl Path {
    pub(super) fn of(points: &[Point]) -> Self {
        let mut delays: Vec<f64> = points.iter().map(|point| point.delay_s).collect();
        delays.sort_by(f64::total_cmp);
        let floor_s = delays.first().copied().unwrap_or(0.0);
        // The lower three quarters: a congested hour must not blur what is usual.
        let usual = (delays.len() * 3).div_ceil(4);
        let sum: f64 = delays.iter().take(usual).map(|delay| delay - floor_s).sum();
        let excess_s = sum / count(usual).max(1.0) / 2.0;
        let floor_uncertainty_s = (excess_s * (2.0 / count(delays.len()).max(1.0)).sqrt()).min(floor_s);
        Self { floor: Seconds(floor_s), excess: Seconds(excess_s), floor_uncertainty_s, lopsided: None }
    }

    /// How much longer than the shortest the round trip of a point may have been, s.
    pub(crate) fn excess_of(&self, point: &Point) -> f64 {
        point.delay_s - self.floor.0 + self.floor_uncertainty_s
    }

    /// How far off a point may be beyond what is usual here, s.
    pub(crate) fn lateness_of(&self, point: &Point) -> f64 {
        const FAR_ABOVE: f64 = 4.0;
        let half = (point.delay_s - self.floor.0) / 2.0;
        (half - FAR_ABOVE * self.excess.0.max(self.floor_uncertainty_s)).max(0.0)
    }

    /// From one look to the next, half of the change of delay is what the offset changes by if all queues are on one side. Differences, so that
    /// the counter's own course, but for its mean rate, is left out.
    pub(super) fn with_asymmetry(self, points: &[Point], rate: Frequency) -> Self {
        let pairs = points.windows(2).filter(|pair| !pair[1].after_jump && !pair[1].after_rate_change);
        let (mut together, mut alone) = (0.0, 0.0);
        for pair in pairs {
            let moved = pair[1].z_s - pair[0].z_s - rate.0 * (pair[1].at_s - pair[0].at_s);
            let half = (pair[1].delay_s - pair[0].delay_s) / 2.0;
            together += moved * half;
            alone += half * half;
        }
        let is_told = points.len() >= LOPSIDED_LOOKS && alone > 0.0;
        Self { lopsided: is_told.then(|| (together / alone).clamp(-1.0, 1.0)), ..self }
    }
}
