//! Time servers that the network offers by DHCP, and whether anybody uses them; and lists of servers that must not be mixed.
//!
//! Each DHCP client leaves what it was offered in a place of its own, and each NTP client looks, if at all, in one of them.

use driftless_daemon::discovery::{self, Machine, Offer};
use driftless_daemon::tree::Tree;

use super::evidence::Evidence;
use super::finding::{Finding, Kind, Severity};
use super::long_pause::chrony_settings;

pub(super) static KINDS: [&Kind; 2] = [&UNUSED, &SMEARED];

static UNUSED: Kind = Kind {
    id: "dhcp-servers-unused",
    severity: Severity::Warning,
    title: "the network offers time servers that nobody uses",
    consequence: "what the network's operator runs for you lies idle; in a closed network it may be the only source there is",
    cure: "driftless run with no sources named finds them; or name them: ntp:ADDRESS",
};
static SMEARED: Kind = Kind {
    id: "smeared-and-unsmeared",
    severity: Severity::Warning,
    title: "servers that smear leap seconds are mixed with servers that do not",
    consequence: "around a leap second they differ by up to a second for a day, and the clock is torn between them",
    cure: "take either the cloud's own smeared servers, or none of them",
};

fn values(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(key));
    let words = lines.flat_map(|line| line.split([' ', ',', ';', '"']));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Lists of servers as programs are configured with: the file, and the servers.
fn configured(tree: &Tree) -> Vec<(String, Vec<String>)> {
    let mut lists = Vec::new();
    lists.extend(chrony_settings(tree).map(|text| ("chrony's settings".to_owned(), directives(&text))));
    for path in
        ["etc/ntpsec/ntp.conf", "etc/ntp.conf", "etc/openntpd/ntpd.conf", "etc/ntpd.conf", "etc/dntpd.conf"]
    {
        lists.extend(tree.text(path).map(|text| (format!("/{path}"), directives(&text))));
    }
    let parts = ["etc/systemd/timesyncd.conf.d", "run/systemd/timesyncd.conf.d"]
        .iter()
        .flat_map(|folder| tree.files(folder, ".conf"));
    let main =
        tree.text("etc/systemd/timesyncd.conf").map(|text| ("etc/systemd/timesyncd.conf".to_owned(), text));
    lists.extend(
        main.into_iter().chain(parts).map(|(path, text)| (format!("/{path}"), values(&text, "NTP="))),
    );
    lists
}

/// `server NAME`, `pool NAME`, `peer NAME`.
fn directives(text: &str) -> Vec<String> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = matches!(words.next()?, "server" | "servers" | "pool" | "peer");
        words.next().filter(|_| is_server).map(str::to_owned)
    };
    text.lines().filter_map(server).collect()
}

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let mut lists = configured(&evidence.tree);
    let live = evidence.live.as_ref();
    // What driftless asks: from its own settings, or found.
    lists.extend(
        live.map(|live| ("driftless".to_owned(), live.sources.0.iter().map(|spec| host(spec)).collect())),
    );
    let mut found: Vec<Finding> = lists.iter().filter_map(mixed).collect();
    // timesyncd reads networkd's leases itself.
    let follows = |path: &str| {
        let is_there =
            live.is_some_and(|live| live.programs.iter().any(|program| program.name == "systemd-timesyncd"));
        is_there && path.starts_with("/run/systemd/netif")
    };
    let is_used = |server: &String| lists.iter().any(|(_, servers)| servers.contains(server));
    for Offer { file, servers } in discovery::offers(&Machine::at(evidence.tree.root())) {
        if !servers.is_empty() && !follows(&file) && !servers.iter().any(is_used) {
            found.push(
                UNUSED
                    .seen(format!("{file} offers {}; no time client's settings have it", servers.join(", "))),
            );
        }
    }
    found
}

fn mixed((place, servers): &(String, Vec<String>)) -> Option<Finding> {
    let smears = |server: &&String| discovery::smears(server);
    let smeared = servers.iter().find(smears)?;
    let plain = servers.iter().find(|server| !smears(server))?;
    Some(SMEARED.seen(format!("{place}: {smeared} smears, {plain} is not known to")))
}

/// The host of a SPEC, or the SPEC.
fn host(spec: &str) -> String {
    let place = spec.strip_prefix("ntp:").unwrap_or(spec);
    let place = place.split('?').next().unwrap_or(place);
    match driftless_daemon::spec::host_and_port(place) {
        Some((host, _)) => host,
        None => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Live;
    use super::super::evidence::planted::{ids, machine};
    use super::super::programs::Running;
    use super::*;

    const DHCLIENT: (&str, &str) = (
        "var/lib/dhcp/dhclient.eth0.leases",
        "lease {\n  interface \"eth0\";\n  option ntp-servers 10.9.9.9;\n}\nlease {\n  interface \"eth0\";\n  option ntp-servers 10.0.0.1, 10.0.0.2;\n}\n",
    );
    const NETWORKD: (&str, &str) =
        ("run/systemd/netif/leases/2", "# lease\nADDRESS=10.0.0.9\nNTP=10.0.0.1\n");

    fn found(files: &[(&str, &str)], live: Live) -> Vec<&'static str> {
        ids(&find(&machine(files, live).1))
    }

    fn asking(sources: &[&str]) -> Live {
        let healthy = Live::healthy();
        Live { sources: (sources.iter().map(|s| (*s).to_owned()).collect(), healthy.sources.1), ..healthy }
    }

    #[test]
    fn servers_that_the_network_offers_and_nobody_uses_are_told() {
        let (_root, evidence) = machine(&[DHCLIENT], Live::healthy());
        let offers = find(&evidence);
        assert_eq!(ids(&offers), ["dhcp-servers-unused"]);
        assert!(
            offers[0].evidence.contains("10.0.0.1, 10.0.0.2") && !offers[0].evidence.contains("10.9.9.9")
        );
        assert_eq!(found(&[DHCLIENT], asking(&["ntp:10.0.0.2?minpoll=0"])), [""; 0]);
        assert_eq!(
            found(
                &[
                    DHCLIENT,
                    ("run/chrony-dhcp/eth0.sources", "server 10.0.0.1 iburst\n"),
                    ("etc/chrony/chrony.conf", "")
                ],
                Live::healthy()
            ),
            [""; 0]
        );
        assert_eq!(found(&[NETWORKD], Live::healthy()), ["dhcp-servers-unused"]);
        let timesyncd = Live { programs: vec![Running::planted("systemd-timesyncd", 3)], ..Live::healthy() };
        assert_eq!(found(&[NETWORKD], timesyncd), [""; 0], "it reads networkd's leases");
    }

    #[test]
    fn smeared_servers_are_not_to_be_mixed_with_others() {
        assert_eq!(found(&[], asking(&["ntp:169.254.169.123", "ntp:192.0.2.1"])), ["smeared-and-unsmeared"]);
        assert_eq!(found(&[], asking(&["ntp:169.254.169.123", "ntp:[fd00:ec2::123]:123"])), [""; 0]);
        let chrony =
            ("etc/chrony/chrony.conf", "server 169.254.169.123 prefer\npool debian.pool.example iburst\n");
        assert_eq!(found(&[chrony], Live::healthy()), ["smeared-and-unsmeared"]);
    }
}
