//! Who moved the wall clock? It is held against the counter at every call: a difference that no rate explains and no order of ours
//! is a foreign step, or, at the end of a UTC day that has one, the kernel's leap second.

use crate::clock::Leap;
use crate::time::civil::{SECONDS_PER_DAY, date};
use crate::time::{Frequency, NANOS_PER_SECOND, Now, Seconds, Span, WallTime};

/// The last look at both clocks.
#[derive(Debug, Clone, Default)]
pub(super) struct WallWatch {
    last: Option<Now>,
}

/// What moved the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// The kernel inserted (−1 s) or deleted (+1 s) the leap second that it was told of.
    Leap(Span),
    /// Somebody else: positive is forwards.
    Foreign(Span),
}

/// Smaller differences may be a reading that was interrupted halfway.
const STEP_MIN: Seconds = Seconds(5e-3);
/// What another rate than ours may add a second: somebody else's frequency, or an `adjtime` that is under way.
const RATE_DOUBT: f64 = 1.2e-3;
/// The leap second's step is one second, give or take this.
const LEAP_TOLERANCE: Span = Span::from_millis(100);
/// How long after midnight the kernel may be seen to have leapt: the first look after it may be late.
const LEAP_SEEN_WITHIN_S: i64 = 4_000;

impl WallWatch {
    /// Looks again; `rate` is wall against raw, minus one, since the last look, and `armed` what the kernel was told.
    pub(super) fn look(&mut self, now: Now, rate: Frequency, armed: Leap) -> Option<Moved> {
        let last = self.last.replace(now)?;
        let elapsed = Seconds::from(now.raw - last.raw);
        let expected = elapsed.0 * (1.0 + rate.0);
        let extra = Seconds(Seconds::from(now.wall - last.wall).0 - expected);
        if extra.abs().0 < STEP_MIN.0 + elapsed.0.abs() * RATE_DOUBT {
            return None;
        }
        let by = extra.to_span();
        let leap = match armed {
            Leap::Insert => Span::from_secs(-1),
            Leap::Delete => Span::from_secs(1),
            Leap::None | Leap::Unknown => return Some(Moved::Foreign(by)),
        };
        let is_leap = (by - leap).abs() < LEAP_TOLERANCE && is_near_midnight(last.wall, now.wall);
        Some(if is_leap { Moved::Leap(leap) } else { Moved::Foreign(by) })
    }

    /// We moved it ourselves: what comes next is compared with this.
    pub(super) const fn moved_by_us(&mut self, now: Now) {
        self.last = Some(now);
    }
}

fn is_near_midnight(before: WallTime, after: WallTime) -> bool {
    let second_of_day =
        |time: WallTime| time.as_nanos().div_euclid(NANOS_PER_SECOND).rem_euclid(SECONDS_PER_DAY);
    second_of_day(after) < LEAP_SEEN_WITHIN_S || second_of_day(before) >= SECONDS_PER_DAY - 2
}

/// Leap seconds come at the end of June or December in UTC: on other days an announcement is not passed on to the kernel, which
/// would leap at the next midnight, whatever the month.
pub(super) const fn has_leap_day(now: WallTime) -> bool {
    let (_, month, day) = date(now.as_nanos().div_euclid(NANOS_PER_SECOND).div_euclid(SECONDS_PER_DAY));
    matches!((month, day), (6, 30) | (12, 31))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::RawTime;
    use crate::time::civil::days;

    fn at(raw_s: i64, wall_s: i64) -> Now {
        Now { raw: RawTime::from_parts(raw_s, 0), wall: WallTime::from_parts(wall_s, 0) }
    }

    #[test]
    fn a_step_by_somebody_else_is_seen_and_a_rate_is_not() {
        let mut watch = WallWatch::default();
        let looks = [at(0, 1_000), at(16, 1_016), at(32, 1_132), at(48, 1_148)];
        let seen: Vec<_> = looks.map(|now| watch.look(now, Frequency::ZERO, Leap::None)).to_vec();
        assert_eq!(seen, [None, None, Some(Moved::Foreign(Span::from_secs(100))), None]);
        assert_eq!(watch.look(at(1_048, 2_149), Frequency::from_ppm(1_000.0), Leap::None), None);
    }

    #[test]
    fn the_kernels_leap_second_is_told_from_a_foreign_step() {
        let midnight = days(2017, 1, 1) * SECONDS_PER_DAY;
        let mut watch = WallWatch::default();
        assert_eq!(watch.look(at(0, midnight - 8), Frequency::ZERO, Leap::Insert), None);
        let leapt = watch.look(at(16, midnight + 7), Frequency::ZERO, Leap::Insert);
        assert_eq!(leapt, Some(Moved::Leap(Span::from_secs(-1))));
        assert!(has_leap_day(WallTime::from_parts(midnight - 1, 0)));
        assert!(!has_leap_day(WallTime::from_parts(midnight, 0)));
    }
}
