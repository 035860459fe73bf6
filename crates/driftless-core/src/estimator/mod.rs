//! From samples to offset and frequency, one estimator a source, against *uncorrected* time.
//!
//! The state is x = reference − counter and its rate, so that no correction of the local clock, of ours or of anybody else's,
//! disturbs it. A sample is an interval (`floor`), not a point: it cuts the belief (`normal`, `filter`) of several hypotheses about
//! wander (`bank`). A sample that no hypothesis explains is not smoothed over: it is kept aside until a few more decide
//! whether time jumped, the rate changed, or it was an outlier (`verdict`).

mod bank;
pub mod dntpd;
mod filter;
mod floor;
mod normal;
mod route;
mod scatter;
mod tracker;
mod verdict;

use crate::sample::Sample;
use crate::time::{Frequency, Now, RawTime, Seconds, Span, WallTime};

use bank::{Bank, Seen};
use filter::{Filter, Interval};
use floor::DelayFloor;
use scatter::Scatter;
pub(crate) use tracker::Tracker;
pub use verdict::Verdict;

/// Standard deviation of a counter's rate before anything is known: kernels mis-measure by hundreds, seldom thousands of ppm.
const PRIOR_FREQUENCY_SD: f64 = 3e-3;
/// Standard deviations beyond which a sample contradicts the belief.
const CONTRADICTION_MAX: f64 = 4.5;
/// Standard deviations that the published bound allows the estimate's own error.
const BOUND_DEVIATIONS: f64 = 4.0;

/// How far, in mean excesses, jitter that is all on one side was seen to pull an estimate under the interval law (scenario 109-boot-rtc, where
/// every reading comes after the second's edge).
const ONE_SIDED_PART: f64 = 0.25;

/// What is believed of one reference, at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Reference − local wall clock; positive: the local clock is behind.
    pub offset: Seconds,
    /// Standard deviation of `offset`, the path's unseen asymmetry left out.
    pub offset_error: Seconds,
    /// Largest error of `offset` that is credible, asymmetry and the reference's own distance to its root included.
    pub bound: Seconds,
    /// The part of `bound` that no exchange can show: half of the path's floor, and the reference's own distance to its root.
    pub root_distance: Seconds,
    /// The rate of the reference against the uncorrected counter: what corrects the counter.
    pub frequency: Frequency,
    /// Standard deviation of `frequency`.
    pub frequency_error: Frequency,
}

impl Estimate {
    /// Whether both can be true.
    #[must_use]
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        (self.offset - other.offset).abs() <= self.bound + other.bound
    }

    /// What both know, where they agree: the offset of the tighter, the frequency of the surer.
    #[must_use]
    pub(crate) fn tightened(mut self, other: Self) -> Self {
        if !self.agrees_with(&other) {
            return self;
        }
        let (frequency, frequency_error) = match self.frequency_error <= other.frequency_error {
            true => (self.frequency, self.frequency_error),
            false => (other.frequency, other.frequency_error),
        };
        if other.bound < self.bound {
            self = other;
        }
        Self { frequency, frequency_error, ..self }
    }
}

/// One source's estimator.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    track: Option<Track>,
    floor: DelayFloor,
    prior: Option<(Frequency, Frequency)>,
    samples: u64,
}

/// The samples that tell what a changed path adds to each offset: meanwhile they teach nothing else.
#[derive(Debug, Clone, Copy)]
struct NewPath {
    /// By how much the floor changed, s.
    change_s: f64,
    /// The least delay so far, and how far that sample lay from the belief.
    best: (f64, f64),
    /// Samples so far.
    samples: u8,
}

/// The running belief.
#[derive(Debug, Clone)]
struct Track {
    /// Where offsets are counted from: counter and reference at the first sample.
    anchor: Now,
    /// When the belief holds.
    at: RawTime,
    bank: Bank,
    /// Samples that contradict the belief, the oldest first.
    aside: Vec<(RawTime, Seen)>,
    scatter: Scatter,
    /// Something was noticed from outside: the next sample alone may show a jump.
    expects_jump: bool,
    /// The doubt that is open began with such a sample.
    is_announced: bool,
    /// What the present path adds to each measured offset by the difference of its directions, as far as its changes have shown.
    asymmetry_s: f64,
    /// A new path that is being learnt.
    path: Option<NewPath>,
    last: Sample,
}

