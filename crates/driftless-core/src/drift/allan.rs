//! The Allan deviation: by how much the mean rate of one stretch of time differs from that of the next, as a function of the stretch's length.
//!
//! Of each stretch the look with the shortest round trip stands for all: it carries the least of the path's noise. What falls with 1/τ
//! is that noise, what stays or rises is the counter. See IEEE Std 1139 for the names.

use super::course::Course;
use super::{Look, Point, count};

/// One point of the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// Length of a stretch, s.
    pub tau_s: f64,
    /// Allan deviation, s/s.
    pub deviation: f64,
    /// Pairs of stretches that it was seen in.
    pub pairs: usize,
}

/// Fewer pairs say nothing.
const PAIRS_MIN: usize = 3;

/// Allan deviations at stretches of 1, 2, 4, … times the usual time between two looks; jumps are left out.
#[must_use]
pub fn deviations(looks: &[Look]) -> Vec<Deviation> {
    let points = Course::of(looks).points;
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let length_s = last.at_s - first.at_s;
    let mut gaps: Vec<f64> = points.windows(2).map(|pair| pair[1].at_s - pair[0].at_s).collect();
    gaps.sort_by(f64::total_cmp);
    let mut tau_s = gaps.get(gaps.len() / 2).copied().unwrap_or(0.0);
    let mut found = Vec::new();
    while tau_s > 0.0 && tau_s * 4.0 <= length_s {
        found.extend(at(&points, tau_s));
        tau_s *= 2.0;
    }
    found
}

fn at(points: &[Point], tau_s: f64) -> Option<Deviation> {
    let kept = quickest(points, tau_s);
    // A stretch without a look, or next to none, breaks the pair, and so does a jump.
    let slope = |pair: [&(Point, usize); 2]| {
        let ([one, two], is_whole) = (pair.map(|(point, _)| point), pair[0].1 == pair[1].1);
        let length_s = two.at_s - one.at_s;
        (is_whole && (0.4 * tau_s..1.9 * tau_s).contains(&length_s)).then(|| (two.z_s - one.z_s) / length_s)
    };
    let squares: Vec<f64> = kept
        .windows(3)
        .filter_map(|three| Some((slope([&three[0], &three[1]])?, slope([&three[1], &three[2]])?)))
        .map(|(one, two)| (two - one) * (two - one) / 2.0)
        .collect();
    let pairs = squares.len();
    let mean = squares.iter().sum::<f64>() / count(pairs.max(1));
    (pairs >= PAIRS_MIN).then(|| Deviation { tau_s, deviation: mean.sqrt(), pairs })
}

/// Of each stretch the look with the shortest round trip, and how many jumps were before it.
fn quickest(points: &[Point], tau_s: f64) -> Vec<(Point, usize)> {
    let mut kept: Vec<(Point, usize)> = Vec::new();
    let (mut stretch, mut jumps) = (f64::NEG_INFINITY, 0);
    for point in points {
        jumps += usize::from(point.after_jump);
        // A look that is late by a hair belongs where it was meant to be.
        let own = (point.at_s / tau_s + 0.5).floor();
        let is_another = own > stretch || kept.last().is_some_and(|best| best.1 != jumps);
        if is_another {
            stretch = own;
            kept.push((*point, jumps));
        } else if let Some(best) = kept.last_mut().filter(|best| point.delay_s < best.0.delay_s) {
            best.0 = *point;
        }
    }
    kept
}
