//! The world's clockwork: one guest, its servers and the ways to them, and all that happens, in the order of true time.
//!
//! Nothing here ticks. The next thing to happen is the least of: the queue's head, the engine's deadline as the counter will reach it, and the next
//! look from outside. So a quiet week costs as much as its exchanges and its looks.

mod told;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use driftless_core::disruption::Sign;
use driftless_core::source::{LookError, Reading};
use driftless_core::time::{Seconds, Span, WallTime};

use crate::device::Device;
use crate::guest::{Guest, Wish};
use crate::hypervisor::Happening;
use crate::limits::Breach;
use crate::link::{Link, Way};
use crate::noise::Seed;
use crate::oracle::Oracle;
use crate::record::{Look, Record, Summary};
use crate::reference::Reference;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::truth::TrueTime;

/// A running world.
pub struct World {
    /// What it is made after.
    pub scenario: Scenario,
    /// The machine in it.
    pub guest: Guest,
    seed: u64,
    at: TrueTime,
    peers: Vec<Peer>,
    devices: Vec<Device>,
    /// Who is told what no daemon can know, where somebody wants the floor.
    pub oracle: Option<Oracle>,
    queue: BinaryHeap<Reverse<Due>>,
    queued: u64,
    /// What is seen of it.
    pub record: Record,
    /// The next regular look, and the next extra one.
    next_look: TrueTime,
    next_extra: TrueTime,
    /// The last disturbance's end: extra looks are made for a while.
    disturbed: TrueTime,
}

/// A server and the way to it.
struct Peer {
    link: Link,
    server: Server,
}

/// Something that will happen; what was queued first happens first.
#[derive(Debug, Clone)]
struct Due {
    at: TrueTime,
    order: u64,
    what: Arrival,
}

#[derive(Debug, Clone)]
enum Arrival {
    /// A request reaches its server.
    Request { peer: usize, packet: Packet },
    /// A reply reaches the guest.
    Reply { peer: usize, packet: Packet },
    /// The daemon reads a reply that the kernel stamped.
    Read { peer: usize, packet: Packet, stamp: WallTime },
    /// The daemon begins to look at a device: the RTC's edge was awaited.
    Edge { device: usize },
    /// What it found.
    Found { device: usize, result: Result<Reading, LookError> },
    /// The scenario's event of this index.
    Event(usize),
    /// Something tells the daemon that it may have been interrupted.
    Sign(Sign),
    /// The daemon starts.
    Start,
    /// The guest runs again.
    Resume,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    data: [u8; 48],
    /// The socket it belongs to: one a request.
    socket: u64,
    /// For the oracle: the cleared counter when the request left, and when the server had it.
    left: i64,
    served: TrueTime,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// After a disturbance the clock is looked at every millisecond for 2 s, then every 10 ms for half a minute.
const CLOSE: (Span, Span) = (Span::from_secs(2), Span::from_millis(1));
const NEAR: (Span, Span) = (Span::from_secs(30), Span::from_millis(10));

impl World {
    /// A world at its beginning.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let streams = Seed(seed);
        let peers = scenario.servers.iter().enumerate().map(|(index, server)| {
            let name = server.chance.clone().unwrap_or_else(|| format!("server {index}"));
            let clock = Reference::new(server.clock.clone(), streams.stream(&format!("{name} clock")));
            let link = Link::new(server.path.clone(), streams, &name);
            Peer { link, server: Server::new(clock, server.says.clone()) }
        });
        let devices = scenario.devices.iter().enumerate();
        let devices = devices
            .map(|(index, device)| Device::new(device.clone(), streams, &format!("device {index}")))
            .collect();
        let mut world = Self {
            guest: Guest::new(&scenario, streams),
            seed,
            at: TrueTime::ZERO,
            peers: peers.collect(),
            devices,
            oracle: None,
            queue: BinaryHeap::new(),
            queued: 0,
            record: Record::new(TrueTime::from_seconds(scenario.settle)),
            next_look: TrueTime::ZERO + Seconds(scenario.look).to_span(),
            next_extra: TrueTime::ZERO + CLOSE.1,
            disturbed: TrueTime::ZERO,
            scenario,
        };
        let events: Vec<f64> = world.scenario.events.iter().map(|event| event.at).collect();
        for (index, at) in events.into_iter().enumerate() {
            world.push(TrueTime::from_seconds(at), Arrival::Event(index));
        }
        let starts_at = world.scenario.guest.starts_at;
        if starts_at > 0.0 {
            world.push(TrueTime::from_seconds(starts_at), Arrival::Start);
        }
        world
    }

    /// Runs to the scenario's end.
    pub fn finish(&mut self) {
        self.run_until(TrueTime::from_seconds(self.scenario.duration));
    }

