//! The search goes on while the daemon runs: drivers are loaded and networks configured late, leases change, and a laptop wakes elsewhere.
//!
//! What follows from a change is found by a glance; servers are asked on a thread of its own, and only where the glance found something new or nothing in use gives
//! the time.

use std::os::fd::BorrowedFd;

use driftless_core::report::{Report, State};
use driftless_core::time::{RawTime, Span};

use super::changes::Changes;
use super::{Found, Machine, Survey};
use crate::errand::Errands;

/// The search, and what it knows.
#[derive(Debug)]
pub(crate) struct Search {
    machine: Machine,
    errands: Errands<Survey>,
    is_out: bool,
    /// Nothing can be found that is better: sources were configured, or named where nothing can change.
    is_over: bool,
    changes: Changes,
    began: RawTime,
    /// None where there is nothing to look for before something changes.
    next: Option<RawTime>,
    /// What the last survey found, to be compared with a glance.
    seen: Vec<String>,
    is_network_silent: bool,
}

/// Between two searches while nothing gives the time but, perhaps, the RTC; and otherwise, where changes are not told.
const EVERY: (Span, Span) = (Span::from_secs(10), Span::from_secs(60));
/// Servers that have not answered by then are taken for ones that do not serve time.
const PATIENCE: Span = Span::from_secs(30);
/// An address comes before the lease's file, and seldom alone.
const SETTLE: Span = Span::from_secs(1);

impl Search {
    /// Begins at once, unless what `glance` saw leaves nothing to be found. In place where `is_plain`: without threads and news.
    pub(crate) fn new(now: RawTime, is_plain: bool, glance: Option<&Survey>) -> Self {
        let is_over = glance.is_none_or(Survey::is_told);
        let is_settled = glance.is_none_or(|survey| survey.has_usable(super::Rank::Hypervisor));
        Self {
            machine: Machine::here(),
            errands: Errands::new(is_plain),
            is_out: false,
            is_over,
            changes: if is_over || is_plain { Changes::default() } else { Changes::watch() },
            began: now,
            next: (!is_over).then(|| if is_settled { now + EVERY.1 } else { now }),
            seen: glance.map(signature).unwrap_or_default(),
            is_network_silent: false,
        }
    }

    /// When to search next.
    pub(crate) const fn due(&self) -> Option<RawTime> {
        if self.is_out { None } else { self.next }
    }

    /// What to wait on.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.errands.wake().into_iter().chain(self.changes.waiting())
    }

    /// Something woke us.
    pub(crate) fn woken(&mut self, now: RawTime) {
        self.errands.drain();
        if self.changes.take() {
            self.hurry(now);
        }
    }

    /// Something changed: look soon.
    pub(crate) fn hurry(&mut self, now: RawTime) {
        if !self.is_over {
            let soon = now + SETTLE;
            self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
        }
    }

    /// Does what is due, `report` being how things are with `present`, the sources in use. What to use instead, if it is something else.
    pub(crate) fn turn(
        &mut self,
        now: RawTime,
        present: &[String],
        report: impl Fn() -> Report,
    ) -> Option<Found> {
        if let Some(survey) = self.errands.finished() {
            self.is_out = false;
            self.seen = signature(&survey);
            return self.judge(now, present, &report(), &survey);
        }
        if self.is_out || self.next.is_none_or(|next| now < next) {
            return None;
        }
        let report = &report();
        let is_poor = is_lost(report) || follows(report, "rtc:") || report.state == State::Holdover;
        let other = if self.changes.is_any() { None } else { Some(now + EVERY.1) };
        self.next = if is_poor { Some(now + EVERY.0) } else { other };
        self.changes.renew();
        if !is_poor && (!follows(report, "ntp") || signature(&Survey::glance(&self.machine)) == self.seen) {
            return None;
        }
        self.is_out = true;
        let machine = self.machine.clone();
        self.errands.start(move || Survey::look(&machine, false), Survey::default);
        let survey = self.errands.finished()?;
        // In place: it is here already.
        self.is_out = false;
        self.judge(now, present, report, &survey)
    }

    /// Whether what the survey found is better than what is in use.
    fn judge(&mut self, now: RawTime, present: &[String], report: &Report, survey: &Survey) -> Option<Found> {
        let is_late = is_lost(report) && now - self.began >= PATIENCE;
        self.is_network_silent |= follows(report, "rtc:") || is_late;
        let found = survey.choose(self.is_network_silent && (is_late || follows(report, "rtc:")));
        let is_listed = |spec: &String| survey.candidates.iter().any(|one| &one.spec == spec);
        let is_same =
            found.sources.iter().all(|spec| present.contains(spec)) && present.iter().all(is_listed);
        // What is in use and only fell silent for a moment is kept: the engine knows how long to believe it.
        if found.sources.is_empty() || is_same {
            found.why.iter().for_each(|line| log::debug!("{line}"));
            return None;
        }
        self.next = Some(self.next.map_or(now + EVERY.0, |next| next.min(now + EVERY.0)));
        Some(found)
    }
}

/// What tells two surveys apart.
fn signature(survey: &Survey) -> Vec<String> {
    survey.candidates.iter().map(|one| one.spec.split('?').next().unwrap_or_default().to_owned()).collect()
}

fn follows(report: &Report, kind: &str) -> bool {
    report.source.as_ref().is_some_and(|source| source.starts_with(kind))
}

