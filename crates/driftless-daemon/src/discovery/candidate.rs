//! A source that was found: where, how good it is by that, and what came of asking it.

use std::fmt;
use std::net::IpAddr;

use driftless_core::source::{Endpoint, SourceClass};
use serde_json::{Value, json};

use crate::query::Answer;
use crate::resolve;
use crate::spec;

/// A source that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its SPEC.
    pub spec: String,
    /// How good it is by where it was found.
    pub rank: Rank,
    /// Where it was found, with the file or the address that says so.
    pub evidence: String,
    /// Whether it smears leap seconds.
    pub smears: bool,
    /// What came of asking it.
    pub asked: Asked,
}

/// By where it was found, the best first: who is named outranks who is guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Named on the kernel's command line or by a systemd credential.
    Told,
    /// The hypervisor's own clock.
    Hypervisor,
    /// The host's server over vsock.
    HostChannel,
    /// Handed over by the network or the cloud: DHCP, metadata, cloud-init.
    HandedOver,
    /// The provider's well-known server.
    Provider,
    /// Published for our domain.
    Published,
    /// A guess: the default gateway, well-known names of the host.
    Guess,
    /// The real-time clock.
    LastResort,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Not yet.
    NotYet,
    /// It may not be asked: why.
    Refused(String),
    /// It gave no time: why.
    Silent(String),
    /// A device gives time.
    Works,
    /// A server answered.
    Answered(Box<Answer>),
}

/// All ranks, the best first.
pub const RANKS: [Rank; 8] = [
    Rank::Told,
    Rank::Hypervisor,
    Rank::HostChannel,
    Rank::HandedOver,
    Rank::Provider,
    Rank::Published,
    Rank::Guess,
    Rank::LastResort,
];

impl Candidate {
    /// Not asked yet.
    pub(super) fn new(spec: impl Into<String>, rank: Rank, evidence: impl Into<String>) -> Self {
        let spec = spec.into();
        let smears = host(&spec).is_some_and(|host| smears(&host));
        Self { spec, rank, evidence: evidence.into(), smears, asked: Asked::NotYet }
    }

    /// A server by its address or name, as `word` in a lease or a document; None where it is neither.
    pub(super) fn server(word: &str, rank: Rank, evidence: impl Into<String>) -> Option<Self> {
        server_spec(word).map(|spec| Self::new(spec, rank, evidence))
    }

    /// How near it is, and so how often it may be asked.
    #[must_use]
    pub fn class(&self) -> SourceClass {
        spec::parse(&self.spec).map_or(SourceClass::Network, |source| source.class)
    }

    /// Whether it may be relied on: it answered or works, or whoever starts this machine named it.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self.asked, Asked::Works | Asked::Answered(_)) || matches!(self.rank, Rank::Told)
    }

    /// Whether it is a server that can be asked over a network or a stream.
    pub(super) fn is_server(&self) -> bool {
        self.spec.starts_with("ntp")
    }

    /// Whether it is told by a name, so that asking it begins with looking that up.
    pub(super) fn has_name(&self) -> bool {
        host(&self.spec).is_some() && written_address(&self.spec).is_none()
    }

    /// Why it must not be asked, if so: nobody named it for this machine, and it is a stranger's on the internet.
    pub(super) fn stranger(&self, addresses: &[IpAddr]) -> Option<String> {
        let is_named = self.rank < Rank::Provider;
        let foreign = |ip: &&IpAddr| spec::classify(**ip, None) == SourceClass::Public;
        let stranger = addresses.iter().find(foreign).filter(|_| !is_named)?;
        Some(format!("{stranger} is a public address, and nobody named it for this machine"))
    }

    /// For machines.
    #[must_use]
    pub fn to_json(&self, is_used: bool, why: &str) -> Value {
        let answer = match &self.asked {
            Asked::Answered(answer) => answer.to_json(),
            _ => Value::Null,
        };
        json!({
            "spec": self.spec, "rank": self.rank.name(), "evidence": self.evidence, "class": self.class(), "smears": self.smears,
            "asked": !matches!(self.asked, Asked::NotYet | Asked::Refused(_)), "answer": answer, "used": is_used, "why": why,
        })
    }
}

