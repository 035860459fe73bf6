//! Who keeps the clock: nobody, one, or several who undo each other's work.

use driftless_daemon::tree::Tree;

use super::evidence::{Evidence, Live};
use super::finding::{Finding, Kind, Severity};
use super::programs::{Manner, Running};

pub(super) static KINDS: [&Kind; 6] = [&NOBODY, &SEVERAL, &AGENT, &UNSYNCHRONISED, &DRIFTLESS, &STEPS];

static NOBODY: Kind = Kind {
    id: "nobody-disciplines",
    severity: Severity::Serious,
    title: "nobody keeps this clock",
    consequence: "it drifts by whatever its counter is off, and stays behind after each pause: certificates, tokens and builds fail sooner or later",
    cure: "driftless run, at each boot",
};
static SEVERAL: Kind = Kind {
    id: "several-discipline",
    severity: Severity::Serious,
    title: "several programs steer this clock",
    consequence: "each takes the other's corrections for drift, and the clock swings between them",
    cure: "leave one of them running and disable the others (systemctl disable --now UNIT)",
};
static AGENT: Kind = Kind {
    id: "agent-beside",
    severity: Severity::Note,
    title: "a hypervisor's agent or driver may set this clock, too",
    consequence: "it steps the clock when its host tells it to, as a rule after a resume; driftless sees that as another writer and goes on from there",
    cure: "nothing, or switch its time synchronisation off (vmware-toolbox-cmd timesync disable; virsh domtime only on request)",
};
static UNSYNCHRONISED: Kind = Kind {
    id: "kernel-unsynchronised",
    severity: Severity::Warning,
    title: "the kernel holds its clock to be unsynchronised",
    consequence: "a program runs that should keep it, but has not told the kernel that it does: it has no source, waits for one, or leaves the clock alone",
    cure: "ask it what it is waiting for (driftless status, chronyc sources, timedatectl timesync-status, ntpctl -s all)",
};
static DRIFTLESS: Kind = Kind {
    id: "driftless-not-synchronised",
    severity: Severity::Warning,
    title: "driftless runs, but does not keep the clock right now",
    consequence: "the clock runs on at the rate that was last learnt, if any",
    cure: "driftless status says why; driftless discover shows every source that could be used",
};
static STEPS: Kind = Kind {
    id: "step-prone-client",
    severity: Severity::Warning,
    title: "a program sets this clock in steps, again and again",
    consequence: "time jumps, also backwards where the clock runs fast: durations come out wrong or negative, and the drift itself is never corrected",
    cure: "driftless run in its place: it corrects the rate, and steps only after an interruption",
};

/// How programs are called that set the clock once and are run by cron or a timer because of that.
const ONE_SHOTS: [&str; 8] =
    ["ntpdate", "ntpd -q", "ntpd -gq", "sntp ", "rdate", "hwclock -s", "hwclock --hctosys", "chronyd -q"];
const CRON: [&str; 5] =
    ["etc/cron.d", "etc/cron.hourly", "etc/cron.daily", "var/spool/cron/crontabs", "var/spool/cron"];

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let mut found = cron(&evidence.tree);
    let Some(live) = &evidence.live else { return found };
    found.extend(who_steers(evidence, live));
    found.extend(driftless(live));
    let stepping: Vec<&Running> =
        live.programs.iter().filter(|p| p.manner == Manner::Steps && p.steers()).collect();
    if !stepping.is_empty() {
        found.push(STEPS.seen(names(&stepping)));
    }
    let agents: Vec<&Running> = live.programs.iter().filter(|p| p.manner == Manner::Obeys).collect();
    if !agents.is_empty() {
        found.push(AGENT.seen(names(&agents)));
    }
    found
}

