//! `driftless adjtimex`: the kernel's time parameters in words; and the old tool of that name, with its options, its units and its lines.
//!
//! The name decides where both differ: called as `adjtimex` frequencies are in 2^-16 ppm and what is given is set, as scripts expect; `driftless adjtimex` takes ppm and sets
//! nothing without `--yes`. With `--print` the lines are the old tool's either way.

use std::ffi::OsString;
use std::io;

use clap::ArgAction;
use driftless_core::time::{Frequency, Seconds, Span};
use driftless_daemon::kernel_clock::{self, Change, STA_NANO, STATUS_WORDS, Timex};
use serde_json::{Value, json};

use crate::{Outcome, say};

/// Arguments of `adjtimex`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    infer_long_args = true,
    after_help = "\
Examples:
  driftless adjtimex                                    everything, in words
  driftless adjtimex --tick 9993 --frequency 24 --yes   a counter that runs 676 ppm fast, cancelled
  adjtimex --print                                      the old tool's lines
  adjtimex --tick 9999 --freq 485452                    the old tool's units: 485452 / 65536 = 7.4 ppm, set without being asked

One tick more is 100 ppm; the frequency reaches 500 ppm either way. DRIFTLESS_OBSERVE=1 forbids every change."
)]
pub(crate) struct Args {
    /// Print the values as the old tool does
    #[arg(short, long)]
    print: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    /// Set what is given
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    estimation: Estimation,
    /// Accepted: kernels since 2.0.40 need no reset
    #[arg(short = 'R', long, hide = true)]
    reset: bool,
    /// Accepted: there is no more to say
    #[arg(short = 'V', long, hide = true)]
    verbose: bool,
    /// Print the version
    #[arg(short = 'v', long)]
    version: bool,
    /// Print this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Called by the old tool's name
    #[arg(long, hide = true)]
    by_old_name: bool,
}

/// What may be set.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Settings {
    /// µs a tick
    #[arg(short, long, value_name = "µS")]
    tick: Option<i64>,
    /// ppm; called as `adjtimex`, 2^-16 ppm
    #[arg(short, long, value_name = "PPM", allow_negative_numbers = true)]
    frequency: Option<f64>,
    /// An offset for the kernel's loop, in µs, or ns where the status says so
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    offset: Option<i64>,
    /// Slew by so many µs, as by adjtime(3)
    #[arg(short, long, value_name = "µS", allow_negative_numbers = true)]
    singleshot: Option<i64>,
    /// Status bits, as a sum
    #[arg(short = 'S', long, value_name = "N")]
    status: Option<i32>,
    /// Largest error
    #[arg(short, long, value_name = "µS")]
    maxerror: Option<i64>,
    /// Estimated error
    #[arg(short, long, value_name = "µS")]
    esterror: Option<i64>,
    /// The kernel's loop's time constant
    #[arg(short = 'T', long, value_name = "N")]
    timeconstant: Option<i64>,
}

/// How the old tool estimated a drift: told where that is done now.
#[derive(Debug, clap::Args)]
struct Estimation {
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "8")]
    compare: Option<String>,
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "8")]
    adjust: Option<String>,
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    log: Option<String>,
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    review: Option<String>,
    #[arg(short = 'h', long, hide = true)]
    host: Option<String>,
    #[arg(short, long, hide = true)]
    watch: bool,
    #[arg(short, long, hide = true)]
    interval: Option<f64>,
    #[arg(short, long, hide = true)]
    utc: bool,
    #[arg(short, long, hide = true)]
    directisa: bool,
    #[arg(short, long, hide = true)]
    nointerrupt: bool,
    #[arg(long, hide = true)]
    force_adjust: bool,
}

/// The old tool's long options: it takes them behind one dash, too.
const LONG: [&str; 23] = [
    "print",
    "tick",
    "frequency",
    "offset",
    "singleshot",
    "status",
    "reset",
    "maxerror",
    "esterror",
    "timeconstant",
    "adjust",
    "force-adjust",
    "compare",
    "interval",
    "log",
    "host",
    "watch",
    "review",
    "utc",
    "directisa",
    "nointerrupt",
    "verbose",
    "version",
];
/// 2^-16 ppm a ppm, the kernel's unit of frequency.
const SCALE: f64 = 65_536.0;
const FREQUENCY_MAX_PPM: f64 = 500.0;

