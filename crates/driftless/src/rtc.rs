//! `driftless rtc`: the real-time clock, read at the edge of its second, and either clock set from the other.

use std::path::PathBuf;

use driftless_core::time::Seconds;
use driftless_daemon::rtc::{self, RtcError, RtcReport};

use crate::{Outcome, say};

/// Arguments of `driftless rtc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless rtc                     how far the real-time clock is from the system's, to milliseconds
  driftless rtc --set-system        at boot, where nothing better is there yet
  driftless rtc --write             so that the next boot starts right")]
pub(crate) struct Args {
    #[command(flatten)]
    action: Action,
    /// The real-time clock
    #[arg(long, value_name = "PATH", default_value = "/dev/rtc0")]
    device: PathBuf,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

/// What to do; at most one of them.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(multiple = false)]
struct Action {
    /// Compare both clocks and set nothing: the default
    #[arg(long)]
    read: bool,
    /// Set the system's clock from the real-time clock
    #[arg(long)]
    set_system: bool,
    /// Set the real-time clock from the system's
    #[arg(long)]
    write: bool,
}

/// Further off than this after it was set, it has a phase of its own.
const IN_STEP: Seconds = Seconds(0.05);

pub(crate) fn run(args: &Args) -> Outcome {
    let (result, what) = match args.action {
        Action { set_system: true, .. } => {
            (rtc::set_system(&args.device), "the system's clock was set; before that ")
        }
        Action { write: true, .. } => (rtc::write(&args.device), "written; now "),
        Action { .. } => (rtc::read(&args.device), ""),
    };
    match result {
        Ok(report) if args.json => say(&report.json().to_string()),
        Ok(report) => {
            say(&line(&report, what));
            if args.action.write && report.offset.abs() > IN_STEP {
                say(
                    "its second's edge cannot be moved, as in QEMU: within half a second is the best it can do",
                );
            }
        }
        Err(error) => return failed(&error),
    }
    Outcome::Done
}

fn failed(error: &RtcError) -> Outcome {
    if error.is_permission() { Outcome::NotPermitted.told(error) } else { Outcome::NotYet.told(error) }
}

fn line(report: &RtcReport, what: &str) -> String {
    let driver = if report.driver.is_empty() { String::new() } else { format!(" ({})", report.driver) };
    let by = if report.by_interrupt { "an interrupt" } else { "reading again and again" };
    let mut line = format!(
        "{what}{}{driver}, in {}: {} from the system's clock, ± {}, by {by}",
        report.device.display(),
        report.zone_name().to_uppercase(),
        report.offset,
        report.error.to_string().trim_start_matches('+'),
    );
    if let Some(minutes) = report.zone_difference {
        line.push_str(&format!(
            "\nthat is {minutes} minutes, a matter of time zones: say in /etc/adjtime whether it runs in UTC or LOCAL"
        ));
    }
    line
}
