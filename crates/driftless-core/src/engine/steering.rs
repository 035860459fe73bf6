//! The engine's hand on the clock: what was asked of it, what it answered, and which state that leaves us in.

use crate::clock::{ClockCommand, ClockError, ClockState, Leap, Rate, Status};
use crate::discipline::{Phase, correct, gated, split};
use crate::disruption::Sign;
use crate::estimator::Estimate;
use crate::event::{Event, StepReason};
use crate::report::State;
use crate::source::push::Push;
use crate::time::{Frequency, Now, RawTime, Seconds, Span};

use super::wallwatch::{Moved, WallWatch, has_leap_day};
use super::{Engine, Leave, Method, OtherWriter, Output, StepPolicy};

/// What is known about the clock, and how far putting it right has come.
pub(super) struct Steering {
    pub(super) observe: bool,
    pub(super) policy: StepPolicy,
    /// Tick and frequency in force, as last read back.
    pub(super) rate: Option<Rate>,
    /// TAI − UTC in seconds as the kernel has it; 0 where nobody set it.
    pub(super) tai: i32,
    /// As it was when we first took over.
    pub(super) found: Option<Rate>,
    watch: WallWatch,
    /// The frequency that dntpd's method corrects for, without its slides.
    base: Option<Frequency>,
    /// The leap second that the kernel was told of.
    armed: Leap,
    /// When the kernel was last told how good its clock is.
    told_at: Option<RawTime>,
    /// When the policy `always` sets the clock next.
    next_setting: Option<RawTime>,
    /// Nothing more is steered.
    has_left: bool,
    /// What we set last: a different reading is somebody else's work.
    expected: Option<Rate>,
    /// The command that the next answer belongs to.
    asked: Option<ClockCommand>,
    pub(super) phase: Phase,
    /// The offset that an interruption left is not gone yet.
    interrupted: bool,
    step_ordered: bool,
    slew_ends: Option<RawTime>,
    /// Whether the forbidden step was told already.
    withheld_told: bool,
    /// When somebody else was last caught writing.
    contested_at: Option<RawTime>,
    pub(super) state: State,
    pub(super) steps: u64,
}

/// The clock is right when its offset is below this, or three of the estimate's deviations.
const RIGHT_OFFSET: Seconds = Seconds(200e-6);
/// The rate is known well enough for gentle slews below this.
const RIGHT_FREQUENCY_ERROR: Frequency = Frequency(100e-6);
/// An offset that calls for hard slewing again, and one that does where it is more than the estimate's own doubt by so much: what was found
/// at once after an interruption may have been a late reply's.
const LOST_OFFSET: Seconds = Seconds(5e-3);
const LOST_OFFSET_IF_SURE: Seconds = Seconds(1e-3);
const SURE_DEVIATIONS: f64 = 5.0;
/// Poll intervals without a sample after which the frequency is said to be held.
const HOLDOVER_POLLS: i64 = 5;
/// How long another writer is remembered.
const CONTESTED_FOR: Span = Span::from_secs(600);
/// What a pushed time may be off by the way that it took.
const PUSH_MIN: Span = Span::from_millis(100);
/// The kernel adds 500 µs a second to the error that it was told: in a long silence it is told anew.
const TELL_EVERY: Span = Span::from_secs(64);
/// Above this the kernel itself calls its clock unsynchronised.
const BOUND_MAX: Seconds = Seconds(16.0);

/// How well offset and frequency must be known, which is less where the source itself leaves much open.
struct Coarse {
    frequency_error: Frequency,
    lost: Seconds,
}

impl Coarse {
    /// An RTC leaves so much open that a rate which adds a tenth of it until the next look changes little, and what it leaves open is not to be
    /// chased.
    fn of(is_rtc: bool, estimate: &Estimate, horizon: Span) -> Self {
        let sure = (estimate.offset_error * SURE_DEVIATIONS).max(LOST_OFFSET_IF_SURE);
        let lost = if sure < LOST_OFFSET { sure } else { LOST_OFFSET };
        let usual = Self { frequency_error: RIGHT_FREQUENCY_ERROR, lost };
        if !is_rtc {
            return usual;
        }
        let frequency_error = Frequency(estimate.root_distance.0 * 0.1 / Seconds::from(horizon).0.max(1.0));
        Self {
            frequency_error: if frequency_error > usual.frequency_error {
                frequency_error
            } else {
                usual.frequency_error
            },
            lost: usual.lost.max(estimate.bound),
        }
    }
}

