//! The guest's daemon: a `poll(2)` loop round the engine. It decides nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use driftless_core::clock::{Clock, ClockCommand, ClockError};
use driftless_core::engine::{self, Engine, Input, Leave, Order, Output};
use driftless_core::source::{LookError, Peer, SourceId};
use driftless_core::time::{Now, RawTime, Seconds, Span};
use driftless_linux::clock::clock;
use driftless_linux::entropy::KernelEntropy;
use driftless_linux::poll;
use driftless_linux::signal::Signals;
use driftless_linux::socket::RequestSocket;
use serde_json::Value;

use crate::civil;
use crate::config::{Config, ConfigError, Flags};
use crate::control::{Listener, Request};
use crate::log::event;
use crate::resolve::{self, Resolver};
use crate::spec::SpecError;
use crate::state;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A source's SPEC is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A reload found the configuration wrong at start.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The clock may not be set.
    #[error("{0}; run as root or with CAP_SYS_TIME, or watch only with --observe")]
    NotPermitted(ClockError),
    /// Another daemon holds the control socket.
    #[error("{0}: another driftless is running here; stop it first, or give this one its own --control")]
    AlreadyRunning(String),
    /// The system refuses what nothing can be done without.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Everything the loop holds.
struct Daemon {
    config: Config,
    names: Vec<String>,
    clock: Box<dyn Clock>,
    engine: Engine,
    /// Each source's socket, by its number.
    sockets: Vec<Option<RequestSocket>>,
    control: Option<Listener>,
    signals: Signals,
    resolver: Resolver,
    /// When the state file was last written.
    saved: RawTime,
    /// Whether that went well: a failure is told once.
    is_kept: bool,
    refused: Option<ClockError>,
}

/// What may wake the loop.
#[derive(Debug, Clone, Copy)]
enum Waker {
    Source(SourceId),
    Control,
    Signal,
    Resolver,
}

/// How often the learnt frequency is written.
const SAVE_EVERY: Span = Span::from_secs(3_600);
/// The first time, so that an early end loses little.
const SAVE_FIRST: Span = Span::from_secs(60);
/// Room for any packet that is worth reading.
const PACKET_MAX: usize = 1_024;

/// Keeps the clock right until SIGTERM or SIGINT. SIGHUP reads the configuration again.
///
/// # Errors
/// [`RunError`]: it cannot begin, or cannot go on.
pub fn run(flags: &Flags, config: Config) -> Result<(), RunError> {
    let signals = Signals::install()?;
    let mut daemon = Daemon::new(config, signals)?;
    while !daemon.signals.should_end() {
        daemon.turn()?;
        if daemon.signals.take_reload() {
            daemon.reload(flags)?;
        }
    }
    daemon.save();
    daemon.leave();
    Ok(())
}

impl Daemon {
    fn new(config: Config, signals: Signals) -> Result<Self, RunError> {
        let mut clock = clock(config.observe.value);
        let engine = start_engine(&config, clock.as_mut())?;
        // Time simulators claim that descriptors foreign to them are readable at any time: the loop would spin.
        let has_simulated_descriptors = signals.wake().is_none();
        let control = if has_simulated_descriptors { None } else { listen(&config)? };
        let now = clock.now();
        let names = config.sources.value.clone();
        log::info!(
            "{} {}; sources: {} ({})",
            if config.observe.value { "observing, setting nothing;" } else { "keeping the clock;" },
            control.as_ref().map_or_else(
                || "no control socket".to_owned(),
                |_| config.control.value.display().to_string()
            ),
            names.join(", "),
            config.sources.origin
        );
        Ok(Self {
            sockets: names.iter().map(|_| None).collect(),
            names,
            clock,
            engine,
            control,
            signals,
            resolver: Resolver::new(config.plain_io.value || has_simulated_descriptors),
            saved: now.raw - SAVE_EVERY + SAVE_FIRST,
            is_kept: true,
            refused: None,
            config,
        })
    }

    /// Does what the engine wants, waits, and tells it what happened.
    fn turn(&mut self) -> Result<(), RunError> {
        while let Some(output) = self.engine.poll_output() {
            self.carry_out(output);
        }
        if let Some(error @ ClockError::Permission) = self.refused {
            return Err(RunError::NotPermitted(error));
        }
        let now = self.clock.now();
        if now.raw - self.saved >= SAVE_EVERY {
            self.save();
            self.saved = now.raw;
        }
        // Never without a deadline, even where nobody is left to ask.
        let next_save = self.saved + SAVE_EVERY;
        let deadline = self.engine.deadline().map_or(next_save, |deadline| deadline.min(next_save));
        // The deadline is on the counter, poll(2) waits on the steered clock.
        let timeout =
            Seconds(Seconds::from(deadline - now.raw).0 * self.engine.pace()).to_span().max(Span::ZERO);
        self.wait(timeout)
    }

