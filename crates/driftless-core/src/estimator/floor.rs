//! The least delay of a path, and how well it is known.
//!
//! With excess e = delay − floor the truth lies within ±e/2 of the measured offset, whatever the law of the jitter, because each
//! direction takes at least its floor. The smallest of n delays lies above the true floor by about m·√(2/n), m being the mean excess of
//! one direction; with less than that the intervals contradict each other and pass for wander of the oscillator.

use std::collections::VecDeque;

use crate::time::Seconds;

/// The last delays of one path.
#[derive(Debug, Clone, Default)]
pub(crate) struct DelayFloor {
    /// Round trips in s, the newest last.
    recent: VecDeque<f64>,
    /// The least of `recent`.
    least_s: f64,
    /// How far above the true floor `least_s` may be.
    uncertainty_s: f64,
    /// Mean excess of one direction.
    mean_excess_s: f64,
}

impl DelayFloor {
    /// Delays that are remembered: long enough for a sharp floor, short enough to learn a changed path.
    const RECENT_MAX: usize = 256;

    /// Takes one more delay in.
    pub(crate) fn add(&mut self, delay: Seconds) {
        if self.recent.len() == Self::RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(delay.0.max(0.0));
        self.measure();
    }

    /// The least delay seen lately.
    pub(crate) fn least(&self) -> Seconds {
        Seconds(self.least_s)
    }

    /// Half the width of the interval that holds the truth for a sample of this delay.
    pub(crate) fn half_width(&self, delay: Seconds) -> Seconds {
        Seconds(((delay.0 - self.least_s).max(0.0) + self.uncertainty_s) / 2.0)
    }

    /// Standard deviation of what no delay shows: stamps, and a floor whose two directions breathe by a part of themselves.
    pub(crate) fn noise(&self) -> Seconds {
        const STAMPS_S: f64 = 100e-9;
        const BREATH: f64 = 0.02;
        const BREATH_MAX_S: f64 = 10e-6;
        Seconds(STAMPS_S + (self.least_s * BREATH).min(BREATH_MAX_S))
    }

    /// Mean excess of one direction: what this path's jitter is like.
    pub(crate) fn mean_excess(&self) -> Seconds {
        Seconds(self.mean_excess_s)
    }

    /// Forgets the path: another server, or another route.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    fn measure(&mut self) {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let Some(&least_s) = sorted.first() else { return };
        // The lower three quarters: a congested hour must not blur the floor.
        let kept = (sorted.len() * 3).div_ceil(4);
        let count = count(kept);
        let mean_s = sorted[..kept].iter().map(|delay| delay - least_s).sum::<f64>() / count;
        self.least_s = least_s;
        self.mean_excess_s = mean_s / 2.0;
        // The law of the smallest needs independent delays. A first burst through a sleepy path is all late together, so that few
        // delays prove little, however alike they are: that part fades faster than the law.
        let rarity = 2.0 / count;
        let by_law_s = self.mean_excess_s * rarity.sqrt();
        let by_distrust_s = least_s * rarity * rarity.sqrt();
        self.uncertainty_s = by_law_s.max(by_distrust_s).min(least_s);
    }
}

/// A small count as a float.
fn count(n: usize) -> f64 {
    f64::from(u16::try_from(n).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_delay_leaves_everything_open() {
        let mut floor = DelayFloor::default();
        floor.add(Seconds(1e-3));
        assert!((floor.half_width(Seconds(1e-3)).0 - 0.5e-3).abs() < 1e-12);
    }

    #[test]
    fn the_floor_sharpens_and_is_forgotten() {
        let mut floor = DelayFloor::default();
        for n in 0..200_u32 {
            floor.add(Seconds(1e-3 + f64::from(n * 37 % 100) * 1e-6));
        }
        assert!(floor.half_width(Seconds(1e-3)).0 < 5e-6);
        for _ in 0..DelayFloor::RECENT_MAX {
            floor.add(Seconds(2e-3));
        }
        assert!((floor.least().0 - 2e-3).abs() < 1e-12, "a changed path is learnt");
    }
}
