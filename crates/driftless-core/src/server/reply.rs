//! Replies, prepared: what is said of the clock changes once a second at most, so it is encoded then, and a reply copies it and fills in the rest.

use crate::clock::Leap;
use crate::time::{Seconds, WallTime};
use crate::wire::{HEADER_LENGTH, Header, Mode, NtpShort, NtpTimestamp};

use super::request::Request;

/// What a server says of its own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerState {
    /// Announced leap second; `Unknown` says "not synchronised".
    pub leap: Leap,
    /// Steps to the root; 16 while unsynchronised.
    pub stratum: u8,
    /// log2 of the clock's precision in seconds.
    pub precision: i8,
    /// Round trip to the root.
    pub root_delay: Seconds,
    /// Dispersion to the root.
    pub root_dispersion: Seconds,
    /// Whom it follows, or what it is.
    pub reference_id: [u8; 4],
    /// When its clock was last set; None before it ever was.
    pub reference: Option<WallTime>,
}

impl ServerState {
    /// High enough that no client prefers an as-is host to a real server, low enough to be used when it is the only one.
    pub const AS_IS_STRATUM: u8 = 10;
    /// One microsecond, rounded: what a kernel stamps in ns and a queue or two blur.
    pub const PRECISION: i8 = -20;

    /// This host's clock as it is, right or wrong, for the guests of this host: no claim about UTC, only "this is the host's clock".
    #[must_use]
    pub const fn as_is(now: WallTime) -> Self {
        Self {
            leap: Leap::None,
            stratum: Self::AS_IS_STRATUM,
            precision: Self::PRECISION,
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds(1e-6),
            reference_id: *b"HOST",
            reference: Some(now),
        }
    }

    /// A clock of which nothing can be said: leap 3 and stratum 0 on the wire, so that nobody follows it.
    #[must_use]
    pub const fn unsynchronised() -> Self {
        Self {
            leap: Leap::Unknown,
            stratum: 16,
            precision: Self::PRECISION,
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds::ZERO,
            reference_id: [0; 4],
            reference: None,
        }
    }

    /// "Look now" as an NTP broadcast packet (RFC 5905, section 9.1.1): its time, that nobody can compensate for its way, is not for use.
    #[must_use]
    pub fn look_now(&self, now: WallTime) -> [u8; HEADER_LENGTH] {
        let mut header = self.header(Mode::Broadcast);
        header.transmit = NtpTimestamp::from_wall(now);
        header.encode()
    }

    fn header(&self, mode: Mode) -> Header {
        Header {
            leap: self.leap,
            version: 4,
            mode,
            // On the wire "unsynchronised" is 0 (RFC 5905, figure 11); leap 3 and no letters say that it is no kiss.
            stratum: if self.stratum > 15 { 0 } else { self.stratum },
            poll: 0,
            precision: self.precision,
            root_delay: NtpShort::from_seconds(self.root_delay),
            root_dispersion: NtpShort::from_seconds(self.root_dispersion),
            reference_id: self.reference_id,
            reference: self.reference.map_or(NtpTimestamp::ZERO, NtpTimestamp::from_wall),
            origin: NtpTimestamp::ZERO,
            receive: NtpTimestamp::ZERO,
            transmit: NtpTimestamp::ZERO,
        }
    }
}

/// A reply that lacks what differs from request to request.
#[derive(Debug, Clone)]
pub(super) struct Template([u8; HEADER_LENGTH]);

/// The octet of leap, version and mode, without the latter two.
const LEAP_BITS: u8 = 0xc0;
/// The version's place in it.
const VERSION_BITS: u8 = 0x38;

impl Template {
    pub(super) fn of(state: &ServerState) -> Self {
        let mut octets = state.header(Mode::Server).encode();
        octets[0] &= LEAP_BITS;
        Self(octets)
    }

    /// The reply to `request`, which came at `received`, without the time of its leaving. The version and the poll interval are the client's
    /// (RFC 4330, section 6).
    pub(super) fn reply(
        &self,
        request: &Request<'_>,
        origin: NtpTimestamp,
        received: NtpTimestamp,
    ) -> [u8; 48] {
        let mut octets = self.0;
        octets[0] |= request.head[0] & VERSION_BITS | request.reply_mode;
        octets[2] = request.head[2];
        octets[24..32].copy_from_slice(&origin.0.to_be_bytes());
        octets[32..40].copy_from_slice(&received.0.to_be_bytes());
        octets
    }
}

/// The kiss "you ask too often" (RFC 5905, section 7.4). It carries no time: all three stamps are the client's own.
pub(super) fn kiss_rate(request: &Request<'_>) -> [u8; 48] {
    let mut octets = [0; HEADER_LENGTH];
    octets[0] = LEAP_BITS | request.head[0] & VERSION_BITS | request.reply_mode;
    octets[2] = request.head[2];
    octets[12..16].copy_from_slice(b"RATE");
    for at in [24, 32, 40] {
        octets[at..at + 8].copy_from_slice(&request.head[40..48]);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_nanos(1_700_000_000_000_000_000);

    #[test]
    fn a_filled_template_is_what_encoding_the_whole_header_gives() {
        let state = ServerState {
            leap: Leap::Insert,
            stratum: 3,
            root_delay: Seconds(0.0123),
            root_dispersion: Seconds(0.004),
            ..ServerState::as_is(NOW)
        };
        let mut packet = Header::request(77);
        (packet[0], packet[2]) = (3 << 3 | 3, 6);
        let request = Request::parse(&packet, 999).unwrap();
        let (origin, received) = (NtpTimestamp(77), NtpTimestamp::from_wall(NOW));
        let reply = Template::of(&state).reply(&request, origin, received);
        let expected =
            Header { version: 3, poll: 6, origin, receive: received, ..state.header(Mode::Server) }.encode();
        assert_eq!(reply, expected);
    }

    #[test]
    fn an_unsynchronised_clock_looks_so_and_not_like_a_kiss() {
        let packet = Header::request(1);
        let request = Request::parse(&packet, 999).unwrap();
        let reply =
            Template::of(&ServerState::unsynchronised()).reply(&request, NtpTimestamp(1), NtpTimestamp(2));
        let header = Header::parse(&reply).unwrap();
        assert_eq!(
            (header.leap, header.stratum, header.reference_id, header.reference),
            (Leap::Unknown, 0, [0; 4], NtpTimestamp::ZERO)
        );
    }

    #[test]
    fn a_kiss_tells_no_time() {
        let packet = Header::request(0x1234);
        let header = Header::parse(&kiss_rate(&Request::parse(&packet, 999).unwrap())).unwrap();
        assert_eq!((header.stratum, &header.reference_id, header.leap), (0, b"RATE", Leap::Unknown));
        assert_eq!([header.origin, header.receive, header.transmit], [NtpTimestamp(0x1234); 3]);
    }

    #[test]
    fn look_now_is_a_broadcast() {
        let header = Header::parse(&ServerState::as_is(NOW).look_now(NOW)).unwrap();
        assert_eq!((header.mode, header.transmit.resolve(NOW)), (Mode::Broadcast, NOW));
    }
}
