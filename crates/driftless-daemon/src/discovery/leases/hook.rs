//! Our hook's own files: `/run/driftless/dhcp/INTERFACE.v4` and `.v6`, servers separated by blanks or lines, `#` before remarks. udhcpc keeps no file of its own;
//! the same hook serves other clients where their files cannot be read.

use super::{Found, Lease, words};
use crate::discovery::machine::Machine;

pub(super) const FOLDER: &str = "/run/driftless/dhcp";

pub(super) fn leases(machine: &Machine) -> Vec<Found> {
    let files = machine.names(FOLDER, |name| name.ends_with(".v4") || name.ends_with(".v6"));
    let read = |name: String| {
        let file = format!("{FOLDER}/{name}");
        let text = machine.text(&file)?;
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let servers: Vec<String> = lines.flat_map(words).collect();
        let interface = name.rsplit_once('.').map(|(interface, _)| interface.to_owned());
        Some(Found {
            client: "a client with our hook",
            file,
            lease: Lease { servers, address: None, interface },
        })
    };
    files.into_iter().filter_map(read).collect()
}
