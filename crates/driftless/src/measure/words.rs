//! What was found, in words and in JSON.

use std::fmt::Write as _;

use driftless_core::clock::Rate;
use driftless_core::drift::allan::Deviation;
use driftless_core::drift::{Break, Cause, Drift, Wander};
use driftless_core::time::{RawTime, Seconds};
use serde_json::{Value, json};

/// One source's findings.
pub(super) struct Finding<'a> {
    pub(super) source: &'a str,
    pub(super) drift: Drift,
    pub(super) deviations: Vec<Deviation>,
    /// Looks without an answer.
    pub(super) lost: u64,
    /// The first look on the counter.
    pub(super) began: RawTime,
    /// How many sources were measured, and how many of them saw a jump at the time of each break of this one.
    pub(super) sources: usize,
    pub(super) shared: Vec<usize>,
    /// Who is known to steer and runs here.
    pub(super) steerers: &'a [String],
}

/// What frequency alone can cancel.
const CLAMP_PPM: f64 = 500.0;
/// A bound of the wander above this says nothing, s/s/√s.
const SHORT: f64 = 5e-7;
const SECONDS_PER_DAY: f64 = 86_400.0;

impl Finding<'_> {
    /// Lines of at most some hundred characters.
    pub(super) fn lines(&self) -> Vec<String> {
        let drift = &self.drift;
        let lost = if self.lost > 0 { format!(", {} without an answer", self.lost) } else { String::new() };
        let strange =
            if drift.outliers > 0 { format!(", {} that fit nothing", drift.outliers) } else { String::new() };
        let mut lines =
            vec![format!("{}: {} looks in {:.0} s{lost}{strange}", self.source, drift.looks, drift.length.0)];
        let mut say = |name: &str, text: &str| lines.push(format!("  {name:<14} {text}"));
        say("natural drift", &self.natural());
        if drift.drift.ppm().abs() > CLAMP_PPM {
            let left = drift.drift.ppm().abs() - CLAMP_PPM;
            say(
                "",
                &format!(
                    "beyond the +-500 ppm of the kernel's frequency: a client that leaves the tick alone loses {left:.1} ppm"
                ),
            );
        }
        say("wander", &self.wander());
        if drift.breaks.is_empty() {
            say("jumps", "none");
        }
        for (one, shared) in drift.breaks.iter().zip(&self.shared) {
            say("jump", &self.broken(one, *shared));
        }
        for text in self.steering() {
            say("wall clock", &text);
        }
        say("way", &self.way());
        let Rate { tick, frequency } = drift.cancelled_by();
        say("to cancel it", &format!("tick {tick}, frequency {:+.3} ppm", frequency.ppm()));
        lines
    }

    fn natural(&self) -> String {
        let (drift, error) = (self.drift.drift.ppm(), self.drift.error.ppm());
        let decimals = decimals(error);
        if drift.abs() < error {
            return format!(
                "{drift:+.decimals$} ± {error:.decimals$} ppm: none that could be told from nothing"
            );
        }
        let way = if drift < 0.0 { "slow" } else { "fast" };
        let of = |seconds: f64| {
            Seconds(drift.abs() * 1e-6 * seconds).to_string().trim_start_matches('+').to_owned()
        };
        format!(
            "{drift:+.decimals$} ± {error:.decimals$} ppm: the counter runs {way}, {} an hour, {} a day",
            of(SECONDS_PER_DAY / 24.0),
            of(SECONDS_PER_DAY)
        )
    }

    fn wander(&self) -> String {
        let mut text = match self.drift.wander {
            Wander::Seen(wander) => {
                format!("about {} ppb after a second, as its square root with time", round(wander * 1e9))
            }
            Wander::Below(wander) if wander > SHORT => "not to be seen in so short a time".to_owned(),
            Wander::Below(wander) => format!(
                "less than {} ppb after a second, the way's noise hides the rest",
                round(wander * 1e9)
            ),
        };
        if let Some(longest) = self.deviations.last() {
            let _ = write!(
                text,
                "; Allan deviation {} ppb at {:.0} s",
                round(longest.deviation * 1e9),
                longest.tau_s
            );
        }
        text
    }

    fn broken(&self, one: &Break, shared: usize) -> String {
        let at_s = Seconds::from(one.at - self.began).0;
        let who = match (self.sources, shared) {
            (1, _) => "",
            (all, seen) if seen == all => "; every source saw it: this machine's clock did it",
            (_, 1) => "; no other source saw it: this source did it",
            _ => "; some sources saw it",
        };
        match one.cause {
            Cause::Jump(by) if by.0 > 0.0 => format!(
                "{by} after {at_s:.0} s: this machine stood still (paused, suspended, restored), or the source was set forwards{who}"
            ),
            Cause::Jump(by) => format!(
                "{by} after {at_s:.0} s: the source was set back, or the counter jumped ahead (an older state was restored){who}"
            ),
            Cause::RateChange(by) => format!(
                "{by} of drift after {at_s:.0} s: moved to another host, or the host's own clock is being corrected{who}"
            ),
            Cause::Route(by) => {
                format!("none, but after {at_s:.0} s the way changed: offsets read {by} differently")
            }
        }
    }

    fn steering(&self) -> Vec<String> {
        let steering = &self.drift.steering;
        let rate = steering.rate.ppm();
        let left = self.drift.drift.ppm() + rate;
        let mut lines = Vec::new();
        if steering.is_at_work() {
            let who = if self.steerers.is_empty() { "somebody".to_owned() } else { self.steerers.join(", ") };
            lines.push(format!("steered meanwhile, by {who}: {rate:+.3} ppm over the counter on average; with the drift that makes {left:+.3} ppm"));
            lines.push(format!(
                "tick {} to {}, frequency {:+.3} to {:+.3} ppm, {} changes, {} steps",
                steering.tick.0,
                steering.tick.1,
                steering.frequency.0.ppm(),
                steering.frequency.1.ppm(),
                steering.changes,
                steering.steps.len()
            ));
        } else if rate.abs() > 0.1 {
            lines.push(format!("made to run {rate:+.3} ppm over the counter, and left so: with the drift that makes {left:+.3} ppm"));
        } else {
            lines.push("runs as the counter does: nobody steers it".to_owned());
        }
        if steering.is_clamped() {
            lines.push("the kernel's frequency stood at its limit of +-500 ppm: whoever steers cannot reach what is needed without the tick".to_owned());
        }
        for step in &steering.steps {
            lines.push(format!(
                "stepped by {} after {:.0} s",
                step.by,
                Seconds::from(step.at - self.began).0
            ));
        }
        lines
    }

    fn way(&self) -> String {
        let path = &self.drift.path;
        let plain = |seconds: Seconds| seconds.to_string().trim_start_matches('+').to_owned();
        let side = match path.lopsided {
            Some(side) if side > 0.5 => ", nearly all of it on the way there",
            Some(side) if side < -0.5 => ", nearly all of it on the way back",
            Some(_) => ", on both ways alike",
            None => "",
        };
        format!(
            "round trip at least {}, queues add {} each way{side}; an unseen difference of the ways may hide {} of offset, nothing of the drift",
            plain(path.floor),
            plain(path.excess),
            plain(Seconds(path.floor.0 / 2.0))
        )
    }

    /// The same for machines: seconds and ppm; drift positive where the counter runs fast.
    pub(super) fn to_json(&self) -> Value {
        let drift = &self.drift;
        let Rate { tick, frequency } = drift.cancelled_by();
        let (seen, below) = match drift.wander {
            Wander::Seen(wander) => (json!(wander * 1e9), Value::Null),
            Wander::Below(wander) => (Value::Null, json!(wander * 1e9)),
        };
        let after = |at: RawTime| Seconds::from(at - self.began).0;
        let breaks = drift.breaks.iter().map(|one| {
            let (kind, size) = match one.cause {
                Cause::Jump(by) => ("jump", by.0),
                Cause::RateChange(by) => ("rate_ppm", by.ppm()),
                Cause::Route(by) => ("route", by.0),
            };
            json!({"kind": kind, "size": size, "after": after(one.at)})
        });
        let steering = &drift.steering;
        let steps = steering.steps.iter().map(|step| json!({"by": step.by.0, "after": after(step.at)}));
        let deviations = self
            .deviations
            .iter()
            .map(|d| json!({"tau": d.tau_s, "deviation": d.deviation, "pairs": d.pairs}));
        json!({
            "source": self.source,
            "drift_ppm": drift.drift.ppm(),
            "error_ppm": drift.error.ppm(),
            "wander_ppb": seen,
            "wander_below_ppb": below,
            "allan": Value::from_iter(deviations),
            "length": drift.length.0,
            "looks": drift.looks,
            "outliers": drift.outliers,
            "lost": self.lost,
            "breaks": Value::from_iter(breaks),
            "delay_floor": drift.path.floor.0,
            "delay_excess": drift.path.excess.0,
            "lopsided": drift.path.lopsided,
            "steered": steering.is_at_work(),
            "clamped": steering.is_clamped(),
            "wall_rate_ppm": steering.rate.ppm(),
            "steps": Value::from_iter(steps),
            "cancel": {"tick": tick, "frequency_ppm": frequency.ppm()},
        })
    }
}

/// Digits after the point that an error is worth.
pub(super) fn decimals(error: f64) -> usize {
    [(1.0, 1), (0.1, 2), (0.01, 3), (0.001, 4)]
        .into_iter()
        .find(|(at_least, _)| error >= *at_least)
        .map_or(5, |(_, digits)| digits)
}

/// Two digits.
fn round(value: f64) -> String {
    if value >= 10.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
