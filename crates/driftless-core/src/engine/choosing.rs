//! Who is followed, what they say together, and whether it was the guest that was interrupted or a source that was stepped.

use crate::clock::Leap;
use crate::estimator::{Estimate, Verdict};
use crate::event::Event;
use crate::selection::{Candidate, combine, select};
use crate::source::{LookError, Reading, SourceId};
use crate::time::{Now, RawTime, Seconds, Span, WallTime};

use super::{Engine, Policy, Source};

/// Who of the sources jumped lately, and by how much: of several, a majority makes it the guest's interruption.
#[derive(Debug, Clone, Default)]
pub(super) struct Jumps {
    by: Vec<(SourceId, RawTime, Seconds)>,
}

/// Jumps further apart than this have nothing to do with each other: a public server may be asked that seldom even in a burst.
const TOGETHER: Span = Span::from_secs(30);
/// Jumps of different sources are one interruption when they differ by less than this part, or by less than 100 ms.
const ALIKE_PART: f64 = 0.05;
const ALIKE_MIN: Seconds = Seconds(0.1);
/// How long the first setting waits for a majority of the sources: one liar may be quicker than they.
const QUORUM_PATIENCE: Span = Span::from_secs(8);

impl Jumps {
    /// Notes a jump; returns how many sources jumped alike lately.
    fn add(&mut self, id: SourceId, at: RawTime, by: Seconds) -> usize {
        self.by.retain(|(other, when, _)| *other != id && at - *when < TOGETHER);
        self.by.push((id, at, by));
        let tolerance = ALIKE_MIN.max(by.abs() * ALIKE_PART);
        self.by.iter().filter(|(_, _, other)| (*other - by).abs() <= tolerance).count()
    }
}

impl Engine {
    /// A sample was taken in: what it means for the guest.
    pub(super) fn judged(&mut self, now: Now, id: SourceId, verdict: Verdict) {
        match verdict {
            Verdict::Doubtful => self.suspect(now),
            Verdict::Jumped(by) => {
                let alike = self.jumps.add(id, now.raw, by);
                let live = self.sources.iter().filter(|source| source.is_live()).count();
                let is_heard = self.is_in_best_tier(id);
                if is_heard && alike * 2 > live {
                    self.interrupted(now, by);
                }
                self.emit(Event::Jumped { source: id, by });
            }
            Verdict::RateChanged(by) => {
                if self.agreeing.contains(&id) {
                    self.steering.rate_changed();
                }
                self.emit(Event::RateChanged { source: id, by });
            }
            Verdict::Usual | Verdict::Ignored | Verdict::Outlier => {}
        }
    }

    /// Something may have moved the clock or stopped the counter: nothing is steered before a source was looked at again.
    pub(super) fn distrust(&mut self, now: Now) {
        self.suspected = Some(now.raw);
        self.suspect(now);
    }

    /// A source that is followed was looked at since, and its look fits or is explained.
    pub(super) fn believe_again(&mut self, id: SourceId, looked: RawTime) {
        let is_settled = self.sources.get(usize::from(id.0)).is_some_and(|s| !s.estimator.is_in_doubt());
        if is_settled && self.agreeing.contains(&id) && self.suspected.is_some_and(|since| looked > since) {
            self.suspected = None;
        }
    }

    /// Something does not fit: every source is looked at soon, so that they can be compared.
    pub(super) fn suspect(&mut self, now: Now) {
        for source in self.sources.iter_mut().filter(|source| source.is_live()) {
            source.look_closely(now);
        }
    }

    /// The guest stood still, or the one source that is heard was stepped. Silent sources are taken to have moved as well: what they said
    /// before must not outvote what is seen now.
    fn interrupted(&mut self, now: Now, by: Seconds) {
        self.steering.interrupted(by);
        for source in self.sources.iter_mut().filter(|source| !source.is_live()) {
            source.estimator.absorb_jump(by);
        }
        self.suspect(now);
    }

