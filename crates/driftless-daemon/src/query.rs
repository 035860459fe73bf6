//! Asking servers without setting anything.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::AsFd as _;

use driftless_core::clock::Clock as _;
use driftless_core::engine::Entropy as _;
use driftless_core::event::Rejection;
use driftless_core::sample::Sample;
use driftless_core::source::{Action, Association, Endpoint, Refusal, Seen, SourceConfig};
use driftless_core::time::{Span, WallTime};
use driftless_linux::clock::ObservedClock;
use driftless_linux::entropy::KernelEntropy;
use driftless_linux::poll;
use driftless_linux::socket::RequestSocket;
use serde_json::{Value, json};

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
    #[error("{0}: no answer within {1}; is a time server running there, and is UDP let through?")]
    Timeout(String, Span),
    /// The system refused, or the other side did.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The reply fails a check.
    #[error("{0}: reply not used: {1}")]
    Rejected(String, &'static str),
    /// A kiss-o'-death.
    #[error("{0}: the server refuses, kiss code {1}")]
    Kissed(String, String),
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Who was asked, as written.
    pub host: String,
    /// Who answered.
    pub address: SocketAddr,
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
    host: String,
    port: u16,
}

impl Query {
    /// A host, `host:port`, `[v6]:port`, or a SPEC.
    ///
    /// # Errors
    /// [`QueryError::Spec`].
    pub fn new(host: &str) -> Result<Self, QueryError> {
        let spec = if host.starts_with("ntp:") { host.to_owned() } else { format!("ntp:{host}") };
        let source = spec::parse(&spec)?;
        let Endpoint::Udp { host: server, port } = source.endpoint.clone() else {
            return Err(SpecError::Host(host.to_owned()).into());
        };
        Ok(Self { name: host.to_owned(), source, host: server, port })
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn ask(&self, patience: Span) -> Result<Answer, QueryError> {
        let to = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| QueryError::Unresolved(self.name.clone()))?;
        let io = |error| QueryError::Io(self.name.clone(), error);
        let (mut association, data) = asked(&self.source, to);
        let socket = RequestSocket::connect(to).map_err(io)?;
        let at = ObservedClock.now();
        socket.send(&data).map_err(io)?;
        association.transmitted(at);
        let end = at.raw + patience;
        loop {
            let left = (end - ObservedClock.now().raw).max(Span::ZERO);
            let ready = poll::wait(&[socket.as_fd()], Some(left)).map_err(io)?;
            if ready.first() != Some(&true) {
                return Err(QueryError::Timeout(self.name.clone(), patience));
            }
            let mut buffer = [0; 1_024];
            let (length, from, stamp) = socket.recv(&mut buffer).map_err(io)?;
            let now = ObservedClock.now();
            match association.receive(now, 0.0, from.into(), buffer.get(..length).unwrap_or_default(), stamp)
            {
                Ok(sample) => {
                    let (host, seen) = (self.name.clone(), association.seen);
                    return Ok(Answer { host, address: to, sample, seen, time: now.wall });
                }
                // Anybody can send foreign packets: wait on.
                Err(Refusal::Rejected(Rejection::NotOurs)) => {}
                Err(Refusal::Rejected(reason)) => {
                    return Err(QueryError::Rejected(self.name.clone(), crate::log::rejection(reason)));
                }
                Err(Refusal::Kissed(code)) => {
                    return Err(QueryError::Kissed(self.name.clone(), code.escape_ascii().to_string()));
                }
            }
        }
    }
}

impl Answer {
    /// The answer for machines: seconds, reference − local.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "host": self.host,
            "address": self.address.to_string(),
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

/// An association that has just asked `to`, and the request.
fn asked(source: &SourceConfig, to: SocketAddr) -> (Association, [u8; 48]) {
    let now = ObservedClock.now();
    let mut association = Association::new(source.clone(), now);
    association.resolved(now, vec![to]);
    let mut entropy = KernelEntropy;
    match association.due(now, &mut entropy) {
        Some(Action::Transmit(_, data)) => (association, data),
        // A fresh association with an address asks at once.
        _ => (association, driftless_core::wire::Header::request(entropy.next_u64())),
    }
}
