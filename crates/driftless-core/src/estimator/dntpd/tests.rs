//! dntpd's rules, one by one; its promise of accuracy is in `accuracy`.

use proptest::prelude::*;

use super::*;
use crate::clock::Leap;
use crate::time::WallTime;

mod accuracy;

/// A counter whose reference gains `ppm` on it, looked at by a clock that nobody corrects, with noise of ±`noise_s`.
#[derive(Clone, Copy)]
struct Drift {
    ppm: f64,
    start_s: f64,
    noise_s: f64,
}

const QUIET: Drift = Drift { ppm: -676.0, start_s: 0.0, noise_s: 0.0 };

impl Drift {
    fn truth(&self, second: f64) -> f64 {
        self.start_s + second * self.ppm * 1e-6
    }

    fn sample(&self, second: f64, n: u32) -> Sample {
        let uniform = 2.0 * f64::from(mixed(n)) / f64::from(u32::MAX) - 1.0;
        // No path can make more noise than half of its delay.
        let delay = Seconds(1e-3 + self.noise_s * 2.0);
        Sample { delay, ..sample(second, self.truth(second) + uniform * self.noise_s) }
    }

    /// Regressions after `count` samples, the first at 0 s, `interval` s apart.
    fn fed(&self, count: u32, interval: f64) -> Regressions {
        self.fed_with(Settings::default(), count, interval)
    }

    fn fed_with(&self, settings: Settings, count: u32, interval: f64) -> Regressions {
        let mut regressions = Regressions::new(None, settings);
        for n in 0..count {
            regressions.add(&self.sample(f64::from(n) * interval, n));
        }
        regressions
    }
}

/// Spreads small numbers over all 32 bits: noise that is the same each time.
fn mixed(n: u32) -> u32 {
    let n = (n ^ 0x9e37_79b9).wrapping_mul(0x85eb_ca6b);
    let n = (n ^ (n >> 13)).wrapping_mul(0xc2b2_ae35);
    n ^ (n >> 16)
}

fn sample(second: f64, offset: f64) -> Sample {
    let now = at(second);
    Sample {
        raw: now.raw,
        local: now.wall,
        offset: Seconds(offset),
        delay: Seconds(1e-3),
        dispersion: Seconds(1e-7),
        root_delay: Seconds::ZERO,
        root_dispersion: Seconds::ZERO,
        stratum: 1,
        leap: Leap::None,
    }
}

fn at(second: f64) -> Now {
    let nanos = Seconds(second).to_span().as_nanos();
    Now { raw: RawTime::from_nanos(nanos), wall: WallTime::from_nanos(nanos) }
}

// D11

#[test]
fn d11_the_second_regression_takes_over_when_the_first_is_full() {
    let before = QUIET.fed(29, 300.0);
    assert_eq!((before.first().unwrap().samples, before.second().unwrap().samples), (29, 14));
    let after = QUIET.fed(30, 300.0);
    assert_eq!((after.first().unwrap().samples, after.second()), (15, None));
    assert!((after.estimate(at(9000.0)).unwrap().frequency.ppm() + 676.0).abs() < 1e-6);
}

#[test]
fn d11_the_second_overrides_a_first_that_a_change_has_bent() {
    // From the 15th sample on the counter drifts by 3 ppm more: no single sample is far enough off to be doubted.
    let mut regressions = Regressions::new(None, Settings::default());
    let mut verdicts = Vec::new();
    for n in 0..26_u32 {
        let second = f64::from(n) * 300.0;
        let bent = (second - 15.0 * 300.0).max(0.0) * 3e-6;
        let steady = Drift { ppm: 5.0, start_s: 0.0, noise_s: 20e-6 };
        let verdict = regressions.add(&sample(second, steady.sample(second, n).offset.0 + bent));
        verdicts.push(verdict);
    }
    let changed = verdicts.iter().position(|v| matches!(v, Verdict::RateChanged(_)));
    assert_eq!(changed, Some(22), "{verdicts:?}");
    let estimate = regressions.estimate(at(26.0 * 300.0)).unwrap();
    assert!((estimate.frequency.ppm() - 8.0).abs() < 0.1, "{estimate:?}");
}

