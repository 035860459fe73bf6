//! The way of a packet: each direction has its own floor, its own law of jitter, its own losses; and both have bad hours.

use driftless_core::time::{Seconds, Span};
use rand_distr::{Distribution as _, Gamma};
use serde::Deserialize;

use crate::noise::{Noise, Seed};
use crate::truth::TrueTime;

/// One direction of a path. Times are seconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectionConfig {
    /// What every packet takes at least.
    pub floor: f64,
    /// What comes on top by chance.
    pub jitter: Law,
    /// Part of the packets that is lost.
    pub loss: f64,
    /// Part of the packets that arrives twice, the copy by a second draw of the jitter.
    pub duplicated: f64,
    /// Part of the packets that is held back, so that later ones overtake it...
    pub late: f64,
    /// ... and for how long.
    pub late_by: f64,
}

impl Default for DirectionConfig {
    fn default() -> Self {
        let jitter = Law::Exponential { mean: 100e-6 };
        Self { floor: 50e-6, jitter, loss: 0.0, duplicated: 0.0, late: 0.0, late_by: 0.0 }
    }
}

/// A law of jitter: what is added to the floor.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "law", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Law {
    /// Nothing.
    None,
    /// Queues of a lightly loaded path.
    Exponential {
        /// Mean.
        mean: f64,
    },
    /// A normal one, cut at the floor: `mean` above it.
    Normal {
        /// Mean above the floor.
        mean: f64,
        /// Standard deviation.
        sd: f64,
    },
    /// Multiplicative troubles.
    LogNormal {
        /// Median.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Several queues in a row.
    Gamma {
        /// How many.
        shape: f64,
        /// Mean of all together.
        mean: f64,
    },
    /// A heavy tail: the product of several unit exponentials.
    Heavy {
        /// What the product is multiplied with.
        scale: f64,
        /// How many exponentials.
        factors: u8,
        /// More than this is never added.
        cap: f64,
    },
}

/// A path there and back, as it changes over time. Times are seconds since the beginning.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// From the guest to the server.
    pub up: DirectionConfig,
    /// And back.
    pub down: DirectionConfig,
    /// Other ways that the packets take from some time on.
    pub routes: Vec<Route>,
    /// Bad hours.
    pub congestion: Vec<Congestion>,
    /// Nothing comes through.
    pub outages: Vec<Period>,
}

/// From `at` on the path has other floors.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// When.
    pub at: f64,
    /// Floor to the server.
    pub up: f64,
    /// Floor back.
    pub down: f64,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// Its beginning.
    pub from: f64,
    /// Its end, which no longer belongs to it.
    pub to: f64,
}

/// Queues that are longer than usual, once or again and again.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Congestion {
    /// When the first begins.
    pub from: f64,
    /// How long each lasts.
    pub lasts: f64,
    /// From the beginning of one to that of the next; 0 for only one.
    pub every: f64,
    /// Mean of the exponential delay that comes on top, to the server.
    pub up: f64,
    /// And back.
    pub down: f64,
}

impl Default for Congestion {
    fn default() -> Self {
        Self { from: 0.0, lasts: f64::INFINITY, every: 0.0, up: 0.0, down: 0.0 }
    }
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// Back to the guest.
    Down,
}

/// A running path.
#[derive(Debug, Clone)]
pub struct Link {
    /// What it is like.
    pub config: LinkConfig,
    up: Streams,
    down: Streams,
}

/// One direction's chance: what a packet takes, and whether it comes at all. Apart, so that a lost packet leaves the delays of others alone.
#[derive(Debug, Clone)]
struct Streams {
    delays: Noise,
    fates: Noise,
}

impl Streams {
    fn new(seed: Seed, name: &str, way: &str) -> Self {
        let stream = |what: &str| seed.stream(&format!("{name} {way} {what}"));
        Self { delays: stream("delays"), fates: stream("fates") }
    }
}

impl Link {
    /// A path with streams of chance of its own.
    #[must_use]
    pub fn new(config: LinkConfig, seed: Seed, name: &str) -> Self {
        Self { config, up: Streams::new(seed, name, "up"), down: Streams::new(seed, name, "down") }
    }

    /// How long a packet that leaves at `at` takes: once for each time it arrives, so nothing when it is lost, twice when it is duplicated.
    pub fn send(&mut self, at: TrueTime, way: Way) -> [Option<Span>; 2] {
        let (direction, streams) = match way {
            Way::Up => (&self.config.up, &mut self.up),
            Way::Down => (&self.config.down, &mut self.down),
        };
        let now_s = at.seconds();
        let (floor_up, floor_down) = self.config.floors(now_s);
        let floor = if way == Way::Up { floor_up } else { floor_down };
        let queue: f64 = self.config.congestion.iter().map(|episode| episode.mean(now_s, way)).sum();
        let mut delay = || {
            let jitter = direction.jitter.draw(&mut streams.delays);
            let queued = if queue > 0.0 { queue * streams.delays.exponential() } else { 0.0 };
            floor + jitter + queued
        };
        let first = delay();
        let fates = &mut streams.fates;
        let is_lost =
            fates.happens(direction.loss) || self.config.outages.iter().any(|outage| outage.contains(now_s));
        let first = first + if fates.happens(direction.late) { direction.late_by } else { 0.0 };
        let copy = fates.happens(direction.duplicated).then(&mut delay);
        let arrival = |delay_s: f64| Seconds(delay_s).to_span();
        if is_lost { [None, None] } else { [Some(arrival(first)), copy.map(arrival)] }
    }
}

