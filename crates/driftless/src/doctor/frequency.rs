//! The kernel's means of correction, and whether they are used up: the fine frequency ends at ±500 ppm, the tick at ±10 %, and `adjtime` slews by 500 ppm.

use driftless_core::clock::Rate;
use driftless_core::time::{Seconds, Span};

use super::evidence::Evidence;
use super::finding::{Finding, Kind, Severity};

pub(super) static KINDS: [&Kind; 3] = [&SATURATED, &TICK, &PENDING];

static SATURATED: Kind = Kind {
    id: "frequency-saturated",
    severity: Severity::Serious,
    title: "the kernel's frequency stands at its limit",
    consequence: "whoever corrects the rate by the frequency alone has come to the end of it: the rest of the drift is not corrected, and the offset grows",
    cure: "use a program that sets the tick, too: driftless run, or chronyd",
};
static TICK: Kind = Kind {
    id: "tick-at-limit",
    severity: Severity::Serious,
    title: "the kernel's tick stands at its limit",
    consequence: "the clock cannot be made to run any faster or slower: a drift of 10 % is a broken counter, or a wrong estimate of it",
    cure: "look for what is wrong with the counter (driftless doctor's findings about clock source), or restart the program that set it",
};
static PENDING: Kind = Kind {
    id: "slew-pending",
    severity: Severity::Warning,
    title: "a large correction is being slid in slowly",
    consequence: "the clock stays wrong for hours or days, and corrections of others are added to it",
    cure: "driftless run cancels what is pending and corrects at once; or set the clock while nothing depends on it",
};

/// Nearer to the limit than this: a program that wanted to go further has been stopped there.
const MARGIN_PPM: f64 = 0.05;
/// `adjtime(3)` moves the clock by this much a second.
const SLEW: f64 = 500e-6;
const PENDING_MAX: Span = Span::from_millis(500);

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let Some((live, clock)) = evidence.live.as_ref().and_then(|live| Some((live, live.clock?))) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (ppm, limit) = (clock.rate.frequency.ppm(), Rate::FREQUENCY_MAX.ppm());
    if ppm.abs() > limit - MARGIN_PPM {
        found.push(SATURATED.seen(format!("adjtimex: frequency {ppm:+.3} ppm, tick {}", clock.rate.tick)));
    }
    if clock.rate.tick <= Rate::TICK_MIN || clock.rate.tick >= Rate::TICK_MAX {
        found.push(TICK.seen(format!(
            "adjtimex: tick {} of {} to {}",
            clock.rate.tick,
            Rate::TICK_MIN,
            Rate::TICK_MAX
        )));
    }
    if live.sliding.abs() > PENDING_MAX {
        let left = Seconds::from(live.sliding);
        let hours = left.abs().0 / SLEW / 3_600.0;
        found.push(
            PENDING.seen(format!("{left} are still to be slid in, which takes {hours:.1} h at 500 ppm")),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Live;
    use super::super::evidence::planted::{ids, machine};
    use super::*;
    use driftless_core::clock::ClockState;
    use driftless_core::time::Frequency;

    fn found(change: impl Fn(ClockState) -> ClockState) -> Vec<&'static str> {
        let clock = Live::healthy().clock.map(change);
        ids(&find(&machine(&[], Live { clock, ..Live::healthy() }).1))
    }

    #[test]
    fn what_stands_at_its_limit_is_told() {
        let rate = |tick, ppm| {
            found(|clock| ClockState { rate: Rate { tick, frequency: Frequency::from_ppm(ppm) }, ..clock })
        };
        assert_eq!(rate(10_000, 500.0), ["frequency-saturated"]);
        assert_eq!(rate(10_000, -500.0), ["frequency-saturated"]);
        assert_eq!(rate(10_007, -24.0), [""; 0]);
        assert_eq!(rate(9_000, 3.0), ["tick-at-limit"]);
        let sliding = Span::from_secs(-10);
        assert_eq!(ids(&find(&machine(&[], Live { sliding, ..Live::healthy() }).1)), ["slew-pending"]);
    }
}
