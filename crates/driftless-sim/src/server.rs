//! A time server, right or wrong in one of the ways in which servers are wrong.

use driftless_core::clock::Leap;
use driftless_core::time::{Seconds, Span};
use driftless_core::wire::{Header, Mode, NtpShort, NtpTimestamp};
use serde::Deserialize;

use crate::link::Period;
use crate::reference::Reference;
use crate::truth::TrueTime;

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WordsConfig {
    /// Steps to the root.
    pub stratum: u8,
    /// Round trip to the root, s.
    pub root_delay: f64,
    /// Dispersion to the root, s.
    pub root_dispersion: f64,
    /// log2 of its clock's precision in s.
    pub precision: i8,
    /// Announced leap second.
    pub leap: Leap,
    /// When it is announced; always when empty.
    pub announced: Vec<Period>,
    /// The announcement comes and goes with this period, s; 0: it stays.
    pub leap_flaps_every: f64,
    /// When it says that it is not synchronised.
    pub unsynchronised: Vec<Period>,
    /// Kisses of death.
    pub kisses: Vec<Kiss>,
    /// How long it keeps a request, s.
    pub holds: f64,
}

impl Default for WordsConfig {
    fn default() -> Self {
        Self {
            stratum: 1,
            root_delay: 0.0,
            root_dispersion: 0.0,
            precision: -24,
            leap: Leap::None,
            announced: Vec::new(),
            leap_flaps_every: 0.0,
            unsynchronised: Vec::new(),
            kisses: Vec::new(),
            holds: 0.0,
        }
    }
}

/// A kiss-o'-death instead of an answer (RFC 5905, section 7.4).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kiss {
    /// Four letters.
    pub code: String,
    /// For which part of the requests.
    pub chance: f64,
    /// From when on, s.
    pub from: f64,
    /// Until when, s.
    pub to: f64,
}

/// A running server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its clock.
    pub clock: Reference,
    words: WordsConfig,
}

impl Server {
    /// A server with this clock.
    #[must_use]
    pub const fn new(clock: Reference, words: WordsConfig) -> Self {
        Self { clock, words }
    }

    /// How long it keeps a request.
    #[must_use]
    pub fn holds(&self) -> Span {
        Seconds(self.words.holds).to_span()
    }

    /// The answer to a request that arrived at `received`.
    pub fn answer(&mut self, request: &[u8; 48], received: TrueTime) -> [u8; 48] {
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&request[40..]);
        let lie_s = self.clock.lie(received);
        let receive = NtpTimestamp::from_wall(self.clock.shown(received, lie_s));
        let transmit = NtpTimestamp::from_wall(self.clock.shown(received + self.holds(), lie_s));
        let second = received.seconds();
        let kiss = self.kiss(second);
        let words = &self.words;
        let is_lost = words.unsynchronised.iter().any(|period| period.contains(second));
        let flaps = words.leap_flaps_every > 0.0 && (second / words.leap_flaps_every).rem_euclid(2.0) >= 1.0;
        let is_announced =
            words.announced.is_empty() || words.announced.iter().any(|period| period.contains(second));
        let leap = match () {
            () if is_lost || kiss.is_some() => Leap::Unknown,
            () if flaps || !is_announced => Leap::None,
            () => words.leap,
        };
        Header {
            leap,
            version: 4,
            mode: Mode::Server,
            stratum: if kiss.is_some() {
                0
            } else if is_lost {
                16
            } else {
                words.stratum
            },
            poll: 4,
            precision: words.precision,
            root_delay: NtpShort::from_seconds(Seconds(words.root_delay)),
            root_dispersion: NtpShort::from_seconds(Seconds(words.root_dispersion)),
            reference_id: kiss.unwrap_or(*b"SIM\0"),
            reference: receive,
            origin: NtpTimestamp(u64::from_be_bytes(cookie)),
            receive,
            transmit,
        }
        .encode()
    }

    fn kiss(&mut self, second: f64) -> Option<[u8; 4]> {
        let noise = self.clock.chance();
        let due = self.words.kisses.iter().filter(|kiss| (kiss.from..kiss.to).contains(&second));
        let kiss = due.into_iter().find(|kiss| noise.happens(kiss.chance))?;
        kiss.code.as_bytes().first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Seed;
    use crate::reference::ReferenceConfig;

    fn answered(words: WordsConfig, second: f64) -> Header {
        let clock = Reference::new(ReferenceConfig::default(), Seed(1).stream("server"));
        let mut server = Server::new(clock, words);
        let reply =
            Header::parse(&server.answer(&Header::request(77), TrueTime::from_seconds(second))).unwrap();
        assert_eq!(reply.origin, NtpTimestamp(77));
        reply
    }

    #[test]
    fn it_says_what_it_is_told_to_say() {
        let kiss = Kiss { code: "RATE".into(), chance: 1.0, from: 0.0, to: 10.0 };
        let words = WordsConfig {
            kisses: vec![kiss],
            unsynchronised: vec![Period { from: 20.0, to: 30.0 }],
            leap: Leap::Insert,
            leap_flaps_every: 100.0,
            ..WordsConfig::default()
        };
        let reply = |second: f64| answered(words.clone(), second);
        assert_eq!((reply(1.0).stratum, reply(1.0).reference_id), (0, *b"RATE"));
        assert_eq!((reply(25.0).leap, reply(25.0).stratum), (Leap::Unknown, 16));
        assert_eq!((reply(50.0).leap, reply(150.0).leap), (Leap::Insert, Leap::None));
    }

    #[test]
    fn it_holds_a_request_as_long_as_it_says() {
        let reply = answered(WordsConfig { holds: 0.25, ..WordsConfig::default() }, 5.0);
        let near = TrueTime::from_seconds(5.0).wall();
        assert_eq!(reply.transmit.resolve(near) - reply.receive.resolve(near), Span::from_millis(250));
    }
}
