//! Several who agree are heard together, each as far as it can be trusted.

use crate::estimator::Estimate;
use crate::time::{Frequency, Seconds};

/// Sources further from the root than this many times the nearest are left out: they could only blur it (chrony's `combinelimit`).
const DISTANCE_RATIO_MAX: f64 = 3.0;
/// The part of its root distance that a path's unseen asymmetry usually is, as a standard deviation.
const ASYMMETRY_PART: f64 = 0.05;

/// One estimate from several, weighted by what their samples leave open and by what no exchange can show. The bound is the tightest that
/// any of them gives for the common offset; of one alone it is its own. `None` for nobody.
#[must_use]
pub fn combine(agreeing: &[Estimate]) -> Option<Estimate> {
    let nearest = agreeing.iter().map(|e| e.root_distance).reduce(Seconds::min)?;
    let heard: Vec<&Estimate> =
        agreeing.iter().filter(|e| e.root_distance.0 <= nearest.0 * DISTANCE_RATIO_MAX).collect();
    if let [alone] = heard.as_slice() {
        return Some(**alone);
    }
    let unseen = |e: &Estimate| e.offset_error.0.powi(2) + (e.root_distance.0 * ASYMMETRY_PART).powi(2);
    let by_offset = |value: fn(&Estimate) -> f64| mean(&heard, |e| 1.0 / unseen(e), value);
    let by_frequency = |value: fn(&Estimate) -> f64| mean(&heard, |e| e.frequency_error.0.powi(-2), value);
    let offset = Seconds(by_offset(|e| e.offset.0));
    let offset_error = Seconds(by_offset(|e| e.offset_error.0) / count(heard.len()).sqrt());
    let bound = heard.iter().map(|e| e.bound + (e.offset - offset).abs()).reduce(Seconds::min)?;
    Some(Estimate {
        offset,
        offset_error,
        bound,
        root_distance: nearest,
        frequency: Frequency(by_frequency(|e| e.frequency.0)),
        frequency_error: Frequency(by_frequency(|e| e.frequency_error.0) / count(heard.len()).sqrt()),
    })
}

fn mean(heard: &[&Estimate], weight: impl Fn(&Estimate) -> f64, value: fn(&Estimate) -> f64) -> f64 {
    let sum: f64 = heard.iter().map(|e| weight(e)).sum();
    heard.iter().map(|e| weight(e) * value(e)).sum::<f64>() / sum
}

fn count(n: usize) -> f64 {
    f64::from(u16::try_from(n).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(offset: f64, error: f64, distance: f64) -> Estimate {
        Estimate {
            offset: Seconds(offset),
            offset_error: Seconds(error),
            bound: Seconds(distance + 4.0 * error),
            root_distance: Seconds(distance),
            frequency: Frequency::from_ppm(offset * 1e6),
            frequency_error: Frequency::from_ppm(1.0),
        }
    }

    #[test]
    fn the_surer_one_counts_more_and_a_far_one_not_at_all() {
        let near = [estimate(0.0, 1e-6, 1e-4), estimate(10e-6, 20e-6, 1e-4), estimate(5e-3, 1e-6, 1e-2)];
        let combined = combine(&near).unwrap();
        assert!((0.0..2e-6).contains(&combined.offset.0), "{combined:?}");
        assert!(combined.bound < Seconds(110e-6));
    }

    #[test]
    fn equals_are_averaged_and_known_better_together() {
        let four: Vec<Estimate> =
            [0.0, 4e-6, 8e-6, 12e-6].map(|offset| estimate(offset, 10e-6, 1e-4)).to_vec();
        let combined = combine(&four).unwrap();
        assert!((combined.offset.0 - 6e-6).abs() < 1e-12);
        assert!((combined.offset_error.0 - 5e-6).abs() < 1e-12);
        assert_eq!(combine(&[]), None);
    }
}
