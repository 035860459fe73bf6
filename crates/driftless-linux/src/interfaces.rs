//! Networks between this host and its guests: the bridges and taps of this machine.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use driftless_core::server::Prefix;

use crate::sys;

/// The networks of this machine's bridges and taps, which are what hypervisors and container engines attach guests to.
///
/// # Errors
/// What the system says.
pub fn guest_networks() -> io::Result<Vec<Prefix>> {
    let mut addresses = sys::interface_addresses()?;
    addresses.retain(|(interface, ..)| is_for_guests(Path::new("/sys/class/net"), interface));
    Ok(addresses.into_iter().map(|(_, address, mask)| Prefix::new(address, mask_length(mask))).collect())
}

/// A bridge that is no port of the outside, or a tap: sysfs-class-net has a folder for the one, a file for the other.
fn is_for_guests(class: &Path, interface: &str) -> bool {
    let folder = class.join(interface);
    if folder.join("tun_flags").exists() {
        return true;
    }
    // Where a bridge has a port with a device behind it (a network card), it is the outside's network as well.
    let ports = std::fs::read_dir(folder.join("brif")).into_iter().flatten().flatten();
    folder.join("bridge").is_dir()
        && !ports.into_iter().any(|port| class.join(port.file_name()).join("device").exists())
}

fn mask_length(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(v4) => v4.to_bits().leading_ones(),
        IpAddr::V6(v6) => v6.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_on_taps_and_on_bridges_without_a_network_card() {
        let class = tempfile::tempdir().unwrap();
        for folder in [
            "virbr0/bridge",
            "virbr0/brif/vnet0",
            "vnet0",
            "br0/bridge",
            "br0/brif/eth0",
            "eth0/device",
            "tap0",
        ] {
            std::fs::create_dir_all(class.path().join(folder)).unwrap();
        }
        std::fs::write(class.path().join("tap0/tun_flags"), "0x1002").unwrap();
        let found = ["virbr0", "br0", "eth0", "tap0", "none"].map(|name| is_for_guests(class.path(), name));
        assert_eq!(found, [true, false, false, true, false]);
    }

    #[test]
    fn loopback_is_among_this_machines_addresses_with_its_mask() {
        let addresses = sys::interface_addresses().unwrap();
        let (_, address, mask) = addresses.iter().find(|(name, ..)| name == "lo").unwrap();
        assert!(address.is_loopback());
        assert!(matches!(mask_length(*mask), 8 | 128));
        assert!(guest_networks().is_ok());
    }
}
