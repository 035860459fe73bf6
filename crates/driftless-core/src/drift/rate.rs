//! The mean rate over a stretch of time, with an error that is neither wished for nor inflated.
//!
//! Three states: x, reference − counter; f, its rate, which walks randomly; y, the integral of f since the beginning. x jumps when time
//! jumps, y does not: y over the time is the mean rate, and its variance comes out of the same filter, wander included.
//! What a look is worth is not known beforehand, and neither is how much the rate wanders: the filter runs under some hundred
//! hypotheses about both, and they are mixed by how well each predicted the looks. Second moments are all that such a filter needs, so
//! the law of the jitter matters little: with excess delay e = delay − floor the error is uniform in ±e/2 where queues are alike
//! (variance e²/12), all of e/2 where they are on one side (e²/4), and unrelated where a clock is read.

use core::f64::consts::FRAC_1_SQRT_2;

use crate::time::Frequency;

use super::path::Path;
use super::{LOOKS_MIN, Point, Wander};

/// The mean rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    /// Of the reference against the counter.
    pub(super) mean: Frequency,
    /// 95 % within ± this.
    pub(super) error: Frequency,
    pub(super) wander: Wander,
}

/// Hypotheses about the wander, s/s/√s: from a good crystal to a counter in a hot, throttled laptop.
const WANDERS: [f64; 13] =
    [3e-10, 6e-10, 1.2e-9, 2.5e-9, 5e-9, 1e-8, 2e-8, 4e-8, 8e-8, 1.6e-7, 3.2e-7, 6.4e-7, 1.3e-6];
/// What an excess delay says of a look: by what part of its half the offset is off, and what part of its square is variance beside that.
const LAWS: [Law; 4] = [
    Law { shift: 0.0, variance: 0.0 },
    Law { shift: 0.0, variance: 1.0 / 12.0 },
    Law { shift: 1.0, variance: 0.0 },
    Law { shift: -1.0, variance: 0.0 },
];
/// Scatter beyond that, in parts of what neighbours show of it.
const SCATTERS: [f64; 9] = [0.02, 0.06, 0.15, 0.3, 0.5, 0.75, 1.0, 1.35, 2.0];
/// No stamp is better than this, s.
const SCATTER_MIN_S: f64 = 1e-9;
/// Standard deviation of a rate before anything is known: the kernel's own limit is 10 %.
const PRIOR_RATE: f64 = 0.03;
/// What the interval is to hold. Of a finite stretch the mixture knows its own width only so well: 96.5 are aimed at for 95 to be held.
const CHANCE: f64 = 0.965;
/// Points between two looks at who is left, and how far behind the best, in log likelihood, nobody catches up from.
const TOGETHER: usize = 32;
const HOPELESS: f64 = 25.0;
/// A hypothesis of so little weight changes nothing.
const NEGLIGIBLE: f64 = 1e-6;
/// A hypothesis counts as refuted below this part of the best one's weight.
const REFUTED: f64 = 0.05;

/// A law of the path.
#[derive(Debug, Clone, Copy)]
struct Law {
    shift: f64,
    variance: f64,
}

/// One hypothesis and what it believes.
#[derive(Debug, Clone, Copy)]
struct Hypothesis {
    law: Law,
    wander: f64,
    scatter_s: f64,
    /// When the last point was.
    at_s: Option<f64>,
    log_likelihood: f64,
    x: f64,
    f: f64,
    y: f64,
    xx: f64,
    xf: f64,
    xy: f64,
    ff: f64,
    fy: f64,
    yy: f64,
}

