//! The real-time clock: there, in UTC, and right. It is what the next boot starts from, and all that shows a pause where there is nothing else.

use driftless_core::source::LookError;
use driftless_core::time::Seconds;
use driftless_linux::rtc::{self, zone_difference};

use super::evidence::{Evidence, Live};
use super::finding::{Finding, Kind, Severity};
use super::wrong_time::witnesses;

pub(super) static KINDS: [&Kind; 5] = [&LOCAL, &ZONE, &OFF, &LOST, &MISSING];

static LOCAL: Kind = Kind {
    id: "rtc-in-local-time",
    severity: Severity::Warning,
    title: "the real-time clock is said to run in local time",
    consequence: "the clock is wrong by the zone until somebody has read /etc/adjtime, and for an hour twice a year",
    cure: "set it to UTC and say so: hwclock --systohc --utc; for a virtual machine, tell its host that the guest's clock is UTC",
};
static ZONE: Kind = Kind {
    id: "rtc-off-by-zone",
    severity: Severity::Warning,
    title: "the real-time clock is off by whole quarters of an hour",
    consequence: "the next boot starts wrong by a time zone: host and guest do not agree on whether it counts UTC",
    cure: "on the host: -rtc base=utc, <clock offset='utc'/>; in the guest: driftless rtc --write, or LOCAL in /etc/adjtime",
};
static OFF: Kind = Kind {
    id: "rtc-is-off",
    severity: Severity::Warning,
    title: "the real-time clock is wrong",
    consequence: "the next boot starts wrong, and a pause cannot be told by it",
    cure: "driftless rtc --write sets it from a clock that is right",
};
static LOST: Kind = Kind {
    id: "rtc-gives-no-time",
    severity: Severity::Warning,
    title: "the real-time clock gives no time",
    consequence: "it has lost its time or does not answer: the next boot starts in 1970, or at the kernel's build",
    cure: "driftless rtc --write sets it; if that fails, the device is broken or another process has it open",
};
static MISSING: Kind = Kind {
    id: "rtc-missing",
    severity: Severity::Note,
    title: "there is no real-time clock",
    consequence: "each boot starts in 1970, or at the kernel's build, until a source has answered; nothing but another source can show a pause",
    cure: "nothing where a PTP clock is there; else let driftless run before what needs the time (driftless waitsync)",
};

/// It knows its second only, and QEMU's edge is anywhere in it.
const ERROR: Seconds = Seconds(1.0);
const OFF_FROM: Seconds = Seconds(5.0);

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let adjtime = evidence.tree.text(rtc::ADJTIME).unwrap_or_default();
    let is_local = adjtime.lines().nth(2).is_some_and(|line| line.trim() == "LOCAL");
    let mut found: Vec<Finding> =
        is_local.then(|| LOCAL.seen("/etc/adjtime says LOCAL")).into_iter().collect();
    found.extend(evidence.live.as_ref().and_then(device));
    found
}

fn device(live: &Live) -> Option<Finding> {
    let offset = match live.rtc {
        Err(LookError::Missing) => return Some(MISSING.seen(format!("no {}", rtc::DEVICE))),
        // Told among the devices.
        Err(LookError::Permission) => return None,
        Err(error) => return Some(LOST.seen(format!("{}: {error}", rtc::DEVICE))),
        Ok(offset) => offset,
    };
    // Against whoever knows better than our own clock.
    let witness = witnesses(live).into_iter().next();
    let (than, off) = witness
        .map_or_else(|| ("this clock".to_owned(), offset), |witness| (witness.name, offset - witness.offset));
    let seen = format!("{} is {off} from {than}", rtc::DEVICE);
    if let Some(minutes) = zone_difference(off, ERROR) {
        return Some(ZONE.seen(format!("{seen}: {minutes} minutes")));
    }
    (off.abs().0 > OFF_FROM.0).then(|| OFF.seen(seen))
}

#[cfg(test)]
mod tests {
    use super::super::answers::Answer;
    use super::super::evidence::planted::{ids, machine};
    use super::*;

    fn found(rtc: Result<f64, LookError>, offset: f64) -> Vec<&'static str> {
        let answers = vec![Answer::planted("ntp:10.0.2.2", offset)];
        ids(&find(&machine(&[], Live { rtc: rtc.map(Seconds), answers, ..Live::healthy() }).1))
    }

    #[test]
    fn it_is_judged_by_the_source_and_not_by_a_clock_that_is_wrong_itself() {
        assert_eq!(found(Ok(0.7), 0.0), [""; 0]);
        assert_eq!(found(Ok(7_200.4), 0.0), ["rtc-off-by-zone"]);
        assert_eq!(
            found(Ok(7_200.4), 7_200.0),
            [""; 0],
            "this clock is two hours behind, the device is right"
        );
        assert_eq!(found(Ok(-40.0), 0.0), ["rtc-is-off"]);
        assert_eq!(found(Err(LookError::NoTime), 0.0), ["rtc-gives-no-time"]);
        assert_eq!(found(Err(LookError::Missing), 0.0), ["rtc-missing"]);
    }

    #[test]
    fn local_time_is_told_from_the_file_alone() {
        let (_root, evidence) = machine(&[("etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n")], Live::healthy());
        assert_eq!(ids(&find(&evidence)), ["rtc-in-local-time"]);
    }
}
