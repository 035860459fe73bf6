//! What a contradiction means: time jumped, the rate changed, or one sample was bad. Decided by a few samples, never smoothed over.

use crate::time::{Frequency, RawTime, Seconds};

use super::bank::{Bank, Seen};

/// What a sample turned out to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// As expected: it taught something.
    Usual,
    /// Not finite, or older than what is known.
    Ignored,
    /// It contradicts the belief; it is kept aside until more decide.
    Doubtful,
    /// What was kept aside before was an outlier: it is dropped, and this one is as expected.
    Outlier,
    /// The reference moved by so much against the counter: the guest was interrupted, or the reference was stepped.
    Jumped(Seconds),
    /// The path's delay changed in one direction: what looked like a jump of half of that is the path's, and the belief stays.
    PathChanged(Seconds),
    /// The counter's rate changed by so much: migrated, or re-calibrated.
    RateChanged(Frequency),
}

/// Contradicting samples that settle a jump which no change of rate could explain.
const OBVIOUS_SAMPLES: usize = 2;
/// Contradicting samples that settle anything else.
const SETTLING_SAMPLES: usize = 4;
/// More than any drift: an offset that grew faster than this a second is a jump.
const RATE_MAX: f64 = 0.1;
/// Standard deviation of a new rate before its samples have spoken.
const NEW_RATE_SD: f64 = 1e-3;
/// A contradiction smaller than this is no interruption that anybody would notice, but a belief that was too sure of itself:
/// offset and frequency are opened, and learnt anew from what contradicted them.
const JUMP_MIN_S: f64 = 5e-3;
/// How much better, in log likelihood, a change of rate must explain the samples than a jump.
const RATE_ADVANTAGE: f64 = 3.0;

/// The new belief at the last sample kept aside, once there are enough of them. `is_announced`: a sign from outside spoke of a jump, so that a small
/// one is one.
pub(super) fn decide(
    old: &Bank,
    at: RawTime,
    aside: &[(RawTime, Seen)],
    is_announced: bool,
) -> Option<(Bank, Verdict)> {
    let (first, last) = (aside.first()?, aside.last()?);
    let (elapsed_s, innovation_s) = innovation(old, at, first);
    let is_obvious = is_obvious(old, at, first);
    if aside.len() < if is_obvious { OBVIOUS_SAMPLES } else { SETTLING_SAMPLES } {
        return None;
    }
    let mut jumped = old.predicted(elapsed_s);
    jumped.jump(innovation_s, first.1.spread());
    let mut changed = jumped.clone();
    changed.doubt_frequency(NEW_RATE_SD);
    let jump_likelihood = follow(&mut jumped, aside);
    let change_likelihood = follow(&mut changed, aside);
    let spent_s = Seconds::from(last.0 - at).0;
    let expected = old.belief().predicted(spent_s);
    let is_small = innovation_s.abs() < JUMP_MIN_S && !is_announced;
    if !is_obvious && (is_small || change_likelihood > jump_likelihood + RATE_ADVANTAGE) {
        let by = Frequency(changed.belief().frequency - expected.frequency);
        return Some((changed, Verdict::RateChanged(by)));
    }
    let by = Seconds(jumped.belief().offset_s - expected.offset_s);
    Some((jumped, Verdict::Jumped(by)))
}

/// Whether the belief at `at` could have come to what was seen by no rate.
pub(super) fn is_obvious(old: &Bank, at: RawTime, first: &(RawTime, Seen)) -> bool {
    let (elapsed_s, innovation_s) = innovation(old, at, first);
    innovation_s.abs() > RATE_MAX * elapsed_s
}

/// How long after `at` it was seen, and how far from the belief, s.
fn innovation(old: &Bank, at: RawTime, (seen_at, seen): &(RawTime, Seen)) -> (f64, f64) {
    let elapsed_s = Seconds::from(*seen_at - at).0.max(1e-3);
    (elapsed_s, seen.interval.offset_s - old.belief().predicted(elapsed_s).offset_s)
}

/// Whether no rate could lead from one sample to the other: time jumped between them.
pub(super) fn is_apart(earlier: &(RawTime, Seen), later: &(RawTime, Seen)) -> bool {
    let elapsed_s = Seconds::from(later.0 - earlier.0).0;
    let moved_s = later.1.interval.offset_s - earlier.1.interval.offset_s;
    moved_s.abs() > RATE_MAX * elapsed_s + earlier.1.spread() + later.1.spread()
}

/// More than rates change by, s/s: what an announced jump must exceed for one sample to settle it.
const USUAL_RATE_CHANGE: f64 = 5e-3;

/// The belief after a jump that was announced from outside, and the jump: one sample settles it, and the frequency is kept. `None` where another
/// rate could explain it, too.
pub(super) fn jump_at_once(predicted: &Bank, elapsed_s: f64, seen: &Seen) -> Option<(Bank, Seconds)> {
    let innovation_s = seen.interval.offset_s - predicted.belief().offset_s;
    if innovation_s.abs() < JUMP_MIN_S + USUAL_RATE_CHANGE * elapsed_s {
        return None;
    }
    let mut jumped = predicted.clone();
    jumped.jump(innovation_s, seen.spread());
    Some((jumped, Seconds(innovation_s)))
}

/// Lets `bank`, which holds the belief at the first sample, learn from the others; returns their log likelihood.
fn follow(bank: &mut Bank, aside: &[(RawTime, Seen)]) -> f64 {
    let mut log_likelihood = 0.0;
    for pair in aside.windows(2) {
        let [(earlier, _), (later, seen)] = pair else { continue };
        *bank = bank.predicted(Seconds::from(*later - *earlier).0);
        log_likelihood += bank.update(seen);
    }
    log_likelihood
}
