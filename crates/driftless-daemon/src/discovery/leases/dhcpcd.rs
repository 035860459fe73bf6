//! dhcpcd: the server's last message as it came, `INTERFACE.lease` (RFC 2131) and `INTERFACE.lease6` (RFC 8415). It asks for servers of time only where its
//! configuration says `option ntp_servers` and `option dhcp6_sntp_servers`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Found, Lease};
use crate::discovery::machine::Machine;

/// Where it keeps leases: its own place, Debian's of old, and that of version 10.
pub(super) const FOLDERS: [&str; 3] = ["/var/lib/dhcpcd", "/var/lib/dhcpcd5", "/var/db/dhcpcd"];

pub(super) fn leases(machine: &Machine) -> Vec<Found> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let is_lease = |name: &str| name.ends_with(".lease") || name.ends_with(".lease6");
        for name in machine.names(folder, is_lease) {
            let file = format!("{folder}/{name}");
            let Some(message) = machine.octets(&file) else { continue };
            let read = if name.ends_with('6') { v6(&message) } else { v4(&message) };
            // A wireless interface's lease is named INTERFACE-NETWORK.lease.
            let interface = name.split(['.', '-']).next().map(str::to_owned);
            let lease = read.filter(|lease| !lease.servers.is_empty());
            found.extend(lease.map(|lease| Found {
                client: "dhcpcd",
                file,
                lease: Lease { interface, ..lease },
            }));
        }
    }
    found
}

/// Fixed fields of a message before its options, the address in them, and what the options begin with (RFC 2131, section 2).
const FIXED: usize = 236;
const YOUR_ADDRESS: usize = 16;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const END: u8 = 255;
const NTP_SERVERS: u8 = 42;

fn v4(message: &[u8]) -> Option<Lease> {
    let address = Ipv4Addr::from(*message.get(YOUR_ADDRESS..)?.first_chunk::<4>()?);
    let mut rest = message.get(FIXED..)?.strip_prefix(&COOKIE)?;
    let mut servers = Vec::new();
    while let Some((&code, after)) = rest.split_first() {
        if code == PAD {
            rest = after;
            continue;
        }
        if code == END {
            break;
        }
        let (&length, after) = after.split_first()?;
        let (value, after) = after.split_at_checked(usize::from(length))?;
        if code == NTP_SERVERS {
            servers.extend(
                value
                    .chunks_exact(4)
                    .filter_map(|octets| Some(Ipv4Addr::from(*octets.first_chunk::<4>()?).to_string())),
            );
        }
        rest = after;
    }
    Some(Lease { servers, address: Some(IpAddr::V4(address)), interface: None })
}

/// Option codes of DHCPv6: RFC 8415, 4075 and 5908.
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const SNTP_SERVERS: u16 = 31;
const NTP_SERVER: u16 = 56;
/// IAID, T1 and T2 before an association's own options.
const IA_FIXED: usize = 12;
/// Sub-options of option 56: an address, and a name; a multicast address is the third.
const NTP_ADDRESS: u16 = 1;
const NTP_NAME: u16 = 3;

fn v6(message: &[u8]) -> Option<Lease> {
    let mut lease = Lease::default();
    for (code, value) in options(message.get(4..)?) {
        match code {
            IA_NA => {
                let within = options(value.get(IA_FIXED..).unwrap_or_default());
                let addresses =
                    within.filter(|(code, _)| *code == IA_ADDRESS).filter_map(|(_, value)| address(value));
                lease.address = addresses.map(IpAddr::V6).next().or(lease.address);
            }
            SNTP_SERVERS => {
                lease.servers.extend(value.chunks_exact(16).filter_map(address).map(|ip| ip.to_string()));
            }
            NTP_SERVER => lease.servers.extend(ntp_suboptions(value)),
            _ => {}
        }
    }
    lease.servers.dedup();
    Some(lease)
}

/// The servers within an option 56.
pub(super) fn ntp_suboptions(value: &[u8]) -> Vec<String> {
    let server = |(code, value): (u16, &[u8])| match code {
        NTP_ADDRESS => address(value).map(|ip| ip.to_string()),
        NTP_NAME => name(value),
        _ => None,
    };
    options(value).filter_map(server).collect()
}

/// Code and value of each whole option.
fn options(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<4>()?;
        let [code, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        let (value, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        Some((code, value))
    })
}

fn address(value: &[u8]) -> Option<Ipv6Addr> {
    value.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// A name in DNS's own form, uncompressed (RFC 1035, section 3.1).
fn name(mut rest: &[u8]) -> Option<String> {
    let mut labels: Vec<String> = Vec::new();
    while let Some((&length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, after) = after.split_at_checked(usize::from(length))?;
        labels.push(String::from_utf8(label.to_vec()).ok()?);
        rest = after;
    }
    Some(labels.join(".")).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_56_names_servers_by_address_and_by_name() {
        let mut value = vec![0, 1, 0, 16];
        value.extend(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1).octets());
        value.extend([0, 2, 0, 16]);
        value.extend(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x101).octets());
        value.extend(b"\0\x03\0\x0d\x03ntp\x07example\0");
        assert_eq!(ntp_suboptions(&value), ["fd77::1", "ntp.example"]);
    }

    #[test]
    fn a_message_that_was_cut_is_none_or_has_what_was_whole() {
        let mut message = vec![0; FIXED];
        message.extend(COOKIE);
        message.extend([53, 1, 5, 42, 8, 10, 0, 0, 1, 10, 0, 0, 2, 255, 42, 4, 9, 9, 9, 9]);
        assert_eq!(v4(&message).unwrap().servers, ["10.0.0.1", "10.0.0.2"], "nothing counts behind the end");
        for length in 0..message.len() - 7 {
            assert!(v4(&message[..length]).is_none_or(|lease| lease.servers.is_empty()), "{length}");
        }
        for length in 0..40 {
            assert!(v6(&vec![0xff; length]).is_none_or(|lease| lease.servers.is_empty()));
        }
    }
}
