//! The floor under every result: a filter that is told what no daemon can know, run on the same samples.
//!
//! It knows each direction's floor and law of jitter, the oscillator's wander, and all that happens by intention: temperature, ageing, jumps of the
//! rate, pauses. What is left is chance. With excess e of a round trip the truth lies at θ − u, |u| ≤ e/2, and u has the density p↑(e/2 + u)·p↓(e/2 − u):
//! for equal exponentials a uniform one, for normals a normal one. The belief is a normal one over offset and rate; its product with that
//! density keeps mean and variance, found by summing over a grid.

use driftless_core::time::{Seconds, Span};

use crate::density::Density;
use crate::oscillator::OscillatorConfig;

/// The filter.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// Wander, s/s/√s, and white noise of the rate over a second.
    wander: f64,
    white: f64,
    belief: Option<Belief>,
    paths: Vec<KnownPath>,
    looks: u32,
    square: f64,
}

/// What is known of the way to one reference.
#[derive(Debug, Clone)]
pub struct KnownPath {
    up: Density,
    down: Density,
    /// Standard deviation of the reference's own noise in a sample, s.
    noise: f64,
}

/// One sample as the oracle takes it, in ns: the counter's are cleared of all that happens by intention, the reference's of its known error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSample {
    /// When it was sent and when the answer came, on the counter.
    pub counter: (i64, i64),
    /// When it reached the reference and left it.
    pub reference: (i64, i64),
}

/// Offset (reference − counter, s) and rate with their covariance.
#[derive(Debug, Clone, Copy)]
struct Belief {
    at: i64,
    offset: f64,
    rate: f64,
    var_offset: f64,
    covariance: f64,
    var_rate: f64,
}

/// Points of the grid.
const POINTS: u16 = 96;
/// Standard deviations of the belief that the grid covers.
const REACH: f64 = 7.0;
/// Stamps are whole ns.
const ROUNDING: f64 = 1e-9;

impl KnownPath {
    /// A path by its two laws and its reference's noise.
    #[must_use]
    pub fn new(up: crate::link::Law, down: crate::link::Law, noise: f64) -> Self {
        Self { up: Density::of(up), down: Density::of(down), noise }
    }
}

impl Oracle {
    /// An oracle that has seen nothing.
    #[must_use]
    pub const fn new(oscillator: &OscillatorConfig, paths: Vec<KnownPath>) -> Self {
        let (wander, white) = (oscillator.wander_ppb * 1e-9, oscillator.white_ppb * 1e-9);
        Self { wander, white, belief: None, paths, looks: 0, square: 0.0 }
    }

    /// Learns from a sample of path `path`, whose floors are now `floors`, s.
    pub fn learn(&mut self, path: usize, floors: (f64, f64), sample: &KnownSample) {
        let rate = self.belief.map_or(0.0, |belief| belief.rate);
        let (sent, came) = sample.counter;
        let away = seconds(came - sent) * (1.0 + rate);
        let held = seconds(sample.reference.1 - sample.reference.0);
        let excess = (away - held - floors.0 - floors.1).max(0.0);
        let middle = sent + (came - sent) / 2;
        let there = seconds(sample.reference.0 - sent);
        let home = seconds(sample.reference.1 - came);
        // Both legs at the middle of the counter's interval: its drift over half of it cancels.
        let seen = f64::midpoint(there, home) - (floors.0 - floors.1) / 2.0;
        let Some(path) = self.paths.get(path) else { return };
        let noise = (path.noise * path.noise / 2.0 + ROUNDING * ROUNDING).sqrt();
        let belief = self.belief.get_or_insert(Belief {
            at: middle,
            offset: seen,
            rate: 0.0,
            var_offset: excess * excess / 4.0 + noise * noise,
            covariance: 0.0,
            var_rate: 1e-4,
        });
        belief.predict(middle, self.wander, self.white);
        let half = excess / 2.0;
        match (&path.up, &path.down) {
            (Density::Point, Density::Point) => belief.update_normal(seen, noise),
            (Density::Point, _) => belief.update_normal(seen + half, noise),
            (_, Density::Point) => belief.update_normal(seen - half, noise),
            (up, down) => belief.update(seen, half, noise, |u| up.log(half + u) + down.log(half - u)),
        }
    }

