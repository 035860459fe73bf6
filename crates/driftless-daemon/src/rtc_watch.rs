//! The real-time clock held against the counter, a glance each second: one that runs on while this guest stands still shows it.
//!
//! A glance tells whole seconds only: that the clock was between `second` and `second + 1`. So it matters when it is taken. Glances aimed at the
//! middle of where the second's edge may stand halve what is unknown; once that is little, a glance just before the edge shows
//! every jump across it, of a quarter of a second and more.

use std::path::{Path, PathBuf};

use driftless_core::time::{RawTime, Seconds};
use driftless_linux::{clock, rtc};

/// The watch on one real-time clock.
#[derive(Debug)]
pub(crate) struct RtcWatch {
    path: PathBuf,
    known: Option<Known>,
}

/// What the glances so far have shown.
#[derive(Debug, Clone, Copy)]
struct Known {
    at: RawTime,
    /// Time since the first glance, at the rate of the true second as far as that is known.
    elapsed_s: f64,
    /// The clock − elapsed time is between these.
    low_s: f64,
    high_s: f64,
    /// The second that was shown last, and since when.
    second: i64,
    since_s: f64,
}

/// What a glance means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glance {
    /// As expected, or the first.
    Usual,
    /// The clock and the counter moved against each other.
    Moved,
    /// It cannot be read, or stands still: of no use any more.
    Useless,
}

/// How far the two may drift apart.
const DRIFT_MAX: f64 = 2e-3;
/// A clock in the middle of its update shows the last second a little longer.
const SLACK_S: f64 = 0.05;
/// How long before the edge a glance looks for jumps: a wait ends some milliseconds late, and that is no jump.
const EARLY_S: f64 = 0.1;
/// With more than that unknown a glance narrows it down instead.
const UNKNOWN_MAX_S: f64 = 0.15;
/// The next glance comes after at least so long; sooner while the edge is searched, since until it is known pauses may go unseen.
const APART_S: f64 = 0.5;
const APART_SEARCHING_S: f64 = 0.1;
/// A clock that shows the same second for longer stands still.
const FROZEN_S: f64 = 3.5;

