//! Clocks that are read, not asked: a PTP clock, the vmclock page, the RTC.
//!
//! The driver reads the device between two readings of the counter, several times, and takes the mean of the tightest brackets; each side of a
//! bracket takes its least time and some more. The RTC shows whole seconds: its driver waits for the edge.

use driftless_core::clock::Leap;
use driftless_core::source::PollExponent;
use driftless_core::source::{
    DeviceKind, Endpoint, LookError, Reading, SourceClass, SourceConfig, TimeScale,
};
use driftless_core::time::{NANOS_PER_SECOND, Now, RawTime, Seconds, Span, WallTime};
use serde::Deserialize;

use crate::link::{Law, Period};
use crate::noise::{Noise, Seed};
use crate::reference::{Reference, ReferenceConfig};
use crate::truth::TrueTime;

/// A device. Times are seconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// What it is.
    pub kind: KindWord,
    /// Shortest poll, log2 s; the class's when absent.
    pub minpoll: Option<i8>,
    /// Longest poll, log2 s; the class's when absent.
    pub maxpoll: Option<i8>,
    /// What is wrong with its clock; `noise` is each reading's.
    pub clock: ReferenceConfig,
    /// What it counts in.
    pub scale: ScaleWord,
    /// Whether its driver knows that.
    pub scale_is_told: bool,
    /// How many readings a look takes.
    pub readings: u32,
    /// What either side of a bracket takes at least.
    pub side: f64,
    /// And what comes on top.
    pub jitter: Law,
    /// When it is not there.
    pub missing: Vec<Period>,
    /// When it stands still.
    pub frozen: Vec<Period>,
}

/// A kind as scenarios write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindWord {
    /// A PTP hardware clock.
    #[default]
    Phc,
    /// The hypervisor's page.
    Vmclock,
    /// The real-time clock.
    Rtc,
}

/// A time scale as scenarios write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleWord {
    /// As the kernel counts.
    #[default]
    Utc,
    /// 37 s ahead.
    Tai,
}

/// A running device.
#[derive(Debug, Clone)]
pub struct Device {
    config: DeviceConfig,
    /// Its clock.
    pub clock: Reference,
    noise: Noise,
}

/// TAI − UTC since 2017.
const TAI_UTC: Span = Span::from_secs(37);
/// A bracket counts beside the tightest where it is wider by no more than a quarter, and this.
const NEARLY_AS_TIGHT: Span = Span::from_nanos(20);

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            kind: KindWord::Phc,
            minpoll: None,
            maxpoll: None,
            clock: ReferenceConfig::default(),
            scale: ScaleWord::Utc,
            scale_is_told: true,
            readings: 1,
            side: 0.5e-6,
            jitter: Law::None,
            missing: Vec::new(),
            frozen: Vec::new(),
        }
    }
}

/// One reading between two of the counter, as spans from the look's beginning.
struct Bracket {
    begun: Span,
    width: Span,
    shown: WallTime,
}

impl DeviceConfig {
    /// As the engine is told of it.
    #[must_use]
    pub fn source(&self, index: usize) -> SourceConfig {
        let (kind, path) = match self.kind {
            KindWord::Phc => (DeviceKind::Phc, format!("/dev/ptp{index}")),
            KindWord::Vmclock => (DeviceKind::VmClock, format!("/dev/vmclock{index}")),
            KindWord::Rtc => (DeviceKind::Rtc, format!("/dev/rtc{index}")),
        };
        let class = if self.kind == KindWord::Rtc { SourceClass::Rtc } else { SourceClass::Hypervisor };
        let (least, most) = class.poll_limits();
        let min_poll = self.minpoll.map_or(least, PollExponent::new);
        SourceConfig {
            name: path.clone(),
            endpoint: Endpoint::Device { kind, path, scale: None },
            class,
            min_poll,
            max_poll: self.maxpoll.map_or(most, PollExponent::new).max(min_poll),
        }
    }
}

