//! A request that can be told from all others, and whether a reply answers it.
//!
//! The request's transmit timestamp is a cookie: the number of the request and a mark that only its client can make. A server must send it back
//! as the origin timestamp (RFC 5905, section 8), so that a reply mixed up with another's, or made of nothing, is seen.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Of a request and of a reply.
pub(crate) const LENGTH: usize = 48;

/// Version 4, mode 3 and mode 4: the low six bits of the first byte.
const REQUEST: u8 = 0o43;
const REPLY: u8 = 0o44;
/// Seconds from 1900 to 1970.
const ERA_S: u64 = 2_208_988_800;
/// How far a reply's times may lie outside of their exchange: the clock may be slewed by 500 ppm while a load lasts, and is read now and then only.
const TIME_TOLERANCE: Duration = Duration::from_millis(2);

/// What a server is expected to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answer it.
    Server,
    /// Send it back as it is.
    Echo,
}

/// Marks one client's requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key(pub(crate) u32);

/// This process's time and the wall clock's, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base {
    at: Instant,
    wall: Duration,
}

/// The times in a reply, since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    receive: Duration,
    transmit: Duration,
}

impl Key {
    const fn cookie(self, number: u32) -> u64 {
        // Any odd constant spreads the number over the upper half.
        ((number.wrapping_mul(0x9e37_79b1) ^ self.0) as u64) << 32 | number as u64
    }

    pub(crate) fn write_request(self, number: u32, packet: &mut [u8; LENGTH]) {
        *packet = [0; LENGTH];
        packet[0] = REQUEST;
        packet[40..].copy_from_slice(&self.cookie(number).to_be_bytes());
    }

    /// The number of the request that this answers, and the times in it, where it is a server's.
    pub(crate) fn read(self, packet: &[u8], kind: Kind) -> Option<(u32, Option<Times>)> {
        let packet: &[u8; LENGTH] = packet.try_into().ok()?;
        let word = |at: usize| Some(u64::from_be_bytes(packet.get(at..at + 8)?.try_into().ok()?));
        let (first, origin) = match kind {
            Kind::Server => (REPLY, word(24)?),
            Kind::Echo => (REQUEST, word(40)?),
        };
        let number = u32::try_from(origin & u64::from(u32::MAX)).ok()?;
        if packet[0] & 0o77 != first || origin != self.cookie(number) {
            return None;
        }
        let times = Times { receive: since_epoch(word(32)?), transmit: since_epoch(word(40)?) };
        Some((number, (kind == Kind::Server).then_some(times)))
    }
}

fn since_epoch(timestamp: u64) -> Duration {
    let nanos = ((timestamp & u64::from(u32::MAX)) * 1_000_000_000) >> 32;
    Duration::from_secs((timestamp >> 32).saturating_sub(ERA_S)) + Duration::from_nanos(nanos)
}

impl Base {
    pub(crate) fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at: Instant::now(), wall }
    }

    /// Whether a server that has this machine's clock may have said so of a request of `asked`, answered by `now`.
    pub(crate) fn allows(&self, times: Times, asked: Instant, now: Instant) -> bool {
        let wall = |at: Instant| self.wall + at.saturating_duration_since(self.at);
        wall(asked) <= times.receive + TIME_TOLERANCE
            && times.receive <= times.transmit + TIME_TOLERANCE
            && times.transmit <= wall(now) + TIME_TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server makes of request 5 half a second after `base`.
    fn reply(base: &Base) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        Key(7).write_request(5, &mut packet);
        packet.copy_within(40.., 24);
        packet[0] = 0o44;
        let at = base.wall + Duration::from_millis(500);
        let seconds = u32::try_from(at.as_secs() + ERA_S).unwrap();
        let fraction = u32::try_from((u64::from(at.subsec_nanos()) << 32) / 1_000_000_000).unwrap();
        for place in [32, 40] {
            packet[place..place + 4].copy_from_slice(&seconds.to_be_bytes());
            packet[place + 4..place + 8].copy_from_slice(&fraction.to_be_bytes());
        }
        packet
    }

    #[test]
    fn only_the_reply_to_what_was_asked_counts() {
        let good = reply(&Base::now());
        let number = |packet: &[u8]| Key(7).read(packet, Kind::Server).map(|(number, _)| number);
        assert_eq!(number(&good), Some(5));
        for byte in [0, 24, 31] {
            let mut bad = good;
            bad[byte] ^= 1;
            assert_eq!(number(&bad), None, "byte {byte}");
        }
        assert_eq!(number(&good[..47]), None);
        assert_eq!(number(&[good.as_slice(), &[0]].concat()), None);
        assert!(Key(8).read(&good, Kind::Server).is_none(), "another client's");
        assert!(Key(7).read(&good, Kind::Echo).is_none());
    }

    #[test]
    fn a_time_outside_of_the_exchange_is_seen() {
        let base = Base::now();
        let (_, times) = Key(7).read(&reply(&base), Kind::Server).unwrap();
        let at = |ms: u64| base.at + Duration::from_millis(ms);
        assert!(base.allows(times.unwrap(), at(499), at(501)));
        assert!(!base.allows(times.unwrap(), at(510), at(520)));
        assert!(!base.allows(times.unwrap(), at(480), at(490)));
    }
}
