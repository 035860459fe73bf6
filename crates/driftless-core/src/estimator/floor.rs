//! The least delay of a path, and how well it is known.
//!
//! With excess e = delay − floor the truth lies within ±e/2 of the measured offset, whatever the law of the jitter, because each
//! direction takes at least its floor. The smallest of n delays lies above the true floor by about m·√(2/n), m being the mean excess of
//! one direction; with less than that the intervals contradict each other and pass for wander of the oscillator.
//!
//! So the floor wants a long memory, and a changed path a short one: minima are kept by blocks, and the old ones are forgotten when the
//! newest block cannot have come from the same floor.

use std::collections::VecDeque;

use crate::time::Seconds;

/// The last delays of one path.
#[derive(Debug, Clone, Default)]
pub(crate) struct DelayFloor {
    /// Round trips in s, the newest last.
    recent: VecDeque<f64>,
    /// The same, sorted.
    sorted: Vec<f64>,
    /// The least of each full block, the newest last.
    blocks: VecDeque<f64>,
    /// The least of the block that fills, and how many delays it holds.
    filling: Option<(f64, usize)>,
    /// The least of all blocks.
    least_s: f64,
    /// How far above the true floor `least_s` may be.
    uncertainty_s: f64,
    /// Mean excess of one direction.
    mean_excess_s: f64,
}

impl DelayFloor {
    /// Delays whose spread tells what the path's jitter is like now.
    const RECENT_MAX: usize = 256;
    /// Delays of one block: enough to tell a changed path from a congested minute.
    const BLOCK: usize = 64;
    /// Blocks that are remembered: a day and a half of looks every minute.
    const BLOCKS_MAX: usize = 32;
    /// A block whose least lies this many mean excesses above the floor has another: by the law above the odds are 10⁻⁷.
    const OTHER_PATH: f64 = 0.75;
    /// Delays in a row that are all far above the floor and close together: a longer route. Congestion is far above and scattered.
    const SUSTAINED: usize = 8;
    /// How far above, in mean excesses, and how much closer together than that.
    const FAR_ABOVE: f64 = 8.0;

    /// Takes one more delay in. Returns by how much the floor changed, if this showed another path.
    pub(crate) fn add(&mut self, delay: Seconds) -> Option<Seconds> {
        let delay_s = delay.0.max(0.0);
        self.remember(delay_s);
        let (before_s, usual_s) = (self.least_s, self.uncertainty_s.max(self.mean_excess_s));
        // Far below all that was seen: another path, whose floor this delay alone says little about.
        if !self.recent.is_empty() && delay_s < self.least_s - 4.0 * self.uncertainty_s {
            self.blocks.clear();
            self.filling = None;
        }
        if self.is_longer_route() {
            self.blocks.clear();
            self.filling = self.sustained().map(|(least, _)| (least, Self::SUSTAINED - 1));
        }
        let (least, held) = self.filling.unwrap_or((f64::INFINITY, 0));
        self.filling = Some((least.min(delay_s), held + 1));
        self.measure();
        if held + 1 == Self::BLOCK {
            self.close_block();
        }
        // Symmetric jitter moves the least of all delays, too; another route moves it by more than jitter is wide.
        let change = Seconds(self.least_s - before_s);
        let is_other = change.abs().0 > 4.0 * usual_s;
        (is_other && self.recent.len() > Self::SUSTAINED).then_some(change)
    }

    /// The least delay seen lately.
    pub(crate) fn least(&self) -> Seconds {
        Seconds(self.least_s)
    }

    /// Half the width of the interval that holds the truth for a sample of this delay.
    pub(crate) fn half_width(&self, delay: Seconds) -> Seconds {
        Seconds(((delay.0 - self.least_s).max(0.0) + self.uncertainty_s) / 2.0)
    }

    /// How far off a sample of this delay may be beyond what is usual here: a late one says little, under whichever law.
    pub(crate) fn lateness(&self, delay: Seconds) -> Seconds {
        let half_excess_s = (delay.0 - self.least_s) / 2.0;
        Seconds((half_excess_s - Self::FAR_ABOVE / 2.0 * self.mean_excess_s.max(self.uncertainty_s)).max(0.0))
    }

    /// Standard deviation of what no delay shows: stamps, and a floor whose two directions breathe by a part of themselves.
    pub(crate) fn noise(&self) -> Seconds {
        const STAMPS_S: f64 = 10e-9;
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

    /// The least of the last few delays, and their mean above it.
    fn sustained(&self) -> Option<(f64, f64)> {
        let from = self.recent.len().checked_sub(Self::SUSTAINED)?;
        let least = self.recent.range(from..).copied().fold(f64::INFINITY, f64::min);
        let sum: f64 = self.recent.range(from..).map(|delay| delay - least).sum();
        Some((least, sum / count(Self::SUSTAINED)))
    }

    fn is_longer_route(&self) -> bool {
        let Some((least, spread)) = self.sustained().filter(|_| self.recent.len() >= 2 * Self::SUSTAINED)
        else {
            return false;
        };
        let above = least - self.least_s;
        above > Self::FAR_ABOVE * self.mean_excess_s.max(self.uncertainty_s)
            && spread * Self::FAR_ABOVE < above
    }

    fn remember(&mut self, delay_s: f64) {
        if self.recent.len() == Self::RECENT_MAX {
            if let Some(oldest) = self.recent.pop_front() {
                let at = self.sorted.partition_point(|held| *held < oldest);
                self.sorted.remove(at);
            }
        }
        self.recent.push_back(delay_s);
        let at = self.sorted.partition_point(|held| *held < delay_s);
        self.sorted.insert(at, delay_s);
    }

    /// A block whose least cannot have come from the floor shows another path.
    fn close_block(&mut self) {
        let Some((least, _)) = self.filling.take() else { return };
        if least > self.least_s + Self::OTHER_PATH * self.mean_excess_s {
            self.blocks.clear();
        }
        if self.blocks.len() == Self::BLOCKS_MAX {
            self.blocks.pop_front();
        }
        self.blocks.push_back(least);
        self.measure();
    }

    fn measure(&mut self) {
        let (filling, held) = self.filling.unwrap_or((f64::INFINITY, 0));
        self.least_s = self.blocks.iter().copied().fold(filling, f64::min);
        // The lower three quarters: a congested hour must not blur the floor.
        let kept = (self.sorted.len() * 3).div_ceil(4);
        let mean_s = self.sorted[..kept].iter().map(|delay| (delay - self.least_s).max(0.0)).sum::<f64>();
        self.mean_excess_s = mean_s / count(kept) / 2.0;
        // The law of the smallest needs independent delays. A first burst through a sleepy path is all late together, so that few
        // delays prove little, however alike they are: that part fades faster than the law.
        let rarity = 2.0 / count(self.blocks.len() * Self::BLOCK + held).max(1.0);
        let by_law_s = self.mean_excess_s * rarity.sqrt();
        let by_distrust_s = self.least_s * rarity * rarity.sqrt();
        self.uncertainty_s = by_law_s.max(by_distrust_s).min(self.least_s);
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
        for _ in 0..2 * DelayFloor::BLOCK {
            floor.add(Seconds(2e-3));
        }
        assert!((floor.least().0 - 2e-3).abs() < 1e-12, "a longer path is learnt");
        floor.add(Seconds(1.5e-3));
        assert!(floor.half_width(Seconds(1.5e-3)).0 > 0.1e-3, "of a shorter path one delay says little");
    }
}
