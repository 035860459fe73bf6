//! `driftless monotonic`: does the wall clock ever go backwards?

use driftless_core::time::{Seconds, Span};
use driftless_daemon::monotonic::{BackwardStep, Findings, watch};
use serde_json::{Value, json};

use crate::{Outcome, say};

/// Arguments of `driftless monotonic`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless monotonic                             half a minute on every processor
  driftless monotonic --duration 10m --threads 2
  driftless monotonic --json | jq .first

It reads as fast as it can, and so keeps its processors busy. Exit status 1 when the clock went backwards.")]
pub(crate) struct Args {
    /// How long, as in 30s, 10m, 2h
    #[arg(long, value_name = "T", default_value = "30s", value_parser = length)]
    duration: Span,
    /// So many threads, each on a processor of its own [default: one for each]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.unwrap_or(available).max(1);
    let found = watch(args.duration, threads);
    if args.json {
        say(&report(&found, args.duration, threads).to_string());
    } else {
        words(&found, threads).iter().for_each(|line| say(line));
    }
    if found.backward == 0 { Outcome::Done } else { Outcome::NotYet }
}

/// `30`, `30s`, `10m` or `2h`.
fn length(text: &str) -> Result<Span, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        _ => (text, 1),
    };
    let seconds = number.parse::<u32>().ok().filter(|number| *number > 0);
    let seconds = seconds.ok_or_else(|| format!("`{text}` is no length; write 30s, 10m or 2h"))?;
    Ok(Span::from_secs(i64::from(seconds) * unit))
}

fn words(found: &Findings, threads: usize) -> Vec<String> {
    let plain = |span: Span| Seconds::from(span).to_string().trim_start_matches('+').to_owned();
    let mut lines = vec![format!(
        "{} readings by {threads} thread(s), the longest time between two of one thread {}",
        found.readings,
        plain(found.longest_gap)
    )];
    match &found.first {
        None => lines.push("never backwards".to_owned()),
        Some(step) => {
            let BackwardStep { before: (before, one), after: (after, other) } = step;
            lines.push(format!("BACKWARDS {} time(s), at most by {}", found.backward, plain(found.largest)));
            lines.push(format!(
                "the first: thread {one} had read {before} ns when thread {other} read {after} ns, {} earlier",
                plain(step.by())
            ));
        }
    }
    if found.forward > 0 {
        lines.push(format!("set forwards {} time(s)", found.forward));
    }
    lines
}

fn report(found: &Findings, length: Span, threads: usize) -> Value {
    let seconds = |span: Span| Seconds::from(span).0;
    let first = found.first.map(|step| {
        json!({
            "before_ns": step.before.0, "before_thread": step.before.1,
            "after_ns": step.after.0, "after_thread": step.after.1,
            "by": seconds(step.by()),
        })
    });
    json!({
        "duration": seconds(length),
        "threads": threads,
        "readings": found.readings,
        "backward_steps": found.backward,
        "largest": seconds(found.largest),
        "first": first,
        "forward_steps": found.forward,
        "longest_gap": seconds(found.longest_gap),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read() {
        for (text, seconds) in [("30s", 30), ("30", 30), ("10m", 600), ("2h", 7_200)] {
            assert_eq!(length(text), Ok(Span::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "-1s", "1d", "s", "1.5s"] {
            assert!(length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_backward_step_is_told_with_both_readings() {
        let step = BackwardStep { before: (1_500, 0), after: (1_499, 1) };
        let found = Findings {
            backward: 2,
            first: Some(step),
            largest: Span::from_millis(20),
            ..Findings::default()
        };
        let text = words(&found, 2).join("\n");
        assert!(text.contains("BACKWARDS 2 time(s), at most by 20.000 ms"), "{text}");
        assert!(text.contains("thread 0 had read 1500 ns when thread 1 read 1499 ns, 1"), "{text}");
    }
}
