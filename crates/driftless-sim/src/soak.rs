//! A week of a guest's life as chance has it: every seed another network, other neighbours, other mishaps. The last half day is calm, and in the last
//! eight hours the clock must be right again.

use driftless_core::clock::Leap;
use driftless_core::disruption::Sign;
use driftless_core::engine::{Policy, StepPolicy};
use driftless_core::source::SourceClass;

use crate::device::DeviceConfig;
use crate::hypervisor::{Event, Happening, OrderWord};
use crate::limits::Limits;
use crate::link::{Congestion, DirectionConfig, Law, LinkConfig, Period, Route};
use crate::noise::{Noise, Seed};
use crate::oscillator::OscillatorConfig;
use crate::reference::{Lie, ReferenceConfig};
use crate::scenario::{GuestConfig, Scenario, ServerConfig};
use crate::server::{Kiss, WordsConfig};

/// The name by which it is found.
pub const NAME: &str = "soak";

const WEEK: f64 = 604_800.0;
/// No mishap begins after this.
const CALM: f64 = WEEK - 43_200.0;
/// From here on the clock must be right.
const RIGHT: f64 = WEEK - 28_800.0;

/// The week of this seed.
#[must_use]
pub fn week(seed: u64) -> Scenario {
    let mut chance = Chance(Seed(seed).stream("soak"));
    let forward_only = chance.one_in(6);
    let servers = servers(&mut chance);
    let worst_path = servers.iter().map(|server| spread(&server.path)).fold(0.0, f64::max);
    let devices = if chance.one_in(4) { vec![device(&mut chance)] } else { Vec::new() };
    let start_offset = chance.either(chance_of_offset);
    Scenario {
        name: NAME.into(),
        about: "a week with random mishaps".into(),
        duration: WEEK,
        settle: RIGHT,
        look: 60.0,
        start_offset: if forward_only { start_offset.abs() } else { start_offset },
        against: None,
        oscillator: oscillator(&mut chance),
        guest: guest(&mut chance, forward_only),
        events: events(&mut chance, forward_only),
        servers,
        devices,
        // Not a test of accuracy: right means nearer than the worst path could mislead.
        limits: Limits { max_offset: Some(5e-3 + 2.0 * worst_path), ..Limits::default() },
    }
}

/// Chance with the few laws that a life needs.
struct Chance(Noise);

impl Chance {
    fn one_in(&mut self, n: u32) -> bool {
        self.0.happens(1.0 / f64::from(n))
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.uniform()
    }

    /// Every order of magnitude is as likely.
    fn scale(&mut self, low: f64, high: f64) -> f64 {
        libm::exp(self.between(libm::log(low), libm::log(high)))
    }

    /// The same with either sign.
    fn either(&mut self, draw: fn(&mut Self) -> f64) -> f64 {
        let value = draw(self);
        if self.one_in(2) { -value } else { value }
    }

    fn count(&mut self, most: u8) -> u8 {
        (0..most).map(|_| u8::from(self.one_in(2))).sum()
    }

    fn period(&mut self, most: f64) -> Period {
        let from = self.between(600.0, CALM - most);
        Period { from, to: from + self.scale(60.0, most) }
    }

    /// Up to so many.
    fn some<T>(&mut self, most: u8, draw: fn(&mut Self) -> T) -> Vec<T> {
        (0..self.count(most)).map(|_| draw(self)).collect()
    }
}

fn chance_of_offset(chance: &mut Chance) -> f64 {
    chance.scale(1e-3, 86_400.0)
}

fn oscillator(chance: &mut Chance) -> OscillatorConfig {
    OscillatorConfig {
        starts_at: chance.scale(1.0, 1e7),
        drift_ppm: chance.between(-3_000.0, 3_000.0),
        wander_ppb: chance.scale(0.1, 30.0),
        white_ppb: chance.scale(0.1, 30.0),
        thermal_ppm: chance.scale(0.01, 2.0),
        thermal_period: chance.scale(1_800.0, 86_400.0),
        ageing_ppm: chance.between(-0.1, 0.1),
    }
}

