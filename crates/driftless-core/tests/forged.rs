//! An attacker who does not see the packets: ten million forged replies, and none is accepted.
#![forbid(unsafe_code)]

use driftless_core::entropy::Entropy;
use driftless_core::source::{Action, Association, Endpoint, Peer, Refusal, SourceClass, SourceConfig};
use driftless_core::time::{Now, RawTime, Span, WallTime};
use driftless_core::wire::{Header, NtpTimestamp};

const FORGED: u64 = 10_000_000;

/// What the attacker does not know: any fixed number does.
struct Cookie;

impl Entropy for Cookie {
    fn next_u64(&mut self) -> u64 {
        0x7a3c_91e4_05bd_f268
    }
}

fn config() -> SourceConfig {
    let (min_poll, max_poll) = SourceClass::Network.poll_limits();
    SourceConfig {
        name: "ntp:192.0.2.1".into(),
        endpoint: Endpoint::Udp { host: "192.0.2.1".into(), port: 123 },
        class: SourceClass::Network,
        min_poll,
        max_poll,
    }
}

/// The attacker even knows addresses, ports, and when the request left; not what was in it.
#[test]
fn none_of_ten_million_forged_replies_is_accepted_and_the_true_one_still_is() {
    let now = Now { raw: RawTime::from_nanos(0), wall: WallTime::from_nanos(1_700_000_000_000_000_000) };
    let later = Now { raw: now.raw + Span::from_millis(2), wall: now.wall + Span::from_millis(2) };
    let server = std::net::SocketAddr::from(([192, 0, 2, 1], 123));
    let mut association = Association::new(config(), now);
    assert_eq!(association.due(now, &mut Cookie), Some(Action::Resolve));
    association.resolved(now, vec![server]);
    let Some(Action::Transmit(_, request)) = association.due(now, &mut Cookie) else { panic!("no request") };
    association.transmitted(now);
    let middle = NtpTimestamp::from_wall(now.wall + Span::from_millis(1)).0.to_be_bytes();
    let mut reply = [0; 48];
    reply[..4].copy_from_slice(&[0x24, 1, 0, 0xec]);
    reply[32..40].copy_from_slice(&middle);
    reply[40..].copy_from_slice(&middle);
    let mut guess = 0_u64;
    for round in 0..FORGED {
        // Guesses all over, and the likelier ones: none, times near the request's, small numbers.
        guess = guess.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let origin = match round % 4 {
            0 => round,
            1 => NtpTimestamp::from_wall(now.wall).0 ^ (guess >> 40),
            _ => guess,
        };
        reply[24..32].copy_from_slice(&origin.to_be_bytes());
        if round % 64 == 0 {
            // Kisses, too, must be answers to what was asked.
            reply[1] = 0;
            reply[12..16].copy_from_slice(b"DENY");
        } else {
            reply[1] = 1;
        }
        let result = association.receive(later, 0.0, Peer::Udp(server), &reply, None);
        assert!(matches!(result, Err(Refusal::Rejected(_))), "{origin:#x}: {result:?}");
    }
    let cookie = Header::parse(&request).unwrap().transmit;
    reply[1] = 1;
    reply[24..32].copy_from_slice(&cookie.0.to_be_bytes());
    assert!(association.receive(later, 0.0, Peer::Udp(server), &reply, None).is_ok());
}
