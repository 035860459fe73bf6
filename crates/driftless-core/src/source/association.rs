//! One client association with one NTP server: whom to ask and when, and which replies to believe.
//!
//! Follows RFC 5905 (on-wire protocol, section 8; sanity checks, section 9.2), RFC 8633 (best practices) and RFC 9109 (random ports).

use std::net::SocketAddr;

use crate::clock::Leap;
use crate::entropy::Entropy;
use crate::event::Rejection;
use crate::sample::Sample;
use crate::time::{Now, RawTime, Seconds, Span, WallTime};
use crate::wire::{Header, Mode, NtpTimestamp, WireError};

use super::{Endpoint, Peer, Schedule, SourceConfig};

/// A client's side of the exchange with one server.
#[derive(Debug, Clone)]
pub struct Association {
    /// As configured.
    pub config: SourceConfig,
    /// Counters and last words, for reports.
    pub seen: Seen,
    addresses: Vec<SocketAddr>,
    /// The address in use, as an index.
    current: usize,
    schedule: Schedule,
    asked: Option<Asked>,
    is_resolving: bool,
    is_offline: bool,
    /// Polls since the last valid reply.
    missed: u32,
}

/// What a reply is held against.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The transmit timestamp that only the server has seen.
    cookie: u64,
    to: Peer,
    /// When it left; `None` until the driver says so.
    at: Option<Now>,
}

/// What the server has told so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    /// The last eight polls, the newest lowest.
    pub reach: u8,
    /// Requests that left.
    pub sent: u64,
    /// Valid replies.
    pub received: u64,
    /// Stratum as last told; 0 before the first reply.
    pub stratum: u8,
    /// Leap as last told.
    pub leap: Leap,
    /// Round trip of the last valid reply.
    pub delay: Option<Seconds>,
    /// Whom the server follows, as last told (RFC 5905, section 7.3); zeros before.
    pub reference_id: [u8; 4],
    /// log2 of its clock's precision in seconds, as last told.
    pub precision: Option<i8>,
    /// The server refused for good (RFC 5905, section 7.4, DENY and RSTR).
    pub refused: bool,
    /// Whether the last valid reply carried the kernel's receive stamp.
    pub kernel_stamp: bool,
    /// Whether the last reply called itself unsynchronised.
    pub unsynchronised: bool,
}

/// What the association wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Look up the configured host.
    Resolve,
    /// Read the device.
    Look,
    /// Send this there from a new port.
    Transmit(Peer, [u8; 48]),
}

/// Why a reply gave no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It fails a check.
    Rejected(Rejection),
    /// A kiss-o'-death with its code.
    Kissed([u8; 4]),
}

/// Longest root distance that is of use (RFC 5905, section 9.2 and appendix A.5.5.3: 1 s plus what a poll interval adds).
const ROOT_DISTANCE_MAX: Seconds = Seconds(1.5);
/// How far a server's reception may seem to come after its answer.
const HELD_NOISE_MAX: Span = Span::from_micros(100);
/// Missed polls after which the next address, or a fresh lookup, is tried.
const MISSED_MAX: u32 = 4;
/// Wait between lookups of a name that leads nowhere.
const RESOLVE_RETRY: Span = Span::from_secs(5);

impl Association {
    /// An association that wants its name looked up at once.
    #[must_use]
    pub fn new(config: SourceConfig, now: Now) -> Self {
        Self {
            schedule: Schedule::new(config.class, (config.min_poll, config.max_poll), now.raw),
            config,
            seen: Seen::default(),
            addresses: Vec::new(),
            current: 0,
            asked: None,
            is_resolving: false,
            is_offline: false,
            missed: 0,
        }
    }