/// `-tick 9999` as `--tick 9999`; short options with their values stay.
pub(crate) fn with_two_dashes(arguments: Vec<OsString>) -> Vec<OsString> {
    let doubled = |argument: OsString| {
        let name = argument.to_str().and_then(|text| text.strip_prefix('-')).unwrap_or_default();
        let name = name.split('=').next().unwrap_or_default();
        let is_long = name.len() > 1 && LONG.iter().chain(&["help"]).any(|long| long.starts_with(name));
        if !is_long {
            return argument;
        }
        let mut doubled = OsString::from("-");
        doubled.push(argument);
        doubled
    };
    arguments.into_iter().map(doubled).collect()
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.version {
        say(concat!("adjtimex of driftless ", env!("CARGO_PKG_VERSION")));
        return Outcome::Done;
    }
    if let Some(instead) = args.estimation.instead() {
        return Outcome::Wrong.told(&instead);
    }
    let change = match args.settings.change(args.by_old_name) {
        Ok(change) => change,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    let result = match change {
        None => kernel_clock::read(),
        Some(_) if !(args.yes || args.by_old_name) => {
            return Outcome::Wrong.told(&"nothing is set without --yes");
        }
        Some(change) if !are_possible(&change) => {
            limits().iter().for_each(|line| say(line));
            return Outcome::Wrong.told(&"tick or frequency is out of the kernel's range; nothing is set");
        }
        Some(change) => kernel_clock::set(&change),
    };
    match result {
        Ok(now) => told(args, &now, change.as_ref()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let reason = if kernel_clock::is_observing() { "" } else { "; setting needs CAP_SYS_TIME" };
            Outcome::NotPermitted.told(&format!("{error}{reason}"))
        }
        Err(error) => Outcome::NotYet.told(&error),
    }
}

fn told(args: &Args, now: &Timex, change: Option<&Change>) -> Outcome {
    if args.json {
        say(&report(now).to_string());
    } else if args.print {
        old_lines(now, change).iter().for_each(|line| say(line));
    } else if change.is_none() || !args.by_old_name {
        words(now).iter().for_each(|line| say(line));
    }
    Outcome::Done
}

impl Settings {
    fn change(&self, by_old_name: bool) -> Result<Option<Change>, String> {
        let frequency = self.frequency.map(|given| scaled(given, by_old_name)).transpose()?;
        let change = Change {
            tick: self.tick,
            frequency,
            offset: self.offset,
            singleshot: self.singleshot,
            max_error: self.maxerror,
            est_error: self.esterror,
            status: self.status,
            time_constant: self.timeconstant,
        };
        Ok((change != Change::default()).then_some(change))
    }
}

/// 2^-16 ppm.
#[expect(clippy::cast_possible_truncation, reason = "looked at before")]
fn scaled(given: f64, by_old_name: bool) -> Result<i64, String> {
    let scaled = if by_old_name { given } else { given * SCALE };
    if by_old_name {
        return if scaled.abs() < 1e15 { Ok(scaled as i64) } else { Err(format!("{given} is no frequency")) };
    }
    if scaled.abs() <= FREQUENCY_MAX_PPM * SCALE {
        return Ok(scaled.round() as i64);
    }
    Err(format!(
        "the frequency reaches ±500 ppm, {given} is beyond: the rest is the tick's, 100 ppm each; in the old tool's unit that is {:.3} ppm",
        given / SCALE
    ))
}

impl Estimation {
    /// Where it is done now.
    fn instead(&self) -> Option<&'static str> {
        if self.compare.is_some() || self.adjust.is_some() {
            return Some(
                "clocks are not compared here; `driftless rtc` shows the RTC's offset, `driftless measure` the drift",
            );
        }
        if self.host.is_some() || self.log.is_some() || self.review.is_some() || self.watch {
            return Some(
                "no log of clocks is kept here; `driftless query HOST` asks a server, `driftless measure` finds the drift",
            );
        }
        None
    }
}

