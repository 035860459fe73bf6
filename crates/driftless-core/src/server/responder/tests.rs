use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::clock::Leap;
use crate::time::{Seconds, Span};
use crate::wire::{Header, Mode};

const NOW: WallTime = WallTime::from_nanos(1_700_000_000_000_000_000);
const US: Span = Span::from_micros(1);

fn responder(rate: Rate) -> Responder {
    let access =
        AccessList::new(&[AccessList::NEAR.as_slice(), &["10.0.0.0/8".parse().unwrap()]].concat(), &[]);
    Responder::new(access, rate, &ServerState::as_is(NOW), [1, 2, 3])
}

fn from(address: &str) -> Client {
    Client::Net(address.parse().unwrap())
}

fn exchange(server: &mut Responder, packet: &[u8], at: WallTime) -> Header {
    let reply = server.answer(packet, from("10.0.0.1:4000"), at).unwrap();
    let (octets, _) = server.leaving(&reply, at + US);
    Header::parse(&octets).unwrap()
}

fn asking(origin: NtpTimestamp, receive: NtpTimestamp, transmit: u64) -> [u8; 48] {
    let mut packet = Header::request(transmit);
    packet[24..32].copy_from_slice(&origin.0.to_be_bytes());
    packet[32..40].copy_from_slice(&receive.0.to_be_bytes());
    packet
}

#[test]
fn a_client_gets_its_own_stamp_back() {
    let header = exchange(&mut responder(Rate::default()), &Header::request(77), NOW);
    assert_eq!((header.mode, header.origin, header.version), (Mode::Server, NtpTimestamp(77), 4));
    assert_eq!((header.receive.resolve(NOW), header.transmit.resolve(NOW)), (NOW, NOW + US));
}

#[test]
fn interleaved_mode_tells_when_the_last_reply_really_left() {
    let mut server = responder(Rate::default());
    let second = Span::from_secs(1);
    let first = exchange(&mut server, &asking(NtpTimestamp::ZERO, NtpTimestamp::ZERO, 7), NOW);
    // The client is known as one from its second request on: it names what the server received.
    let second_reply = exchange(&mut server, &asking(first.receive, NtpTimestamp(5), 8), NOW + second);
    assert_eq!(second_reply.origin, NtpTimestamp(8), "basic, as the first reply's leaving is not remembered");
    // Meanwhile the kernel has said when it left: 20 us later than was written into it.
    let left = NOW + second + Span::from_micros(21);
    server.departed(&second_reply.encode(), left);
    let request = asking(second_reply.receive, NtpTimestamp(6), 9);
    let third = exchange(&mut server, &request, NOW + second + second);
    assert_eq!(third.origin, NtpTimestamp(6), "RFC 9769: the request's receive timestamp");
    assert_eq!(third.transmit.resolve(NOW), left);
    assert_eq!(third.receive.resolve(NOW), NOW + second + second);
    assert_ne!(third.receive, third.transmit);
    // The same again: it was told once, and a lost reply is no reason to tell it to somebody else.
    assert_eq!(exchange(&mut server, &request, NOW + second + second + US).origin, NtpTimestamp(9));
    assert_eq!(server.counters().interleaved, 1);
}

#[test]
fn a_client_of_basic_mode_is_never_answered_in_another() {
    let mut server = responder(Rate::default());
    let mut last = exchange(&mut server, &Header::request(1), NOW);
    for n in 2..50 {
        // RFC 5905: origin is the server's transmit timestamp.
        let packet = asking(last.transmit, NtpTimestamp(n * 10), n);
        last = exchange(&mut server, &packet, NOW + Span::from_secs(i64::try_from(n).unwrap()));
        assert_eq!(last.origin, NtpTimestamp(n));
    }
    let equal = asking(last.receive, NtpTimestamp(99), 99);
    for n in 50..52 {
        assert_eq!(
            exchange(&mut server, &equal, NOW + Span::from_secs(n)).origin,
            NtpTimestamp(99),
            "RFC 9769, condition 1"
        );
    }
    assert_eq!(server.counters().interleaved, 0);
}

#[test]
fn who_may_not_ask_and_who_cannot_be_answered_is_dropped_for_its_reason() {
    let mut server = responder(Rate::default());
    let packet = Header::request(1);
    for (address, expected) in [
        ("8.8.8.8:123", Dropped::Denied),
        ("10.0.0.1:0", Dropped::Source),
        ("0.0.0.0:123", Dropped::Source),
        ("255.255.255.255:123", Dropped::Source),
        ("224.0.1.1:123", Dropped::Source),
        ("[ff02::101]:123", Dropped::Source),
        ("[::]:123", Dropped::Source),
    ] {
        assert_eq!(server.answer(&packet, from(address), NOW), Err(expected), "{address}");
    }
    let counters = server.counters();
    assert_eq!((counters.received, counters.replies, counters.dropped.source), (7, 0, 6));
    assert_eq!(counters.dropped.total(), 7);
}

#[test]
fn a_flood_gets_back_a_small_part_and_some_of_that_is_a_kiss() {
    let mut server = responder(Rate { per_second: 1, burst: 1 });
    let packet = Header::request(1);
    let flood = 100_000_u64;
    for _ in 0..flood {
        let _ = server.answer(&packet, from("10.0.0.1:123"), NOW);
    }
    let Counters { replies, kisses, dropped, .. } = server.counters();
    assert_eq!(replies + dropped.limited, flood);
    assert!((flood / 80..flood / 52).contains(&kisses), "{kisses}");
    assert!((flood / 18..flood / 11).contains(&replies), "{replies}");
    // This very host is not limited, nor can a guest behind its user network be told from another.
    assert!((0..1_000).all(|_| server.answer(&packet, from("127.0.0.1:5000"), NOW).is_ok()));
}

#[test]
fn what_is_said_of_the_clock_can_change() {
    let mut server = responder(Rate::default());
    server.set_state(&ServerState::unsynchronised());
    assert_eq!(exchange(&mut server, &Header::request(1), NOW).leap, Leap::Unknown);
    let state = ServerState { stratum: 2, root_delay: Seconds(0.5), ..ServerState::as_is(NOW) };
    server.set_state(&state);
    let header = exchange(&mut server, &Header::request(1), NOW);
    assert_eq!((header.stratum, header.root_delay.seconds()), (2, Seconds(0.5)));
    server.set_access(AccessList::default());
    assert_eq!(server.answer(&Header::request(1), from("127.0.0.1:1"), NOW), Err(Dropped::Denied));
}

proptest! {
    /// Whatever comes, a reply is a reply: of 48 octets where at least as many came, of the request's version, no request itself, and all is counted.
    #[test]
    fn any_packet_is_answered_rightly_or_counted(
        mut packet in proptest::collection::vec(any::<u8>(), 0..1_100),
        first in any::<u8>(),
        port in any::<u16>(),
    ) {
        if let Some(octet) = packet.first_mut() { *octet = first; }
        let mut server = responder(Rate::default());
        let result = server.answer(&packet, Client::Net(SocketAddr::from(([127, 0, 0, 1], port))), NOW);
        let counters = server.counters();
        prop_assert_eq!(counters.replies + counters.dropped.total(), 1);
        if let Ok(reply) = result {
            let (octets, _) = server.leaving(&reply, NOW);
            prop_assert!(packet.len() >= octets.len());
            prop_assert_eq!(octets[0] >> 3 & 7, packet[0] >> 3 & 7);
            prop_assert!(matches!(octets[0] & 7, 2 | 4));
            prop_assert_eq!(&octets[24..32], &packet[40..48]);
        }
    }
}