#[test]
fn d11_a_straight_line_is_not_overridden() {
    for ppm in [-676.0, -3.0, 0.0, 40.0] {
        let regressions = Drift { ppm, start_s: 0.0, noise_s: 1e-3 }.fed(29, 300.0);
        assert_eq!(regressions.first().unwrap().samples, 29, "{ppm} ppm");
    }
}

#[test]
fn d11_no_correction_of_the_clock_bends_the_line() {
    let mut free = Regressions::new(None, Settings::default());
    let mut steered = free.clone();
    for n in 0..20_u32 {
        let plain = QUIET.sample(f64::from(n) * 300.0, n);
        let moved = Seconds(f64::from(n * n) * 0.25);
        free.add(&plain);
        let local = plain.local + moved.to_span();
        steered.add(&Sample { local, offset: plain.offset - moved, ..plain });
    }
    let (free, steered) = (free.first().unwrap(), steered.first().unwrap());
    assert!((free.slope - steered.slope).abs().ppm() < 1e-6);
    assert!((free.correlation - steered.correlation).abs() < 1e-12);
}

// D12

#[test]
fn d12_the_frequency_needs_8_samples_that_lie_on_a_line() {
    assert!(!QUIET.fed(7, 5.0).permits(at(60.0)).frequency);
    assert!(QUIET.fed(8, 5.0).permits(at(60.0)).frequency);
}

#[test]
fn d12_or_16_samples_that_lie_less_well_on_it() {
    let (mut nearly_strict, mut barely_loose) = (0, 0);
    for (ppm, count) in (1..=40).flat_map(|ppm| (8..=29).map(move |count| (f64::from(ppm), count))) {
        let regressions = Drift { ppm, start_s: 0.0, noise_s: 5e-3 }.fed(count, 300.0);
        let line = regressions.first().unwrap();
        let least = if line.samples < 16 { 0.99 } else { 0.96 };
        let permitted = regressions.permits(at(9000.0)).frequency;
        assert_eq!(permitted, line.samples >= 8 && line.correlation >= least, "{line:?}");
        nearly_strict += u32::from(line.samples < 16 && (0.98..0.99).contains(&line.correlation));
        barely_loose += u32::from(line.samples >= 16 && (0.96..0.97).contains(&line.correlation));
    }
    assert!(nearly_strict > 0 && barely_loose > 0, "the cases lie on both sides");
}

#[test]
fn d12_noise_without_drift_permits_no_frequency() {
    let regressions = Drift { ppm: 0.0, start_s: 0.0, noise_s: 1e-3 }.fed(25, 300.0);
    assert!(!regressions.permits(at(9000.0)).frequency);
    assert!(regressions.estimate(at(9000.0)).unwrap().frequency.abs().ppm() < 0.5);
}

#[test]
fn d12_one_frequency_correction_a_sample() {
    let mut regressions = QUIET.fed(10, 300.0);
    assert!(regressions.permits(at(3000.0)).frequency);
    regressions.frequency_corrected();
    assert!(!regressions.permits(at(3000.0)).frequency);
    regressions.add(&QUIET.sample(3000.0, 10));
    assert!(regressions.permits(at(3000.0)).frequency);
}

// D13

#[test]
fn d13_the_offset_needs_4_samples() {
    let behind = Drift { start_s: 0.5, ..QUIET };
    assert!(!behind.fed(3, 5.0).permits(at(15.0)).offset);
    assert!(behind.fed(4, 5.0).permits(at(20.0)).offset);
}

#[test]
fn d13_the_offset_must_exceed_4_deviations() {
    let noise = |start_s| Drift { ppm: 0.0, start_s, noise_s: 1e-3 }.fed(6, 5.0).permits(at(30.0));
    assert!(!noise(1e-3).offset);
    assert!(noise(5e-3).offset);
}

