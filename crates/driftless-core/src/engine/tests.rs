//! The whole core against a small world: a counter that drifts, a kernel's clock, one server behind a jittery path.

use super::*;
use crate::clock::{ClockError, ClockState, Rate};
use crate::report::State;
use crate::source::SourceConfig;
use crate::time::{Frequency, Span};
use crate::wire::{Header, Mode, NtpShort, NtpTimestamp};

/// xorshift: no need for more.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / 4_294_967_296.0
    }

    fn exponential(&mut self, mean_s: f64) -> Span {
        Seconds(-mean_s * (1.0 - self.uniform()).ln()).to_span()
    }
}

impl Entropy for Noise {
    fn next_u64(&mut self) -> u64 {
        self.uniform();
        self.0
    }
}

/// A guest whose counter runs `drift` fast. Time is true time in ns.
struct Guest {
    truth: i64,
    drift: Frequency,
    /// Wall clock at `since`, and the rate since then.
    wall: WallTime,
    since: RawTime,
    rate: Rate,
    noise: Noise,
    engine: Engine,
    steps: Vec<Span>,
    requests: u32,
    server_answers: bool,
    /// How long the guest stood still so far.
    paused: Span,
}

const START: i64 = 1_700_000_000_000_000_000;

impl Guest {
    fn new(drift_ppm: f64, offset_s: f64, policy: StepPolicy) -> Self {
        let (min_poll, max_poll) = SourceClass::Host.poll_limits();
        let source = SourceConfig {
            name: "ntp:server".into(),
            host: "server".into(),
            port: 123,
            class: SourceClass::Host,
            min_poll,
            max_poll,
        };
        let config = Config { sources: vec![source], step: policy, ..Config::default() };
        let wall = WallTime::from_nanos(START) - Seconds(offset_s).to_span();
        let now = Now { raw: RawTime::from_nanos(0), wall };
        Self {
            truth: 0,
            drift: Frequency::from_ppm(drift_ppm),
            wall,
            since: now.raw,
            rate: Rate::NOMINAL,
            noise: Noise(42),
            engine: Engine::new(config, now, Box::new(Noise(7))),
            steps: Vec::new(),
            requests: 0,
            server_answers: true,
            paused: Span::ZERO,
        }
    }

    fn now(&self) -> Now {
        let truth = Span::from_nanos(self.truth) - self.paused;
        let raw = RawTime::from_nanos(0) + truth + Seconds(Seconds::from(truth).0 * self.drift.0).to_span();
        let since = raw - self.since;
        let extra = Seconds(Seconds::from(since).0 * self.rate.total().0).to_span();
        Now { raw, wall: self.wall + since + extra }
    }

    /// Reference − local, s.
    fn offset(&self) -> f64 {
        Seconds::from(WallTime::from_nanos(START + self.truth) - self.now().wall).0
    }

    fn apply(&mut self, command: ClockCommand) -> Result<ClockState, ClockError> {
        let now = self.now();
        (self.wall, self.since) = (now.wall, now.raw);
        match command {
            ClockCommand::SetRate(rate) => self.rate = rate,
            ClockCommand::Step(by) => {
                self.steps.push(by);
                self.wall = self.wall + by;
            }
            _ => {}
        }
        Ok(ClockState {
            rate: self.rate,
            synchronised: true,
            max_error: Seconds::ZERO,
            est_error: Seconds::ZERO,
            tai: 0,
            pending: Span::ZERO,
        })
    }

    /// One exchange, 50 µs + exponential 100 µs each way.
    fn exchange(&mut self, source: SourceId, to: SocketAddr, request: &[u8; 48]) {
        self.requests += 1;
        let at = self.now();
        self.engine.handle(at, Input::Transmitted { source, at, stamp: None });
        if !self.server_answers {
            return;
        }
        self.truth += 50_000 + self.noise.exponential(100e-6).as_nanos();
        let stamp = NtpTimestamp::from_wall(WallTime::from_nanos(START + self.truth));
        let reply = Header {
            leap: Leap::None,
            version: 4,
            mode: Mode::Server,
            stratum: 1,
            poll: 0,
            precision: -24,
            root_delay: NtpShort(0),
            root_dispersion: NtpShort(0),
            reference_id: *b"TEST",
            reference: stamp,
            origin: Header::parse(request).unwrap().transmit,
            receive: stamp,
            transmit: stamp,
        };
        self.truth += 50_000 + self.noise.exponential(100e-6).as_nanos();
        let now = self.now();
        self.engine
            .handle(now, Input::Datagram { source, from: to, data: &reply.encode(), stamp: Some(now.wall) });
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Resolve { source, .. } => {
                    let addresses = vec![SocketAddr::from(([192, 0, 2, 1], 123))];
                    self.engine.handle(self.now(), Input::Resolved { source, addresses });
                }
                Output::Transmit { source, to, data } => self.exchange(source, to, &data),
                Output::Clock(command) => {
                    let result = self.apply(command);
                    self.engine.handle(self.now(), Input::Clock(result));
                }
                Output::Event(_) => {}
            }
        }
    }

    /// Runs for `seconds`; returns |offset| every 10 ms or so, with the second.
    fn run(&mut self, seconds: f64) -> Vec<(f64, f64)> {
        let (begin, end) = (self.truth, self.truth + Seconds(seconds).to_span().as_nanos());
        let mut seen = Vec::new();
        while self.truth < end {
            self.carry_out();
            let due = self.engine.deadline().is_some_and(|deadline| self.now().raw >= deadline);
            if due {
                self.engine.handle(self.now(), Input::Wake);
            } else {
                self.truth += 1_000_000;
            }
            seen.push((Seconds::from(Span::from_nanos(self.truth - begin)).0, self.offset().abs()));
        }
        seen
    }
}

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
    assert!(guest.requests - before < 80, "{}", guest.requests - before);
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
    let mut guest = Guest::new(676.0, -120.0, StepPolicy::Auto);
    let config = Config { observe: true, ..guest.engine.config.clone() };
    guest.engine = Engine::new(config, guest.now(), Box::new(Noise(7)));
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
