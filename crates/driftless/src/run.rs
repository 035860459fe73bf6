//! `driftless run`.

use std::path::PathBuf;

use driftless_core::engine::StepPolicy;
use driftless_daemon::background::{self, DEFAULT_PID_FILE, Presence};
use driftless_daemon::config::{Config, Flags};
use driftless_daemon::run::RunError;
use driftless_daemon::{log, run as daemon};

use crate::Outcome;

/// Arguments of `driftless run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless run                                     finds its sources; `driftless discover` shows which and why
  driftless run --source phc:kvm                    this clock; also phc:/dev/ptp0, vmclock:, rtc:, ntp+vsock:host
  driftless run --source ntp:10.0.2.2:11123         ask this server
  driftless run --step 'always 30 forward-only'     set it every 30 s, forwards only, and leave its rate alone
  driftless run --observe --source ntp:192.0.2.1    set nothing, only watch

A source is ntp:HOST[:PORT], ntp+vsock:host[:PORT], ntp+unix:PATH, phc:DEVICE|KIND|INTERFACE, vmclock:[DEVICE] or rtc:[DEVICE], each with
[?minpoll=N&maxpoll=N], log2 of seconds from -2 to 17, and for devices scale=utc or scale=tai.
DRIFTLESS_OBSERVE=1 in the environment forces --observe, above everything.")]
pub(crate) struct Args {
    /// Configuration file [default: /etc/driftless/driftless.toml, if it exists]
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// Set nothing, only watch
    #[arg(long)]
    observe: bool,
    /// Whom to ask; may be given several times
    #[arg(long, value_name = "SPEC")]
    source: Vec<String>,
    /// When the clock may be stepped: auto, forward-only, never, "always SECONDS" or "always SECONDS forward-only" [default: auto]
    #[arg(long, value_name = "POLICY")]
    step: Option<StepPolicy>,
    /// Where the learnt frequency is kept [default: /var/lib/driftless]
    #[arg(long, value_name = "D")]
    state_dir: Option<PathBuf>,
    /// Control socket [default: /run/driftless/control.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// In the background, once it keeps the clock; logs to the system's log then
    #[arg(long)]
    background: bool,
    /// Where the process's number is written [default with --background: /run/driftless/driftless.pid]
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// As `--background` starts itself
    #[arg(long, hide = true)]
    detached: bool,
    /// One thread, plain system calls, waiting in poll only: for time simulators
    #[arg(long)]
    plain_io: bool,
    /// Log every sample and every change of rate
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    if args.background {
        return match background::start() {
            Ok(status) => Outcome::of(status),
            Err(error) => Outcome::NotYet.told(&error),
        };
    }
    let default_pid_file = args.detached.then(|| DEFAULT_PID_FILE.into());
    let presence = Presence { pid_file: args.pid_file.or(default_pid_file), is_detached: args.detached };
    if let Err(error) = presence.detach() {
        return Outcome::NotYet.told(&error);
    }
    let flags = Flags {
        file: args.config,
        sources: args.source,
        step: args.step,
        dntpd: None,
        observe: args.observe,
        plain_io: args.plain_io,
        control: args.control,
        state_dir: args.state_dir,
        verbose: args.verbose,
    };
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    log::start(config.verbose.value);
    match daemon::run(&flags, config, &presence) {
        Ok(()) => Outcome::Done,
        Err(error @ (RunError::Spec(_) | RunError::Config(_))) => Outcome::Wrong.told(&error),
        Err(error @ RunError::NotPermitted(_)) => Outcome::NotPermitted.told(&error),
        Err(error) => Outcome::NotYet.told(&error),
    }
}