    /// Runs for so many seconds.
    pub fn run(&mut self, seconds: f64) {
        self.run_until(self.at + Seconds(seconds).to_span());
    }

    /// Runs until `end`.
    pub fn run_until(&mut self, end: TrueTime) {
        loop {
            self.carry_out();
            let queued = self.queue.peek().map_or(TrueTime::NEVER, |Reverse(due)| due.at);
            let wake = self.guest.wakes_at(self.at).unwrap_or(TrueTime::NEVER);
            let look = self.next_look.min(self.next_extra);
            let next = queued.min(wake).min(look);
            if next > end {
                break self.advance(end);
            }
            self.advance(next);
            if queued == next {
                let due = self.queue.pop();
                due.into_iter().for_each(|Reverse(due)| self.happen(due.what));
            } else if wake == next {
                self.guest.wake();
            } else {
                self.look();
            }
        }
    }

    /// True time.
    #[must_use]
    pub const fn at(&self) -> TrueTime {
        self.at
    }

    /// True offset, truth − wall clock, s: positive is behind. Where the scenario says so, a reference's clock stands for the truth.
    #[must_use]
    pub fn offset(&self) -> f64 {
        let standard = self.scenario.against.and_then(|index| self.reference(index));
        let error = standard.map_or(0.0, |reference| reference.error(self.at));
        Seconds::from(self.at.wall() - self.guest.now().wall).0 + error
    }

    /// The clock of a reference: servers first, then devices.
    fn reference(&self, index: usize) -> Option<&Reference> {
        let server = self.peers.get(index).map(|peer| &peer.server.clock);
        server.or_else(|| Some(&self.devices.get(index.checked_sub(self.peers.len())?)?.clock))
    }

    /// The way to a server, to be changed while the world runs.
    pub fn link_mut(&mut self, index: usize) -> Option<&mut Link> {
        self.peers.get_mut(index).map(|peer| &mut peer.link)
    }

    /// Lets something happen now.
    pub fn strike(&mut self, what: Happening) {
        let ends = self.at + Seconds(what.lasts()).to_span();
        if what.is_disturbance() {
            self.record.disturbed(ends);
            self.disturbed = ends;
            self.next_extra = ends + CLOSE.1;
        }
        self.push(ends, Arrival::Resume);
        if let Happening::Pause { counter_runs, sign, .. } = what {
            sign.into_iter().for_each(|sign| self.push(ends, Arrival::Sign(sign)));
            let seen = self.guest.sees_rtc_after(ends - self.at).filter(|_| !counter_runs);
            seen.into_iter().for_each(|after| self.push(ends + after, Arrival::Sign(Sign::RtcMoved)));
        }
        self.guest.strike(self.at, what);
    }

