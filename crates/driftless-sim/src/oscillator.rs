//! The guest's counter: how fast it really runs, and what it therefore reads.
//!
//! Rate = constant drift + random walk + white noise + temperature + ageing, held for one cell of time and then drawn anew. Cells lie on a fixed
//! grid and each takes the same number of draws, so that the counter's course does not depend on who looks at it, or when.
//! The reading is a whole number of ns and a fraction, so that nothing is lost in a million seconds.

use core::f64::consts::TAU;

use driftless_core::time::{RawTime, Seconds, Span};
use serde::Deserialize;

use crate::noise::Noise;
use crate::truth::TrueTime;

/// What the counter is like. All rates are counter against truth: positive runs fast.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OscillatorConfig {
    /// What the counter reads at the beginning, s: how long the guest has been up.
    pub starts_at: f64,
    /// Constant part, ppm.
    pub drift_ppm: f64,
    /// Random walk of the rate: standard deviation after a second, ppb/√s.
    pub wander_ppb: f64,
    /// White noise of the rate: standard deviation over a second, ppb.
    pub white_ppb: f64,
    /// Temperature: amplitude of a sine of the rate, ppm.
    pub thermal_ppm: f64,
    /// Its period, s.
    pub thermal_period: f64,
    /// Ageing, ppm a day.
    pub ageing_ppm: f64,
}

impl Default for OscillatorConfig {
    fn default() -> Self {
        Self {
            starts_at: 0.0,
            drift_ppm: 300.0,
            wander_ppb: 1.0,
            white_ppb: 0.0,
            thermal_ppm: 0.0,
            thermal_period: 3_600.0,
            ageing_ppm: 0.0,
        }
    }
}

/// A running counter.
#[derive(Debug, Clone)]
pub struct Oscillator {
    config: OscillatorConfig,
    noise: Noise,
    at: TrueTime,
    /// When the present cell ends.
    cell_ends: TrueTime,
    /// What it reads at `at`: whole ns, and the fraction of one.
    nanos: i64,
    fraction: f64,
    /// Random walk so far, s/s.
    walk: f64,
    /// What jumps have added, s/s.
    jumped: f64,
    /// The present cell's rate without jumps, s/s, and the part of it that is temperature and ageing.
    rate: f64,
    intended: f64,
    /// What jumps, temperature, ageing and standing still have added to the reading, ns.
    told: f64,
}

/// Length of a cell.
const CELL: Span = Span::from_secs(1);

impl Oscillator {
    /// A counter at the beginning.
    #[must_use]
    pub fn new(config: OscillatorConfig, noise: Noise) -> Self {
        let mut oscillator = Self {
            nanos: Seconds(config.starts_at).to_span().as_nanos(),
            config,
            noise,
            at: TrueTime::ZERO,
            cell_ends: TrueTime::ZERO,
            fraction: 0.0,
            walk: 0.0,
            jumped: 0.0,
            rate: 0.0,
            intended: 0.0,
            told: 0.0,
        };
        oscillator.begin_cell();
        oscillator
    }

    /// Lets time pass until `to`; earlier times change nothing.
    pub fn advance(&mut self, to: TrueTime) {
        while self.cell_ends <= to {
            self.run(self.cell_ends);
            self.begin_cell();
        }
        if to > self.at {
            self.run(to);
        }
    }

    /// Time passes until `to`, but the counter stands still: the machine is stopped.
    pub fn stand_still(&mut self, to: TrueTime) {
        let (nanos, fraction) = (self.nanos, self.fraction);
        self.advance(to);
        self.told -= Seconds::from(self.raw() - RawTime::from_nanos(nanos)).0 * 1e9;
        (self.nanos, self.fraction) = (nanos, fraction);
    }

    /// The rate changes at once: another host, or another calibration.
    pub fn jump(&mut self, by_ppm: f64) {
        self.jumped += by_ppm * 1e-6;
    }

    /// What the counter reads.
    #[must_use]
    pub const fn raw(&self) -> RawTime {
        RawTime::from_nanos(self.nanos)
    }

    /// The fraction of a ns that [`Self::raw`] leaves out.
    #[must_use]
    pub const fn fraction(&self) -> f64 {
        self.fraction
    }