impl Steering {
    pub(super) fn new(observe: bool, policy: StepPolicy) -> Self {
        Self {
            observe,
            policy,
            rate: None,
            tai: 0,
            found: None,
            watch: WallWatch::default(),
            base: None,
            armed: Leap::None,
            told_at: None,
            next_setting: None,
            has_left: false,
            expected: None,
            asked: None,
            phase: Phase::Start,
            interrupted: false,
            step_ordered: false,
            slew_ends: None,
            withheld_told: false,
            contested_at: None,
            state: State::Unsynchronised,
            steps: 0,
        }
    }

    pub(super) const fn asked(&mut self, command: ClockCommand) {
        self.asked = Some(command);
    }

    pub(super) fn deadline(&self) -> Option<RawTime> {
        let refresh = self.told_at.map(|at| at + TELL_EVERY);
        [self.slew_ends, refresh, self.next_setting].into_iter().flatten().min()
    }

    /// Wall against raw, minus one.
    pub(super) fn rate_total(&self) -> Frequency {
        self.rate.map_or(Frequency::ZERO, Rate::total)
    }

    /// The guest stood still, or its clock was moved: it may be stepped, either way.
    pub(super) fn interrupted(&mut self) {
        self.interrupted = true;
        self.phase_back();
    }

    pub(super) const fn order_step(&mut self) {
        self.step_ordered = true;
    }

    /// Whether somebody else steers, as far as the policy makes us stand back.
    fn stands_back(&self, now: Now, policy: OtherWriter) -> bool {
        let is_recent = self.contested_at.is_some_and(|at| now.raw - at < CONTESTED_FOR);
        match policy {
            OtherWriter::TakeOver => false,
            OtherWriter::Yield => is_recent,
            OtherWriter::Hold => self.contested_at.is_some(),
        }
    }

    /// The clock is off, or its counter runs at another rate: what was slewed gently must be caught up with.
    pub(super) fn phase_back(&mut self) {
        if self.phase == Phase::Steady {
            self.phase = Phase::Acquiring;
        }
    }

    /// Moves on from the start to acquiring and from there to steady, or back.
    fn advance(&mut self, estimate: &Estimate, coarse: &Coarse) {
        let right = RIGHT_OFFSET.max(estimate.offset_error * 3.0);
        let is_right = estimate.offset.abs() < right && estimate.frequency_error < coarse.frequency_error;
        match self.phase {
            Phase::Acquiring if is_right => {
                self.phase = Phase::Steady;
                self.interrupted = false;
            }
            Phase::Steady if estimate.offset.abs() > coarse.lost => self.phase = Phase::Acquiring,
            _ => {}
        }
    }
}

impl Engine {
    /// The clock answered the command that was last taken.
    pub(super) fn clock_answered(&mut self, now: Now, result: Result<ClockState, ClockError>) {
        let Some(command) = self.steering.asked.take() else { return };
        let state = match result {
            Ok(state) => state,
            Err(error) => return self.emit(Event::ClockRefused { error }),
        };
        self.steering.tai = state.tai;
        if matches!(command, ClockCommand::Step(_)) {
            self.steering.watch.moved_by_us(now);
        }
        match command {
            ClockCommand::Read => {
                self.compare(now, &state);
                self.steering.rate = Some(state.rate);
                self.steer(now);
            }
            ClockCommand::TakeOver => {
                self.steering.rate = Some(state.rate);
                self.steering.found = self.config.found.or(Some(state.rate));
                self.emit(Event::TookOver { rate: state.rate });
            }
            ClockCommand::SetRate(_) => {
                self.steering.rate = Some(state.rate);
                self.steering.expected = Some(state.rate);
                self.emit(Event::RateSet { rate: state.rate });
            }
            ClockCommand::Step(_) | ClockCommand::SetStatus(_) => self.steering.rate = Some(state.rate),
        }
    }

    /// Somebody else may have set the rate since we did.
    fn compare(&mut self, now: Now, state: &ClockState) {
        let Some(expected) = self.steering.expected.filter(|_| !self.config.observe) else { return };
        let found = state.rate;
        if (found.total() - expected.total()).abs() > Frequency(1e-9) {
            self.steering.contested_at = Some(now.raw);
            self.steering.expected = Some(found);
            self.emit(Event::OtherWriter { expected, found });
        }
    }