    fn wait(&mut self, timeout: Span) -> Result<(), RunError> {
        // A socket is named by its source; the others have a place of their own behind them.
        let sockets = (0_u16..).zip(&self.sockets);
        let waiting: Vec<(Waker, BorrowedFd<'_>)> = sockets
            .filter_map(|(id, socket)| Some((Waker::Source(SourceId(id)), socket.as_ref()?.as_fd())))
            .chain(self.control.as_ref().map(|control| (Waker::Control, control.as_fd())))
            .chain(self.signals.wake().map(|wake| (Waker::Signal, wake)))
            .chain(self.resolver.wake().map(|wake| (Waker::Resolver, wake)))
            .collect();
        let fds: Vec<BorrowedFd<'_>> = waiting.iter().map(|(_, fd)| *fd).collect();
        let ready = match poll::wait(&fds, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            ready => ready?,
        };
        let woken: Vec<Waker> = waiting
            .iter()
            .zip(ready)
            .filter_map(|((waker, _), is_ready)| is_ready.then_some(*waker))
            .collect();
        for waker in woken {
            match waker {
                Waker::Source(id) => self.receive(id),
                Waker::Control => self.serve_control(),
                Waker::Signal => self.signals.drain(),
                Waker::Resolver => {
                    self.resolver.drain();
                    self.take_resolved();
                }
            }
        }
        let now = self.clock.now();
        self.engine.handle(now, Input::Wake);
        Ok(())
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Resolve { source, host, port } => self.resolve(source, host, port),
            Output::Transmit { source, to, data } => self.transmit(source, to, &data),
            Output::Look { source } => {
                let now = self.clock.now();
                self.engine.handle(now, Input::Reading { source, result: Err(LookError::Missing) });
            }
            Output::Clock(command) => self.command(command),
            Output::Event(told) => {
                let names = &self.names;
                event(&told, |id| names.get(usize::from(id.0)).cloned().unwrap_or_default());
            }
        }
    }

    fn resolve(&mut self, source: SourceId, host: String, port: u16) {
        if let Some(address) = resolve::literal(&host, port) {
            return self.resolved(source, vec![address]);
        }
        self.resolver.start(source, host, port);
        self.take_resolved();
    }

    fn take_resolved(&mut self) {
        while let Some((source, addresses)) = self.resolver.finished() {
            self.resolved(source, addresses);
        }
    }

    fn resolved(&mut self, source: SourceId, addresses: Vec<SocketAddr>) {
        let now = self.clock.now();
        self.engine.handle(now, Input::Resolved { source, addresses });
    }

    fn command(&mut self, command: ClockCommand) {
        let result = self.clock.apply(command);
        if let Err(error) = result {
            self.refused = Some(error);
        }
        let now = self.clock.now();
        self.engine.handle(now, Input::Clock(result));
    }

    fn transmit(&mut self, source: SourceId, to: Peer, data: &[u8; 48]) {
        let Peer::Udp(to) = to else {
            return self.failed(source, &io::ErrorKind::Unsupported.into());
        };
        let sent = RequestSocket::connect(to).and_then(|socket| {
            let at = self.clock.now();
            socket.send(data).map(|_| (socket, at))
        });
        let now = self.clock.now();
        match sent {
            Ok((socket, at)) => {
                if let Some(slot) = self.sockets.get_mut(usize::from(source.0)) {
                    *slot = Some(socket);
                }
                self.engine.handle(now, Input::Transmitted { source, at, stamp: None });
            }
            Err(error) => self.failed(source, &error),
        }
    }

