//! The whole core in the world: start, steady state, silence, pause, policies, another writer.
#![forbid(unsafe_code)]

use driftless_core::clock::Rate;
use driftless_core::engine::{Method, StepPolicy};
use driftless_core::estimator::dntpd::Settings;
use driftless_core::event::Event;
use driftless_core::report::{Report, State};
use driftless_core::source::SourceClass;
use driftless_core::time::Span;
use driftless_sim::device::{DeviceConfig, KindWord};
use driftless_sim::hypervisor::Happening;
use driftless_sim::link::{Law, Period};
use driftless_sim::reference::ReferenceConfig;
use driftless_sim::scenario::{GuestConfig, Scenario, ServerConfig};
use driftless_sim::{World, oscillator::OscillatorConfig};

/// A guest whose counter drifts, whose clock starts `offset` behind, and whose host is asked for the time.
fn guest(drift_ppm: f64, offset: f64, step: StepPolicy) -> World {
    let scenario = Scenario {
        look: 1e-3,
        settle: 0.0,
        start_offset: offset,
        oscillator: OscillatorConfig { drift_ppm, wander_ppb: 0.0, ..OscillatorConfig::default() },
        guest: GuestConfig { step, ..GuestConfig::default() },
        servers: vec![ServerConfig { class: SourceClass::Host, ..ServerConfig::default() }],
        ..Scenario::default()
    };
    World::new(scenario, 42)
}

/// The largest true error in `seconds`, the first `settle` left out.
fn worst(world: &mut World, seconds: f64, settle: f64) -> f64 {
    world.run(settle);
    let mut worst = world.offset().abs();
    let end = world.at() + driftless_core::time::Seconds(seconds - settle).to_span();
    while world.at() < end {
        world.run(1e-3);
        worst = worst.max(world.offset().abs());
    }
    worst
}

fn report(world: &World) -> Report {
    world.guest.engine.report(world.guest.now())
}

fn silent_from_now_on(world: &mut World, silent: bool) {
    let from = world.at().seconds();
    let outages = if silent { vec![Period { from, to: f64::INFINITY }] } else { Vec::new() };
    world.link_mut(0).expect("there is a server").config.outages = outages;
}

#[test]
fn any_drift_and_any_offset_are_right_in_two_seconds_and_stay_so() {
    for (drift, offset) in [(676.0, -120.0), (-676.0, 0.3), (-2_000.0, -3_600.0), (4_000.0, 259_200.0)] {
        let mut world = guest(drift, offset, StepPolicy::Auto);
        let early = worst(&mut world, 10.0, 2.0);
        assert!(early < 1e-3, "{drift}: {early}");
        let late = worst(&mut world, 50.0, 0.0);
        assert!(late < 200e-6, "{drift}: {late}");
        assert_eq!(world.summary().steps, 1, "{drift}");
        assert_eq!(report(&world).state, State::Synchronised);
    }
}

#[test]
fn a_steady_clock_is_asked_about_seldom() {
    let mut world = guest(300.0, 0.0, StepPolicy::Auto);
    world.run(600.0);
    let before = world.summary().packets;
    let worst = worst(&mut world, 600.0, 0.0);
    let asked = world.summary().packets - before;
    assert!(asked < 170, "{asked}");
    assert!(worst < 150e-6, "{worst}");
}

#[test]
fn a_silent_server_leaves_the_learnt_frequency() {
    let mut world = guest(-676.0, 0.0, StepPolicy::Auto);
    world.run(120.0);
    silent_from_now_on(&mut world, true);
    let held = worst(&mut world, 120.0, 0.0);
    assert!(held < 1e-3, "{held}");
    assert_eq!(report(&world).state, State::Holdover);
    silent_from_now_on(&mut world, false);
    assert!(worst(&mut world, 60.0, 30.0) < 200e-6);
    assert_eq!(world.summary().steps, 0);
}

