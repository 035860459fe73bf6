//! Whether the time is right now, by what it is wrong, and whether those who say so agree: hypervisor's clocks, and the sources that were asked.
//!
//! Some errors betray where they come from: whole quarters of an hour are a matter of time zones, 37 s are TAI taken for UTC.

use std::time::SystemTime;

use driftless_core::source::{LookError, Reading, TimeScale};
use driftless_core::time::{Seconds, Span, WallTime};
use driftless_daemon::tree::Tree;
use driftless_linux::rtc::zone_difference;

use super::evidence::{Evidence, Live};
use super::finding::{Finding, Kind, Severity};

pub(super) static KINDS: [&Kind; 7] = [&OFF, &WRONG, &ZONE, &TAI, &PAST, &SILENT, &DISAGREE];

static OFF: Kind = Kind {
    id: "time-is-off",
    severity: Severity::Warning,
    title: "the time is off by more than 50 ms",
    consequence: "make compares wrongly across shared folders, Ceph and other clusters complain",
    cure: "driftless run corrects it at once; where it runs, driftless status says why it has not",
};
static WRONG: Kind = Kind {
    id: "time-is-wrong",
    severity: Severity::Serious,
    title: "the time is wrong",
    consequence: "etcd complains from 1 s on, one-time passwords fail from 30 s, Kerberos, tokens and signed requests from 5 min; certificates are \"not yet valid\"",
    cure: "driftless run sets it at its start and after each pause; driftless makestep where it runs already",
};
static ZONE: Kind = Kind {
    id: "wrong-by-zone",
    severity: Severity::Serious,
    title: "the time is wrong by whole quarters of an hour: a time zone was taken for an offset",
    consequence: "the clock of a Linux system counts UTC; shifted by a zone it is wrong for everything but the eye",
    cure: "set the zone (timedatectl set-timezone, or /etc/localtime), not the clock; if the real-time clock runs in local time, say LOCAL in /etc/adjtime or set it to UTC",
};
static TAI: Kind = Kind {
    id: "wrong-by-tai",
    severity: Severity::Serious,
    title: "the time is wrong by 37 s: TAI was taken for UTC",
    consequence: "a PTP clock counts TAI, and somebody set this clock from it without taking off the leap seconds",
    cure: "say the device's scale (phc:/dev/ptp0?scale=tai), or offset -37 in chrony's refclock line",
};
static PAST: Kind = Kind {
    id: "time-in-the-past",
    severity: Severity::Serious,
    title: "the time is earlier than this system's own files",
    consequence: "no certificate is valid yet, so nothing that needs TLS works, and it looks like a network that is down",
    cure: "driftless run; where there is no real-time clock, let it run before anything that needs the network",
};
static SILENT: Kind = Kind {
    id: "no-source-answers",
    severity: Severity::Warning,
    title: "no source of time answers",
    consequence: "the clock runs on at the rate that was last learnt, and stays wrong after the next pause",
    cure: "run driftless serve on the host, let UDP port 123 through, or name another source; driftless query HOST tries one",
};
static DISAGREE: Kind = Kind {
    id: "sources-disagree",
    severity: Severity::Warning,
    title: "two sources contradict each other",
    consequence: "at least one of them is wrong; with two nobody can tell which, with three the majority can",
    cure: "driftless query both against a third; mind that some clouds' servers smear leap seconds",
};

/// What a workload bears: file times over shared folders, and most clusters.
const OFF_FROM: Seconds = Seconds(50e-3);
const WRONG_FROM: Seconds = Seconds(1.0);
/// TAI − UTC since 2017.
const TAI_UTC_S: i32 = 37;
/// Below this a difference of sources is none.
const AGREE: Seconds = Seconds(2e-3);
/// Files whose times tell that so much time has passed: what others keep for that, what we keep, and the system's own age.
const FLOORS: [&str; 4] = [
    "var/lib/systemd/timesync/clock",
    "var/lib/driftless/frequency.json",
    "usr/lib/os-release",
    "etc/os-release",
];
const FLOOR_MARGIN: Seconds = Seconds(60.0);

/// A clock that says how far ours is off.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Witness {
    pub(super) name: String,
    /// Reference − local.
    pub(super) offset: Seconds,
    pub(super) bound: Seconds,
}

/// All who say how far this clock is off, the most trusted first.
pub(super) fn witnesses(live: &Live) -> Vec<Witness> {
    let trusted = live.phcs.iter().filter(|(info, _)| info.kind.is_trusted());
    let devices = trusted.map(|(info, look)| (info.path.display().to_string(), *look));
    let page = [(driftless_linux::vmclock::DEVICE.to_owned(), live.vmclock)];
    let devices = devices.chain(page).filter_map(|(name, look)| witness(name, look));
    let mut answers: Vec<Witness> = live
        .answers
        .iter()
        .filter_map(|answer| {
            let offset = *answer.result.as_ref().ok()?;
            Some(Witness { name: answer.source.clone(), offset: offset.offset, bound: offset.bound })
        })
        .collect();
    answers.sort_by(|a, b| a.bound.0.total_cmp(&b.bound.0));
    devices.chain(answers).collect()
}