    fn receive(&mut self, source: SourceId) {
        let Some(Some(socket)) = self.sockets.get(usize::from(source.0)) else { return };
        let mut buffer = [0; PACKET_MAX];
        match socket.recv(&mut buffer) {
            Ok((length, from, stamp)) => {
                let now = self.clock.now();
                let data = buffer.get(..length).unwrap_or_default();
                self.engine.handle(now, Input::Datagram { source, from: from.into(), data, stamp });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.failed(source, &error),
        }
    }

    fn failed(&mut self, source: SourceId, error: &io::Error) {
        if let Some(slot) = self.sockets.get_mut(usize::from(source.0)) {
            *slot = None;
        }
        let now = self.clock.now();
        let errno = error.raw_os_error().unwrap_or(0);
        self.engine.handle(now, Input::TransmitFailed { source, errno });
    }

    fn serve_control(&mut self) {
        let Some(control) = self.control.take() else { return };
        control.serve(|request: Request| {
            let now = self.clock.now();
            if let Some(order) = request.order() {
                self.engine.handle(now, Input::Order(order));
                while let Some(output) = self.engine.poll_output() {
                    self.carry_out(output);
                }
            }
            let now = self.clock.now();
            status(&self.engine, now)
        });
        self.control = Some(control);
    }

    fn reload(&mut self, flags: &Flags) -> Result<(), RunError> {
        match Config::load(flags) {
            Ok(config) => {
                log::info!("configuration read again");
                self.save();
                self.engine = start_engine(&config, self.clock.as_mut())?;
                self.names = config.sources.value.clone();
                self.sockets = self.names.iter().map(|_| None).collect();
                self.config = config;
            }
            Err(error) => log::warn!("{error}; going on as before"),
        }
        Ok(())
    }

    /// Leaves the clock as the configuration says.
    fn leave(&mut self) {
        let now = self.clock.now();
        self.engine.handle(now, Input::Order(Order::Leave));
        while let Some(output) = self.engine.poll_output() {
            if let Output::Clock(command) = output {
                self.command(command);
            }
        }
        let left = match self.config.leave.value {
            Leave::Learnt => "the learnt frequency",
            Leave::Restore => "the rate that was found",
        };
        log::info!(
            "ending; the kernel keeps {}",
            if self.config.observe.value { "what it has" } else { left }
        );
    }

    fn save(&mut self) {
        let now = self.clock.now();
        let Some(learnt) = self.engine.learnt_frequency(now) else { return };
        let result = state::save(&self.config.state_dir.value, learnt);
        let was_kept = std::mem::replace(&mut self.is_kept, result.is_ok());
        if let (Err(error), true) = (result, was_kept) {
            log::warn!(
                "{}: the learnt frequency is not kept: {error}",
                self.config.state_dir.value.display()
            );
        }
    }
}

/// An engine that knows what the last run learnt.
fn start_engine(config: &Config, clock: &mut dyn Clock) -> Result<Engine, RunError> {
    let prior = state::load(&config.state_dir.value).unwrap_or_else(|error| {
        log::warn!("{}: {error}", config.state_dir.value.join(state::FILE).display());
        None
    });
    let settings = engine::Config {
        sources: config.source_configs()?,
        policy: config.policy.value,
        step: config.step.value,
        other_writer: config.other_writer.value,
        leave: config.leave.value,
        method: config.method.value,
        observe: config.observe.value,
        prior,
    };
    Ok(Engine::new(settings, clock.now(), Box::new(KernelEntropy)))
}

fn listen(config: &Config) -> Result<Option<Listener>, RunError> {
    let path = &config.control.value;
    match Listener::bind(path) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(RunError::AlreadyRunning(path.display().to_string()))
        }
        Err(error) => {
            log::warn!("{}: no control socket: {error}; going on without", path.display());
            Ok(None)
        }
    }
}

/// The report as JSON, with what only the driver knows.
fn status(engine: &Engine, now: Now) -> Value {
    let mut report = engine.report(now);
    report.clocksource = Some(state::clocksource());
    let last_update = report.last_update;
    let mut value = serde_json::to_value(&report).unwrap_or_default();
    value["last_update"] = last_update.map_or(Value::Null, |time| civil::rfc3339(time).into());
    if let Some(last) = &report.last_interruption {
        value["last_interruption"]["time"] = civil::rfc3339(last.at).into();
    }
    value["time"] = civil::rfc3339(now.wall).into();
    value
}

/// Watches `config`'s sources without setting anything until the offset is known to better than `max_bound`, or `patience` is over.
/// Returns the last report.
///
/// # Errors
/// As [`run`].
pub fn observe_once(mut config: Config, max_bound: Seconds, patience: Span) -> Result<Value, RunError> {
    config.observe.value = true;
    let signals = Signals::install()?;
    config.control.value = std::env::temp_dir().join(format!("driftless-once-{}.sock", std::process::id()));
    let mut daemon = Daemon::new(config, signals)?;
    let end = daemon.clock.now().raw + patience;
    loop {
        daemon.turn()?;
        let now = daemon.clock.now();
        let report = daemon.engine.report(now);
        let is_known = report.offset_bound.is_some_and(|bound| bound < max_bound.0)
            && report.sources.iter().any(|source| source.samples >= 3);
        if is_known || now.raw >= end || daemon.signals.should_end() {
            return Ok(status(&daemon.engine, now));
        }
    }
}