#[test]
fn d13_an_offset_that_is_gone_is_not_corrected_again() {
    let drift = Drift { ppm: 100.0, start_s: 0.5, noise_s: 1e-3 };
    let mut regressions = drift.fed(4, 5.0);
    let offset = regressions.estimate(at(20.0)).unwrap().offset;
    assert!(regressions.permits(at(20.0)).offset);
    regressions.offset_corrected(at(20.0), at(20.0).raw);
    let corrected = Now { wall: at(20.0).wall + offset.to_span(), ..at(20.0) };
    assert!(regressions.estimate(corrected).unwrap().offset.abs().0 < 1e-9);
    assert_eq!(regressions.permits(corrected), Permits::default());
}

#[test]
fn d13_nothing_follows_before_a_correction_is_applied_in_full() {
    let drift = Drift { ppm: 100.0, start_s: 0.5, noise_s: 0.0 };
    let mut regressions = drift.fed(4, 5.0);
    regressions.offset_corrected(at(15.0), at(100.0).raw);
    for n in 4..10_u32 {
        regressions.add(&drift.sample(f64::from(n) * 5.0, n));
    }
    assert_eq!(regressions.permits(at(50.0)), Permits { frequency: true, ..Permits::default() });
    assert!(regressions.permits(at(100.0)).offset, "0.5 s are left: nobody has moved this clock");
}

#[test]
fn d13_nothing_is_permitted_while_in_doubt() {
    let mut regressions = Drift { start_s: 0.5, ..QUIET }.fed(10, 300.0);
    assert_eq!(regressions.add(&sample(3000.0, 20.0)), Verdict::Doubtful);
    assert_eq!(regressions.permits(at(3000.0)), Permits::default());
}

// D6, D14

#[test]
fn d14_two_minutes_make_a_correction_coarse() {
    let off = |start_s| Drift { ppm: 0.0, start_s, noise_s: 1e-3 }.fed(4, 5.0).permits(at(20.0));
    assert!(!off(119.0).coarse && off(119.0).offset);
    assert!(off(121.0).coarse && off(121.0).offset);
    assert!(off(-121.0).coarse);
}

#[test]
fn d6_at_the_start_a_coarse_one_may_be_had_for_4_deviations() {
    let settings = Settings { coarse_at_start: true, ..Settings::default() };
    let off = |start_s| Drift { ppm: 0.0, start_s, noise_s: 1e-3 }.fed_with(settings, 6, 5.0);
    assert!(!off(1e-3).permits(at(30.0)).coarse);
    let mut started = off(0.5);
    assert!(started.permits(at(30.0)).coarse);
    started.offset_corrected(at(30.0), at(30.0).raw);
    for n in 6..12_u32 {
        started.add(&sample(f64::from(n) * 5.0, 0.5));
    }
    let later = started.permits(at(60.0));
    assert!(later.offset && !later.coarse, "only the first");
}

// D15

#[test]
fn d15_six_quick_polls_then_nominal_then_rare_once_good() {
    let mut regressions = Regressions::new(None, Settings::default());
    let (mut second, mut polls) = (0.0, Vec::new());
    for n in 0..24_u32 {
        polls.push(regressions.poll().as_nanos() / 1_000_000_000);
        regressions.add(&QUIET.sample(second, n));
        second += Seconds::from(regressions.poll()).0;
    }
    assert_eq!(polls[..6], [5; 6]);
    assert_eq!(polls[6..22], [300; 16]);
    assert_eq!(polls[22..], [1800; 2]);
}

#[test]
fn d15_a_target_that_does_not_correlate_is_not_good() {
    let noise = Drift { ppm: 0.0, start_s: 0.0, noise_s: 1e-3 };
    assert_eq!(noise.fed(200, 300.0).mode(), Mode::Acquire);
}

#[test]
fn d15_a_good_target_whose_correlation_is_lost_is_good_no_more() {
    let quiet = Drift { ppm: 1.0, start_s: 0.0, noise_s: 100e-6 };
    let mut regressions = quiet.fed(25, 300.0);
    assert_eq!(regressions.mode(), Mode::Maintain);
    let noisy = Drift { noise_s: 50e-3, ..quiet };
    for n in 25..50_u32 {
        let verdict = regressions.add(&noisy.sample(f64::from(n) * 300.0, n));
        assert!(!matches!(verdict, Verdict::RateChanged(_)), "its rate is what it was");
    }
    assert_eq!(regressions.mode(), Mode::Acquire);
}

