//! The right to set the clock, `CAP_SYS_TIME`: whether it is there, and who took it: a container's runtime, a unit, a user namespace.

use driftless_daemon::tree::Tree;

use super::devices::effective_user;
use super::evidence::{Evidence, Live};
use super::finding::{Finding, Kind, Severity};
use super::programs::{Manner, Running, field};

pub(super) static KINDS: [&Kind; 4] = [&MISSING, &KEEPER, &UNPRIVILEGED, &OBSERVING];

static MISSING: Kind = Kind {
    id: "cap-sys-time-missing",
    severity: Severity::Warning,
    title: "nothing that runs here may set the clock: CAP_SYS_TIME is out of reach",
    consequence: "a clock that is wrong in here can only be put right from outside",
    cure: "container: --cap-add SYS_TIME; unit: CAP_SYS_TIME in CapabilityBoundingSet=; user namespace: keep the clock outside of it",
};
static KEEPER: Kind = Kind {
    id: "keeper-lacks-capability",
    severity: Severity::Serious,
    title: "the program that should keep the clock may not set it",
    consequence: "it runs, and perhaps reports offsets, and corrects nothing",
    cure: "give it CAP_SYS_TIME: in its unit (AmbientCapabilities=, CapabilityBoundingSet=), its container (--cap-add SYS_TIME), or run it as root",
};
static UNPRIVILEGED: Kind = Kind {
    id: "doctor-unprivileged",
    severity: Severity::Note,
    title: "the doctor does not run as root",
    consequence: "devices, the kernel's log and other users' processes may be out of its sight",
    cure: "run it as root; it sets nothing",
};
static OBSERVING: Kind = Kind {
    id: "observing",
    severity: Severity::Note,
    title: "DRIFTLESS_OBSERVE=1 is set",
    consequence: "whatever driftless is started from here sets nothing",
    cure: "unset DRIFTLESS_OBSERVE where the clock is to be kept",
};

const SYS_TIME: u64 = 1 << 25;

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let Some(live) = &evidence.live else { return Vec::new() };
    let own = evidence.tree.text("proc/self/status").unwrap_or_default();
    let mut found = Vec::new();
    if live.is_observing {
        found.push(OBSERVING.seen("the environment has it"));
    }
    if !is_root(&own) {
        found.push(UNPRIVILEGED.seen(format!("it runs as user {}", effective_user(&own).unwrap_or(0))));
    } else if !has(&own, "CapBnd") || !has(&own, "CapEff") {
        found.push(MISSING.seen(who_took_it(evidence, &own)));
    }
    found.extend(keepers_without(live));
    found
}

/// Programs of which no process may set the clock: some keep the right in one process only.
fn keepers_without(live: &Live) -> Option<Finding> {
    let steering: Vec<&Running> = live
        .programs
        .iter()
        .filter(|p| p.manner == Manner::Keeps && p.steers() && !p.status.is_empty())
        .collect();
    let is_able =
        |name: &str| steering.iter().any(|program| program.name == name && has(&program.status, "CapEff"));
    let unable = steering.iter().find(|program| !is_able(program.name))?;
    Some(KEEPER.seen(format!(
        "{} has CapEff {}",
        unable.words(),
        unable.field("CapEff").unwrap_or("unknown")
    )))
}

pub(super) fn is_root(status: &str) -> bool {
    effective_user(status) == Some(0)
}

fn has(status: &str, set: &str) -> bool {
    field(status, set)
        .and_then(|set| u64::from_str_radix(set, 16).ok())
        .is_some_and(|set| set & SYS_TIME != 0)
}

fn who_took_it(evidence: &Evidence, own: &str) -> String {
    let set = if has(own, "CapBnd") { "the effective set" } else { "the bounding set" };
    let who = if let Some((runtime, why)) = evidence.place.container() {
        format!("the container's runtime, {runtime} ({why})")
    } else if is_in_user_namespace(&evidence.tree) {
        "a user namespace: the clock belongs to the first one".to_owned()
    } else if let Some(unit) = unit(&evidence.tree) {
        format!("whoever started {unit}")
    } else {
        "whoever started this, as setpriv or capsh do".to_owned()
    };
    format!("{set} has no CAP_SYS_TIME; taken by {who}")
}

/// The first user namespace maps every user to itself.
fn is_in_user_namespace(tree: &Tree) -> bool {
    let map = tree.line("proc/self/uid_map");
    let fields: Vec<&str> = map.split_whitespace().collect();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}

fn unit(tree: &Tree) -> Option<String> {
    let group = tree.line("proc/self/cgroup");
    let unit = group.rsplit('/').find(|part| part.ends_with(".service"))?;
    Some(unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::{ids, machine};
    use super::*;

    const ALL: &str = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n";
    const WITHOUT: &str = "Uid:\t0\t0\t0\t0\nCapEff:\t000001fffdffffff\nCapBnd:\t000001fffdffffff\n";

    #[test]
    fn who_took_the_capability_is_named() {
        let taken = |files: &[(&str, &str)]| {
            let own = [("proc/self/status", WITHOUT)];
            let found = find(&machine(&[&own, files].concat(), Live::healthy()).1);
            assert_eq!(ids(&found), ["cap-sys-time-missing"]);
            found[0].evidence.clone()
        };
        assert!(taken(&[(".dockerenv", "")]).contains("docker"));
        assert!(taken(&[("proc/self/uid_map", "0 1000 65536\n")]).contains("user namespace"));
        assert!(taken(&[("proc/self/cgroup", "0::/system.slice/thing.service\n")]).contains("thing.service"));
        assert!(taken(&[("proc/self/uid_map", "0 0 4294967295\n")]).contains("setpriv"));
    }

    #[test]
    fn a_keeper_that_may_not_is_told_and_one_whose_parent_may_is_not() {
        let run = |statuses: &[&str]| {
            let program = |(process, status): (u32, &&str)| Running {
                status: (*status).to_owned(),
                ..Running::planted("chronyd", process)
            };
            let live = Live { programs: (5..).zip(statuses).map(program).collect(), ..Live::healthy() };
            ids(&find(&machine(&[("proc/self/status", ALL)], live).1))
        };
        assert_eq!(run(&[WITHOUT]), ["keeper-lacks-capability"]);
        assert_eq!(run(&[WITHOUT, ALL]), [""; 0]);
    }

    #[test]
    fn an_ordinary_user_is_told_so_and_no_more() {
        let own = [("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0\nCapBnd:\t0\n")];
        assert_eq!(ids(&find(&machine(&own, Live::healthy()).1)), ["doctor-unprivileged"]);
    }
}
