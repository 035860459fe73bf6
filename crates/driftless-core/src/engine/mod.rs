//! The machine with three verbs: [`Engine::handle`], [`Engine::poll_output`], [`Engine::deadline`].
//!
//! A driver feeds what happened, carries out what is asked until nothing more is, and comes back at the deadline. `now` is a
//! reading of (raw, wall) that the driver took; the engine reads no clock.

mod io;

pub use io::{Config, Entropy, FrequencyPrior, Input, Order, Output, StepPolicy};

use crate::report::{Report, State};
use crate::time::{Now, RawTime};

/// Everything that decides, behind three verbs.
pub struct Engine {
    config: Config,
}

impl Engine {
    /// A machine that knows nothing yet; call [`Self::poll_output`] at once for what it wants first.
    #[must_use]
    pub fn new(config: Config, _now: Now, _entropy: Box<dyn Entropy>) -> Self {
        Self { config }
    }

    /// Something happened, or the deadline came ([`Input::Wake`]).
    pub fn handle(&mut self, _now: Now, _input: Input<'_>) {}

    /// The next thing to do; `None` when there is nothing until the next input or the deadline.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When to come back with [`Input::Wake`] if nothing else happens first.
    #[must_use]
    pub fn deadline(&self) -> Option<RawTime> {
        None
    }

    /// What an observer may see.
    #[must_use]
    pub fn report(&self, _now: Now) -> Report {
        Report {
            state: State::Unsynchronised,
            observe: self.config.observe,
            source: None,
            stratum: 16,
            reference_id: None,
            leap: crate::clock::Leap::Unknown,
            offset: None,
            offset_bound: None,
            frequency: None,
            frequency_error: None,
            tick: None,
            kernel_frequency: None,
            clocksource: None,
            root_delay: None,
            root_dispersion: None,
            last_update: None,
            steps: 0,
            interruptions: 0,
            other_writers: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// The frequency worth keeping over a restart, once it is known.
    #[must_use]
    pub fn learnt_frequency(&self) -> Option<FrequencyPrior> {
        None
    }
}
