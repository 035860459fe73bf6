//! Who is followed, what they say together, and whether it was the guest that was interrupted or a source that was stepped.

use crate::clock::Leap;
use crate::disruption::{Jump, Sign};
use crate::estimator::{Estimate, Verdict};
use crate::event::Event;
use crate::selection::{Candidate, combine, select};
use crate::source::{LookError, Reading, SourceClass, SourceId};
use crate::time::{Now, RawTime, Seconds, Span, WallTime};

use super::{DOUBT_BURST, Engine, Policy, Source};

/// What is left open of a source that was not looked at since an interruption which others saw.
const UNSEEN_SD: Seconds = Seconds(0.1);
/// How long the first setting waits for a majority of the sources: one liar may be quicker than they.
const QUORUM_PATIENCE: Span = Span::from_secs(8);
/// How long it waits for a better source than the RTC, whose first looks come in these seconds.
const BETTER_PATIENCE: Span = Span::from_secs(2);

impl Engine {
    /// A sample was taken in: what it means for the guest.
    pub(super) fn judged(&mut self, now: Now, id: SourceId, looked: RawTime, verdict: Verdict) {
        match verdict {
            Verdict::Doubtful => self.compare_sources(now),
            Verdict::Jumped(by) => {
                let after = self.sources.get(usize::from(id.0)).map_or(looked, |source| source.fitted);
                let alike = self.disruption.jumped(Jump { id, after, seen: looked, by });
                self.emit(Event::Jumped { source: id, by });
                if self.source(id).is_some_and(Source::is_rtc) && self.holds_better(now) {
                    self.rtc_moved(id, looked, by);
                    self.explain_moves(now);
                } else if self.is_carried(now, &alike) {
                    self.interrupted(now, &alike, (looked, by), UNSEEN_SD);
                }
            }
            // An RTC's own noise, or its setting: it tells too little of rates.
            Verdict::RateChanged(by) if self.source(id).is_some_and(Source::is_rtc) => {
                self.emit(Event::RateChanged { source: id, by });
            }
            Verdict::RateChanged(by) => {
                if self.agreeing.contains(&id) {
                    self.steering.phase_back();
                }
                for source in self.sources.iter_mut().filter(|source| !source.is_live(now)) {
                    source.is_obsolete = true;
                }
                self.emit(Event::RateChanged { source: id, by });
            }
            Verdict::PathChanged(by) => self.emit(Event::PathChanged { source: id, by }),
            Verdict::Usual | Verdict::Ignored | Verdict::Outlier => {}
        }
    }

    /// Whether enough of the sources that answer jumped alike, a sign from elsewhere counting as one of them. The counter is common to all, whatever
    /// their tier; only an RTC does not vote beside others: it is looked at that seldom, and set by the kernel itself.
    fn is_carried(&self, now: Now, alike: &[SourceId]) -> bool {
        let is_rtc_alone = self.best_tier(now) == Some(SourceClass::Rtc.tier(true));
        let has_vote = |source: &Source| !source.is_rtc() || is_rtc_alone;
        let live = self.sources.iter().filter(|source| source.is_live(now) && has_vote(source)).count();
        let jumped = |id: &&SourceId| self.sources.get(usize::from(id.0)).is_some_and(has_vote);
        let votes = alike.iter().filter(jumped).count();
        votes > 0 && (votes + usize::from(self.disruption.has_witness(now.raw))) * 2 > live
    }

    /// Something may have stopped the guest or moved its clock: nothing is steered before a source was looked at, which is done at once.
    pub(super) fn distrust(&mut self, now: Now, sign: Sign) {
        let is_new = self.disruption.suspect(now.raw, sign);
        if matches!(sign, Sign::NewGeneration | Sign::Disruption) {
            self.forget_edges();
        }
        if !is_new {
            return;
        }
        for source in &mut self.sources {
            source.estimator.expect_jump();
            source.inquiry.schedule_mut().hurry(now.raw, DOUBT_BURST);
        }
        self.emit(Event::Suspected { sign });
    }

