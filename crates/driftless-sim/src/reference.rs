//! A reference's idea of the time: right, or wrong in one of the ways in which references are wrong. Servers and devices each have one.

use driftless_core::time::{Seconds, WallTime};
use serde::Deserialize;

use crate::noise::Noise;
use crate::truth::TrueTime;

/// What is wrong with a reference's clock. Positive is ahead of the truth; times are seconds.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReferenceConfig {
    /// Always wrong by so much.
    pub offset: f64,
    /// Goes wrong by so much.
    pub drift_ppm: f64,
    /// White noise of each of its stamps, standard deviation.
    pub noise: f64,
    /// Lies.
    pub lies: Vec<Lie>,
    /// Jumps.
    pub steps: Vec<Jump>,
    /// Leap seconds smeared over hours.
    pub smears: Vec<Smear>,
}

/// A wrong time, told in some answers.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lie {
    /// How wrong.
    pub by: f64,
    /// In which part of the answers.
    pub chance: f64,
    /// From when on.
    pub from: f64,
    /// Until when.
    pub to: f64,
}

impl Default for Lie {
    fn default() -> Self {
        Self { by: 0.0, chance: 1.0, from: 0.0, to: f64::INFINITY }
    }
}

/// A clock jumps.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    /// When.
    pub at: f64,
    /// By how much.
    pub by: f64,
}

/// A leap second spread out in a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smear {
    /// When it begins.
    pub at: f64,
    /// How long it takes.
    pub over: f64,
    /// How much it adds in all.
    pub by: f64,
}

/// A running clock of a reference.
#[derive(Debug, Clone)]
pub struct Reference {
    config: ReferenceConfig,
    noise: Noise,
}

impl Reference {
    /// A clock with its own stream of chance.
    #[must_use]
    pub const fn new(config: ReferenceConfig, noise: Noise) -> Self {
        Self { config, noise }
    }

    /// Its error without lies and noise, s: positive is ahead of the truth.
    #[must_use]
    pub fn error(&self, at: TrueTime) -> f64 {
        let second = at.seconds();
        let clock = &self.config;
        let steps: f64 = clock.steps.iter().filter(|step| step.at <= second).map(|step| step.by).sum();
        let smeared = |smear: &Smear| smear.by * ((second - smear.at) / smear.over).clamp(0.0, 1.0);
        clock.offset + clock.drift_ppm * 1e-6 * second + steps + clock.smears.iter().map(smeared).sum::<f64>()
    }

    /// Which lie the next answer tells, s: mostly none.
    pub fn lie(&mut self, at: TrueTime) -> f64 {
        let (noise, second) = (&mut self.noise, at.seconds());
        let told = self.config.lies.iter().filter(|lie| (lie.from..lie.to).contains(&second));
        told.filter(|lie| noise.happens(lie.chance)).map(|lie| lie.by).sum()
    }

    /// What it shows, a lie included.
    pub fn shown(&mut self, at: TrueTime, lie_s: f64) -> WallTime {
        let noise_s = if self.config.noise > 0.0 { self.config.noise * self.noise.normal() } else { 0.0 };
        at.wall() + Seconds(self.error(at) + lie_s + noise_s).to_span()
    }

    /// Whether its error is all that is wrong with it: who knows that can make use of it.
    #[must_use]
    pub fn tells_the_truth(&self) -> bool {
        self.config.lies.is_empty()
    }

    /// Standard deviation of the noise of each reading, s.
    #[must_use]
    pub const fn noise(&self) -> f64 {
        self.config.noise
    }

    /// Chance of its own, for what it says.
    pub(crate) const fn chance(&mut self) -> &mut Noise {
        &mut self.noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Seed;

    fn error(config: ReferenceConfig, second: f64) -> f64 {
        let mut reference = Reference::new(config, Seed(1).stream("reference"));
        let at = TrueTime::from_seconds(second);
        let lie = reference.lie(at);
        Seconds::from(reference.shown(at, lie) - at.wall()).0
    }

    #[test]
    fn each_way_of_being_wrong_is_wrong_by_as_much_as_asked() {
        let right = ReferenceConfig::default;
        assert!(error(right(), 500.0).abs() < 1e-8);
        let clock = ReferenceConfig { offset: 0.5, drift_ppm: 10.0, ..right() };
        assert!((error(clock, 1_000.0) - 0.51).abs() < 1e-8);
        let clock = ReferenceConfig { lies: vec![Lie { by: 2.0, from: 10.0, ..Lie::default() }], ..right() };
        assert!(error(clock.clone(), 9.0).abs() < 1e-8 && (error(clock, 10.0) - 2.0).abs() < 1e-8);
        let clock = ReferenceConfig { steps: vec![Jump { at: 5.0, by: -3.0 }], ..right() };
        assert!((error(clock, 6.0) + 3.0).abs() < 1e-8);
        let clock = ReferenceConfig { smears: vec![Smear { at: 0.0, over: 86_400.0, by: -1.0 }], ..right() };
        assert!((error(clock, 43_200.0) + 0.5).abs() < 1e-8);
    }
}
