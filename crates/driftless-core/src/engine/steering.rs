//! The engine's hand on the clock: what was asked of it, what it answered, and which state that leaves us in.

use crate::clock::{ClockCommand, ClockError, ClockState, Rate, Status};
use crate::discipline::{Phase, correct};
use crate::estimator::Estimate;
use crate::event::{Event, StepReason};
use crate::report::State;
use crate::time::{Frequency, Now, RawTime, Seconds, Span};

use super::{Engine, Output, StepPolicy};

/// What is known about the clock, and how far putting it right has come.
pub(super) struct Steering {
    pub(super) observe: bool,
    pub(super) policy: StepPolicy,
    /// Tick and frequency in force, as last read back.
    pub(super) rate: Option<Rate>,
    /// TAI − UTC in seconds as the kernel has it; 0 where nobody set it.
    pub(super) tai: i32,
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
    pub(super) interruptions: u64,
}

/// Samples before the clock is first set.
const SAMPLES_BEFORE_START: u64 = 3;
/// A jump smaller than this is slewed away and called nothing.
const INTERRUPTION_MIN: Seconds = Seconds(5e-3);
/// The clock is right when its offset is below this, or three of the estimate's deviations.
const RIGHT_OFFSET: Seconds = Seconds(200e-6);
/// The rate is known well enough for gentle slews below this.
const RIGHT_FREQUENCY_ERROR: Frequency = Frequency(100e-6);
/// An offset that calls for hard slewing again.
const LOST_OFFSET: Seconds = Seconds(5e-3);
/// Poll intervals without a sample after which the frequency is said to be held.
const HOLDOVER_POLLS: i64 = 5;
/// How long another writer is remembered.
const CONTESTED_FOR: Span = Span::from_secs(600);
/// Above this the kernel itself calls its clock unsynchronised.
const BOUND_MAX: Seconds = Seconds(16.0);

impl Steering {
    pub(super) const fn new(observe: bool, policy: StepPolicy) -> Self {
        Self {
            observe,
            policy,
            rate: None,
            tai: 0,
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
            interruptions: 0,
        }
    }

    pub(super) const fn asked(&mut self, command: ClockCommand) {
        self.asked = Some(command);
    }

    pub(super) fn deadline(&self) -> Option<RawTime> {
        self.slew_ends
    }

    /// Wall against raw, minus one.
    pub(super) fn rate_total(&self) -> Frequency {
        self.rate.map_or(Frequency::ZERO, Rate::total)
    }

    /// The followed source jumped: the guest stood still, or the source was stepped.
    pub(super) fn interrupted(&mut self, by: Seconds) {
        if by.abs() > INTERRUPTION_MIN {
            self.interruptions += 1;
            self.interrupted = true;
        }
        self.phase_back();
    }

    /// The counter runs at another rate: what was slewed gently must be caught up with.
    pub(super) fn rate_changed(&mut self) {
        self.phase_back();
    }

    pub(super) const fn order_step(&mut self) {
        self.step_ordered = true;
    }

    fn phase_back(&mut self) {
        if self.phase == Phase::Steady {
            self.phase = Phase::Acquiring;
        }
    }

    /// Moves on from the start to acquiring and from there to steady, or back.
    fn advance(&mut self, estimate: &Estimate) {
        let right = RIGHT_OFFSET.max(estimate.offset_error * 3.0);
        let is_right = estimate.offset.abs() < right && estimate.frequency_error < RIGHT_FREQUENCY_ERROR;
        match self.phase {
            Phase::Acquiring if is_right => {
                self.phase = Phase::Steady;
                self.interrupted = false;
            }
            Phase::Steady if estimate.offset.abs() > LOST_OFFSET => self.phase = Phase::Acquiring,
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
        match command {
            ClockCommand::Read => {
                self.compare(now, &state);
                self.steering.rate = Some(state.rate);
                self.steer(now);
            }
            ClockCommand::TakeOver => {
                self.steering.rate = Some(state.rate);
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
        let Some((estimate, samples, horizon, in_doubt)) = self.followed_source().and_then(|source| {
            let estimate = source.estimator.estimate(now)?;
            let horizon = source.inquiry.schedule().poll().interval();
            Some((estimate, source.estimator.samples(), horizon, source.estimator.is_in_doubt()))
        }) else {
            return;
        };
        let is_early = self.steering.phase == Phase::Start && samples < SAMPLES_BEFORE_START;
        if (is_early && !self.steering.step_ordered) || in_doubt {
            return;
        }
        if self.steering.observe {
            self.steering.phase = Phase::Steady;
            return;
        }
        self.steering.advance(&estimate);
        if core::mem::take(&mut self.steering.step_ordered) {
            self.step(estimate.offset.to_span(), StepReason::Order);
            self.tell_kernel(&estimate);
            return;
        }
        self.correct(now, &estimate, horizon);
        self.tell_kernel(&estimate);
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

    fn tell_kernel(&mut self, estimate: &Estimate) {
        let status = Status {
            synchronised: self.steering.phase == Phase::Steady && estimate.bound < BOUND_MAX,
            leap: self.leap(),
            max_error: estimate.bound,
            est_error: estimate.offset_error,
            tai: None,
        };
        self.outputs.push_back(Output::Clock(ClockCommand::SetStatus(status)));
    }

    /// Ends a slew whose offset is gone, and keeps the state true as time goes by.
    pub(super) fn watch(&mut self, now: Now) {
        if self.steering.slew_ends.is_some_and(|ends| now.raw >= ends) {
            self.steering.slew_ends = None;
            self.outputs.push_back(Output::Clock(ClockCommand::Read));
        }
        let state = self.current_state(now);
        if state != self.steering.state {
            self.steering.state = state;
            self.emit(Event::StateChanged { state });
        }
    }

    fn current_state(&self, now: Now) -> State {
        let Some(source) = self.followed_source() else { return State::Unsynchronised };
        let (Some(last), Some(estimate)) = (source.estimator.last(), source.estimator.estimate(now)) else {
            return State::Unsynchronised;
        };
        let contested =
            self.steering.contested_at.is_some_and(|at| now.raw - at < CONTESTED_FOR) && !self.config.observe;
        let patience = Span::from_nanos(
            source.inquiry.schedule().poll().interval().as_nanos().saturating_mul(HOLDOVER_POLLS),
        ) + Span::from_secs(2);
        match self.steering.phase {
            _ if estimate.bound > BOUND_MAX => State::Unsynchronised,
            _ if source.estimator.is_in_doubt() => State::Interrupted,
            Phase::Start => State::Acquiring,
            _ if now.raw - last.raw > patience => State::Holdover,
            _ if contested => State::Contested,
            Phase::Acquiring => State::Acquiring,
            Phase::Steady => State::Synchronised,
        }
    }
}