/// The mean rate through points in the order of time. `None` where they are too few or of one moment.
pub(super) fn fit(points: &[Point], path: &Path) -> Option<Fit> {
    let (first, last) = (points.first()?, points.last()?);
    let length_s = last.at_s - first.at_s;
    if points.len() < LOOKS_MIN || length_s <= 0.0 {
        return None;
    }
    let all = hypotheses_after(points, path);
    let best = all.iter().map(|h| h.log_likelihood).fold(f64::NEG_INFINITY, f64::max);
    let weight = |h: &Hypothesis| libm::exp(h.log_likelihood - best);
    let sum: f64 = all.iter().map(weight).sum();
    let y = all.iter().map(|h| weight(h) * h.y).sum::<f64>() / sum;
    let parts: Vec<Part> = all
        .iter()
        .map(|h| Part { weight: weight(h) / sum, beside: h.y - y, sd: h.yy.sqrt() })
        .filter(|part| part.weight > NEGLIGIBLE)
        .collect();
    let of_wander = |wander: f64| {
        let same = all.iter().filter(|h| h.wander.total_cmp(&wander).is_eq());
        same.map(weight).sum::<f64>()
    };
    Some(Fit {
        mean: Frequency(y / length_s),
        error: Frequency(half_width(&parts) / length_s),
        wander: wander(of_wander),
    })
}

/// One normal law in the mixture of all, about its mean.
#[derive(Debug, Clone, Copy)]
struct Part {
    weight: f64,
    beside: f64,
    sd: f64,
}

/// Half of the interval round the mixture's mean that holds [`CHANCE`] of it, by halving.
fn half_width(parts: &[Part]) -> f64 {
    let within = |half: f64| -> f64 {
        let below =
            |edge: f64, part: &Part| 0.5 * libm::erfc(-edge / part.sd.max(f64::MIN_POSITIVE) * FRAC_1_SQRT_2);
        parts
            .iter()
            .map(|part| part.weight * (below(half - part.beside, part) - below(-half - part.beside, part)))
            .sum()
    };
    let (mut low, mut high) =
        (0.0, parts.iter().map(|part| part.beside.abs() + 6.0 * part.sd).fold(0.0, f64::max));
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if within(middle) < CHANCE { low = middle } else { high = middle }
    }
    high
}

/// The wander that is likely, if none at all is not.
fn wander(weight: impl Fn(f64) -> f64) -> Wander {
    let weights = WANDERS.map(weight);
    let best = weights.iter().copied().fold(0.0, f64::max);
    let pairs = || WANDERS.into_iter().zip(weights);
    if weights[0] < REFUTED * best {
        let most = pairs().max_by(|one, other| one.1.total_cmp(&other.1));
        return Wander::Seen(most.map_or(0.0, |(wander, _)| wander));
    }
    let largest = pairs().rev().find(|(_, weight)| *weight >= REFUTED * best);
    Wander::Below(largest.map_or(0.0, |(wander, _)| wander))
}

/// How far a look lies from the line between its neighbours, as one look's standard deviation: the median's, which a few late ones do not move.
fn scatter(points: &[Point]) -> f64 {
    /// The median of |N(0, 1)|.
    const MEDIAN_OF_NORMAL: f64 = 0.674_5;
    let mut distances: Vec<f64> = points.windows(3).filter_map(beside).collect();
    distances.sort_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied().unwrap_or(0.0) / MEDIAN_OF_NORMAL
}

fn beside(three: &[Point]) -> Option<f64> {
    let [one, two, three] = three else { return None };
    let (before, after) = (two.at_s - one.at_s, three.at_s - two.at_s);
    let whole = before + after;
    let is_whole = before > 0.0 && after > 0.0 && !two.after_jump && !three.after_jump;
    let (a, b) = (after / whole, before / whole);
    is_whole.then(|| (two.z_s - a * one.z_s - b * three.z_s).abs() / (1.0 + a * a + b * b).sqrt())
}

impl Law {
    fn applied_to(self, point: &Point, path: &Path) -> Point {
        Point { z_s: point.z_s - self.shift * path.excess_of(point) / 2.0, ..*point }
    }

