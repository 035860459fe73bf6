//! The association against honest, lying and foreign replies.

use super::*;
use crate::source::{PollExponent, SourceClass, SourceConfig};
use crate::time::RawTime;
use crate::wire::NtpShort;

struct Counter(u64);

impl Entropy for Counter {
    fn next_u64(&mut self) -> u64 {
        self.0 += 0x9E37_79B9_7F4A_7C15;
        self.0
    }
}

fn at(millis: i64) -> Now {
    Now {
        raw: RawTime::from_nanos(millis * 1_000_000),
        wall: WallTime::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000),
    }
}

fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 123))
}

/// An association that has just asked at 0 ms, and its cookie.
fn asked() -> (Association, u64) {
    let (min_poll, max_poll) = SourceClass::Host.poll_limits();
    let config = SourceConfig {
        name: "ntp:192.0.2.1".into(),
        endpoint: Endpoint::Udp { host: "192.0.2.1".into(), port: 123 },
        class: SourceClass::Host,
        min_poll,
        max_poll,
    };
    let mut association = Association::new(config, at(0));
    let entropy = &mut Counter(0);
    assert_eq!(association.due(at(0), entropy), Some(Action::Resolve));
    association.resolved(at(0), vec![server()]);
    let Some(Action::Transmit(_, data)) = association.due(at(0), entropy) else { panic!("no request") };
    association.transmitted(at(0));
    (association, Header::parse(&data).unwrap().transmit.0)
}

/// The server is 5 s ahead, the path takes 1 ms each way.
fn reply(cookie: u64) -> Header {
    let stamp = |millis: i64| NtpTimestamp::from_wall(at(5_000 + millis).wall);
    Header {
        leap: Leap::None,
        version: 4,
        mode: Mode::Server,
        stratum: 2,
        poll: 0,
        precision: -20,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(0),
        reference_id: *b"TEST",
        reference: stamp(-1_000),
        origin: NtpTimestamp(cookie),
        receive: stamp(1),
        transmit: stamp(2),
    }
}

fn receive(association: &mut Association, reply: &Header) -> Result<Sample, Refusal> {
    association.receive(at(3), 0.0, server().into(), &reply.encode(), None)
}

#[test]
fn an_honest_reply_gives_offset_and_delay() {
    let (mut association, cookie) = asked();
    let sample = receive(&mut association, &reply(cookie)).unwrap();
    assert!((sample.offset.0 - 5.0).abs() < 1e-6, "{sample:?}");
    assert!((sample.delay.0 - 2e-3).abs() < 1e-6, "{sample:?}");
    assert_eq!(association.seen.reach, 1);
}

#[test]
fn the_kernels_stamp_counts_more_than_the_reading() {
    let (mut association, cookie) = asked();
    let data = reply(cookie).encode();
    let sample = association.receive(at(40), 0.0, server().into(), &data, Some(at(3).wall)).unwrap();
    assert!((sample.delay.0 - 2e-3).abs() < 1e-6, "{sample:?}");
}

#[test]
fn a_reply_counts_once_and_only_with_our_cookie() {
    let (mut association, cookie) = asked();
    let not_ours = Err(Refusal::Rejected(Rejection::NotOurs));
    assert_eq!(receive(&mut association, &reply(cookie ^ 1)), not_ours);
    let elsewhere = SocketAddr::from(([192, 0, 2, 2], 123));
    assert_eq!(association.receive(at(3), 0.0, elsewhere.into(), &reply(cookie).encode(), None), not_ours);
    assert!(receive(&mut association, &reply(cookie)).is_ok());
    assert_eq!(receive(&mut association, &reply(cookie)), not_ours, "a duplicate");
}

#[test]
fn a_server_that_contradicts_itself_is_not_believed() {
    type Change = fn(&mut Header);
    let changes: [(Change, Rejection); 6] = [
        (|r| r.stratum = 16, Rejection::Unsynchronised),
        (|r| r.stratum = 200, Rejection::Unsynchronised),
        (|r| r.leap = Leap::Unknown, Rejection::Unsynchronised),
        (|r| core::mem::swap(&mut r.receive, &mut r.transmit), Rejection::Implausible),
        (|r| r.transmit = NtpTimestamp::ZERO, Rejection::Implausible),
        (|r| r.root_delay = NtpShort(4 << 16), Rejection::TooDistant),
    ];
    for (change, expected) in changes {
        let (mut association, cookie) = asked();
        let mut lie = reply(cookie);
        change(&mut lie);
        assert_eq!(receive(&mut association, &lie), Err(Refusal::Rejected(expected)));
    }
}

#[test]
fn noise_below_the_servers_precision_is_no_contradiction() {
    let (mut association, cookie) = asked();
    let mut quick = reply(cookie);
    quick.transmit = NtpTimestamp(quick.receive.0 - 200); // 47 ns
    let sample = receive(&mut association, &quick).unwrap();
    assert!((sample.delay.0 - 3e-3).abs() < 1e-6, "{sample:?}");
}

#[test]
fn kisses_are_obeyed() {
    let (mut association, cookie) = asked();
    let mut kiss = reply(cookie);
    kiss.stratum = 0;
    kiss.reference_id = *b"RATE";
    assert_eq!(receive(&mut association, &kiss), Err(Refusal::Kissed(*b"RATE")));
    assert_eq!(association.schedule().poll(), PollExponent::new(1));
    let (mut association, cookie) = asked();
    kiss.origin = NtpTimestamp(cookie);
    kiss.reference_id = *b"DENY";
    assert_eq!(receive(&mut association, &kiss), Err(Refusal::Kissed(*b"DENY")));
    assert_eq!(association.schedule().deadline(), None, "never asked again");
}

#[test]
fn a_silent_server_is_asked_on_and_its_name_looked_up_again() {
    let (mut association, _) = asked();
    let mut lookups = 0;
    for second in 1..60 {
        match association.due(at(second * 1_000), &mut Counter(1)) {
            Some(Action::Resolve) => {
                lookups += 1;
                association.resolved(at(second * 1_000), vec![server()]);
            }
            Some(Action::Transmit(..)) => association.transmitted(at(second * 1_000)),
            _ => {}
        }
    }
    assert!((2..10).contains(&lookups), "{lookups}");
    assert_eq!(association.seen.reach, 0);
    assert!(association.seen.sent > 40);
}
