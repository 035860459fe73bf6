//! Asking servers without setting anything.

use std::io;
use std::net::ToSocketAddrs as _;

use driftless_core::clock::Clock as _;
use driftless_core::event::Rejection;
use driftless_core::sample::Sample;
use driftless_core::source::{
    Action, Association, Endpoint, Peer, Refusal, Seen, SourceConfig, SourceId, StreamAddress,
};
use driftless_core::time::{Span, WallTime};
use driftless_linux::clock::ObservedClock;
use driftless_linux::entropy::KernelEntropy;
use driftless_linux::poll;
use serde_json::{Value, json};

use crate::links::{Arrival, Links, PACKET_MAX};
use crate::spec::{self, SpecError};

/// Why a server gave no time.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Not a host.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The name leads nowhere.
    #[error("{0}: the name leads to no address; check the name and the resolver")]
    Unresolved(String),
    /// Nobody answered in time.
    #[error("{0}: no answer within {1}; is a time server running there, and are its packets let through?")]
    Timeout(String, Span),
    /// The system refused, or the other side did.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The reply fails a check.
    #[error("{0}: reply not used: {1}")]
    Rejected(String, &'static str),
    /// A kiss-o'-death: who, and what it means.
    #[error("{0}: {1}")]
    Kissed(String, String),
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Who was asked, as written.
    pub host: String,
    /// Who answered.
    pub address: String,
    /// What came of it.
    pub sample: Sample,
    /// What the server said of itself.
    pub seen: Seen,
    /// When.
    pub time: WallTime,
}

/// A server that is asked again and again.
#[derive(Debug)]
pub struct Query {
    /// As written.
    name: String,
    source: SourceConfig,
}

impl Query {
    /// A host, `host:port`, `[v6]:port`, or a SPEC of a server.
    ///
    /// # Errors
    /// [`QueryError::Spec`].
    pub fn new(host: &str) -> Result<Self, QueryError> {
        let is_spec = ["ntp:", "ntp+vsock:", "ntp+unix:"].iter().any(|kind| host.starts_with(kind));
        let source = spec::parse(&if is_spec { host.to_owned() } else { format!("ntp:{host}") })?;
        Ok(Self { name: host.to_owned(), source })
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn ask(&self, patience: Span) -> Result<Answer, QueryError> {
        let io = |error| QueryError::Io(self.name.clone(), error);
        let mut clock = ObservedClock;
        let mut links = Links::new(std::slice::from_ref(&self.source));
        let (mut association, to, data) = self.asked()?;
        let end = clock.now().raw + patience;
        if let Some(at) = links.transmit(ONLY, to, &data, &mut clock).map_err(io)? {
            association.transmitted(at);
        }
        loop {
            let left = (end - clock.now().raw).max(Span::ZERO);
            let fds: Vec<_> = links.waiting().map(|(_, fd, direction)| (fd, direction)).collect();
            let ready = poll::wait_for(&fds, Some(left)).map_err(io)?;
            if ready.first() != Some(&true) {
                return Err(QueryError::Timeout(self.name.clone(), patience));
            }
            let mut buffer = [0; PACKET_MAX];
            let (packet, from, stamp) = match links.ready(ONLY, &mut clock, &mut buffer).map_err(io)? {
                Arrival::Packet(packet, from, stamp) => (packet, from, stamp),
                Arrival::Left(at) => {
                    association.transmitted(at);
                    continue;
                }
                Arrival::Nothing | Arrival::LookNow => continue,
            };
            let now = clock.now();
            match association.receive(now, 0.0, from, packet, stamp) {
                Ok(sample) => {
                    let (host, seen, time) = (self.name.clone(), association.seen, now.wall);
                    return Ok(Answer { host, address: self.address(to), sample, seen, time });
                }
                // Anybody can send foreign packets: wait on.
                Err(Refusal::Rejected(Rejection::NotOurs)) => {}
                Err(Refusal::Rejected(reason)) => {
                    return Err(QueryError::Rejected(self.name.clone(), crate::log::rejection(reason)));
                }
                Err(Refusal::Kissed(code)) => {
                    return Err(QueryError::Kissed(self.name.clone(), crate::log::kiss(code)));
                }
            }
        }
    }

    /// An association that has just asked, whom it asked, and the request.
    fn asked(&self) -> Result<(Association, Peer, [u8; 48]), QueryError> {
        let now = ObservedClock.now();
        let unresolved = || QueryError::Unresolved(self.name.clone());
        let mut association = Association::new(self.source.clone(), now);
        if let Endpoint::Udp { host, port } = &self.source.endpoint {
            let addresses = (host.as_str(), *port).to_socket_addrs().map_err(|_| unresolved())?;
            association.resolved(now, addresses.take(1).collect());
        }
        match association.due(now, &mut KernelEntropy) {
            Some(Action::Transmit(to, data)) => Ok((association, to, data)),
            // A fresh association asks at once, unless it knows no address.
            _ => Err(unresolved()),
        }
    }

    fn address(&self, to: Peer) -> String {
        match (to, &self.source.endpoint) {
            (Peer::Udp(address), _) => address.to_string(),
            (_, Endpoint::Stream(StreamAddress::Vsock { cid, port })) => format!("vsock {cid}:{port}"),
            (_, Endpoint::Stream(StreamAddress::Unix(path))) => path.clone(),
            _ => self.source.name.clone(),
        }
    }
}

/// There is one source, and this is its number.
const ONLY: SourceId = SourceId(0);

impl Answer {
    /// The answer for machines: seconds, reference − local.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "host": self.host,
            "address": self.address,
            "offset": self.sample.offset.0,
            "delay": self.sample.delay.0,
            "stratum": self.seen.stratum,
            "root_distance": self.sample.root_distance().0,
            "root_delay": self.sample.root_delay.0,
            "root_dispersion": self.sample.root_dispersion.0,
            "leap": self.sample.leap,
            "timestamps": if self.seen.kernel_stamp { "kernel" } else { "user" },
            "time": crate::civil::rfc3339(self.time),
        })
    }
}
