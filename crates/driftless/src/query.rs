//! `driftless query`: ask servers, set nothing.

use std::thread::sleep;
use std::time::Duration;

use driftless_core::time::Span;
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
    let mut answers = Vec::new();
    let mut outcome = Outcome::Done;
    for round in 0..args.count {
        if round > 0 {
            sleep(Duration::try_from_secs_f64(args.interval).unwrap_or(Duration::from_secs(1)));
        }
        for query in &queries {
            match query.ask(patience) {
                Ok(answer) if args.json => answers.push(answer.to_json()),
                Ok(answer) => say(&line(&answer)),
                Err(error) => outcome = Outcome::NotYet.told(&error),
            }
        }
    }
    if args.json {
        say(&Value::Array(answers).to_string());
    }
    outcome
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
