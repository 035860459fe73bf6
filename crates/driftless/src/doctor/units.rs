//! systemd's units of time clients: enabled and never started, since a condition fails; enabled and not running; several at once; without the right that they need.

use driftless_daemon::tree::Tree;

use super::evidence::Evidence;
use super::finding::{Finding, Kind, Severity};
use super::place::Place;
use super::programs::{Manner, PROGRAMS, Program};

pub(super) static KINDS: [&Kind; 4] = [&CONDITION, &NOT_RUNNING, &CAPABILITY, &SEVERAL];

static CONDITION: Kind = Kind {
    id: "unit-condition-fails",
    severity: Severity::Warning,
    title: "a time client's unit is enabled and never starts: a condition in it fails here",
    consequence: "systemd skips it without an error, \"enabled\" is all that anybody sees, and nobody keeps the clock",
    cure: "systemctl edit UNIT, and under [Unit] an empty ConditionVirtualization= (or whichever it is), which takes the condition away",
};
static NOT_RUNNING: Kind = Kind {
    id: "unit-not-running",
    severity: Severity::Warning,
    title: "a time client's unit is enabled, but the client does not run",
    consequence: "it failed at its start or ended since: nobody keeps the clock, or not who was meant to",
    cure: "systemctl status UNIT; journalctl -u UNIT",
};
static CAPABILITY: Kind = Kind {
    id: "unit-lacks-capability",
    severity: Severity::Warning,
    title: "a time client's unit takes away the right to set the clock",
    consequence: "the client runs and corrects nothing",
    cure: "add CAP_SYS_TIME to CapabilityBoundingSet= and AmbientCapabilities=, and drop ProtectClock=yes",
};
static SEVERAL: Kind = Kind {
    id: "several-units",
    severity: Severity::Warning,
    title: "several time clients are enabled",
    consequence: "which of them keeps the clock depends on who comes first, or both do and undo each other's work",
    cure: "systemctl disable all but one of them",
};

/// Where units are, the strongest first.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// A unit of a time client that is enabled.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) program: &'static Program,
    /// Its file and its drop-ins, one after the other.
    text: String,
}

/// The enabled units of programs that steer.
pub(super) fn enabled(tree: &Tree) -> Vec<Unit> {
    let keepers = PROGRAMS.iter().filter(|program| matches!(program.manner, Manner::Keeps | Manner::Steps));
    let named = keepers.flat_map(|program| program.units.iter().map(move |unit| (program, *unit)));
    let mut units: Vec<Unit> = named
        .filter(|(_, name)| is_enabled(tree, name))
        .filter_map(|(program, name)| Some(Unit { name: name.to_owned(), program, text: text(tree, name)? }))
        .collect();
    // chronyd.service is chrony.service by another name.
    units.dedup_by(|one, other| one.program == other.program && one.text == other.text);
    units
}

fn is_enabled(tree: &Tree, name: &str) -> bool {
    FOLDERS.iter().any(|folder| {
        let targets = tree.names(folder).into_iter();
        let mut targets =
            targets.filter(|target| target.ends_with(".wants") || target.ends_with(".requires"));
        targets.any(|target| tree.names(&format!("{folder}/{target}")).iter().any(|wanted| wanted == name))
    })
}

/// None for a unit that is not there, or masked: an empty file, or a link to nothing.
fn text(tree: &Tree, name: &str) -> Option<String> {
    let main = FOLDERS.iter().map(|folder| format!("{folder}/{name}")).find(|path| is_entry(tree, path))?;
    let main = tree.text(&main).filter(|text| !text.is_empty())?;
    let parts = FOLDERS.iter().rev().flat_map(|folder| tree.files(&format!("{folder}/{name}.d"), ".conf"));
    Some(parts.fold(main, |all, (_, text)| all + "\n" + &text))
}

/// Whether a folder has the entry, be it a link that leads nowhere.
fn is_entry(tree: &Tree, path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    tree.names(folder).iter().any(|entry| entry == name)
}

/// The values of a setting in force: an empty one forgets those before.
fn settings<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for value in text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('=')) {
        if value.trim().is_empty() {
            values.clear();
        } else {
            values.push(value.trim());
        }
    }
    values
}

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let units = enabled(&evidence.tree);
    let mut found: Vec<Finding> = units.iter().filter_map(lacks).collect();
    let has_systemd = evidence.tree.line("proc/1/comm") == "systemd";
    let running = evidence.live.as_ref().map(|live| &live.programs);
    for unit in &units {
        if let Some(why) = failing(&unit.text, &evidence.place, evidence.live.is_some()) {
            found.push(CONDITION.seen(format!("{}: {why}", unit.name)));
        } else if running.is_some_and(|running| {
            has_systemd && !running.iter().any(|program| program.name == unit.program.name)
        }) {
            found.push(
                NOT_RUNNING.seen(format!("{} is enabled, and no {} runs", unit.name, unit.program.name)),
            );
        }
    }
    if units.len() > 1 {
        let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
        found.push(SEVERAL.seen(names.join(", ")));
    }
    found
}

