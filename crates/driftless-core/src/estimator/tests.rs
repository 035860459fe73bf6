//! The estimator against planted truths.

use proptest::prelude::*;

use super::*;
use crate::clock::Leap;

/// A sample at `second` of a counter whose reference gains `ppm` on it, with equal delays each way.
fn sample(second: f64, ppm: f64, jump_s: f64, delay_s: f64) -> Sample {
    let raw = RawTime::from_nanos(0) + Seconds(second).to_span();
    Sample {
        raw,
        local: WallTime::from_nanos(raw.as_nanos()),
        offset: Seconds(second * ppm * 1e-6 + jump_s),
        delay: Seconds(delay_s),
        dispersion: Seconds(1e-7),
        root_delay: Seconds::ZERO,
        root_dispersion: Seconds::ZERO,
        stratum: 1,
        leap: Leap::None,
    }
}

fn fed(count: u32, ppm: f64) -> Estimator {
    let mut estimator = Estimator::new(None);
    for n in 0..count {
        estimator.add(&sample(f64::from(n), ppm, 0.0, 1e-3 + f64::from(n % 7) * 10e-6));
    }
    estimator
}

fn at(second: f64) -> Now {
    let raw = RawTime::from_nanos(0) + Seconds(second).to_span();
    Now { raw, wall: WallTime::from_nanos(raw.as_nanos()) }
}

#[test]
fn a_drift_is_learnt_to_a_ppm_in_a_minute() {
    let estimate = fed(60, -676.0).estimate(at(60.0)).unwrap();
    assert!((estimate.frequency.ppm() + 676.0).abs() < 1.0, "{estimate:?}");
    assert!((estimate.offset.0 + 60.0 * 676e-6).abs() < 20e-6, "{estimate:?}");
}

#[test]
fn a_jump_is_found_by_two_samples_and_leaves_the_frequency_alone() {
    let mut estimator = fed(60, 300.0);
    let before = estimator.estimate(at(60.0)).unwrap().frequency;
    assert_eq!(estimator.add(&sample(61.0, 300.0, 20.0, 1e-3)), Verdict::Doubtful);
    let Verdict::Jumped(by) = estimator.add(&sample(61.25, 300.0, 20.0, 1e-3)) else { panic!("no jump") };
    assert!((by.0 - 20.0).abs() < 1e-4);
    let after = estimator.estimate(at(62.0)).unwrap();
    assert!((after.frequency.ppm() - before.ppm()).abs() < 1.0);
    assert!((after.offset.0 - 20.0 - 62.0 * 300e-6).abs() < 1e-3);
}

#[test]
fn a_change_of_rate_is_told_from_a_jump() {
    let mut estimator = fed(120, 0.0);
    let mut verdicts = Vec::new();
    for n in 1..=12_u32 {
        let second = 120.0 + f64::from(n);
        let grown = f64::from(n) * 600e-6;
        verdicts.push(estimator.add(&sample(second, 0.0, grown, 1e-3)));
    }
    assert!(verdicts.iter().any(|v| matches!(v, Verdict::RateChanged(_))), "{verdicts:?}");
    let after = estimator.estimate(at(133.0)).unwrap();
    assert!((after.frequency.ppm() - 600.0).abs() < 30.0, "{after:?}");
}

#[test]
fn one_bad_sample_changes_nothing() {
    let mut estimator = fed(60, 100.0);
    let before = estimator.estimate(at(70.0)).unwrap();
    assert_eq!(estimator.add(&sample(61.0, 100.0, 0.5, 1e-3)), Verdict::Doubtful);
    assert_eq!(estimator.add(&sample(62.0, 100.0, 0.0, 1e-3)), Verdict::Outlier);
    let after = estimator.estimate(at(70.0)).unwrap();
    assert!((after.offset.0 - before.offset.0).abs() < 20e-6);
}

#[test]
fn a_late_reply_says_little() {
    let mut estimator = fed(60, 0.0);
    let mut late = sample(60.0, 0.0, 0.0, 101e-3);
    late.offset = Seconds(50e-3);
    estimator.add(&late);
    assert!(estimator.estimate(at(60.0)).unwrap().offset.abs().0 < 50e-6);
}

proptest! {
    #[test]
    fn estimates_are_finite_for_any_finite_input(
        steps in proptest::collection::vec((1e-3..1e5_f64, -1e6..1e6_f64, 0.0..1e3_f64), 1..50)
    ) {
        let mut estimator = Estimator::new(None);
        let mut second = 0.0;
        for (elapsed, offset, delay) in steps {
            second += elapsed;
            estimator.add(&sample(second, 0.0, offset, delay));
            let estimate = estimator.estimate(at(second + 1.0)).unwrap();
            prop_assert!(estimate.offset.is_finite() && estimate.bound.is_finite());
            prop_assert!(estimate.frequency.0.is_finite() && estimate.offset_error.0 > 0.0);
        }
    }
}

/// A route that becomes 10 ms longer in one direction only moves every measured offset by 5 ms. Nobody's clock jumped.
#[test]
fn a_route_that_grows_one_way_moves_no_clock() {
    let mut estimator = Estimator::new(None);
    let mut seed = 7_u64;
    let mut jitter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = f64::from(u32::try_from(seed >> 33).unwrap()) / 2_147_483_648.0;
        -100e-6 * (1.0 - uniform).ln()
    };
    let mut worst: f64 = 0.0;
    for n in 0..400_u32 {
        let longer = if (100..300).contains(&n) { 10e-3 } else { 0.0 };
        let (up, down) = (50e-6 + longer + jitter(), 50e-6 + jitter());
        let second = f64::from(n) * 64.0;
        estimator.add(&sample(second, 0.0, (up - down) / 2.0, up + down));
        if n > 60 {
            worst = worst.max(estimator.estimate(at(second)).unwrap().offset.abs().0);
        }
    }
    assert!(worst < 300e-6, "{worst}");
}

/// The first reply waited a second for the route to be found. What it leaves open must not pass for scatter that explains the next pause.
#[test]
fn a_first_reply_that_was_late_hides_no_interruption() {
    for late in [&[1.03][..], &[1.03, 1.03], &[1.03, 0.02]] {
        for before in 3..12_u32 {
            let mut estimator = Estimator::new(None);
            let mut verdicts = Vec::new();
            for n in 0..before + 4 {
                let second = f64::from(n.min(4)) * 2.0 + f64::from(n.saturating_sub(4)) * 16.0;
                let wait = late.get(n as usize).copied().unwrap_or(0.0);
                let jitter = f64::from(n * 37 % 10) * 10e-6;
                let jump = if n < before { 0.0 } else { 0.8 };
                let verdict =
                    estimator.add(&sample(second, 676.0, jump + wait / 2.0, 400e-6 + wait + jitter));
                verdicts.push((n, verdict));
            }
            let is_jump = |(n, verdict): &(u32, Verdict)| {
                *n >= before && matches!(verdict, Verdict::Jumped(by) if (by.0 - 0.8).abs() < 20e-3)
            };
            assert!(verdicts.iter().any(is_jump), "{late:?} {before}: {verdicts:?}");
        }
    }
}
