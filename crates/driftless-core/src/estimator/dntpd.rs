//! dntpd's way of estimating, as a choice: two staggered linear regressions, and gates on what they permit (contract D11 to D18).
//!
//! A line is drawn through *reference − counter* over the counter, which is what dntpd calls uncorrected time: no correction of the
//! local clock bends it. Its slope is the frequency; how well the points lie on it, their correlation, says whether the slope may be
//! used. A line that grows for ever becomes deaf to change, so that a second one begins `STAGGER` samples after the first: it takes
//! over when the first is full, and earlier when the first has been bent so much that the second, shorter as it is,
//! correlates better (D11). Both go through the same points; the second merely leaves out the oldest.
//!
//! The offset is the mean of the newest few, carried along the slope. [`Permits`] says what the engine may do with either (D12 to D14),
//! [`Regressions::poll`] when it should look again (D15, D16).
//!
//! The shortcomings that dntpd's manual lists are not inherited (D17):
//!
//! - DEPARTS: the bound holds half of the delays, since a path whose directions differ moves the offset by up to that.
//! - DEPARTS: samples taken before or while the clock was corrected count, as the counter knows nothing of corrections. So a running one
//!   can be found wrong ([`Permits::revise`]), and nothing has to be collected anew after each (as built: four, or eight of a good target).
//! - DEPARTS: a frequency learnt in an earlier run is held until the line contradicts it.
//! - DEPARTS: the slope follows the newest samples by as much as chance does not explain, as half-hourly polls make old lines.
//! - DEPARTS: a jump is told from a change of rate, and moves the points instead of bending the lines.
//! - DEPARTS: as built, offsets below 1 ms stay, and three failures forget the regressions; no rule needs either.

mod line;
mod polling;

use crate::sample::Sample;
use crate::time::{Frequency, Now, RawTime, Seconds, Span};

use super::{BOUND_DEVIATIONS, CONTRADICTION_MAX, Estimate, PRIOR_FREQUENCY_SD, Verdict, reference_of};
pub use line::Line;
use line::{Level, Point, mean};
use polling::Polling;
pub use polling::{Mode, Settings};

/// Samples of a full regression, as built: the second takes over (D11).
const SAMPLES_MAX: usize = 30;
/// The second begins after so many samples of the first, as built (D11).
const STAGGER: usize = SAMPLES_MAX / 2;
/// Samples whose slope and spread are worth something (D12 asks for as many).
const LINE_SAMPLES: usize = 8;
/// Samples before the offset may be corrected (D13).
const OFFSET_SAMPLES: usize = 4;
/// Standard deviations that an offset must exceed (D6, D13).
const OFFSET_DEVIATIONS: f64 = 4.0;
/// Offset above which a correction is coarse (D14).
const COARSE_S: f64 = 120.0;
/// Anything smaller passes for noise or wander, and is left to the regressions.
const JUMP_MIN_S: f64 = 5e-3;
/// The same before a line knows its noise: some servers' clocks tick every 64th of a second, of which a short delay tells nothing.
const JUMP_MIN_YOUNG_S: f64 = 50e-3;
/// Standard deviations from which a jump and a change of rate are told apart.
const TELLING_DEVIATIONS: f64 = 4.0;
/// Contradicting samples after which the old line is given up, whatever they mean.
const ASIDE_MAX: usize = 8;
/// Looks at the shortest interval that a doubt is worth.
const DOUBT_LOOKS: usize = 4;
/// A held frequency is never trusted better than this: what is promised over the long haul (D18).
const HELD_ERROR_MIN: Frequency = Frequency(2e-6);
/// Standard deviation of a rate after it changed.
const NEW_RATE_SD: Frequency = Frequency(1e-3);
/// What a rate is taken to wander at least, in s/s/√s, however straight the line: a line tells what has been, not what is.
const WANDER: f64 = 3e-9;
/// Beyond any time that our clocks can tell; squares of it are still finite.
const SECONDS_MAX: f64 = 1e10;

