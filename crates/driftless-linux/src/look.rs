//! One look at a clock beside our own: the device is read between two readings of a local clock, several times.
//!
//! Whatever happened in between, the device was read somewhere inside of the bracket, so half of its width bounds the error.
//! The tightest bracket says most. Those nearly as tight say as much about the device's own jitter: the mean of them is taken.

use std::io;

use driftless_core::source::LookError;
use driftless_core::time::{Now, RawTime, Seconds, Span, WallTime};

use crate::clock;

/// The device read between two readings of a local clock, all in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bracket {
    pub(crate) before: i64,
    pub(crate) device: i64,
    pub(crate) after: i64,
}

/// Which clock stands left and right in a bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// `CLOCK_MONOTONIC_RAW`.
    Raw,
    /// `CLOCK_REALTIME`.
    Wall,
}

/// What a look comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Middle {
    pub(crate) local: i64,
    pub(crate) device: i64,
    pub(crate) width: Span,
}

/// Both local clocks, taken together before and after a look, to carry a time on one over to the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    first: Now,
    last: Now,
    /// How well the two clocks were taken together.
    pub(crate) error: Seconds,
}

/// A bracket counts beside the tightest where it is wider by no more than this part of it, and this.
const NEARLY_AS_TIGHT: (i64, i64) = (4, 20);
/// The wall clock's rate differs from the counter's by less than this part; by more it was set in between.
const RATE_PART: i64 = 5;

/// A device may stamp a little before it is asked, and the wall clock's rate may be corrected meanwhile.
const SLACK_NS: i64 = 10_000_000;

/// The mean of the tightest brackets. None where none is whole: the clock was set back inside of each.
pub(crate) fn tightest(brackets: &[Bracket]) -> Option<Middle> {
    let width = |bracket: &Bracket| bracket.after.saturating_sub(bracket.before);
    let whole = || brackets.iter().filter(move |bracket| width(bracket) >= 0);
    let best = whole().min_by_key(|bracket| width(bracket))?;
    let (part, extra) = NEARLY_AS_TIGHT;
    let limit = width(best) + width(best) / part + extra;
    let (mut local, mut device, mut widths, mut count) = (0, 0, 0, 0);
    for bracket in whole().filter(|bracket| width(bracket) <= limit) {
        local += bracket.before.saturating_sub(best.before) + width(bracket) / 2;
        device += bracket.device.saturating_sub(best.device);
        widths += width(bracket);
        count += 1;
    }
    Some(Middle {
        local: best.before.saturating_add(local / count),
        device: best.device.saturating_add(device / count),
        width: Span::from_nanos(widths / count),
    })
}

impl Frame {
    /// Carries out a look between the two pairs.
    pub(crate) fn around<T>(look: impl FnOnce() -> T) -> (Self, T) {
        let (first, before) = clock::now();
        let result = look();
        let (last, after) = clock::now();
        (Self { first, last, error: Seconds::from(before.max(after).half()) }, result)
    }

    /// How long the look took.
    pub(crate) fn duration(&self) -> Span {
        self.last.raw - self.first.raw
    }

    /// Whether the time `local` on one of the clocks can have been taken during the look.
    pub(crate) fn holds(&self, local: i64, side: Side) -> bool {
        let (first, last) = match side {
            Side::Raw => (self.first.raw.as_nanos(), self.last.raw.as_nanos()),
            Side::Wall => (self.first.wall.as_nanos(), self.last.wall.as_nanos()),
        };
        (first.saturating_sub(SLACK_NS)..=last.saturating_add(SLACK_NS)).contains(&local)
    }

    /// Both clocks at the time `local` on one of them. None where the wall clock was set meanwhile.
    pub(crate) fn place(&self, local: i64, side: Side) -> Option<Now> {
        let (raw, wall) = (self.duration(), self.last.wall - self.first.wall);
        let apart = (wall - raw).abs().as_nanos();
        if apart > raw.as_nanos() / RATE_PART + 1_000 {
            return None;
        }
        let scaled = |span: Span, by: Span, of: Span| {
            let product = i128::from(span.as_nanos()) * i128::from(by.as_nanos());
            let quotient = product / i128::from(of.as_nanos().max(1));
            Span::from_nanos(i64::try_from(quotient).unwrap_or(span.as_nanos()))
        };
        Some(match side {
            Side::Raw => {
                let at = RawTime::from_nanos(local);
                Now { raw: at, wall: self.first.wall + scaled(at - self.first.raw, wall, raw) }
            }
            Side::Wall => {
                let at = WallTime::from_nanos(local);
                Now { raw: self.first.raw + scaled(at - self.first.wall, raw, wall), wall: at }
            }
        })
    }
}

/// What a failed call on a device means.
pub(crate) fn refusal(error: &io::Error) -> LookError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => LookError::Missing,
        Some(libc::EACCES | libc::EPERM) => LookError::Permission,
        Some(libc::ETIMEDOUT) => LookError::Loose,
        Some(errno) => LookError::Other(errno),
        None if error.kind() == io::ErrorKind::NotFound => LookError::Missing,
        None => LookError::NoTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bracket(before: i64, device: i64, after: i64) -> Bracket {
        Bracket { before, device, after }
    }

    #[test]
    fn the_tightest_counts_and_a_wide_one_does_not() {
        let found = tightest(&[bracket(0, 1_900, 9_000), bracket(10_000, 11_005, 10_900)]).unwrap();
        assert_eq!(found, Middle { local: 10_450, device: 11_005, width: Span::from_nanos(900) });
    }

    #[test]
    fn brackets_as_tight_are_averaged() {
        let found = tightest(&[bracket(0, 1_040, 100), bracket(1_000, 2_060, 1_110)]).unwrap();
        assert_eq!(found, Middle { local: 552, device: 1_550, width: Span::from_nanos(105) });
    }

    #[test]
    fn a_clock_set_back_inside_of_a_bracket_spoils_only_that_one() {
        assert_eq!(tightest(&[bracket(5_000, 1, 2_000)]), None);
        let found = tightest(&[bracket(5_000, 1, 2_000), bracket(2_000, 4, 3_000)]).unwrap();
        assert_eq!(found.width, Span::from_nanos(1_000));
    }

    #[test]
    fn a_place_on_one_clock_is_carried_to_the_other() {
        let at = |raw, wall| Now { raw: RawTime::from_nanos(raw), wall: WallTime::from_nanos(wall) };
        // The wall clock runs 1 % fast.
        let frame = Frame { first: at(0, 7_000), last: at(100_000, 108_000), error: Seconds(0.0) };
        assert_eq!(frame.place(50_000, Side::Raw), Some(at(50_000, 57_500)));
        assert_eq!(frame.place(57_500, Side::Wall), Some(at(50_000, 57_500)));
        let stepped = Frame { last: at(100_000, 1_000_000_000), ..frame };
        assert_eq!(stepped.place(50_000, Side::Raw), None);
    }
}