    /// Puts the clock right by what is known now.
    fn steer(&mut self, now: Now) {
        let Some((estimate, source)) = self.estimate(now).zip(self.followed_source()) else { return };
        let (horizon, is_rtc) = (source.inquiry.schedule().interval(), source.is_rtc());
        let samples_wanted = source.samples_before_start();
        let is_early = self.steering.phase == Phase::Start
            && (source.estimator.samples() < samples_wanted || !self.has_quorum(now));
        if (is_early && !self.steering.step_ordered) || self.is_in_doubt(now) || self.steering.has_left {
            return;
        }
        if self.steering.observe {
            self.steering.phase = Phase::Steady;
            return;
        }
        self.steering.advance(&estimate, &Coarse::of(is_rtc, &estimate, horizon));
        if core::mem::take(&mut self.steering.step_ordered) {
            self.step(estimate.offset.to_span(), StepReason::Order);
            self.tell_kernel(now, &estimate);
            return;
        }
        if self.steering.stands_back(now, self.config.other_writer) {
            return;
        }
        match self.steering.policy {
            StepPolicy::Always { every, forward_only } => {
                self.set_at_intervals(now, &estimate, every, forward_only);
            }
            _ if self.config.method == Method::Dntpd => self.correct_within_gates(now, &estimate),
            _ => self.correct(now, &estimate, horizon),
        }
        self.tell_kernel(now, &estimate);
    }

    /// dntpd's method: what its gates permit.
    fn correct_within_gates(&mut self, now: Now, estimate: &Estimate) {
        let Some(permits) = self.followed_source().and_then(|source| source.estimator.permits(now)) else {
            return;
        };
        let steering = &self.steering;
        let current = steering.rate.unwrap_or(Rate::NOMINAL);
        let base = steering.base.unwrap_or_else(|| current.total());
        let state = (current, base, steering.slew_ends);
        let done = gated(now, estimate, permits, (steering.phase, steering.policy), state);
        if let Some((by, reason)) = done.step {
            self.step(by, reason);
        }
        let followed = self.followed;
        if let Some(regressions) =
            followed.and_then(|id| self.source_mut(id)).and_then(|s| s.estimator.regressions_mut())
        {
            if permits.frequency {
                regressions.frequency_corrected();
            }
            if let Some(ends) = done.slide_ends {
                regressions.offset_corrected(now, ends);
            }
        }
        if done.slide_ends.is_some() && done.step.is_none() {
            self.emit(Event::SlideBegun { by: estimate.offset });
        }
        let steering = &mut self.steering;
        steering.base = Some(done.base);
        steering.slew_ends = done.slide_ends.or(steering.slew_ends).filter(|ends| now.raw < *ends);
        if done.slide_ends.is_some() || permits.frequency {
            steering.phase = Phase::Steady;
        }
        if steering.rate != Some(done.rate) {
            self.outputs.push_back(Output::Clock(ClockCommand::SetRate(done.rate)));
        }
    }

    /// The policy `always`: the clock is set, its rate is left alone.
    fn set_at_intervals(&mut self, now: Now, estimate: &Estimate, every: Span, forward_only: bool) {
        self.steering.phase = Phase::Steady;
        if self.steering.next_setting.is_some_and(|next| now.raw < next) {
            return;
        }
        self.steering.next_setting = Some(now.raw + every);
        let by = estimate.offset.to_span();
        if by != Span::ZERO && (by > Span::ZERO || !forward_only) {
            self.step(by, StepReason::Interval);
        }
    }

    /// What is left behind at the end: never the rate of a slew that nobody will end.
    pub(super) fn leave(&mut self, now: Now) {
        self.steering.has_left = true;
        self.steering.slew_ends = None;
        // An earlier engine of this run may have steered where this one has not yet.
        let steered = self.steering.expected.or_else(|| self.config.found.and(self.steering.rate));
        let (Some(current), false) = (steered, self.config.observe) else { return };
        let rate = match self.config.leave {
            Leave::Restore => self.steering.found,
            Leave::Learnt => self.estimate(now).map(|estimate| split(estimate.frequency, current)),
        };
        if let Some(rate) = rate {
            self.outputs.push_back(Output::Clock(ClockCommand::SetRate(rate)));
        }
    }

    /// Holds the wall clock against the counter.
    pub(super) fn watch_wall(&mut self, now: Now) {
        let Some(rate) = self.steering.rate else { return };
        // The answer to our own step is still to come.
        if matches!(self.steering.asked, Some(ClockCommand::Step(_))) {
            return;
        }
        match self.steering.watch.look(now, rate.total(), self.steering.armed) {
            None => {}
            Some(Moved::Leap(by)) => {
                self.steering.armed = Leap::None;
                for source in &mut self.sources {
                    source.estimator.shift(Seconds::from(by));
                }
                self.emit(Event::Leapt { by });
            }
            Some(Moved::Foreign(by)) => {
                if !self.config.observe {
                    self.emit(Event::OtherStepped { by });
                }
                self.distrust(now, Sign::WallMoved);
            }
        }
    }