impl Rank {
    /// As machines read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Hypervisor => "hypervisor",
            Self::HostChannel => "host-channel",
            Self::HandedOver => "handed-over",
            Self::Provider => "provider",
            Self::Published => "published",
            Self::Guess => "guess",
            Self::LastResort => "last-resort",
        }
    }

    /// Whether all that are usable are used together: servers that somebody listed for us. Of the others the first is one and the same thing.
    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::Told | Self::HandedOver | Self::Published)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet => f.write_str("not asked yet"),
            Self::Refused(why) | Self::Silent(why) => f.write_str(why),
            Self::Works => f.write_str("works"),
            Self::Answered(answer) => {
                write!(f, "answers: offset {}, stratum {}", answer.sample.offset, answer.seen.stratum)
            }
        }
    }
}

/// Longest name that DNS allows, with a link's name behind it.
const WORD_MAX: usize = 253 + 16;

/// The SPEC of a server, from an address or a name; None of what can be neither.
pub(super) fn server_spec(word: &str) -> Option<String> {
    let (address, link) = word.split_once('%').map_or((word, None), |(a, link)| (a, Some(link)));
    if let Ok(ip) = address.parse::<IpAddr>() {
        if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) {
            return None;
        }
        let is_link =
            |link: &str| link.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
        return link
            .is_none_or(is_link)
            .then(|| if ip.is_ipv6() { format!("ntp:[{word}]") } else { format!("ntp:{word}") });
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = !word.is_empty()
        && word.len() <= WORD_MAX
        && word.bytes().all(is_letter)
        && !word.starts_with(['-', '.']);
    is_name.then(|| format!("ntp:{}", word.trim_end_matches('.')))
}

/// The host of a server's SPEC.
fn host(spec: &str) -> Option<String> {
    match spec::parse(spec).ok()?.endpoint {
        Endpoint::Udp { host, .. } => Some(host),
        _ => None,
    }
}

/// The address that a SPEC's host is in writing, without its link.
pub(super) fn written_address(spec: &str) -> Option<IpAddr> {
    let host = host(spec)?;
    resolve::literal(host.split('%').next()?, 0).map(|address| address.ip())
}

/// Whether a server, by its address or name, is known to spread leap seconds over a day: Amazon's and Google's.
#[must_use]
pub fn smears(host: &str) -> bool {
    const AMAZON: [&str; 3] = ["169.254.169.123", "fd00:ec2::123", "time.aws.com"];
    let is_google =
        (host.starts_with("time") && host.ends_with(".google.com")) || host == "metadata.google.internal";
    AMAZON.contains(&host) || is_google
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_specs_or_nothing() {
        for (word, spec) in [
            ("192.0.2.1", "ntp:192.0.2.1"),
            ("fd77::1", "ntp:[fd77::1]"),
            ("fe80::1%eth0", "ntp:[fe80::1%eth0]"),
            ("ntp.lab.example.", "ntp:ntp.lab.example"),
        ] {
            assert_eq!(server_spec(word).as_deref(), Some(spec));
            assert!(spec::parse(spec).is_ok(), "{spec}");
        }
        for word in [
            "",
            "0.0.0.0",
            "::",
            "ff05::101",
            "224.0.1.1",
            "-x",
            "a b",
            "a;b",
            "a?maxpoll=0",
            "a:1",
            "fe80::1%a b",
        ] {
            assert_eq!(server_spec(word), None, "{word}");
        }
        assert_eq!(server_spec(&"a".repeat(300)), None);
        assert_eq!(spec::parse("ntp:[fe80::1%eth0]").unwrap().class, SourceClass::Host);
    }

    #[test]
    fn a_stranger_is_only_asked_where_somebody_named_it() {
        let strangers = [IpAddr::from([203, 0, 113, 1])];
        let of = |rank| Candidate::new("ntp:203.0.113.1", rank, "").stranger(&strangers).is_some();
        assert_eq!([of(Rank::Told), of(Rank::HandedOver)], [false, false]);
        assert_eq!([of(Rank::Provider), of(Rank::Published), of(Rank::Guess)], [true, true, true]);
        assert!(Candidate::new("ntp:a", Rank::Guess, "").stranger(&[[100, 100, 5, 1].into()]).is_none());
    }

    #[test]
    fn servers_that_smear_are_known() {
        let smears = |spec| Candidate::new(spec, Rank::HandedOver, "").smears;
        assert!(
            smears("ntp:169.254.169.123") && smears("ntp:[fd00:ec2::123]") && smears("ntp:time2.google.com")
        );
        assert!(!smears("ntp:192.0.2.1") && !smears("phc:kvm"));
    }
}
