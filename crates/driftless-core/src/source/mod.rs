//! Sources: each one ends in a [`crate::sample::Sample`].

mod association;
mod device;
mod edge;
pub mod guest_agent;
mod inquiry;
mod poll;
pub mod push;
mod schedule;
pub mod vmclock_page;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use association::{Action, Association, Refusal, Seen};
pub use device::{Device, DeviceKind, LookError, Reading, TimeScale};
pub(crate) use edge::{Edge, UNLEARNT};
pub(crate) use inquiry::Inquiry;
pub use poll::PollExponent;
pub(crate) use schedule::Schedule;

/// A source's place in the configured list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u16);

/// How near a source is: it decides how often it may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceClass {
    /// The hypervisor's own clock, read directly: a look costs microseconds.
    Hypervisor,
    /// The emulated real-time clock: always there, known to a second.
    Rtc,
    /// On the guest's own host, or on loopback: looks are cheap.
    Host,
    /// On the same network.
    Network,
    /// Somebody else's server on the internet.
    Public,
}

/// Where a source is and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An NTP server over UDP.
    Udp {
        /// Host name or address; the driver resolves it.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// An NTP server over a stream, one packet of 48 bytes each way a look: vsock or a Unix socket.
    Stream(StreamAddress),
    /// A clock that is read, not asked.
    Device {
        /// What it is.
        kind: DeviceKind,
        /// Its path, or a name by which the driver finds it.
        path: String,
        /// The scale it counts in, where the user says so.
        scale: Option<TimeScale>,
    },
}

/// Where a stream leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamAddress {
    /// `AF_VSOCK`: context id and port.
    Vsock {
        /// The other side's context id; 2 is the host.
        cid: u32,
        /// Its port.
        port: u32,
    },
    /// `AF_UNIX`: a path.
    Unix(String),
}

/// The other side of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over UDP.
    Udp(SocketAddr),
    /// The configured stream: there is only one.
    Stream,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Udp(address)
    }
}

/// One source as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// The SPEC as the user wrote it: what reports call it.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How near it is.
    pub class: SourceClass,
    /// The shortest poll interval.
    pub min_poll: PollExponent,
    /// The longest poll interval.
    pub max_poll: PollExponent,
}

impl SourceClass {
    /// How far down the list of who is believed it stands: 0 is believed first. `nearest_first` is the policy `host`; otherwise only the
    /// RTC, which knows no more than its second, stands behind the others.
    #[must_use]
    pub const fn tier(self, nearest_first: bool) -> u8 {
        match self {
            Self::Rtc => 3,
            _ if !nearest_first => 0,
            Self::Hypervisor => 0,
            Self::Host => 1,
            Self::Network | Self::Public => 2,
        }
    }

    /// The poll limits where none are configured: design 6.
    #[must_use]
    pub const fn poll_limits(self) -> (PollExponent, PollExponent) {
        match self {
            Self::Hypervisor | Self::Rtc => (PollExponent::new(0), PollExponent::new(0)),
            // 4 s: a counter that changes its rate by 600 ppm is 2.4 ms off by the next look (specification T4).
            Self::Host => (PollExponent::new(0), PollExponent::new(2)),
            Self::Network => (PollExponent::new(4), PollExponent::new(8)),
            Self::Public => (PollExponent::new(6), PollExponent::new(10)),
        }
    }
}
