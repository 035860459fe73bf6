//! The whole core in a small world: start, steady state, silence, pause, policies, another writer.
#![forbid(unsafe_code)]

use driftless_core::clock::{ClockCommand, Rate};
use driftless_core::engine::{Config, Method, StepPolicy};
use driftless_core::report::State;
use driftless_core::source::{Endpoint, SourceClass, SourceConfig};
use driftless_core::time::{Frequency, Span};
use driftless_sim::Guest;

fn worst(seen: &[(f64, f64)], from: f64) -> f64 {
    seen.iter().filter(|(at, _)| *at >= from).map(|(_, offset)| *offset).fold(0.0, f64::max)
}

#[test]
fn any_drift_and_any_offset_are_right_in_two_seconds_and_stay_so() {
    for (drift, offset) in [(676.0, -120.0), (-676.0, 0.3), (-2_000.0, -3_600.0), (4_000.0, 259_200.0)] {
        let mut guest = Guest::new(drift, offset, StepPolicy::Auto);
        let seen = guest.run(60.0);
        assert!(worst(&seen, 2.0) < 1e-3, "{drift}: {}", worst(&seen, 2.0));
        assert!(worst(&seen, 10.0) < 200e-6, "{drift}: {}", worst(&seen, 10.0));
        assert_eq!(guest.steps.len(), 1, "{drift}");
        assert_eq!(guest.engine.report(guest.now()).state, State::Synchronised);
    }
}

#[test]
fn a_steady_clock_is_asked_about_seldom() {
    let mut guest = Guest::new(300.0, 0.0, StepPolicy::Auto);
    guest.run(600.0);
    let before = guest.requests;
    let seen = guest.run(600.0);
    assert!(guest.requests - before < 170, "{}", guest.requests - before);
    assert!(worst(&seen, 0.0) < 150e-6, "{}", worst(&seen, 0.0));
}

#[test]
fn a_silent_server_leaves_the_learnt_frequency() {
    let mut guest = Guest::new(-676.0, 0.0, StepPolicy::Auto);
    guest.run(120.0);
    guest.server_answers = false;
    let seen = guest.run(120.0);
    assert!(worst(&seen, 0.0) < 1e-3, "{}", worst(&seen, 0.0));
    assert_eq!(guest.engine.report(guest.now()).state, State::Holdover);
    guest.server_answers = true;
    let seen = guest.run(60.0);
    assert!(worst(&seen, 30.0) < 200e-6);
    assert_eq!(guest.steps.len(), 0);
}

#[test]
fn a_pause_is_stepped_over_and_leaves_the_frequency() {
    let mut guest = Guest::new(676.0, 0.0, StepPolicy::Auto);
    guest.run(120.0);
    let before = guest.engine.report(guest.now()).frequency.unwrap();
    guest.paused = Span::from_secs(60);
    guest.truth += Span::from_secs(60).as_nanos();
    let seen = guest.run(30.0);
    assert!(worst(&seen, 20.0) < 1e-3, "{}", worst(&seen, 20.0));
    let after = guest.engine.report(guest.now());
    assert!((after.frequency.unwrap() - before).abs() < 2.0, "{before} {after:?}");
}

#[test]
fn forward_only_never_goes_back() {
    let mut guest = Guest::new(676.0, -0.5, StepPolicy::ForwardOnly);
    let seen = guest.run(60.0);
    assert!(guest.steps.is_empty());
    assert!(worst(&seen, 30.0) < 1e-3, "{}", worst(&seen, 30.0));
}

#[test]
fn observing_only_ever_reads() {
    let (min_poll, max_poll) = SourceClass::Host.poll_limits();
    let name = String::from("ntp:server");
    let endpoint = Endpoint::Udp { host: "server".into(), port: 123 };
    let source = SourceConfig { name, endpoint, class: SourceClass::Host, min_poll, max_poll };
    let config = Config { sources: vec![source], observe: true, ..Config::default() };
    let mut guest = Guest::with(676.0, -120.0, config);
    guest.run(30.0);
    assert_eq!((guest.rate, guest.steps.len()), (Rate::NOMINAL, 0));
    let report = guest.engine.report(guest.now());
    assert!((report.offset.unwrap() - guest.offset()).abs() < 1e-3);
}

#[test]
fn another_writer_is_named_as_such() {
    let mut guest = Guest::new(676.0, 0.0, StepPolicy::Auto);
    guest.run(60.0);
    guest.apply(ClockCommand::SetRate(Rate { tick: 10_000, frequency: Frequency::ZERO })).unwrap();
    guest.run(20.0);
    assert_eq!(guest.engine.report(guest.now()).state, State::Contested);
}

#[test]
fn dntpds_method_keeps_a_clock_within_its_gates() {
    let (min_poll, max_poll) = SourceClass::Network.poll_limits();
    let name = String::from("ntp:server");
    let endpoint = Endpoint::Udp { host: "server".into(), port: 123 };
    let source = SourceConfig { name, endpoint, class: SourceClass::Network, min_poll, max_poll };
    let config = Config { sources: vec![source], method: Method::Dntpd, ..Config::default() };
    let mut guest = Guest::with(66.0, 3.0, config);
    let seen = guest.run(20_000.0);
    assert!(worst(&seen, 15_000.0) < 20e-3, "{}", worst(&seen, 15_000.0));
    assert!(guest.steps.is_empty(), "no step below two minutes: {:?}", guest.steps);
    let report = guest.engine.report(guest.now());
    assert!((report.frequency.unwrap() + 66.0).abs() < 2.0, "{report:?}");
    assert!(guest.requests < 80, "{}", guest.requests);
}
