//! dntpd's way of steering: what its gates permit, and no more (contract D12 to D14).

use crate::clock::Rate;
use crate::estimator::Estimate;
use crate::estimator::dntpd::Permits;
use crate::event::StepReason;
use crate::policy::StepPolicy;
use crate::time::{Frequency, Now, RawTime, Seconds, Span};

use super::{Phase, is_allowed, split};

/// How fast an offset slides away: the rate of `adjtime`, which dntpd uses.
const SLIDE: Frequency = Frequency(500e-6);

/// What the gates let be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gated {
    /// Move the clock by so much first.
    pub step: Option<(Span, StepReason)>,
    /// The frequency that is corrected for, without a slide.
    pub base: Frequency,
    /// Then run at this rate.
    pub rate: Rate,
    /// An offset correction began: it will be applied in full by then.
    pub slide_ends: Option<RawTime>,
}

/// Decides within the gates. `base` is the frequency corrected for so far, `sliding` the end of the slide that is under way.
#[must_use]
pub fn gated(
    now: Now,
    estimate: &Estimate,
    permits: Permits,
    (phase, policy): (Phase, StepPolicy),
    (current, base, sliding): (Rate, Frequency, Option<RawTime>),
) -> Gated {
    let base = if permits.frequency { estimate.frequency } else { base };
    let begins = permits.offset || permits.revise;
    let reason = if phase == Phase::Start { StepReason::Start } else { StepReason::Behind };
    let by = estimate.offset.to_span();
    if begins && permits.coarse && is_allowed(by, policy) {
        let step = Some((by, reason));
        return Gated { step, base, rate: split(base, current), slide_ends: Some(now.raw) };
    }
    let slide = Frequency(SLIDE.0.copysign(estimate.offset.0));
    if begins {
        let lasts = Seconds((estimate.offset.0 / slide.0).abs()).to_span();
        return Gated {
            step: None,
            base,
            rate: split(base + slide, current),
            slide_ends: Some(now.raw + lasts),
        };
    }
    let is_sliding = sliding.is_some_and(|ends| now.raw < ends);
    let kept = if is_sliding { current.total() } else { base };
    Gated { step: None, base, rate: split(kept, current), slide_ends: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn asked(offset: f64, permits: Permits) -> Gated {
        let estimate = Estimate {
            offset: Seconds(offset),
            offset_error: Seconds(1e-5),
            bound: Seconds(1e-3),
            root_distance: Seconds(1e-4),
            frequency: Frequency::from_ppm(-76.0),
            frequency_error: Frequency::from_ppm(1.0),
        };
        let now = Now { raw: RawTime::from_nanos(0), wall: WallTime::from_nanos(0) };
        let state = (Rate::NOMINAL, Frequency::ZERO, None);
        gated(now, &estimate, permits, (Phase::Start, StepPolicy::Auto), state)
    }

    #[test]
    fn nothing_is_done_that_the_gates_forbid() {
        let done = asked(0.5, Permits::default());
        assert_eq!((done.step, done.rate, done.slide_ends), (None, Rate::NOMINAL, None));
    }

    #[test]
    fn an_offset_slides_away_and_a_coarse_one_is_stepped() {
        let fine = Permits { offset: true, frequency: true, ..Permits::default() };
        let slid = asked(0.05, fine);
        assert!((slid.rate.total().ppm() - 424.0).abs() < 0.01, "{slid:?}");
        assert_eq!(slid.slide_ends, Some(RawTime::from_parts(100, 0)));
        let stepped = asked(-200.0, Permits { coarse: true, ..fine });
        assert_eq!(stepped.step, Some((Span::from_secs(-200), StepReason::Start)));
    }
}