    /// What is due at `now`, if anything.
    pub fn due(&mut self, now: Now, entropy: &mut dyn Entropy) -> Option<Action> {
        if !self.schedule.is_due(now.raw) {
            return None;
        }
        let is_named = matches!(self.config.endpoint, Endpoint::Udp { .. });
        if is_named && (self.addresses.is_empty() || self.missed > 0 && self.missed % (MISSED_MAX * 2) == 0) {
            self.is_resolving = true;
            self.hold();
            self.missed += 1;
            return Some(Action::Resolve);
        }
        if self.missed > 0 && self.missed % MISSED_MAX == 0 {
            self.current += 1;
        }
        let to = if is_named { Peer::Udp(self.address()?) } else { Peer::Stream };
        let cookie = entropy.next_u64();
        self.asked = Some(Asked { cookie, to, at: None });
        self.seen.reach <<= 1;
        self.missed += 1;
        self.schedule.looked(now.raw);
        Some(Action::Transmit(to, Header::request(cookie)))
    }

    /// The name was looked up.
    pub fn resolved(&mut self, now: Now, addresses: Vec<SocketAddr>) {
        self.is_resolving = false;
        self.hold();
        self.schedule.set_next(if addresses.is_empty() { now.raw + RESOLVE_RETRY } else { now.raw });
        if !addresses.is_empty() {
            self.current = 0;
            self.addresses = addresses;
        }
    }

    /// The request left at `at`.
    pub fn transmitted(&mut self, at: Now) {
        if let Some(asked) = &mut self.asked {
            asked.at = Some(at);
            self.seen.sent += 1;
        }
    }

    /// The request did not leave, or an ICMP error came back.
    pub fn transmit_failed(&mut self) {
        self.asked = None;
    }

    /// A packet came in. `rate` is wall against raw, minus one.
    ///
    /// # Errors
    /// Why it gave no sample.
    pub fn receive(
        &mut self,
        now: Now,
        rate: f64,
        from: Peer,
        data: &[u8],
        stamp: Option<WallTime>,
    ) -> Result<Sample, Refusal> {
        let reply = Header::parse(data).map_err(|error| match error {
            WireError::Mode(_) => Refusal::Rejected(Rejection::NotOurs),
            _ => Refusal::Rejected(Rejection::Malformed),
        })?;
        let not_ours = Refusal::Rejected(Rejection::NotOurs);
        let asked = self.asked.filter(|asked| asked.to == from).ok_or(not_ours)?;
        let at = asked.at.ok_or(not_ours)?;
        // RFC 5905, section 8: the origin must be what we sent (bogus), and one request has one reply (duplicate).
        if reply.mode != Mode::Server || reply.origin != NtpTimestamp(asked.cookie) || reply.version < 3 {
            return Err(not_ours);
        }
        self.asked = None;
        // Stratum 0 is a kiss only with a code of letters (RFC 5905, section 7.4); chronyd and others send it while unsynchronised.
        if reply.stratum == 0 && reply.reference_id.iter().all(u8::is_ascii_alphabetic) {
            return Err(self.kissed(now, reply.reference_id));
        }
        let (back, kernel_stamp) = returned(at, now, rate, stamp);
        let sample = measure(&reply, at, back, rate).map_err(Refusal::Rejected);
        self.seen.unsynchronised = sample == Err(Refusal::Rejected(Rejection::Unsynchronised));
        let sample = sample?;
        self.accept(now, at, &reply, &sample, kernel_stamp);
        Ok(sample)
    }

    /// Stops or resumes asking.
    pub const fn set_offline(&mut self, now: Now, offline: bool) {
        self.is_offline = offline;
        self.hold();
        if !offline {
            self.schedule.set_next(now.raw);
        }
    }

    /// When it is asked: held while it waits for a lookup, is offline or was refused.
    pub(crate) const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The same, to change it.
    pub(crate) const fn schedule_mut(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    const fn hold(&mut self) {
        self.schedule.is_held = self.is_offline || self.seen.refused || self.is_resolving;
    }

    /// The address in use.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.current % self.addresses.len().max(1)).copied()
    }