/// What may be done to the clock now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permits {
    /// Correct the offset (D13).
    pub offset: bool,
    /// Aim the offset correction that is running anew: it has been found wrong (D17).
    pub revise: bool,
    /// Correct the frequency (D12).
    pub frequency: bool,
    /// Correct the offset by a step; with it comes `offset` or `revise` (D6, D14).
    pub coarse: bool,
}

/// One target's regressions.
#[derive(Debug, Clone)]
pub struct Regressions {
    settings: Settings,
    polling: Polling,
    /// Where `Point::y_s` is counted from.
    anchor: Option<Now>,
    /// The first regression's points, the oldest first; those from [`STAGGER`] on are the second's.
    points: Vec<Point>,
    /// Samples that contradict the line, the oldest first.
    aside: Vec<Point>,
    /// A frequency that the points need not confirm, with its standard deviation.
    held: (Frequency, Frequency),
    /// Points before this say nothing of the offset: time jumped.
    jumped_at: Option<RawTime>,
    correction: Option<Correction>,
    /// The frequency has been corrected since the last sample.
    frequency_is_used: bool,
    /// The next sample comes by another path.
    path_is_new: bool,
    samples: u64,
}

/// The last offset correction.
#[derive(Debug, Clone, Copy)]
struct Correction {
    at: RawTime,
    ends: RawTime,
    /// Reference − counter at `at` as it was believed, s.
    aim_s: f64,
    frequency: Frequency,
}

impl Regressions {
    /// Regressions that know nothing but, perhaps, a frequency with its standard deviation from an earlier run (D17).
    #[must_use]
    pub fn new(prior: Option<(Frequency, Frequency)>, settings: Settings) -> Self {
        Self {
            settings,
            polling: Polling::default(),
            anchor: None,
            points: Vec::with_capacity(SAMPLES_MAX + ASIDE_MAX),
            aside: Vec::with_capacity(ASIDE_MAX),
            held: prior.unwrap_or((Frequency::ZERO, Frequency(PRIOR_FREQUENCY_SD))),
            jumped_at: None,
            correction: None,
            frequency_is_used: false,
            path_is_new: false,
            samples: 0,
        }
    }

    /// Learns from a sample. Samples older than the last one are ignored.
    pub fn add(&mut self, sample: &Sample) -> Verdict {
        if !is_credible(sample) || self.newest().is_some_and(|last| sample.raw <= last.sample.raw) {
            return Verdict::Ignored;
        }
        if core::mem::take(&mut self.path_is_new) {
            self.start_anew(self.frequency());
        }
        let here = Now { raw: sample.raw, wall: reference_of(sample) };
        let anchor = *self.anchor.get_or_insert(here);
        let coarse = sample.local - anchor.wall - (sample.raw - anchor.raw);
        let point = Point { y_s: Seconds::from(coarse).0 + sample.offset.0, sample: *sample };
        self.samples += 1;
        let verdict = self.take(point);
        self.frequency_is_used = false;
        let first = self.first();
        if let Some(line) = first.filter(Line::is_trusted) {
            let (frequency, error) = self.along(&line);
            self.held = (frequency, Frequency(error.0.max(HELD_ERROR_MIN.0)));
        }
        self.polling.answered(first.as_ref());
        verdict
    }

    /// A poll stayed without an answer (D16).
    pub fn unanswered(&mut self) {
        self.polling.unanswered();
    }

    /// What is believed at `now`; `None` before the first sample.
    #[must_use]
    pub fn estimate(&self, now: Now) -> Option<Estimate> {
        let level = self.level()?;
        let (frequency, frequency_error) = self.frequency();
        let offset_error = Seconds(level.error_at(now.raw, frequency_error));
        let root_distance = self.root_distance();
        Some(Estimate {
            offset: Seconds(level.at(now.raw) - self.corrected(now)?),
            offset_error,
            bound: root_distance + offset_error * BOUND_DEVIATIONS,
            root_distance,
            frequency,
            frequency_error,
        })
    }

