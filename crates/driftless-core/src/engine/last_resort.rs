//! The real-time clock as the last resort: learnt beside better sources, followed where none of them answers.
//!
//! It has no vote beside others, and it never stands against them: who fell silent left the counter's rate and the time to well below a
//! millisecond, which an RTC does not know better for hours. So where the RTC is followed, the tighter of the two counts for the
//! offset and the surer for the rate ([`Engine::estimate`]); what only the RTC can tell is that the guest stood still meanwhile.
//!
//! When it moves against the counter, the better sources say what that was, if one answers: an interruption, if they moved as well, else somebody
//! set it. Where none answers, a move is taken for somebody's setting if the RTC agrees with our clock afterwards, or moved
//! back, which no interruption does: the kernel sets it every 11 minutes while its clock is called synchronised.

use crate::disruption::Sign;
use crate::estimator::Estimate;
use crate::event::Event;
use crate::source::{Edge, SourceClass, SourceId, UNLEARNT};
use crate::time::{Now, RawTime, Seconds};

use super::{Engine, Method, Source};

/// A move of an RTC that nobody has explained yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    by: Seconds,
    /// The look that showed it.
    seen: RawTime,
    /// Something else than the RTC said that the guest was interrupted.
    has_witness: bool,
}

/// A setting leaves the RTC within this of the clock that it was set from: it shows whole seconds.
const SET_NEAR: Seconds = Seconds(1.2);
/// What an RTC's move leaves open of the others' time.
const MOVED_SD: Seconds = Seconds(0.05);
/// Who may say beside the RTC itself that the guest was interrupted.
const WITNESSES: [Sign; 6] =
    [Sign::WallMoved, Sign::Slept, Sign::LateTimer, Sign::Disruption, Sign::NewGeneration, Sign::Push];
/// Looks without an answer after which a source is not waited for to explain what an RTC did.
const SILENT_LOOKS: u8 = 0b11;

impl Engine {
    /// What the RTCs know, beside what the others do. Where an RTC is followed, the tighter counts for the offset and the surer for the rate. Where
    /// others are followed that are silent, an RTC may know the offset better since an interruption.
    pub(super) fn with_last_resort(&self, now: Now, said: Estimate) -> Estimate {
        let is_answered = self.agreeing.iter().filter_map(|id| self.source(*id)).any(Source::is_answering);
        let follows_rtc = self.followed_source().is_some_and(Source::is_rtc);
        if is_answered && !follows_rtc {
            return said;
        }
        let beside = self.sources.iter().filter(|source| match source.edge {
            Some(edge) => !follows_rtc && edge.is_learnt() && source.is_live(now),
            None => follows_rtc && !source.is_obsolete,
        });
        let beside = beside.filter(|source| !source.estimator.is_in_doubt());
        let both = beside.filter_map(|source| source.estimate(now)).fold(said, Estimate::tightened);
        if follows_rtc {
            return both;
        }
        Estimate { frequency: said.frequency, frequency_error: said.frequency_error, ..both }
    }

    /// The RTC to follow, since no better source answers, or the one that is not to be followed: `left` is what those who agreed left behind.
    pub(super) fn last_resort(
        &mut self,
        now: Now,
        left: Option<Estimate>,
    ) -> (Option<SourceId>, Option<SourceId>) {
        let rtcs = self.ids().zip(&self.sources).filter(|(_, source)| source.is_rtc() && source.is_live(now));
        let known = rtcs.filter_map(|(id, source)| Some((id, source.estimate(now)?)));
        let tightest = known.min_by(|a, b| a.1.bound.0.total_cmp(&b.1.bound.0));
        let Some((id, said)) = tightest else { return (None, None) };
        if left.is_none_or(|left| left.agrees_with(&said)) {
            return (Some(id), None);
        }
        if self.edge(id).is_some_and(|edge| edge.was_set()) {
            return (None, Some(id));
        }
        // Who is silent cannot say what happened since.
        for source in self.sources.iter_mut().filter(|source| !source.is_rtc()) {
            source.is_obsolete = true;
        }
        (Some(id), None)
    }

    /// Says how good the time of an RTC is that is followed from now on.
    pub(super) fn tell_last_resort(&mut self, now: Now) {
        let Some(source) = self.followed else { return };
        let Some((edge, said)) = self.edge(source).zip(self.said(now)) else { return };
        self.emit(Event::LastResort { source, is_learnt: edge.is_learnt(), bound: said.bound });
    }

    fn edge(&self, id: SourceId) -> Option<Edge> {
        self.source(id)?.edge
    }

