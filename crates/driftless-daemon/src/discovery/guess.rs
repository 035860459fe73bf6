//! Guesses: on a desktop hypervisor the default gateway is the host, and container engines have names for it.

use std::net::{IpAddr, Ipv6Addr};

use super::candidate::{Candidate, Rank};
use super::dns::{ADDRESS, NameServer, Record, Silent};
use super::machine::Machine;
use crate::spec::{self, HOST_NAMES};

/// The default gateways, v4 and v6.
pub(super) fn gateways(machine: &Machine) -> Vec<Candidate> {
    let v4 =
        machine.text("/proc/net/route").and_then(|table| spec::gateway_in(&table)).map(|ip| ip.to_string());
    let v6 = machine.text("/proc/net/ipv6_route").and_then(|table| gateway6_in(&table));
    let evidence = "the default gateway: on a desktop hypervisor it is the host";
    v4.into_iter().chain(v6).filter_map(|word| Candidate::server(&word, Rank::Guess, evidence)).collect()
}

/// `/proc/net/ipv6_route`: destination and its prefix, source and its, next hop, …, flags, interface (net/ipv6/route.c).
fn gateway6_in(table: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, prefix, _, _, hop, .., interface] = fields.as_slice() else { return None };
        let hop = Ipv6Addr::from(u128::from_str_radix(hop, 16).ok()?);
        let is_default = *prefix == "00" && u128::from_str_radix(destination, 16) == Ok(0);
        let scope = if hop.is_unicast_link_local() { format!("%{interface}") } else { String::new() };
        (is_default && !hop.is_unspecified()).then(|| format!("{hop}{scope}"))
    })
}

/// Names of the host that lead somewhere: by `/etc/hosts`, else by a name server that is near, which may take a second, so it is an errand.
pub(super) fn host_names(machine: &Machine) -> Vec<Candidate> {
    let hosts = machine.text("/etc/hosts").unwrap_or_default();
    let mut server = NameServer::near(machine).filter(|_| machine.is_here());
    let mut found = Vec::new();
    for name in HOST_NAMES {
        let written = in_hosts(&hosts, name);
        let address = written.or_else(|| match server.as_ref()?.ask(name, ADDRESS) {
            Ok(records) => records.into_iter().find_map(|record| match record {
                Record::Address(address) => Some(IpAddr::V4(address)),
                Record::Service(..) => None,
            }),
            Err(Silent) => {
                server = None;
                None
            }
        });
        let evidence = |address| format!("a hypervisor's or container engine's name for the host: {address}");
        found.extend(address.and_then(|address| Candidate::server(name, Rank::Guess, evidence(address))));
    }
    found
}

/// The address of a name by hosts(5).
fn in_hosts(hosts: &str, name: &str) -> Option<IpAddr> {
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v6_gateway_is_told_with_its_link() {
        let table = "fd770000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe8000000000000000000000000000ff 00000400 00000002 00000000 00000003     eth0\n";
        assert_eq!(gateway6_in(table).as_deref(), Some("fe80::ff%eth0"));
        let none = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        assert_eq!(gateway6_in(none), None);
        assert_eq!(gateway6_in("a b\n"), None);
    }

    #[test]
    fn a_name_in_the_hosts_file_needs_no_server() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(
            root.path().join("etc/hosts"),
            "127.0.0.1 localhost\n192.168.5.2 host.lima.internal # the host\n",
        )
        .unwrap();
        let found = host_names(&Machine::at(root.path()));
        assert_eq!((found.len(), found[0].spec.as_str()), (1, "ntp:host.lima.internal"));
        assert!(found[0].evidence.contains("192.168.5.2"));
    }
}
