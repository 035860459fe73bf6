//! NetworkManager: `/run/NetworkManager/devices/INDEX` has each device's DHCP options since 1.40 or so. Its lease files under `/var/lib/NetworkManager` hold
//! only the address where its own client is used, and dhclient's format where dhclient is. For older ones there is our hook as a dispatcher script.

use super::{Found, Lease, dhclient, interface, words};
use crate::discovery::machine::{Machine, value};

pub(super) const DEVICES: &str = "/run/NetworkManager/devices";
const LEASES: &str = "/var/lib/NetworkManager";
/// Options as the client's own names for them: v4's 42, v6's 56 and 31.
const KEYS: [&str; 3] = ["dhcp4.ntp_servers", "dhcp6.dhcp6_ntp_servers", "dhcp6.dhcp6_sntp_servers"];

pub(super) fn leases(machine: &Machine) -> Vec<Found> {
    let devices = machine.names(DEVICES, |name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let of_devices = devices.into_iter().filter_map(|index| {
        let file = format!("{DEVICES}/{index}");
        let text = machine.text(&file)?;
        let servers: Vec<String> = KEYS.iter().filter_map(|key| value(&text, key)).flat_map(words).collect();
        let lease = Lease { servers, address: None, interface: interface(machine, &index) };
        Some(Found { client: "NetworkManager", file, lease }).filter(|found| !found.lease.servers.is_empty())
    });
    let is_dhclients = |name: &str| name.starts_with("dhclient") && name.ends_with(".lease");
    of_devices.chain(dhclient::within(machine, LEASES, is_dhclients)).collect()
}