impl Estimator {
    /// An estimator that knows nothing but, perhaps, a frequency with its standard deviation from an earlier run.
    #[must_use]
    pub fn new(prior: Option<(Frequency, Frequency)>) -> Self {
        Self { prior, ..Self::default() }
    }

    /// Learns from a sample. Samples older than the last one are ignored.
    pub fn add(&mut self, sample: &Sample) -> Verdict {
        if !(sample.offset.is_finite() && sample.delay.is_finite() && sample.dispersion.is_finite()) {
            return Verdict::Ignored;
        }
        if self.track.as_ref().is_some_and(|track| sample.raw <= track.at) {
            return Verdict::Ignored;
        }
        let path_change = self.floor.add(sample.delay);
        let lateness = self.floor.lateness(sample.delay);
        self.samples += 1;
        let half_width_s = (self.floor.half_width(sample.delay) + sample.dispersion).0.max(1e-9);
        let Some(track) = &mut self.track else {
            self.track = Some(Track::start(sample, half_width_s, self.prior));
            return Verdict::Usual;
        };
        let interval =
            Interval { offset_s: track.offset_of(sample), half_width_s, noise_s: self.floor.noise().0 };
        track.last = *sample;
        if let Some(verdict) = track.learn_path(sample, path_change, interval.offset_s) {
            return verdict;
        }
        let is_usual = lateness <= Seconds::ZERO;
        if is_usual {
            track.scatter.guess(half_width_s);
        }
        let seen = Seen::new(interval, &track.scatter, lateness.0);
        let verdict = track.take(sample.raw, &seen);
        // Only now: a jump must not widen the scatter that it is judged by.
        if is_usual && !matches!(verdict, Verdict::Jumped(_) | Verdict::RateChanged(_)) {
            let at_s = Seconds::from(sample.raw - track.anchor.raw).0;
            track.scatter.add(at_s, interval.offset_s, verdict == Verdict::Doubtful);
        }
        verdict
    }

    /// What is believed at `now`; `None` before the first sample.
    #[must_use]
    pub fn estimate(&self, now: Now) -> Option<Estimate> {
        let track = self.track.as_ref()?;
        let belief = track.bank.belief().predicted(Seconds::from(now.raw - track.at).0.max(0.0));
        let unseen = now.wall - track.anchor.wall - (now.raw - track.anchor.raw);
        let offset = Seconds(belief.offset_s - Seconds::from(unseen).0);
        let offset_error = Seconds(belief.var_offset.sqrt());
        let frequency_error = Frequency(belief.var_frequency.sqrt());
        let root_distance = self.root_distance();
        // Where delays are taken to say nothing, all of the jitter may still be on one side; where they are heard, a part of it.
        let one_sided = self.floor.mean_excess() * track.bank.scatter_weight().max(ONE_SIDED_PART);
        Some(Estimate {
            offset,
            offset_error,
            bound: root_distance + one_sided + offset_error * BOUND_DEVIATIONS,
            root_distance,
            frequency: Frequency(belief.frequency),
            frequency_error,
        })
    }

    /// What no exchange can show: half of the path's floor, and the reference's own distance to its root.
    #[must_use]
    pub fn root_distance(&self) -> Seconds {
        let Some(track) = &self.track else { return Seconds::ZERO };
        let last = &track.last;
        Seconds((self.floor.least().0 + last.root_delay.0) / 2.0 + last.root_dispersion.0 + last.dispersion.0)
    }

    /// Standard deviation that the offset will have `ahead` from the last sample.
    #[must_use]
    pub fn predicted_error(&self, ahead: Span) -> Option<Seconds> {
        let track = self.track.as_ref()?;
        let belief = track.bank.belief().predicted(Seconds::from(ahead).0);
        Some(Seconds(belief.var_offset.sqrt()))
    }

    /// Mean excess delay of one direction: the scale of the path's jitter.
    #[must_use]
    pub fn jitter(&self) -> Seconds {
        self.floor.mean_excess()
    }

