//! Whether whoever keeps a guest's clock would put it right after a long pause. Most NTP clients were written for machines that run through.

use std::collections::BTreeSet;

use driftless_daemon::tree::Tree;

use super::evidence::Evidence;
use super::finding::{Finding, Kind, Severity};
use super::units;

pub(super) static KINDS: [&Kind; 1] = [&STAYS_BEHIND];

static STAYS_BEHIND: Kind = Kind {
    id: "keeper-stays-behind",
    severity: Severity::Warning,
    title: "the program that keeps this clock does not follow it over a long pause",
    consequence: "after the host's sleep, a restore or a migration the guest stays behind for hours, or the program ends",
    cure: "chrony: makestep 1 -1; ntpd: tinker panic 0; ntpd-rs: panic thresholds; or driftless run, which tells an interruption from drift",
};

/// ntpd's settings, wherever they are.
const NTPD: [&str; 2] = ["etc/ntpsec/ntp.conf", "etc/ntp.conf"];

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let tree = &evidence.tree;
    let keepers: BTreeSet<&str> = match &evidence.live {
        // Hardware is seldom paused.
        Some(_) if evidence.place.hypervisor.is_none() => return Vec::new(),
        Some(live) => {
            live.programs.iter().filter(|program| program.steers()).map(|program| program.name).collect()
        }
        None => units::enabled(tree).iter().map(|unit| unit.program.name).collect(),
    };
    keepers
        .into_iter()
        .filter_map(|name| stays_behind(tree, name))
        .map(|seen| STAYS_BEHIND.seen(seen))
        .collect()
}

fn stays_behind(tree: &Tree, name: &str) -> Option<String> {
    match name {
        "chronyd" => chrony(&chrony_settings(tree)?),
        "ntpd" => ntpd(tree),
        "ntpd-rs" => Some(
            "ntpd-rs ends when a later step would be more than 1000 s, unless its settings say otherwise"
                .to_owned(),
        ),
        _ => None,
    }
}

fn chrony(settings: &str) -> Option<String> {
    let mut rules = settings.lines().filter_map(|line| line.trim().strip_prefix("makestep"));
    match rules.next_back().map(str::trim) {
        None => Some("chrony's settings have no makestep: it never steps".to_owned()),
        Some(rule) if rule.split_whitespace().nth(1).is_some_and(|limit| limit.starts_with('-')) => None,
        Some(rule) => {
            Some(format!("chrony's settings say makestep {rule}: only so many first updates may step"))
        }
    }
}

/// By that name runs ntpd of two families, and `OpenNTPD`.
fn ntpd(tree: &Tree) -> Option<String> {
    match NTPD.iter().find_map(|path| Some((path, tree.text(path)?))) {
        Some((_, text)) if text.lines().any(|line| line.trim().starts_with("tinker panic 0")) => None,
        Some((path, _)) => {
            Some(format!("/{path} has no tinker panic 0: ntpd ends when it is off by more than 1000 s"))
        }
        None => tree
            .exists("etc/openntpd/ntpd.conf")
            .then(|| "openntpd slews by adjtime, 500 ppm at most: an hour takes 83 days".to_owned()),
    }
}

/// chrony's settings with all that they include from its usual folders.
pub(super) fn chrony_settings(tree: &Tree) -> Option<String> {
    let main = ["etc/chrony/chrony.conf", "etc/chrony.conf"].iter().find_map(|path| tree.text(path))?;
    let parts = ["etc/chrony/conf.d", "etc/chrony.d"].iter().flat_map(|folder| tree.files(folder, ".conf"));
    let sources =
        ["etc/chrony/sources.d", "run/chrony-dhcp"].iter().flat_map(|folder| tree.files(folder, ".sources"));
    Some(parts.chain(sources).fold(main, |all, (_, text)| all + "\n" + &text))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Live;
    use super::super::evidence::planted::{ids, machine};
    use super::super::programs::Running;
    use super::*;

    const GUEST: (&str, &str) = ("sys/hypervisor/type", "xen\n");

    fn found(name: &'static str, files: &[(&str, &str)]) -> Vec<&'static str> {
        let programs = vec![Running::planted(name, 10)];
        ids(&find(&machine(files, Live { programs, ..Live::healthy() }).1))
    }

    #[test]
    fn settings_that_leave_a_guest_behind_after_a_pause_are_told() {
        let chrony = |settings: &str| found("chronyd", &[GUEST, ("etc/chrony/chrony.conf", settings)]);
        assert_eq!(chrony("makestep 1 3\n"), ["keeper-stays-behind"]);
        assert_eq!(chrony("pool x\n"), ["keeper-stays-behind"]);
        assert_eq!(chrony("makestep 1 3\nmakestep 1 -1\n"), [""; 0]);
        assert_eq!(
            found("chronyd", &[("etc/chrony/chrony.conf", "makestep 1 3\n")]),
            [""; 0],
            "hardware is seldom paused"
        );
        assert_eq!(found("ntpd", &[GUEST, ("etc/ntp.conf", "tinker panic 0\n")]), [""; 0]);
        assert_eq!(found("ntpd", &[GUEST, ("etc/ntpsec/ntp.conf", "pool x\n")]), ["keeper-stays-behind"]);
        assert_eq!(found("ntpd", &[GUEST, ("etc/openntpd/ntpd.conf", "")]), ["keeper-stays-behind"]);
        assert_eq!(found("driftless", &[GUEST]), [""; 0]);
    }

    #[test]
    fn an_images_keeper_is_judged_by_its_enabled_unit() {
        let files = [
            ("etc/systemd/system/multi-user.target.wants/chrony.service", ""),
            ("usr/lib/systemd/system/chrony.service", "[Service]\n"),
            ("etc/chrony/chrony.conf", "makestep 1 3\n"),
        ];
        let (root, _) = super::super::evidence::planted::tree(&files);
        assert_eq!(ids(&find(&Evidence::of_image(root.path()))), ["keeper-stays-behind"]);
    }
}
