//! The machine with three verbs: [`Engine::handle`], [`Engine::poll_output`], [`Engine::deadline`].
//!
//! A driver feeds what happened, carries out what is asked until nothing more is, and comes back at the deadline. `now` is a
//! reading of (raw, wall) that the driver took; the engine reads no clock.
//!
//! The way of one sample: [`Input::Datagram`] → [`crate::source::Association::receive`] → [`crate::estimator::Estimator::add`] → [`crate::selection::select`] → a look at the
//! clock ([`ClockCommand::Read`]) → [`crate::discipline::correct`] → [`Output::Clock`].

mod choosing;
mod io;
mod last_resort;
mod reporting;
mod steering;
mod wallwatch;

use std::collections::VecDeque;
use std::net::SocketAddr;

pub use io::{Config, FrequencyPrior, Input, Order, Output};

pub use crate::entropy::Entropy;
pub use crate::policy::{Leave, Method, OtherWriter, Policy, StepPolicy, StepPolicyError};

use crate::clock::ClockCommand;
use crate::disruption::Disruption;
use crate::estimator::Tracker;
use crate::event::{Event, Rejection};
use crate::sample::Sample;
use crate::source::{
    Action, Edge, Endpoint, Inquiry, LookError, Peer, PollExponent, Reading, Refusal, SourceClass, SourceId,
};
use crate::time::{Now, RawTime, Seconds, Span, WallTime};
use reporting::Updates;
use steering::Steering;

/// Everything that decides, behind three verbs.
pub struct Engine {
    config: Config,
    entropy: Box<dyn Entropy>,
    sources: Vec<Source>,
    /// The nearest of those who are followed.
    followed: Option<SourceId>,
    /// All who are followed: they answer and agree.
    agreeing: Vec<SourceId>,
    disruption: Disruption,
    /// When this engine was made.
    started: RawTime,
    steering: Steering,
    outputs: VecDeque<Output>,
    updates: Updates,
}

/// One source with what is believed of it.
struct Source {
    inquiry: Inquiry,
    estimator: Tracker,
    is_falseticker: bool,
    /// The last look that fitted what was believed, or that settled what did not.
    fitted: RawTime,
    /// The counter's rate changed while it was silent: what it said before votes no more.
    is_obsolete: bool,
    /// Where the second of an RTC begins; of others nothing.
    edge: Option<Edge>,
    /// What an RTC did that is not explained yet, and when it last moved.
    moved: Option<last_resort::Move>,
    jumped_at: RawTime,
    was_reachable: bool,
    /// What was last told of its failing: the same is not told again until it answers.
    told: Option<Event>,
}

/// Looks that settle a doubt.
const DOUBT_BURST: u8 = 4;
/// How much of the path's jitter may be left in the estimate: looks are made until that is so.
const JITTER_PART: f64 = 0.1;
/// Unanswered requests after which a source that never answered is called silent.
const SILENT_AFTER: u64 = 4;
/// Looks at each source that an order for a burst brings.
const ORDERED_BURST: u8 = 4;

impl Engine {
    /// A machine that knows nothing yet; call [`Self::poll_output`] at once for what it wants first.
    #[must_use]
    pub fn new(config: Config, now: Now, entropy: Box<dyn Entropy>) -> Self {
        let prior = config.prior.map(|prior| (prior.frequency, prior.error));
        let sources = config
            .sources
            .iter()
            .map(|source| Source {
                inquiry: Inquiry::new(source.clone(), now),
                estimator: Tracker::new((config.method, config.dntpd), prior),
                is_falseticker: false,
                fitted: now.raw,
                is_obsolete: false,
                edge: Source::edge_of(source.class),
                moved: None,
                jumped_at: now.raw,
                was_reachable: false,
                told: None,
            })
            .collect();
        let first = if config.observe { ClockCommand::Read } else { ClockCommand::TakeOver };
        let mut engine = Self {
            steering: Steering::new(config.observe, config.step),
            config,
            entropy,
            sources,
            followed: None,
            agreeing: Vec::new(),
            disruption: Disruption::default(),
            started: now.raw,
            outputs: VecDeque::from([Output::Clock(first)]),
            updates: Updates::default(),
        };
        engine.ask(now);
        engine
    }

