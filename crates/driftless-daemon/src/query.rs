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

    /// Who is asked, as written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn ask(&self, patience: Span) -> Result<Answer, QueryError> {
        let silent = || Err(QueryError::Timeout(self.name.clone(), patience));
        ask_all(std::slice::from_ref(self), patience).pop().unwrap_or_else(silent)
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

/// Asks all of them at once, each once, and waits until each has answered or `patience` is over.
#[must_use]
pub fn ask_all(queries: &[Query], patience: Span) -> Vec<Result<Answer, QueryError>> {
    let mut clock = ObservedClock;
    let sources: Vec<SourceConfig> = queries.iter().map(|query| query.source.clone()).collect();
    let mut links = Links::new(&sources);
    let ids = (0_u16..).map(SourceId);
    let mut asked: Vec<Asked<'_>> =
        ids.zip(queries).map(|(id, query)| Asked::send(id, query, &mut links, &mut clock)).collect();
    let end = clock.now().raw + patience;
    while asked.iter().any(|one| one.result.is_none()) {
        let left = (end - clock.now().raw).max(Span::ZERO);
        let is_open = |id: SourceId| asked.get(usize::from(id.0)).is_some_and(|one| one.result.is_none());
        let waiting: Vec<_> = links.waiting().filter(|(id, ..)| is_open(*id)).collect();
        let fds: Vec<_> = waiting.iter().map(|(_, fd, direction)| (*fd, *direction)).collect();
        let ready = match poll::wait_for(&fds, Some(left)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Vec::new(),
            ready => ready.unwrap_or_default(),
        };
        let ready: Vec<SourceId> =
            waiting.iter().zip(&ready).filter(|(_, is_ready)| **is_ready).map(|((id, ..), _)| *id).collect();
        for one in asked.iter_mut().filter(|one| ready.contains(&one.id)) {
            one.receive(&mut links, &mut clock);
        }
        if clock.now().raw >= end {
            break;
        }
    }
    let result = |one: Asked<'_>| {
        one.result.unwrap_or_else(|| Err(QueryError::Timeout(one.query.name.clone(), patience)))
    };
    asked.into_iter().map(result).collect()
}

/// A query under way.
struct Asked<'a> {
    id: SourceId,
    query: &'a Query,
    /// The association and whom it asked; none where nobody could be asked.
    exchange: Option<(Association, Peer)>,
    result: Option<Result<Answer, QueryError>>,
}

impl<'a> Asked<'a> {
    fn send(id: SourceId, query: &'a Query, links: &mut Links, clock: &mut ObservedClock) -> Self {
        let mut one = Self { id, query, exchange: None, result: None };
        let (mut association, to, data) = match query.asked() {
            Ok(asked) => asked,
            Err(error) => {
                one.result = Some(Err(error));
                return one;
            }
        };
        match links.transmit(id, to, &data, clock) {
            Ok(Some(at)) => association.transmitted(at),
            Ok(None) => {}
            Err(error) => one.result = Some(Err(QueryError::Io(query.name.clone(), error))),
        }
        one.exchange = Some((association, to));
        one
    }

    /// Takes what came.
    fn receive(&mut self, links: &mut Links, clock: &mut ObservedClock) {
        let Some((association, to)) = &mut self.exchange else { return };
        let name = || self.query.name.clone();
        let mut buffer = [0; PACKET_MAX];
        let (packet, from, stamp) = match links.ready(self.id, clock, &mut buffer) {
            Ok(Arrival::Packet(packet, from, stamp)) => (packet, from, stamp),
            Ok(Arrival::Left(at)) => return association.transmitted(at),
            Ok(Arrival::Nothing | Arrival::LookNow) => return,
            Err(error) => {
                self.result = Some(Err(QueryError::Io(name(), error)));
                return;
            }
        };
        let now = clock.now();
        self.result = match association.receive(now, 0.0, from, packet, stamp) {
            Ok(sample) => {
                let (host, seen, time) = (name(), association.seen, now.wall);
                Some(Ok(Answer { host, address: self.query.address(*to), sample, seen, time }))
            }
            // Anybody can send foreign packets: wait on.
            Err(Refusal::Rejected(Rejection::NotOurs)) => None,
            Err(Refusal::Rejected(reason)) => {
                Some(Err(QueryError::Rejected(name(), crate::log::rejection(reason))))
            }
            Err(Refusal::Kissed(code)) => Some(Err(QueryError::Kissed(name(), crate::log::kiss(code)))),
        };
    }
}

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
