//! `dntpd`: DragonFly's NTP client by its own command line, over driftless' daemon with dntpd's method (contract D1 to D18; docs/old-names.md).

use std::io::Write as _;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use driftless_core::estimator::dntpd::Settings;
use driftless_core::time::Span;
use driftless_daemon::background::{self, DETACHED_FLAG, Presence};
use driftless_daemon::config::{Config, Flags};
use driftless_daemon::dntpd_conf::{self, DntpdConf};
use driftless_daemon::loudness::Loudness;
use driftless_daemon::predecessor::{self, PredecessorError};
use driftless_daemon::query::Query;
use driftless_daemon::regression::Regression;
use driftless_daemon::run::RunError;
use driftless_daemon::{log, run as daemon, spec};

use crate::Outcome;

/// Arguments of `dntpd`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dntpd                          the servers of /etc/dntpd.conf, in the background
  dntpd -s 10.0.2.2              these and 10.0.2.2; the clock is set at the start
  dntpd -t -T 5 10.0.2.2         look only: a line a poll, with the drift
  dntpd -d -T 5 10.0.2.2         in the foreground, with everything on standard error
  dntpd -Q                       end the one that runs

Started again it takes the place of the one that runs. docs/old-names.md tells what differs from DragonFly's.")]
pub(crate) struct Args {
    /// Debug: as -F -l 99 -f /dev/null, with the log on standard error; the clock is corrected
    #[arg(short)]
    debug: bool,
    /// Correct neither frequency nor offset
    #[arg(short = 'n')]
    no_update: bool,
    /// Quiet: as -l 0
    #[arg(short, overrides_with = "level")]
    quiet: bool,
    /// Set the clock at the start, if it is off by more than four standard deviations
    #[arg(short = 's', overrides_with = "no_set")]
    set: bool,
    /// Do not set the clock at the start, unless it is off by more than two minutes (the default)
    #[arg(short = 'S', overrides_with = "set")]
    no_set: bool,
    /// Test: as -F -l 99 -n -f /dev/null; one regression at the nominal poll, a line each on standard error
    #[arg(short)]
    test: bool,
    /// In the foreground, with the log in the system's log
    #[arg(short = 'F')]
    foreground: bool,
    /// End the dntpd that runs, and start none
    #[arg(short = 'Q')]
    quit: bool,
    /// Configuration file: server NAME a line; /dev/null for none [default: /etc/dntpd.conf]
    #[arg(short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Log: 0 serious errors, 1 major corrections, 2 every correction and change of state, 3 and 4 debugging [default: 1]
    #[arg(short, value_name = "LEVEL", overrides_with = "quiet")]
    level: Option<u8>,
    /// Nominal poll interval, s
    #[arg(short = 'T', value_name = "SECONDS", default_value_t = 300)]
    nominal: i64,
    /// Longest poll interval, s [default: 1800, and five nominal ones at least]
    #[arg(short = 'L', value_name = "SECONDS")]
    longest: Option<i64>,
    /// Where its process's number is written
    #[arg(short, value_name = "FILE", default_value = predecessor::DEFAULT_PID_FILE)]
    pid_file: PathBuf,
    /// Accepted; sources that contradict the others are left out by their own error bounds
    #[arg(short, value_name = "SECONDS", hide = true)]
    insane: Option<f64>,
    /// Where the learnt frequency is kept [default: /var/lib/driftless]
    #[arg(long, value_name = "D")]
    state_dir: Option<PathBuf>,
    /// Control socket, for ntpctl and driftless status [default: /run/driftless/control.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// As it starts itself in the background
    #[arg(long, hide = true)]
    detached: bool,
    /// Servers beside those of the file
    targets: Vec<String>,
}

const NOMINAL_S: std::ops::RangeInclusive<i64> = 1..=86_400;
/// The longest poll interval is so many nominal ones at least, where it is not given.
const NOMINALS: i64 = 5;
const LONGEST_S: i64 = 1_800;
const DEBUG_LEVEL: u8 = 99;
/// How long an answer may take in a test.
const PATIENCE: Span = Span::from_secs(5);