    /// What the counter would read but for jumps, temperature, ageing and standing still: what is left to chance. For those who are told.
    #[must_use]
    pub fn cleared(&self) -> i64 {
        self.nanos - Seconds(self.told * 1e-9).to_span().as_nanos()
    }

    /// Counter against truth, minus one, now.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate + self.jumped
    }

    /// When the counter will read `raw`, if its rate stays as it is.
    #[must_use]
    pub fn when(&self, raw: RawTime) -> TrueTime {
        let left = raw - self.raw();
        let stretched = Seconds(Seconds::from(left).0 / (1.0 + self.rate()));
        self.at + stretched.to_span()
    }

    fn run(&mut self, to: TrueTime) {
        let elapsed = to - self.at;
        // Within a cell an `f64` holds the extra time to far below a ns.
        self.told += Seconds::from(elapsed).0 * 1e9 * (self.intended + self.jumped);
        self.fraction += Seconds::from(elapsed).0 * 1e9 * self.rate();
        let whole = self.fraction.floor();
        self.fraction -= whole;
        self.nanos += elapsed.as_nanos() + Seconds(whole * 1e-9).to_span().as_nanos();
        self.at = to;
    }

    fn begin_cell(&mut self) {
        let config = &self.config;
        let cell_s = Seconds::from(CELL).0;
        self.walk += config.wander_ppb * 1e-9 * cell_s.sqrt() * self.noise.normal();
        let middle_s = self.at.seconds() + cell_s / 2.0;
        let white = config.white_ppb * 1e-9 / cell_s.sqrt() * self.noise.normal();
        let thermal = config.thermal_ppm * 1e-6 * libm::sin(TAU * middle_s / config.thermal_period);
        let ageing = config.ageing_ppm * 1e-6 * middle_s / 86_400.0;
        self.intended = thermal + ageing;
        self.rate = config.drift_ppm * 1e-6 + self.walk + white + self.intended;
        self.cell_ends = self.at + CELL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Seed;

    fn counter(config: OscillatorConfig) -> Oscillator {
        Oscillator::new(config, Seed(3).stream("oscillator"))
    }

    fn reads_at(oscillator: &mut Oscillator, seconds: f64) -> i64 {
        oscillator.advance(TrueTime::from_seconds(seconds));
        oscillator.raw().as_nanos()
    }

    #[test]
    fn a_constant_drift_is_exact_after_a_million_seconds() {
        let quiet = OscillatorConfig { drift_ppm: 676.0, wander_ppb: 0.0, ..OscillatorConfig::default() };
        assert_eq!(reads_at(&mut counter(quiet), 1e6), 1_000_676_000_000_000);
    }

    #[test]
    fn looking_changes_nothing() {
        let wild = OscillatorConfig { white_ppb: 50.0, thermal_ppm: 0.3, ..OscillatorConfig::default() };
        let (mut watched, mut left_alone) = (counter(wild.clone()), counter(wild));
        for n in 0..5_000 {
            reads_at(&mut watched, f64::from(n) * 0.777);
        }
        assert!((reads_at(&mut watched, 4_000.0) - reads_at(&mut left_alone, 4_000.0)).abs() <= 1);
    }

    #[test]
    fn a_deadline_is_met_to_the_nanosecond() {
        let mut oscillator = counter(OscillatorConfig { drift_ppm: -2_000.0, ..OscillatorConfig::default() });
        reads_at(&mut oscillator, 10.3);
        let goal = oscillator.raw() + Span::from_millis(500);
        oscillator.advance(oscillator.when(goal));
        assert!((oscillator.raw() - goal).abs() <= Span::from_nanos(1));
    }

    #[test]
    fn the_walk_spreads_with_the_root_of_time() {
        let config = OscillatorConfig { drift_ppm: 0.0, wander_ppb: 10.0, ..OscillatorConfig::default() };
        let squares = (0..200).map(|seed| {
            let mut oscillator = Oscillator::new(config.clone(), Seed(seed).stream("oscillator"));
            oscillator.advance(TrueTime::from_seconds(900.0));
            (oscillator.rate() * 1e9).powi(2)
        });
        let sd_ppb = (squares.sum::<f64>() / 200.0).sqrt();
        assert!((240.0..360.0).contains(&sd_ppb), "10 ppb/√s over 900 s is 300 ppb, not {sd_ppb}");
    }
}