#[test]
fn d10_a_short_nominal_poll_shortens_the_first_ones_too() {
    let settings = Settings { nominal: Span::from_secs(2), ..Settings::default() };
    assert_eq!(Regressions::new(None, settings).poll(), Span::from_secs(2));
}

// D16

#[test]
fn d16_a_silent_target_fails_and_is_asked_at_the_nominal_rate_until_it_comes_back() {
    let mut regressions = QUIET.fed(29, 300.0);
    let before = regressions.estimate(at(9000.0));
    assert_eq!(regressions.poll(), Span::from_secs(1800));
    for _ in 0..3 {
        assert_eq!(regressions.mode(), Mode::Maintain);
        regressions.unanswered();
    }
    assert_eq!((regressions.mode(), regressions.poll()), (Mode::Failed, Span::from_secs(300)));
    for _ in 0..1000 {
        regressions.unanswered();
    }
    assert_eq!((regressions.mode(), regressions.poll()), (Mode::Failed, Span::from_secs(300)));
    assert_eq!(before.map(|e| e.frequency), regressions.estimate(at(1e5)).map(|e| e.frequency));
    assert_eq!(regressions.add(&QUIET.sample(400_000.0, 0)), Verdict::Usual, "the line still holds");
    assert_eq!(regressions.mode(), Mode::Acquire);
}

#[test]
fn d16_a_target_that_never_answered_fails_too() {
    let mut regressions = Regressions::new(None, Settings::default());
    (0..3).for_each(|_| regressions.unanswered());
    assert_eq!(regressions.mode(), Mode::Failed);
    regressions.add(&QUIET.sample(0.0, 0));
    assert_eq!(regressions.mode(), Mode::Acquire);
}

// D17

#[test]
fn d17_asymmetric_latency_stays_within_the_bound() {
    let mut regressions = Regressions::new(None, Settings::default());
    for n in 0..20_u32 {
        // All of 40 ms on the way there: the offset seems 20 ms too large.
        let second = f64::from(n) * 300.0;
        regressions.add(&Sample { delay: Seconds(40e-3), ..sample(second, 20e-3) });
    }
    let estimate = regressions.estimate(at(5700.0)).unwrap();
    assert!((estimate.offset.0 - 20e-3).abs() < 1e-6, "the truth is 0");
    assert!(estimate.bound.0 >= 20e-3 && estimate.bound.0 < 25e-3, "{estimate:?}");
    assert!(regressions.root_distance().0 >= 20e-3);
}

#[test]
fn d17_a_running_correction_may_be_revised() {
    let drift = Drift { ppm: 100.0, start_s: 0.5, noise_s: 100e-6 };
    let mut regressions = drift.fed(10, 5.0);
    regressions.offset_corrected(at(46.0), at(5000.0).raw);
    for n in 10..14_u32 {
        regressions.add(&drift.sample(f64::from(n) * 5.0, n));
    }
    assert!(!regressions.permits(at(65.0)).revise, "as it was aimed");
    // The reference is stepped by 2 s while the correction of 0.5 s still runs.
    let stepped = Drift { start_s: 2.5, ..drift };
    for n in 14..20_u32 {
        regressions.add(&stepped.sample(f64::from(n) * 5.0, n));
    }
    let permits = regressions.permits(at(96.0));
    assert!(permits.revise && !permits.offset, "{permits:?}");
    regressions.offset_corrected(at(96.0), at(5000.0).raw);
    assert!(!regressions.permits(at(96.0)).revise, "once is enough");
}

#[test]
fn d17_the_frequency_of_an_earlier_run_is_held_until_the_line_knows_better() {
    let prior = (Frequency::from_ppm(-676.0), Frequency::from_ppm(1.0));
    let mut regressions = Regressions::new(Some(prior), Settings::default());
    let noisy = Drift { noise_s: 1e-3, ..QUIET };
    for n in 0..6_u32 {
        regressions.add(&noisy.sample(f64::from(n) * 5.0, n));
        let frequency = regressions.estimate(at(30.0)).unwrap().frequency;
        assert!((frequency.ppm() + 676.0).abs() < 1.0, "{frequency}");
    }
    let mut wrong = Regressions::new(Some((Frequency::ZERO, prior.1)), Settings::default());
    for n in 0..8_u32 {
        wrong.add(&noisy.sample(f64::from(n) * 300.0, n));
    }
    assert!((wrong.estimate(at(2400.0)).unwrap().frequency.ppm() + 676.0).abs() < 2.0);
}