fn guest(chance: &mut Chance, forward_only: bool) -> GuestConfig {
    GuestConfig {
        policy: if chance.one_in(3) { Policy::Utc } else { Policy::Host },
        step: if forward_only { StepPolicy::ForwardOnly } else { StepPolicy::Auto },
        wake_latency: chance.scale(1e-6, 1e-3),
        read_latency: chance.scale(1e-6, 1e-3),
        watches_rtc: chance.one_in(2),
        no_stamps: chance.one_in(4),
        steal_chance: chance.scale(1e-3, 0.1),
        steal: chance.scale(1e-4, 0.1),
        ..GuestConfig::default()
    }
}

/// One to six servers; liars are fewer than half of those that remain beside them.
fn servers(chance: &mut Chance) -> Vec<ServerConfig> {
    let count = 1 + chance.count(5);
    let liars = if count > 2 { chance.count((count - 1) / 2) } else { 0 };
    (0..count).map(|index| server(chance, index >= count - liars, count)).collect()
}

fn server(chance: &mut Chance, lies: bool, count: u8) -> ServerConfig {
    let class = if chance.one_in(3) && !lies { SourceClass::Host } else { SourceClass::Network };
    let reach = if class == SourceClass::Host { 1e-3 } else { 30e-3 };
    let lie = Lie {
        by: chance.either(|chance| chance.scale(0.5, 1_000.0)),
        from: chance.between(0.0, CALM),
        ..Lie::default()
    };
    // A flapping leap is told by one of several, and a refusal by none that is alone.
    let is_one_of_many = count > 2 && lies;
    ServerConfig {
        class,
        minpoll: Some(4),
        maxpoll: Some(if chance.one_in(2) { 6 } else { 10 }),
        path: path(chance, reach),
        clock: ReferenceConfig {
            noise: chance.scale(1e-9, 1e-5),
            lies: if lies { vec![lie] } else { Vec::new() },
            ..ReferenceConfig::default()
        },
        says: WordsConfig {
            root_delay: chance.scale(1e-6, 20e-3),
            root_dispersion: chance.scale(1e-6, 20e-3),
            leap: if is_one_of_many { Leap::Insert } else { Leap::None },
            leap_flaps_every: 7_200.0,
            unsynchronised: chance.some(2, |chance| chance.period(20_000.0)),
            kisses: chance.some(2, kiss),
            holds: chance.scale(1e-6, 1e-3),
            ..WordsConfig::default()
        },
        chance: None,
    }
}

fn kiss(chance: &mut Chance) -> Kiss {
    let Period { from, to } = chance.period(7_200.0);
    Kiss { code: "RATE".into(), chance: chance.between(0.05, 1.0), from, to }
}

fn path(chance: &mut Chance, reach: f64) -> LinkConfig {
    let floor = chance.scale(20e-6, reach);
    let up = direction(chance, floor, reach);
    let down = direction(chance, floor, reach);
    LinkConfig {
        up,
        down,
        routes: chance.some(2, route),
        congestion: chance.some(2, congestion),
        outages: chance.some(4, |chance| chance.period(86_400.0)),
    }
}

fn direction(chance: &mut Chance, floor: f64, reach: f64) -> DirectionConfig {
    let mean = chance.scale(1e-6, reach / 3.0);
    let jitter = match chance.count(3) {
        0 => Law::Gamma { shape: 3.0, mean },
        1 => Law::Exponential { mean },
        2 => Law::LogNormal { median: mean, sigma: 0.7 },
        _ => Law::Heavy { scale: mean, factors: 3, cap: 0.1 },
    };
    DirectionConfig {
        floor: floor * chance.between(0.9, 1.1),
        jitter,
        loss: chance.scale(1e-3, 0.3),
        duplicated: chance.scale(1e-4, 0.05),
        late: chance.scale(1e-4, 0.05),
        late_by: chance.scale(1e-3, 60.0),
    }
}

fn route(chance: &mut Chance) -> Route {
    let up = chance.scale(100e-6, 10e-3);
    Route { at: chance.between(600.0, CALM), up, down: up * chance.between(0.8, 1.2) }
}

fn congestion(chance: &mut Chance) -> Congestion {
    let Period { from, to } = chance.period(7_200.0);
    Congestion {
        from,
        lasts: to - from,
        every: 0.0,
        up: chance.scale(1e-4, 50e-3),
        down: chance.scale(1e-4, 5e-3),
    }
}