pub(crate) fn run(args: &Args) -> Outcome {
    if args.quit {
        return quit(args);
    }
    let sources = match args.sources() {
        Ok(sources) if sources.is_empty() => {
            return Outcome::Wrong.told(&"no server: name one, or write `server NAME` into /etc/dntpd.conf");
        }
        Ok(sources) => sources,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    if args.test {
        return match sources.as_slice() {
            [only] => test(only, args.settings().nominal),
            _ => Outcome::Wrong.told(&"-t looks at one server: name it alone"),
        };
    }
    if let Some(outcome) = args.take_place() {
        return outcome;
    }
    keep(args, sources)
}

impl Args {
    /// SPECs of all servers: the file's, then the command line's (D1).
    fn sources(&self) -> Result<Vec<String>, String> {
        let is_default = self.file.is_none();
        let path = self.file.clone().unwrap_or_else(|| dntpd_conf::DEFAULT_FILE.into());
        let is_off = is_default && (self.debug || self.test);
        let conf = match DntpdConf::read(&path) {
            _ if is_off => DntpdConf::default(),
            Ok(conf) => conf,
            // Whoever names servers needs no file.
            Err(_) if is_default && !self.targets.is_empty() => DntpdConf::default(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        conf.complaints.iter().for_each(|complaint| tell(complaint));
        let targets = conf.servers.iter().chain(&self.targets).map(|target| dntpd_conf::spec(target));
        // A wrong one is told before the dntpd that runs is ended.
        targets.map(|spec| spec::parse(&spec).map(|_| spec).map_err(|error| error.to_string())).collect()
    }

    fn level(&self) -> Loudness {
        let implied = if self.debug || self.test { DEBUG_LEVEL } else { 1 };
        Loudness(if self.quiet { 0 } else { self.level.unwrap_or(implied) })
    }

    /// The intervals within dntpd's limits (D10).
    fn settings(&self) -> Settings {
        let nominal = self.nominal.clamp(*NOMINAL_S.start(), *NOMINAL_S.end());
        if nominal != self.nominal {
            tell(&format!("-T {}: the nominal poll is 1 s to 24 hours; taking {nominal} s", self.nominal));
        }
        let longest =
            self.longest.map_or_else(|| LONGEST_S.max(nominal * NOMINALS), |longest| longest.max(1));
        Settings {
            nominal: Span::from_secs(nominal.min(longest)),
            longest: Span::from_secs(longest),
            coarse_at_start: self.set,
        }
    }

    fn flags(&self, sources: Vec<String>) -> Flags {
        Flags {
            // dntpd's file has been read; driftless' own is not meant.
            file: Some("/dev/null".into()),
            sources,
            dntpd: Some(self.settings()),
            observe: self.no_update,
            control: self.control.clone(),
            state_dir: self.state_dir.clone(),
            ..Flags::default()
        }
    }

    const fn is_in_foreground(&self) -> bool {
        self.debug || self.foreground
    }

    /// Takes the place of the one that runs, or goes into the background in its place: what that ended with (D2).
    fn take_place(&self) -> Option<Outcome> {
        if self.detached {
            return None;
        }
        if self.is_in_foreground() {
            let other = predecessor::running(&self.pid_file)?;
            return Some(Outcome::NotYet.told(&format!(
                "a dntpd runs in the background as process {other}; end it first with dntpd -Q"
            )));
        }
        match predecessor::end(&self.pid_file) {
            Ok(Some(process)) => tell(&format!("process {process} has ended, this one takes its place")),
            Ok(None) => {}
            Err(error) => return Some(refused(&error)),
        }
        let mut arguments = crate::arguments().split_off(1);
        arguments.push(DETACHED_FLAG.into());
        Some(match background::start_with(&arguments) {
            Ok(status) => Outcome::of(status),
            Err(error) => Outcome::NotYet.told(&error),
        })
    }
}

fn quit(args: &Args) -> Outcome {
    match predecessor::end(&args.pid_file) {
        Ok(Some(process)) => tell(&format!("process {process} has ended")),
        Ok(None) => tell("no dntpd is running"),
        Err(error) => return refused(&error),
    }
    Outcome::Done
}

fn refused(error: &PredecessorError) -> Outcome {
    match error {
        PredecessorError::Refused(_, cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            Outcome::NotPermitted.told(error)
        }
        _ => Outcome::NotYet.told(error),
    }
}

/// Keeps the clock until it is ended.
fn keep(args: &Args, sources: Vec<String>) -> Outcome {
    let pid_file = (!args.debug).then(|| args.pid_file.clone());
    let presence = Presence { pid_file, is_detached: args.detached };
    if let Err(error) = presence.detach() {
        return Outcome::NotYet.told(&error);
    }
    let flags = args.flags(sources);
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    log::start_as("dntpd", args.level());
    if args.foreground && !args.debug {
        log::to_syslog();
    }
    match daemon::run(&flags, config, &presence) {
        Ok(()) => Outcome::Done,
        Err(error @ (RunError::Spec(_) | RunError::Config(_))) => Outcome::Wrong.told(&error),
        Err(error @ RunError::NotPermitted(_)) => Outcome::NotPermitted.told(&error),
        Err(error) => Outcome::NotYet.told(&error),
    }
}

/// One regression, a line each poll, until it is ended (D8).
fn test(source: &str, nominal: Span) -> Outcome {
    let query = match Query::new(source) {
        Ok(query) => query,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    let mut regression = Regression::default();
    let mut failures = 0;
    loop {
        match query.ask(PATIENCE) {
            Ok(answer) => {
                failures = 0;
                regression.add(&answer.sample);
                tell(&format!("{}: poll, {regression}", query.name()));
            }
            Err(error) => {
                failures += 1;
                tell(&format!("{error} ({failures} failures in a row)"));
            }
        }
        sleep(Duration::from_nanos(nominal.as_nanos().unsigned_abs()));
    }
}

fn tell(text: &str) {
    // Nobody is left to tell where standard error is gone.
    let _ = writeln!(std::io::stderr(), "dntpd: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn parsed(arguments: &[&str]) -> Args {
        #[derive(Debug, clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: Args,
        }
        Alone::try_parse_from([&["dntpd"], arguments].concat()).unwrap().args
    }

    #[test]
    fn d3_debugging_is_loud_in_the_foreground_without_the_file_and_corrects() {
        let args = parsed(&["-d", "10.0.2.2"]);
        assert!(args.is_in_foreground() && !args.flags(Vec::new()).observe);
        assert_eq!((args.level(), args.sources()), (Loudness(99), Ok(vec!["ntp:10.0.2.2".to_owned()])));
        assert_eq!(parsed(&["-d", "-l", "2", "a"]).level(), Loudness(2));
    }

    #[test]
    fn d4_without_updates_nothing_is_set() {
        assert!(parsed(&["-n", "a"]).flags(Vec::new()).observe);
    }

    #[test]
    fn d5_quiet_is_level_0_and_the_last_of_both_counts() {
        for (arguments, level) in
            [(&["-q"][..], 0), (&["-l", "3", "-q"], 0), (&["-q", "-l", "3"], 3), (&["-l4"], 4), (&[], 1)]
        {
            assert_eq!(parsed(arguments).level(), Loudness(level), "{arguments:?}");
        }
    }

    #[test]
    fn d7_the_clock_is_not_set_at_the_start_unless_s_is_the_last_word() {
        for (arguments, is_set) in
            [(&[][..], false), (&["-s"], true), (&["-s", "-S"], false), (&["-Ss"], true)]
        {
            assert_eq!(parsed(arguments).settings().coarse_at_start, is_set, "{arguments:?}");
        }
    }

    #[test]
    fn d10_the_polls_keep_within_their_limits() {
        let polls = |arguments: &[&str]| {
            let settings = parsed(arguments).settings();
            (settings.nominal, settings.longest)
        };
        let seconds = |nominal, longest| (Span::from_secs(nominal), Span::from_secs(longest));
        assert_eq!(polls(&[]), seconds(300, 1_800));
        assert_eq!(polls(&["-T", "600"]), seconds(600, 3_000));
        assert_eq!(polls(&["-T", "600", "-L", "700"]), seconds(600, 700));
        assert_eq!(polls(&["-T", "600", "-L", "60"]), seconds(60, 60));
        assert_eq!(polls(&["-T", "0"]), seconds(1, 1_800));
        assert_eq!(polls(&["-T", "1000000"]), seconds(86_400, 432_000));
    }

    #[test]
    fn d1_targets_are_added_to_the_files_servers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dntpd.conf");
        std::fs::write(&file, "server one # the first\n").unwrap();
        let named = file.to_str().unwrap();
        assert_eq!(parsed(&["-f", named, "two"]).sources().unwrap(), ["ntp:one", "ntp:two"]);
        assert_eq!(parsed(&["-t", "-f", named]).sources().unwrap(), ["ntp:one"]);
        assert!(parsed(&["-f", "/dev/null"]).sources().unwrap().is_empty());
        assert!(
            parsed(&["-f", "/nonexistent.conf", "a"]).sources().unwrap_err().contains("/nonexistent.conf: ")
        );
    }
}
