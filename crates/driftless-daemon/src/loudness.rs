//! dntpd's `-l`: what is told is ranked by what it means for the clock, not by how bad it is (contract D10).
//!
//! 0: nothing but what the operator must act on; 1: major corrections, and sources that come and go; 2: every correction and change of state; 3 and
//! more: small adjustments and each sample. A change of frequency ranks by its size, as built: 20 ppm is major, 5 ppm is a correction.

use std::sync::atomic::{AtomicU64, Ordering};

use driftless_core::event::{Event, Severity};
use driftless_core::time::Frequency;
use log::LevelFilter;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loudness(pub u8);

/// The rate that was set last, as an `f64`'s bits: what a change is measured against.
static RATE: AtomicU64 = AtomicU64::new(0);

/// Changes of frequency that are major, and that are corrections at all.
const MAJOR: Frequency = Frequency(20e-6);
const CORRECTION: Frequency = Frequency(5e-6);

impl Loudness {
    /// The same for what is no event: lines at the start and the end, what is wrong with files.
    pub(crate) const fn filter(self) -> LevelFilter {
        match self.0 {
            0 => LevelFilter::Error,
            1 => LevelFilter::Warn,
            2 => LevelFilter::Info,
            _ => LevelFilter::Debug,
        }
    }

    /// Whether `event` is told.
    pub(crate) fn includes(self, event: &Event) -> bool {
        rank(event) <= self.0
    }
}

fn rank(event: &Event) -> u8 {
    match event {
        Event::RateSet { rate } => {
            let before = f64::from_bits(RATE.swap(rate.total().0.to_bits(), Ordering::Relaxed));
            of_change((rate.total() - Frequency(before)).abs())
        }
        Event::Stepped { .. }
        | Event::SlideBegun { .. }
        | Event::Reachable { .. }
        | Event::OtherStepped { .. }
        | Event::Interrupted(_) => 1,
        Event::Sampled { .. } => 4,
        _ => match event.severity() {
            Severity::Error => 0,
            Severity::Warning => 1,
            Severity::Notice => 2,
            Severity::Debug => 3,
        },
    }
}

fn of_change(by: Frequency) -> u8 {
    match by {
        by if by >= MAJOR => 1,
        by if by >= CORRECTION => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::clock::{ClockError, Rate};
    use driftless_core::event::StepReason;
    use driftless_core::report::State;
    use driftless_core::source::SourceId;
    use driftless_core::time::{Seconds, Span};

    #[test]
    fn d10_each_level_tells_what_its_number_promises() {
        let refused = Event::ClockRefused { error: ClockError::Permission };
        let stepped = Event::Stepped { by: Span::from_secs(1), reason: StepReason::Start };
        let state = Event::StateChanged { state: State::Synchronised };
        let sample = Event::Sampled { source: SourceId(0), offset: Seconds(0.0), delay: Seconds(0.0) };
        for (event, quietest) in [(refused, 0), (stepped, 1), (state, 2), (sample, 4)] {
            let told: Vec<u8> = (0..=5).filter(|level| Loudness(*level).includes(&event)).collect();
            assert_eq!(told, (quietest..=5).collect::<Vec<u8>>(), "{event:?}");
        }
    }

    #[test]
    fn d10_a_change_of_frequency_ranks_by_its_size() {
        let ranks: Vec<u8> =
            [676.0, 20.1, 5.1, 0.3].iter().map(|ppm| of_change(Frequency::from_ppm(*ppm))).collect();
        assert_eq!(ranks, [1, 1, 2, 3]);
        let rate = Rate { tick: 10_000, frequency: Frequency::from_ppm(-76.0) };
        assert_eq!((rank(&Event::RateSet { rate }), rank(&Event::RateSet { rate })), (1, 3));
    }
}
