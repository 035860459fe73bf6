//! Which sources to use when nobody named any: the hypervisor's clock before the default gateway, and the RTC as the last resort.
//!
//! A clock that the hypervisor keeps needs no network and is a few microseconds away; only kinds whose time and scale are known are taken
//! without being asked. On a desktop hypervisor the default gateway is the host, and may serve time. The RTC knows no more than its second.

use std::net::Ipv4Addr;
use std::path::Path;

use driftless_core::report::{Report, State};
use driftless_core::source::LookError;
use driftless_core::time::{RawTime, Span};
use driftless_linux::phc::Phc;
use driftless_linux::phc_list::{self, PhcInfo};
use driftless_linux::rtc;
use driftless_linux::vmclock::{self, VmClock};

use crate::spec;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// SPECs to use.
    pub sources: Vec<String>,
    /// Why these and no others, a line each.
    pub why: Vec<String>,
}

/// What this machine has.
#[derive(Debug)]
struct Machine {
    /// The vmclock page, if there is one, and whether it gives time.
    vmclock: Option<Result<(), LookError>>,
    /// Trusted PTP clocks, the most trusted first, and whether they give time.
    phcs: Vec<(PhcInfo, Result<(), LookError>)>,
    gateway: Option<Ipv4Addr>,
    has_rtc: bool,
}

/// Looks at this machine. `is_gateway_silent` takes the RTC beside a gateway that does not answer.
#[must_use]
pub fn find(is_gateway_silent: bool) -> Found {
    Machine::here().choose(is_gateway_silent)
}

impl Machine {
    fn here() -> Self {
        let device = Path::new(vmclock::DEVICE);
        let vmclock = device.exists().then(|| VmClock::open(device).and_then(|clock| clock.look()).map(drop));
        let trusted =
            phc_list::list(Path::new(phc_list::LIST)).into_iter().filter(|info| info.kind.is_trusted());
        Self {
            vmclock,
            phcs: trusted.map(|info| (info.clone(), Phc::open(info).map(drop))).collect(),
            gateway: spec::default_gateway(),
            has_rtc: Path::new(rtc::DEVICE).exists(),
        }
    }

    fn choose(&self, is_gateway_silent: bool) -> Found {
        let mut found = Found::default();
        match self.vmclock {
            Some(Ok(())) => {
                found.take(format!("vmclock:{}", vmclock::DEVICE), "the hypervisor's page of time");
                return found;
            }
            // A page that is only a marker is watched, not asked.
            Some(Err(LookError::NoTime)) | None => {}
            Some(Err(error)) => found.leave(vmclock::DEVICE, error),
        }
        for (info, result) in &self.phcs {
            let path = info.path.display();
            match result {
                Ok(()) => {
                    found.take(format!("phc:{path}"), &format!("{}, the hypervisor's clock", info.name));
                    return found;
                }
                Err(error) => found.leave(&path.to_string(), *error),
            }
        }
        if let Some(gateway) = self.gateway {
            found.take(
                format!("ntp:{gateway}"),
                "the default gateway: on a desktop hypervisor it is the host",
            );
        }
        if self.has_rtc && (self.gateway.is_none() || is_gateway_silent) {
            let why = match self.gateway {
                Some(_) => "the default gateway gives no time",
                None => "there is nothing else, and no default gateway to ask",
            };
            found
                .take(format!("rtc:{}", rtc::DEVICE), &format!("{why}; its phase may be up to a second off"));
        }
        if found.sources.is_empty() {
            found.why.push(
                "no source: no hypervisor's clock, no default gateway, no real-time clock; looking again"
                    .into(),
            );
        }
        found
    }
}

impl Found {
    fn take(&mut self, spec: String, why: &str) {
        self.why.push(format!("found {spec}: {why}"));
        self.sources.push(spec);
    }

    fn leave(&mut self, device: &str, error: LookError) {
        self.why.push(format!("found {device}, not used: {error}"));
    }
}

/// The search goes on while what was found is not the best that there could be: drivers are loaded and networks configured late.
#[derive(Debug)]
pub(crate) struct Search {
    began: RawTime,
    next: RawTime,
    is_gateway_silent: bool,
}

/// Between two searches while nothing gives the time but, perhaps, the RTC; and otherwise.
const EVERY: (Span, Span) = (Span::from_secs(10), Span::from_secs(60));
/// A gateway that has not answered by then is taken for one that does not serve time.
const GATEWAY_PATIENCE: Span = Span::from_secs(30);

impl Search {
    pub(crate) fn new(now: RawTime) -> Self {
        Self { began: now, next: now + EVERY.0, is_gateway_silent: false }
    }

    /// When to search next.
    pub(crate) const fn due(&self) -> RawTime {
        self.next
    }