    /// What came of it so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let history = &self.guest.kernel.history;
        let backward = history.steps.iter().filter(|by| **by < Span::ZERO).count();
        Summary {
            scenario: self.scenario.name.clone(),
            seed: self.seed,
            duration: self.at.seconds(),
            backward_steps: count(backward),
            steps: count(history.steps.len()),
            packets: self.guest.requests,
            adjustments: history.adjustments,
            tick_changes: history.tick_changes,
            violations: self.guest.invariants.count,
            oracle_rms_offset: self.oracle.as_ref().and_then(Oracle::rms),
            ..self.record.summary()
        }
    }

    /// Which limits are broken.
    #[must_use]
    pub fn breaches(&self) -> Vec<Breach> {
        self.scenario.limits.breaches(&self.summary())
    }

    fn push(&mut self, at: TrueTime, what: Arrival) {
        self.queued += 1;
        self.queue.push(Reverse(Due { at, order: self.queued, what }));
    }

    fn advance(&mut self, to: TrueTime) {
        self.at = to;
        self.guest.advance(to);
    }

    /// Carries out what the engine wants until it wants nothing more.
    fn carry_out(&mut self) {
        while let Some(wish) = self.guest.carry_out() {
            match wish {
                Wish::Send(peer, data) => self.send(peer, data),
                Wish::Look(source) => {
                    let device = source.saturating_sub(self.peers.len());
                    let wait = self.devices.get(device).map_or(Span::ZERO, |device| device.waits(self.at));
                    self.push(self.at + wait, Arrival::Edge { device });
                }
            }
        }
    }

    fn send(&mut self, peer: usize, data: [u8; 48]) {
        let left = self.guest.oscillator.cleared();
        let packet = Packet { data, socket: self.guest.socket(peer), left, served: self.at };
        let Some(to) = self.peers.get_mut(peer) else { return };
        for after in to.link.send(self.at, Way::Up).into_iter().flatten() {
            self.push(self.at + after, Arrival::Request { peer, packet });
        }
    }

    fn happen(&mut self, what: Arrival) {
        match what {
            Arrival::Request { peer, packet } => self.serve(peer, packet),
            Arrival::Reply { peer, packet } => self.arrive(peer, packet),
            Arrival::Read { peer, packet, stamp } => {
                self.guest.read(peer, packet.socket, &packet.data, stamp);
            }
            Arrival::Edge { device } => self.begin_look(device),
            Arrival::Found { device, result } => self.guest.looked(self.peers.len() + device, result),
            // In a guest that does not run nothing happens until it does.
            Arrival::Event(index) if self.guest.stopped().is_some() => {
                let until = self.guest.stopped().map_or(self.at, |(until, _)| until);
                self.push(until, Arrival::Event(index));
            }
            Arrival::Event(index) => {
                let event = self.scenario.events.get(index).map(|event| event.what);
                event.into_iter().for_each(|what| self.strike(what));
            }
            Arrival::Sign(sign) => self.guest.sign(sign),
            Arrival::Start => {
                self.record.started(self.at);
                self.disturbed = self.at;
                self.next_extra = self.at + CLOSE.1;
                self.guest.strike(self.at, Happening::Restart { keeps_frequency: true });
            }
            // Time had to stop here, no more: `Guest::advance` sees to the rest.
            Arrival::Resume => {}
        }
    }

    fn serve(&mut self, peer: usize, packet: Packet) {
        let Some(at) = self.peers.get_mut(peer) else { return };
        let data = at.server.answer(&packet.data, self.at);
        let leaves = self.at + at.server.holds();
        for after in at.link.send(leaves, Way::Down).into_iter().flatten() {
            self.push(
                leaves + after,
                Arrival::Reply { peer, packet: Packet { data, served: self.at, ..packet } },
            );
        }
    }

    /// A reply reaches the guest: kept while it does not run, stamped by its kernel, read by its daemon a little later.
    fn arrive(&mut self, peer: usize, packet: Packet) {
        if let Some((until, is_lost)) = self.guest.stopped() {
            if !is_lost {
                self.push(until, Arrival::Reply { peer, packet });
            }
            return;
        }
        let stolen = self.guest.stolen();
        if stolen > Span::ZERO {
            return self.push(self.at + stolen, Arrival::Reply { peer, packet });
        }
        self.tell_oracle(peer, &packet);
        let stamp = self.guest.now().wall;
        match self.guest.read_latency() {
            Span::ZERO => self.guest.read(peer, packet.socket, &packet.data, stamp),
            after => self.push(self.at + after, Arrival::Read { peer, packet, stamp }),
        }
    }

    fn begin_look(&mut self, device: usize) {
        if let Some((until, _)) = self.guest.stopped() {
            return self.push(until, Arrival::Edge { device });
        }
        let (at, now) = (self.at, self.guest.now());
        let Some(found) = self.devices.get_mut(device) else { return };
        let (result, takes) = found.look(at, now);
        self.tell_oracle_of_look(device, &result);
        if takes == Span::ZERO {
            self.guest.looked(self.peers.len() + device, result);
        } else {
            self.push(at + takes, Arrival::Found { device, result });
        }
    }

    fn look(&mut self) {
        let is_regular = self.next_look <= self.at;
        if self.guest.stopped().is_none() {
            let look = self.seen(is_regular);
            self.record.look(&look, !is_regular);
            self.guest.invariants.look(&look, self.guest.now().wall);
            if let Some(oracle) = self.oracle.as_mut().filter(|_| is_regular) {
                oracle.look(
                    self.guest.oscillator.cleared(),
                    self.at.as_nanos(),
                    self.at >= self.record.settle,
                );
            }
        }
        if is_regular {
            self.next_look = self.at + Seconds(self.scenario.look).to_span();
        }
        let since = self.at - self.disturbed;
        self.next_extra = match () {
            () if since < CLOSE.0 => self.at.max(self.disturbed) + CLOSE.1,
            () if since < NEAR.0 => self.at + NEAR.1,
            () => self.next_look,
        };
    }

    /// The guest as it is now, seen from outside.
    #[must_use]
    pub fn seen(&self, with_estimate: bool) -> Look {
        let now = self.guest.now();
        let (counter, clock) = (self.guest.oscillator.rate(), self.guest.kernel.slope());
        Look {
            at: self.at,
            offset: self.offset(),
            rate_error: counter + clock + counter * clock,
            estimate: if with_estimate { self.guest.engine.estimate(now) } else { None },
            rate: self.guest.kernel.rate(),
            stepped: self.guest.kernel.history.stepped,
        }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
