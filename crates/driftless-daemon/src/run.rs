//! The guest's daemon: a `poll(2)` loop round the engine. It decides nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use driftless_core::clock::{Clock, ClockCommand, ClockError, Rate};
use driftless_core::engine::{self, Engine, Input, Leave, Order, Output};
use driftless_core::event::Event;
use driftless_core::source::push::Push;
use driftless_core::source::{Peer, SourceConfig, SourceId};
use driftless_core::time::{Now, RawTime, Seconds, Span};
use driftless_linux::clock::clock;
use driftless_linux::entropy::KernelEntropy;
use driftless_linux::footprint;
use driftless_linux::poll::{self, Direction};
use driftless_linux::signal::Signals;

use crate::background::Presence;
use crate::chronyc::{Chronyc, Desk};
use crate::config::{Config, ConfigError, Flags};
use crate::consequences::Consequences;
use crate::control::Listener;
use crate::devices::Devices;
use crate::discovery::Search;
use crate::links::{Arrival, Links, PACKET_MAX};
use crate::pushes::{Mail, Pushes};
use crate::resolve::{self, Resolver};
use crate::signs::{Signs, Watched};
use crate::spec::SpecError;
use crate::state::{self, Memory};

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
pub(crate) struct Daemon {
    pub(crate) config: Config,
    pub(crate) sources: Vec<SourceConfig>,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) engine: Engine,
    links: Links,
    devices: Devices,
    pub(crate) control: Option<Listener>,
    pub(crate) chronyc: Chronyc,
    pub(crate) signals: Signals,
    resolver: Resolver,
    /// Only the plainest system calls.
    is_plain: bool,
    signs: Signs,
    pushes: Pushes,
    pub(crate) consequences: Consequences,
    memory: Memory,
    search: Search,
    /// When the engine was last told something.
    now: Now,
    refused: Option<ClockError>,
}

/// What may wake the loop.
#[derive(Debug, Clone, Copy)]
enum Waker {
    Link(SourceId),
    Device,
    Control,
    Signal,
    Resolver,
    Search,
    Sign(Watched),
    Mail(Mail),
    Chronyc(Desk),
}

/// When the pages that only the start needed are let go, and how often those needed once since.
const LEAN_FIRST: Span = Span::from_secs(5);
const LEAN_EVERY: Span = Span::from_secs(600);
/// `ECONNRESET`: what is told of a stream that ended before its answer.
const CONNECTION_RESET: i32 = 104;

/// Keeps the clock right until SIGTERM or SIGINT. SIGHUP reads the configuration again.
///
/// # Errors
/// [`RunError`]: it cannot begin, or cannot go on.
pub fn run(flags: &Flags, config: Config, presence: &Presence) -> Result<(), RunError> {
    let signals = Signals::install()?;
    let mut daemon = Daemon::new(config, signals, false)?;
    // The first look comes before whatever can wait.
    daemon.act()?;
    let _pid_file = presence.announce()?;
    daemon.open();
    daemon.live(flags).inspect_err(|error| {
        if presence.is_detached {
            log::error!("{error}");
        }
    })?;
    let now = daemon.clock.now();
    daemon.memory.save(&daemon.engine, now);
    daemon.leave();
    Ok(())
}

impl Daemon {
    /// `is_brief`: a look that is over soon. It watches for nothing, and nobody asks it anything.
    pub(crate) fn new(config: Config, signals: Signals, is_brief: bool) -> Result<Self, RunError> {
        let mut clock = clock(config.observe.value);
        // Time simulators claim that descriptors foreign to them are readable at any time: the loop would spin.
        let has_simulated_descriptors = signals.wake().is_none();
        let is_plain = config.plain_io.value || has_simulated_descriptors;
        let mut sources = config.source_configs()?;
        let signs = if is_brief { Signs::default() } else { Signs::beside(&mut sources, is_plain) };
        let engine = start_engine(&config, &sources, clock.as_mut(), None);
        let control = if has_simulated_descriptors || is_brief { None } else { listen(&config)? };
        let now = clock.now();
        log::info!(
            "{} {}; sources: {} ({})",
            if config.observe.value { "observing, setting nothing;" } else { "keeping the clock;" },
            control.as_ref().map_or_else(
                || "no control socket".to_owned(),
                |_| config.control.value.display().to_string()
            ),
            config.sources.value.join(", "),
            config.sources.origin
        );
        config.found.iter().for_each(|line| log::info!("{line}"));
        Ok(Self {
            links: Links::new(&sources),
            devices: Devices::new(&sources),
            sources,
            clock,
            engine,
            control,
            signals,
            resolver: Resolver::new(is_plain),
            is_plain,
            memory: Memory::new(&config.state_dir.value, is_plain, now.raw),
            search: Search::new(now.raw, is_plain, config.glance.as_ref().filter(|_| !is_brief)),
            now,
            signs,
            pushes: Pushes::default(),
            chronyc: Chronyc::default(),
            consequences: Consequences::new(&config, is_plain, now),
            refused: None,
            config,
        })
    }

