//! `cargo xtask leases`: real DHCP clients take leases in network namespaces of their own, and `driftless discover` has to find the servers in each.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::workspace;

/// Arguments of `cargo xtask leases`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask leases            real clients, some three minutes; as root
  cargo xtask leases --update   and what they leave becomes the fixtures of the unit tests")]
pub(crate) struct Args {
    /// Take the files over into crates/driftless-daemon/tests/discovery
    #[arg(long)]
    update: bool,
}

/// Each client, and the servers that are to be found and to answer.
const CLIENTS: [(&str, &[&str]); 5] = [
    ("udhcpc", &["ntp:192.168.77.1", "ntp:192.168.77.2"]),
    ("dhclient", BOTH),
    ("dhcpcd", BOTH),
    ("networkd", BOTH),
    ("networkmanager", BOTH),
];
const BOTH: &[&str] = &["ntp:192.168.77.1", "ntp:192.168.77.2", "ntp:[fd77::1]"];
/// What a daemon asks that is running while its lease comes and changes.
const FOLLOWED: [(&str, &[&str]); 2] =
    [("lease", &["ntp:192.168.77.1", "ntp:192.168.77.2"]), ("renewed", &["ntp:192.168.77.2"])];
/// What is taken over as fixtures.
const FIXTURES: [&str; 4] = ["leases", "cloud-init", "config-drive.iso", "versions.txt"];

pub(crate) fn run(args: &Args) -> Result<bool> {
    let workspace = workspace()?;
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "driftless"])
        .current_dir(&workspace)
        .status()?;
    if !built.success() {
        bail!("cargo build failed");
    }
    let out = workspace.join(".lab/leases");
    fs::create_dir_all(&out)?;
    eprintln!(
        "xtask: five DHCP clients take a lease each, in a copy of this root that is thrown away; some three minutes"
    );
    let made = Command::new(workspace.join("lab/leases/make"))
        .arg(&out)
        .arg(workspace.join("target/debug/driftless"))
        .status()?;
    if !made.success() {
        bail!("lab/leases/make failed; it needs root, overlayfs and network namespaces");
    }
    let mut is_good = true;
    let discovered = CLIENTS.map(|(client, expected)| (client.to_owned(), expected));
    let followed = FOLLOWED.map(|(when, expected)| (format!("follow-{when}"), expected));
    for (name, expected) in discovered.into_iter().chain(followed) {
        let found = found(&out.join(format!("{name}.json"))).unwrap_or_default();
        let word = if found == expected { "ok" } else { "FAILED" };
        is_good &= found == expected;
        eprintln!("xtask: {name}: {word}: {}", found.join(", "));
    }
    let strangers = fs::read_to_string(out.join("strangers.txt")).context("the capture is missing")?;
    if !strangers.is_empty() {
        eprintln!("xtask: packets left for strangers:\n{strangers}");
        is_good = false;
    }
    if args.update && is_good {
        take_over(&out, &workspace.join("crates/driftless-daemon/tests/discovery"))?;
    }
    println!(
        "xtask: leases: {}",
        if is_good {
            "every client's servers were found and answer; nothing left for strangers"
        } else {
            "FAILED"
        }
    );
    Ok(is_good)
}

fn take_over(out: &Path, fixtures: &Path) -> Result<()> {
    for part in FIXTURES {
        let copied = Command::new("cp").arg("-rT").arg(out.join(part)).arg(fixtures.join(part)).status()?;
        if !copied.success() {
            bail!("{part} could not be copied");
        }
    }
    Ok(())
}

/// The sources that would be used, as discovery tells them, or those of a daemon's status.
fn found(file: &Path) -> Result<Vec<String>> {
    let told: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let sources = told["sources"].as_array().into_iter().flatten();
    Ok(sources.filter_map(|one| one.as_str().or_else(|| one["name"].as_str())).map(str::to_owned).collect())
}
