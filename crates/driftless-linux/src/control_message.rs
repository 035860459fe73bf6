//! Control messages of datagrams (`cmsg(3)`): when they came, when they left, and whither.
//!
//! Read and written as octets, so that any octets can be tried. A header is the message's length with the header, as wide as a pointer, then
//! level and type; messages begin at multiples of a pointer's width.

use std::net::{Ipv4Addr, Ipv6Addr};

use driftless_core::time::WallTime;

/// What the control messages of a datagram say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told {
    /// When the kernel took it in, or sent it.
    pub(crate) stamp: Option<WallTime>,
    /// The address of ours that it was sent to.
    pub(crate) destination: Option<Destination>,
}

/// An address of ours, and the interface where it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// From `IP_PKTINFO`.
    V4(Ipv4Addr),
    /// From `IPV6_PKTINFO`; the interface only for link-local addresses, which mean nothing without.
    V6(Ipv6Addr, u32),
}

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;
/// `in_pktinfo`: interface, the address to answer from, the address in the header.
const V4_LENGTH: usize = 12;
/// `in6_pktinfo`: address, interface.
const V6_LENGTH: usize = 20;

/// Reads them.
pub(crate) fn read(mut octets: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some((kind, data, rest)) = first(octets) {
        match kind {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => told.stamp = told.stamp.or_else(|| stamp(data)),
            // Three stamps: software, unused, hardware.
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => told.stamp = stamp(data).or(told.stamp),
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => told.destination = v4(data),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => told.destination = v6(data),
            _ => {}
        }
        octets = rest;
    }
    told
}

/// Level and type, data, and what follows.
type Message<'a> = ((i32, i32), &'a [u8], &'a [u8]);

#[inline]
fn first(octets: &[u8]) -> Option<Message<'_>> {
    let length = usize::from_ne_bytes(*octets.first_chunk()?);
    let level = i32::from_ne_bytes(*octets.get(WORD..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*octets.get(WORD + 4..)?.first_chunk()?);
    let data = octets.get(HEADER..length)?;
    // The last may end before its padding.
    let rest = octets.get(length.checked_next_multiple_of(WORD)?..).unwrap_or_default();
    Some(((level, kind), data, rest))
}

/// A `timespec` of 64-bit words; zero is none.
fn stamp(data: &[u8]) -> Option<WallTime> {
    let seconds = i64::from_ne_bytes(*data.first_chunk()?);
    let nanos = i64::from_ne_bytes(*data.get(8..)?.first_chunk()?);
    (seconds != 0).then(|| WallTime::from_parts(seconds, nanos))
}

fn v4(data: &[u8]) -> Option<Destination> {
    let octets: [u8; 4] = *data.get(4..8)?.first_chunk()?;
    Some(Destination::V4(octets.into()))
}

fn v6(data: &[u8]) -> Option<Destination> {
    let address = Ipv6Addr::from(*data.first_chunk::<16>()?);
    let interface = u32::from_ne_bytes(*data.get(16..20)?.first_chunk()?);
    // An interface would force the way back, where a router may know another.
    Some(Destination::V6(address, if address.is_unicast_link_local() { interface } else { 0 }))
}

/// Messages that are being written.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    room: &'a mut [u64],
    used: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(room: &'a mut [u64]) -> Self {
        Self { room, used: 0 }
    }

    /// Whence to send.
    pub(crate) fn from(&mut self, destination: Destination) {
        match destination {
            Destination::V4(address) => {
                let mut data = [0; V4_LENGTH];
                data[4..8].copy_from_slice(&address.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            Destination::V6(address, interface) => {
                let mut data = [0; V6_LENGTH];
                data[..16].copy_from_slice(&address.octets());
                data[16..].copy_from_slice(&interface.to_ne_bytes());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
        }
    }

    /// That its departure is to be stamped.
    pub(crate) fn stamped(&mut self) {
        self.push(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &libc::SOF_TIMESTAMPING_TX_SOFTWARE.to_ne_bytes());
    }

    /// Octets written.
    pub(crate) const fn length(&self) -> usize {
        self.used
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let length = HEADER + data.len();
        let mut octets = [0; 64];
        octets[..WORD].copy_from_slice(&length.to_ne_bytes());
        octets[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        octets[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        octets[HEADER..length].copy_from_slice(data);
        let padded = length.next_multiple_of(8);
        let words = self.room.iter_mut().skip(self.used / 8).zip(octets.chunks_exact(8)).take(padded / 8);
        for (word, octets) in words {
            *word = u64::from_ne_bytes(octets.try_into().unwrap_or_default());
        }
        self.used += padded;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octets(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut room = [0; 16];
        let mut writer = Writer::new(&mut room);
        writer.push(level, kind, data);
        let length = writer.length();
        octets(&room)[..length].to_vec()
    }

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for destination in [
            Destination::V4(Ipv4Addr::new(192, 168, 5, 2)),
            Destination::V6("fd00::5".parse().unwrap(), 0),
            Destination::V6("fe80::1".parse().unwrap(), 7),
        ] {
            let mut room = [0; 16];
            let mut writer = Writer::new(&mut room);
            writer.stamped();
            writer.from(destination);
            let length = writer.length();
            assert_eq!(read(&octets(&room)[..length]).destination, Some(destination));
        }
    }

    #[test]
    fn stamps_of_both_kinds_are_read() {
        let time: Vec<u8> = [1_700_000_000_i64, 123].iter().flat_map(|part| part.to_ne_bytes()).collect();
        let expected = Some(WallTime::from_parts(1_700_000_000, 123));
        assert_eq!(read(&message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &time)).stamp, expected);
        let three = [time, vec![0; 32]].concat();
        assert_eq!(read(&message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &three)).stamp, expected);
        assert_eq!(read(&message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &[0; 48])).stamp, None);
    }

    #[test]
    fn an_interface_counts_only_where_the_address_needs_it() {
        let data = [&"fd00::5".parse::<Ipv6Addr>().unwrap().octets()[..], &7_u32.to_ne_bytes()].concat();
        let told = read(&message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data));
        assert_eq!(told.destination, Some(Destination::V6("fd00::5".parse().unwrap(), 0)));
    }

    proptest! {
        #[test]
        fn any_octets_are_read(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&data);
        }
    }
}
