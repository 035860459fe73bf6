//! How much measured offsets scatter, whatever their delays say: learnt from each sample's distance to the line between its neighbours.
//!
//! A clock that is read has a bracket of constant width and noise of its own; a path with much symmetric jitter has delays that say
//! nothing about the offset. For both the plain Gaussian view is the right one, and its variance is what this measures. The distance
//! from the chord needs no estimate of offset or frequency, so that no belief can talk itself into its own noise.

/// The last two offsets and what three in a row told so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scatter {
    /// Seconds on the counter and offset of the last two samples, the newer last.
    last: [Option<(f64, f64)>; 2],
    /// Weighted mean of r²/(1 + a² + b²), the variance of one sample where the oscillator does not wander, s².
    variance: f64,
    /// Weighted mean of what one unit of wander (1 s/s/√s, squared) adds to the above.
    wander_part: f64,
    /// Weight behind both.
    weight: f64,
    /// The least guess so far, s.
    guess_s: f64,
}

/// Samples' worth of memory.
const MEMORY: f64 = 64.0;
/// A distance beyond this many deviations is a jump or a congested moment, not scatter.
const CLIP: f64 = 4.0;
/// A distance beyond this, and beyond what the delay explains, is a jump however little is known yet.
const JUMP_S: f64 = 0.1;
/// Distances before clipping begins.
const CLIP_FROM: f64 = 8.0;
/// A sample whose guess is so many times less is of another kind than all before: a first reply that waited for the route to be found tells
/// nothing of the path.
const FAR_LESS: f64 = 8.0;
/// Samples' worth of weight that the first guess has.
const GUESS_WEIGHT: f64 = 2.0;

impl Scatter {
    /// What the next sample's scatter might be before anything is known.
    pub(crate) fn guess(&mut self, guess_s: f64) {
        if self.weight <= 0.0 || guess_s * FAR_LESS < self.guess_s {
            *self = Self { variance: guess_s * guess_s, weight: GUESS_WEIGHT, guess_s, ..Self::default() };
        }
        self.guess_s = self.guess_s.min(guess_s);
    }

    /// Takes in a sample at `at_s` on the counter. One that `contradicts` what is believed speaks of a jump rather than of scatter.
    pub(crate) fn add(&mut self, at_s: f64, offset_s: f64, contradicts: bool) {
        let [first, middle] = self.last;
        self.last = [middle, Some((at_s, offset_s))];
        let (Some(first), Some(middle)) = (first, middle) else { return };
        let (before_s, after_s) = (middle.0 - first.0, at_s - middle.0);
        let whole_s = before_s + after_s;
        if before_s <= 0.0 || after_s <= 0.0 {
            return;
        }
        let (a, b) = (after_s / whole_s, before_s / whole_s);
        let spread = 1.0 + a * a + b * b;
        let distance = middle.1 - (a * first.1 + b * offset_s);
        if distance.abs() > JUMP_S + CLIP * self.guess_s {
            return self.last[0] = None;
        }
        let mut square = distance * distance / spread;
        if contradicts || self.weight > CLIP_FROM {
            square = square.min(CLIP * CLIP * self.variance);
        }
        // The middle of integrated Brownian motion given its ends: variance q·T₁²·T₂²/(3·(T₁ + T₂)).
        let wandered = before_s * before_s * after_s * after_s / (3.0 * whole_s) / spread;
        let gain = 1.0 / (self.weight + 1.0);
        self.variance += gain * (square - self.variance);
        self.wander_part += gain * (wandered - self.wander_part);
        self.weight = (self.weight + 1.0).min(MEMORY);
    }

    /// Variance of one measured offset, s², under a given wander of the oscillator. What few samples tell of a variance is given the room that
    /// Student's law gives it.
    pub(crate) fn variance(&self, wander: f64) -> f64 {
        let few = 1.0 + 2.0 * (1.0 / self.weight.max(1.0) - 1.0 / MEMORY);
        (self.variance - wander * wander * self.wander_part).max(self.variance * 0.05) * few
    }

    /// Forgets the neighbours, not what they told: after a jump.
    pub(crate) const fn jumped(&mut self) {
        self.last = [None, None];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scatter_round_a_steep_line_is_learnt() {
        let mut scatter = Scatter::default();
        for n in 0..400_u32 {
            let noise = if n * 7919 % 13 < 6 { 1e-6 } else { -1e-6 };
            scatter.guess(1e-4);
            scatter.add(f64::from(n), 676e-6 * f64::from(n) + noise, false);
        }
        let sd = scatter.variance(0.0).sqrt();
        assert!((0.5e-6..2e-6).contains(&sd), "{sd}");
    }

    #[test]
    fn an_early_jump_is_no_scatter_either() {
        let mut scatter = Scatter::default();
        for n in 0..8_u32 {
            scatter.guess(10e-3);
            scatter.add(f64::from(n) * 16.0, if n < 3 { 0.0 } else { 1.0 }, false);
        }
        assert!(scatter.variance(0.0).sqrt() < 11e-3, "{scatter:?}");
    }

    #[test]
    fn a_jump_is_no_scatter() {
        let mut scatter = Scatter::default();
        for n in 0..100_u32 {
            let noise = if n * 7919 % 13 < 6 { 1e-6 } else { -1e-6 };
            scatter.guess(1e-6);
            scatter.add(f64::from(n), if n < 50 { noise } else { 10.0 + noise }, false);
        }
        assert!(scatter.variance(0.0).sqrt() < 5e-6);
    }
}
