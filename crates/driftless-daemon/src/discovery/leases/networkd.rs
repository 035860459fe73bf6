//! systemd-networkd: `/run/systemd/netif/links/INDEX` has all of a link's servers, v4 and v6, as far as `UseNTP=` lets them in, and those of its `.network` file;
//! `/run/systemd/netif/leases/INDEX` is the DHCPv4 lease alone. It removes both when it ends.

use super::{Found, Lease, interface, words};
use crate::discovery::machine::{Machine, value};

pub(super) const LINKS: &str = "/run/systemd/netif/links";
const LEASES: &str = "/run/systemd/netif/leases";

pub(super) fn leases(machine: &Machine) -> Vec<Found> {
    let is_index = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let links = machine.names(LINKS, is_index);
    // Where the link's own file says nothing of servers, it was told not to take them.
    let alone = machine.names(LEASES, |name| is_index(name) && !links.iter().any(|link| link == name));
    let files = links.iter().map(|index| (LINKS, index)).chain(alone.iter().map(|index| (LEASES, index)));
    files
        .filter_map(|(folder, index)| {
            let file = format!("{folder}/{index}");
            let servers = words(value(&machine.text(&file)?, "NTP")?);
            let lease = Lease { servers, address: None, interface: interface(machine, index) };
            Some(Found { client: "systemd-networkd", file, lease })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_link_that_takes_no_servers_has_none_whatever_its_lease_says() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("run/systemd/netif/links/2", "NTP=\n"),
            ("run/systemd/netif/leases/2", "NTP=192.0.2.1\n"),
            ("run/systemd/netif/leases/3", "NTP=192.0.2.2\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = leases(&Machine::at(root.path()));
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].file.as_str(), found[0].lease.servers.as_slice()),
            ("/run/systemd/netif/leases/3", &["192.0.2.2".to_owned()][..])
        );
    }
}
