//! Log lines on standard error: plain for people, with the journal's priorities under systemd. The core is silent; here its events become text.

use std::env;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use driftless_core::disruption::{Interruption, Sign};
use driftless_core::event::{Event, Severity};
use driftless_core::source::SourceId;
use driftless_core::time::Seconds;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::loudness::Loudness;

/// Under which name it is told; `driftless` where nothing else was said.
static NAME: OnceLock<&'static str> = OnceLock::new();
/// dntpd's log level, where its command line started this.
static LOUDNESS: OnceLock<Loudness> = OnceLock::new();
/// The system's log, once nobody looks at standard error any more.
static SYSLOG: OnceLock<UnixDatagram> = OnceLock::new();
/// Where it takes its messages (RFC 3164 in the dialect of syslog(3)).
const SYSLOG_SOCKET: &str = "/dev/log";
/// The facility `daemon`, shifted.
const SYSLOG_DAEMON: u8 = 3 << 3;

/// From now on to the system's log; where there is none, what is said is lost.
pub fn to_syslog() {
    let connect =
        || UnixDatagram::unbound().and_then(|socket| socket.connect(SYSLOG_SOCKET).map(|()| socket));
    if let Ok(socket) = connect() {
        // A second call changes nothing.
        let _ = socket.set_nonblocking(true).map(|()| SYSLOG.set(socket));
    }
}

/// Writes one line a record.
struct Stderr {
    /// systemd reads `<N>` at a line's start as its priority (sd-daemon(3)).
    has_priorities: bool,
}

/// Sends log records to standard error; `is_verbose` includes every sample. A second call changes nothing.
pub fn start(is_verbose: bool) {
    let logger = Stderr { has_priorities: env::var_os("JOURNAL_STREAM").is_some() };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(if is_verbose { LevelFilter::Debug } else { LevelFilter::Info });
    }
}

/// The same under another program's name, and as loudly as dntpd's `-l` says.
pub fn start_as(name: &'static str, loudness: Loudness) {
    // A second call changes nothing.
    let _ = (NAME.set(name), LOUDNESS.set(loudness));
    start(true);
    log::set_max_level(loudness.filter());
}

fn name() -> &'static str {
    NAME.get().copied().unwrap_or("driftless")
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let (priority, word) = match record.level() {
            Level::Error => (3_u8, "error: "),
            Level::Warn => (4, "warning: "),
            Level::Info => (6, ""),
            Level::Debug | Level::Trace => (7, ""),
        };
        if let Some(syslog) = SYSLOG.get() {
            let (facility, process) = (SYSLOG_DAEMON | priority, std::process::id());
            // A log that is full, or gone, does not hold the clock.
            let _ = syslog.send(format!("<{facility}>{}[{process}]: {}", name(), record.args()).as_bytes());
            return;
        }
        let line = if self.has_priorities {
            format!("<{priority}>{}\n", record.args())
        } else {
            format!("{}: {word}{}\n", name(), record.args())
        };
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// One event as a line; `name` tells what a source is called.
pub fn event(event: &Event, name: impl Fn(SourceId) -> String) {
    let level = match event.severity() {
        Severity::Error => Level::Error,
        Severity::Warning => Level::Warn,
        Severity::Notice => Level::Info,
        Severity::Debug => Level::Debug,
    };
    let is_wanted =
        LOUDNESS.get().map_or_else(|| level <= log::max_level(), |loudness| loudness.includes(event));
    if is_wanted {
        // Not by the macro: dntpd's levels are not those of severity.
        let text = text(event, name);
        log::logger().log(&Record::builder().level(level).args(format_args!("{text}")).build());
    }
}

fn text(event: &Event, name: impl Fn(SourceId) -> String) -> String {
    source_text(event, name).unwrap_or_else(|| clock_text(event))
}

fn source_text(event: &Event, name: impl Fn(SourceId) -> String) -> Option<String> {
    Some(match event {
        Event::Resolved { source, addresses } => format!("{}: {addresses} address(es)", name(*source)),
        Event::ResolveFailed { source } => {
            format!("{}: the name leads to no address; asking again in 5 s", name(*source))
        }
        Event::Reachable { source } => format!("{}: answers", name(*source)),
        Event::Unreachable { source } => format!("{}: no answer; asking on", name(*source)),
        Event::Rejected { source, reason } => {
            format!("{}: reply not used: {}", name(*source), rejection(*reason))
        }
        Event::Kissed { source, code } => {
            format!("{}: {}", name(*source), kiss(*code))
        }
        Event::SendFailed { source, errno } => {
            format!("{}: {}", name(*source), std::io::Error::from_raw_os_error(*errno))
        }
        Event::LookFailed { source, error } => format!("{}: {error}", name(*source)),
        Event::Sampled { source, offset, delay } => {
            format!("{}: offset {offset}, delay {delay}", name(*source))
        }
        Event::Jumped { source, by } => format!("{}: jumped by {by} against this guest", name(*source)),
        Event::RateChanged { source, by } => {
            format!("{}: this guest's counter changed its rate by {by}", name(*source))
        }
        Event::PathChanged { source, by } => {
            format!("{}: the way there changed and adds {by} to each offset; no clock did", name(*source))
        }
        Event::EdgeLearnt { source, phase, error } => {
            format!(
                "{}: its second begins {phase} from the true one, give or take {}",
                name(*source),
                unsigned(*error)
            )
        }
        Event::LastResort { source, is_learnt, bound } => {
            let why = if *is_learnt { "was learnt" } else { "is not known" };
            let (name, bound) = (name(*source), unsigned(*bound));
            format!("{name} is all that answers: right to {bound}, as where its second begins {why}")
        }
        Event::EdgeForgotten { source, was_set } => {
            let why = if *was_set { "it was set" } else { "this machine may have another one now" };
            format!("{}: {why}; where its second begins is to be learnt anew", name(*source))
        }
        Event::Selected { source: Some(source) } => format!("following {}", name(*source)),
        Event::Selected { source: None } => "following nobody".to_owned(),
        Event::Falseticker { source } => format!("{}: contradicts the majority, left out", name(*source)),
        _ => return None,
    })
}