    /// Hears the host, and chronyc, from now on.
    fn open(&mut self) {
        if !self.is_plain {
            // Closed first, since what is opened may have the same name.
            self.pushes = Pushes::default();
            self.pushes = Pushes::listen(&self.config);
            self.chronyc = Chronyc::default();
            let config = &self.config;
            self.chronyc = Chronyc::listen(&config.chronyc_socket.value, config.chronyc_port.value);
        }
    }

    /// Until somebody ends it: does what the engine wants, waits, and tells it what happened.
    fn live(&mut self, flags: &Flags) -> Result<(), RunError> {
        let mut lean_at = self.now.raw + LEAN_FIRST;
        while !self.signals.should_end() {
            self.act()?;
            self.rest()?;
            if self.now.raw >= lean_at && !self.is_plain {
                footprint::release_files();
                lean_at = self.now.raw + LEAN_EVERY;
            }
            if self.signals.take_reload() {
                self.reload(flags)?;
            }
        }
        Ok(())
    }

    /// Does what the engine wants.
    pub(crate) fn act(&mut self) -> Result<(), RunError> {
        while let Some(output) = self.engine.poll_output() {
            self.carry_out(output);
        }
        if let Some(error @ ClockError::Permission) = self.refused {
            return Err(RunError::NotPermitted(error));
        }
        Ok(())
    }

    /// Waits until something happens or is due.
    pub(crate) fn rest(&mut self) -> Result<(), RunError> {
        let now = self.clock.now();
        self.memory.turn(&self.engine, now);
        self.consequences.turn(now);
        self.pushes.turn(now.raw);
        // Not the clock's own pace, which has slews of some percent in it.
        let true_pace = 1.0 + self.engine.learnt_frequency(now).map_or(0.0, |learnt| learnt.frequency.0);
        // Never without a deadline, even where nobody is left to ask.
        let due = (self.engine.deadline().into_iter())
            .chain(self.signs.deadline(true_pace))
            .chain(self.consequences.deadline())
            .chain(self.pushes.deadline())
            .chain(self.search.due())
            .fold(self.memory.deadline(), RawTime::min);
        let left = self.devices.wait().map_or(due - now.raw, |wait| wait.min(due - now.raw)).max(Span::ZERO);
        // Deadlines are on the counter, poll(2) waits on the steered clock.
        let pace = self.engine.pace();
        self.wait(Seconds(Seconds::from(left).0 * pace).to_span())?;
        // A reply may have settled already what the signs are about to speak of.
        self.act()?;
        let due = now.raw + left;
        let now = self.clock.now();
        for sign in self.signs.after_wait(now.raw, due, true_pace) {
            self.tell(Input::Sign(sign));
        }
        for (source, result) in self.devices.turn() {
            self.tell(Input::Reading { source, result });
        }
        self.tell(Input::Wake);
        self.search(now)
    }

