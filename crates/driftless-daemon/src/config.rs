//! The configuration: none is needed; `/etc/driftless/driftless.toml` when wanted.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use driftless_core::engine::{Leave, Method, OtherWriter, Policy, StepPolicy};
use driftless_core::estimator::dntpd::Settings;
use driftless_core::source::SourceConfig;
use driftless_linux::vsock;
use serde::Deserialize;

use crate::discovery::{Machine, Survey};
use crate::place::Place;
use crate::spec::{self, SpecError};

/// Where the configuration is when nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/driftless/driftless.toml";
/// Where the control socket is when nothing else is said.
pub const DEFAULT_CONTROL: &str = "/run/driftless/control.sock";
/// Where the learnt frequency is kept when nothing else is said.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/driftless";

/// The file as written: every key optional.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sources: Option<Vec<String>>,
    policy: Option<Policy>,
    step: Option<StepPolicy>,
    other_writer: Option<OtherWriter>,
    leave: Option<Leave>,
    method: Option<Method>,
    observe: Option<bool>,
    plain_io: Option<bool>,
    control: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    verbose: Option<bool>,
    on_interruption: Option<Vec<String>>,
    on_synchronised: Option<Vec<String>>,
    freeze: Option<PathBuf>,
    #[serde(default)]
    push: PushFile,
    #[serde(default)]
    chronyc: ChronycFile,
}

/// The table `[chronyc]`: where chronyc's questions are answered.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChronycFile {
    socket: Option<PathBuf>,
    port: Option<u16>,
}

/// The table `[push]`: what a host may say unasked, and where.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushFile {
    wake: Option<Place>,
    guest_agent: Option<Place>,
    time: Option<Place>,
}

