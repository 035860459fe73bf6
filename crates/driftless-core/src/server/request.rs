//! Which packets are requests: a few comparisons on the first octets, since a server under load does this more often than anything else.

use crate::wire::{HEADER_LENGTH, NtpTimestamp, skip_extensions};

use super::Dropped;

/// Longest packet that is looked at. NTS asks with some 300 octets, padded ones of newer drafts fill an Ethernet frame in part.
pub const REQUEST_MAX: usize = 1_024;
/// The port of servers and symmetric peers.
pub(super) const NTP_PORT: u16 = 123;
/// Longest authenticator of versions before extension fields: a key's number and SHA-512.
const MAC_MAX: usize = 4 + 64;

/// A packet that deserves a reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// Its fixed part.
    pub(super) head: &'a [u8; HEADER_LENGTH],
    /// The mode that the reply has.
    pub(super) reply_mode: u8,
}

impl<'a> Request<'a> {
    /// Reads a packet that came from `port`.
    pub(super) fn parse(packet: &'a [u8], port: u16) -> Result<Self, Dropped> {
        let (head, rest) = packet.split_first_chunk::<HEADER_LENGTH>().ok_or(Dropped::Short)?;
        if packet.len() > REQUEST_MAX {
            return Err(Dropped::Long);
        }
        let version = head[0] >> 3 & 7;
        if !(1..=4).contains(&version) {
            return Err(Dropped::Version);
        }
        let reply_mode = match (head[0] & 7, version) {
            (3, _) => 4,
            // An active peer that is not configured here is answered, not kept (RFC 4330, section 5). Old Windows asks so.
            (1, _) => 2,
            // Version 1 has no mode: its bits were reserved, and ports told a client from a peer (RFC 1059). A reply with mode 0 could be
            // taken for a request by the next server, so it says "server".
            (0, 1) if port != NTP_PORT => 4,
            (6 | 7, _) => return Err(Dropped::Control),
            _ => return Err(Dropped::NoRequest),
        };
        if !rest.is_empty() {
            check_rest(rest, version)?;
        }
        Ok(Self { head, reply_mode })
    }

    /// The client's own transmit timestamp, whatever it means to the client.
    pub(super) fn transmit(&self) -> NtpTimestamp {
        self.stamp(40)
    }

    /// A receive timestamp of ours, where the client asks in interleaved mode.
    pub(super) fn origin(&self) -> NtpTimestamp {
        self.stamp(24)
    }

    /// When our last reply reached the client.
    pub(super) fn receive(&self) -> NtpTimestamp {
        self.stamp(32)
    }

    fn stamp(&self, at: usize) -> NtpTimestamp {
        let octets = self.head.get(at..).and_then(|rest| rest.first_chunk()).copied();
        NtpTimestamp(u64::from_be_bytes(octets.unwrap_or_default()))
    }
}

/// Extension fields and authenticators are passed over: no keys are shared, and a reply without one is what such a client discards.
#[cold]
fn check_rest(rest: &[u8], version: u8) -> Result<(), Dropped> {
    let is_good = if version == 4 {
        skip_extensions(rest).is_ok()
    } else {
        // Extension fields came with version 4 (RFC 7822): before, what follows is an authenticator.
        rest.len() <= MAC_MAX && rest.len() % 4 == 0
    };
    if is_good { Ok(()) } else { Err(Dropped::Extension) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u8, mode: u8, length: usize) -> Vec<u8> {
        let mut packet = vec![0; length];
        if let Some(first) = packet.first_mut() {
            *first = version << 3 | mode;
        }
        packet
    }

    fn reply_mode(packet: &[u8], port: u16) -> Result<u8, Dropped> {
        Request::parse(packet, port).map(|request| request.reply_mode)
    }

    #[test]
    fn versions_one_to_four_are_answered_as_each_means_it() {
        for version in 1..=4 {
            assert_eq!(reply_mode(&packet(version, 3, 48), 5_000), Ok(4));
            assert_eq!(reply_mode(&packet(version, 1, 48), NTP_PORT), Ok(2));
        }
        assert_eq!(reply_mode(&packet(1, 0, 48), 5_000), Ok(4));
        assert_eq!(reply_mode(&packet(1, 0, 48), NTP_PORT), Err(Dropped::NoRequest), "a peer of version 1");
        for version in [0, 5, 6, 7] {
            assert_eq!(reply_mode(&packet(version, 3, 48), 5_000), Err(Dropped::Version));
        }
    }

    #[test]
    fn what_is_no_request_is_dropped_for_its_reason() {
        for mode in [2, 4, 5] {
            assert_eq!(reply_mode(&packet(4, mode, 48), 5_000), Err(Dropped::NoRequest));
        }
        for mode in [6, 7] {
            assert_eq!(reply_mode(&packet(2, mode, 48), 5_000), Err(Dropped::Control));
        }
        for version in 2..=4 {
            assert_eq!(reply_mode(&packet(version, 0, 48), 5_000), Err(Dropped::NoRequest));
        }
        for length in 0..48 {
            assert_eq!(reply_mode(&packet(4, 3, length), 5_000), Err(Dropped::Short));
        }
        assert_eq!(reply_mode(&packet(4, 3, REQUEST_MAX + 1), 5_000), Err(Dropped::Long));
    }

    #[test]
    fn what_follows_the_header_must_be_of_the_version() {
        let mut extended = packet(4, 3, 48);
        extended.extend([1, 4, 0, 28]);
        extended.extend([0; 24]);
        assert_eq!(reply_mode(&extended, 5_000), Ok(4));
        extended[51] = 200;
        assert_eq!(reply_mode(&extended, 5_000), Err(Dropped::Extension));
        for (version, mac, expected) in
            [(4, 20, Ok(4)), (3, 12, Ok(4)), (3, 68, Ok(4)), (3, 72, Err(Dropped::Extension))]
        {
            assert_eq!(reply_mode(&packet(version, 3, 48 + mac), 5_000), expected, "{version} {mac}");
        }
        assert_eq!(reply_mode(&packet(4, 3, 49), 5_000), Err(Dropped::Extension));
    }
}