    /// Whether it asks nobody by order.
    #[must_use]
    pub const fn is_offline(&self) -> bool {
        self.is_offline
    }

    fn accept(&mut self, now: Now, at: Now, reply: &Header, sample: &Sample, kernel_stamp: bool) {
        self.missed = 0;
        let seen = &mut self.seen;
        seen.reach |= 1;
        seen.received += 1;
        seen.stratum = reply.stratum;
        seen.leap = reply.leap;
        seen.delay = Some(sample.delay);
        seen.reference_id = reply.reference_id;
        seen.precision = Some(reply.precision);
        seen.kernel_stamp = kernel_stamp;
        self.schedule.answered(now.raw, at.raw);
    }

    /// RFC 5905, section 7.4, and RFC 8633, section 5.2.
    fn kissed(&mut self, now: Now, code: [u8; 4]) -> Refusal {
        match &code {
            b"DENY" | b"RSTR" => {
                if self.addresses.len() > 1 {
                    self.addresses.remove(self.current % self.addresses.len());
                } else {
                    self.seen.refused = true;
                    self.hold();
                }
            }
            b"RATE" => {
                self.schedule.back_off(now.raw);
            }
            // Others are for people to read.
            _ => {}
        }
        Refusal::Kissed(code)
    }
}

/// When the reply arrived, on the counter, and whether the kernel said so: its stamp is on the wall clock, `now` ties both together.
fn returned(at: Now, now: Now, rate: f64, stamp: Option<WallTime>) -> (RawTime, bool) {
    let Some(stamp) = stamp else { return (now.raw, false) };
    let ago = Seconds(Seconds::from(now.wall - stamp).0 / (1.0 + rate)).to_span();
    let back = now.raw - ago;
    // A step between the stamp and now, or a stamp from elsewhere, would put it outside of the exchange.
    if ago >= Span::ZERO && back > at.raw { (back, true) } else { (now.raw, false) }
}

/// RFC 5905, section 8: θ = ((T2 − T1) + (T3 − T4)) / 2 and δ = (T4 − T1) − (T3 − T2), with the checks of section 9.2.
fn measure(reply: &Header, at: Now, back: RawTime, rate: f64) -> Result<Sample, Rejection> {
    if reply.leap == Leap::Unknown || !(1..=15).contains(&reply.stratum) {
        return Err(Rejection::Unsynchronised);
    }
    if reply.receive.is_zero() || reply.transmit.is_zero() {
        return Err(Rejection::Implausible);
    }
    let (received, left) = (reply.receive.resolve(at.wall), reply.transmit.resolve(at.wall));
    let held = left - received;
    // Servers fill the bits below their precision with noise, so a quick one may seem to answer before it was asked.
    if held < -HELD_NOISE_MAX {
        return Err(Rejection::Implausible);
    }
    let away = Seconds(Seconds::from(back - at.raw).0 * (1.0 + rate)).to_span();
    let delay = away - held;
    // Clocks that run at different rates may make a short exchange look shorter than nothing, by microseconds.
    if delay < -Span::from_micros(100) {
        return Err(Rejection::Implausible);
    }
    let there = received - at.wall;
    let home = left - (at.wall + away);
    let middle = (back - at.raw).half();
    let sample = Sample {
        raw: at.raw + middle,
        local: at.wall + away.half(),
        offset: Seconds(f64::midpoint(Seconds::from(there).0, Seconds::from(home).0)),
        delay: Seconds::from(delay).max(Seconds::ZERO),
        dispersion: Seconds(libm::exp2(f64::from(reply.precision.clamp(-30, 0)))),
        root_delay: reply.root_delay.seconds(),
        root_dispersion: reply.root_dispersion.seconds(),
        stratum: reply.stratum,
        leap: reply.leap,
    };
    if sample.root_distance() > ROOT_DISTANCE_MAX {
        return Err(Rejection::TooDistant);
    }
    Ok(sample)
}

#[cfg(test)]
mod tests;