    /// The last sample, if any.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.track.as_ref().map(|track| &track.last)
    }

    /// Samples taken in so far.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Whether a sample is kept aside that contradicts the belief: more are wanted soon.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.track.as_ref().is_some_and(|track| !track.aside.is_empty())
    }

    /// Whether what is kept aside is further off than any change of rate could have led: the next look, however soon, settles it.
    #[must_use]
    pub fn has_obviously_jumped(&self) -> bool {
        let shown = |track: &Track| {
            track.aside.first().map(|first| verdict::is_obvious(&track.bank, track.at, first))
        };
        self.track.as_ref().and_then(shown).unwrap_or(false)
    }

    /// The guest was interrupted while this source was silent: what it said is moved by what others saw, give or take `sd`.
    pub fn absorb_jump(&mut self, by: Seconds, sd: Seconds) {
        if let Some(track) = &mut self.track {
            track.bank.jump(by.0, sd.0);
            track.aside.clear();
            track.scatter.jumped();
        }
    }

    /// Something was noticed from outside that may mean a jump: the next sample alone decides.
    pub fn expect_jump(&mut self) {
        if let Some(track) = &mut self.track {
            track.expects_jump = true;
        }
    }

    /// The reference's own scale moved by `by`, as UTC does at a leap second: nothing is less certain for it.
    pub fn shift(&mut self, by: Seconds) {
        if let Some(track) = &mut self.track {
            track.bank.shift(by.0);
            track.scatter.jumped();
        }
    }

    /// Forgets the path but keeps the frequency: another address of the same source.
    pub fn forget_path(&mut self) {
        self.floor.reset();
        if let Some(track) = &mut self.track {
            track.asymmetry_s = 0.0;
        }
    }
}

impl Track {
    fn start(sample: &Sample, half_width_s: f64, prior: Option<(Frequency, Frequency)>) -> Self {
        let (frequency, sd) = prior.unwrap_or((Frequency::ZERO, Frequency(PRIOR_FREQUENCY_SD)));
        let belief = Filter {
            offset_s: 0.0,
            frequency: frequency.0,
            // A uniform law over ±h has variance h²/3.
            var_offset: half_width_s * half_width_s / 3.0,
            covariance: 0.0,
            var_frequency: sd.0 * sd.0,
            wander: 0.0,
        };
        Self {
            anchor: Now { raw: sample.raw, wall: reference_of(sample) },
            at: sample.raw,
            bank: Bank::new(belief),
            aside: Vec::new(),
            scatter: Scatter::default(),
            expects_jump: false,
            is_announced: false,
            asymmetry_s: 0.0,
            path: None,
            last: *sample,
        }
    }

    /// Reference − counter, against the anchor.
    fn offset_of(&self, sample: &Sample) -> f64 {
        let coarse = sample.local - self.anchor.wall - (sample.raw - self.anchor.raw);
        Seconds::from(coarse).0 + sample.offset.0 - self.asymmetry_s
    }

    fn take(&mut self, raw: RawTime, seen: &Seen) -> Verdict {
        let predicted = self.bank.predicted(Seconds::from(raw - self.at).0);
        let expects_jump = core::mem::take(&mut self.expects_jump);
        if predicted.contradiction(seen) > CONTRADICTION_MAX {
            let elapsed_s = Seconds::from(raw - self.at).0;
            let announced = verdict::jump_at_once(&predicted, elapsed_s, seen).filter(|_| expects_jump);
            if let Some((bank, by)) = announced {
                self.bank = bank;
                self.at = raw;
                self.aside.clear();
                self.scatter.jumped();
                return Verdict::Jumped(by);
            }
            // Two interruptions in a row: what was kept aside speaks of a time that is over.
            if self.aside.last().is_some_and(|last| verdict::is_apart(last, &(raw, seen.clone()))) {
                self.aside.clear();
            }
            self.is_announced = expects_jump || self.is_announced && !self.aside.is_empty();
            self.aside.push((raw, seen.clone()));
            let Some((bank, verdict)) = verdict::decide(&self.bank, self.at, &self.aside, self.is_announced)
            else {
                return Verdict::Doubtful;
            };
            self.bank = bank;
            self.at = raw;
            self.aside.clear();
            self.scatter.jumped();
            return verdict;
        }
        let was_in_doubt = !self.aside.is_empty();
        self.aside.clear();
        self.bank = predicted;
        self.at = raw;
        self.bank.update(seen);
        if was_in_doubt { Verdict::Outlier } else { Verdict::Usual }
    }
}

fn reference_of(sample: &Sample) -> WallTime {
    sample.local + sample.offset.to_span()
}

#[cfg(test)]
mod tests;
