//! `driftless status`: one screen in words.

use std::io::{IsTerminal as _, Write as _};
use std::thread::sleep;
use std::time::Duration;

use driftless_core::disruption::Sign;
use driftless_core::time::Seconds;
use driftless_daemon::control::{Request, ask};
use driftless_daemon::log;
use serde_json::Value;

use crate::{ControlSocket, Outcome, say};

/// Arguments of `driftless status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless status
  driftless status --watch
  driftless status --json | jq .offset

Offsets are reference - local: + means that this clock is behind. Exit status 1 while the clock is not synchronised.")]
pub(crate) struct Args {
    #[command(flatten)]
    socket: ControlSocket,
    /// Everything as one line of JSON: seconds, ppm, RFC 3339
    #[arg(long)]
    json: bool,
    /// Again each second, until interrupted
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    loop {
        let report = match ask(&args.socket.control, Request::Status) {
            Ok(report) => report,
            Err(error) => return Outcome::NotYet.told(&error),
        };
        let text = if args.json { report.to_string() } else { screen(&report) };
        if args.watch && std::io::stdout().is_terminal() && !args.json {
            // Home, print, erase what is left of the last picture.
            println!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
            let _ = std::io::stdout().flush();
        } else {
            say(&text);
        }
        if !args.watch {
            let is_right = matches!(report["state"].as_str(), Some("synchronised" | "holdover"));
            return if is_right { Outcome::Done } else { Outcome::NotYet };
        }
        sleep(Duration::from_secs(1));
    }
}

fn screen(report: &Value) -> String {
    let seconds = |key: &str| report[key].as_f64().map(|value| Seconds(value).to_string());
    let unsigned = |key: &str| seconds(key).map(|text| text.trim_start_matches('+').to_owned());
    let mut lines = vec![headline(report)];
    let mut line = |label: &str, text: Option<String>| {
        lines.push(format!("{label:<12} {}", text.unwrap_or_else(|| "not known yet".to_owned())));
    };
    line("source", report["source"].as_str().map(|name| format!("{name}, stratum {}", report["stratum"])));
    line("offset", seconds("offset").zip(unsigned("offset_bound")).map(|(o, b)| format!("{o} ± {b}")));
    let frequency = report["frequency"].as_f64().zip(report["frequency_error"].as_f64());
    line("frequency", frequency.map(|(f, e)| format!("{f:+.3} ± {e:.3} ppm")));
    let kernel = report["tick"].as_i64().zip(report["kernel_frequency"].as_f64());
    line("kernel", kernel.map(|(tick, f)| format!("tick {tick} µs, frequency {f:+.3} ppm")));
    line("last sample", report["last_update"].as_str().map(str::to_owned));
    line("steps", Some(format!("{}, interruptions {}", report["steps"], report["interruptions"])));
    if let Some(last) = interruption(&report["last_interruption"]) {
        line("interrupted", Some(last));
    }
    let writers: Vec<&str> =
        report["other_writers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !writers.is_empty() {
        line("others", Some(format!("{} may steer this clock, too", writers.join(", "))));
    }
    for found in report["found"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        line("found", Some(found.trim_start_matches("found ").to_owned()));
    }
    for source in report["sources"].as_array().into_iter().flatten() {
        lines.push(source_line(source));
    }
    lines.join("\n")
}

fn headline(report: &Value) -> String {
    let text = match report["state"].as_str().unwrap_or("unknown") {
        "synchronised" => "The clock is right.",
        "acquiring" => "The clock is being put right.",
        "holdover" => "The sources are silent; the learnt frequency is kept.",
        "interrupted" => "This guest was interrupted; looking again.",
        "contested" => "Somebody else steers this clock, too.",
        _ => "Not synchronised: no source has given usable time yet.",
    };
    let observing = if report["observe"] == true { " (observing, nothing is set)" } else { "" };
    format!("{text}{observing}")
}

/// The last interruption in words.
fn interruption(last: &Value) -> Option<String> {
    let number = |key: &str| last[key].as_f64().map(Seconds);
    let signs: Vec<&str> = last["signs"].as_array()?.iter().filter_map(Value::as_str).map(sign).collect();
    Some(format!(
        "{}: the sources moved by {}, the clock was off by {}; settled in {}; noticed by: {}",
        last["time"].as_str()?,
        number("jump")?,
        number("offset")?,
        number("settled_after")?.to_string().trim_start_matches('+'),
        signs.join(", ")
    ))
}

/// A sign by its name in reports.
fn sign(name: &str) -> &str {
    serde_json::from_value::<Sign>(name.into()).map_or(name, |known| log::sign_text(known))
}

fn source_line(source: &Value) -> String {
    let delay = source["delay"].as_f64().map_or_else(|| "-".to_owned(), |delay| Seconds(delay).to_string());
    let edge = edge(source).map(|text| format!(", {text}")).unwrap_or_default();
    format!(
        "  {:<30} {:<14} reach {:08b}, poll 2^{} s, delay {}, {} of {} answered{edge}",
        source["name"].as_str().unwrap_or("?"),
        source["state"].as_str().unwrap_or("?"),
        source["reach"].as_u64().unwrap_or(0),
        source["poll"],
        delay.trim_start_matches('+'),
        source["received"],
        source["sent"]
    )
}

/// How well a real-time clock is known.
fn edge(source: &Value) -> Option<String> {
    let number = |key: &str| source[key].as_f64().map(Seconds);
    Some(match (source["edge"].as_str()?, number("phase"), number("phase_error")) {
        ("learnt", Some(phase), Some(error)) => {
            format!(
                "its second begins {phase} from the true one ± {}",
                error.to_string().trim_start_matches('+')
            )
        }
        _ => "where its second begins is not learnt: right to a second".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_interruption_and_others_at_work_are_told_in_words() {
        let report = json!({
            "state": "contested", "steps": 2, "interruptions": 1, "other_writers": ["chronyd", "unheard-of"],
            "last_interruption": {
                "time": "2026-11-24T21:30:34Z", "offset": 5.0, "jump": 5.014, "settled_after": 0.25, "signs": ["rtc-moved", "of-the-future"]
            },
        });
        let text = screen(&report);
        for expected in [
            "Somebody else steers this clock, too.",
            "interrupted  2026-11-24T21:30:34Z: the sources moved by +5.014 s, the clock was off by +5.000 s; settled in 250.000 ms",
            "noticed by: the RTC moved, of-the-future",
            "others       chronyd, unheard-of may steer this clock, too",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        let rtc = |learnt| json!({"state": "synchronised", "source": "rtc:/dev/rtc0", "sources": [learnt]});
        let learnt =
            rtc(json!({"name": "rtc:/dev/rtc0", "edge": "learnt", "phase": -0.541, "phase_error": 0.02}));
        assert!(screen(&learnt).contains("its second begins -541.000 ms from the true one ± 20.000 ms"));
        assert!(
            screen(&rtc(json!({"name": "rtc:/dev/rtc0", "edge": "not-learnt"})))
                .contains("right to a second")
        );
        assert!(
            !screen(&json!({"state": "synchronised", "last_interruption": null})).contains("interrupted")
        );
    }
}
