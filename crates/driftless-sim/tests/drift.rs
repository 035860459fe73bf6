//! The measured drift's error holds as often as it says, and is not wider than it need be.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use driftless_core::clock::{Leap, Rate};
use driftless_core::drift::{self, Cause, Look, allan};
use driftless_core::sample::Sample;
use driftless_core::time::{Frequency, RawTime, Seconds, WallTime};
use driftless_sim::link::{DirectionConfig, Law, Link, LinkConfig, Way};
use driftless_sim::noise::Seed;
use driftless_sim::oscillator::{Oscillator, OscillatorConfig};
use driftless_sim::truth::TrueTime;

/// A measurement to be: looks this often for this long, over a path, at a counter.
#[derive(Clone)]
struct Plan {
    name: &'static str,
    every_s: f64,
    length_s: f64,
    up: Law,
    down: Law,
    loss: f64,
    wander_ppb: f64,
    drift_ppm: f64,
}

const EXPONENTIAL: Law = Law::Exponential { mean: 100e-6 };

fn plans() -> Vec<Plan> {
    let usual = Plan {
        name: "host, a minute",
        every_s: 1.0,
        length_s: 60.0,
        up: EXPONENTIAL,
        down: EXPONENTIAL,
        loss: 0.0,
        wander_ppb: 1.0,
        drift_ppm: 666.0,
    };
    let normal = Law::Normal { mean: 200e-6, sd: 30e-6 };
    let heavy = Law::Heavy { scale: 4e-3, factors: 3, cap: 0.1 };
    vec![
        usual.clone(),
        Plan { name: "host, ten minutes", length_s: 600.0, drift_ppm: -2_000.0, ..usual.clone() },
        Plan { name: "host, ten looks", length_s: 10.0, ..usual.clone() },
        Plan { name: "normal jitter", up: normal, down: normal, length_s: 120.0, ..usual.clone() },
        Plan { name: "queues on the way there", down: Law::None, length_s: 120.0, ..usual.clone() },
        Plan { name: "heavy queues, a third lost", up: heavy, loss: 0.3, length_s: 300.0, ..usual.clone() },
        Plan { name: "a counter that wanders", wander_ppb: 100.0, length_s: 300.0, ..usual.clone() },
        Plan {
            name: "a clock that is read",
            every_s: 0.1,
            up: Law::Exponential { mean: 300e-9 },
            down: Law::Exponential { mean: 300e-9 },
            ..usual.clone()
        },
        Plan {
            name: "log-normal",
            up: Law::LogNormal { median: 100e-6, sigma: 1.0 },
            down: Law::LogNormal { median: 100e-6, sigma: 1.0 },
            ..usual
        },
    ]
}

/// Looks, and the true mean drift between the first and the last.
fn looks(plan: &Plan, seed: u64) -> (Vec<Look>, f64) {
    let direction = |jitter| DirectionConfig { jitter, loss: plan.loss, ..DirectionConfig::default() };
    let config = LinkConfig { up: direction(plan.up), down: direction(plan.down), ..LinkConfig::default() };
    let mut link = Link::new(config, Seed(seed), "link");
    let oscillator = OscillatorConfig {
        wander_ppb: plan.wander_ppb,
        drift_ppm: plan.drift_ppm,
        ..OscillatorConfig::default()
    };
    let mut counter = Oscillator::new(oscillator, Seed(seed).stream("oscillator"));
    let (mut looks, mut ends) = (Vec::new(), Vec::new());
    let mut asked_s = 0.1;
    while asked_s <= plan.length_s + 0.1 {
        let asked = TrueTime::from_seconds(asked_s);
        asked_s += plan.every_s;
        let [Some(up), _] = link.send(asked, Way::Up) else { continue };
        let there = asked + up;
        let [Some(down), _] = link.send(there, Way::Down) else { continue };
        counter.advance(asked);
        let left = counter.raw();
        counter.advance(there + down);
        let back = counter.raw();
        let middle = left + (back - left).half();
        ends.push((there.seconds(), middle));
        let local = WallTime::from_nanos(middle.as_nanos());
        let reference = WallTime::from_nanos((there - TrueTime::ZERO).as_nanos());
        let sample = Sample {
            raw: middle,
            local,
            offset: Seconds::from(reference - local),
            delay: Seconds::from(back - left),
            dispersion: Seconds::ZERO,
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds::ZERO,
            stratum: 1,
            leap: Leap::None,
        };
        looks.push(Look { sample, rate: Rate::NOMINAL });
    }
    let (from, to) = (looks[0].sample.raw, looks[looks.len() - 1].sample.raw);
    (looks, true_drift(plan, seed, from, to))
}

/// Another counter of the same seed, asked when it stood at those readings.
fn true_drift(plan: &Plan, seed: u64, from: RawTime, to: RawTime) -> f64 {
    let oscillator = OscillatorConfig {
        wander_ppb: plan.wander_ppb,
        drift_ppm: plan.drift_ppm,
        ..OscillatorConfig::default()
    };
    let mut counter = Oscillator::new(oscillator, Seed(seed).stream("oscillator"));
    let mut when = |raw: RawTime| {
        // Cell by cell, since its rate is another in each.
        let mut at = TrueTime::ZERO;
        loop {
            let next = counter.when(raw);
            let cell = TrueTime::from_seconds(at.seconds().floor() + 1.0);
            if next <= cell {
                counter.advance(next);
                return next;
            }
            counter.advance(cell);
            at = cell;
        }
    };
    let (first, last) = (when(from), when(to));
    let raw_s = Seconds::from(to - from).0;
    1.0 - Seconds::from(last - first).0 / raw_s
}

