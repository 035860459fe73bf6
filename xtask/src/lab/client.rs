//! What keeps the guest's clock in a run: driftless, or a peer from its Debian package.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::scenario::Scenario;
use crate::packages::Suite;

/// Who keeps the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Driftless,
    Chronyd,
    Openntpd,
    /// driftless by dntpd's name and with its algorithm
    Dntpd,
    /// sntpc, which steps the clock every 30 s, watched for backward steps
    Stepping,
    /// driftless, watched for backward steps
    Watched,
    /// OpenNTPD and driftless looking on, for their outputs to be compared
    Names,
    None,
}

/// A client as the guest needs it.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Its program on the host; `/bin/client` in the guest.
    pub(crate) program: Option<PathBuf>,
    /// The agent's arguments: the client's command line.
    pub(crate) command: String,
    /// Shell assignments before the agent starts.
    pub(crate) environment: String,
    /// Files of its own.
    pub(crate) files: Vec<(String, String)>,
    /// The same, to be run.
    pub(crate) scripts: Vec<(String, String)>,
    /// More programs, and where each lies in the guest.
    pub(crate) programs: Vec<(PathBuf, String)>,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Driftless => "driftless",
            Self::Chronyd => "chronyd",
            Self::Openntpd => "openntpd",
            Self::Dntpd => "dntpd",
            Self::Stepping => "stepping",
            Self::Watched => "watched",
            Self::Names => "names",
            Self::None => "none",
        }
    }
}

/// The client, set to ask the host's server at `port`. Peers are unpacked, never installed: installing would start them here.
pub(crate) fn prepare(
    kind: Kind,
    scenario: &Scenario,
    port: u16,
    is_verbose: bool,
    (workspace, cache): (&Path, &Path),
) -> Result<Client> {
    let server = format!("10.0.2.2:{port}");
    let sources: Vec<String> =
        scenario.sources.iter().map(|source| source.replace("SERVER", &server)).collect();
    let named: String = sources.iter().map(|source| format!(" --source {source}")).collect();
    Ok(match kind {
        Kind::None => Client::default(),
        Kind::Driftless => Client {
            program: Some(workspace.join("target/lab/driftless")),
            command: format!(
                "/bin/client run{}{named} --state-dir /tmp/state",
                if is_verbose { " --verbose" } else { "" }
            ),
            environment: gate(scenario),
            files: if scenario.is_told {
                vec![("etc/driftless/driftless.toml".to_owned(), told())]
            } else {
                Vec::new()
            },
            ..Client::default()
        },
        Kind::Chronyd => Client {
            program: Some(unpacked("chrony", cache)?.join("usr/sbin/chronyd")),
            command: "/bin/client -d -u root -f /etc/chrony.conf".to_owned(),
            files: vec![("etc/chrony.conf".to_owned(), chrony_conf(scenario, port))],
            ..Client::default()
        },
        Kind::Openntpd => Client {
            program: Some(unpacked("openntpd", cache)?.join("usr/sbin/ntpd")),
            command: "/bin/client -d -s -f /etc/ntpd.conf".to_owned(),
            environment: format!("export LAB_RELAY={port}\n"),
            files: vec![openntpd_conf()],
            ..Client::default()
        },
        Kind::Dntpd => scripted(include_str!("../../../lab/guest/dntpd"), scenario, port, workspace),
        Kind::Stepping => scripted(include_str!("../../../lab/guest/stepping"), scenario, port, workspace),
        Kind::Watched => scripted(include_str!("../../../lab/guest/watched"), scenario, port, workspace),
        Kind::Names => beside_the_originals(scenario, port, (workspace, cache))?,
    })
}

/// driftless as a script of the guest's starts it.
fn scripted(script: &str, scenario: &Scenario, port: u16, workspace: &Path) -> Client {
    let seconds = scenario.watch.as_secs();
    Client {
        program: Some(workspace.join("target/lab/driftless")),
        command: "/bin/sh /lab/script".to_owned(),
        environment: format!("export LAB_SERVER=10.0.2.2:{port} LAB_SECONDS={seconds}\n"),
        files: vec![("lab/script".to_owned(), script.to_owned())],
        ..Client::default()
    }
}

/// The real tools whose output ours is compared with.
fn beside_the_originals(
    scenario: &Scenario,
    port: u16,
    (workspace, cache): (&Path, &Path),
) -> Result<Client> {
    let mut client = scripted(include_str!("../../../lab/guest/names"), scenario, port, workspace);
    let openntpd = unpacked("openntpd", cache)?.join("usr/sbin");
    client.programs = vec![
        (openntpd.join("ntpd"), "bin/real/ntpd".to_owned()),
        (openntpd.join("ntpctl"), "bin/real/ntpctl".to_owned()),
        (unpacked("adjtimex", cache)?.join("sbin/adjtimex"), "bin/real/adjtimex".to_owned()),
    ];
    client.files.push(openntpd_conf());
    client.environment.push_str(&format!("export LAB_RELAY={port}\n"));
    Ok(client)
}

fn openntpd_conf() -> (String, String) {
    ("etc/ntpd.conf".to_owned(), "server 127.0.0.1\n".to_owned())
}

/// Where a PTP clock runs, `waitsync --once` is timed with it before the daemon starts.
fn gate(scenario: &Scenario) -> String {
    let is_timed = scenario.card.is_some_and(|card| card.runs);
    let source = scenario.sources.first().filter(|_| is_timed);
    source.map_or_else(String::new, |source| format!("export LAB_WAITSYNC='{source}'\n"))
}

fn told() -> String {
    format!("[push]\nguest_agent = \"port:{}\"\n", driftless_linux::channel::AGENT_PORT)
}

/// The same sources, with the polls that driftless takes for its host, 1 to 16 s; steps at any time, which serves a guest best.
fn chrony_conf(scenario: &Scenario, port: u16) -> String {
    let mut lines = Vec::new();
    for source in scenario.sources {
        if source.starts_with("phc:") {
            lines.push("refclock PHC /dev/ptp0 poll 0 dpoll -2".to_owned());
        } else if source.starts_with("ntp:") {
            lines.push(format!("server 10.0.2.2 port {port} iburst minpoll 0 maxpoll 4"));
        }
    }
    lines.push("makestep 0.05 -1\ncmdport 0\nbindcmdaddress /\npidfile /run/chronyd.pid\n".to_owned());
    lines.join("\n")
}

/// Where a package lies unpacked.
pub(super) fn unpacked(package: &str, cache: &Path) -> Result<PathBuf> {
    let root = cache.join(package);
    Suite::own().unpack(&[package], &root)?;
    Ok(root)
}
