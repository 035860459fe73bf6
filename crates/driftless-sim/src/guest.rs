//! The guest: counter, kernel and daemon, and how late each gets to run.

use std::net::SocketAddr;

use driftless_core::clock::ClockError;
use driftless_core::disruption::Sign;
use driftless_core::engine::{Config, Engine, FrequencyPrior, Input, Output};
use driftless_core::event::Event;
use driftless_core::source::{LookError, Peer, Reading, SourceId};
use driftless_core::time::{Now, RawTime, Seconds, Span, WallTime};

use crate::hypervisor::{Happening, foreign_rate};
use crate::invariant::Invariants;
use crate::kernel::KernelClock;
use crate::noise::{Noise, Seed};
use crate::oscillator::Oscillator;
use crate::scenario::{GuestConfig, Scenario};
use crate::truth::TrueTime;

/// One machine.
pub struct Guest {
    /// Its counter.
    pub oscillator: Oscillator,
    /// Its kernel's clock.
    pub kernel: KernelClock,
    /// What decides.
    pub engine: Engine,
    /// Requests sent.
    pub requests: u64,
    /// What the engine told, where somebody wants it.
    pub told: Option<Vec<(TrueTime, Event)>>,
    /// What must always hold.
    pub invariants: Invariants,
    /// As the engine was made, to make it anew.
    made: (Config, Seed, u64),
    config: GuestConfig,
    at: TrueTime,
    /// The socket of each source's last request; the ones before are closed.
    sockets: Vec<u64>,
    stop: Option<Stop>,
    latency: Noise,
    theft: Noise,
    /// The deadline that the engine last named, and how late its timer will be.
    timer: (Option<RawTime>, Span),
    /// Wake-ups in a row without time passing.
    spins: u32,
}

/// The guest does not run.
#[derive(Debug, Clone, Copy)]
struct Stop {
    until: TrueTime,
    counter_runs: bool,
    packets_lost: bool,
}

/// What the engine wants of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A request goes to this source.
    Send(usize, [u8; 48]),
    /// This source's device is to be looked at.
    Look(usize),
}

/// Wake-ups at one instant after which the engine is held to be in a loop: time is pushed on by a millisecond, and it shows in the record.
const SPINS_MAX: u32 = 100;

