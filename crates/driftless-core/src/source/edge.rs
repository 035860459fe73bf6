//! Where the second's edge of a real-time clock stands.
//!
//! An RTC shows whole seconds, and begins them where it pleases: in QEMU wherever the machine was started, on a board where it was last
//! set to. That constant, up to a second, cannot be seen in the RTC itself. Beside a better source it can: it is learnt there, and
//! taken off once the RTC is all that is left. The RTC's crystal differs as well, by some tens of ppm; that is learnt where there is time,
//! and what is not known of it widens the bound from then on.

use crate::estimator::Estimate;
use crate::time::{Frequency, RawTime, Seconds};

/// The edge of one RTC.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Edge {
    learnt: Option<Learnt>,
    /// Somebody set it since it was last learnt: what it shows says little against anybody else.
    was_set: bool,
}

#[derive(Debug, Clone, Copy)]
struct Learnt {
    at: RawTime,
    /// RTC − truth at `at`.
    phase: Seconds,
    /// Largest credible error of `phase`.
    error: Seconds,
    /// The RTC's rate against the truth.
    rate: Frequency,
    /// Its standard deviation.
    rate_error: Frequency,
}

/// How far off an edge may be that nobody has learnt.
pub(crate) const UNLEARNT: Seconds = Seconds(1.0);
/// A reference that knows the time no better than this teaches nothing.
const TEACHER_BOUND_MAX: Seconds = Seconds(0.25);
/// Standard deviation of the rates of RTC crystals: they are cut for 32768 Hz to 20 ppm, and bend with the temperature.
const RATE_SD: Frequency = Frequency(15e-6);
/// How well a crystal keeps a learnt rate through the day's temperatures.
const RATE_SD_MIN: Frequency = Frequency(1e-6);
/// Standard deviations of the rate that the bound allows for.
const RATE_DEVIATIONS: f64 = 3.0;

impl Edge {
    /// Compares the RTC with a better clock, both as believed at `now`. Returns whether the phase was not known before.
    pub(crate) fn learn(&mut self, now: RawTime, rtc: &Estimate, truth: &Estimate) -> bool {
        if truth.bound > TEACHER_BOUND_MAX {
            return false;
        }
        let rate = rtc.frequency - truth.frequency;
        let seen = rtc.frequency_error.0.powi(2) + truth.frequency_error.0.powi(2);
        let usual = RATE_SD.0.powi(2);
        // What was measured and what crystals are like, each as far as it is sure.
        let (rate, rate_error) =
            (rate.0 * usual / (usual + seen), (usual * seen / (usual + seen)).sqrt().max(RATE_SD_MIN.0));
        let is_new = self.learnt.is_none();
        self.learnt = Some(Learnt {
            at: now,
            phase: rtc.offset - truth.offset,
            error: truth.bound + (rtc.bound - rtc.root_distance),
            rate: Frequency(rate),
            rate_error: Frequency(rate_error),
        });
        self.was_set = false;
        is_new
    }

    /// The RTC was set, or is another one. Returns whether there was something to forget.
    pub(crate) const fn forget(&mut self, was_set: bool) -> bool {
        self.was_set = was_set;
        self.learnt.take().is_some()
    }

    /// Whether the RTC's second is known better than by what it shows.
    pub(crate) const fn is_learnt(&self) -> bool {
        self.learnt.is_some()
    }

    /// Whether somebody set it since it was last learnt.
    pub(crate) const fn was_set(&self) -> bool {
        self.was_set
    }

    /// RTC − truth now, with its largest credible error.
    pub(crate) fn phase(&self, now: RawTime) -> Option<(Seconds, Seconds)> {
        let learnt = self.learnt?;
        let since_s = Seconds::from(now - learnt.at).0.max(0.0);
        let phase = learnt.phase + Seconds(learnt.rate.0 * since_s);
        Some((phase, learnt.error + Seconds(learnt.rate_error.0 * RATE_DEVIATIONS * since_s)))
    }

    /// The truth, as the RTC tells it: `rtc` is what is believed of the RTC itself.
    pub(crate) fn corrected(&self, now: RawTime, rtc: Estimate) -> Estimate {
        let Some((learnt, (phase, error))) = self.learnt.zip(self.phase(now)) else {
            return Estimate {
                bound: rtc.bound + UNLEARNT,
                root_distance: rtc.root_distance + UNLEARNT,
                frequency_error: Frequency(libm::hypot(rtc.frequency_error.0, RATE_SD.0)),
                ..rtc
            };
        };
        Estimate {
            offset: rtc.offset - phase,
            bound: rtc.bound + error,
            root_distance: rtc.root_distance + error,
            frequency: rtc.frequency - learnt.rate,
            frequency_error: Frequency(libm::hypot(rtc.frequency_error.0, learnt.rate_error.0)),
            ..rtc
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(offset: f64, bound: f64, ppm: f64, ppm_error: f64) -> Estimate {
        Estimate {
            offset: Seconds(offset),
            offset_error: Seconds(bound / 8.0),
            bound: Seconds(bound),
            root_distance: Seconds(bound / 2.0),
            frequency: Frequency::from_ppm(ppm),
            frequency_error: Frequency::from_ppm(ppm_error),
        }
    }

    const fn at(seconds: i64) -> RawTime {
        RawTime::from_parts(seconds, 0)
    }

    #[test]
    fn what_was_learnt_is_taken_off_and_what_was_not_is_said() {
        let mut edge = Edge::default();
        let rtc = estimate(-0.541, 0.02, -676.0, 30.0);
        let unlearnt = edge.corrected(at(0), rtc);
        assert_eq!((unlearnt.offset, unlearnt.bound), (rtc.offset, Seconds(1.02)));
        assert!(edge.learn(at(0), &rtc, &estimate(1e-3, 5e-4, -676.0, 1.0)));
        let learnt = edge.corrected(at(0), rtc);
        assert!((learnt.offset.0 - 1e-3).abs() < 1e-12 && learnt.bound < Seconds(0.05), "{learnt:?}");
        assert!(edge.forget(true) && !edge.is_learnt() && edge.was_set());
    }

    #[test]
    fn a_rate_is_believed_as_far_as_it_was_measured_and_the_bound_grows_by_the_rest() {
        let mut edge = Edge::default();
        let truth = estimate(0.0, 5e-4, 0.0, 0.1);
        edge.learn(at(0), &estimate(0.3, 0.02, 20.0, 500.0), &truth);
        let (phase, error) = edge.phase(at(1_000)).unwrap();
        assert!((phase.0 - 0.3).abs() < 1e-3, "hardly measured: {phase:?}");
        assert!((0.05..0.08).contains(&error.0), "{error:?}");
        edge.learn(at(0), &estimate(0.3, 0.02, 20.0, 0.1), &truth);
        let (phase, error) = edge.phase(at(3_600)).unwrap();
        assert!((phase.0 - 0.3 - 0.072).abs() < 1e-3, "measured well: {phase:?}");
        assert!(error < Seconds(0.03), "{error:?}");
    }

    #[test]
    fn who_does_not_know_the_time_teaches_nothing() {
        let mut edge = Edge::default();
        assert!(!edge.learn(at(0), &estimate(0.3, 0.02, 0.0, 1.0), &estimate(0.0, 0.5, 0.0, 1.0)));
        assert!(!edge.is_learnt());
    }
}