    /// Something happened, or the deadline came ([`Input::Wake`]).
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.watch_wall(now);
        match input {
            Input::Sign(sign) => self.distrust(now, sign),
            Input::Push(push) => self.pushed(now, push),
            Input::Wake => {}
            Input::Resolved { source, addresses } => self.resolved(now, source, addresses),
            Input::Transmitted { source, at, .. } => {
                if let Some(Inquiry::Ntp(association)) = self.source_mut(source).map(|s| &mut s.inquiry) {
                    association.transmitted(at);
                }
            }
            Input::TransmitFailed { source, errno } => self.transmit_failed(source, errno),
            Input::Datagram { source, from, data, stamp } => self.datagram(now, source, from, data, stamp),
            Input::Reading { source, result } => self.reading(now, source, result),
            Input::Clock(result) => self.clock_answered(now, result),
            Input::Order(order) => self.ordered(now, order),
            Input::OrderOf { source, order } => self.ordered_of(now, source, order),
        }
        self.ask(now);
        self.explain_moves(now);
        self.watch(now);
    }

    /// The next thing to do; `None` when there is nothing until the next input or the deadline.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        if let Output::Clock(command) = &output {
            self.steering.asked(*command);
        }
        Some(output)
    }

    /// When to come back with [`Input::Wake`] if nothing else happens first.
    #[must_use]
    pub fn deadline(&self) -> Option<RawTime> {
        let polls = self.sources.iter().filter_map(|source| source.inquiry.schedule().deadline());
        polls.chain(self.steering.deadline()).min()
    }

    /// How fast the steered clock runs against the counter: a wait until [`Self::deadline`] on it is that much longer.
    #[must_use]
    pub fn pace(&self) -> f64 {
        1.0 + self.steering.rate_total().0
    }

    fn source(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(usize::from(id.0))
    }

    fn source_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        self.sources.get_mut(usize::from(id.0))
    }

    fn ids(&self) -> impl Iterator<Item = SourceId> + use<> {
        let count = u16::try_from(self.sources.len()).unwrap_or(u16::MAX);
        (0..count).map(SourceId)
    }

    /// Has the clock read, upon which it is steered: once, however many reasons there are, since the second answer would know nothing of the
    /// step that the first one led to.
    fn look_at_clock(&mut self) {
        let look = Output::Clock(ClockCommand::Read);
        if !self.outputs.contains(&look) {
            self.outputs.push_back(look);
        }
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Tells what is wrong with a source once, until it answers or fails in another way.
    fn complain(&mut self, id: SourceId, event: Event) {
        let Some(source) = self.source_mut(id) else { return };
        if source.told.as_ref() != Some(&event) {
            source.told = Some(event.clone());
            self.emit(event);
        }
    }

    /// Lets every association do what is due.
    fn ask(&mut self, now: Now) {
        for id in self.ids() {
            let Some(source) = self.sources.get_mut(usize::from(id.0)) else { continue };
            let seen = source.inquiry.seen();
            let was_missed = seen.sent > 0 && seen.reach & 1 == 0;
            let due = source.inquiry.due(now, self.entropy.as_mut());
            if was_missed && due.is_some() {
                source.estimator.unanswered();
                source.plan(now);
            }
            match due {
                Some(Action::Resolve) => {
                    if let Endpoint::Udp { host, port } = source.inquiry.config().endpoint.clone() {
                        self.outputs.push_back(Output::Resolve { source: id, host, port });
                    }
                }
                Some(Action::Look) => {
                    self.outputs.push_back(Output::Look { source: id });
                    self.note_silence(id);
                }
                Some(Action::Transmit(to, data)) => {
                    self.outputs.push_back(Output::Transmit { source: id, to, data });
                    self.note_silence(id);
                }
                None => {}
            }
        }
    }

    fn note_silence(&mut self, id: SourceId) {
        let Some(source) = self.source_mut(id) else { return };
        let seen = source.inquiry.seen();
        let has_never_answered = seen.sent >= SILENT_AFTER && source.told.is_none();
        if seen.reach == 0 && (source.was_reachable || has_never_answered) {
            source.was_reachable = false;
            source.told.get_or_insert(Event::Unreachable { source: id });
            self.emit(Event::Unreachable { source: id });
        }
    }

    fn resolved(&mut self, now: Now, id: SourceId, addresses: Vec<SocketAddr>) {
        let count = addresses.len();
        let Some(source) = self.source_mut(id) else { return };
        let Inquiry::Ntp(association) = &mut source.inquiry else { return };
        let before = association.address();
        association.resolved(now, addresses);
        if before.is_some() && association.address() != before {
            source.estimator.forget_path();
        }
        if count == 0 {
            self.complain(id, Event::ResolveFailed { source: id });
        } else {
            self.emit(Event::Resolved { source: id, addresses: count });
        }
    }

    fn transmit_failed(&mut self, id: SourceId, errno: i32) {
        let Some(source) = self.source_mut(id) else { return };
        if let Inquiry::Ntp(association) = &mut source.inquiry {
            association.transmit_failed();
        }
        self.complain(id, Event::SendFailed { source: id, errno });
    }

    fn datagram(&mut self, now: Now, id: SourceId, from: Peer, data: &[u8], stamp: Option<WallTime>) {
        let rate = self.steering.rate_total().0;
        let Some(source) = self.source_mut(id) else { return };
        let Inquiry::Ntp(association) = &mut source.inquiry else { return };
        let sample = match association.receive(now, rate, from, data, stamp) {
            Ok(sample) => sample,
            Err(Refusal::Kissed(code)) => return self.complain(id, Event::Kissed { source: id, code }),
            // Anybody can send foreign packets: they are not worth a line each.
            Err(Refusal::Rejected(Rejection::NotOurs)) => return,
            Err(Refusal::Rejected(reason)) => {
                return self.complain(id, Event::Rejected { source: id, reason });
            }
        };
        self.sampled(now, id, &sample);
    }

    fn reading(&mut self, now: Now, id: SourceId, result: Result<Reading, LookError>) {
        let truth = self.truth_beside(id, &result);
        let kernel_tai = self.steering.tai;
        let Some(source) = self.source_mut(id) else { return };
        let Inquiry::Device(device) = &mut source.inquiry else { return };
        match device.read(result, truth, kernel_tai) {
            Ok(sample) => self.sampled(now, id, &sample),
            Err(error) => self.complain(id, Event::LookFailed { source: id, error }),
        }
    }

    fn sampled(&mut self, now: Now, id: SourceId, sample: &Sample) {
        let before = self.estimate(now).map(|estimate| estimate.offset);
        let Some(source) = self.source_mut(id) else { return };
        let verdict = source.estimator.add(sample);
        let is_new = !core::mem::replace(&mut source.was_reachable, true);
        source.told = None;
        source.plan(now);
        if is_new {
            self.emit(Event::Reachable { source: id });
        }
        self.emit(Event::Sampled { source: id, offset: sample.offset, delay: sample.delay });
        self.judged(now, id, sample.raw, verdict);
        if let Some(source) = self.source_mut(id).filter(|source| !source.estimator.is_in_doubt()) {
            source.fitted = sample.raw;
            source.is_obsolete = false;
        }
        self.choose(now);
        self.learn_edge(now, id);
        let is_settled = self.settle(now, id, sample.raw);
        if is_settled || self.agreeing.contains(&id) {
            let after = self.estimate(now).map(|estimate| estimate.offset);
            self.updates.happened(now, before.zip(after).map(|(before, after)| after - before));
            self.look_at_clock();
        }
    }

    /// An order to one source; those that are about the whole clock are for [`Input::Order`].
    fn ordered_of(&mut self, now: Now, id: SourceId, order: Order) {
        let Some(source) = self.source_mut(id) else { return };
        match order {
            Order::Burst => source.inquiry.schedule_mut().burst(now.raw, ORDERED_BURST),
            Order::Offline | Order::Online => source.inquiry.set_offline(now, order == Order::Offline),
            Order::MakeStep | Order::Leave => {}
        }
    }

    fn ordered(&mut self, now: Now, order: Order) {
        match order {
            Order::MakeStep => {
                self.steering.order_step();
                self.look_at_clock();
            }
            Order::Leave => self.leave(now),
            Order::Burst | Order::Offline | Order::Online => {
                self.ids().for_each(|id| self.ordered_of(now, id, order));
            }
        }
    }
}