/// How far a path could mislead.
fn spread(path: &LinkConfig) -> f64 {
    let routes = path.routes.iter().map(|route| route.up + route.down).fold(0.0, f64::max);
    let mean = |law: Law| match law {
        Law::None => 0.0,
        Law::Exponential { mean } | Law::Normal { mean, .. } | Law::Gamma { mean, .. } => mean,
        Law::LogNormal { median, .. } => 1.3 * median,
        Law::Heavy { scale, .. } => scale,
    };
    routes + path.up.floor + path.down.floor + mean(path.up.jitter) + mean(path.down.jitter)
}

fn device(chance: &mut Chance) -> DeviceConfig {
    DeviceConfig {
        minpoll: Some(4),
        maxpoll: Some(4),
        clock: ReferenceConfig { noise: chance.scale(1e-9, 1e-6), ..ReferenceConfig::default() },
        readings: 1 + u32::from(chance.count(4)),
        side: chance.scale(1e-7, 1e-5),
        jitter: Law::Exponential { mean: chance.scale(1e-8, 1e-6) },
        missing: chance.some(2, |chance| chance.period(20_000.0)),
        ..DeviceConfig::default()
    }
}

/// Mishaps in the order of time, one after the other.
fn events(chance: &mut Chance, forward_only: bool) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = chance.scale(60.0, 20_000.0);
    while at < CALM {
        let what = match happening(chance, forward_only) {
            Happening::Pause { lasts, counter_runs, packets_lost, sign } => {
                Happening::Pause { lasts: lasts.min(CALM - at), counter_runs, packets_lost, sign }
            }
            other => other,
        };
        events.push(Event { at, what });
        at += what.lasts() + chance.scale(10.0, 100_000.0);
        if let Happening::Order { order: OrderWord::Offline } = what {
            events.push(Event { at: at.min(CALM), what: Happening::Order { order: OrderWord::Online } });
            at += 10.0;
        }
    }
    events
}

fn happening(chance: &mut Chance, forward_only: bool) -> Happening {
    let step = chance.either(|chance| chance.scale(1e-3, 3_600.0));
    match chance.count(11) {
        0 => Happening::LoopOffset { by: chance.between(-0.5, 0.5) },
        1 => Happening::Adjtime { by: chance.between(-0.5, 0.5) },
        2 => Happening::Restart { keeps_frequency: chance.one_in(2) },
        3 | 4 => Happening::RateJump { by_ppm: chance.between(-600.0, 600.0) },
        5 | 6 => Happening::Pause {
            lasts: chance.scale(0.01, 86_400.0),
            counter_runs: chance.one_in(5),
            packets_lost: chance.one_in(2),
            sign: [None, Some(Sign::LateTimer), Some(Sign::Disruption)][usize::from(chance.count(2))],
        },
        7 => Happening::OtherWriter {
            tick: if chance.one_in(2) { 10_000 } else { 10_020 },
            frequency_ppm: step.clamp(-500.0, 500.0),
        },
        8 => Happening::OtherStep { by: if forward_only { -step.abs() } else { step } },
        9 => Happening::Order { order: OrderWord::Burst },
        10 => Happening::Order { order: OrderWord::Offline },
        _ => Happening::Order { order: OrderWord::MakeStep },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::World;

    #[test]
    fn every_week_is_another_and_the_same_again() {
        assert_eq!(week(1), week(1));
        assert_ne!(week(1), week(2));
    }

    #[test]
    fn liars_are_a_minority() {
        for seed in 0..200 {
            let servers = week(seed).servers;
            let liars = servers.iter().filter(|server| !server.clock.lies.is_empty()).count();
            assert!(liars * 2 < servers.len(), "seed {seed}");
        }
    }

    #[test]
    fn a_few_weeks_break_nothing() {
        for seed in [1, 2, 5, 6] {
            let mut world = World::new(week(seed), seed);
            world.finish();
            assert_eq!(world.breaches(), [], "seed {seed}: {:?}", world.guest.invariants.seen);
        }
    }
}