    /// What the engine may do at `now`.
    #[must_use]
    pub fn permits(&self, now: Now) -> Permits {
        if self.is_in_doubt() {
            return Permits::default();
        }
        let frequency = !self.frequency_is_used && self.first().is_some_and(|line| line.is_trusted());
        let Some((level, corrected_s)) = self.level().zip(self.corrected(now)) else {
            return Permits { frequency, ..Permits::default() };
        };
        let offset_s = level.at(now.raw) - corrected_s;
        let running = self.correction.filter(|last| now.raw < last.ends);
        let error_s = running.map_or(offset_s, |last| level.at(now.raw) - last.aim_at(now.raw));
        let is_known = level.samples >= OFFSET_SAMPLES && level.spread_s * OFFSET_DEVIATIONS < error_s.abs();
        let is_first = self.settings.coarse_at_start && self.correction.is_none();
        Permits {
            offset: is_known && running.is_none(),
            revise: is_known && running.is_some(),
            frequency,
            coarse: is_known && (is_first || offset_s.abs() > COARSE_S),
        }
    }

    /// The engine has begun an offset correction that will be applied in full at `ends` (D13).
    pub fn offset_corrected(&mut self, now: Now, ends: RawTime) {
        let Some(level) = self.level() else { return };
        let (frequency, _) = self.frequency();
        self.correction = Some(Correction { at: now.raw, ends, aim_s: level.at(now.raw), frequency });
    }

    /// The engine has corrected the frequency: not again before the next sample (D12).
    pub const fn frequency_corrected(&mut self) {
        self.frequency_is_used = true;
    }

    /// How long to wait before the next look (D15).
    #[must_use]
    pub fn poll(&self) -> Span {
        let is_hurried = self.is_in_doubt() && self.aside.len() < DOUBT_LOOKS;
        let polling = if is_hurried { Polling::default() } else { self.polling };
        polling.interval(&self.settings)
    }