    /// A look at an RTC beside a better source that answers: the phase of its second is learnt.
    pub(super) fn learn_edge(&mut self, now: Now, id: SourceId) {
        let Some(teacher) = self.followed_source().filter(|teacher| {
            !teacher.is_rtc() && teacher.is_answering() && !teacher.estimator.is_in_doubt()
        }) else {
            return;
        };
        let fitted = teacher.fitted;
        if self.disruption.is_open(now.raw) || self.agreeing.is_empty() {
            return;
        }
        let Some(truth) = self.said(now) else { return };
        let Some(source) = self.source_mut(id) else { return };
        let (Some(rtc), Some(edge)) = (source.estimator.estimate(now), source.edge.as_mut()) else { return };
        let is_explained = source.moved.is_none() && !source.estimator.is_in_doubt();
        if is_explained && fitted > source.jumped_at && edge.learn(now.raw, &rtc, &truth) {
            let (phase, error) = edge.phase(now.raw).unwrap_or((Seconds::ZERO, UNLEARNT));
            self.emit(Event::EdgeLearnt { source: id, phase, error });
        }
    }

    /// An RTC moved against the counter, beside sources that know better: they are to explain it.
    pub(super) fn rtc_moved(&mut self, id: SourceId, seen: RawTime, by: Seconds) {
        let has_witness = WITNESSES.into_iter().any(|sign| self.disruption.has_sign(sign));
        if let Some(source) = self.source_mut(id) {
            source.jumped_at = seen;
            source.moved = Some(Move { by, seen, has_witness });
        }
    }

    /// Explains what the RTCs did, as soon as that can be done.
    pub(super) fn explain_moves(&mut self, now: Now) {
        for id in self.ids() {
            let Some(moved) = self.source(id).and_then(|source| source.moved) else { continue };
            let better = || self.sources.iter().filter(|source| !source.is_rtc());
            // Had it jumped as well, the move would have been explained by that.
            let is_denied = better().any(|source| source.fitted > moved.seen);
            let is_awaited = better().any(|source| source.is_live(now) && source.is_answering());
            if is_denied {
                self.forget_edge(id, true);
            } else if !is_awaited {
                self.explain_alone(now, id, moved);
            }
        }
    }

    /// Nobody but the RTC is left to say what its move was.
    fn explain_alone(&mut self, now: Now, id: SourceId, moved: Move) {
        let shown = self.source(id).and_then(|source| source.estimator.estimate(now));
        let is_near = shown.is_some_and(|shown| shown.offset.abs() < SET_NEAR);
        if !moved.has_witness && (moved.by < Seconds::ZERO || is_near) {
            return self.forget_edge(id, true);
        }
        // Without a learnt edge the move itself may be off by a second: the RTC may be another one since.
        let is_learnt = self.edge(id).is_some_and(|edge| edge.is_learnt());
        let sd = if is_learnt { MOVED_SD } else { UNLEARNT * 0.5 };
        self.interrupted(now, &[id], (moved.seen, moved.by), sd);
        if self.config.method == Method::Dntpd {
            // Its regressions know of no doubt.
            self.sources
                .iter_mut()
                .filter(|source| !source.is_rtc())
                .for_each(|source| source.is_obsolete = true);
        }
    }

    /// This machine is another one now, or a copy: its RTCs may begin their seconds elsewhere.
    pub(super) fn forget_edges(&mut self) {
        self.ids().for_each(|id| self.forget_edge(id, false));
    }

    fn forget_edge(&mut self, id: SourceId, was_set: bool) {
        let Some(source) = self.source_mut(id) else { return };
        source.moved = None;
        if source.edge.as_mut().is_some_and(|edge| edge.forget(was_set)) {
            self.emit(Event::EdgeForgotten { source: id, was_set });
        }
    }

    /// Whether a better source than an RTC knows the time well enough to be compared with, though it may be silent.
    pub(super) fn holds_better(&self, now: Now) -> bool {
        let knows = |source: &Source| source.estimate(now).is_some_and(|estimate| estimate.bound < UNLEARNT);
        self.sources.iter().any(|source| !source.is_rtc() && !source.is_obsolete && knows(source))
    }
}

impl Source {
    pub(super) fn is_rtc(&self) -> bool {
        self.inquiry.config().class == SourceClass::Rtc
    }

    /// Whether it answered one of the last looks.
    fn is_answering(&self) -> bool {
        self.inquiry.seen().reach & SILENT_LOOKS != 0
    }

    /// What it says of the time, an RTC's edge considered.
    pub(super) fn estimate(&self, now: Now) -> Option<Estimate> {
        let said = self.estimator.estimate(now)?;
        Some(self.edge.map_or(said, |edge| edge.corrected(now.raw, said)))
    }

    /// An RTC's second stands somewhere.
    pub(super) fn edge_of(class: SourceClass) -> Option<Edge> {
        (class == SourceClass::Rtc).then(Edge::default)
    }
}
