//! Medians over the rounds, ratios within each, and what was promised of them.

use std::fmt;

use anyhow::Result;
use driftless_lab_load::Measured;
use serde_json::{Value, json};

use super::contestant::Contestant;
use super::{CROWD, Load};

/// One load on one server in one round.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) contestant: Contestant,
    pub(super) load: Load,
    pub(super) measured: Measured,
    /// The server's, after it.
    pub(super) resident_kb: u64,
}

/// All of them, in the order of the rounds.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Entry>);

/// One promise of the specification.
struct Promise {
    id: &'static str,
    text: String,
    value: f64,
    limit: f64,
    /// The value must not be below the limit, instead of not above.
    is_floor: bool,
}

/// Specification C4: processor time per reply over the echo's and over chronyd's.
const OVER_ECHO_MAX: f64 = 1.15;
const OVER_CHRONYD_MAX: f64 = 0.8;
/// Specification C5: goodput under four times the load over the best, and memory after a million addresses.
const GOODPUT_MIN: f64 = 0.8;
const RESIDENT_MAX_KB: f64 = 8_000.0;
/// More of the time without its core, and a server was not measured alone.
const WAITED_MAX: f64 = 0.05;

impl Results {
    pub(super) fn add(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// Prints all; true where every promise that could be looked at was kept.
    pub(super) fn tell(&self, as_json: bool) -> Result<bool> {
        let promises = self.promises();
        let are_kept = promises.iter().all(Promise::is_kept);
        if as_json {
            let rows: Vec<Value> =
                self.rows().into_iter().map(|(contestant, load)| self.json(contestant, load)).collect();
            let promises: Vec<Value> = promises.iter().map(Promise::json).collect();
            println!("{}", json!({ "results": rows, "promises": promises, "ok": are_kept }));
            return Ok(are_kept);
        }
        println!(
            "| load | server | µs a reply | × echo | × chronyd | offered/s | goodput/s | lost | median, 99 %, 99.9 % in µs | wrong | waited | resident |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
        for (contestant, load) in self.rows() {
            println!("{}", self.row(contestant, load));
        }
        println!();
        let waited = self.0.iter().map(|entry| entry.measured.waited_s / entry.measured.seconds).collect();
        if median(waited) > WAITED_MAX {
            println!(
                "This machine was busy with something else: none of this is to be relied on, and run it again."
            );
        }
        for promise in &promises {
            println!("{promise}");
        }
        Ok(are_kept)
    }

    /// What was measured, load by load.
    fn rows(&self) -> Vec<(Contestant, Load)> {
        let all = Load::ALL.into_iter().flat_map(|load| Contestant::ALL.map(|contestant| (contestant, load)));
        all.filter(|(contestant, load)| self.of(*contestant, *load).next().is_some()).collect()
    }

    fn of(&self, contestant: Contestant, load: Load) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.contestant == contestant && entry.load == load)
    }

    fn median(&self, contestant: Contestant, load: Load, figure: impl Fn(&Entry) -> f64) -> f64 {
        median(self.of(contestant, load).map(figure).collect())
    }

    fn latency(&self, contestant: Contestant, load: Load) -> [f64; 3] {
        [0, 1, 2].map(|quantile| self.median(contestant, load, |entry| entry.measured.latency_s[quantile]))
    }

