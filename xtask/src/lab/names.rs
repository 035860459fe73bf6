//! The old tools' names in real guests: what runs there, and what it has to show. Each guest's script ends with a line `LAB verdict JSON`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use driftless_core::time::Seconds;
use driftless_linux::signal::Signals;
use serde_json::{Value, json};

use super::boot::Accelerator;
use super::client::Kind;
use super::scenario::{Limits, NTP, Scenario, drift};
use super::summary::Summary;
use super::{Plan, Settings};

/// Something to be shown in guests.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    guests: &'static [(Scenario, Kind)],
    judge: fn(&[Seen]) -> (bool, Value),
}

/// What came of one guest.
#[derive(Debug)]
struct Seen {
    summary: Summary,
    console: String,
    verdict: Value,
}

/// Contract D18 from a near server, with polls of 5 s: the first correction after four samples, the frequency after eight.
const DNTPD: Limits = Limits {
    right: Seconds(1e-3),
    right_within_s: 150.0,
    steady_from_s: 160.0,
    median: Seconds(500e-6),
    p99: Seconds(1e-3),
    ..NTP
};

const fn watched(scenario: Scenario, seconds: u64) -> Scenario {
    Scenario { watch: Duration::from_secs(seconds), ..scenario }
}

/// Fast by as much as makes 20 ms of 30 s.
const FAST: Scenario = watched(drift("monotonic", "the counter runs 676 ppm fast", 676.0), 95);

pub(crate) const TRIALS: [Trial; 3] = [
    Trial {
        name: "dntpd",
        about: "dntpd keeps a guest right by its own algorithm; started twice it replaces itself; -Q ends it",
        guests: &[(
            Scenario {
                limits: DNTPD,
                ..watched(drift("dntpd", "the counter runs 676 ppm fast, dntpd keeps the clock", 676.0), 240)
            },
            Kind::Dntpd,
        )],
        judge: of_dntpd,
    },
    Trial {
        name: "monotonic",
        about: "the watcher catches a stepping client's steps back, and finds none under driftless",
        guests: &[(FAST, Kind::Stepping), (FAST, Kind::Watched)],
        judge: of_monotonic,
    },
    Trial {
        name: "names",
        about: "the real ntpctl and adjtimex beside ours, compared line by line",
        guests: &[(
            Scenario {
                ahead_s: 0,
                ..watched(drift("names", "OpenNTPD keeps the clock, driftless looks on", 0.0), 90)
            },
            Kind::Names,
        )],
        judge: of_names,
    },
];

/// The trial of that name, where it is asked for alone.
pub(crate) fn find(asked: &[String]) -> Option<&'static Trial> {
    const TRIALS_HERE: &[Trial] = &TRIALS;
    let [name] = asked else { return None };
    TRIALS_HERE.iter().find(|trial| trial.name == name)
}

impl Trial {
    /// Boots its guests one after another. True where all is as it has to be.
    pub(crate) fn run(&self, accelerator: Accelerator, is_json: bool) -> Result<bool> {
        let signals = Signals::install()?;
        let mut seen = Vec::new();
        for (scenario, kind) in self.guests {
            let settings = Settings { accelerator, ..Settings::default() };
            let plan = Plan { scenario, kind: *kind, settings };
            let (summary, console) = plan.measure_and_hear(&signals)?;
            eprintln!("{summary}");
            let verdict = verdict(&console)
                .with_context(|| format!("{}: the guest's script did not come to its end", kind.name()))?;
            eprintln!("xtask: {}: {verdict}", kind.name());
            seen.push(Seen { summary, console, verdict });
        }
        let (is_good, report) = (self.judge)(&seen);
        eprintln!(
            "xtask: {}: {}",
            self.name,
            if is_good { "as it has to be" } else { "NOT as it has to be" }
        );
        if is_json {
            println!("{report}");
        }
        Ok(is_good)
    }
}

fn verdict(console: &str) -> Result<Value> {
    let line = console.lines().find_map(|line| line.split("LAB verdict ").nth(1));
    match line {
        Some(text) => Ok(serde_json::from_str(text.trim())?),
        None => bail!("no verdict on the console"),
    }
}

fn of_dntpd(seen: &[Seen]) -> (bool, Value) {
    let Some(guest) = seen.first() else { return (false, Value::Null) };
    let all = ["background", "replaced", "ended"].iter().all(|what| guest.verdict[*what] == true);
    (all && guest.summary.ok, json!({"summary": guest.summary, "verdict": guest.verdict}))
}

/// A step of 20 ms each 30 s back by the stepping client, within a factor that leaves room for the server's answer being late.
fn of_monotonic(seen: &[Seen]) -> (bool, Value) {
    let [stepping, driftless] = seen else { return (false, Value::Null) };
    let largest = stepping.verdict["largest"].as_f64().unwrap_or(0.0);
    let is_caught =
        stepping.verdict["backward_steps"].as_u64() >= Some(2) && (0.015..0.030).contains(&largest);
    let is_clean = driftless.verdict["backward_steps"] == 0;
    (is_caught && is_clean, json!({"stepping": stepping.verdict, "driftless": driftless.verdict}))
}