#[test]
fn a_pause_is_stepped_over_and_leaves_the_frequency() {
    let mut world = guest(676.0, 0.0, StepPolicy::Auto);
    world.run(120.0);
    let before = report(&world).frequency.unwrap();
    world.strike(Happening::Pause { lasts: 60.0, counter_runs: false, packets_lost: false, sign: None });
    world.run(60.0);
    assert!((world.offset() - 60.0).abs() < 1e-3, "nothing has told the guest yet: {}", world.offset());
    let after = worst(&mut world, 30.0, 20.0);
    assert!(after < 1e-3, "{after}");
    let frequency = report(&world).frequency.unwrap();
    assert!((frequency - before).abs() < 2.0, "{before} {frequency}");
}

#[test]
fn an_rtc_beside_the_host_has_no_say_in_whether_the_guest_was_interrupted() {
    let mut scenario = guest(676.0, 0.0, StepPolicy::Auto).scenario;
    scenario.devices =
        vec![DeviceConfig { kind: KindWord::Rtc, minpoll: Some(4), ..DeviceConfig::default() }];
    let mut world = World::new(scenario, 42);
    world.run(120.0);
    world.strike(Happening::Pause { lasts: 60.0, counter_runs: false, packets_lost: false, sign: None });
    world.run(80.0);
    let report = report(&world);
    assert_eq!(
        (report.interruptions, report.state),
        (1, State::Synchronised),
        "{:?}",
        report.last_interruption
    );
    let found = report.last_interruption.unwrap();
    assert!(
        (found.jump - 60.0).abs() < 0.1 && (found.offset - 60.0).abs() < 0.1,
        "before it was corrected: {found:?}"
    );
}

/// An RTC as QEMU's, whose second begins 541 ms late.
fn rtc() -> DeviceConfig {
    DeviceConfig {
        kind: KindWord::Rtc,
        minpoll: Some(4),
        maxpoll: Some(6),
        clock: ReferenceConfig { offset: -0.541, ..ReferenceConfig::default() },
        jitter: Law::Exponential { mean: 4e-3 },
        ..DeviceConfig::default()
    }
}

#[test]
fn the_rtc_alone_is_right_to_a_second_in_seconds_and_says_so_without_alarm() {
    let mut scenario = guest(676.0, -120.0, StepPolicy::Auto).scenario;
    scenario.servers.clear();
    scenario.devices = vec![rtc()];
    let mut world = World::new(scenario, 42);
    world.guest.told = Some(Vec::new());
    world.run(5.0);
    for _ in 0..40 {
        let report = report(&world);
        assert_eq!((report.state, report.stratum), (State::Synchronised, 1));
        assert!(report.offset_bound.is_some_and(|bound| (1.0..1.2).contains(&bound)), "{report:?}");
        assert_eq!(report.sources[0].edge.as_deref(), Some("not-learnt"));
        assert!(world.offset().abs() < 0.6, "{}", world.offset());
        world.run(50.0);
    }
    assert!(
        !world.guest.kernel.state().synchronised,
        "the kernel would set the RTC from a clock that follows it"
    );
    let told = world.guest.told.take().unwrap_or_default();
    let is_alarm = |event: &Event| {
        matches!(event, Event::Jumped { .. } | Event::RateChanged { .. } | Event::Interrupted(_))
    };
    assert!(!told.iter().any(|(_, event)| is_alarm(event)), "{told:?}");
}

#[test]
fn a_server_that_falls_silent_leaves_rate_and_time_to_the_rtc_whose_edge_it_taught() {
    let mut scenario = guest(676.0, -120.0, StepPolicy::Auto).scenario;
    scenario.devices = vec![rtc()];
    let mut world = World::new(scenario, 42);
    world.run(600.0);
    let before = report(&world);
    silent_from_now_on(&mut world, true);
    world.run(600.0);
    let after = report(&world);
    assert_eq!((after.source.as_deref(), after.state), (Some("/dev/rtc0"), State::Synchronised));
    assert!(after.frequency.zip(before.frequency).is_some_and(|(a, b)| (a - b).abs() < 0.2), "{after:?}");
    assert!(world.offset().abs() < 1e-3 && world.summary().steps == 1, "{}", world.offset());
    let rtc = &after.sources[1];
    let phase = rtc.phase.zip(rtc.phase_error);
    assert!(phase.is_some_and(|(phase, error)| (phase + 0.541).abs() < error), "{rtc:?}");
    assert!(rtc.offset_bound.is_some_and(|bound| bound < 50e-3), "{rtc:?}");
}

