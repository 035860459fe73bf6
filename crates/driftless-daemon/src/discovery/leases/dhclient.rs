//! ISC dhclient: `lease { … option ntp-servers a, b; }` and `lease6 { … option dhcp6.sntp-servers a; }`, a new block for each renewal; an interface's last one counts.
//!
//! Option 56 is unknown to it by name; it keeps what was asked for under `dhcp6.unknown-56`, octets in hexadecimal (dhcp-options(5), RFC 5908).

use super::{Found, Lease, dhcpcd, words};
use crate::discovery::machine::Machine;

/// Debian's, and Red Hat's.
pub(super) const FOLDERS: [&str; 2] = ["/var/lib/dhcp", "/var/lib/dhclient"];

pub(super) fn leases(machine: &Machine) -> Vec<Found> {
    let is_leases = |name: &str| name.starts_with("dhclient") && name.ends_with(".leases");
    FOLDERS.iter().flat_map(|folder| within(machine, folder, is_leases)).collect()
}

/// All of a folder's files in this format that `is_wanted`.
pub(super) fn within(machine: &Machine, folder: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Found> {
    let files = machine.names(folder, is_wanted).into_iter().map(|name| format!("{folder}/{name}"));
    let read = |file: String| {
        let found = parse(&machine.text(&file)?).into_iter();
        Some(found.map(move |lease| Found { client: "dhclient", file: file.clone(), lease }))
    };
    files.filter_map(read).flatten().collect()
}

/// The last lease of each interface and family, where it has servers.
fn parse(text: &str) -> Vec<Lease> {
    let mut last: Vec<(bool, Lease)> = Vec::new();
    // What stands before the first block is none; a file that was cut in its middle keeps its whole ones.
    for (is_v6, block) in blocks(text) {
        let lease = lease(block);
        match last.iter_mut().find(|(v6, other)| *v6 == is_v6 && other.interface == lease.interface) {
            Some((_, other)) => *other = lease,
            None => last.push((is_v6, lease)),
        }
    }
    last.into_iter().map(|(_, lease)| lease).filter(|lease| !lease.servers.is_empty()).collect()
}

/// The text between the braces of each whole lease; whether it is one of DHCPv6.
fn blocks(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let starts = text
        .match_indices("lease")
        .filter(|(at, _)| text.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with('\n')));
    starts.filter_map(|(at, word)| {
        let rest = text.get(at + word.len()..)?;
        let (is_v6, rest) = rest.strip_prefix('6').map_or((false, rest), |rest| (true, rest));
        let body = rest.strip_prefix(" {")?;
        Some((is_v6, body.split("\n}").next().filter(|block| block.len() < body.len())?))
    })
}

fn lease(block: &str) -> Lease {
    let mut lease = Lease::default();
    for line in block.lines() {
        let line = line.trim().trim_end_matches([';', '{']).trim_end();
        let Some((key, rest)) = line.split_once(' ') else { continue };
        match (key, rest.split_once(' ')) {
            ("interface", _) => lease.interface = Some(rest.trim_matches('"').to_owned()),
            ("fixed-address" | "iaaddr", _) => lease.address = rest.parse().ok(),
            ("option", Some(("ntp-servers" | "dhcp6.sntp-servers", value))) => {
                lease.servers.extend(words(value));
            }
            ("option", Some(("dhcp6.unknown-56" | "dhcp6.ntp-servers", value))) => {
                lease.servers.extend(dhcpcd::ntp_suboptions(&octets(value)));
            }
            _ => {}
        }
    }
    lease
}

/// Octets as dhclient writes them: `0:1:0:10:fd`, each hexadecimal.
fn octets(text: &str) -> Vec<u8> {
    text.split(':').map_while(|octet| u8::from_str_radix(octet.trim(), 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lease_of_an_interface_counts() {
        let text = "lease {\n  interface \"eth0\";\n  fixed-address 10.0.0.5;\n  option ntp-servers 10.0.0.1;\n}\n\
            lease {\n  interface \"eth1\";\n  option ntp-servers 10.1.0.1, 10.1.0.2;\n}\n\
            lease {\n  interface \"eth0\";\n  fixed-address 10.0.0.6;\n  option ntp-servers 10.0.0.2;\n}\n\
            lease {\n  interface \"eth0\";\n  option ntp-servers 10.0.0.3";
        let leases = parse(text);
        assert_eq!(leases[0].servers, ["10.0.0.2"]);
        assert_eq!(leases[0].address, Some([10, 0, 0, 6].into()));
        assert_eq!(leases[1].servers, ["10.1.0.1", "10.1.0.2"]);
    }

    #[test]
    fn a_lease_without_servers_takes_those_of_the_one_before_away() {
        let text = "lease {\n  interface \"eth0\";\n  option ntp-servers 10.0.0.1;\n}\nlease {\n  interface \"eth0\";\n}\n";
        assert_eq!(parse(text), []);
    }

    #[test]
    fn option_56_is_read_from_its_octets() {
        let text = "lease6 {\n  option dhcp6.unknown-56 0:1:0:10:fd:77:0:0:0:0:0:0:0:0:0:0:0:0:0:1;\n}\n";
        assert_eq!(parse(text)[0].servers, ["fd77::1"]);
    }

    #[test]
    fn anything_else_is_no_lease() {
        for text in ["", "lease", "lease {", "lease {}\n", "}\nlease6 {\n option\n", "\u{fffd}lease {\n}\n"] {
            assert_eq!(parse(text), []);
        }
    }
}
