//! What must not depend on chance, order or epoch.
#![forbid(unsafe_code)]

use driftless_core::clock::Leap;
use driftless_core::engine::{Config, Engine, Input, Output};
use driftless_core::source::{Peer, SourceClass};
use driftless_core::time::{Now, RawTime, Span, WallTime};
use driftless_core::wire::{Header, Mode, NtpShort, NtpTimestamp};
use driftless_sim::kernel::KernelClock;
use driftless_sim::link::{DirectionConfig, Law, LinkConfig};
use driftless_sim::noise::Seed;
use driftless_sim::oscillator::OscillatorConfig;
use driftless_sim::reference::ReferenceConfig;
use driftless_sim::scenario::{Scenario, ServerConfig};
use driftless_sim::{World, record::Summary};
use proptest::prelude::*;

/// A path of this floor with exponential jitter, s.
fn path(floor: f64, mean: f64) -> LinkConfig {
    let way = DirectionConfig { floor, jitter: Law::Exponential { mean }, ..DirectionConfig::default() };
    LinkConfig { up: way.clone(), down: way, ..LinkConfig::default() }
}

fn server(chance: &str, floor: f64, mean: f64) -> ServerConfig {
    ServerConfig {
        minpoll: Some(4),
        maxpoll: Some(6),
        path: path(floor, mean),
        chance: Some(chance.into()),
        ..ServerConfig::default()
    }
}

fn scenario(drift_ppm: f64, servers: Vec<ServerConfig>) -> Scenario {
    Scenario {
        duration: 6_000.0,
        settle: 1_000.0,
        start_offset: 0.25,
        oscillator: OscillatorConfig { drift_ppm, ..OscillatorConfig::default() },
        servers,
        ..Scenario::default()
    }
}

fn run(scenario: Scenario, seed: u64) -> (Summary, Vec<f64>) {
    let mut world = World::new(scenario, seed);
    world.record.kept = Some(Vec::new());
    world.finish();
    let offsets = world.record.kept.iter().flatten().map(|look| look.offset).collect();
    (world.summary(), offsets)
}

