//! `driftless doctor`: what is wrong with this clock, and with whoever should keep it. Nothing is set.
//!
//! A file is a family of findings, a function of [`Evidence`] each. What is seen of a system is seen through its files below a root, so that the same
//! functions judge this machine, an image that lies unpacked, and the small systems of the tests.

mod answers;
mod capability;
mod clocksource;
mod devices;
mod dhcp;
mod disciplining;
mod evidence;
mod finding;
mod frequency;
mod host;
mod image;
mod kernel_config;
mod long_pause;
mod place;
mod programs;
mod rtc;
mod shared_folder;
mod units;
mod wrong_time;

use std::path::PathBuf;

use driftless_core::source::SourceConfig;
use driftless_daemon::spec;
use serde_json::{Value, json};

use crate::{Outcome, say};
use evidence::Evidence;
use finding::{Finding, Kind, Severity};
use image::Image;

/// Arguments of `driftless doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless doctor                             this machine, as root to see everything
  driftless doctor --source ntp:10.0.2.2       and ask this server, too
  driftless doctor --shared /mnt/host          and compare the times of files there
  driftless doctor --host                      a hypervisor's host, and what it does to its guests' clocks
  driftless doctor --root /mnt/image           an unpacked or mounted image: which methods would work on which platform
  driftless doctor --json | jq '.findings[] | select(.severity != \"note\")'

Exit status: 0 nothing is wrong (notes at most), 1 a warning or something serious was found, 2 usage error. docs/doctor.md says more of each finding by its id.")]
pub(crate) struct Args {
    /// Inspect the image whose root is this folder, without running anything of it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["host", "shared", "source"])]
    root: Option<PathBuf>,
    /// This is a hypervisor's host: look at what it offers its guests, too
    #[arg(long)]
    host: bool,
    /// Write a file to this shared folder and compare its time with this clock
    #[arg(long, value_name = "DIR")]
    shared: Option<PathBuf>,
    /// Ask this source, too
    #[arg(long, value_name = "SPEC")]
    source: Vec<String>,
    /// List everything that may be found, with its id
    #[arg(long)]
    list: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

/// A family: what it finds, and what it may find.
type Family = (fn(&Evidence) -> Vec<Finding>, &'static [&'static Kind]);

const FAMILIES: [Family; 12] = [
    (disciplining::find, &disciplining::KINDS),
    (wrong_time::find, &wrong_time::KINDS),
    (long_pause::find, &long_pause::KINDS),
    (capability::find, &capability::KINDS),
    (frequency::find, &frequency::KINDS),
    (clocksource::find, &clocksource::KINDS),
    (units::find, &units::KINDS),
    (dhcp::find, &dhcp::KINDS),
    (devices::find, &devices::KINDS),
    (rtc::find, &rtc::KINDS),
    (kernel_config::find, &kernel_config::KINDS),
    (place::find, &place::KINDS),
];

/// Everything that may be found.
fn kinds() -> Vec<&'static Kind> {
    let more = [&host::KINDS[..], &shared_folder::KINDS, &image::KINDS];
    FAMILIES.iter().map(|(_, kinds)| *kinds).chain(more).flatten().copied().collect()
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.list {
        kinds()
            .iter()
            .for_each(|kind| say(&format!("{:<26} {:<8} {}", kind.id, kind.severity.name(), kind.title)));
        return Outcome::Done;
    }
    let more: Result<Vec<SourceConfig>, _> = args.source.iter().map(|spec| spec::parse(spec)).collect();
    let more = match more {
        Ok(more) => more,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    if let Some(root) = args.root.as_ref().filter(|root| !root.is_dir()) {
        return Outcome::Wrong
            .told(&format!("{}: not a folder; unpack or mount the image first", root.display()));
    }
    let evidence =
        args.root.as_ref().map_or_else(|| Evidence::of_this_machine(&more), |root| Evidence::of_image(root));
    let mut found: Vec<Finding> = FAMILIES.iter().flat_map(|(find, _)| find(&evidence)).collect();
    if args.host {
        found.extend(host::find(&evidence));
    }
    found.extend(args.shared.iter().flat_map(|folder| shared_folder::find(folder)));
    let image = args.root.as_ref().map(|_| Image::of(&evidence.tree));
    found.extend(image.iter().flat_map(Image::find));
    // The worst first; the order of the families among equals.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity));
    let image = image.as_ref();
    say(&if args.json { json(&found, image).to_string() } else { words(&found, image) });
    let is_bad = found.iter().any(|finding| finding.kind.severity > Severity::Note);
    if is_bad { Outcome::NotYet } else { Outcome::Done }
}

fn json(found: &[Finding], image: Option<&Image>) -> Value {
    let mut report = json!({
        "worst": found.first().map(|finding| finding.kind.severity.name()),
        "findings": found.iter().map(Finding::json).collect::<Vec<_>>(),
    });
    if let Some(image) = image {
        report["image"] = image.json();
    }
    report
}

fn words(found: &[Finding], image: Option<&Image>) -> String {
    let mut parts: Vec<String> = image.map(Image::words).into_iter().collect();
    parts.extend(found.iter().map(Finding::words));
    let count = |severity: Severity| found.iter().filter(|finding| finding.kind.severity == severity).count();
    let (serious, warnings, notes) =
        (count(Severity::Serious), count(Severity::Warning), count(Severity::Note));
    let verdict = if serious + warnings == 0 {
        "nothing is wrong"
    } else {
        "docs/doctor.md says more of each by its id"
    };
    parts.push(format!("{serious} serious, {warnings} warnings, {notes} notes: {verdict}"));
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::evidence::Live;
    use super::evidence::planted::{ids, machine};
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_finding_has_its_section_in_the_documentation_and_every_section_its_finding() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md")).unwrap();
        let told: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let known: BTreeSet<&str> = kinds().iter().map(|kind| kind.id).collect();
        assert_eq!(known, told);
        assert_eq!(known.len(), kinds().len(), "no id is used twice");
    }

    #[test]
    fn a_healthy_machine_is_called_healthy() {
        let (_root, evidence) = machine(&[], Live::healthy());
        let found: Vec<Finding> = FAMILIES.iter().flat_map(|(find, _)| find(&evidence)).collect();
        let bad: Vec<Finding> =
            found.into_iter().filter(|finding| finding.kind.severity > Severity::Note).collect();
        assert_eq!(ids(&bad), [""; 0], "{bad:?}");
    }

    #[test]
    fn a_report_for_machines_names_the_worst_first() {
        let (_root, evidence) = machine(
            &[],
            Live {
                programs: Vec::new(),
                rtc: Err(driftless_core::source::LookError::Missing),
                ..Live::healthy()
            },
        );
        let mut found: Vec<Finding> = FAMILIES.iter().flat_map(|(find, _)| find(&evidence)).collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity));
        let report = json(&found, None);
        assert_eq!(report["worst"], "serious");
        assert_eq!(report["findings"][0]["id"], "nobody-disciplines");
        assert!(
            words(&found, None)
                .ends_with("1 serious, 0 warnings, 3 notes: docs/doctor.md says more of each by its id"),
            "{}",
            words(&found, None)
        );
    }
}