#[test]
fn d17_another_address_keeps_the_frequency() {
    let mut regressions = QUIET.fed(20, 300.0);
    regressions.forget_path();
    assert!(regressions.estimate(at(6000.0)).is_some());
    let other = Drift { start_s: 3e-3, ..QUIET };
    assert_eq!(regressions.add(&other.sample(6000.0, 0)), Verdict::Usual);
    let estimate = regressions.estimate(at(6300.0)).unwrap();
    assert!((estimate.frequency.ppm() + 676.0).abs() < 1e-3);
    assert!((estimate.offset.0 - other.truth(6300.0)).abs() < 1e-6);
}

#[test]
fn a_jump_is_found_by_two_samples_and_leaves_the_frequency_alone() {
    let mut regressions = QUIET.fed(20, 300.0);
    let jumped = Drift { start_s: 20.0, ..QUIET };
    assert_eq!(regressions.add(&jumped.sample(6000.0, 0)), Verdict::Doubtful);
    assert_eq!(regressions.poll(), Span::from_secs(5));
    let Verdict::Jumped(by) = regressions.add(&jumped.sample(6005.0, 0)) else { panic!("no jump") };
    assert!((by.0 - 20.0).abs() < 1e-6);
    let estimate = regressions.estimate(at(6010.0)).unwrap();
    assert!((estimate.frequency.ppm() + 676.0).abs() < 1e-3);
    assert!((estimate.offset.0 - jumped.truth(6010.0)).abs() < 1e-6);
}

#[test]
fn a_change_of_rate_is_told_from_a_jump() {
    let mut regressions = Drift { noise_s: 100e-6, ..QUIET }.fed(20, 300.0);
    let migrated = Drift { ppm: -376.0, start_s: -6000.0 * 300e-6, noise_s: 100e-6 };
    let mut verdicts = Vec::new();
    for n in 1..8_u32 {
        let second = 6000.0 + f64::from(n) * 300.0;
        verdicts.push(regressions.add(&migrated.sample(second, n)));
    }
    let changed =
        verdicts.iter().find_map(|v| if let Verdict::RateChanged(by) = v { Some(by.ppm()) } else { None });
    assert!((changed.unwrap() - 300.0).abs() < 2.0, "{verdicts:?}");
    let estimate = regressions.estimate(at(8100.0)).unwrap();
    assert!((estimate.frequency.ppm() + 376.0).abs() < 1.0, "{estimate:?}");
}

#[test]
fn one_bad_sample_changes_nothing() {
    let mut regressions = QUIET.fed(20, 300.0);
    let before = regressions.estimate(at(7000.0)).unwrap();
    assert_eq!(regressions.add(&sample(6000.0, 3.0)), Verdict::Doubtful);
    assert_eq!(regressions.add(&QUIET.sample(6005.0, 0)), Verdict::Outlier);
    let after = regressions.estimate(at(7000.0)).unwrap();
    assert!((after.offset - before.offset).abs().0 < 1e-6);
}

#[test]
fn a_server_with_a_coarse_clock_is_hardly_ever_taken_for_one_that_jumps() {
    // Its clock ticks every 64th of a second, of which a short delay tells nothing.
    let drift = Drift { ppm: 0.0, start_s: 0.0, noise_s: 8e-3 };
    let mut mistaken = 0;
    for start in 0..100 {
        let mut regressions = Regressions::new(None, Settings::default());
        for n in 0..20_u32 {
            let coarse = drift.sample(f64::from(n) * 300.0, n + start * 100);
            let verdict = regressions.add(&Sample { delay: Seconds(200e-6), ..coarse });
            mistaken += u32::from(matches!(verdict, Verdict::Jumped(_) | Verdict::RateChanged(_)));
        }
    }
    assert!(mistaken <= 2, "{mistaken} of 2000 samples");
}