    /// Searches anew if it is time to, `report` being how things are with `present`, the sources in use. What to use instead, if it is something else.
    pub(crate) fn turn(
        &mut self,
        now: RawTime,
        present: &[String],
        report: &Report,
        find: impl FnOnce(bool) -> Found,
    ) -> Option<Found> {
        if now < self.next {
            return None;
        }
        let follows = |kind: &str| report.source.as_ref().is_some_and(|source| source.starts_with(kind));
        let is_lost = report.source.is_none() || report.state == State::Unsynchronised;
        let is_poor = is_lost || follows("rtc:");
        self.next = now + if is_poor { EVERY.0 } else { EVERY.1 };
        // What works is not given up for a gateway that nobody has heard yet.
        self.is_gateway_silent |= follows("rtc:") || (is_lost && now - self.began >= GATEWAY_PATIENCE);
        if !is_poor && !follows("ntp:") {
            return None;
        }
        let found = find(self.is_gateway_silent);
        (found.sources != present && !found.sources.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn bare() -> Machine {
        Machine { vmclock: None, phcs: Vec::new(), gateway: None, has_rtc: false }
    }

    fn phc(path: &str, result: Result<(), LookError>) -> (PhcInfo, Result<(), LookError>) {
        (PhcInfo::unlisted(PathBuf::from(path)), result)
    }

    fn chosen(machine: &Machine) -> Vec<String> {
        machine.choose(false).sources
    }

    #[test]
    fn the_hypervisors_clock_comes_first_and_needs_no_network() {
        let gateway = Some(Ipv4Addr::new(10, 0, 2, 2));
        let mut machine = Machine { gateway, has_rtc: true, ..bare() };
        assert_eq!(chosen(&machine), ["ntp:10.0.2.2"]);
        machine.phcs = vec![phc("/dev/ptp1", Err(LookError::Frozen)), phc("/dev/ptp0", Ok(()))];
        assert_eq!(chosen(&machine), ["phc:/dev/ptp0"]);
        assert!(
            machine.choose(false).why[0].contains("/dev/ptp1, not used: the device's clock stands still")
        );
        machine.vmclock = Some(Ok(()));
        assert_eq!(chosen(&machine), ["vmclock:/dev/vmclock0"]);
        machine.vmclock = Some(Err(LookError::NoTime));
        machine.phcs.truncate(1);
        assert_eq!(
            chosen(&machine),
            ["ntp:10.0.2.2"],
            "a marker and a clock that stands still are no sources"
        );
    }

    #[test]
    fn the_rtc_is_the_last_resort() {
        let mut machine = Machine { has_rtc: true, ..bare() };
        assert_eq!(chosen(&machine), ["rtc:/dev/rtc0"]);
        machine.gateway = Some(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(chosen(&machine), ["ntp:192.0.2.1"]);
        assert_eq!(machine.choose(true).sources, ["ntp:192.0.2.1", "rtc:/dev/rtc0"]);
        let nothing = bare().choose(true);
        assert!(nothing.sources.is_empty() && nothing.why[0].contains("no source"));
    }

    #[test]
    fn every_choice_says_why() {
        let found = find(true);
        assert!(found.why.len() >= found.sources.len().max(1), "{found:?}");
    }
    fn report(source: Option<&str>, state: State) -> Report {
        let source = source.map(str::to_owned);
        serde_json::from_value(serde_json::json!({
            "state": state, "observe": false, "source": source, "stratum": 16, "reference_id": null, "leap": "none", "steps": 0,
            "interruptions": 0, "other_writers": [], "sources": []
        }))
        .unwrap()
    }

    #[test]
    fn a_gateway_that_says_nothing_is_helped_out_by_the_rtc_and_a_better_clock_taken_when_it_comes() {
        let at = |seconds| RawTime::from_nanos(0) + Span::from_secs(seconds);
        let gateway = Some(Ipv4Addr::new(192, 0, 2, 1));
        let mut machine = Machine { gateway, has_rtc: true, ..bare() };
        let mut search = Search::new(at(0));
        let silent = report(None, State::Unsynchronised);
        let present = chosen(&machine);
        for seconds in [5, 10, 20] {
            assert_eq!(search.turn(at(seconds), &present, &silent, |silent| machine.choose(silent)), None);
        }
        let found = search.turn(at(30), &present, &silent, |silent| machine.choose(silent)).unwrap();
        assert_eq!(found.sources, ["ntp:192.0.2.1", "rtc:/dev/rtc0"]);
        let poor = report(Some("rtc:/dev/rtc0"), State::Synchronised);
        assert_eq!(search.turn(at(40), &found.sources, &poor, |silent| machine.choose(silent)), None);
        machine.phcs = vec![phc("/dev/ptp0", Ok(()))];
        let better = search.turn(at(50), &found.sources, &poor, |silent| machine.choose(silent)).unwrap();
        assert_eq!(better.sources, ["phc:/dev/ptp0"]);
        let good = report(Some("phc:/dev/ptp0"), State::Synchronised);
        assert_eq!(search.turn(at(60), &better.sources, &good, |_| panic!("nothing is better")), None);
    }

    #[test]
    fn an_rtc_in_use_is_kept_beside_a_gateway_that_comes_later() {
        let gateway = Some(Ipv4Addr::new(192, 0, 2, 1));
        let machine = Machine { gateway, has_rtc: true, ..bare() };
        let poor = report(Some("rtc:/dev/rtc0"), State::Acquiring);
        let mut search = Search::new(RawTime::from_nanos(0));
        let at = RawTime::from_nanos(0) + Span::from_secs(10);
        let found =
            search.turn(at, &["rtc:/dev/rtc0".to_owned()], &poor, |silent| machine.choose(silent)).unwrap();
        assert_eq!(found.sources, ["ntp:192.0.2.1", "rtc:/dev/rtc0"]);
    }
}