    /// Variance of a point beside the scatter, s².
    fn variance_of(self, point: &Point, path: &Path) -> f64 {
        let late = path.lateness_of(point);
        let excess = path.excess_of(point);
        // Where the delay says nothing, one that is far beyond what is usual still says that something went wrong.
        let is_told = self.shift.abs() > 0.0 || self.variance > 0.0;
        if is_told { self.variance * excess * excess } else { late * late }
    }
}

/// All hypotheses that are not out of the question, after all points.
fn hypotheses_after(points: &[Point], path: &Path) -> Vec<Hypothesis> {
    let mut all = Vec::new();
    for law in LAWS {
        let seen: Vec<Point> = points.iter().map(|point| law.applied_to(point, path)).collect();
        let seen_s = scatter(&seen).max(SCATTER_MIN_S);
        for wander in WANDERS {
            all.extend(SCATTERS.map(|part| Hypothesis::new(law, wander, part * seen_s)));
        }
    }
    for some in points.chunks(TOGETHER) {
        for hypothesis in &mut all {
            some.iter().for_each(|point| hypothesis.take(point, path));
        }
        let best = all.iter().map(|h| h.log_likelihood).fold(f64::NEG_INFINITY, f64::max);
        all.retain(|h| h.log_likelihood > best - HOPELESS);
    }
    all
}

impl Hypothesis {
    const fn new(law: Law, wander: f64, scatter_s: f64) -> Self {
        let (at_s, log_likelihood, none) = (None, 0.0, 0.0);
        let (x, f, y, xx, xf, xy, fy, yy) = (none, none, none, none, none, none, none, none);
        let ff = PRIOR_RATE * PRIOR_RATE;
        Self { law, wander, scatter_s, at_s, log_likelihood, x, f, y, xx, xf, xy, ff, fy, yy }
    }

    /// The next point.
    fn take(&mut self, point: &Point, path: &Path) {
        let scatter = self.scatter_s * self.scatter_s + SCATTER_MIN_S * SCATTER_MIN_S;
        let variance = self.law.variance_of(point, path) + scatter;
        let point = self.law.applied_to(point, path);
        if let Some(before_s) = self.at_s.replace(point.at_s) {
            self.predict(point.at_s - before_s);
            self.learn(&point, variance);
        } else {
            (self.x, self.xx) = (point.z_s, variance);
        }
    }

    /// x and y move by f over `dt` seconds while f walks.
    fn predict(&mut self, dt: f64) {
        let q = self.wander * self.wander * dt;
        let cubic = q * dt * dt / 3.0;
        self.x += self.f * dt;
        self.y += self.f * dt;
        self.xx += dt * (2.0 * self.xf + dt * self.ff) + cubic;
        self.xy += dt * (self.fy + self.xf + dt * self.ff) + cubic;
        self.yy += dt * (2.0 * self.fy + dt * self.ff) + cubic;
        self.xf += dt * self.ff + q * dt / 2.0;
        self.fy += dt * self.ff + q * dt / 2.0;
        self.ff += q;
    }

    fn learn(&mut self, point: &Point, variance: f64) {
        if point.after_rate_change {
            self.ff += PRIOR_RATE * PRIOR_RATE;
        }
        if point.after_jump {
            // x starts anew; what is known of f and y stays, and is no longer tied to it.
            (self.x, self.xx, self.xf, self.xy) = (point.z_s, variance, 0.0, 0.0);
            return;
        }
        let sum = self.xx + variance;
        let innovation = point.z_s - self.x;
        self.log_likelihood -= f64::midpoint(innovation * innovation / sum, libm::log(sum));
        let (gain_x, gain_f, gain_y) = (self.xx / sum, self.xf / sum, self.xy / sum);
        self.x += gain_x * innovation;
        self.f += gain_f * innovation;
        self.y += gain_y * innovation;
        self.ff = (self.ff - gain_f * self.xf).max(0.0);
        self.fy -= gain_f * self.xy;
        self.yy = (self.yy - gain_y * self.xy).max(0.0);
        let left = variance / sum;
        self.xx *= left;
        self.xf *= left;
        self.xy *= left;
    }
}