/// The condition that fails in a place like this. In an image, which runs nowhere yet, only what would fail in every virtual machine.
fn failing(text: &str, place: &Place, is_live: bool) -> Option<String> {
    settings(text, "ConditionVirtualization").into_iter().find_map(|value| {
        let (is_negated, wanted) = value.strip_prefix('!').map_or((false, value), |rest| (true, rest));
        if wanted.starts_with('|') {
            return None;
        }
        let holds = if is_live { holds(wanted, place)? } else { holds_in_machine(wanted)? };
        (holds == is_negated).then(|| {
            let runs = match (&place.container, &place.hypervisor) {
                (Some((runtime, why)), _) => format!("systemd takes this for a container ({runtime}: {why})"),
                (None, Some((called, _))) => format!("this is a virtual machine ({called})"),
                (None, None) if is_live => "this is neither container nor virtual machine".to_owned(),
                (None, None) => "it would fail in every virtual machine".to_owned(),
            };
            format!("ConditionVirtualization={value}, and {runs}")
        })
    })
}

/// As systemd.unit(5) has it.
fn holds(wanted: &str, place: &Place) -> Option<bool> {
    let (container, machine) = (place.container.as_ref(), place.hypervisor.as_ref());
    Some(match wanted {
        "yes" | "true" | "1" => container.is_some() || machine.is_some(),
        "no" | "false" | "0" => container.is_none() && machine.is_none(),
        "vm" => container.is_none() && machine.is_some(),
        "container" => container.is_some(),
        name => [container, machine].into_iter().flatten().any(|(called, _)| *called == name),
    })
}

fn holds_in_machine(wanted: &str) -> Option<bool> {
    match wanted {
        "yes" | "true" | "1" | "vm" => Some(true),
        "no" | "false" | "0" | "container" => Some(false),
        _ => None,
    }
}

fn lacks(unit: &Unit) -> Option<Finding> {
    let sets = settings(&unit.text, "CapabilityBoundingSet");
    let (taken, given): (Vec<&str>, Vec<&str>) = sets.into_iter().partition(|set| set.starts_with('~'));
    let names = |sets: &[&str]| sets.iter().any(|set| set.contains("CAP_SYS_TIME"));
    let why = if names(&taken) || (!given.is_empty() && !names(&given)) {
        "CapabilityBoundingSet= has no CAP_SYS_TIME"
    } else if settings(&unit.text, "ProtectClock")
        .last()
        .is_some_and(|value| ["yes", "true", "on", "1"].contains(value))
    {
        "ProtectClock=yes"
    } else {
        return None;
    };
    Some(CAPABILITY.seen(format!("{}: {why}", unit.name)))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Live;
    use super::super::evidence::planted::{ids, machine};
    use super::super::programs::Running;
    use super::*;

    const WANTS: (&str, &str) = ("etc/systemd/system/multi-user.target.wants/chrony.service", "");
    const CONTAINER: (&str, &str) = (".dockerenv", "");
    const FILE: &str = "usr/lib/systemd/system/chrony.service";

    fn found(files: &[(&str, &str)]) -> Vec<&'static str> {
        let programs = vec![Running::planted("chronyd", 4)];
        ids(&find(&machine(files, Live { programs, ..Live::healthy() }).1))
    }

    #[test]
    fn a_condition_that_disables_a_unit_without_a_word_is_told() {
        let guest = ("sys/hypervisor/type", "xen\n");
        let not_in_containers = (FILE, "[Unit]\nConditionVirtualization=!container\n[Service]\n");
        assert_eq!(found(&[WANTS, not_in_containers, CONTAINER]), ["unit-condition-fails"]);
        assert_eq!(found(&[WANTS, not_in_containers, guest]), [""; 0]);
        assert_eq!(found(&[not_in_containers, CONTAINER]), [""; 0], "it is not enabled");
        assert_eq!(found(&[WANTS, (FILE, "ConditionVirtualization=no\n"), guest]), ["unit-condition-fails"]);
        let relieved =
            ("etc/systemd/system/chrony.service.d/here.conf", "[Unit]\nConditionVirtualization=\n");
        assert_eq!(found(&[WANTS, not_in_containers, relieved, CONTAINER]), [""; 0]);
    }

    #[test]
    fn a_unit_that_should_run_and_does_not_is_told_where_systemd_reigns() {
        let timesyncd = [
            ("etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service", ""),
            ("usr/lib/systemd/system/systemd-timesyncd.service", "[Service]\n"),
        ];
        assert_eq!(found(&timesyncd), [""; 0]);
        assert_eq!(found(&[&timesyncd[..], &[("proc/1/comm", "systemd\n")]].concat()), ["unit-not-running"]);
        assert_eq!(found(&[&timesyncd[..], &[WANTS, (FILE, "[Service]\n")]].concat()), ["several-units"]);
    }

    #[test]
    fn a_unit_without_the_right_is_told() {
        for (settings, id) in [
            ("CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n", &["unit-lacks-capability"][..]),
            ("CapabilityBoundingSet=~CAP_SYS_TIME\n", &["unit-lacks-capability"]),
            ("ProtectClock=yes\n", &["unit-lacks-capability"]),
            ("CapabilityBoundingSet=CAP_SYS_TIME\n", &[]),
            ("CapabilityBoundingSet=~CAP_SYS_ADMIN\n", &[]),
            ("", &[]),
        ] {
            assert_eq!(found(&[WANTS, (FILE, &format!("[Service]\n{settings}"))]), id, "{settings}");
        }
    }

    #[test]
    fn a_masked_unit_is_as_good_as_none() {
        let (root, evidence) =
            machine(&[WANTS, (FILE, "ConditionVirtualization=!container\n"), CONTAINER], Live::healthy());
        std::os::unix::fs::symlink("/dev/null", root.path().join("etc/systemd/system/chrony.service"))
            .unwrap();
        assert_eq!(ids(&find(&evidence)), [""; 0]);
    }
}