    /// Selection over all sources that ever answered. A silent one keeps its vote as long as its bound means something, so that a
    /// liar does not win by waiting until the honest are gone; but only who answers is followed.
    pub(super) fn choose(&mut self, now: Now) {
        let best = self.best_tier();
        let estimates: Vec<(SourceId, bool, Estimate)> = self
            .ids()
            .zip(&self.sources)
            .filter(|(_, source)| best.is_some_and(|best| self.tier(source) <= best))
            .filter_map(|(id, source)| Some((id, source.is_live(), source.estimator.estimate(now)?)))
            .collect();
        let candidate =
            |(id, _, e): &(SourceId, bool, Estimate)| Candidate { id: *id, offset: e.offset, bound: e.bound };
        let selection = select(&estimates.iter().map(candidate).collect::<Vec<_>>(), self.followed);
        for id in self.ids() {
            let is_false = selection.falsetickers.contains(&id);
            let Some(source) = self.source_mut(id) else { continue };
            let was_false = core::mem::replace(&mut source.is_falseticker, is_false);
            if is_false && !was_false {
                self.emit(Event::Falseticker { source: id });
            }
        }
        let live = estimates.iter().filter(|(id, is_live, _)| *is_live && selection.agreeing.contains(id));
        let live: Vec<(SourceId, Seconds)> = live.map(|(id, _, e)| (*id, e.bound)).collect();
        let tightest = live.iter().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(id, _)| *id);
        let chosen = selection.chosen.filter(|id| live.iter().any(|(other, _)| other == id)).or(tightest);
        self.agreeing = live.into_iter().map(|(id, _)| id).collect();
        // Nobody answers who agrees: who was followed last is held on to, unless he contradicts the others.
        let held = self.followed.filter(|id| selection.agreeing.contains(id));
        let followed = chosen.or(held);
        if followed != self.followed {
            self.followed = followed;
            self.emit(Event::Selected { source: followed });
        }
    }

    /// What all who are followed say together.
    pub(super) fn estimate(&self, now: Now) -> Option<Estimate> {
        let of = |id: &SourceId| self.sources.get(usize::from(id.0))?.estimator.estimate(now);
        match self.agreeing.as_slice() {
            [] => of(&self.followed?),
            agreeing => combine(&agreeing.iter().filter_map(of).collect::<Vec<_>>()),
        }
    }

    /// Whether anybody who is followed was contradicted by its last look: nothing is steered until that is settled.
    pub(super) fn is_in_doubt(&self) -> bool {
        let in_doubt = |id: &SourceId| {
            self.sources.get(usize::from(id.0)).is_some_and(|source| source.estimator.is_in_doubt())
        };
        self.suspected.is_some() || self.agreeing.iter().chain(self.followed.iter()).any(in_doubt)
    }

    /// Whether enough of the sources were heard for the first setting.
    pub(super) fn has_quorum(&self, now: Now) -> bool {
        let Some(best) = self.best_tier() else { return false };
        let asked = self.sources.iter().filter(|source| self.tier(source) == best).count();
        self.agreeing.len() * 2 > asked || now.raw - self.started > QUORUM_PATIENCE
    }

    /// Another source's idea of the time of a reading, if one is followed.
    pub(super) fn truth_beside(&self, id: SourceId, result: &Result<Reading, LookError>) -> Option<WallTime> {
        let at = result.as_ref().ok()?.at;
        let followed = self.followed_source().filter(|_| self.followed != Some(id))?;
        Some(at.wall + followed.estimator.estimate(at)?.offset.to_span())
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
    fn best_tier(&self) -> Option<u8> {
        let heard = |source: &&Source| source.is_live() && source.estimator.samples() > 0;
        let live = self.sources.iter().filter(heard).map(|source| self.tier(source)).min();
        live.or_else(|| self.followed_source().map(|source| self.tier(source)))
    }

    fn is_in_best_tier(&self, id: SourceId) -> bool {
        let source = self.sources.get(usize::from(id.0));
        source.map(|source| self.tier(source)) == self.best_tier()
    }

    const fn tier(&self, source: &Source) -> u8 {
        source.inquiry.config().class.tier(matches!(self.config.policy, Policy::Host))
    }
}