#[test]
fn a_target_that_keeps_contradicting_is_learnt_anew() {
    let mut regressions = QUIET.fed(20, 300.0);
    let wild = |n: u32| sample(6000.0 + f64::from(n) * 5.0, if n == 0 { 90.0 } else { -90.0 });
    let verdicts: Vec<Verdict> = (0..8).map(|n| regressions.add(&wild(n))).collect();
    assert!(matches!(verdicts[7], Verdict::RateChanged(_)), "{verdicts:?}");
    assert!(!regressions.is_in_doubt());
}

#[test]
fn days_of_drift_do_not_drown_the_noise() {
    // 100 days at 2000 ppm: offsets of 17 280 s over a noise of 1 µs.
    let mut regressions = Regressions::new(None, Settings::default());
    let drift = Drift { ppm: 2000.0, start_s: 0.0, noise_s: 1e-6 };
    for n in 0..4800_u32 {
        regressions.add(&drift.sample(f64::from(n) * 1800.0, n));
    }
    let line = regressions.first().unwrap();
    assert!((line.slope.ppm() - 2000.0).abs() < 1e-4, "{line:?}");
    assert!((0.3e-6..1e-6).contains(&line.spread.0), "{line:?}");
}

proptest! {
    #[test]
    fn nothing_is_ever_nan(
        prior in proptest::option::of((-1.0..1.0_f64, 1e-12..1.0_f64)),
        steps in proptest::collection::vec((1e-9..1e7_f64, prop_oneof![-1e300..1e300_f64, -1e10..1e10_f64, -1.0..1.0_f64], 0.0..1e3_f64), 1..80),
    ) {
        let prior = prior.map(|(f, sd)| (Frequency(f), Frequency(sd)));
        let mut regressions = Regressions::new(prior, Settings::default());
        let (mut second, mut taken) = (0.0, false);
        for (elapsed, offset, delay) in steps {
            second += elapsed;
            taken |= regressions.add(&Sample { delay: Seconds(delay), ..sample(second, offset) }) != Verdict::Ignored;
            let now = at(second + 1.0);
            let estimate = regressions.estimate(now);
            prop_assert_eq!(estimate.is_some(), taken);
            let Some(estimate) = estimate else { continue };
            prop_assert!(estimate.offset.is_finite() && estimate.bound.is_finite());
            prop_assert!(estimate.frequency.0.is_finite() && estimate.frequency_error.0.is_finite());
            prop_assert!(estimate.offset_error.0 > 0.0 && estimate.bound.0 >= 0.0);
            prop_assert!(regressions.predicted_error(Span::from_secs(1800)).unwrap().0 > 0.0);
            prop_assert!(regressions.jitter().is_finite() && regressions.poll() > Span::ZERO);
            regressions.offset_corrected(now, now.raw + Span::from_secs(1));
            prop_assert!(!regressions.permits(now).offset);
        }
    }

    #[test]
    fn time_translation_changes_nothing(
        raw_by in -4_000_000_000_000_000_000..4_000_000_000_000_000_000_i64,
        wall_by in -4_000_000_000_000_000_000..4_000_000_000_000_000_000_i64,
        steps in proptest::collection::vec((1e-3..2e3_f64, -1e-2..1e-2_f64, 0.0..1e-2_f64), 1..80),
    ) {
        let (raw_by, wall_by) = (Span::from_nanos(raw_by), Span::from_nanos(wall_by));
        let mut here = Regressions::new(None, Settings::default());
        let mut there = here.clone();
        let mut second = 0.0;
        for (elapsed, offset, delay) in steps {
            second += elapsed;
            let plain = Sample { delay: Seconds(delay), ..sample(second, offset + QUIET.truth(second)) };
            let moved = Sample { raw: plain.raw + raw_by, local: plain.local + wall_by, ..plain };
            prop_assert_eq!(here.add(&plain), there.add(&moved));
            let now = at(second + 100.0);
            let then = Now { raw: now.raw + raw_by, wall: now.wall + wall_by };
            prop_assert_eq!(here.estimate(now), there.estimate(then));
            prop_assert_eq!(here.permits(now), there.permits(then));
        }
    }
}