/// What the command line says, above the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--source`, each.
    pub sources: Vec<String>,
    /// `--step`.
    pub step: Option<StepPolicy>,
    /// `dntpd`'s own command line: its method and what that goes by.
    pub dntpd: Option<Settings>,
    /// `--observe`.
    pub observe: bool,
    /// `--plain-io`.
    pub plain_io: bool,
    /// `--control`.
    pub control: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--verbose`.
    pub verbose: bool,
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File,
    /// The command line.
    Flag,
    /// An environment variable: above everything.
    Environment,
    /// Found on this machine.
    Found,
}

/// A setting and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<T> {
    /// In force.
    pub value: T,
    /// Why.
    pub origin: Origin,
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// SPECs of the sources.
    pub sources: Setting<Vec<String>>,
    /// Why these, where they were found on this machine.
    pub found: Vec<String>,
    /// What a first glance found, where nobody configured any.
    pub glance: Option<Survey>,
    /// Whom to believe where sources of different kinds disagree.
    pub policy: Setting<Policy>,
    /// When the clock may be stepped.
    pub step: Setting<StepPolicy>,
    /// What to do about others who steer.
    pub other_writer: Setting<OtherWriter>,
    /// What to leave behind at the end.
    pub leave: Setting<Leave>,
    /// How offset and frequency are estimated.
    pub method: Setting<Method>,
    /// What dntpd's method polls and sets by.
    pub dntpd: Settings,
    /// Set nothing.
    pub observe: Setting<bool>,
    /// Only the plainest system calls.
    pub plain_io: Setting<bool>,
    /// The control socket.
    pub control: Setting<PathBuf>,
    /// Where the learnt frequency is kept.
    pub state_dir: Setting<PathBuf>,
    /// Log every sample.
    pub verbose: Setting<bool>,
    /// A program and its arguments, run when this guest was interrupted.
    pub on_interruption: Setting<Vec<String>>,
    /// The same when the clock is right: at first, and after each interruption.
    pub on_synchronised: Setting<Vec<String>>,
    /// A cgroup that is frozen while the clock is not right; empty for none.
    pub freeze: Setting<PathBuf>,
    /// Where a host connects that has woken up.
    pub push_wake: Setting<Place>,
    /// Where a host speaks the guest agent's protocol.
    pub push_guest_agent: Setting<Place>,
    /// Where a host sends datagrams with its time.
    pub push_time: Setting<Place>,
    /// The Unix socket at which chronyc's questions are answered and its orders taken; empty for none.
    pub chronyc_socket: Setting<PathBuf>,
    /// The UDP port of loopback at which chronyc's questions are answered; 0 for none.
    pub chronyc_port: Setting<u16>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file says something that is not understood.
    #[error("{}: {text}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, column, the line itself, and the nearest known key.
        text: String,
    },
    /// A source's SPEC is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Config {
    /// The settings in force: environment above flags above file above defaults.
    ///
    /// # Errors
    /// [`ConfigError`], in one piece that says where and what to do.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let file = match &flags.file {
            Some(path) => read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE))?,
            None => File::default(),
        };
        let path = |flag: &Option<PathBuf>, file, default: &str| {
            choose(None, flag.clone(), file, PathBuf::from(default))
        };
        let (sources, glance) = sources(&flags.sources, file.sources);
        let chosen = glance.as_ref().map(|glance| glance.choose(false)).unwrap_or_default();
        let sources = sources.unwrap_or(Setting { value: chosen.sources, origin: Origin::Found });
        Ok(Self {
            sources,
            found: chosen.why,
            glance,
            policy: choose(None, None, file.policy, Policy::Host),
            step: choose(None, flags.step, file.step, StepPolicy::Auto),
            other_writer: choose(None, None, file.other_writer, OtherWriter::TakeOver),
            leave: choose(None, None, file.leave, Leave::Learnt),
            method: choose(None, flags.dntpd.map(|_| Method::Dntpd), file.method, Method::Interval),
            dntpd: flags.dntpd.unwrap_or_default(),
            observe: choose(environment("DRIFTLESS_OBSERVE"), flag(flags.observe), file.observe, false),
            plain_io: choose(environment("DRIFTLESS_PLAIN_IO"), flag(flags.plain_io), file.plain_io, false),
            control: path(&flags.control, file.control, DEFAULT_CONTROL),
            state_dir: path(&flags.state_dir, file.state_dir, DEFAULT_STATE_DIR),
            verbose: choose(None, flag(flags.verbose), file.verbose, false),
            on_interruption: choose(None, None, file.on_interruption, Vec::new()),
            on_synchronised: choose(None, None, file.on_synchronised, Vec::new()),
            freeze: choose(None, None, file.freeze, PathBuf::new()),
            push_wake: choose(None, None, file.push.wake, Place::Vsock(vsock::WAKE_PORT)),
            push_guest_agent: choose(None, None, file.push.guest_agent, Place::Off),
            push_time: choose(None, None, file.push.time, Place::Vsock(vsock::TIME_PORT)),
            chronyc_socket: choose(None, None, file.chronyc.socket, PathBuf::new()),
            chronyc_port: choose(None, None, file.chronyc.port, 0),
        })
    }

    /// The sources, read.
    ///
    /// # Errors
    /// The first SPEC that is wrong.
    pub fn source_configs(&self) -> Result<Vec<SourceConfig>, SpecError> {
        self.sources.value.iter().map(|text| spec::parse(text)).collect()
    }

    /// Every setting as TOML that [`Config::load`] takes, each with where it came from.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: String, origin: Origin| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:<48} # {origin}", format!("{key} = {value}"));
        };
        let quoted = |text: &str| format!("{text:?}");
        let list = |texts: &[String]| {
            let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", quoted.join(", "))
        };
        line("sources", list(&self.sources.value), self.sources.origin);
        line("policy", named(&self.policy.value), self.policy.origin);
        line("step", quoted(&self.step.value.to_string()), self.step.origin);
        line("other_writer", named(&self.other_writer.value), self.other_writer.origin);
        line("leave", named(&self.leave.value), self.leave.origin);
        line("method", named(&self.method.value), self.method.origin);
        line("observe", self.observe.value.to_string(), self.observe.origin);
        line("plain_io", self.plain_io.value.to_string(), self.plain_io.origin);
        line("control", quoted(&self.control.value.to_string_lossy()), self.control.origin);
        line("state_dir", quoted(&self.state_dir.value.to_string_lossy()), self.state_dir.origin);
        line("verbose", self.verbose.value.to_string(), self.verbose.origin);
        line("on_interruption", list(&self.on_interruption.value), self.on_interruption.origin);
        line("on_synchronised", list(&self.on_synchronised.value), self.on_synchronised.origin);
        line("freeze", quoted(&self.freeze.value.to_string_lossy()), self.freeze.origin);
        line("push.wake", quoted(&self.push_wake.value.to_string()), self.push_wake.origin);
        line(
            "push.guest_agent",
            quoted(&self.push_guest_agent.value.to_string()),
            self.push_guest_agent.origin,
        );
        line("push.time", quoted(&self.push_time.value.to_string()), self.push_time.origin);
        let socket = self.chronyc_socket.value.to_string_lossy();
        line("chronyc.socket", quoted(&socket), self.chronyc_socket.origin);
        line("chronyc.port", self.chronyc_port.value.to_string(), self.chronyc_port.origin);
        text
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "configuration file",
            Self::Flag => "command line",
            Self::Environment => "environment",
            Self::Found => "found on this machine",
        })
    }
}

/// A choice by its name in the file.
fn named(choice: &impl serde::Serialize) -> String {
    serde_json::to_string(choice).unwrap_or_default()
}

fn flag(is_set: bool) -> Option<bool> {
    is_set.then_some(true)
}

fn environment(name: &str) -> Option<bool> {
    std::env::var_os(name).filter(|value| value == "1").map(|_| true)
}

fn choose<T>(environment: Option<T>, flag: Option<T>, file: Option<T>, default: T) -> Setting<T> {
    let given = [(environment, Origin::Environment), (flag, Origin::Flag), (file, Origin::File)];
    for (value, origin) in given {
        if let Some(value) = value {
            return Setting { value, origin };
        }
    }
    Setting { value: default, origin: Origin::Default }
}

/// Without any, this machine is glanced at; the daemon searches on.
fn sources(flags: &[String], file: Option<Vec<String>>) -> (Option<Setting<Vec<String>>>, Option<Survey>) {
    let given = [(flags.to_vec(), Origin::Flag), (file.unwrap_or_default(), Origin::File)];
    let given = given.into_iter().find(|(sources, _)| !sources.is_empty());
    match given {
        Some((value, origin)) => (Some(Setting { value, origin }), None),
        None => (None, Some(Survey::glance(&Machine::here()))),
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    toml::from_str(&text).map_err(|error| {
        let mut told = error.to_string().trim_end().to_owned();
        if let Some(nearest) = nearest_key(error.message()) {
            // Writing to a String cannot fail.
            let _ = write!(told, "\ndid you mean `{nearest}`?");
        }
        ConfigError::Syntax { path: path.to_owned(), text: told }
    })
}

/// From serde's "unknown field `x`, expected one of `a`, `b`" the expected one nearest to x.
fn nearest_key(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field ")?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    quoted.map(|key| (edits(unknown, key), key)).filter(|(edits, _)| *edits <= 3).min().map(|(_, key)| key)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("driftless.toml");
        fs::write(&file, text).unwrap();
        Config::load(&Flags { file: Some(file), ..Flags::default() })
    }

    #[test]
    fn a_wrong_key_is_shown_with_its_line_and_the_nearest_one() {
        let text = load("step = \"auto\"\nsorces = [\"ntp:a\"]\n").unwrap_err().to_string();
        assert!(text.contains("line 2, column 1"), "{text}");
        assert!(text.contains("did you mean `sources`?"), "{text}");
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let first = load("sources = [\"ntp:10.0.2.2:1123\"]\nstep = \"forward-only\"\n").unwrap();
        assert_eq!((first.step.value, first.step.origin), (StepPolicy::ForwardOnly, Origin::File));
        let again = load(&first.show()).unwrap();
        assert_eq!(again.sources.value, first.sources.value);
        assert_eq!(again.step.value, first.step.value);
        assert_eq!(again.push_wake.value, Place::Vsock(0xf3a4));
    }

    #[test]
    fn flags_stand_above_the_file_and_the_environment_above_both() {
        let setting = choose(Some(true), Some(false), Some(false), false);
        assert_eq!((setting.value, setting.origin), (true, Origin::Environment));
        let setting = choose(None, Some(1), Some(2), 3);
        assert_eq!((setting.value, setting.origin), (1, Origin::Flag));
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let flags = Flags { file: Some("/nonexistent/driftless.toml".into()), ..Flags::default() };
        let text = Config::load(&flags).unwrap_err().to_string();
        assert!(text.starts_with("/nonexistent/driftless.toml: "), "{text}");
    }
}