fn who_steers(evidence: &Evidence, live: &Live) -> Option<Finding> {
    let steering: Vec<&Running> = live.programs.iter().filter(|program| program.steers()).collect();
    let mut called: Vec<&str> = steering.iter().map(|program| program.name).collect();
    called.dedup();
    let is_synchronised = live.clock.is_some_and(|clock| clock.synchronised);
    match called.as_slice() {
        // In a container whoever keeps it is out of sight.
        [] if evidence.place.container().is_some() => None,
        [] => {
            let kernel = if is_synchronised {
                "somebody out of sight has told the kernel that it is synchronised"
            } else {
                "the kernel says unsynchronised"
            };
            Some(NOBODY.seen(format!("no program that is known to keep a clock runs, and {kernel}")))
        }
        [_] if !is_synchronised => {
            Some(UNSYNCHRONISED.seen(format!("{} runs; adjtimex says STA_UNSYNC", names(&steering))))
        }
        [_] => None,
        _ => Some(SEVERAL.seen(names(&steering))),
    }
}

fn driftless(live: &Live) -> Option<Finding> {
    match live.daemon.as_ref()? {
        Err(error) => Some(DRIFTLESS.seen(error.clone())),
        Ok(status) if ["synchronised", "acquiring"].iter().any(|state| status["state"] == *state) => None,
        Ok(status) => {
            let source = status["source"].as_str().unwrap_or("none");
            Some(DRIFTLESS.seen(format!("its state is {}, its source {source}", status["state"])))
        }
    }
}

/// Jobs that set the clock at intervals.
fn cron(tree: &Tree) -> Vec<Finding> {
    let jobs = CRON
        .iter()
        .flat_map(|folder| tree.files(folder, ""))
        .chain(Some(("etc/crontab".to_owned(), tree.text("etc/crontab").unwrap_or_default())));
    jobs.filter_map(|(path, text)| {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let line = lines.find(|line| ONE_SHOTS.iter().any(|program| line.contains(program)))?;
        Some(STEPS.seen(format!("/{path}: {line}")))
    })
    .collect()
}

fn names(programs: &[&Running]) -> String {
    programs.iter().map(|program| program.words()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::{ids, machine};
    use super::*;

    fn found(files: &[(&str, &str)], live: Live) -> Vec<&'static str> {
        ids(&find(&machine(files, live).1))
    }

    fn running(names: &[&'static str]) -> Live {
        let programs = (10..).zip(names).map(|(process, name)| Running::planted(name, process)).collect();
        Live { programs, ..Live::healthy() }
    }

    #[test]
    fn one_keeper_is_right_and_none_or_two_are_not() {
        assert_eq!(found(&[], Live::healthy()), [""; 0]);
        assert_eq!(found(&[], running(&[])), ["nobody-disciplines"]);
        assert_eq!(found(&[], running(&["chronyd", "ntpd"])), ["several-discipline"]);
        assert_eq!(found(&[], running(&["chronyd", "chronyd"])), [""; 0], "its helper is no second keeper");
        assert_eq!(found(&[], running(&["driftless", "hv_utils"])), ["agent-beside"]);
        assert_eq!(
            found(&[(".dockerenv", "")], running(&[])),
            [""; 0],
            "a container's clock is kept out of sight"
        );
    }

    #[test]
    fn a_keeper_that_the_kernel_has_not_heard_of_is_told() {
        let clock = Live::healthy()
            .clock
            .map(|clock| driftless_core::clock::ClockState { synchronised: false, ..clock });
        assert_eq!(found(&[], Live { clock, ..Live::healthy() }), ["kernel-unsynchronised"]);
        for state in ["unsynchronised", "contested", "holdover"] {
            let daemon = Some(Ok(serde_json::json!({ "state": state })));
            assert_eq!(found(&[], Live { daemon, ..Live::healthy() }), ["driftless-not-synchronised"]);
        }
    }

    #[test]
    fn who_steps_the_clock_is_told_be_it_a_program_or_a_job() {
        assert!(found(&[], running(&["sntpc"])).contains(&"step-prone-client"));
        let job = [("etc/cron.d/clock", "# ntpdate no more\n0 * * * * root ntpdate-debian -s\n")];
        assert_eq!(found(&job, Live::healthy()), ["step-prone-client"]);
        assert_eq!(
            found(&[("etc/crontab", "# ntpdate\n17 * * * * root run-parts\n")], Live::healthy()),
            [""; 0]
        );
    }
}