impl Guest {
    /// A guest at the beginning of its world.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: Seed) -> Self {
        let oscillator = Oscillator::new(scenario.oscillator.clone(), seed.stream("oscillator"));
        let wall = TrueTime::ZERO.wall() - Seconds(scenario.start_offset).to_span();
        let now = Now { raw: oscillator.raw(), wall };
        let mut kernel = KernelClock::new(now.raw, wall);
        kernel.refuses = scenario.guest.unprivileged.then_some(ClockError::Permission);
        let made = scenario.engine_config();
        // Until its time comes the daemon is one that asks nobody and sets nothing.
        let first = if scenario.guest.starts_at > 0.0 {
            Config { observe: true, ..Config::default() }
        } else {
            made.clone()
        };
        Self {
            oscillator,
            kernel,
            engine: Engine::new(first, now, Box::new(seed.stream("entropy"))),
            invariants: Invariants::new(made.step, &made.sources),
            made: (made, seed, 0),
            requests: 0,
            told: None,
            config: scenario.guest.clone(),
            at: TrueTime::ZERO,
            sockets: vec![0; scenario.servers.len() + scenario.devices.len()],
            stop: None,
            latency: seed.stream("latency"),
            theft: seed.stream("theft"),
            timer: (None, Span::ZERO),
            spins: 0,
        }
    }

    /// Both of its clocks.
    #[must_use]
    pub const fn now(&self) -> Now {
        Now { raw: self.oscillator.raw(), wall: self.kernel.wall() }
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, to: TrueTime) {
        if to > self.at {
            self.spins = 0;
        }
        match self.stop {
            Some(stop) if !stop.counter_runs => self.oscillator.stand_still(to),
            _ => self.oscillator.advance(to),
        }
        self.at = to;
        self.kernel.advance(self.oscillator.raw());
        self.stop = self.stop.filter(|stop| stop.until > to);
    }

    /// Until when it does not run, and whether its packets are lost meanwhile.
    pub(crate) fn stopped(&self) -> Option<(TrueTime, bool)> {
        self.stop.map(|stop| (stop.until, stop.packets_lost))
    }

    /// When the daemon's timer goes off.
    pub(crate) fn wakes_at(&mut self, at: TrueTime) -> Option<TrueTime> {
        let deadline = self.engine.deadline()?;
        if self.timer.0 != Some(deadline) {
            let late = drawn(&mut self.latency, self.config.wake_latency) + self.stolen();
            self.timer = (Some(deadline), late);
        }
        let due = self.oscillator.when(deadline) + self.timer.1;
        let due = if self.spins > SPINS_MAX { at + Span::from_millis(1) } else { due.max(at) };
        Some(self.stop.map_or(due, |stop| due.max(stop.until)))
    }

    /// The daemon's timer goes off.
    pub(crate) fn wake(&mut self) {
        self.spins += 1;
        if self.spins > SPINS_MAX {
            self.invariants.spins(self.at);
        }
        if self.engine.deadline().is_some_and(|deadline| self.now().raw >= deadline) {
            self.timer.0 = None;
            self.engine.handle(self.now(), Input::Wake);
        }
    }

    /// The socket of the last request to `source`.
    pub(crate) fn socket(&self, source: usize) -> u64 {
        self.sockets.get(source).copied().unwrap_or_default()
    }

    /// How long the daemon takes to read a packet that its kernel stamped.
    pub(crate) fn read_latency(&mut self) -> Span {
        drawn(&mut self.latency, self.config.read_latency)
    }

    /// How long other guests take the processor away now: mostly not at all.
    pub(crate) fn stolen(&mut self) -> Span {
        if self.theft.happens(self.config.steal_chance) {
            drawn(&mut self.theft, self.config.steal)
        } else {
            Span::ZERO
        }
    }

    /// The daemon reads a packet; on a closed socket nothing comes.
    pub(crate) fn read(&mut self, source: usize, socket: u64, data: &[u8; 48], stamp: WallTime) {
        let Some(id) = source_id(source).filter(|_| self.socket(source) == socket) else { return };
        let stamp = (!self.config.no_stamps).then_some(stamp);
        let input = Input::Datagram { source: id, from: Peer::Udp(address(id)), data, stamp };
        self.engine.handle(self.now(), input);
    }

    /// The daemon has looked at a device.
    pub(crate) fn looked(&mut self, source: usize, result: Result<Reading, LookError>) {
        if let Some(source) = source_id(source) {
            self.engine.handle(self.now(), Input::Reading { source, result });
        }
    }

    /// Does what the engine wants, up to the next thing that reaches beyond the guest.
    pub(crate) fn carry_out(&mut self) -> Option<Wish> {
        loop {
            match self.engine.poll_output()? {
                Output::Resolve { source, .. } => {
                    let addresses = vec![address(source)];
                    self.engine.handle(self.now(), Input::Resolved { source, addresses });
                }
                Output::Look { source } => {
                    self.invariants.asked(self.at, source);
                    return Some(Wish::Look(usize::from(source.0)));
                }
                Output::Transmit { source, data, .. } => {
                    self.requests += 1;
                    self.invariants.asked(self.at, source);
                    if let Some(socket) = self.sockets.get_mut(usize::from(source.0)) {
                        *socket = self.requests;
                    }
                    let at = self.now();
                    self.engine.handle(at, Input::Transmitted { source, at, stamp: None });
                    return Some(Wish::Send(usize::from(source.0), data));
                }
                Output::Clock(command) => {
                    let result = self.kernel.apply(command);
                    self.engine.handle(self.now(), Input::Clock(result));
                }
                Output::Event(event) => {
                    let at = self.at;
                    self.invariants.told(at, &event);
                    self.told.iter_mut().for_each(|told| told.push((at, event.clone())));
                }
            }
        }
    }

    /// Something tells the daemon that it may have been interrupted.
    pub(crate) fn sign(&mut self, sign: Sign) {
        self.engine.handle(self.now(), Input::Sign(sign));
    }

    /// When the daemon, that looks at the RTC each second, sees that it has moved: after a pause of this length, if at all.
    pub(crate) fn sees_rtc_after(&mut self, pause: Span) -> Option<Span> {
        // The RTC shows whole seconds, so that less than two may look like one.
        let is_seen = self.config.watches_rtc && pause > Span::from_secs(2);
        is_seen.then(|| Seconds(self.latency.uniform()).to_span())
    }

    /// Something happens to it.
    pub(crate) fn strike(&mut self, at: TrueTime, what: Happening) {
        match what {
            Happening::Pause { lasts, counter_runs, packets_lost, .. } => {
                self.stop = Some(Stop { until: at + Seconds(lasts).to_span(), counter_runs, packets_lost });
            }
            Happening::Restart { keeps_frequency } => self.restart(keeps_frequency),
            Happening::RateJump { by_ppm } => self.oscillator.jump(by_ppm),
            Happening::OtherWriter { tick, frequency_ppm } => {
                // A tick that the kernel refuses changes nothing, as for anybody else.
                let _ = self.kernel.set_rate(foreign_rate(tick, frequency_ppm));
            }
            Happening::OtherStep { by } => self.kernel.step(Seconds(by).to_span()),
            Happening::Adjtime { by } => self.kernel.adjtime(Seconds(by).to_span()),
            Happening::LoopOffset { by } => self.kernel.set_loop_offset(Seconds(by).to_span()),
            Happening::Order { order } => {
                self.invariants.renewed();
                self.engine.handle(self.now(), Input::Order(order.into()));
            }
        }
    }
}

impl Guest {
    /// The daemon was killed, and runs again: it knows at most the frequency that its state file kept. The kernel goes on as it was left.
    fn restart(&mut self, keeps_frequency: bool) {
        let now = self.now();
        let learnt: Option<FrequencyPrior> = self.engine.learnt_frequency(now).filter(|_| keeps_frequency);
        let (config, seed, count) = &mut self.made;
        *count += 1;
        config.prior = learnt.or_else(|| config.prior.filter(|_| keeps_frequency));
        let entropy = seed.stream(&format!("entropy {count}"));
        self.engine = Engine::new(config.clone(), now, Box::new(entropy));
        self.sockets.fill(0);
        self.invariants.renewed();
        self.timer.0 = None;
    }
}

fn drawn(noise: &mut Noise, mean_s: f64) -> Span {
    if mean_s > 0.0 { Seconds(mean_s * noise.exponential()).to_span() } else { Span::ZERO }
}

fn source_id(index: usize) -> Option<SourceId> {
    u16::try_from(index).ok().map(SourceId)
}

/// Every source lives at an address of the documentation's network.
fn address(source: SourceId) -> SocketAddr {
    let [_, last] = source.0.to_be_bytes();
    SocketAddr::from(([192, 0, 2, last], 123))
}