fn of_names(seen: &[Seen]) -> (bool, Value) {
    let Some(guest) = seen.first() else { return (false, Value::Null) };
    let mut differences = Vec::new();
    for tool in ["ntpctl", "adjtimex"] {
        let (theirs, ours) = (block(&guest.console, "theirs", tool), block(&guest.console, "ours", tool));
        theirs.iter().chain(&ours).for_each(|line| eprintln!("  {line}"));
        differences.extend(compared(&theirs, &ours).into_iter().map(|text| format!("{tool}: {text}")));
    }
    differences.iter().for_each(|difference| eprintln!("xtask: {difference}"));
    (differences.is_empty(), json!({"differences": differences}))
}

/// What one of the tools printed.
fn block(console: &str, whose: &str, tool: &str) -> Vec<String> {
    let begin = format!("LAB begin {whose}-{tool}");
    let lines = console.lines().map(str::trim_end).skip_while(|line| *line != begin).skip(1);
    lines.take_while(|line| *line != "LAB end").filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Where both differ in more than their figures.
fn compared(theirs: &[String], ours: &[String]) -> Vec<String> {
    if theirs.len() < 4 || theirs.len() != ours.len() {
        return vec![format!("{} lines there, {} here", theirs.len(), ours.len())];
    }
    let pairs = theirs.iter().zip(ours);
    pairs
        .filter(|(one, other)| kind(one) != kind(other))
        .map(|(one, other)| format!("`{one}` and `{other}`"))
        .collect()
}

/// A line's words with their units, the figures left out; for a row of a table with the column that each ends at. Who was asked is nobody's format.
fn kind(line: &str) -> Vec<(usize, String)> {
    let is_row = line.starts_with(' ') && (line.contains("ms") || line.contains("not valid"));
    let is_name = !line.contains(' ') && line.contains('.');
    if is_name {
        return vec![(0, "a name".to_owned())];
    }
    let line = without_state(line);
    let mut end = 0;
    let words = line.split(' ').filter_map(|word| {
        end += word.len() + 1;
        let unit =
            word.trim_start_matches(|letter: char| letter.is_ascii_digit() || "+-./=".contains(letter));
        (!word.is_empty() && word != "*").then(|| (if is_row { end } else { 0 }, unit.to_owned()))
    });
    words.collect()
}

/// One daemon may be in sync and the other not yet: how either is said is known, and counts as the same.
fn without_state(line: &str) -> &str {
    let Some((before, state)) = line.split_once("clock ") else { return line };
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let offset = state.strip_prefix("unsynced, clock offset is ").and_then(|rest| rest.strip_suffix("ms"));
    let stratum = state.strip_prefix("synced, stratum ");
    if state == "unsynced" || offset.or(stratum).is_some_and(is_number) { before } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    const THEIRS: &str = "1/1 peers valid, clock synced, stratum 11\npeer\n   wt tl st  next  poll          offset       delay      jitter\n\
        127.0.0.1\n *  1 10 10    5s   34s        -0.045ms     0.370ms     0.046ms";

    #[test]
    fn other_figures_are_no_difference_and_other_columns_are_one() {
        let same = "1/1 peers valid, clock synced, stratum 2\npeer\n   wt tl st  next  poll          offset       delay      jitter\n\
            10.0.2.2:123\n *  1  9  1   25s    1s       110.045ms    20.370ms    10.046ms";
        assert!(
            compared(&lines(THEIRS), &lines(same)).is_empty(),
            "{:?}",
            compared(&lines(THEIRS), &lines(same))
        );
        assert_eq!(compared(&lines(THEIRS), &lines(&same.replace("25s    1s ", "25s   1s "))).len(), 1);
        assert_eq!(compared(&lines(THEIRS), &lines(&same.replace("synced", "right"))).len(), 1);
        assert_eq!(compared(&lines(THEIRS), &lines("peer")).len(), 1);
        let unsynced = THEIRS.replace("synced, stratum 11", "unsynced, clock offset is -1.045ms");
        assert!(compared(&lines(THEIRS), &lines(&unsynced)).is_empty());
    }

    #[test]
    fn what_a_guest_says_is_found_on_its_console() {
        let console = "LAB ready\r\nLAB begin ours-ntpctl\r\nno peers configured\r\nLAB end\r\nLAB verdict {\"ended\": true}\r\n";
        assert_eq!(block(console, "ours", "ntpctl"), ["no peers configured"]);
        assert_eq!(verdict(console).unwrap()["ended"], true);
        assert!(verdict("LAB ready").is_err());
    }
}