    /// Compares with the truth at a look; counts where `counts`. The error, s.
    pub fn look(&mut self, counter: i64, truth: i64, counts: bool) -> Option<f64> {
        let mut belief = self.belief?;
        belief.predict(counter, self.wander, self.white);
        let error = belief.offset - seconds(truth - counter);
        if counts {
            self.looks += 1;
            self.square += error * error;
        }
        Some(error)
    }

    /// RMS of its error over the looks that counted.
    #[must_use]
    pub fn rms(&self) -> Option<f64> {
        (self.looks > 0).then(|| (self.square / f64::from(self.looks)).sqrt())
    }
}

impl Belief {
    fn predict(&mut self, to: i64, wander: f64, white: f64) {
        let elapsed = seconds(to - self.at).max(0.0);
        let q = wander * wander * elapsed;
        self.offset += self.rate * elapsed;
        self.var_offset += elapsed * (2.0 * self.covariance + elapsed * self.var_rate)
            + q * elapsed * elapsed / 3.0
            + white * white * elapsed;
        self.covariance += elapsed * self.var_rate + q * elapsed / 2.0;
        self.var_rate += q;
        self.at = self.at.max(to);
    }

    fn update_normal(&mut self, seen: f64, noise: f64) {
        let gain = self.var_offset / (self.var_offset + noise * noise);
        let mean = self.offset + gain * (seen - self.offset);
        self.keep(mean, self.var_offset * (1.0 - gain));
    }

    /// Multiplies with the density exp(`log`(u)) of u = `seen` − offset in ±`half`, blurred by `noise`.
    fn update(&mut self, seen: f64, half: f64, noise: f64, log: impl Fn(f64) -> f64) {
        let sd = (self.var_offset + noise * noise).sqrt();
        let low = (seen - half).max(self.offset - REACH * sd);
        let high = (seen + half).min(self.offset + REACH * sd);
        // A belief that lies beyond what can be: the nearest that can.
        let (low, high) = if low < high { (low, high) } else { (seen - half, seen + half) };
        let step = (high - low) / f64::from(POINTS);
        if step <= 0.0 {
            return self.update_normal(seen, noise);
        }
        let point = |index: u16| low + step * (f64::from(index) + 0.5);
        let weight = |offset: f64| log(seen - offset) - 0.5 * ((offset - self.offset) / sd).powi(2);
        let logs: Vec<f64> = (0..POINTS).map(|index| weight(point(index))).collect();
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for (index, log) in (0..POINTS).zip(&logs) {
            let (w, x) = (libm::exp(log - top), point(index) - self.offset);
            sum += w;
            first += w * x;
            second += w * x * x;
        }
        let mean = first / sum;
        // The grid's own step blurs by a twelfth of its square.
        let variance = (second / sum - mean * mean).max(step * step / 12.0);
        // What the blur took: moments belong to offset + noise.
        let gain = self.var_offset / (sd * sd);
        self.keep(
            self.offset + gain * mean,
            (self.var_offset - gain * (sd * sd - variance) * gain).max(1e-22),
        );
    }

    /// The offset's new mean and variance; the rate follows by what ties them.
    fn keep(&mut self, mean: f64, variance: f64) {
        let tie = self.covariance / self.var_offset;
        self.rate += tie * (mean - self.offset);
        self.var_rate = (self.var_rate - tie * tie * (self.var_offset - variance)).max(1e-26);
        self.covariance *= variance / self.var_offset;
        (self.offset, self.var_offset) = (mean, variance);
    }
}

fn seconds(nanos: i64) -> f64 {
    Seconds::from(Span::from_nanos(nanos)).0
}