impl RtcWatch {
    /// A watch, if there is a clock that can be read without opening it.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        rtc::since_epoch(path).map(|_| Self { path: path.to_owned(), known: None })
    }

    /// Looks. `pace` is the true second's rate against the counter, as far as it is known.
    pub(crate) fn look(&mut self, pace: f64) -> Glance {
        let before = clock::now().0.raw;
        let Some(second) = rtc::since_epoch(&self.path) else { return Glance::Useless };
        self.shown((before, clock::now().0.raw), pace, second)
    }

    /// Begins anew.
    pub(crate) const fn forget(&mut self) {
        self.known = None;
    }

    /// When to look next; at once where nothing is known yet.
    pub(crate) fn due(&self, pace: f64) -> Option<RawTime> {
        let known = self.known?;
        let (aim_s, apart_s) = match known.high_s - known.low_s {
            unknown_s if unknown_s > UNKNOWN_MAX_S => {
                (f64::midpoint(known.low_s, known.high_s), APART_SEARCHING_S)
            }
            _ => (known.high_s + EARLY_S, APART_S),
        };
        // The first whole second of what is aimed at that is far enough ahead.
        let whole_s = (aim_s + known.elapsed_s + apart_s).ceil();
        let ahead_s = whole_s - aim_s - known.elapsed_s;
        Some(known.at + Seconds(ahead_s / pace).to_span())
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
    fn shown(&mut self, (before, after): (RawTime, RawTime), pace: f64, second: i64) -> Glance {
        // It was read at some time between: a guest that was kept waiting meanwhile is no interrupted one.
        let took_s = Seconds::from(after - before).0 * pace;
        let passed_s = self.known.map_or(0.0, |known| Seconds::from(before - known.at).0 * pace);
        let elapsed_s = self.known.map_or(0.0, |known| known.elapsed_s) + passed_s;
        let (low_s, high_s) = (second as f64 - elapsed_s - took_s, second as f64 + 1.0 - elapsed_s);
        let mut next = Known { at: before, elapsed_s, low_s, high_s, second, since_s: elapsed_s };
        let Some(known) = self.known else {
            self.known = Some(next);
            return Glance::Usual;
        };
        let doubt_s = passed_s * DRIFT_MAX;
        if second == known.second {
            if elapsed_s - known.since_s > FROZEN_S {
                return Glance::Useless;
            }
            next.since_s = known.since_s;
        }
        let has_moved = next.low_s > known.high_s + doubt_s + SLACK_S
            // Behind, but it has not moved at all: it may stand still, which the next glances show.
            || (next.high_s < known.low_s - doubt_s - SLACK_S && second != known.second);
        if !has_moved {
            next.low_s = next.low_s.max(known.low_s - doubt_s);
            // Never turned round by the slack.
            next.high_s = next.high_s.min(known.high_s + doubt_s).max(next.low_s);
        }
        self.known = Some(next);
        if has_moved { Glance::Moved } else { Glance::Usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_S: f64 = 1_800_000_000.37;

    fn watch() -> RtcWatch {
        RtcWatch { path: PathBuf::new(), known: None }
    }

    /// Glances when they are due, and `late_s` later; `clock` makes of the counter what the clock shows. Each glance that was not as usual, and their number.
    fn seen(until_s: f64, pace: f64, late_s: f64, clock: impl Fn(f64) -> f64) -> (Vec<(f64, Glance)>, u32) {
        let mut watch = watch();
        let (mut raw_s, mut found, mut glances) = (0.0, Vec::new(), 0);
        while raw_s < until_s {
            #[expect(clippy::cast_possible_truncation, reason = "a clock shows whole seconds")]
            let second = clock(raw_s).floor() as i64;
            let at = RawTime::from_nanos(0) + Seconds(raw_s).to_span();
            let glance = watch.shown((at, at), pace, second);
            glances += 1;
            if glance != Glance::Usual {
                found.push((raw_s, glance));
            }
            if glance == Glance::Useless {
                break;
            }
            let due = watch.due(pace).unwrap();
            raw_s = Seconds::from(due - RawTime::from_nanos(0)).0 + late_s;
        }
        (found, glances)
    }

    #[test]
    fn a_clock_that_keeps_step_is_never_suspected_and_looked_at_once_a_second() {
        for (pace, drift, late_s) in [(1.0, 0.0, 0.0), (1.0, 2e-3, 1e-3), (1.0, -2e-3, 0.2), (0.9, -0.1, 0.4)]
        {
            let (found, glances) = seen(5_000.0, pace, late_s, |raw_s| START_S + raw_s * (1.0 + drift));
            assert_eq!(found, [], "{pace} {drift}");
            assert!((4_000..5_300).contains(&glances), "{glances}");
        }
    }

    #[test]
    fn a_pause_of_three_tenths_of_a_second_is_always_seen_within_a_second_and_a_half() {
        for phase in 0..40 {
            for pause_s in [0.3, 0.75, 1.25, 2.0, 3_600.0] {
                let at_s = 100.0 + f64::from(phase) * 0.05;
                let clock = |raw_s: f64| START_S + raw_s * 1.0001 + if raw_s > at_s { pause_s } else { 0.0 };
                let (found, _) = seen(200.0, 1.0, 1e-3, clock);
                assert!(found.len() == 1, "{phase} {pause_s}: {found:?}");
                assert!(
                    found[0].1 == Glance::Moved && found[0].0 - at_s < 1.5,
                    "{phase} {pause_s}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_glance_that_takes_long_is_no_sign() {
        let mut watch = watch();
        let at = |seconds| RawTime::from_nanos(0) + Seconds(seconds).to_span();
        for index in 0..60_i64 {
            #[expect(clippy::cast_precision_loss, reason = "a minute")]
            let before = index as f64 * 1.01;
            // Each third is kept waiting, and reads at the end.
            let took = if index % 3 == 2 { 0.7 } else { 0.001 };
            #[expect(clippy::cast_possible_truncation, reason = "a clock shows whole seconds")]
            let second = (START_S + before + took).floor() as i64;
            assert_eq!(watch.shown((at(before), at(before + took)), 1.0, second), Glance::Usual, "{index}");
        }
    }

    #[test]
    fn a_clock_set_back_is_seen_too() {
        let (found, _) =
            seen(200.0, 1.0, 0.0, |raw_s| START_S + raw_s - if raw_s > 100.5 { 60.0 } else { 0.0 });
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_clock_that_stands_still_is_no_sign_and_given_up() {
        let (found, _) = seen(200.0, 1.0, 0.0, |raw_s| START_S + raw_s.min(50.0));
        assert!(matches!(found[..], [(at_s, Glance::Useless)] if at_s < 56.0), "{found:?}");
        assert!(RtcWatch::open(Path::new("/dev/driftless-none")).is_none());
    }
}