/// What a server says by a kiss-o'-death (RFC 5905, figure 13).
pub(crate) fn kiss(code: [u8; 4]) -> String {
    let meaning = match &code {
        b"DENY" | b"RSTR" => "the server does not serve this address; ask another, or have it allowed there",
        b"RATE" => "the server is asked too often by this address",
        b"INIT" => "the server has just started and knows no time yet; ask again in a minute",
        b"STEP" => "the server's clock was stepped and is not right yet; ask again in a minute",
        _ => "the server gives no time now",
    };
    format!("{meaning} (kiss code {})", code.escape_ascii())
}

fn unsigned(seconds: Seconds) -> String {
    seconds.to_string().trim_start_matches('+').to_owned()
}

pub(crate) const fn rejection(reason: driftless_core::event::Rejection) -> &'static str {
    use driftless_core::event::Rejection;
    match reason {
        Rejection::Malformed => "cut short or malformed",
        Rejection::NotOurs => "not an answer to what was asked",
        Rejection::Unsynchronised => "the server says that it is not synchronised, or its stratum cannot be",
        Rejection::Implausible => "its times contradict themselves",
        Rejection::TooDistant => "its root distance is above 1.5 s",
        Rejection::Loop => "it takes its time from us",
    }
}

/// What was noticed, in words.
#[must_use]
pub const fn sign_text(sign: Sign) -> &'static str {
    match sign {
        Sign::Contradiction => "a source contradicts what was believed",
        Sign::WallMoved => "the clock was moved",
        Sign::Slept => "this machine slept",
        Sign::ClockSet => "the clock was set",
        Sign::LateTimer => "our timer fired far too late",
        Sign::RtcMoved => "the RTC moved",
        Sign::Disruption => "vmclock tells of a disruption",
        Sign::NewGeneration => "this machine is a copy, woken from a saved state",
        Sign::Push => "the host says that something happened",
    }
}

fn interruption_text(interruption: &Interruption) -> String {
    let signs: Vec<&str> = interruption.signs.iter().map(|sign| sign_text(*sign)).collect();
    format!(
        "interrupted: the clock is off by {}, the sources moved by {}; noticed by: {}",
        Seconds(interruption.offset),
        Seconds(interruption.jump),
        signs.join(", ")
    )
}

fn clock_text(event: &Event) -> String {
    match event {
        Event::TookOver { rate } => {
            format!("steering the clock; found tick {} and frequency {}", rate.tick, rate.frequency)
        }
        Event::Stepped { by, reason } => format!("clock stepped by {by} ({reason:?})").to_lowercase(),
        Event::StepWithheld { by } => {
            format!("the clock is off by {by}, the step policy forbids to step it: slewing")
        }
        Event::SlideBegun { by } => format!("the clock slides by {by}, at 500 ppm"),
        Event::RateSet { rate } => format!("tick {}, frequency {}", rate.tick, rate.frequency),
        Event::ClockRefused { error } => format!("cannot steer the clock: {error}"),
        Event::OtherWriter { expected, found } => format!(
            "somebody else steers this clock, too: tick {} and {} were set, tick {} and {} found",
            expected.tick, expected.frequency, found.tick, found.frequency
        ),
        Event::OtherStepped { by } => {
            format!("the clock was moved by {by}, not by us")
        }
        Event::Suspected { sign } => {
            format!("{}: looking at the sources before anything else", sign_text(*sign))
        }
        Event::Interrupted(interruption) => interruption_text(interruption),
        Event::Unchanged => "the clock is as it was".to_owned(),
        Event::Leapt { by } => format!("the kernel carried out the leap second: {by}"),
        Event::StateChanged { state } => format!("state: {state:?}").to_lowercase(),
        Event::LeapChanged { leap } => format!("leap second: {leap:?}").to_lowercase(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kiss_is_told_in_words_and_by_its_code() {
        assert!(kiss(*b"INIT").contains("just started") && kiss(*b"INIT").ends_with("(kiss code INIT)"));
        assert!(kiss([1, 0, b'A', b'B']).ends_with("(kiss code \\x01\\x00AB)"));
    }
}