    fn wait(&mut self, timeout: Span) -> Result<(), RunError> {
        let others = (self.devices.waiting().map(|fd| (Waker::Device, fd)))
            .chain(self.control.as_ref().map(|control| (Waker::Control, control.as_fd())))
            .chain(self.signals.wake().map(|wake| (Waker::Signal, wake)))
            .chain(self.resolver.wake().map(|wake| (Waker::Resolver, wake)))
            .chain(self.search.waiting().map(|fd| (Waker::Search, fd)))
            .chain(self.signs.waiting().map(|(watched, fd)| (Waker::Sign(watched), fd)))
            .chain(self.pushes.waiting().map(|(mail, fd)| (Waker::Mail(mail), fd)))
            .chain(self.chronyc.waiting().map(|(desk, fd)| (Waker::Chronyc(desk), fd)));
        let (wakers, fds): (Vec<Waker>, Vec<(BorrowedFd<'_>, Direction)>) =
            (self.links.waiting().map(|(id, fd, direction)| (Waker::Link(id), (fd, direction))))
                .chain(others.map(|(waker, fd)| (waker, (fd, Direction::In))))
                .unzip();
        let ready = match poll::wait_for(&fds, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            ready => wakers.into_iter().zip(ready?).filter(|(_, is_ready)| *is_ready),
        };
        let mut ready: Vec<Waker> = ready.map(|(waker, _)| waker).collect();
        // Signs first: what replies say is judged by them.
        ready.sort_by_key(|waker| !matches!(waker, Waker::Sign(_)));
        let mut mails = Vec::new();
        for waker in ready {
            match waker {
                Waker::Mail(mail) => mails.push(mail),
                Waker::Link(id) => self.receive(id),
                // Each wake goes on with them.
                Waker::Device => {}
                Waker::Control => self.serve_control(),
                Waker::Chronyc(desk) => self.serve_chronyc(desk),
                Waker::Signal => self.signals.drain(),
                Waker::Search => self.search.woken(self.clock.now().raw),
                Waker::Sign(watched) => {
                    if let Some(sign) = self.signs.woken(watched) {
                        self.tell(Input::Sign(sign));
                    }
                }
                Waker::Resolver => {
                    self.resolver.drain();
                    self.take_resolved();
                }
            }
        }
        let now = self.clock.now();
        for push in self.pushes.take(&mails, now) {
            self.tell(Input::Push(push));
        }
        Ok(())
    }

    /// Feeds the engine, under a fresh reading of the clocks.
    pub(crate) fn tell(&mut self, input: Input<'_>) {
        self.now = self.clock.now();
        self.engine.handle(self.now, input);
    }

    pub(crate) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Resolve { source, host, port } => self.resolve(source, host, port),
            Output::Transmit { source, to, data } => self.transmit(source, to, &data),
            Output::Look { source } => {
                if let Some(result) = self.devices.look(source) {
                    self.tell(Input::Reading { source, result });
                }
            }
            Output::Clock(command) => self.command(command),
            Output::Event(event) => self.happened(&event),
        }
    }

    fn happened(&mut self, event: &Event) {
        if matches!(event, Event::Interrupted(_)) {
            self.signs.interrupted();
            self.search.hurry(self.now.raw);
        }
        let now = self.now;
        let name =
            |index: usize| self.sources.get(index).map(|source| source.name.clone()).unwrap_or_default();
        self.consequences.heard(now, event, name, || self.engine.report(now).offset);
        self.pushes.heard(event);
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
        self.tell(Input::Resolved { source, addresses });
    }

    fn command(&mut self, command: ClockCommand) {
        let result = self.clock.apply(command);
        if let Err(error) = result {
            self.refused = Some(error);
        }
        if matches!(command, ClockCommand::Step(_)) {
            self.signs.stepped();
        }
        self.tell(Input::Clock(result));
    }

    fn transmit(&mut self, source: SourceId, to: Peer, data: &[u8; 48]) {
        match self.links.transmit(source, to, data, self.clock.as_mut()) {
            Ok(Some(at)) => self.tell(Input::Transmitted { source, at, stamp: None }),
            // It leaves once the stream is connected.
            Ok(None) => {}
            Err(error) => self.failed(source, &error),
        }
    }

    fn receive(&mut self, source: SourceId) {
        let mut buffer = [0; PACKET_MAX];
        match self.links.ready(source, self.clock.as_mut(), &mut buffer) {
            Ok(Arrival::Nothing) => {}
            Ok(Arrival::Left(at)) => self.tell(Input::Transmitted { source, at, stamp: None }),
            Ok(Arrival::Packet(data, from, stamp)) => {
                self.tell(Input::Datagram { source, from, data, stamp });
            }
            Ok(Arrival::LookNow) => self.tell(Input::Push(Push::Look)),
            Err(error) => self.failed(source, &error),
        }
    }

    fn failed(&mut self, source: SourceId, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(CONNECTION_RESET);
        self.tell(Input::TransmitFailed { source, errno });
    }

    fn reload(&mut self, flags: &Flags) -> Result<(), RunError> {
        match Config::load(flags) {
            Ok(config) => {
                log::info!("configuration read again");
                let now = self.clock.now();
                self.consequences = Consequences::new(&config, self.is_plain, now);
                self.search = Search::new(now.raw, self.is_plain, config.glance.as_ref());
                self.config = config;
                self.begin_anew()?;
                self.open();
            }
            Err(error) => log::warn!("{error}; going on as before"),
        }
        Ok(())
    }