fn tick_range() -> std::ops::RangeInclusive<i64> {
    let hz = kernel_clock::user_hz().max(1);
    900_000 / hz..=1_100_000 / hz
}

/// The kernel cuts a frequency to its range without a word, and refuses a tick.
fn are_possible(change: &Change) -> bool {
    change.tick.is_none_or(|tick| tick_range().contains(&tick))
        && change.frequency.is_none_or(|frequency| frequency.abs() <= LIMIT)
}

const LIMIT: i64 = 32_768_000;

/// The ranges as the old tool tells them where a value is refused.
fn limits() -> Vec<String> {
    let hz = kernel_clock::user_hz();
    let range = tick_range();
    vec![
        format!("   USER_HZ = {hz} (nominally {hz} ticks per second)"),
        format!("   {} <= tick <= {}", range.start(), range.end()),
        format!("   -{LIMIT} <= frequency <= {LIMIT}"),
    ]
}

fn modes(change: &Change) -> u32 {
    let bits = [
        (change.offset.is_some(), 0x1),
        (change.frequency.is_some(), 0x2),
        (change.max_error.is_some(), 0x4),
        (change.est_error.is_some(), 0x8),
        (change.status.is_some(), 0x10),
        (change.time_constant.is_some(), 0x20),
        (change.tick.is_some(), 0x4000),
        (change.singleshot.is_some(), 0x8001),
    ];
    bits.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum()
}

fn old_lines(now: &Timex, change: Option<&Change>) -> Vec<String> {
    let (unit, digits) = if now.status & STA_NANO == 0 { ('u', 6) } else { ('n', 9) };
    vec![
        format!("         mode: {}", change.map_or(0, modes)),
        format!("       offset: {}", now.offset),
        format!("    frequency: {}", now.frequency),
        format!("     maxerror: {}", now.max_error),
        format!("     esterror: {}", now.est_error),
        format!("       status: {}", now.status),
        format!("time_constant: {}", now.time_constant),
        format!("    precision: {}", now.precision),
        format!("    tolerance: {}", now.tolerance),
        format!("         tick: {}", now.tick),
        format!("     raw time:  {0}s {1}{unit}s = {0}.{1:0digits$}", now.seconds, now.fraction),
        format!(" return value = {}", now.state),
    ]
}

fn words(now: &Timex) -> Vec<String> {
    let hz = kernel_clock::user_hz();
    let span = |value: i64| Seconds::from(Span::from_nanos(value.saturating_mul(unit_ns(now))));
    let micros =
        |value: i64| Seconds::from(Span::from_micros(value)).to_string().trim_start_matches('+').to_owned();
    let ppm = Frequency::from_scaled_ppm(now.frequency).ppm();
    let ticks_ppm = Frequency::from_scaled_ppm((now.tick * hz - 1_000_000).saturating_mul(65_536)).ppm();
    let line = |name: &str, value: String, about: &str| format!("{name:<14} {value:<22} {about}");
    vec![
        line(
            "tick",
            format!("{} µs", now.tick),
            &format!("{ticks_ppm:+.0} ppm by {hz} ticks a second; the larger half of the rate"),
        ),
        line(
            "frequency",
            format!("{ppm:+.3} ppm"),
            "the finer half; together they say how the clock runs against its counter",
        ),
        line("offset", span(now.offset).to_string(), "what the kernel's own loop still adds"),
        line("status", now.status.to_string(), &status_words(now.status)),
        line("state", now.state.to_string(), state_word(now.state)),
        line(
            "maxerror",
            micros(now.max_error),
            "the clock is off by this at most, as whoever keeps it says; grows 500 µs a second",
        ),
        line("esterror", micros(now.est_error), "and probably by no more than this"),
        line("time constant", now.time_constant.to_string(), "of the kernel's own loop"),
        line("precision", format!("{} µs", now.precision), "not used by today's kernels"),
        line(
            "tolerance",
            format!("{:.0} ppm", Frequency::from_scaled_ppm(now.tolerance).ppm()),
            "the frequency's range",
        ),
        line(
            "TAI - UTC",
            format!("{} s", now.tai),
            if now.tai == 0 { "nobody has told the kernel" } else { "as told" },
        ),
    ]
}