impl Device {
    /// A device with streams of chance of its own.
    #[must_use]
    pub fn new(config: DeviceConfig, seed: Seed, name: &str) -> Self {
        let clock = Reference::new(config.clock.clone(), seed.stream(&format!("{name} clock")));
        Self { config, clock, noise: seed.stream(&format!("{name} brackets")) }
    }

    /// How long until a look that begins at `at` can be had: the RTC's next second; else at once.
    #[must_use]
    pub fn waits(&self, at: TrueTime) -> Span {
        if self.config.kind != KindWord::Rtc {
            return Span::ZERO;
        }
        let shown = at.wall() + Seconds(self.clock.error(at)).to_span();
        Span::from_nanos(NANOS_PER_SECOND - shown.as_nanos().rem_euclid(NANOS_PER_SECOND))
    }

    /// A look at `at`, when the guest's clocks read `now`; and how long it takes.
    pub fn look(&mut self, at: TrueTime, now: Now) -> (Result<Reading, LookError>, Span) {
        let second = at.seconds();
        if self.config.missing.iter().any(|period| period.contains(second)) {
            return (Err(LookError::Missing), Span::ZERO);
        }
        let frozen = self.frozen_since(at);
        let mut brackets = Vec::new();
        let mut begun = Span::ZERO;
        for _ in 0..self.config.readings.max(1) {
            let (before, after) = (self.side(), self.side());
            let shown = match frozen {
                // The same count to the last ns: that is how one knows.
                Some(since) => since.wall() + Seconds(self.clock.error(since)).to_span() + self.ahead(),
                None => self.shown(at + begun + before),
            };
            brackets.push(Bracket { begun, width: before + after, shown });
            begun = begun + before + after;
        }
        (self.joined(&brackets, now), begun)
    }

    /// Since when it stands still, if it does.
    #[must_use]
    pub fn frozen_since(&self, at: TrueTime) -> Option<TrueTime> {
        let second = at.seconds();
        let period = self.config.frozen.iter().find(|period| period.contains(second))?;
        Some(TrueTime::from_seconds(period.from))
    }

    /// Standard deviation of a look's error, found by many looks, where a look is the mean of several readings: for who is told. s.
    #[must_use]
    pub fn known_noise(&self) -> Option<f64> {
        const LOOKS: u16 = 2_000;
        if self.config.readings <= 1 {
            return None;
        }
        let mut twin = self.clone();
        let at = TrueTime::ZERO;
        let now = Now { raw: RawTime::from_nanos(0), wall: at.wall() };
        let mut square = 0.0;
        for _ in 0..LOOKS {
            let Ok(reading) = twin.look(at, now).0 else { continue };
            let shown = WallTime::from_nanos(reading.device_ns) - self.ahead();
            square += (Seconds::from(shown - reading.at.wall).0 - self.clock.error(at)).powi(2);
        }
        Some((square / f64::from(LOOKS)).sqrt())
    }

    /// How far its scale is ahead of UTC.
    #[must_use]
    pub const fn ahead(&self) -> Span {
        match self.config.scale {
            ScaleWord::Utc => Span::ZERO,
            ScaleWord::Tai => TAI_UTC,
        }
    }

    /// What either side of a bracket takes: its least, and its law.
    #[must_use]
    pub const fn law(&self) -> (f64, Law) {
        (self.config.side, self.config.jitter)
    }

    fn side(&mut self) -> Span {
        Seconds(self.config.side + self.config.jitter.draw(&mut self.noise)).to_span()
    }

    fn shown(&mut self, at: TrueTime) -> WallTime {
        let lie = self.clock.lie(at);
        let shown = self.clock.shown(at, lie);
        let shown = shown + self.ahead();
        match self.config.kind {
            // The edge was waited for: what it shows is a whole second, the nearest.
            KindWord::Rtc => {
                let half = Span::from_nanos(NANOS_PER_SECOND).half();
                WallTime::from_parts((shown + half).as_nanos().div_euclid(NANOS_PER_SECOND), 0)
            }
            KindWord::Phc | KindWord::Vmclock => shown,
        }
    }

