//! Sources: each one ends in a [`crate::sample::Sample`].

mod association;
mod poll;

use serde::{Deserialize, Serialize};

pub use association::{Action, Association, Refusal, Seen};
pub use poll::PollExponent;

/// A source's place in the configured list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u16);

/// How near a source is: it decides how often it may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceClass {
    /// On the guest's own host, or on loopback: looks are cheap.
    Host,
    /// On the same network.
    Network,
    /// Somebody else's server on the internet.
    Public,
}

/// One NTP server as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// The SPEC as the user wrote it: what reports call it.
    pub name: String,
    /// Host name or address; the driver resolves it.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// How near it is.
    pub class: SourceClass,
    /// The shortest poll interval.
    pub min_poll: PollExponent,
    /// The longest poll interval.
    pub max_poll: PollExponent,
}

impl SourceClass {
    /// The poll limits where none are configured: design 6.
    #[must_use]
    pub const fn poll_limits(self) -> (PollExponent, PollExponent) {
        match self {
            Self::Host => (PollExponent::new(0), PollExponent::new(4)),
            Self::Network => (PollExponent::new(4), PollExponent::new(8)),
            Self::Public => (PollExponent::new(6), PollExponent::new(10)),
        }
    }
}
