//! One server's decisions: a packet in, a reply of 48 octets or the reason for silence out.
//!
//! Nothing is allocated for a packet, and all that is remembered has a fixed size.

use std::net::IpAddr;

use crate::time::WallTime;
use crate::wire::NtpTimestamp;

use super::departures::{Departures, is_marked_received, marked_left, marked_received};
use super::limit::Limiter;
use super::reply::{Template, kiss_rate};
use super::request::Request;
use super::{AccessList, Client, Counters, Dropped, Rate, ServerState};

/// A server.
#[derive(Debug)]
pub struct Responder {
    access: AccessList,
    limiter: Limiter,
    departures: Departures,
    template: Template,
    counters: Counters,
    /// A generator's state (Marsaglia's xorshift64): whom of those that ask too often to answer must not be foreseen.
    dice: u64,
}

/// A reply that lacks the time of its leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    packet: [u8; 48],
    received: NtpTimestamp,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Tells when it leaves itself; the client may ask in interleaved mode next, or not.
    Basic { is_followed: bool },
    /// Tells when the one before it left.
    Interleaved,
    /// Tells no time.
    Kiss,
}

/// Of the requests that are too many, one in so many is answered all the same: who is impersonated by a flood is not locked out entirely.
const MERCY: u64 = 16;
/// And one in so many gets a kiss: a flood with a forged sender never comes back to that one at more than 1/16 + 1/64 of its rate.
const KISS: u64 = 64;

impl Responder {
    /// A server that says `state` of its clock. `seed` is unpredictable.
    #[must_use]
    pub fn new(access: AccessList, rate: Rate, state: &ServerState, seed: [u64; 3]) -> Self {
        Self {
            access,
            limiter: Limiter::new(rate, (seed[0], seed[1])),
            departures: Departures::new(),
            template: Template::of(state),
            counters: Counters::default(),
            dice: seed[2] | 1,
        }
    }

    /// From now on this is said of the clock.
    pub fn set_state(&mut self, state: &ServerState) {
        self.template = Template::of(state);
    }

    /// From now on these may ask.
    pub fn set_access(&mut self, access: AccessList) {
        self.access = access;
    }

    /// Decides on a packet that arrived at `received`.
    ///
    /// # Errors
    /// Why it gets no reply. It is counted already.
    pub fn answer(&mut self, packet: &[u8], from: Client, received: WallTime) -> Result<Reply, Dropped> {
        self.counters.received += 1;
        let result = self.decide(packet, from, received);
        match &result {
            Ok(reply) => {
                self.counters.replies += 1;
                match reply.kind {
                    Kind::Basic { .. } => {}
                    Kind::Interleaved => self.counters.interleaved += 1,
                    Kind::Kiss => self.counters.kisses += 1,
                }
            }
            Err(reason) => self.counters.drop(*reason),
        }
        result
    }

    fn decide(&mut self, packet: &[u8], from: Client, received: WallTime) -> Result<Reply, Dropped> {
        let port = match from {
            Client::Net(address) => address.port(),
            Client::Stream(_) => u16::MAX,
        };
        let request = Request::parse(packet, port)?;
        if let Client::Net(address) = from {
            if port == 0 || is_nowhere(address.ip()) {
                return Err(Dropped::Source);
            }
            if !self.access.allows(address.ip()) {
                return Err(Dropped::Denied);
            }
        }
        if !self.limiter.admits(from, received) && !is_this_host(from) {
            return self.refuse(&request, received);
        }
        Ok(self.reply(&request, received))
    }

    fn reply(&mut self, request: &Request<'_>, received: WallTime) -> Reply {
        let received = marked_received(NtpTimestamp::from_wall(received));
        let origin = request.origin();
        // RFC 9769, section 2: a client that may ask in interleaved mode echoes a receive timestamp of ours, and its own two stamps differ.
        let is_followed = is_marked_received(origin) && request.receive() != request.transmit();
        let left = if is_followed { self.departures.take(origin) } else { None };
        let Some(left) = left else {
            let packet = self.template.reply(request, request.transmit(), received);
            return Reply { packet, received, kind: Kind::Basic { is_followed } };
        };
        let mut packet = self.template.reply(request, request.receive(), received);
        packet[40..48].copy_from_slice(&left.0.to_be_bytes());
        Reply { packet, received, kind: Kind::Interleaved }
    }

    /// What becomes of one that asks too often.
    #[cold]
    fn refuse(&mut self, request: &Request<'_>, received: WallTime) -> Result<Reply, Dropped> {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let throw = self.dice >> 32;
        if throw % MERCY == 0 {
            return Ok(self.reply(request, received));
        }
        if throw % KISS == 1 {
            return Ok(Reply { packet: kiss_rate(request), received: NtpTimestamp::ZERO, kind: Kind::Kiss });
        }
        Err(Dropped::Limited)
    }

    /// The reply's octets, as it leaves at `now`, and whether its real departure is worth knowing: then tell it by [`Self::departed`].
    pub fn leaving(&mut self, reply: &Reply, now: WallTime) -> ([u8; 48], bool) {
        let left = marked_left(NtpTimestamp::from_wall(now));
        let mut packet = reply.packet;
        let is_followed = match reply.kind {
            Kind::Kiss => return (packet, false),
            Kind::Interleaved => true,
            Kind::Basic { is_followed } => {
                packet[40..48].copy_from_slice(&left.0.to_be_bytes());
                is_followed
            }
        };
        if is_followed {
            self.departures.expect(reply.received, left);
        }
        (packet, is_followed)
    }

    /// The kernel says that this packet left at `at`.
    pub fn departed(&mut self, packet: &[u8; 48], at: WallTime) {
        let received = packet.get(32..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        let received = NtpTimestamp(u64::from_be_bytes(received));
        self.departures.correct(received, marked_left(NtpTimestamp::from_wall(at)));
    }

    /// So many replies could not be sent.
    pub const fn send_failed(&mut self, count: u64) {
        self.counters.send_failed += count;
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Clients remembered that asked within the last hour.
    #[must_use]
    pub fn clients(&self, now: WallTime) -> usize {
        self.limiter.clients(now)
    }
}

/// Whether no reply may go there: to nobody, or to many.
const fn is_nowhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

/// Whether it asks from this very machine, where a hypervisor's user network stands for all of its guests: no limit, since nobody forges that from outside.
fn is_this_host(client: Client) -> bool {
    match client {
        Client::Stream(_) => false,
        Client::Net(address) => match address.ip().to_canonical() {
            IpAddr::V4(v4) => v4 == std::net::Ipv4Addr::LOCALHOST,
            IpAddr::V6(v6) => v6 == std::net::Ipv6Addr::LOCALHOST,
        },
    }
}

#[cfg(test)]
mod tests;