    /// Processor time per reply over that of `base` in the same round.
    fn ratio(&self, contestant: Contestant, load: Load, base: Contestant) -> Option<f64> {
        let rounds = self.of(contestant, load).zip(self.of(base, load));
        let ratios: Vec<f64> =
            rounds.map(|(one, other)| one.measured.per_reply_s() / other.measured.per_reply_s()).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// Goodput under `load` over the best that the same round saw without this many addresses.
    fn goodput_kept(&self, contestant: Contestant, load: Load) -> Option<f64> {
        let best = Load::ALL
            .into_iter()
            .filter(|load| *load != Load::Crowd)
            .map(|load| self.of(contestant, load).map(|entry| entry.measured.goodput()).collect::<Vec<_>>());
        let best: Vec<Vec<f64>> = best.collect();
        let kept: Vec<f64> = self
            .of(contestant, load)
            .enumerate()
            .map(|(round, entry)| {
                let best = best.iter().filter_map(|load| load.get(round)).copied().fold(0.0, f64::max);
                entry.measured.goodput() / best
            })
            .collect();
        (!kept.is_empty()).then(|| median(kept))
    }

    fn promises(&self) -> Vec<Promise> {
        let ours = Contestant::Driftless;
        let mut promises = Vec::new();
        for (base, limit) in [(Contestant::Echo, OVER_ECHO_MAX), (Contestant::Chronyd, OVER_CHRONYD_MAX)] {
            if let Some(value) = self.ratio(ours, Load::Closed, base) {
                let text = format!("processor time per reply over {}'s", base.name());
                promises.push(Promise { id: "C4", text, value, limit, is_floor: false });
            }
        }
        if let Some(value) = self.goodput_kept(ours, Load::Fourfold) {
            let text = "goodput at four times the load over the best".to_owned();
            promises.push(Promise { id: "C5", text, value, limit: GOODPUT_MIN, is_floor: true });
        }
        if self.of(ours, Load::Crowd).next().is_some() {
            let value = self.median(ours, Load::Crowd, |entry| to_f64(entry.resident_kb));
            let text = format!("kB resident after {CROWD} addresses");
            promises.push(Promise { id: "C5", text, value, limit: RESIDENT_MAX_KB, is_floor: false });
        }
        let wrong =
            self.0.iter().filter(|entry| entry.contestant == ours).map(|entry| entry.measured.wrong).sum();
        promises.push(Promise {
            id: "C5",
            text: "wrong replies".to_owned(),
            value: to_f64(wrong),
            limit: 0.0,
            is_floor: false,
        });
        promises
    }

    fn json(&self, contestant: Contestant, load: Load) -> Value {
        let median = |figure: fn(&Entry) -> f64| self.median(contestant, load, figure);
        json!({
            "server": contestant.name(),
            "load": load.name(),
            "processor_per_reply": median(|e| e.measured.per_reply_s()),
            "over_echo": self.ratio(contestant, load, Contestant::Echo),
            "over_chronyd": self.ratio(contestant, load, Contestant::Chronyd),
            "offered": median(|e| e.measured.offered()),
            "goodput": median(|e| e.measured.goodput()),
            "goodput_kept": self.goodput_kept(contestant, load),
            "lost": median(|e| e.measured.lost()),
            "latency": self.latency(contestant, load),
            "wrong": self.of(contestant, load).map(|e| e.measured.wrong).sum::<u64>(),
            "stray": self.of(contestant, load).map(|e| e.measured.stray).sum::<u64>(),
            "waited": median(|e| e.measured.waited_s / e.measured.seconds),
            "resident": median(|e| to_f64(e.resident_kb) * 1e3),
            "rounds": self.of(contestant, load).map(|e| json!(e.measured)).collect::<Vec<_>>(),
        })
    }

    fn row(&self, contestant: Contestant, load: Load) -> String {
        let median = |figure: fn(&Entry) -> f64| self.median(contestant, load, figure);
        let ratio = |base| match self.ratio(contestant, load, base) {
            Some(ratio) if base != contestant => format!("{ratio:.2}"),
            _ => "-".to_owned(),
        };
        let latency = self.latency(contestant, load).map(|seconds| format!("{:.0}", seconds * 1e6));
        let cells = [
            load.name().to_owned(),
            contestant.name().to_owned(),
            format!("{:.2}", median(|entry| entry.measured.per_reply_s() * 1e6)),
            ratio(Contestant::Echo),
            ratio(Contestant::Chronyd),
            format!("{:.0}", median(|entry| entry.measured.offered())),
            format!("{:.0}", median(|entry| entry.measured.goodput())),
            format!("{:.2} %", median(|entry| entry.measured.lost() * 100.0)),
            latency.join(", "),
            self.of(contestant, load).map(|entry| entry.measured.wrong).sum::<u64>().to_string(),
            format!("{:.1} %", median(|entry| entry.measured.waited_s / entry.measured.seconds * 100.0)),
            format!("{:.1} MB", median(|entry| to_f64(entry.resident_kb) / 1e3)),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

impl Promise {
    fn is_kept(&self) -> bool {
        if self.is_floor { self.value >= self.limit } else { self.value <= self.limit }
    }

    fn json(&self) -> Value {
        let Self { id, text, value, limit, is_floor } = self;
        json!({ "id": id, "what": text, "value": value, "limit": limit, "is_floor": is_floor, "ok": self.is_kept() })
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_kept() { "kept" } else { "NOT KEPT" };
        let side = if self.is_floor { "at least" } else { "at most" };
        // Ratios with two places, counts with none.
        let places = if self.limit < 10.0 && self.limit > 0.0 { 2 } else { 0 };
        let Self { id, text, value, limit, .. } = self;
        write!(f, "{id}: {text}: {value:.places$} ({side} {limit:.places$}): {word}")
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "a count of packets or kB is far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(contestant: Contestant, load: Load, per_reply_us: f64, goodput: u64) -> Entry {
        let measured = Measured {
            seconds: 1.0,
            asked: goodput,
            replies: goodput,
            wrong: 0,
            stray: 0,
            in_time: goodput,
            waited_s: 0.0,
            processor_s: per_reply_us * 1e-6 * to_f64(goodput),
            latency_s: [1e-6; 3],
        };
        Entry { contestant, load, measured, resident_kb: 2_000 }
    }

    fn results(ours_us: f64, fourfold: u64) -> Results {
        let mut results = Results::default();
        // The machine is twice as slow in the second round and three times in the third: no matter within a round.
        for slow in [1.0, 2.0, 3.0] {
            results.add(entry(Contestant::Echo, Load::Closed, 3.0 * slow, 100));
            results.add(entry(Contestant::Driftless, Load::Closed, ours_us * slow, 100));
            results.add(entry(Contestant::Driftless, Load::Fourfold, ours_us * slow, fourfold));
        }
        results
    }

    fn kept(of: &Results) -> Vec<bool> {
        of.promises().iter().map(Promise::is_kept).collect()
    }

    #[test]
    fn a_promise_is_held_against_the_ratio_within_each_round() {
        let good = results(3.3, 90);
        assert!(
            (good.ratio(Contestant::Driftless, Load::Closed, Contestant::Echo).unwrap() - 1.1).abs() < 1e-9
        );
        assert_eq!(kept(&good), [true, true, true]);
        assert_eq!(kept(&results(3.6, 90)), [false, true, true]);
        assert_eq!(kept(&results(3.3, 70)), [true, false, true]);
    }

    #[test]
    fn a_wrong_reply_breaks_a_promise() {
        let mut bad = results(3.3, 90);
        bad.0[1].measured.wrong = 1;
        assert_eq!(kept(&bad), [true, true, false]);
    }

    #[test]
    fn what_was_not_measured_is_not_told() {
        assert!(results(3.3, 90).ratio(Contestant::Driftless, Load::Closed, Contestant::Chronyd).is_none());
        assert_eq!(results(3.3, 90).rows().len(), 3);
    }
}
