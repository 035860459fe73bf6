//! `driftless waitsync`: a gate for what must not start before the clock is right.

use std::io::IsTerminal as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use driftless_core::time::{Seconds, Span};
use driftless_daemon::config::{Config, Flags};
use driftless_daemon::control::{Request, ask};
use driftless_daemon::once;
use serde_json::Value;

use crate::{ControlSocket, Outcome, say};

/// Arguments of `driftless waitsync`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless waitsync --timeout 30 && start-database
  driftless waitsync --max-offset 0.001
  driftless waitsync --once --source ntp:10.0.2.2     without a daemon: is this clock right? sets nothing")]
pub(crate) struct Args {
    #[command(flatten)]
    socket: ControlSocket,
    /// The clock counts as right below this many seconds
    #[arg(long, value_name = "S", default_value_t = 0.01)]
    max_offset: f64,
    /// Give up after this many seconds; 0 waits for ever
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u32,
    /// Ask the sources ourselves, without a daemon
    #[arg(long, requires = "source")]
    once: bool,
    /// Whom to ask with --once
    #[arg(long, value_name = "SPEC")]
    source: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.once {
        return once(args);
    }
    let start = Instant::now();
    let mut told = false;
    loop {
        let answer = ask(&args.socket.control, Request::Status);
        if let Ok(report) = &answer {
            if is_right(report, args.max_offset) {
                say(&line(report));
                return Outcome::Done;
            }
        }
        if args.timeout > 0 && start.elapsed().as_secs() >= u64::from(args.timeout) {
            return match answer {
                Ok(report) => Outcome::NotYet.told(&format!("not synchronised in time: {}", line(&report))),
                Err(error) => Outcome::NotYet.told(&error),
            };
        }
        if !told && start.elapsed().as_secs() >= 2 && std::io::stderr().is_terminal() {
            eprintln!("driftless: waiting until the clock is right within {}", Seconds(args.max_offset));
            told = true;
        }
        sleep(Duration::from_millis(100));
    }
}

fn once(args: &Args) -> Outcome {
    let flags = Flags { sources: args.source.clone(), observe: true, ..Flags::default() };
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    let patience = Span::from_secs(i64::from(if args.timeout == 0 { u32::MAX } else { args.timeout }));
    match once::observe(config, Seconds(args.max_offset), patience) {
        Ok(report) if report["offset"].is_null() => {
            Outcome::NotYet.told(&"no source answered; check `driftless query HOST`")
        }
        Ok(report) => {
            say(&line(&report));
            let offset = report["offset"].as_f64().unwrap_or(f64::INFINITY).abs();
            if offset <= args.max_offset { Outcome::Done } else { Outcome::NotYet }
        }
        Err(error) => Outcome::Wrong.told(&error),
    }
}

fn is_right(report: &Value, max_offset: f64) -> bool {
    let is_synchronised = matches!(report["state"].as_str(), Some("synchronised" | "holdover"));
    is_synchronised && report["offset"].as_f64().is_some_and(|offset| offset.abs() <= max_offset)
}

fn line(report: &Value) -> String {
    let text = |key: &str| {
        report[key].as_f64().map_or_else(|| "unknown".to_owned(), |value| Seconds(value).to_string())
    };
    format!(
        "{}: offset {} ± {}",
        report["state"].as_str().unwrap_or("unknown"),
        text("offset"),
        text("offset_bound").trim_start_matches('+')
    )
}
