//! From an estimate to what is done to the clock: step or slew, tick and frequency.
//!
//! Wanted rate = the estimated frequency + a slew that takes the offset away in a given time. Tick and frequency share it ([`split`]), so that
//! any rate within ±10 % can be had; the tick is moved only when the fine part would leave its range.

mod gated;
mod split;

use crate::clock::Rate;
use crate::estimator::Estimate;
use crate::event::StepReason;
use crate::policy::StepPolicy;
use crate::time::{Frequency, Now, RawTime, Seconds, Span};

pub use gated::{Gated, gated};
pub use split::split;

/// How far the clock is from right, which decides how hard it is steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not set yet since the start: it may be stepped.
    Start,
    /// Set, but still being put right: slewed hard.
    Acquiring,
    /// Right: slewed gently.
    Steady,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// Move the clock by so much first.
    pub step: Option<(Span, StepReason)>,
    /// A step that would be needed, had the policy not forbidden it.
    pub withheld: Option<Span>,
    /// Then run at this rate.
    pub rate: Rate,
    /// Until then: the offset is gone, and the slew must end.
    pub slew_ends: Option<RawTime>,
}

/// Offsets below this are slewed even where a step is allowed: at 5 % it takes 40 ms.
const STEP_MIN: Seconds = Seconds(2e-3);
/// Above this the clock is stepped forwards at any time: no slew would be done soon.
const BEHIND_MAX: Seconds = Seconds(1.0);
/// Hardest slew while acquiring.
const SLEW_MAX_ACQUIRING: Frequency = Frequency(0.05);
/// Hardest slew in steady state.
const SLEW_MAX_STEADY: Frequency = Frequency(1e-3);
/// An offset that is not worth a rate of its own, s.
const NEGLIGIBLE_S: f64 = 1e-9;
/// An offset within this many deviations is noise of the estimate; what is beyond is slewed away the faster the surer it is.
const NOISE_DEVIATIONS: f64 = 4.0;
/// Poll intervals over which noise is slewed away: the RMS offset is hardly worse than with an eighth of one, the rate four times as calm.
const NOISE_POLLS: f64 = 1.25;
/// Shortest time in which an offset is slewed away.
const SLEW_TIME_MIN: Span = Span::from_millis(250);

/// Decides what `estimate` asks for. `interrupted` is true from a detected interruption until the offset it left is gone;
/// `horizon` is the time until the next look.
#[must_use]
pub fn correct(
    now: Now,
    estimate: &Estimate,
    phase: Phase,
    interrupted: bool,
    policy: StepPolicy,
    current: Rate,
    horizon: Span,
) -> Correction {
    let wanted = wanted_step(estimate.offset, phase, interrupted);
    let (step, withheld) = match wanted {
        Some((by, reason)) if is_allowed(by, policy) => (Some((by, reason)), None),
        Some((by, _)) => (None, Some(by)),
        None => (None, None),
    };
    let left = if step.is_some() { Seconds::ZERO } else { estimate.offset };
    let (slew, slew_ends) = slew(now, left, estimate.offset_error, phase, horizon);
    let rate = split(estimate.frequency + slew, current);
    Correction { step, withheld, rate, slew_ends }
}

fn wanted_step(offset: Seconds, phase: Phase, interrupted: bool) -> Option<(Span, StepReason)> {
    let reason = if phase == Phase::Start {
        StepReason::Start
    } else if interrupted {
        StepReason::Interruption
    } else if offset > BEHIND_MAX {
        StepReason::Behind
    } else {
        return None;
    };
    (offset.abs() > STEP_MIN).then(|| (offset.to_span(), reason))
}

fn is_allowed(by: Span, policy: StepPolicy) -> bool {
    match policy {
        StepPolicy::Auto => true,
        StepPolicy::ForwardOnly => by > Span::ZERO,
        // Set at intervals by the engine, never in between.
        StepPolicy::Never | StepPolicy::Always { .. } => false,
    }
}

fn slew(
    now: Now,
    offset: Seconds,
    error: Seconds,
    phase: Phase,
    horizon: Span,
) -> (Frequency, Option<RawTime>) {
    if offset.abs().0 < NEGLIGIBLE_S {
        return (Frequency::ZERO, None);
    }
    let is_steady = phase == Phase::Steady;
    let limit = if is_steady { SLEW_MAX_STEADY } else { SLEW_MAX_ACQUIRING };
    let time_s = if is_steady {
        let significance = (offset.0.abs() / (error.0 * NOISE_DEVIATIONS)).max(1.0);
        Seconds::from(horizon).0 * NOISE_POLLS / significance
    } else {
        0.0
    };
    let time_s = time_s.max(Seconds::from(SLEW_TIME_MIN).0);
    let slew = Frequency(offset.0 / time_s).clamp_to(limit);
    let lasts = Seconds(offset.0 / slew.0).to_span();
    (slew, Some(now.raw + lasts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn asked(offset: f64, phase: Phase, interrupted: bool, policy: StepPolicy) -> Correction {
        let estimate = Estimate {
            offset: Seconds(offset),
            offset_error: Seconds(1e-5),
            bound: Seconds(1e-3),
            root_distance: Seconds(1e-4),
            frequency: Frequency::from_ppm(-676.0),
            frequency_error: Frequency::from_ppm(1.0),
        };
        let now = Now { raw: RawTime::from_nanos(0), wall: WallTime::from_nanos(0) };
        correct(now, &estimate, phase, interrupted, policy, Rate::NOMINAL, Span::from_secs(4))
    }

    #[test]
    fn the_first_setting_is_a_step_either_way() {
        let step = asked(-120.0, Phase::Start, false, StepPolicy::Auto).step;
        assert_eq!(step, Some((Span::from_secs(-120), StepReason::Start)));
    }

    #[test]
    fn later_only_a_clock_far_behind_is_stepped() {
        assert!(asked(2.0, Phase::Steady, false, StepPolicy::Auto).step.is_some());
        assert!(asked(-2.0, Phase::Steady, false, StepPolicy::Auto).step.is_none());
        assert!(asked(-2.0, Phase::Steady, true, StepPolicy::Auto).step.is_some());
    }

    #[test]
    fn a_forbidden_step_is_slewed_and_told() {
        let correction = asked(-120.0, Phase::Start, false, StepPolicy::ForwardOnly);
        assert_eq!(correction.withheld, Some(Span::from_secs(-120)));
        assert!((correction.rate.total().0 - (-676e-6 - 0.05)).abs() < 1e-8);
    }

    #[test]
    fn a_steady_slew_ends_when_the_offset_is_gone() {
        // Ten times what is noise: a tenth of five seconds.
        let correction = asked(400e-6, Phase::Steady, false, StepPolicy::Auto);
        assert!((correction.rate.total().ppm() - (-676.0 + 800.0)).abs() < 0.01, "{correction:?}");
        assert_eq!(correction.slew_ends, Some(RawTime::from_nanos(500_000_000)));
    }

    #[test]
    fn what_may_be_noise_is_slewed_away_gently() {
        let correction = asked(10e-6, Phase::Steady, false, StepPolicy::Auto);
        assert!((correction.rate.total().ppm() - (-676.0 + 2.0)).abs() < 0.01, "{correction:?}");
    }
}
