//! What sources say when they are asked once: those that driftless would ask, as far as they are near, and those that are named.
//!
//! A public server is asked by nobody but the daemon that was told to.

use std::net::IpAddr;

use driftless_core::source::{Endpoint, SourceConfig, StreamAddress};
use driftless_core::time::{Seconds, Span};
use driftless_daemon::query::Query;

/// One source's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// Its SPEC.
    pub(crate) source: String,
    pub(crate) result: Result<Offset, String>,
}

/// How far it is from our clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Offset {
    /// Reference − local.
    pub(crate) offset: Seconds,
    /// The root distance.
    pub(crate) bound: Seconds,
}

/// Sources asked at most, and the time that each is given: a doctor who lets people wait is not called.
const ASKED_MAX: usize = 8;
const PATIENCE: Span = Span::from_millis(1_500);

/// Whether a source may be asked unbidden: its address says that it is no public one.
pub(crate) fn is_near(source: &SourceConfig) -> bool {
    match &source.endpoint {
        Endpoint::Udp { host, .. } => host.parse().is_ok_and(is_local),
        Endpoint::Stream(StreamAddress::Vsock { .. } | StreamAddress::Unix(_)) => true,
        // Looked at among the devices.
        Endpoint::Device { .. } => false,
    }
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Asks each once, one after the other.
pub(crate) fn ask<'a>(sources: impl Iterator<Item = &'a SourceConfig>) -> Vec<Answer> {
    sources
        .take(ASKED_MAX)
        .map(|source| Answer { source: source.name.clone(), result: once(&source.name) })
        .collect()
}

fn once(spec: &str) -> Result<Offset, String> {
    let answer = Query::new(spec).and_then(|query| query.ask(PATIENCE)).map_err(|error| error.to_string())?;
    Ok(Offset { offset: answer.sample.offset, bound: answer.sample.root_distance() })
}

#[cfg(test)]
impl Answer {
    /// An answer of a good server, `offset_s` from our clock.
    pub(crate) fn planted(source: &str, offset_s: f64) -> Self {
        let offset = Offset { offset: Seconds(offset_s), bound: Seconds(1e-3) };
        Self { source: source.to_owned(), result: Ok(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_public_is_asked_unbidden() {
        let near = |spec: &str| is_near(&driftless_daemon::spec::parse(spec).unwrap());
        for spec in [
            "ntp:10.0.2.2:11123",
            "ntp:127.0.0.1",
            "ntp:169.254.169.123",
            "ntp:[fd00:ec2::123]",
            "ntp+vsock:host:123",
        ] {
            assert!(near(spec), "{spec}");
        }
        for spec in ["ntp:192.0.2.1", "ntp:[2001:db8::1]", "ntp:time.example", "phc:/dev/ptp0"] {
            assert!(!near(spec), "{spec}");
        }
    }
}
