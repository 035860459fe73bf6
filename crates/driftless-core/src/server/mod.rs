//! The server's half: a request in, a reply of 48 bytes out, never longer than what was asked.

mod access;

use crate::clock::Leap;
use crate::time::{Seconds, WallTime};
use crate::wire::{Header, Mode, NtpShort, NtpTimestamp};

pub use access::{AccessList, Prefix, PrefixError};

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
    /// When its clock was last set.
    pub reference: WallTime,
}

/// Why a packet gets no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Drop {
    /// Not an NTP packet.
    Malformed,
    /// A mode that is no request: replies, broadcasts, control and private packets.
    Mode,
    /// The client's address is not on the list.
    Denied,
}

/// A reply that lacks only the time of its leaving.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reply(Header);

impl ServerState {
    /// This host's clock as it is, right or wrong, for the guests of this host: no claim about UTC, only "this is the host's clock".
    #[must_use]
    pub const fn as_is(now: WallTime) -> Self {
        Self {
            leap: Leap::None,
            stratum: Self::AS_IS_STRATUM,
            precision: -20,
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds(1e-6),
            reference_id: *b"HOST",
            reference: now,
        }
    }

    /// High enough that no client prefers an as-is host to a real server, low enough to be used when it is the only one.
    pub const AS_IS_STRATUM: u8 = 10;

    /// Answers a request that arrived at `received`.
    ///
    /// # Errors
    /// Why it gets no reply.
    pub fn answer(&self, request: &[u8], received: WallTime) -> Result<Reply, Drop> {
        let request = Header::parse(request).map_err(|error| match error {
            crate::wire::WireError::Mode(_) => Drop::Mode,
            _ => Drop::Malformed,
        })?;
        // RFC 5905, section 9.2: an active peer that we do not know is answered as a client is.
        let mode = match request.mode {
            Mode::Client => Mode::Server,
            Mode::SymmetricActive => Mode::SymmetricPassive,
            Mode::SymmetricPassive | Mode::Server | Mode::Broadcast => return Err(Drop::Mode),
        };
        Ok(Reply(Header {
            leap: self.leap,
            version: request.version,
            mode,
            // On the wire "unsynchronised" is 0 (RFC 5905, figure 11); leap 3 says it is no kiss.
            stratum: if self.stratum > 15 { 0 } else { self.stratum },
            poll: request.poll,
            precision: self.precision,
            root_delay: NtpShort::from_seconds(self.root_delay),
            root_dispersion: NtpShort::from_seconds(self.root_dispersion),
            reference_id: self.reference_id,
            reference: NtpTimestamp::from_wall(self.reference),
            origin: request.transmit,
            receive: NtpTimestamp::from_wall(received),
            transmit: NtpTimestamp::ZERO,
        }))
    }
}

impl Reply {
    /// The packet, leaving now: call it last.
    #[must_use]
    pub fn encode_at(mut self, now: WallTime) -> [u8; 48] {
        self.0.transmit = NtpTimestamp::from_wall(now);
        self.0.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_nanos(1_700_000_000_000_000_000);

    #[test]
    fn a_client_gets_its_own_stamp_back() {
        let reply = ServerState::as_is(NOW).answer(&Header::request(77), NOW).unwrap();
        let header = Header::parse(&reply.encode_at(NOW)).unwrap();
        assert_eq!((header.mode, header.origin, header.version), (Mode::Server, NtpTimestamp(77), 4));
        assert_eq!(header.receive.resolve(NOW), NOW);
    }

    #[test]
    fn only_requests_are_answered() {
        let state = ServerState::as_is(NOW);
        for (mode, expected) in [(4, Drop::Mode), (5, Drop::Mode), (6, Drop::Mode), (7, Drop::Mode)] {
            let mut data = [0; 48];
            data[0] = (4 << 3) | mode;
            assert_eq!(state.answer(&data, NOW), Err(expected));
        }
        assert_eq!(state.answer(&[0x23; 20], NOW), Err(Drop::Malformed));
    }
}