    /// A followed source was looked at since the sign, and its look fits or is explained: the verdict. Returns whether there was one.
    pub(super) fn settle(&mut self, now: Now, id: SourceId, looked: RawTime) -> bool {
        let is_explained = self.sources.get(usize::from(id.0)).is_some_and(|s| !s.estimator.is_in_doubt());
        if !is_explained || !(self.agreeing.contains(&id) || self.disruption.is_confirmed()) {
            return false;
        }
        let Some(estimate) = self.estimate(now) else { return false };
        let at = now.wall + estimate.offset.to_span();
        let (is_settled, found) = self.disruption.settle((looked, at), estimate.offset);
        if let Some(interruption) = found {
            self.steering.interrupted();
            // The look that showed it may have been a late one.
            for source in self.sources.iter_mut().filter(|source| source.is_live(now) && source.is_near()) {
                source.inquiry.schedule_mut().press(now.raw, DOUBT_BURST);
            }
            self.emit(Event::Interrupted(interruption));
        } else if is_settled {
            self.emit(Event::Unchanged);
        }
        is_settled
    }

    /// A look does not fit: every source that answers is looked at soon, so that they can be compared.
    fn compare_sources(&mut self, now: Now) {
        for source in self.sources.iter_mut().filter(|source| source.is_live(now)) {
            source.look_closely(now);
        }
    }

    /// The guest stood still: the counter is common to all sources, so that those which were not looked at since are taken to have moved as
    /// well. What they said before must not outvote what is seen now; their next look corrects what is wrong about it.
    pub(super) fn interrupted(
        &mut self,
        now: Now,
        alike: &[SourceId],
        (looked, by): (RawTime, Seconds),
        sd: Seconds,
    ) {
        self.disruption.confirmed(looked, by);
        for (id, source) in self.ids().zip(&mut self.sources) {
            source.moved = None;
            if !alike.contains(&id) {
                source.estimator.absorb_jump(by, sd);
            }
        }
        self.compare_sources(now);
    }

