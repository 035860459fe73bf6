//! Was this guest interrupted? Every sign is funnelled into one question, and the sources answer it.
//!
//! A pause stops all of a guest's clocks together, so that nothing inside shows it: only a comparison with what went on outside does. Signs
//! are cheap and may be false: each starts *suspicion*, in which nothing is steered and every source is looked at quickly. The
//! *verdict* comes from a look after the sign: behind, ahead (hypervisors differ, some correct the clock themselves, some twice) or
//! unchanged. One correction follows; jumps never enter the frequency, so that the learnt drift is used at once.

use serde::{Deserialize, Serialize};

use crate::source::SourceId;
use crate::time::{RawTime, Seconds, Span, WallTime};

/// What may mean that the guest stood still, or that its clock was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// A look at a source contradicts what is believed.
    Contradiction,
    /// Wall time moved against the counter, not by us.
    WallMoved,
    /// `CLOCK_BOOTTIME` went on while `CLOCK_MONOTONIC` did not: a sleep that the kernel knew of.
    Slept,
    /// A timer that is cancelled when the clock is set was cancelled (`TFD_TIMER_CANCEL_ON_SET`).
    ClockSet,
    /// Our own timer fired far too late.
    LateTimer,
    /// The RTC moved against the counter.
    RtcMoved,
    /// The vmclock page's disruption marker or generation counter changed.
    Disruption,
    /// The hypervisor gave this machine a new generation id: it is a copy, woken from a saved state.
    NewGeneration,
    /// The host told us to look.
    Push,
}

/// One settled suspicion that found something: kept for reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interruption {
    /// When it was settled, by the corrected clock.
    #[serde(skip)]
    pub at: WallTime,
    /// How far the clock was found from the reference, s; positive: behind.
    pub offset: f64,
    /// By how much the reference had moved against the counter, s: about how long the guest stood still.
    pub jump: f64,
    /// What was noticed, the first sign first.
    pub signs: Vec<Sign>,
    /// From the first sign to the verdict, s.
    pub settled_after: f64,
}

/// What is suspected, and what came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disruption {
    suspicion: Option<Suspicion>,
    /// The last jump of each source.
    jumps: Vec<Jump>,
    /// The last one, for reports.
    pub(crate) last: Option<Interruption>,
    /// How many there were.
    pub(crate) count: u64,
}

/// A source's jump against the counter: it happened somewhere between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Jump {
    /// Whose.
    pub(crate) id: SourceId,
    /// The last look before it that fitted.
    pub(crate) after: RawTime,
    /// The look that showed it.
    pub(crate) seen: RawTime,
    /// New − old.
    pub(crate) by: Seconds,
}

/// Something does not fit.
#[derive(Debug, Clone)]
struct Suspicion {
    since: RawTime,
    signs: Vec<Sign>,
    jump: Option<Seconds>,
}

/// Jumps of different sources are one interruption when they differ by less than this part, or by less than 100 ms.
const ALIKE_PART: f64 = 0.05;
const ALIKE_MIN: Seconds = Seconds(0.1);
/// A jump smaller than this is slewed away and called nothing.
const INTERRUPTION_MIN: Seconds = Seconds(5e-3);
/// A suspicion that nobody can settle is dropped after so long: the sources are silent, and the clock runs on as it did.
const SUSPICION_MAX: Span = Span::from_secs(60);

impl Disruption {
    /// A sign came. Returns whether the suspicion is new.
    pub(crate) fn suspect(&mut self, now: RawTime, sign: Sign) -> bool {
        if !self.is_open(now) {
            self.suspicion = None;
        }
        match &mut self.suspicion {
            Some(suspicion) => {
                if !suspicion.signs.contains(&sign) {
                    suspicion.signs.push(sign);
                }
                suspicion.since = now;
                false
            }
            None => {
                self.suspicion = Some(Suspicion { since: now, signs: vec![sign], jump: None });
                true
            }
        }
    }