const fn unit_ns(now: &Timex) -> i64 {
    if now.status & STA_NANO == 0 { 1_000 } else { 1 }
}

fn status_words(status: i32) -> String {
    let set: Vec<&str> =
        STATUS_WORDS.iter().filter(|(bit, _)| status & bit != 0).map(|(_, word)| *word).collect();
    if set.is_empty() { "synchronised, in microseconds".to_owned() } else { set.join(", ") }
}

const fn state_word(state: i32) -> &'static str {
    match state {
        0 => "no leap second is near",
        1 => "a second will be inserted at midnight",
        2 => "a second will be deleted at midnight",
        3 => "a leap second is in progress",
        4 => "a leap second has just been",
        _ => "not synchronised",
    }
}

fn report(now: &Timex) -> Value {
    let seconds = |value: i64, unit: i64| Seconds::from(Span::from_nanos(value.saturating_mul(unit))).0;
    let unit = unit_ns(now);
    json!({
        "tick": now.tick,
        "frequency": Frequency::from_scaled_ppm(now.frequency).ppm(),
        "frequency_scaled": now.frequency,
        "offset": seconds(now.offset, unit),
        "status": now.status,
        "status_words": status_words(now.status),
        "state": now.state,
        "synchronised": now.state != 5,
        "max_error": seconds(now.max_error, 1_000),
        "est_error": seconds(now.est_error, 1_000),
        "time_constant": now.time_constant,
        "tolerance": Frequency::from_scaled_ppm(now.tolerance).ppm(),
        "tai": now.tai,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timex {
        Timex {
            offset: -1_500,
            frequency: 1_572_864,
            max_error: 16_000_000,
            est_error: 16_000_000,
            status: 0x2001,
            time_constant: 2,
            precision: 1,
            tolerance: 32_768_000,
            tick: 9_993,
            seconds: 1_795_562_571,
            fraction: 73_065,
            tai: 0,
            state: 5,
        }
    }

    #[test]
    fn n5_the_old_tools_lines_are_printed() {
        let lines = old_lines(&now(), None).join("\n");
        assert!(
            lines.contains("\n    frequency: 1572864\n") && lines.contains("\n         tick: 9993\n"),
            "{lines}"
        );
        assert!(lines.contains("     raw time:  1795562571s 73065ns = 1795562571.000073065"), "{lines}");
        let change = Change { tick: Some(9_999), frequency: Some(1), ..Change::default() };
        assert_eq!(old_lines(&now(), Some(&change))[0], "         mode: 16386");
    }

    #[test]
    fn every_field_is_told_in_words() {
        let text = words(&now()).join("\n");
        for expected in
            ["-700 ppm by", "+24.000 ppm", "-1.5 µs", "phase-locked loop on, nanoseconds", "not synchronised"]
        {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn the_name_decides_the_unit_of_the_frequency() {
        assert_eq!((scaled(24.0, false), scaled(485_452.0, true)), (Ok(1_572_864), Ok(485_452)));
        let error = scaled(485_452.0, false).unwrap_err();
        assert!(error.contains("in the old tool's unit that is 7.407 ppm"), "{error}");
    }

    #[test]
    fn n5_long_options_may_stand_behind_one_dash() {
        let given = ["-tick", "9999", "-freq=-6553600", "-t9999", "-p", "-6553600", "--print", "-V"];
        let doubled = with_two_dashes(given.iter().map(OsString::from).collect());
        assert_eq!(
            doubled,
            ["--tick", "9999", "--freq=-6553600", "-t9999", "-p", "-6553600", "--print", "-V"]
        );
    }

    #[test]
    fn what_the_kernel_would_refuse_or_cut_is_not_asked_for() {
        let possible = |tick, frequency| are_possible(&Change { tick, frequency, ..Change::default() });
        assert!(possible(Some(10_000), Some(-LIMIT)) && possible(None, None));
        assert!(!possible(Some(0), None) && !possible(None, Some(LIMIT + 1)));
    }
}