    /// The mean of the tightest brackets.
    fn joined(&self, brackets: &[Bracket], now: Now) -> Result<Reading, LookError> {
        let best = brackets.iter().min_by_key(|bracket| bracket.width).ok_or(LookError::Loose)?;
        let limit = best.width + best.width.half().half() + NEARLY_AS_TIGHT;
        let (mut count, mut middle, mut ahead, mut width) = (0, 0, 0, 0);
        for bracket in brackets.iter().filter(|bracket| bracket.width <= limit) {
            count += 1;
            middle += (bracket.begun + bracket.width.half()).as_nanos();
            ahead += (bracket.shown - best.shown).as_nanos();
            width += bracket.width.as_nanos();
        }
        let middle = Span::from_nanos(middle / count);
        let told = match self.config.scale {
            _ if !self.config.scale_is_told => TimeScale::Unknown,
            ScaleWord::Utc => TimeScale::Utc,
            ScaleWord::Tai => TimeScale::Tai(None),
        };
        Ok(Reading {
            at: Now { raw: now.raw + middle, wall: now.wall + middle },
            width: Span::from_nanos(width / count),
            device_ns: (best.shown + Span::from_nanos(ahead / count)).as_nanos(),
            scale: told,
            dispersion: Seconds(1e-9),
            leap: Leap::None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: DeviceConfig, second: f64) -> (Result<Reading, LookError>, Span) {
        let at = TrueTime::from_seconds(second);
        let mut device = Device::new(config, Seed(1), "device");
        let begins = at + device.waits(at);
        device.look(begins, Now { raw: RawTime::from_nanos(begins.as_nanos()), wall: begins.wall() })
    }

    fn error(reading: &Reading) -> f64 {
        Seconds::from(WallTime::from_nanos(reading.device_ns) - reading.at.wall).0
    }

    #[test]
    fn the_truth_lies_in_the_bracket() {
        for n in 0..100_u32 {
            let config = DeviceConfig { jitter: Law::Exponential { mean: 2e-6 }, ..DeviceConfig::default() };
            let reading = read(config, f64::from(n) * 1.1).0.unwrap();
            assert!(error(&reading).abs() <= Seconds::from(reading.width.half()).0 + 1e-9);
        }
    }

    #[test]
    fn many_readings_are_better_than_one() {
        let spread = |readings: u32| {
            let clock = ReferenceConfig { noise: 1e-6, ..ReferenceConfig::default() };
            let mut device =
                Device::new(DeviceConfig { clock, readings, ..DeviceConfig::default() }, Seed(1), "device");
            let squares = (0..200).map(|n| {
                let at = TrueTime::from_seconds(f64::from(n));
                let now = Now { raw: RawTime::from_nanos(at.as_nanos()), wall: at.wall() };
                error(&device.look(at, now).0.unwrap()).powi(2)
            });
            (squares.sum::<f64>() / 200.0).sqrt()
        };
        assert!((0.9e-6..1.1e-6).contains(&spread(1)) && (0.25e-6..0.4e-6).contains(&spread(10)));
    }

    #[test]
    fn the_rtc_is_read_at_its_own_edge() {
        let clock = ReferenceConfig { offset: 0.3, ..ReferenceConfig::default() };
        let config = DeviceConfig { kind: KindWord::Rtc, clock, ..DeviceConfig::default() };
        let reading = read(config, 5.123).0.unwrap();
        assert_eq!(reading.device_ns % NANOS_PER_SECOND, 0);
        assert!((error(&reading) - 0.3).abs() < 1e-5);
    }

    #[test]
    fn a_device_can_go_away_or_stand_still() {
        let gone = DeviceConfig { missing: vec![Period { from: 5.0, to: 9.0 }], ..DeviceConfig::default() };
        assert_eq!(read(gone, 6.0).0, Err(LookError::Missing));
        let still =
            || DeviceConfig { frozen: vec![Period { from: 5.0, to: 9.0 }], ..DeviceConfig::default() };
        assert_eq!(read(still(), 6.0).0.unwrap().device_ns, read(still(), 7.0).0.unwrap().device_ns);
    }
}
