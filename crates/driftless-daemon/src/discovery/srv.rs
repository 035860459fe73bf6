//! Servers that our domain publishes: `_ntp._udp.DOMAIN` (RFC 2782). Only for the domains to search in `/etc/resolv.conf`, which DHCP gave or somebody wrote.

use super::candidate::{Candidate, Rank};
use super::dns::{NameServer, Record, SERVICE};
use super::machine::Machine;

const NTP_PORT: u16 = 123;

/// What the domains to search publish.
pub(super) fn servers(machine: &Machine) -> Vec<Candidate> {
    let Some(server) = NameServer::near(machine) else { return Vec::new() };
    let mut found = Vec::new();
    for domain in &server.domains {
        let name = format!("_ntp._udp.{}", domain.trim_end_matches('.'));
        let Ok(records) = server.ask(&name, SERVICE) else { break };
        found.extend(records.into_iter().filter_map(|record| published(record, &name)));
    }
    found
}

fn published(record: Record, name: &str) -> Option<Candidate> {
    let Record::Service(_, host, port) = record else { return None };
    let candidate = Candidate::server(&host, Rank::Published, format!("published for the domain: {name}"))?;
    let spec = if port == NTP_PORT { candidate.spec } else { format!("{}:{port}", candidate.spec) };
    Some(Candidate { spec, ..candidate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_server_keeps_its_port() {
        let of = |port| published(Record::Service(10, "a.lab.example".into(), port), "n").unwrap().spec;
        assert_eq!([of(123), of(1_123)], ["ntp:a.lab.example", "ntp:a.lab.example:1123"]);
        assert_eq!(published(Record::Address([10, 0, 0, 1].into()), "n"), None);
    }
}
