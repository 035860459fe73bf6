//! The engine by itself, driven by hand.

use super::*;
use crate::clock::{ClockState, Leap, Rate};
use crate::source::{DeviceKind, SourceConfig, TimeScale};

struct Counting(u64);

impl Entropy for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

const STATE: ClockState = ClockState {
    rate: Rate::NOMINAL,
    synchronised: false,
    max_error: Seconds::ZERO,
    est_error: Seconds::ZERO,
    tai: 0,
    pending: Span::ZERO,
};

fn at(millis: i64) -> Now {
    let since = Span::from_millis(millis);
    Now { raw: RawTime::from_nanos(0) + since, wall: WallTime::from_parts(1_800_000_000, 0) + since }
}

fn with_phc() -> Engine {
    let (min_poll, max_poll) = SourceClass::Hypervisor.poll_limits();
    let scale = Some(TimeScale::Utc);
    let endpoint = Endpoint::Device { kind: DeviceKind::Phc, path: String::new(), scale };
    let source =
        SourceConfig { name: "phc".into(), endpoint, class: SourceClass::Hypervisor, min_poll, max_poll };
    let config = Config { sources: vec![source], ..Config::default() };
    Engine::new(config, at(0), Box::new(Counting(0)))
}

/// What the device says that is `ahead` of the clock.
fn reading(millis: i64, ahead: Span) -> Input<'static> {
    let reading = Reading {
        at: at(millis),
        width: Span::from_nanos(900),
        device_ns: (at(millis).wall + ahead).as_nanos(),
        scale: TimeScale::Utc,
        dispersion: Seconds(1e-9),
        leap: Leap::None,
    };
    Input::Reading { source: SourceId(0), result: Ok(reading) }
}

#[test]
fn two_reasons_to_look_at_the_clock_lead_to_one_step() {
    let mut engine = with_phc();
    engine.handle(at(1), reading(1, Span::from_secs(60)));
    engine.handle(at(1), Input::Order(Order::MakeStep));
    let mut steps = Vec::new();
    while let Some(output) = engine.poll_output() {
        let Output::Clock(command) = output else { continue };
        if let ClockCommand::Step(by) = command {
            steps.push(by);
        }
        engine.handle(at(1), Input::Clock(Ok(STATE)));
    }
    assert_eq!(steps, [Span::from_secs(60)]);
}