    /// Whether nothing may be steered before a source was looked at.
    pub(crate) fn is_open(&self, now: RawTime) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| now - suspicion.since < SUSPICION_MAX)
    }

    /// A source was found to have jumped. Returns who did so alike, this one included: by as much, and perhaps at the same moment, however
    /// seldom they are looked at.
    pub(crate) fn jumped(&mut self, jump: Jump) -> Vec<SourceId> {
        self.jumps.retain(|other| other.id != jump.id);
        self.jumps.push(jump);
        let tolerance = ALIKE_MIN.max(jump.by.abs() * ALIKE_PART);
        let is_alike = |other: &&Jump| {
            (other.by - jump.by).abs() <= tolerance && other.after < jump.seen && jump.after < other.seen
        };
        self.jumps.iter().filter(is_alike).map(|other| other.id).collect()
    }

    /// Whether something else than the sources themselves spoke of an interruption lately, and no source has borne it out yet: a witness is
    /// heard once.
    pub(crate) fn has_witness(&self, now: RawTime) -> bool {
        let is_open = self.is_open(now) && !self.is_confirmed();
        let signs = self.suspicion.iter().flat_map(|suspicion| &suspicion.signs);
        is_open && signs.copied().any(|sign| sign != Sign::Contradiction)
    }

    /// Whether the suspicion that is open has this sign.
    pub(crate) fn has_sign(&self, sign: Sign) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| suspicion.signs.contains(&sign))
    }

    /// Enough sources agree that the guest, not one of them, moved by so much, as the look at `looked` shows.
    pub(crate) fn confirmed(&mut self, looked: RawTime, by: Seconds) {
        let suspicion = self.suspicion.get_or_insert_with(|| Suspicion {
            since: looked - Span::from_nanos(1),
            signs: vec![Sign::Contradiction],
            jump: None,
        });
        suspicion.jump = Some(by);
    }

    /// Whether enough sources agreed on a jump that is not settled yet.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| suspicion.jump.is_some())
    }

    /// A followed source was looked at, at `looked`, and its look is explained: the suspicion, if it is older, is settled. `offset` is how far the
    /// clock is off, about to be corrected. Returns the interruption if that is what it was, and whether anything was settled.
    pub(crate) fn settle(
        &mut self,
        (looked, at): (RawTime, WallTime),
        offset: Seconds,
    ) -> (bool, Option<Interruption>) {
        let Some(suspicion) = self.suspicion.take_if(|suspicion| looked > suspicion.since) else {
            return (false, None);
        };
        let jump = suspicion.jump.unwrap_or(Seconds::ZERO);
        // Where the hypervisor corrected the clock itself, the jump remains and the offset is nothing.
        if jump.abs() <= INTERRUPTION_MIN && offset.abs() <= INTERRUPTION_MIN {
            return (true, None);
        }
        let interruption = Interruption {
            at,
            offset: offset.0,
            jump: jump.0,
            signs: suspicion.signs,
            settled_after: Seconds::from(looked - suspicion.since).0,
        };
        self.count += 1;
        self.last = Some(interruption.clone());
        (true, Some(interruption))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> RawTime {
        RawTime::from_parts(seconds, 0)
    }

    const WALL: WallTime = WallTime::from_nanos(0);

    #[test]
    fn a_look_before_the_sign_settles_nothing() {
        let mut disruption = Disruption::default();
        assert!(disruption.suspect(at(10), Sign::Push));
        assert!(!disruption.suspect(at(11), Sign::RtcMoved), "one suspicion at a time");
        assert_eq!(disruption.settle((at(11), WALL), Seconds(5.0)), (false, None));
        assert!(disruption.is_open(at(11)));
        let (settled, found) = disruption.settle((at(12), WALL), Seconds(5.0));
        assert!(settled && !disruption.is_open(at(12)));
        assert_eq!(found.unwrap().signs, [Sign::Push, Sign::RtcMoved]);
    }

    #[test]
    fn a_false_alarm_is_no_interruption() {
        let mut disruption = Disruption::default();
        disruption.suspect(at(10), Sign::LateTimer);
        assert_eq!(disruption.settle((at(12), WALL), Seconds(1e-5)), (true, None));
        assert_eq!(disruption.count, 0);
    }

    #[test]
    fn a_suspicion_that_nobody_settles_does_not_last() {
        let mut disruption = Disruption::default();
        disruption.suspect(at(10), Sign::Slept);
        assert!(!disruption.is_open(at(71)));
    }

    #[test]
    fn jumps_alike_are_counted_together() {
        let mut disruption = Disruption::default();
        let mut alike = |id, after, seen, by| {
            disruption
                .jumped(Jump { id: SourceId(id), after: at(after), seen: at(seen), by: Seconds(by) })
                .len()
        };
        assert_eq!(alike(0, 0, 10, 60.0), 1);
        assert_eq!(alike(1, 5, 900, 60.05), 2, "one that is looked at seldom is late to see the same");
        assert_eq!(alike(2, 5, 11, -5.0), 1);
        assert_eq!(alike(3, 20, 30, 60.0), 2, "too late to be what source 0 saw");
    }
}
