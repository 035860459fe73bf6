//! `sntpc`: asks one server and sets the clock to what it says, again and again: the simple client of a LinuxKit image.
//!
//! It is what driftless takes the place of: its steps go backwards where the clock runs fast (`driftless monotonic` shows them).

use std::thread::sleep;
use std::time::Duration;

use driftless_core::clock::ClockError;
use driftless_core::time::Span;
use driftless_daemon::civil;
use driftless_daemon::kernel_clock;
use driftless_daemon::query::{Answer, Query};

use crate::{Outcome, say};

/// Arguments of `sntpc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sntpc -i 5 -n gateway.docker.internal     print the offset every 5 s, set nothing
  sntpc -v -i 30 10.0.2.2                   set the clock every 30 s, and say so
  sntpc -i 30 --forward-only 10.0.2.2       the same, never backwards
  sntpc 10.0.2.2                            set it once

Offsets are server - local: + means that this clock is behind. `driftless run` keeps a clock right without any step.")]
pub(crate) struct Args {
    /// Ask every so many seconds; without it, once
    #[arg(short, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    interval: Option<u32>,
    /// Set nothing, only print the offset
    #[arg(short = 'n')]
    no_set: bool,
    /// Say what is done
    #[arg(short)]
    verbose: bool,
    /// Leave a clock that is ahead as it is
    #[arg(long)]
    forward_only: bool,
    /// Whom to ask: `HOST`, `HOST:PORT`, or a SPEC as in `ntp+vsock:host`
    host: String,
}

/// How long an answer may take.
const PATIENCE: Span = Span::from_secs(5);

pub(crate) fn run(args: &Args) -> Outcome {
    let query = match Query::new(&args.host) {
        Ok(query) => query,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    loop {
        let outcome = match query.ask(PATIENCE) {
            Ok(answer) => answered(args, &answer),
            Err(error) => Outcome::NotYet.told(&error),
        };
        match args.interval {
            // Without the right to set it there is nothing to come back for.
            Some(seconds) if outcome != Outcome::NotPermitted => {
                sleep(Duration::from_secs(u64::from(seconds)));
            }
            _ => return outcome,
        }
    }
}

fn answered(args: &Args, answer: &Answer) -> Outcome {
    let by = answer.sample.offset.to_span();
    let is_kept = args.no_set || (args.forward_only && by <= Span::ZERO);
    if !is_kept {
        if let Err(error) = kernel_clock::step(by) {
            return refused(error);
        }
    }
    if args.no_set || args.verbose {
        say(&line(answer, !is_kept));
    }
    Outcome::Done
}

fn refused(error: ClockError) -> Outcome {
    match error {
        ClockError::Permission if kernel_clock::is_observing() => {
            Outcome::NotPermitted.told(&"DRIFTLESS_OBSERVE=1: nothing is set; -n only prints the offset")
        }
        ClockError::Permission => Outcome::NotPermitted
            .told(&"the clock may not be set; run as root or with CAP_SYS_TIME, or print the offset with -n"),
        error => Outcome::NotYet.told(&error),
    }
}

fn line(answer: &Answer, is_set: bool) -> String {
    format!(
        "{} {}: offset {:+.6} s, delay {:.6} s{}",
        civil::rfc3339(answer.time),
        answer.host,
        answer.sample.offset.0,
        answer.sample.delay.0,
        if is_set { ", clock set" } else { "" }
    )
}
