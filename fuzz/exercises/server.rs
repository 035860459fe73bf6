//! The server's whole input: packets of any octets, from any address, at any time, over datagrams and streams, and the kernel's word on departures.
//!
//! Octets are read as a play of such events. Whatever is played, a reply is a reply: it panics where one is not.

use std::net::{IpAddr, SocketAddr};

use driftless_core::server::{AccessList, Client, Prefix, REQUEST_MAX, Rate, Responder, ServerState};
use driftless_core::time::{Span, WallTime};

/// Octets that are taken one after the other; none left reads as zeroes.
struct Play<'a>(&'a [u8]);

impl Play<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let count = N.min(self.0.len());
        let (now, later) = self.0.split_at(count);
        taken[..count].copy_from_slice(now);
        self.0 = later;
        taken
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn client(&mut self) -> Client {
        let port = u16::from_be_bytes(self.take());
        match self.byte() % 4 {
            0 => Client::Stream(u64::from(self.byte())),
            1 => Client::Net(SocketAddr::new(IpAddr::from(self.take::<16>()), port)),
            2 => Client::Net(SocketAddr::new(IpAddr::from(self.take::<4>()), port)),
            // Few addresses, so that some ask too often.
            _ => Client::Net(SocketAddr::new(IpAddr::from([127, 0, 0, self.byte() % 4]), port)),
        }
    }

    fn packet(&mut self) -> Vec<u8> {
        let length = match self.byte() % 8 {
            0 => usize::from(u16::from_be_bytes(self.take())) % (REQUEST_MAX + 64),
            1 => usize::from(self.byte()),
            _ => 48,
        };
        let count = length.min(self.0.len());
        let (now, later) = self.0.split_at(count);
        self.0 = later;
        let mut packet = now.to_vec();
        packet.resize(length, 0);
        packet
    }
}

/// Plays `data`.
pub(crate) fn exercise(data: &[u8]) {
    let mut play = Play(data);
    let prefix = Prefix::new(IpAddr::from(play.take::<4>()), play.byte());
    let allowed = [AccessList::NEAR.as_slice(), &[prefix]].concat();
    let access = AccessList::new(&allowed, &[Prefix::new(IpAddr::from(play.take::<16>()), play.byte())]);
    let rate = Rate { per_second: u16::from(play.byte()), burst: u16::from(play.byte()) };
    let mut now = WallTime::from_nanos(1_700_000_000_000_000_000);
    let mut server = Responder::new(access, rate, &ServerState::as_is(now), [1, 2, 3]);
    let mut asked = 0;
    while !play.0.is_empty() {
        now = now + Span::from_nanos(i64::from(i32::from_be_bytes(play.take())) << (play.byte() % 32));
        match play.byte() % 8 {
            0 => server.departed(&play.take(), now),
            1 => server.set_state(&ServerState::unsynchronised()),
            2 => server.set_state(&ServerState::as_is(now)),
            _ => {
                let (from, packet) = (play.client(), play.packet());
                asked += 1;
                answer(&mut server, from, &packet, now);
            }
        }
    }
    let counters = server.counters();
    assert_eq!((counters.received, counters.replies + counters.dropped.total()), (asked, asked));
}

fn answer(server: &mut Responder, from: Client, packet: &[u8], now: WallTime) {
    let Ok(reply) = server.answer(packet, from, now) else { return };
    let (octets, _) = server.leaving(&reply, now);
    assert!(packet.len() >= octets.len(), "amplified");
    assert_eq!(octets[0] >> 3 & 7, packet[0] >> 3 & 7, "another version");
    assert!(matches!((packet[0] & 7, octets[0] & 7), (3 | 0, 4) | (1, 2)), "another mode");
    let echoes = |at: usize| octets[24..32] == packet[at..at + 8];
    assert!(echoes(40) || echoes(32), "an origin that the client does not know");
    if let Client::Net(address) = from {
        assert!(address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast());
    }
}