#[test]
fn forward_only_never_goes_back() {
    let mut world = guest(676.0, -0.5, StepPolicy::ForwardOnly);
    let late = worst(&mut world, 60.0, 30.0);
    assert_eq!(world.summary().steps, 0);
    assert!(late < 1e-3, "{late}");
}

#[test]
fn observing_only_ever_reads() {
    let mut scenario = guest(676.0, -120.0, StepPolicy::Auto).scenario;
    scenario.guest.observe = true;
    let mut world = World::new(scenario, 42);
    world.run(30.0);
    assert_eq!((world.guest.kernel.rate(), world.summary().steps), (Rate::NOMINAL, 0));
    assert!((report(&world).offset.unwrap() - world.offset()).abs() < 1e-3);
}

#[test]
fn another_writer_is_named_as_such() {
    let mut world = guest(676.0, 0.0, StepPolicy::Auto);
    world.run(60.0);
    world.strike(Happening::OtherWriter { tick: 10_000, frequency_ppm: 0.0 });
    world.run(20.0);
    assert_eq!(report(&world).state, State::Contested);
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = |seed| {
        let mut world = World::new(guest(300.0, 0.05, StepPolicy::Auto).scenario, seed);
        world.run(600.0);
        (world.summary(), world.guest.kernel.history.clone(), world.offset().to_bits())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).2, run(8).2);
}

#[test]
fn a_packet_that_was_on_its_way_during_a_pause_shows_no_delay() {
    let mut world = guest(0.0, 0.0, StepPolicy::Auto);
    world.run(59.0);
    let sent = world.summary().packets;
    while world.summary().packets == sent {
        world.run(1e-5);
    }
    world.strike(Happening::Pause { lasts: 10.0, counter_runs: false, packets_lost: false, sign: None });
    world.run(10.01);
    let delay = report(&world).sources[0].delay.unwrap();
    assert!(delay < 1e-3, "the counter stood still meanwhile: {delay}");
}

/// 3 s behind and 66 ppm fast, kept by dntpd's method.
fn kept_by_dntpd(dntpd: Settings) -> World {
    let scenario = Scenario {
        start_offset: 3.0,
        oscillator: OscillatorConfig { drift_ppm: 66.0, wander_ppb: 0.0, ..OscillatorConfig::default() },
        guest: GuestConfig { method: Method::Dntpd, dntpd, ..GuestConfig::default() },
        servers: vec![ServerConfig::default()],
        ..Scenario::default()
    };
    World::new(scenario, 42)
}

#[test]
fn dntpds_method_keeps_a_clock_within_its_gates() {
    let mut world = kept_by_dntpd(Settings::default());
    let late = worst(&mut world, 20_000.0, 15_000.0);
    assert!(late < 20e-3, "{late}");
    assert_eq!(world.summary().steps, 0, "no step below two minutes (D7, D14)");
    let report = report(&world);
    assert!((report.frequency.unwrap() + 66.0).abs() < 2.0, "{report:?}");
    assert!(world.summary().packets < 80, "{}", world.summary().packets);
}

#[test]
fn d6_told_to_set_the_clock_at_the_start_dntpd_steps_once() {
    let mut world = kept_by_dntpd(Settings { coarse_at_start: true, ..Settings::default() });
    let early = worst(&mut world, 120.0, 40.0);
    assert!(early < 20e-3, "{early}");
    assert_eq!(world.summary().steps, 1);
}

#[test]
fn d10_nominal_and_longest_poll_are_obeyed() {
    let mut world = kept_by_dntpd(Settings {
        nominal: Span::from_secs(20),
        longest: Span::from_secs(100),
        ..Settings::default()
    });
    world.run(60.0);
    assert!((report(&world).sources[0].interval - 20.0).abs() < 1e-6, "{:?}", report(&world).sources[0]);
    world.run(1_000.0);
    assert!((report(&world).sources[0].interval - 100.0).abs() < 1e-6, "{:?}", report(&world).sources[0]);
}