    /// How far the target has come (D15, D16).
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.polling.mode
    }

    /// The first regression, from two samples on.
    #[must_use]
    pub fn first(&self) -> Option<Line> {
        Line::through(&self.points)
    }

    /// The second regression, from two samples of its own on.
    #[must_use]
    pub fn second(&self) -> Option<Line> {
        Line::through(self.points.get(STAGGER..)?)
    }

    /// The largest error that honest clocks allow the offset: half of the delays, and the reference's distance to its root (D17).
    #[must_use]
    pub fn root_distance(&self) -> Seconds {
        let newest = self.recent();
        if newest.is_empty() { Seconds::ZERO } else { Seconds(mean(newest, |p| p.sample.root_distance().0)) }
    }

    /// Standard deviation that the offset will have `ahead` from the last sample.
    #[must_use]
    pub fn predicted_error(&self, ahead: Span) -> Option<Seconds> {
        let (level, last) = (self.level()?, self.newest()?);
        Some(Seconds(level.error_at(last.sample.raw + ahead, self.frequency().1)))
    }

    /// Mean excess delay of one direction: the scale of the path's jitter.
    #[must_use]
    pub fn jitter(&self) -> Seconds {
        if self.points.is_empty() {
            return Seconds::ZERO;
        }
        Seconds((mean(&self.points, |p| p.sample.delay.0) - self.least_delay()) / 2.0)
    }

    /// The last sample, if any.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.newest().map(|point| &point.sample)
    }

    /// Samples taken in so far.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Whether a sample is kept aside that contradicts the line: more are wanted soon.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.aside.is_empty()
    }

    /// The reference's own scale moved by `by`, as UTC does at a leap second.
    pub fn shift(&mut self, by: Seconds) {
        for point in self.points.iter_mut().chain(&mut self.aside) {
            point.y_s += by.0;
        }
    }

    /// The guest was interrupted while this target was silent: what it said is moved by what others saw.
    pub fn absorb_jump(&mut self, by: Seconds) {
        self.aside.clear();
        self.shift(by);
    }

    /// Forgets the path with the next sample, but keeps the frequency: another address of the same source.
    pub const fn forget_path(&mut self) {
        self.path_is_new = true;
    }

    fn newest(&self) -> Option<&Point> {
        self.aside.last().or_else(|| self.points.last())
    }

    /// What the local clock has been moved against the counter since the anchor, s.
    fn corrected(&self, now: Now) -> Option<f64> {
        let anchor = self.anchor?;
        Some(Seconds::from(now.wall - anchor.wall - (now.raw - anchor.raw)).0)
    }

    /// The frequency, by the line where it is trusted or all there is, and by what is held otherwise.
    fn frequency(&self) -> (Frequency, Frequency) {
        let (held, held_error) = self.held;
        let Some(line) = self.first() else { return self.held };
        let (slope, error) = self.along(&line);
        let is_contradicted = (slope - held).abs().0 > OFFSET_DEVIATIONS * libm::hypot(error.0, held_error.0);
        if line.is_trusted() || is_contradicted {
            return (slope, error);
        }
        let weight = 1.0 / (1.0 + (error.0 / held_error.0).powi(2));
        let both = error.0 * weight.sqrt();
        (Frequency(held.0 + weight * (slope.0 - held.0)), Frequency(both))
    }

    /// The first line's slope, and where its newest part disagrees beyond chance, the rate has wandered: so much of that part's.
    fn along(&self, first: &Line) -> (Frequency, Frequency) {
        let newest = &self.points[self.points.len().saturating_sub(LINE_SAMPLES)..];
        let Some((part, oldest)) = Line::through(newest).zip(newest.first()) else {
            return (first.slope, first.slope_error);
        };
        let (by, chance) = ((part.slope - first.slope).0, part.slope_error.0);
        let wandered = (by * by - chance * chance).max(0.0).sqrt();
        let share = if wandered > 0.0 { (wandered / by).powi(2) } else { 0.0 };
        let elapsed_s = self.points.last().map_or(0.0, |last| last.after(oldest.sample.raw));
        let error = libm::hypot(libm::hypot(first.slope_error.0, wandered), WANDER * elapsed_s.sqrt());
        (Frequency(first.slope.0 + share * by), Frequency(error))
    }

    /// The newest samples, which speak of the offset.
    fn recent(&self) -> &[Point] {
        let jumped = |p: &Point| self.jumped_at.is_some_and(|jumped| p.sample.raw < jumped);
        let newest = self.points.len().saturating_sub(OFFSET_SAMPLES);
        &self.points[self.points.partition_point(jumped).max(newest)..]
    }

    fn level(&self) -> Option<Level> {
        let (frequency, _) = self.frequency();
        let spread = self.first().filter(|line| line.samples >= OFFSET_SAMPLES).map(|line| line.spread);
        Level::of(self.recent(), frequency, spread)
    }

    fn least_delay(&self) -> f64 {
        self.points.iter().map(|p| p.sample.delay.0).fold(f64::INFINITY, f64::min)
    }

    fn take(&mut self, point: Point) -> Verdict {
        if self.is_contradicted(&point) {
            self.aside.push(point);
            return self.decide();
        }
        let was_in_doubt = self.is_in_doubt();
        self.aside.clear();
        self.points.push(point);
        match self.relay() {
            Verdict::Usual if was_in_doubt => Verdict::Outlier,
            verdict => verdict,
        }
    }

    /// The second takes over from a first that is full, and overrides one that is bent (D11).
    fn relay(&mut self) -> Verdict {
        let Some((first, second)) = self.first().zip(self.second()) else { return Verdict::Usual };
        let is_bent = second.is_trusted() && second.unexplained < first.unexplained;
        if !is_bent && self.points.len() < SAMPLES_MAX {
            return Verdict::Usual;
        }
        self.points.drain(..STAGGER);
        let by = second.slope - first.slope;
        let error = libm::hypot(first.slope_error.0, second.slope_error.0);
        let is_another = is_bent && by.abs().0 > (CONTRADICTION_MAX * error).max(HELD_ERROR_MIN.0);
        if !is_another {
            return Verdict::Usual;
        }
        self.polling.changed();
        Verdict::RateChanged(by)
    }

    /// What a sample may differ from the line by, for its excess delay and the line's own error.
    fn is_contradicted(&self, point: &Point) -> bool {
        let Some(level) = self.level() else { return false };
        let (at, (_, frequency_error)) = (point.sample.raw, self.frequency());
        let deviation = libm::hypot(level.error_at(at, frequency_error), level.spread_s);
        let least_s = if self.points.len() < LINE_SAMPLES { JUMP_MIN_YOUNG_S } else { JUMP_MIN_S };
        let limit = least_s + CONTRADICTION_MAX * deviation + self.leeway(point);
        (point.y_s - level.at(at)).abs() > limit
    }

    /// By how much the sample may be off without anything having changed: it came late, or its stamps were coarse.
    fn leeway(&self, point: &Point) -> f64 {
        (point.sample.delay.0 - self.least_delay()).max(0.0) / 2.0 + point.sample.dispersion.0
    }

    /// Tells a jump from a change of rate. What a changed rate has made since the last good sample, it goes on making; a jump stays what
    /// it was.
    fn decide(&mut self) -> Verdict {
        let Some(((level, good), (early, late))) =
            self.level().zip(self.points.last()).zip(self.aside.first().zip(self.aside.last()))
        else {
            return Verdict::Doubtful;
        };
        let beside = |p: &Point| p.y_s - level.at(p.sample.raw);
        let grown = beside(late) - beside(early);
        let growth = beside(early) * late.after(early.sample.raw) / early.after(good.sample.raw);
        let drifted = self.frequency().1.0 * late.after(early.sample.raw);
        let noise = libm::hypot(level.spread_s, drifted) + self.leeway(early) + self.leeway(late);
        let is_telling = growth.abs() > TELLING_DEVIATIONS * noise;
        let share = grown / growth;
        let by = mean(&self.aside, beside);
        if is_telling && share.abs() < 0.5 {
            return self.jump(by);
        }
        if (is_telling && share >= 0.5) || self.aside.len() >= ASIDE_MAX {
            return self.change();
        }
        Verdict::Doubtful
    }

    /// The points move along with time, so that the slope stays what it was.
    fn jump(&mut self, by_s: f64) -> Verdict {
        let mut aside = core::mem::take(&mut self.aside);
        self.shift(Seconds(by_s));
        self.jumped_at = aside.first().map(|p| p.sample.raw);
        self.points.append(&mut aside);
        self.relay();
        Verdict::Jumped(Seconds(by_s))
    }

    /// The lines begin anew with what contradicted them.
    fn change(&mut self) -> Verdict {
        let (before, _) = self.frequency();
        let aside = core::mem::take(&mut self.aside);
        self.start_anew((before, NEW_RATE_SD));
        self.points.extend(aside);
        self.polling.changed();
        Verdict::RateChanged(self.frequency().0 - before)
    }

    fn start_anew(&mut self, held: (Frequency, Frequency)) {
        self.held = held;
        self.points.clear();
        self.aside.clear();
        self.jumped_at = None;
    }
}

impl Correction {
    fn aim_at(&self, at: RawTime) -> f64 {
        self.aim_s + self.frequency.0 * Seconds::from(at - self.at).0
    }
}

/// Whether the numbers can be reckoned with.
fn is_credible(sample: &Sample) -> bool {
    let parts = [sample.offset, sample.delay, sample.dispersion, sample.root_delay, sample.root_dispersion];
    // NaN is not below anything.
    parts.iter().all(|part| part.abs().0 < SECONDS_MAX)
}

#[cfg(test)]
mod tests;
