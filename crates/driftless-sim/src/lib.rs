//! A small world: one guest whose counter drifts, its kernel's clock, and one server behind a jittery path. Time is an argument, noise has a
//! seed: the same numbers come out every time.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use driftless_core::clock::{ClockCommand, ClockError, ClockState, Leap, Rate};
use driftless_core::engine::{Config, Engine, Entropy, Input, Output, StepPolicy};
use driftless_core::source::{Endpoint, Peer, SourceClass, SourceConfig, SourceId};
use driftless_core::time::{Frequency, Now, RawTime, Seconds, Span, WallTime};
use driftless_core::wire::{Header, Mode, NtpShort, NtpTimestamp};

/// Noise from a seed: Marsaglia's xorshift, no need for more.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// Noise of this seed; 0 is taken for 1.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap_or(u32::MAX)) / 4_294_967_296.0
    }

    /// Exponential with the given mean.
    pub fn exponential(&mut self, mean_s: f64) -> Span {
        Seconds(-mean_s * (1.0 - self.uniform()).ln()).to_span()
    }
}

impl Entropy for Noise {
    fn next_u64(&mut self) -> u64 {
        self.uniform();
        self.0
    }
}

/// A guest whose counter runs at a rate of its own, with a driftless engine to keep its clock.
pub struct Guest {
    /// True time since the beginning, ns.
    pub truth: i64,
    /// How much too fast the counter runs.
    pub drift: Frequency,
    /// Wall clock at `since`, and the rate since then.
    wall: WallTime,
    since: RawTime,
    /// Tick and frequency in force.
    pub rate: Rate,
    noise: Noise,
    /// What keeps the clock.
    pub engine: Engine,
    /// Every step that was made.
    pub steps: Vec<Span>,
    /// Requests that were sent.
    pub requests: u32,
    /// Whether the server answers.
    pub server_answers: bool,
    /// How long the guest stood still so far.
    pub paused: Span,
}

/// When the simulation begins, ns since 1970.
const START: i64 = 1_700_000_000_000_000_000;

impl Guest {
    /// A guest that starts `offset_s` behind, and its engine.
    #[must_use]
    pub fn new(drift_ppm: f64, offset_s: f64, policy: StepPolicy) -> Self {
        let (min_poll, max_poll) = SourceClass::Host.poll_limits();
        let source = SourceConfig {
            name: "ntp:server".into(),
            endpoint: Endpoint::Udp { host: "server".into(), port: 123 },
            class: SourceClass::Host,
            min_poll,
            max_poll,
        };
        let config = Config { sources: vec![source], step: policy, ..Config::default() };
        Self::with(drift_ppm, offset_s, config)
    }

    /// A guest with an engine of this configuration.
    #[must_use]
    pub fn with(drift_ppm: f64, offset_s: f64, config: Config) -> Self {
        let wall = WallTime::from_nanos(START) - Seconds(offset_s).to_span();
        let now = Now { raw: RawTime::from_nanos(0), wall };
        Self {
            truth: 0,
            drift: Frequency::from_ppm(drift_ppm),
            wall,
            since: now.raw,
            rate: Rate::NOMINAL,
            noise: Noise::new(42),
            engine: Engine::new(config, now, Box::new(Noise::new(7))),
            steps: Vec::new(),
            requests: 0,
            server_answers: true,
            paused: Span::ZERO,
        }
    }

    /// Both of the guest's clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let truth = Span::from_nanos(self.truth) - self.paused;
        let raw = RawTime::from_nanos(0) + truth + Seconds(Seconds::from(truth).0 * self.drift.0).to_span();
        let since = raw - self.since;
        let extra = Seconds(Seconds::from(since).0 * self.rate.total().0).to_span();
        Now { raw, wall: self.wall + since + extra }
    }

    /// True offset, reference − local, s.
    #[must_use]
    pub fn offset(&self) -> f64 {
        Seconds::from(WallTime::from_nanos(START + self.truth) - self.now().wall).0
    }

    /// The kernel's clock.
    ///
    /// # Errors
    /// As a kernel: a tick or a frequency that it does not take.
    pub fn apply(&mut self, command: ClockCommand) -> Result<ClockState, ClockError> {
        let now = self.now();
        (self.wall, self.since) = (now.wall, now.raw);
        match command {
            ClockCommand::SetRate(rate) if !(Rate::TICK_MIN..=Rate::TICK_MAX).contains(&rate.tick) => {
                return Err(ClockError::Invalid);
            }
            ClockCommand::SetRate(rate) => {
                self.rate = Rate { frequency: rate.frequency.clamp_to(Rate::FREQUENCY_MAX), ..rate };
            }
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
    fn exchange(&mut self, source: SourceId, to: Peer, request: &[u8; 48]) {
        self.requests += 1;
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&request[40..]);
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
            origin: NtpTimestamp(u64::from_be_bytes(cookie)),
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
                Output::Look { .. } | Output::Event(_) => {}
            }
        }
    }

    /// Runs for `seconds`; returns the second and |true offset| at every millisecond and event.
    pub fn run(&mut self, seconds: f64) -> Vec<(f64, f64)> {
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