/// So many times as wide as needed an error may be.
const WIDEST: f64 = 1.35;
/// Seeds of each plan.
const SEEDS: u64 = 1_000;

#[test]
fn the_error_holds_in_95_of_100_and_is_not_wider_than_it_need_be() {
    std::thread::scope(|scope| {
        let all: Vec<_> = plans().into_iter().map(|plan| scope.spawn(move || holds(&plan))).collect();
        let told: Vec<String> = all.into_iter().filter_map(|one| one.join().unwrap().err()).collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    });
}

fn holds(plan: &Plan) -> Result<(), String> {
    let mut ratios: Vec<f64> = Vec::new();
    let mut bars: Vec<f64> = Vec::new();
    for seed in 0..SEEDS {
        let (looks, truth) = looks(plan, seed);
        let measured = drift::measure(&looks).unwrap();
        ratios.push((measured.drift.0 - truth).abs() / measured.error.0);
        bars.push(measured.error.ppm());
    }
    ratios.sort_by(f64::total_cmp);
    bars.sort_by(f64::total_cmp);
    let held = ratios.iter().filter(|ratio| **ratio <= 1.0).count();
    // By how much all bars could shrink and still hold in 95 of 100.
    let needed = ratios[ratios.len() * 95 / 100];
    let told = format!(
        "{}: held in {held} of {SEEDS}, {:.2} times as wide as needed, ± {:.3} ppm",
        plan.name,
        1.0 / needed,
        bars[bars.len() / 2]
    );
    if held * 100 >= ratios.len() * 95 && needed > 1.0 / WIDEST { Ok(()) } else { Err(told) }
}

#[test]
fn a_pause_is_a_jump_and_leaves_the_drift_alone() {
    let (mut looks, truth) = looks(&plans()[0], 7);
    // The guest stood still for 3 s before the thirtieth look: the reference went on.
    for look in &mut looks[30..] {
        look.sample.offset = look.sample.offset + Seconds(3.0);
    }
    let measured = drift::measure(&looks).unwrap();
    let [one] = measured.breaks.as_slice() else { panic!("{:?}", measured.breaks) };
    assert!(matches!(one.cause, Cause::Jump(by) if (by.0 - 3.0).abs() < 1e-3), "{one:?}");
    assert_eq!(one.at, looks[30].sample.raw);
    assert!((measured.drift.0 - truth).abs() < 1e-6 && measured.error.ppm() < 1.0, "{measured:?}");
}

#[test]
fn what_a_daemon_does_meanwhile_is_told_apart_and_changes_nothing() {
    let (free, truth) = looks(&plans()[0], 8);
    let mut steered = free.clone();
    let start = free[0].sample.raw;
    // From the twentieth look on somebody lets the wall clock run 500 ppm slower, and steps it at the fortieth.
    let turn = free[20].sample.raw;
    for (index, look) in steered.iter_mut().enumerate() {
        let since_s = Seconds::from(look.sample.raw - turn).0.max(0.0);
        let moved = Seconds(-500e-6 * since_s + if index >= 40 { 5.0 } else { 0.0 });
        look.sample.local = look.sample.local + moved.to_span();
        look.sample.offset = look.sample.offset - Seconds::from(moved.to_span());
        if index >= 20 {
            look.rate = Rate { tick: 10_000, frequency: Frequency::from_ppm(-500.0) };
        }
    }
    let (free, steered) = (drift::measure(&free).unwrap(), drift::measure(&steered).unwrap());
    assert!(!free.steering.is_at_work() && steered.steering.is_at_work() && steered.steering.is_clamped());
    assert!((free.drift - steered.drift).abs() < Frequency(1e-9), "{} {}", free.drift, steered.drift);
    assert!((steered.drift.0 - truth).abs() <= steered.error.0 * 1.5);
    let [step] = steered.steering.steps.as_slice() else { panic!("{:?}", steered.steering) };
    assert!((step.by.0 - 5.0).abs() < 1e-2 && step.at > start);
    assert!((steered.steering.rate.ppm() + 500.0 * 40.0 / 60.0).abs() < 20.0, "{:?}", steered.steering);
}

#[test]
fn the_allan_deviation_falls_with_the_paths_noise_and_rises_with_the_wander() {
    let plan = Plan { length_s: 4_000.0, wander_ppb: 30.0, ..plans()[0].clone() };
    let (looks, _) = looks(&plan, 3);
    let found = allan::deviations(&looks);
    let of = |tau_s: f64| found.iter().find(|d| (d.tau_s / tau_s - 1.0).abs() < 0.1).unwrap().deviation;
    // A random walk of w a √s makes w·√(τ/3).
    let expected = 30e-9 * (512.0_f64 / 3.0).sqrt();
    assert!((0.4..2.0).contains(&(of(512.0) / expected)), "{} {expected}", of(512.0));
    assert!(of(1.0) > 10.0 * of(64.0), "{found:?}");
}