    /// Asks the configured sources, whoever was asked before.
    fn begin_anew(&mut self) -> Result<(), RunError> {
        let now = self.clock.now();
        self.memory.save(&self.engine, now);
        self.sources = self.config.source_configs()?;
        self.signs = Signs::beside(&mut self.sources, self.is_plain);
        let found = self.engine.found_rate();
        self.engine = start_engine(&self.config, &self.sources, self.clock.as_mut(), found);
        self.links = Links::new(&self.sources);
        self.devices = Devices::new(&self.sources);
        Ok(())
    }

    /// Nobody configured a source: something better may have come up since.
    fn search(&mut self, now: Now) -> Result<(), RunError> {
        let report = || self.engine.report(now);
        let Some(found) = self.search.turn(now.raw, &self.config.sources.value, report) else {
            return Ok(());
        };
        found.why.iter().for_each(|line| log::info!("{line}"));
        (self.config.sources.value, self.config.found) = (found.sources, found.why);
        self.begin_anew()
    }

    /// Leaves the clock as the configuration says.
    fn leave(&mut self) {
        self.tell(Input::Order(Order::Leave));
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
}

/// An engine that knows what the last run learnt, and what the clock was like before this one's first.
fn start_engine(
    config: &Config,
    sources: &[SourceConfig],
    clock: &mut dyn Clock,
    found: Option<Rate>,
) -> Engine {
    let prior = state::load(&config.state_dir.value).unwrap_or_else(|error| {
        log::warn!("{}: {error}", config.state_dir.value.join(state::FILE).display());
        None
    });
    let settings = engine::Config {
        sources: sources.to_vec(),
        policy: config.policy.value,
        step: config.step.value,
        other_writer: config.other_writer.value,
        leave: config.leave.value,
        method: config.method.value,
        dntpd: config.dntpd,
        observe: config.observe.value,
        prior,
        found,
    };
    Engine::new(settings, clock.now(), Box::new(KernelEntropy))
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

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::clock::{ClockState, Leap};
    use driftless_core::source::{Reading, TimeScale};
    use driftless_core::time::{Frequency, WallTime};
    use std::cell::Cell;
    use std::rc::Rc;

    /// A clock in memory, a second older at each reading.
    struct Fake {
        seconds: i64,
        rate: Rc<Cell<Rate>>,
    }

    impl Clock for Fake {
        fn now(&mut self) -> Now {
            self.seconds += 1;
            Now {
                raw: RawTime::from_parts(self.seconds, 0),
                wall: WallTime::from_parts(1_800_000_000 + self.seconds, 0),
            }
        }

        fn apply(&mut self, command: ClockCommand) -> Result<ClockState, ClockError> {
            if let ClockCommand::SetRate(rate) = command {
                self.rate.set(rate);
            }
            Ok(ClockState {
                rate: self.rate.get(),
                synchronised: false,
                max_error: Seconds::ZERO,
                est_error: Seconds::ZERO,
                tai: 0,
                pending: Span::ZERO,
            })
        }
    }

    fn look(daemon: &mut Daemon) {
        daemon.act().unwrap();
        let at = daemon.clock.now();
        let reading = Reading {
            at,
            width: Span::ZERO,
            device_ns: at.wall.as_nanos(),
            scale: TimeScale::Utc,
            dispersion: Seconds(1e-3),
            leap: Leap::None,
        };
        daemon.tell(Input::Reading { source: SourceId(0), result: Ok(reading) });
        daemon.act().unwrap();
    }

    #[test]
    fn what_was_there_at_the_start_is_restored_however_often_the_sources_were_changed_since() {
        let directory = tempfile::tempdir().unwrap();
        let flags = Flags {
            sources: vec!["rtc:/dev/driftless-none".to_owned()],
            observe: true,
            control: Some(directory.path().join("control.sock")),
            state_dir: Some(directory.path().to_owned()),
            ..Flags::default()
        };
        let mut daemon =
            Daemon::new(Config::load(&flags).unwrap(), Signals::install().unwrap(), true).unwrap();
        let found = Rate { tick: 10_010, frequency: Frequency::from_ppm(5.0) };
        let rate = Rc::new(Cell::new(found));
        daemon.clock = Box::new(Fake { seconds: 0, rate: Rc::clone(&rate) });
        daemon.config.observe.value = false;
        daemon.config.leave.value = Leave::Restore;
        daemon.engine = start_engine(&daemon.config, &daemon.sources, daemon.clock.as_mut(), None);
        look(&mut daemon);
        assert_ne!(rate.get(), found, "it steers");
        for _ in 0..2 {
            daemon.begin_anew().unwrap();
            look(&mut daemon);
        }
        daemon.leave();
        assert_eq!(rate.get(), found);
    }
}