fn furthest(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_the_sources_changes_nothing(seed in 1..1_000_u64, drift in -500.0..500.0_f64, turn in 1..4_usize) {
        let servers = vec![
            server("near", 50e-6, 100e-6),
            server("far", 5e-3, 300e-6),
            ServerConfig { clock: ReferenceConfig { offset: 0.4, ..ReferenceConfig::default() }, ..server("wrong", 1e-3, 50e-6) },
            server("wide", 200e-6, 2e-3),
        ];
        let mut turned = servers.clone();
        turned.rotate_left(turn);
        let (one, other) = (run(scenario(drift, servers), seed), run(scenario(drift, turned), seed));
        // Sums in another order differ in their last digits, and the kernel's unit of frequency makes nanoseconds of that.
        prop_assert!(furthest(&one.1, &other.1) < 50e-9, "{}", furthest(&one.1, &other.1));
        prop_assert_eq!((one.0.packets, one.0.steps), (other.0.packets, other.0.steps));
    }

    #[test]
    fn another_epoch_changes_nothing(seed in 1..1_000_u64, drift in -500.0..500.0_f64, shift in -1_000_000_000..1_000_000_000_i32, up in 0..10_000_000_i32) {
        let here = Scenario { against: Some(0), ..scenario(drift, vec![server("near", 50e-6, 100e-6)]) };
        let mut there = here.clone();
        there.servers[0].clock.offset = f64::from(shift);
        there.start_offset -= f64::from(shift);
        there.oscillator.starts_at = f64::from(up);
        let (one, other) = (run(here, seed), run(there, seed));
        // Between the epochs doubles of seconds lose 120 ns at 10^9 s: the offset is told through one.
        prop_assert!(furthest(&one.1, &other.1) < 250e-9, "{}", furthest(&one.1, &other.1));
        prop_assert_eq!((one.0.packets, one.0.adjustments, one.0.steps), (other.0.packets, other.0.adjustments, other.0.steps));
    }

    #[test]
    fn twice_the_noise_never_shrinks_the_bound(seed in 1..1_000_u64, floor in 20e-6..5e-3_f64, mean in 10e-6..3e-3_f64) {
        // At the same moments: a noisier path is looked at more often, which tells more of it.
        let steady = |mean: f64| ServerConfig { maxpoll: Some(4), ..server("near", floor, mean) };
        let bound = |mean: f64| run(scenario(100.0, vec![steady(mean)]), seed).0.median_bound;
        let (once, twice) = (bound(mean), bound(2.0 * mean));
        prop_assert!(twice >= once, "{once} {twice}");
    }

    #[test]
    fn whatever_a_server_answers_estimates_are_numbers(
        answers in proptest::collection::vec((any::<[u8; 48]>(), -1e9..1e9_f64, 0..2_000_000_000_i64, 0..4_u8), 1..60)
    ) {
        let servers = vec![ServerConfig { class: SourceClass::Host, ..server("any", 0.0, 0.0) }];
        let config: Config = scenario(0.0, servers).engine_config();
        let beginning = Now { raw: RawTime::from_nanos(0), wall: WallTime::from_nanos(1_700_000_000_000_000_000) };
        let mut guest = Small { kernel: KernelClock::new(beginning.raw, beginning.wall), raw: beginning.raw, engine: Engine::new(config, beginning, Box::new(Seed(1).stream("entropy"))) };
        for (bytes, offset_s, takes, honesty) in answers {
            let Some(cookie) = guest.until_asked() else { break };
            guest.pass(Span::from_nanos(takes));
            let now = guest.now();
            let time = NtpTimestamp::from_wall(now.wall + driftless_core::time::Seconds(offset_s).to_span());
            let reply = Header {
                leap: Leap::None, version: 4, mode: Mode::Server, stratum: bytes[1] % 20, poll: 4, precision: -20,
                root_delay: NtpShort(u32::from(bytes[2]) << 8), root_dispersion: NtpShort(u32::from(bytes[3]) << 8),
                reference_id: *b"ANY\0", reference: time, origin: NtpTimestamp(cookie), receive: time, transmit: time,
            };
            let data = if honesty == 0 { bytes } else { reply.encode() };
            let from = Peer::Udp(([192, 0, 2, 1], 123).into());
            guest.engine.handle(now, Input::Datagram { source: driftless_core::source::SourceId(0), from, data: &data, stamp: Some(now.wall) });
            guest.carry_out();
            if let Some(estimate) = guest.engine.estimate(guest.now()) {
                let numbers = [estimate.offset.0, estimate.offset_error.0, estimate.bound.0, estimate.frequency.0, estimate.frequency_error.0];
                prop_assert!(numbers.iter().all(|number| number.is_finite()), "{estimate:?}");
                prop_assert!(estimate.offset_error.0 > 0.0 && estimate.frequency_error.0 > 0.0);
            }
            // What the kernel takes at most: a tenth, and its 500 ppm beside it.
            prop_assert!(guest.kernel.rate().total().abs().0 < 0.100_501, "{:?}", guest.kernel.rate());
        }
    }
}

/// A guest whose counter is true and whose server is the test.
struct Small {
    engine: Engine,
    kernel: KernelClock,
    raw: RawTime,
}

impl Small {
    fn now(&self) -> Now {
        Now { raw: self.raw, wall: self.kernel.wall() }
    }

    fn pass(&mut self, span: Span) {
        self.raw = self.raw + span;
        self.kernel.advance(self.raw);
    }

    /// Goes on to the next request, and gives its cookie.
    fn until_asked(&mut self) -> Option<u64> {
        for _ in 0..1_000 {
            if let Some(cookie) = self.carry_out() {
                return Some(cookie);
            }
            let wait = self.engine.deadline()? - self.raw;
            self.pass(wait.max(Span::from_nanos(1_000)));
            self.engine.handle(self.now(), Input::Wake);
        }
        None
    }

    /// Does what the engine wants; the cookie of a request.
    fn carry_out(&mut self) -> Option<u64> {
        let mut cookie = None;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Resolve { source, .. } => {
                    let addresses = vec![([192, 0, 2, 1], 123).into()];
                    self.engine.handle(self.now(), Input::Resolved { source, addresses });
                }
                Output::Transmit { source, data, .. } => {
                    cookie = data.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                    let at = self.now();
                    self.engine.handle(at, Input::Transmitted { source, at, stamp: None });
                }
                Output::Clock(command) => {
                    let result = self.kernel.apply(command);
                    self.engine.handle(self.now(), Input::Clock(result));
                }
                _ => {}
            }
        }
        cookie
    }
}