fn witness(name: String, look: Result<Reading, LookError>) -> Option<Witness> {
    let reading = look.ok()?;
    let ahead = match reading.scale {
        TimeScale::Utc => 0,
        TimeScale::Tai(offset) => offset.unwrap_or(TAI_UTC_S),
        TimeScale::Unknown => return None,
    };
    let time = WallTime::from_nanos(reading.device_ns) + Span::from_secs(-i64::from(ahead));
    let bound = reading.dispersion + Seconds::from(reading.width.half());
    Some(Witness { name, offset: Seconds::from(time - reading.at.wall), bound })
}

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let Some(live) = &evidence.live else { return Vec::new() };
    let witnesses = witnesses(live);
    let mut found: Vec<Finding> =
        witnesses.first().and_then(|witness| judge(witness, live)).into_iter().collect();
    found.extend(past(&evidence.tree, live));
    if witnesses.is_empty() && !live.answers.is_empty() {
        let said: Vec<&str> =
            live.answers.iter().filter_map(|answer| Some(answer.result.as_ref().err()?.as_str())).collect();
        found.push(SILENT.seen(said.join("; ")));
    }
    found.extend(disagreement(&witnesses));
    found
}

fn judge(witness: &Witness, live: &Live) -> Option<Finding> {
    let Witness { name, offset, bound } = witness;
    let size = offset.abs() - *bound;
    if size.0 < OFF_FROM.0 {
        return None;
    }
    let side = if offset.0 > 0.0 { "behind" } else { "ahead of" };
    let plain = |seconds: Seconds| seconds.abs().to_string().trim_start_matches('+').to_owned();
    let mut seen = format!("this clock is {} {side} {name}, give or take {}", plain(*offset), plain(*bound));
    if let Ok(rtc) = live.rtc {
        let agrees = if (rtc - *offset).abs().0 < 2.0 { "agrees with it" } else { "does not" };
        seen.push_str(&format!("; the real-time clock {agrees}"));
    }
    let kind = if (offset.abs().0 - f64::from(TAI_UTC_S)).abs() < 0.5 + bound.0 {
        &TAI
    } else if zone_difference(*offset, *bound).is_some() {
        &ZONE
    } else if size.0 < WRONG_FROM.0 {
        &OFF
    } else {
        &WRONG
    };
    Some(kind.seen(seen))
}

fn past(tree: &Tree, live: &Live) -> Option<Finding> {
    let written = |path: &&'static str| {
        let time = tree.resolve(path)?.metadata().ok()?.modified().ok()?;
        Some((time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64(), *path))
    };
    let (floor, path) = FLOORS.iter().filter_map(written).max_by(|a, b| a.0.total_cmp(&b.0))?;
    let behind = Seconds(floor - Seconds::from(live.now - WallTime::from_nanos(0)).0);
    (behind.0 > FLOOR_MARGIN.0).then(|| PAST.seen(format!("/{path} was written {behind} from now")))
}

fn disagreement(witnesses: &[Witness]) -> Option<Finding> {
    let pairs = witnesses
        .iter()
        .enumerate()
        .flat_map(|(index, one)| witnesses.iter().skip(index + 1).map(move |other| (one, other)));
    let apart = |(one, other): &(&Witness, &Witness)| {
        (one.offset - other.offset).abs().0 > (one.bound + other.bound + AGREE).0
    };
    let (one, other) = pairs.into_iter().find(apart)?;
    Some(DISAGREE.seen(format!(
        "{} says {} ± {}, {} says {} ± {}",
        one.name,
        one.offset,
        one.bound.to_string().trim_start_matches('+'),
        other.name,
        other.offset,
        other.bound.to_string().trim_start_matches('+')
    )))
}

#[cfg(test)]
mod tests {
    use super::super::answers::Answer;
    use super::super::evidence::planted::{ids, machine};
    use super::*;

    fn with(offsets: &[f64]) -> Live {
        let answers = offsets.iter().map(|offset| Answer::planted("ntp:10.0.2.2", *offset)).collect();
        Live { answers, ..Live::healthy() }
    }

    fn found(live: Live) -> Vec<&'static str> {
        ids(&find(&machine(&[], live).1))
    }

    #[test]
    fn an_error_is_told_by_its_size_and_kind() {
        for (offset, id) in [
            (0.02, &[][..]),
            (-0.2, &["time-is-off"]),
            (12.0, &["time-is-wrong"]),
            (-37.02, &["wrong-by-tai"]),
            (3_600.2, &["wrong-by-zone"]),
            (-20_700.0, &["wrong-by-zone"]),
            (3_700.0, &["time-is-wrong"]),
        ] {
            assert_eq!(found(with(&[offset])), id, "{offset}");
        }
    }

    #[test]
    fn silence_and_contradiction_are_told() {
        let silent =
            Answer { source: "ntp:10.0.2.2".to_owned(), result: Err("10.0.2.2: no answer".to_owned()) };
        assert_eq!(found(Live { answers: vec![silent], ..Live::healthy() }), ["no-source-answers"]);
        assert_eq!(found(with(&[])), [""; 0], "nobody was asked");
        assert_eq!(found(with(&[0.0, 0.04])), ["sources-disagree"]);
        assert_eq!(found(with(&[0.0, 0.003])), [""; 0]);
    }

    #[test]
    fn a_clock_before_its_own_systems_files_is_told() {
        let now = WallTime::from_parts(315_532_800, 0);
        let (_root, evidence) = machine(&[("usr/lib/os-release", "ID=x\n")], Live { now, ..with(&[]) });
        assert_eq!(ids(&find(&evidence)), ["time-in-the-past"]);
    }
}
