//! `driftless query`: ask servers, set nothing.

use std::thread::{self, sleep};
use std::time::Duration;

use driftless_core::time::{Seconds, Span};
use driftless_daemon::query::{Answer, Query, QueryError};
use serde_json::Value;

use crate::{Outcome, say};

/// Arguments of `driftless query`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless query 10.0.2.2:11123
  driftless query server.example [fd00::1]:123 -i 5 -n 10
  driftless query ntp+vsock:host                      the virtual machine's host, without a network

All servers are asked at once; after several rounds each one's statistics follow. \"kernel\" timestamps: the kernel itself noted the arrival.
Offsets are server - local: + means that this clock is behind. Exit status 1 when a server gave no time.")]
pub(crate) struct Args {
    /// `HOST`, `HOST:PORT`, `[V6]:PORT`, or a SPEC as in `ntp+vsock:host:123` or `ntp+unix:PATH`
    #[arg(required = true)]
    hosts: Vec<String>,
    /// Seconds between two rounds
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0)]
    interval: f64,
    /// Rounds
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1)]
    count: u32,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    timeout: u16,
    /// All answers as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let queries: Result<Vec<Query>, QueryError> = args.hosts.iter().map(|host| Query::new(host)).collect();
    let queries = match queries {
        Ok(queries) => queries,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    let patience = Span::from_secs(args.timeout.into());
    let mut told: Vec<Told> = queries.iter().map(|_| Told::default()).collect();
    let mut answers = Vec::new();
    let mut outcome = Outcome::Done;
    for round in 0..args.count {
        if round > 0 {
            sleep(Duration::try_from_secs_f64(args.interval).unwrap_or(Duration::from_secs(1)));
        }
        for (result, told) in all_at_once(&queries, patience).into_iter().zip(&mut told) {
            told.asked += 1;
            match result {
                Ok(answer) => {
                    told.offsets.push(answer.sample.offset.0);
                    told.delays.push(answer.sample.delay.0);
                    if args.json { answers.push(answer.to_json()) } else { say(&line(&answer)) }
                }
                Err(error) => outcome = Outcome::NotYet.told(&error),
            }
        }
    }
    if args.json {
        say(&Value::Array(answers).to_string());
    } else if args.count > 1 {
        queries.iter().zip(&mut told).for_each(|(query, told)| say(&told.line(query.name())));
    }
    outcome
}

/// Each server on a thread of its own, so that a silent one delays nobody; the answers in the servers' order.
fn all_at_once(queries: &[Query], patience: Span) -> Vec<Result<Answer, QueryError>> {
    thread::scope(|scope| {
        let asked: Vec<_> = queries.iter().map(|query| scope.spawn(move || query.ask(patience))).collect();
        let joined = asked.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// What one server has told in all rounds.
#[derive(Debug, Default)]
struct Told {
    asked: usize,
    offsets: Vec<f64>,
    delays: Vec<f64>,
}

impl Told {
    /// The statistics. With the quickest answer goes the offset that is known best: half of its delay bounds it.
    fn line(&mut self, name: &str) -> String {
        let answered = format!("{name}: {} of {} answered", self.offsets.len(), self.asked);
        let quickest = self.delays.iter().zip(&self.offsets).min_by(|a, b| a.0.total_cmp(b.0));
        let Some((&delay, &offset)) = quickest else { return answered };
        self.offsets.sort_by(f64::total_cmp);
        self.delays.sort_by(f64::total_cmp);
        let middle = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
        let plain = |seconds: f64| Seconds(seconds).to_string().trim_start_matches('+').to_owned();
        let (least, most) = (self.offsets.first(), self.offsets.last());
        let ends = least.zip(most).map(|(least, most)| format!("{} to {}", Seconds(*least), Seconds(*most)));
        format!(
            "{answered}; offset median {}, {}; delay median {}, least {} with offset {} ± {}",
            Seconds(middle(&self.offsets)),
            ends.unwrap_or_default(),
            plain(middle(&self.delays)),
            plain(delay),
            Seconds(offset),
            plain(delay / 2.0)
        )
    }
}

fn line(answer: &Answer) -> String {
    let (sample, seen) = (&answer.sample, &answer.seen);
    let plain = |text: String| text.trim_start_matches('+').to_owned();
    format!(
        "{} ({}): offset {}, delay {}, root distance {}, stratum {}, leap {}, {} timestamps",
        answer.host,
        answer.address,
        sample.offset,
        plain(sample.delay.to_string()),
        plain(sample.root_distance().to_string()),
        seen.stratum,
        format!("{:?}", sample.leap).to_lowercase(),
        if seen.kernel_stamp { "kernel" } else { "user" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_tell_the_middle_the_ends_and_the_quickest() {
        let mut told = Told { asked: 4, offsets: vec![3e-3, 1e-3, 2e-3], delays: vec![9e-3, 4e-3, 5e-3] };
        let line = told.line("a");
        for expected in [
            "3 of 4 answered",
            "median +2.000 ms",
            "+1.000 ms to +3.000 ms",
            "least 4.000 ms with offset +1.000 ms ± 2.000 ms",
        ] {
            assert!(line.contains(expected), "{expected}: {line}");
        }
        assert_eq!(Told { asked: 2, ..Told::default() }.line("b"), "b: 0 of 2 answered");
    }
}
