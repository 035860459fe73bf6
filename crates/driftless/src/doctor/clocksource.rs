//! Which counter the kernel counts by, and what its log says of that counter.
//!
//! The kernel leaves the processor's counter where it finds it to disagree with another one (`kernel/time/clocksource.c`, the watchdog), as after a host's
//! sleep or on a busy host. What is left costs a way out of the virtual machine for each reading of the clock.

use super::evidence::Evidence;
use super::finding::{Finding, Kind, Severity};

pub(super) static KINDS: [&Kind; 5] = [&SLOW, &JIFFIES, &UNSTABLE, &STALLED, &LOG];

static SLOW: Kind = Kind {
    id: "clocksource-slow",
    severity: Severity::Warning,
    title: "the kernel counts by a device that is slow to read",
    consequence: "each reading of the clock leaves the virtual machine: microseconds instead of tens of nanoseconds, for every program",
    cure: "echo tsc or kvm-clock into /sys/devices/system/clocksource/clocksource0/current_clocksource if it is among available_clocksource; tsc=reliable on the kernel's command line if the host's counter can be trusted",
};
static JIFFIES: Kind = Kind {
    id: "clocksource-jiffies",
    severity: Severity::Serious,
    title: "the kernel counts timer interrupts",
    consequence: "each interrupt that the host delivers late or not at all is time lost: such a clock is off by parts in a thousand, in bursts",
    cure: "give the kernel a counter: kvm-clock (the hypervisor's), or tsc=reliable on its command line",
};
static UNSTABLE: Kind = Kind {
    id: "tsc-unstable",
    severity: Severity::Warning,
    title: "the kernel has found the processor's counter to be unstable",
    consequence: "it was left for a slower one, and the learnt frequency is worth nothing since; as a rule the host slept, was too busy, or moves processors between cores whose counters differ",
    cure: "a hypervisor's clock source (kvm-clock, hyperv_clocksource_tsc_page); where the host's counter is sound, tsc=reliable on the kernel's command line, at the risk that a real fault goes unseen",
};
static STALLED: Kind = Kind {
    id: "kernel-stalled",
    severity: Severity::Note,
    title: "the kernel has noticed that it stood still",
    consequence: "the machine was paused, or its host had no processor for it: time may have been lost each time",
    cure: "nothing in the guest but driftless run; on the host, more processors or fewer guests",
};
static LOG: Kind = Kind {
    id: "kernel-log-unreadable",
    severity: Severity::Note,
    title: "the kernel's log may not be read",
    consequence: "what the kernel said of its clock sources is not known here",
    cure: "run as root, or sysctl kernel.dmesg_restrict=0",
};

const FOLDER: &str = "sys/devices/system/clocksource/clocksource0";
const SLOW_ONES: [&str; 2] = ["hpet", "acpi_pm"];
const INTERRUPTS: [&str; 3] = ["jiffies", "refined-jiffies", "pit"];
/// How the kernel says it (`arch/x86/kernel/tsc.c`, `kernel/time/clocksource.c`).
const UNSTABLE_WORDS: [&str; 4] =
    ["Marking TSC unstable", "Marking clocksource 'tsc", "TSC found unstable", "clocksource tsc unstable"];
const STALLED_WORDS: [&str; 3] = ["soft lockup", "self-detected stall", "hrtimer: interrupt took"];
/// Lines that are quoted.
const QUOTED_MAX: usize = 3;

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let Some(live) = &evidence.live else { return Vec::new() };
    let current = evidence.tree.line(&format!("{FOLDER}/current_clocksource"));
    let available = evidence.tree.line(&format!("{FOLDER}/available_clocksource"));
    let mut found = Vec::new();
    let seen = || format!("current_clocksource is {current}; available: {available}");
    if SLOW_ONES.contains(&current.as_str()) {
        found.push(SLOW.seen(seen()));
    }
    if INTERRUPTS.contains(&current.as_str()) {
        found.push(JIFFIES.seen(seen()));
    }
    let Some(log) = &live.log else {
        found.push(LOG.seen("/dev/kmsg may not be opened"));
        return found;
    };
    let lines = |words: &[&str]| -> Vec<&str> {
        log.iter().map(String::as_str).filter(|line| words.iter().any(|word| line.contains(word))).collect()
    };
    let unstable = lines(&UNSTABLE_WORDS);
    if !unstable.is_empty() {
        let switches = lines(&["Switched to clocksource"]);
        let after = switches.last().map_or_else(String::new, |line| format!("; then {line:?}"));
        found.push(UNSTABLE.seen(format!("the kernel's log: {}{after}", quoted(&unstable))));
    }
    let stalled = lines(&STALLED_WORDS);
    if !stalled.is_empty() {
        found.push(STALLED.seen(format!("the kernel's log, {} times: {}", stalled.len(), quoted(&stalled))));
    }
    found
}

fn quoted(lines: &[&str]) -> String {
    lines.iter().take(QUOTED_MAX).map(|line| format!("{line:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Live;
    use super::super::evidence::planted::{ids, machine};
    use super::*;

    fn found(current: &str, log: &[&str]) -> Vec<&'static str> {
        let path = format!("{FOLDER}/current_clocksource");
        let log = Some(log.iter().map(|line| (*line).to_owned()).collect());
        ids(&find(&machine(&[(path.as_str(), current)], Live { log, ..Live::healthy() }).1))
    }

    #[test]
    fn a_slow_counter_and_a_counter_of_interrupts_are_told() {
        assert_eq!(found("tsc\n", &["clocksource: Switched to clocksource tsc"]), [""; 0]);
        assert_eq!(found("hpet\n", &[]), ["clocksource-slow"]);
        assert_eq!(found("refined-jiffies\n", &[]), ["clocksource-jiffies"]);
    }

    #[test]
    fn the_kernels_own_words_are_understood() {
        for line in [
            "tsc: Marking TSC unstable due to clocksource watchdog",
            "clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too large:",
            "tsc: Marking TSC unstable due to boot parameter",
        ] {
            assert_eq!(found("kvm-clock", &[line]), ["tsc-unstable"], "{line}");
        }
        assert_eq!(found("tsc", &["watchdog: BUG: soft lockup - CPU#0 stuck for 23s!"]), ["kernel-stalled"]);
        let (_root, evidence) = machine(&[], Live { log: None, ..Live::healthy() });
        assert_eq!(ids(&find(&evidence)), ["kernel-log-unreadable"]);
    }
}
