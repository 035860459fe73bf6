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
