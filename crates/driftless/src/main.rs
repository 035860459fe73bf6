//! The command line of driftless: each command is a file, each a thin layer over `driftless-daemon`.
#![forbid(unsafe_code)]

mod adjtimex;
mod config;
mod discover;
mod dntpd;
#[cfg(feature = "tools")]
mod doctor;
#[cfg(feature = "tools")]
mod length;
#[cfg(feature = "tools")]
mod measure;
mod monotonic;
#[cfg(feature = "tools")]
mod notebook;
mod ntpctl;
mod orders;
#[cfg(feature = "tools")]
mod plot;
mod provision;
mod query;
mod rtc;
mod run;
mod serve;
mod server_status;
#[cfg(feature = "tools")]
mod simulate;
mod sntpc;
mod status;
mod waitsync;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps the clock of a Linux virtual machine right, whatever its drift and however it is interrupted.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  driftless serve --as-is --listen 192.168.5.2:123 --allow 192.168.5.0/24   on the host
  driftless run                                   in the guest: finds its sources
  driftless run --source ntp:10.0.2.2:11123       in the guest: asks this server
  driftless status --watch
  driftless query pool-server.example -n 4
  driftless doctor                                what is wrong with this clock

Exit status: 0 done, 1 not (yet) so, 2 usage or configuration error, 3 not permitted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// The guest's daemon: keep this clock right
    Run(run::Args),
    /// The host's time server
    Serve(serve::Args),
    /// How the clock is doing
    Status(status::Args),
    /// Wait until the clock is right
    Waitsync(waitsync::Args),
    /// Order the daemon to correct the offset at once
    Makestep(orders::Args),
    /// Order the daemon to ask its sources several times now
    Burst(orders::Args),
    /// Order the daemon to ask its sources again
    Online(orders::Args),
    /// Order the daemon to ask nobody
    Offline(orders::Args),
    /// Ask servers for their time, set nothing
    Query(query::Args),
    /// Show every source that this machine offers, and why it would be used or not
    Discover(discover::Args),
    /// Print what hands a server over to guests: vendor data, cloud-config, DHCP servers' configuration
    Provision(provision::Args),
    /// Measure this machine's natural drift against a source
    #[cfg(feature = "tools")]
    Measure(measure::Args),
    /// Draw what was measured: pictures, or braille on the terminal
    #[cfg(feature = "tools")]
    Plot(plot::Args),
    /// Watch the wall clock for steps, backwards above all
    Monotonic(monotonic::Args),
    /// Show the kernel's time parameters in words, or set them; also by the old tool's name and options
    Adjtimex(adjtimex::Args),
    /// Read the real-time clock, or set one clock from the other
    Rtc(rtc::Args),
    /// Find what is wrong with this clock, or with an image
    #[cfg(feature = "tools")]
    Doctor(doctor::Args),
    /// Prove the clock's keeping in a simulated world
    #[cfg(feature = "tools")]
    Simulate(simulate::Args),
    /// DragonFly's NTP client, by its own command line
    Dntpd(dntpd::Args),
    /// A simple client that steps the clock, as LinuxKit's
    Sntpc(sntpc::Args),
    /// OpenNTPD's view of peers, sensors and status
    Ntpctl(ntpctl::Args),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config::Command),
}

/// What a command ended with, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    NotYet,
    Wrong,
    NotPermitted,
}

/// Where the daemon's control socket is.
#[derive(Debug, clap::Args)]
struct ControlSocket {
    /// The daemon's control socket
    #[arg(long, value_name = "PATH", default_value = driftless_daemon::config::DEFAULT_CONTROL)]
    control: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse_from(arguments()).command {
        Command::Run(args) => run::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Status(args) => status::run(&args),
        Command::Waitsync(args) => waitsync::run(&args),
        Command::Makestep(args) => orders::makestep(&args),
        Command::Burst(args) => orders::burst(&args),
        Command::Online(args) => orders::online(&args),
        Command::Offline(args) => orders::offline(&args),
        Command::Query(args) => query::run(&args),
        Command::Discover(args) => discover::run(&args),
        Command::Provision(args) => provision::run(&args),
        #[cfg(feature = "tools")]
        Command::Measure(args) => measure::run(&args),
        #[cfg(feature = "tools")]
        Command::Plot(args) => plot::run(&args),
        Command::Monotonic(args) => monotonic::run(&args),
        Command::Adjtimex(args) => adjtimex::run(&args),
        Command::Rtc(args) => rtc::run(&args),
        #[cfg(feature = "tools")]
        Command::Doctor(args) => doctor::run(&args),
        #[cfg(feature = "tools")]
        Command::Simulate(args) => simulate::run(&args),
        Command::Dntpd(args) => dntpd::run(&args),
        Command::Sntpc(args) => sntpc::run(&args),
        Command::Ntpctl(args) => ntpctl::run(&args),
        Command::Config(command) => config::run(command),
    };
    outcome.into()
}

/// Names under which the program may be installed: each is the command of that name.
const OLD_NAMES: [&str; 4] = ["dntpd", "sntpc", "ntpctl", "adjtimex"];

/// The command line, whatever name this program was called by.
fn arguments() -> Vec<OsString> {
    by_name(std::env::args_os().collect())
}

fn by_name(given: Vec<OsString>) -> Vec<OsString> {
    let called = given.first().and_then(|name| Path::new(name).file_name()?.to_str());
    let old = OLD_NAMES.into_iter().find(|name| called == Some(*name));
    let mut arguments = given;
    if let Some(old) = old {
        let rest = arguments.split_off(1);
        arguments = vec!["driftless".into(), old.into()];
        if old == "adjtimex" {
            arguments.push("--by-old-name".into());
        }
        arguments.extend(rest);
    }
    if arguments.get(1).is_some_and(|command| command == "adjtimex") {
        let rest = arguments.split_off(2);
        arguments.extend(adjtimex::with_two_dashes(rest));
    }
    arguments
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::NotYet => 1,
            Outcome::Wrong => 2,
            Outcome::NotPermitted => 3,
        })
    }
}

impl Outcome {
    /// What another of our processes ended with.
    const fn of(status: i32) -> Self {
        match status {
            0 => Self::Done,
            2 => Self::Wrong,
            3 => Self::NotPermitted,
            _ => Self::NotYet,
        }
    }

    /// Says on standard error what went wrong.
    fn told(self, error: &dyn std::fmt::Display) -> Self {
        use std::io::Write as _;
        // Nobody is left to tell where standard error is gone.
        let _ = writeln!(std::io::stderr(), "driftless: {error}");
        self
    }
}

/// Prints a line on standard output; a reader that has gone (`| head`) is no error.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n5_the_name_chooses_the_command() {
        for (given, wanted) in [
            (&["/usr/sbin/dntpd", "-s", "a"][..], &["driftless", "dntpd", "-s", "a"][..]),
            (&["ntpctl", "-s", "all"], &["driftless", "ntpctl", "-s", "all"]),
            (&["./adjtimex", "-tick", "9999"], &["driftless", "adjtimex", "--by-old-name", "--tick", "9999"]),
            (&["driftless", "adjtimex", "-print"], &["driftless", "adjtimex", "--print"]),
            (&["driftless", "query", "sntpc"], &["driftless", "query", "sntpc"]),
        ] {
            assert_eq!(by_name(given.iter().map(OsString::from).collect()), wanted);
        }
    }

    #[test]
    fn every_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