impl Link {
    /// Both floors, s, unless queues are longer than usual.
    #[must_use]
    pub fn usual_floors(&self, at: TrueTime) -> Option<(f64, f64)> {
        let second = at.seconds();
        let is_usual =
            |episode: &Congestion| episode.mean(second, Way::Up) + episode.mean(second, Way::Down) <= 0.0;
        self.config.congestion.iter().all(is_usual).then(|| self.config.floors(second))
    }
}

impl LinkConfig {
    fn floors(&self, second: f64) -> (f64, f64) {
        let route = self.routes.iter().rev().find(|route| route.at <= second);
        route.map_or((self.up.floor, self.down.floor), |route| (route.up, route.down))
    }
}

impl Law {
    /// One delay above the floor, s.
    pub(crate) fn draw(self, noise: &mut Noise) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Exponential { mean } => mean * noise.exponential(),
            Self::Normal { mean, sd } => (mean + sd * noise.normal()).max(0.0),
            Self::LogNormal { median, sigma } => median * libm::exp(sigma * noise.normal()),
            Self::Gamma { shape, mean } => {
                Gamma::new(shape, mean / shape).map_or(mean, |law| law.sample(&mut noise.0))
            }
            Self::Heavy { scale, factors, cap } => {
                let product: f64 = (0..factors).map(|_| noise.exponential()).product();
                (scale * product).min(cap)
            }
        }
    }
}

impl Period {
    /// Whether `second` lies in it.
    #[must_use]
    pub fn contains(&self, second: f64) -> bool {
        (self.from..self.to).contains(&second)
    }
}

impl Congestion {
    fn mean(&self, second: f64, way: Way) -> f64 {
        let since = second - self.from;
        let within = if self.every > 0.0 { since.rem_euclid(self.every) } else { since };
        let is_on = since >= 0.0 && within < self.lasts;
        match way {
            _ if !is_on => 0.0,
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(config: LinkConfig, way: Way) -> Vec<f64> {
        let mut link = Link::new(config, Seed(5), "link");
        let sent = (0..20_000).map(|n| TrueTime::from_seconds(f64::from(n)));
        sent.flat_map(|at| link.send(at, way)).flatten().map(|span| Seconds::from(span).0).collect()
    }

    fn up(direction: DirectionConfig) -> LinkConfig {
        LinkConfig { up: direction, ..LinkConfig::default() }
    }

    #[test]
    fn no_packet_is_faster_than_the_floor_whatever_the_law() {
        let laws = [
            Law::None,
            Law::Exponential { mean: 1e-3 },
            Law::Normal { mean: 1e-4, sd: 1e-3 },
            Law::LogNormal { median: 1e-3, sigma: 1.0 },
            Law::Gamma { shape: 3.0, mean: 1e-3 },
            Law::Heavy { scale: 4e-3, factors: 3, cap: 0.1 },
        ];
        for jitter in laws {
            let config = up(DirectionConfig { floor: 1e-3, jitter, ..DirectionConfig::default() });
            let seen = delays(config, Way::Up);
            assert!(seen.iter().all(|delay| (1e-3..=0.1011).contains(delay)), "{jitter:?}");
        }
    }

    #[test]
    fn means_are_as_asked() {
        for jitter in [Law::Exponential { mean: 1e-3 }, Law::Gamma { shape: 3.0, mean: 1e-3 }] {
            let seen = delays(up(DirectionConfig { jitter, ..DirectionConfig::default() }), Way::Up);
            let mean = seen.iter().sum::<f64>() / f64::from(u32::try_from(seen.len()).unwrap());
            assert!((mean - 1.05e-3).abs() < 3e-5, "{jitter:?}: {mean}");
        }
    }

    #[test]
    fn packets_are_lost_and_doubled_as_often_as_asked() {
        let lossy = delays(up(DirectionConfig { loss: 0.3, ..DirectionConfig::default() }), Way::Up).len();
        assert!((13_600..14_400).contains(&lossy), "{lossy}");
        let doubled =
            delays(up(DirectionConfig { duplicated: 0.1, ..DirectionConfig::default() }), Way::Up).len();
        assert!((21_700..22_300).contains(&doubled), "{doubled}");
    }

    #[test]
    fn a_loss_leaves_the_delays_of_the_others_alone() {
        let mut whole = Link::new(LinkConfig::default(), Seed(5), "link");
        let mut lossy =
            Link::new(up(DirectionConfig { loss: 0.5, ..DirectionConfig::default() }), Seed(5), "link");
        for n in 0..100 {
            let at = TrueTime::from_seconds(f64::from(n));
            let (full, part) = (whole.send(at, Way::Up), lossy.send(at, Way::Up));
            assert!(part[0].is_none() || part == full);
        }
    }

    #[test]
    fn routes_outages_and_bad_hours_come_when_they_should() {
        let quiet = DirectionConfig { jitter: Law::None, ..DirectionConfig::default() };
        let config = LinkConfig {
            up: quiet.clone(),
            down: quiet,
            routes: vec![Route { at: 100.0, up: 5e-3, down: 50e-6 }],
            outages: vec![Period { from: 200.0, to: 300.0 }],
            congestion: vec![Congestion { from: 400.0, lasts: 10.0, every: 100.0, up: 1e-3, down: 0.0 }],
        };
        let mut link = Link::new(config, Seed(5), "link");
        let mut at =
            |second: f64, way: Way| link.send(TrueTime::from_seconds(second), way)[0].map(Span::as_nanos);
        assert_eq!((at(99.0, Way::Up), at(100.0, Way::Up)), (Some(50_000), Some(5_000_000)));
        assert_eq!((at(250.0, Way::Down), at(300.0, Way::Down)), (None, Some(50_000)));
        assert!(at(505.0, Way::Up) > Some(5_000_000) && at(505.0, Way::Down) == Some(50_000));
        assert_eq!(at(515.0, Way::Up), Some(5_000_000));
    }
}