    fn correct(&mut self, now: Now, estimate: &Estimate, horizon: Span) {
        let steering = &self.steering;
        let current = steering.rate.unwrap_or(Rate::NOMINAL);
        let correction =
            correct(now, estimate, steering.phase, steering.interrupted, steering.policy, current, horizon);
        if let Some((by, reason)) = correction.step {
            self.step(by, reason);
        }
        if let Some(by) = correction.withheld.filter(|_| !self.steering.withheld_told) {
            self.steering.withheld_told = true;
            self.emit(Event::StepWithheld { by });
        }
        if self.steering.phase == Phase::Start {
            self.steering.phase = Phase::Acquiring;
        }
        self.steering.slew_ends = correction.slew_ends;
        if self.steering.rate != Some(correction.rate) {
            self.outputs.push_back(Output::Clock(ClockCommand::SetRate(correction.rate)));
        }
    }

    fn step(&mut self, by: Span, reason: StepReason) {
        self.steering.steps += 1;
        self.steering.interrupted = false;
        self.outputs.push_back(Output::Clock(ClockCommand::Step(by)));
        self.emit(Event::Stepped { by, reason });
    }

    /// A host's word. A time without compensation of its way serves only where no source answers; otherwise it says "look".
    pub(super) fn pushed(&mut self, now: Now, push: Push) {
        self.distrust(now, Sign::Push);
        let is_alone = self.sources.iter().all(|source| source.inquiry.seen().reach == 0);
        let Push::Time(time) = push else { return };
        let by = time - now.wall;
        let may_step = !self.config.observe
            && match self.steering.policy {
                StepPolicy::Never => false,
                StepPolicy::ForwardOnly | StepPolicy::Always { forward_only: true, .. } => by > Span::ZERO,
                StepPolicy::Auto | StepPolicy::Always { .. } => true,
            };
        if is_alone && may_step && by.abs() > PUSH_MIN {
            self.step(by, StepReason::Push);
        }
    }

    fn tell_kernel(&mut self, now: Now, estimate: &Estimate) {
        let announced = self.leap();
        let leap = if has_leap_day(now.wall) { announced } else { Leap::None };
        if leap != self.steering.armed {
            self.steering.armed = leap;
            self.emit(Event::LeapChanged { leap });
        }
        self.steering.told_at = Some(now.raw);
        // The kernel sets the RTC every 11 minutes from a clock that is called synchronised: one that follows the RTC must not lead it.
        let is_led = self.followed_source().is_some_and(|source| !source.is_rtc());
        let status = Status {
            synchronised: is_led && self.steering.phase == Phase::Steady && estimate.bound < BOUND_MAX,
            leap,
            max_error: estimate.bound,
            est_error: estimate.offset_error,
            tai: None,
        };
        self.outputs.push_back(Output::Clock(ClockCommand::SetStatus(status)));
    }

    /// Ends a slew whose offset is gone, and keeps the state true as time goes by.
    pub(super) fn watch(&mut self, now: Now) {
        if self.steering.deadline().is_some_and(|due| now.raw >= due) {
            let steering = &mut self.steering;
            steering.slew_ends = steering.slew_ends.filter(|ends| now.raw < *ends);
            steering.told_at = Some(now.raw);
            steering.next_setting = steering.next_setting.filter(|next| now.raw < *next);
            self.look_at_clock();
        }
        let state = self.current_state(now);
        if state != self.steering.state {
            self.steering.state = state;
            self.emit(Event::StateChanged { state });
        }
    }

    fn current_state(&self, now: Now) -> State {
        let Some(source) = self.followed_source() else { return State::Unsynchronised };
        let (Some(last), Some(estimate)) = (source.estimator.last(), self.estimate(now)) else {
            return State::Unsynchronised;
        };
        let contested =
            self.steering.contested_at.is_some_and(|at| now.raw - at < CONTESTED_FOR) && !self.config.observe;
        let patience =
            Span::from_nanos(source.inquiry.schedule().interval().as_nanos().saturating_mul(HOLDOVER_POLLS))
                + Span::from_secs(2);
        match self.steering.phase {
            _ if estimate.bound > BOUND_MAX => State::Unsynchronised,
            _ if self.is_in_doubt(now) => State::Interrupted,
            Phase::Start => State::Acquiring,
            _ if now.raw - last.raw > patience => State::Holdover,
            _ if contested => State::Contested,
            Phase::Acquiring => State::Acquiring,
            Phase::Steady => State::Synchronised,
        }
    }
}
