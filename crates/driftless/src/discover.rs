//! `driftless discover`: every source that was found, where, whether it answers, and why it would be used or not.

use std::net::SocketAddr;
use std::path::PathBuf;

use driftless_daemon::config::{Config, Flags, Origin};
use driftless_daemon::discovery::{Machine, Survey};
use serde_json::{Value, json};

use crate::{Outcome, say};

/// Arguments of `driftless discover`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless discover
  driftless discover --json | jq -r '.sources[]'

The best rank that gives the time is used: told (kernel command line, credential), hypervisor, host-channel (vsock), handed-over (DHCP, metadata,
cloud-init), provider, published (SRV), guess (gateway, host's names), last-resort (real-time clock). Each server is asked once; a public one only where
somebody named it for this machine. Exit status 1 where nothing gives the time.")]
pub(crate) struct Args {
    /// One line of JSON
    #[arg(long)]
    json: bool,
    /// Look at the files of another root folder; ask nobody
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
    /// Where the metadata service answers
    #[arg(long, value_name = "ADDR:PORT", hide = true)]
    metadata: Option<SocketAddr>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let machine = args.root.as_deref().map_or_else(Machine::here, Machine::at);
    let machine = match args.metadata {
        Some(metadata) => machine.with_metadata(metadata),
        None => machine,
    };
    let survey = Survey::look(&machine, true);
    let used = survey.choose(false).sources;
    let configured = configured(args);
    if args.json {
        say(&in_json(&survey, &used, &configured).to_string());
    } else {
        table(&survey, &used).iter().for_each(|line| say(line));
        if !configured.is_empty() {
            say(&format!(
                "The configuration names its sources, so that none of these is used: {}",
                configured.join(", ")
            ));
        }
    }
    if used.is_empty() { Outcome::NotYet } else { Outcome::Done }
}

/// The sources that this machine's configuration names: then nothing is discovered.
fn configured(args: &Args) -> Vec<String> {
    let config = if args.root.is_none() { Config::load(&Flags::default()).ok() } else { None };
    config
        .filter(|config| config.sources.origin == Origin::File)
        .map(|config| config.sources.value)
        .unwrap_or_default()
}

fn in_json(survey: &Survey, used: &[String], configured: &[String]) -> Value {
    let best = survey.candidates.iter().find(|one| used.contains(&one.spec));
    let one = |one: &driftless_daemon::discovery::Candidate| {
        let is_used = used.contains(&one.spec);
        one.to_json(is_used, &survey.why(one, best, is_used))
    };
    let candidates: Vec<Value> = survey.candidates.iter().map(one).collect();
    json!({ "sources": used, "candidates": candidates, "refused": survey.refused, "configured": configured })
}

fn table(survey: &Survey, used: &[String]) -> Vec<String> {
    let best = survey.candidates.iter().find(|one| used.contains(&one.spec));
    let width = survey.candidates.iter().map(|one| one.spec.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for one in &survey.candidates {
        let is_used = used.contains(&one.spec);
        let mark = if is_used { '*' } else { ' ' };
        let smears = if one.smears { ", smears leap seconds" } else { "" };
        let why = survey.why(one, best, is_used);
        lines.push(format!("{mark} {:width$}  {:<12} {why}", one.spec, one.rank.name()));
        lines.push(format!("  {:width$}  {:<12} {}{smears}", "", "", one.evidence));
    }
    lines.extend(survey.refused.iter().map(|line| format!("! {line}")));
    if used.is_empty() {
        lines.push("No source gives the time.".to_owned());
    }
    lines
}
