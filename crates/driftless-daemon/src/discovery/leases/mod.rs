//! Servers that the network offers by DHCP (option 42; DHCPv6 option 56 of RFC 5908 and the older 31), as its client left them: one file a client.
//!
//! A client that keeps no file is served by our hook (`packaging/dhcp/driftless-dhcp`).

mod dhclient;
mod dhcpcd;
mod hook;
mod network_manager;
mod networkd;

use std::net::IpAddr;

use super::candidate::{Candidate, Rank};
use super::machine::Machine;

/// What a lease says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Lease {
    /// Addresses or names, as they are written.
    servers: Vec<String>,
    /// The address that was leased, where it is told.
    address: Option<IpAddr>,
    /// The interface that it was leased to, where it is told.
    interface: Option<String>,
}

/// A client's lease file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    client: &'static str,
    file: String,
    lease: Lease,
}

/// Where leases appear, for the watch of changes.
pub(super) const FOLDERS: [&str; 6] = [
    networkd::LINKS,
    network_manager::DEVICES,
    dhclient::FOLDERS[0],
    dhclient::FOLDERS[1],
    dhcpcd::FOLDERS[0],
    hook::FOLDER,
];
/// More servers of one lease are not taken.
const SERVERS_MAX: usize = 8;

/// What a network offers: the file that says so, and the servers as they are written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The client's file, from the root.
    pub file: String,
    /// Addresses or names.
    pub servers: Vec<String>,
}

/// What the leases in force offer, a lease each.
#[must_use]
pub fn offers(machine: &Machine) -> Vec<Offer> {
    in_force(machine).map(|found| Offer { file: found.file, servers: found.lease.servers }).collect()
}

/// The servers of all leases that are in force.
pub(super) fn servers(machine: &Machine) -> Vec<Candidate> {
    in_force(machine).flat_map(|found| found.candidates()).collect()
}

fn in_force(machine: &Machine) -> impl Iterator<Item = Found> {
    let clients = [networkd::leases, network_manager::leases, dhclient::leases, dhcpcd::leases, hook::leases];
    let found = clients.into_iter().flat_map(|leases| leases(machine));
    found.filter(|found| found.lease.address.is_none_or(|address| machine.has_address(address)))
}

impl Found {
    fn candidates(&self) -> Vec<Candidate> {
        let evidence = format!("DHCP, a lease of {}: {}", self.client, self.file);
        let servers = self.lease.servers.iter().take(SERVERS_MAX);
        servers
            .filter_map(|word| Candidate::server(&self.scoped(word), Rank::HandedOver, &evidence))
            .collect()
    }

    /// An address within the link needs to be told the link.
    fn scoped(&self, word: &str) -> String {
        let is_within = word.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local());
        match &self.lease.interface {
            Some(interface) if is_within => format!("{word}%{interface}"),
            _ => word.to_owned(),
        }
    }
}

/// Words between blanks or commas.
fn words(text: &str) -> Vec<String> {
    text.split([' ', '\t', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The name of the interface of that index.
fn interface(machine: &Machine, index: &str) -> Option<String> {
    let has_index = |name: &String| {
        machine.text(&format!("/sys/class/net/{name}/ifindex")).is_some_and(|text| text.trim() == index)
    };
    machine.names("/sys/class/net", |_| true).into_iter().find(has_index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What real clients left: `lab/leases/make` made it.
    fn fixture(client: &str) -> Machine {
        Machine::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discovery/leases").join(client))
    }

    fn specs(client: &str) -> Vec<String> {
        servers(&fixture(client)).into_iter().map(|one| one.spec).collect()
    }

    #[test]
    fn every_real_clients_lease_is_read_both_families() {
        let both = ["ntp:192.168.77.1", "ntp:192.168.77.2", "ntp:[fd77::1]"];
        for client in ["networkd", "networkmanager", "dhclient", "dhcpcd", "udhcpc"] {
            let mut found = specs(client);
            found.dedup();
            // busybox has no DHCPv6 client of its own that asks for servers of time.
            let expected = if client == "udhcpc" { &both[..2] } else { &both[..] };
            assert_eq!(found, expected, "{client}");
        }
    }

    #[test]
    fn the_file_that_says_so_is_told() {
        let found = servers(&fixture("networkd"));
        assert!(
            found[0].evidence.contains("systemd-networkd: /run/systemd/netif/links/2"),
            "{}",
            found[0].evidence
        );
    }

    #[test]
    fn a_server_within_the_link_is_told_the_link() {
        let lease =
            Lease { servers: vec!["fe80::1".into()], interface: Some("eth0".into()), ..Lease::default() };
        let found = Found { client: "a client", file: "a file".into(), lease };
        assert_eq!(found.candidates()[0].spec, "ntp:[fe80::1%eth0]");
    }
}