    /// Selection over all sources that ever answered. A silent one keeps its vote as long as its bound means something, so that a
    /// liar does not win by waiting until the honest are gone; but only who answers is followed.
    pub(super) fn choose(&mut self, now: Now) {
        let best = self.best_tier(now);
        let has_vote = |source: &Source| {
            !source.is_rtc() && best.is_some_and(|best| self.tier(source) <= best) && !source.is_obsolete
        };
        let estimates: Vec<(SourceId, bool, Estimate)> = self
            .ids()
            .zip(&self.sources)
            .filter(|(_, source)| has_vote(source))
            .filter_map(|(id, source)| Some((id, source.is_live(now), source.estimator.estimate(now)?)))
            .collect();
        let candidate =
            |(id, _, e): &(SourceId, bool, Estimate)| Candidate { id: *id, offset: e.offset, bound: e.bound };
        let selection = select(&estimates.iter().map(candidate).collect::<Vec<_>>(), self.followed);
        let live = estimates.iter().filter(|(id, is_live, _)| *is_live && selection.agreeing.contains(id));
        let live: Vec<(SourceId, Seconds)> = live.map(|(id, _, e)| (*id, e.bound)).collect();
        let tightest = live.iter().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(id, _)| *id);
        let chosen = selection.chosen.filter(|id| live.iter().any(|(other, _)| other == id)).or(tightest);
        self.agreeing = live.into_iter().map(|(id, _)| id).collect();
        // Nobody answers who agrees: who was followed last is held on to, unless he contradicts the others.
        let held = self.followed.filter(|id| selection.agreeing.contains(id));
        let left = estimates.iter().filter(|(id, _, _)| selection.agreeing.contains(id)).map(|(_, _, e)| *e);
        let left = left.min_by(|a, b| a.bound.0.total_cmp(&b.bound.0));
        let (resort, refused) = if best == Some(SourceClass::Rtc.tier(true)) {
            self.last_resort(now, left)
        } else {
            (None, None)
        };
        self.agreeing.extend(resort);
        for id in self.ids() {
            self.set_false(id, selection.falsetickers.contains(&id) || refused == Some(id));
        }
        let followed = chosen.or(resort).or(held);
        if followed != self.followed {
            self.followed = followed;
            self.emit(Event::Selected { source: followed });
            self.tell_last_resort(now);
        }
    }

    fn set_false(&mut self, id: SourceId, is_false: bool) {
        let Some(source) = self.source_mut(id) else { return };
        let was_false = core::mem::replace(&mut source.is_falseticker, is_false);
        if is_false && !was_false {
            self.emit(Event::Falseticker { source: id });
        }
    }

    /// What is known of the time: what all who are followed say together, and what an RTC adds.
    #[must_use]
    pub fn estimate(&self, now: Now) -> Option<Estimate> {
        Some(self.with_last_resort(now, self.said(now)?))
    }

    /// What all who are followed say together.
    pub(super) fn said(&self, now: Now) -> Option<Estimate> {
        let of = |id: &SourceId| self.source(*id)?.estimate(now);
        match self.agreeing.as_slice() {
            [] => of(&self.followed?),
            agreeing => combine(&agreeing.iter().filter_map(of).collect::<Vec<_>>()),
        }
    }

    /// Whether anybody who is followed was contradicted by its last look: nothing is steered until that is settled.
    pub(super) fn is_in_doubt(&self, now: Now) -> bool {
        let in_doubt = |id: &SourceId| {
            self.sources.get(usize::from(id.0)).is_some_and(|source| source.estimator.is_in_doubt())
        };
        self.disruption.is_open(now.raw) || self.agreeing.iter().chain(self.followed.iter()).any(in_doubt)
    }

    /// Whether enough of the sources were heard for the first setting.
    pub(super) fn has_quorum(&self, now: Now) -> bool {
        let Some(best) = self.best_tier(now) else { return false };
        // A better source than the RTC alone is waited for.
        let is_last_resort = best == SourceClass::Rtc.tier(true);
        let patience = if is_last_resort { BETTER_PATIENCE } else { QUORUM_PATIENCE };
        let is_asked = |source: &&Source| self.tier(source) == best || is_last_resort;
        let asked = self.sources.iter().filter(is_asked).count();
        self.agreeing.len() * 2 > asked || now.raw - self.started > patience
    }

    /// Another source's idea of the time of a reading, if one is followed.
    pub(super) fn truth_beside(&self, id: SourceId, result: &Result<Reading, LookError>) -> Option<WallTime> {
        let at = result.as_ref().ok()?.at;
        let followed = self.followed_source().filter(|_| self.followed != Some(id))?;
        Some(at.wall + followed.estimate(at)?.offset.to_span())
    }

    /// The leap second as the followed source announces it.
    pub(super) fn leap(&self) -> Leap {
        self.followed_source().map_or(Leap::Unknown, |source| source.inquiry.seen().leap)
    }

    pub(super) fn followed_source(&self) -> Option<&Source> {
        self.sources.get(usize::from(self.followed?.0))
    }

    /// The nearest tier in which a source answers: under the policy `host` the hypervisor's clock is followed even where it is wrong, so
    /// that host and guest agree.
    fn best_tier(&self, now: Now) -> Option<u8> {
        let heard = |source: &&Source| source.is_live(now) && source.estimator.samples() > 0;
        let live = self.sources.iter().filter(heard).map(|source| self.tier(source)).min();
        live.or_else(|| self.followed_source().map(|source| self.tier(source)))
    }

    const fn tier(&self, source: &Source) -> u8 {
        source.inquiry.config().class.tier(matches!(self.config.policy, Policy::Host))
    }
}
