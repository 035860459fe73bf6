//! All chance in the world: one seed, and a stream of its own for each thing that is uncertain.
//!
//! A stream is named, not numbered: adding a source, or asking one of them more often, leaves every other stream as it was. So two runs that
//! differ in one thing differ by that thing alone.

use driftless_core::engine::Entropy;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, StandardNormal};

/// The world's seed, from which every stream comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

/// One stream of chance.
#[derive(Debug, Clone)]
pub struct Noise(pub(crate) ChaCha8Rng);

impl Seed {
    /// The stream of this name.
    #[must_use]
    pub fn stream(self, name: &str) -> Noise {
        let mut rng = ChaCha8Rng::seed_from_u64(self.0);
        rng.set_stream(name_hash(name));
        Noise(rng)
    }
}

impl Noise {
    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        // 53 bits are what a float holds.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let bits = (self.0.next_u64() >> 11) as f64;
        bits * f64::EPSILON / 2.0
    }

    /// Normal with mean 0 and standard deviation 1.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        Exp1.sample(&mut self.0)
    }

    /// True with this probability. Nothing is drawn where the answer is sure.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && (probability >= 1.0 || self.uniform() < probability)
    }
}

impl Entropy for Noise {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// FNV-1a: spreads names over the streams; any hash that never changes would do.
fn name_hash(name: &str) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    name.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, name: &str) -> [u64; 3] {
        let mut stream = Seed(seed).stream(name);
        [stream.next_u64(), stream.next_u64(), stream.next_u64()]
    }

    #[test]
    fn a_stream_depends_on_its_seed_and_its_name_alone() {
        assert_eq!(first(7, "server 0 up"), first(7, "server 0 up"));
        assert_ne!(first(7, "server 0 up"), first(8, "server 0 up"));
        assert_ne!(first(7, "server 0 up"), first(7, "server 1 up"));
    }

    #[test]
    fn the_laws_have_their_moments() {
        let mut noise = Seed(1).stream("moments");
        let n = 200_000;
        let (mut uniform, mut normal, mut square, mut exponential) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..n {
            uniform += noise.uniform() / f64::from(n);
            let x = noise.normal();
            normal += x / f64::from(n);
            square += x * x / f64::from(n);
            exponential += noise.exponential() / f64::from(n);
        }
        assert!((uniform - 0.5).abs() < 0.01 && normal.abs() < 0.01);
        assert!((square - 1.0).abs() < 0.02 && (exponential - 1.0).abs() < 0.01);
    }
}
