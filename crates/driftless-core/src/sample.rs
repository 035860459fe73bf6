//! The one currency between a source and its estimator.

use crate::clock::Leap;
use crate::time::{RawTime, Seconds, WallTime};

/// One look at a reference.
///
/// Sign: `offset` = reference − local; positive means that the local clock is *behind* (RFC 5905's θ).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The middle of the look on the uncorrected counter.
    pub raw: RawTime,
    /// The local clock at that instant. `local + offset` is what the reference said.
    pub local: WallTime,
    /// Reference − local.
    pub offset: Seconds,
    /// Round trip, without the time the reference took: ≥ 0.
    pub delay: Seconds,
    /// What reading the two clocks adds to the error, whatever the delay: ≥ 0.
    pub dispersion: Seconds,
    /// The reference's own round trip to the root of its time.
    pub root_delay: Seconds,
    /// The reference's own dispersion to the root of its time.
    pub root_dispersion: Seconds,
    /// Steps to the root: 0 a reference clock, 1 to 15 a server.
    pub stratum: u8,
    /// What the reference announces.
    pub leap: Leap,
}

impl Sample {
    /// The largest error that honest clocks allow: delay/2 + root delay/2 + the dispersions (RFC 5905, section 11.1).
    #[must_use]
    pub fn root_distance(&self) -> Seconds {
        Seconds((self.delay.0 + self.root_delay.0) / 2.0 + self.dispersion.0 + self.root_dispersion.0)
    }
}
