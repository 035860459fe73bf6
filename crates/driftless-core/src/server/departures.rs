//! When recent replies really left, for clients that ask in interleaved mode (RFC 9769, section 2).
//!
//! A reply's own transmit timestamp is written before the reply leaves, so it is a guess. In interleaved mode a client names the last reply by
//! its receive timestamp, and is told when that one left: the kernel knows by then. A table of fixed size remembers that, found by the receive
//! timestamp alone. Only clients that may ask so are worth a place: our receive timestamps have their lowest bit set, our transmit timestamps
//! have it clear, and a client that echoes the former is one (it costs 0.2 ns of truth, and such a client its second exchange).

use crate::wire::NtpTimestamp;

/// Places: 256 KB.
const PLACES: usize = 1 << 14;

/// One reply.
#[derive(Debug, Clone, Copy, Default)]
struct Departure {
    /// Its receive timestamp; 0 is none.
    received: u64,
    left: u64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Departures(Box<[Departure]>);

impl Departures {
    pub(super) fn new() -> Self {
        Self(vec![Departure::default(); PLACES].into_boxed_slice())
    }

    /// When the reply to what was received then left. It is forgotten: a stamp serves once.
    pub(super) fn take(&mut self, received: NtpTimestamp) -> Option<NtpTimestamp> {
        let place = self.0.get_mut(place(received))?;
        if received.is_zero() || place.received != received.0 {
            return None;
        }
        Some(NtpTimestamp(std::mem::take(place).left))
    }

    /// The reply to what was received then leaves at `left`.
    pub(super) fn expect(&mut self, received: NtpTimestamp, left: NtpTimestamp) {
        if let Some(place) = self.0.get_mut(place(received)) {
            *place = Departure { received: received.0, left: left.0 };
        }
    }

    /// The kernel says when it really left.
    pub(super) fn correct(&mut self, received: NtpTimestamp, left: NtpTimestamp) {
        if let Some(place) = self.0.get_mut(place(received)) {
            if place.received == received.0 {
                place.left = left.0;
            }
        }
    }
}

/// Marks a timestamp as one of receiving.
pub(super) const fn marked_received(stamp: NtpTimestamp) -> NtpTimestamp {
    NtpTimestamp(stamp.0 | 1)
}

/// Marks a timestamp as one of leaving.
pub(super) const fn marked_left(stamp: NtpTimestamp) -> NtpTimestamp {
    NtpTimestamp(stamp.0 & !1)
}

/// Whether it has the mark of receiving.
pub(super) const fn is_marked_received(stamp: NtpTimestamp) -> bool {
    stamp.0 & 1 == 1
}

fn place(received: NtpTimestamp) -> usize {
    // Spreads stamps that differ in their middle bits over the places (Fibonacci hashing, Knuth 6.4).
    usize::try_from(received.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50).unwrap_or(0) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_departure_is_told_once_and_as_the_kernel_corrected_it() {
        let mut table = Departures::new();
        let (one, other) = (NtpTimestamp(0x1_0000_0001), NtpTimestamp(0x2_0000_0001));
        table.expect(one, NtpTimestamp(50));
        table.correct(one, NtpTimestamp(60));
        table.correct(other, NtpTimestamp(70));
        assert_eq!(table.take(other), None);
        assert_eq!((table.take(one), table.take(one)), (Some(NtpTimestamp(60)), None));
        assert_eq!(table.take(NtpTimestamp::ZERO), None, "an empty place is nobody's");
    }

    #[test]
    fn the_newest_replies_of_thousands_of_clients_are_remembered() {
        let mut table = Departures::new();
        // A millisecond apart, as odd as all that are received.
        let stamps: Vec<NtpTimestamp> = (0..4_000).map(|n: u64| NtpTimestamp((n * 4_294_967) | 1)).collect();
        for stamp in &stamps {
            table.expect(*stamp, NtpTimestamp(stamp.0 + 9));
        }
        let kept = stamps.iter().filter(|stamp| table.take(**stamp).is_some()).count();
        assert!(kept > 3_400, "{kept}");
    }
}