impl Source {
    /// Whether it answered one of the last eight looks, and not so long ago that the looks themselves are too rare, as after many a
    /// kiss-o'-death.
    fn is_live(&self, now: Now) -> bool {
        const LOOKS: i64 = 8;
        const GRACE: Span = Span::from_secs(64);
        let longest =
            self.inquiry.config().max_poll.interval().max(self.estimator.interval().unwrap_or(Span::ZERO));
        let patience = Span::from_nanos(longest.as_nanos().saturating_mul(LOOKS)) + GRACE;
        let is_recent = self.estimator.last().is_none_or(|last| now.raw - last.raw < patience);
        self.inquiry.seen().reach != 0 && is_recent
    }

    /// Samples before the clock is first set. One look at a device is the best of several already.
    const fn samples_before_start(&self) -> u64 {
        match self.inquiry {
            Inquiry::Device(_) => 1,
            Inquiry::Ntp(_) => 3,
        }
    }

    /// Whether more looks are nobody's burden.
    const fn is_near(&self) -> bool {
        matches!(self.inquiry.config().class, SourceClass::Hypervisor | SourceClass::Host)
    }

    /// Looks several times in quick order.
    fn look_closely(&mut self, now: Now) {
        self.inquiry.schedule_mut().burst(now.raw, DOUBT_BURST);
    }

    /// When to look again: as rarely as keeps the predicted error near what one look can tell.
    fn plan(&mut self, now: Now) {
        if let Some(interval) = self.estimator.interval() {
            self.inquiry.schedule_mut().set_interval(interval);
            return;
        }
        if self.estimator.has_obviously_jumped() {
            self.inquiry.schedule_mut().press(now.raw, DOUBT_BURST);
            return;
        }
        if self.estimator.is_in_doubt() {
            self.look_closely(now);
            return;
        }
        let floor = match self.inquiry.config().class {
            SourceClass::Hypervisor | SourceClass::Rtc => Seconds(1e-6),
            SourceClass::Host => Seconds(20e-6),
            SourceClass::Network => Seconds(100e-6),
            SourceClass::Public => Seconds(1e-3),
        };
        let aim = floor.max(self.estimator.jitter() * JITTER_PART);
        let error = |poll: PollExponent| self.estimator.predicted_error(poll.interval()).unwrap_or(aim);
        let poll = self.inquiry.schedule().poll();
        if error(poll.longer()) < aim {
            self.inquiry.schedule_mut().set_poll(poll.longer());
        } else if error(poll) > aim * 2.0 {
            self.inquiry.schedule_mut().set_poll(poll.shorter());
        }
    }
}

#[cfg(test)]
mod tests;