fn is_lost(report: &Report) -> bool {
    report.source.is_none() || report.state == State::Unsynchronised
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tests::{silent, survey};
    use crate::discovery::{Asked, Rank};

    const RTC: (&str, Rank, Asked) = ("rtc:/dev/rtc0", Rank::LastResort, Asked::Works);
    const GATEWAY: &str = "ntp:10.0.2.2";

    fn report(source: Option<&str>, state: State) -> Report {
        serde_json::from_value(serde_json::json!({
            "state": state, "observe": false, "source": source, "stratum": 16, "reference_id": null, "leap": "none", "steps": 0,
            "interruptions": 0, "other_writers": [], "sources": []
        }))
        .unwrap()
    }

    fn at(seconds: i64) -> RawTime {
        RawTime::from_nanos(0) + Span::from_secs(seconds)
    }

    fn search() -> Search {
        Search::new(at(0), true, Some(&Survey::default()))
    }

    fn gateway(asked: Asked) -> Survey {
        survey(&[(GATEWAY, Rank::Guess, asked), RTC])
    }

    fn sources(found: Option<Found>) -> Option<Vec<String>> {
        found.map(|found| found.sources)
    }

    #[test]
    fn a_gateway_that_says_nothing_is_helped_out_by_the_rtc_and_taken_when_it_answers() {
        let mut search = search();
        let nothing = report(None, State::Unsynchronised);
        for seconds in [1, 10, 29] {
            assert_eq!(search.judge(at(seconds), &[], &nothing, &gateway(silent())), None, "{seconds}");
        }
        let found = search.judge(at(30), &[], &nothing, &gateway(silent()));
        assert_eq!(sources(found), Some(vec!["rtc:/dev/rtc0".to_owned()]));
        let present = ["rtc:/dev/rtc0".to_owned()];
        let poor = report(Some("rtc:/dev/rtc0"), State::Synchronised);
        assert_eq!(search.judge(at(40), &present, &poor, &gateway(silent())), None);
        let found = search.judge(at(50), &present, &poor, &gateway(Asked::Works));
        assert_eq!(sources(found), Some(vec![GATEWAY.to_owned()]));
    }

    #[test]
    fn a_source_in_use_that_falls_silent_for_a_moment_is_kept() {
        let present = ["ntp:10.0.0.1".to_owned(), "ntp:10.0.0.2".to_owned()];
        let good = report(Some("ntp:10.0.0.1"), State::Synchronised);
        let seen = survey(&[
            ("ntp:10.0.0.1", Rank::HandedOver, Asked::Works),
            ("ntp:10.0.0.2", Rank::HandedOver, silent()),
        ]);
        assert_eq!(search().judge(at(60), &present, &good, &seen), None);
        let held = report(Some("ntp:10.0.0.1"), State::Holdover);
        assert_eq!(
            search().judge(at(600), &present[..1], &held, &gateway(silent())),
            None,
            "nor for the RTC"
        );
    }

    #[test]
    fn one_that_is_not_offered_any_more_is_left_for_one_that_answers() {
        let present = ["ntp:10.0.0.1".to_owned()];
        let good = report(Some("ntp:10.0.0.1"), State::Synchronised);
        let found = search().judge(
            at(60),
            &present,
            &good,
            &survey(&[("ntp:10.9.0.1", Rank::HandedOver, Asked::Works)]),
        );
        assert_eq!(sources(found), Some(vec!["ntp:10.9.0.1".to_owned()]));
    }

    #[test]
    fn a_better_one_that_comes_later_is_taken() {
        let present = [GATEWAY.to_owned()];
        let good = report(Some(GATEWAY), State::Synchronised);
        let seen = survey(&[
            ("phc:/dev/ptp0", Rank::Hypervisor, Asked::Works),
            (GATEWAY, Rank::Guess, Asked::Works),
        ]);
        let found = search().judge(at(60), &present, &good, &seen).unwrap();
        assert_eq!(found.sources, ["phc:/dev/ptp0"]);
        assert!(
            found
                .why
                .iter()
                .any(|line| line.contains("10.0.2.2") && line.contains("phc:/dev/ptp0 is better")),
            "{found:?}"
        );
    }

    #[test]
    fn nothing_is_searched_for_where_sources_were_configured_or_told() {
        let told = survey(&[("ntp:10.0.0.1", Rank::Told, Asked::NotYet)]);
        for glance in [None, Some(&told)] {
            let mut search = Search::new(at(0), false, glance);
            search.hurry(at(1));
            assert_eq!((search.due(), search.changes.waiting().count()), (None, 0));
            let lost = || report(None, State::Unsynchronised);
            assert_eq!(search.turn(at(1_000), &[], lost), None);
        }
    }

    #[test]
    fn a_hypervisors_clock_needs_no_search_until_something_changes() {
        let seen = survey(&[("phc:/dev/ptp0", Rank::Hypervisor, Asked::Works)]);
        let mut search = Search::new(at(0), true, Some(&seen));
        let good = || report(Some("phc:/dev/ptp0"), State::Synchronised);
        assert_eq!(search.turn(at(60), &["phc:/dev/ptp0".to_owned()], good), None);
        search.hurry(at(70));
        assert_eq!(search.due(), Some(at(71)));
    }
}
