//! The host's time server: requests in, replies out, and this machine's clock is only ever read.
//!
//! One loop a thread. The first has everything: datagrams, guests' streams, signals, the control socket and the watch over this host's clock;
//! further ones, when asked for, have sockets of their own on the same addresses and nothing else. What is decided, is decided at the desk that
//! all of them share, under one lock a batch: the system calls, which cost fifty times more, are made outside of it.

mod datagrams;
mod desk;
mod folder;
mod guests;
mod keeper;
mod report;
mod upkeep;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use driftless_core::server::{Counters, Prefix, Rate};
use driftless_core::time::Span;
use driftless_linux::clock_set::ClockSet;
use driftless_linux::inherited::{self, Inherited};
use driftless_linux::signal::Signals;
use driftless_linux::wait::{Waiter, raise_descriptor_limit};

use crate::control::{Listener, Request};

use datagrams::{Datagrams, Thread};
use desk::Desk;
use folder::{GuestFolder, Patience};
use guests::Guests;
use upkeep::Upkeep;

/// What to serve, where, to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Ports to listen on for guests that come over vsock.
    pub vsock: Vec<u32>,
    /// Unix sockets to listen on.
    pub uds: Vec<PathBuf>,
    /// Folders with hypervisors' sockets: guests are listened for beside each of these.
    pub uds_dir: Vec<PathBuf>,
    /// The port that these guests connect to.
    pub uds_port: u32,
    /// Serve the host's clock right or wrong, for its own guests.
    pub as_is: bool,
    /// Who may ask besides loopback, link-local clients and this host's guests.
    pub allow: Vec<Prefix>,
    /// Who may not.
    pub deny: Vec<Prefix>,
    /// How often each may.
    pub rate: Rate,
    /// Loops for datagrams.
    pub threads: u16,
    /// Where `driftless serve --status` asks; None for nowhere.
    pub control: Option<PathBuf>,
    /// The control socket of the daemon that keeps this host's clock, if there is one.
    pub daemon: PathBuf,
    /// One datagram a call, `poll`, one thread.
    pub plain_io: bool,
}

/// Where the server is asked how it is doing.
pub const DEFAULT_CONTROL: &str = "/run/driftless/serve.sock";
/// The port of NTP over UDP, and ours over vsock.
pub const NTP_PORT: u16 = 123;
/// More loops than this gain nothing.
pub const THREADS_MAX: u16 = 64;

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {place}: {error}{}", advice(error))]
    Bind {
        /// Which.
        place: String,
        /// What the system says.
        error: io::Error,
    },
    /// Neither an option nor whoever started us says where to listen.
    #[error("nowhere to listen: write --listen ADDR:PORT, --vsock PORT, --uds PATH or --uds-dir FOLDER")]
    Nowhere,
    /// Waiting failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What may wake the first loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// A socket for datagrams.
    Datagrams(u32),
    /// One that guests come to.
    Listener(u32),
    /// One guest's stream.
    Stream(u32),
    Signal,
    ClockSet,
    Control,
    Folder(u32),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`].
pub fn serve(options: &Options) -> Result<Counters, ServeError> {
    let inherited = inherited::take(options.plain_io)?;
    let signals = Signals::install()?;
    let descriptors = raise_descriptor_limit().unwrap_or(1_024);
    let desk = Arc::new(Desk::new(options));
    let waiter = Waiter::new(options.plain_io);
    let mut server = Server {
        datagrams: Datagrams::default(),
        guests: Guests::new(descriptors),
        folders: Vec::new(),
        upkeep: Upkeep::new(options),
        clock_set: ClockSet::arm().ok(),
        control: None,
        threads: Vec::new(),
        waiter,
        desk,
    };
    server.open(options, inherited)?;
    server.listen_for_questions(options);
    server.run(&signals)?;
    let counters = server.desk.counters();
    log::info!("ending; {counters}");
    Ok(counters)
}

/// The first loop.
struct Server {
    datagrams: Datagrams,
    guests: Guests,
    folders: Vec<GuestFolder>,
    upkeep: Upkeep,
    /// Set, or woken from sleep: this host's guests must look at once. Where it cannot be had the clocks are compared.
    clock_set: Option<ClockSet>,
    control: Option<Listener>,
    threads: Vec<Thread>,
    waiter: Waiter,
    desk: Arc<Desk>,
}

impl Server {
    fn run(&mut self, signals: &Signals) -> Result<(), ServeError> {
        let fixed = [
            (Door::Signal, signals.wake()),
            (Door::ClockSet, self.clock_set.as_ref().map(|timer| timer.as_fd())),
            (Door::Control, self.control.as_ref().map(|listener| listener.as_fd())),
        ];
        for (door, fd) in fixed.into_iter().filter_map(|(door, fd)| Some((door, fd?))) {
            self.waiter.add(fd, door.token())?;
        }
        let (mut ready, mut left) = (Vec::new(), Span::ZERO);
        while !signals.should_end() {
            if let Err(error) = self.waiter.wait(Some(left), &mut ready) {
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error.into());
                }
            }
            for door in ready.drain(..).filter_map(Door::of) {
                match door {
                    Door::Signal => signals.drain(),
                    door => self.serve(door),
                }
            }
            left = self.upkeep.left();
            if left <= Span::ZERO {
                if self.upkeep.look(&self.desk) {
                    self.tell_guests();
                }
                for folder in &mut self.folders {
                    folder.look(Patience::Over, &mut self.guests, &mut self.waiter);
                }
                left = self.upkeep.left();
            }
        }
        Ok(())
    }

    fn serve(&mut self, door: Door) {
        match door {
            Door::Datagrams(index) => self.datagrams.turn(index, &self.desk),
            Door::Listener(index) => self.guests.take(index, &mut self.waiter),
            Door::Stream(index) => self.guests.turn(index, &self.desk, &mut self.waiter),
            Door::Folder(index) => {
                let folder = usize::try_from(index).ok().and_then(|index| self.folders.get_mut(index));
                if let Some(folder) = folder {
                    folder.look(Patience::None, &mut self.guests, &mut self.waiter);
                }
            }
            Door::Control => {
                let answer = |request| match request {
                    Request::Status => Ok(report::status(self)),
                    _ => Err("a time server only tells its status".to_owned()),
                };
                if let Some(listener) = &self.control {
                    listener.serve(answer);
                }
            }
            Door::ClockSet => self.clock_was_set(),
            Door::Signal => {}
        }
    }

    fn clock_was_set(&mut self) {
        let Some(mut timer) = self.clock_set.take() else { return };
        // Armed anew it is another descriptor. One that fails is not waited for any more.
        self.waiter.remove(timer.as_fd());
        let was_set = timer.take();
        if was_set.is_ok() && self.waiter.add(timer.as_fd(), Door::ClockSet.token()).is_ok() {
            self.clock_set = Some(timer);
        }
        if was_set.is_ok_and(|was_set| was_set) {
            self.desk.interrupted();
            self.tell_guests();
        }
    }

    /// This host's clock was set, or it slept: what its guests knew of it is old.
    fn tell_guests(&mut self) {
        let packet = self.desk.look_now();
        let told = self.guests.tell_all(&packet, &mut self.waiter);
        log::info!("this host's clock was set, or it slept: told {told} guest(s) to look");
        self.upkeep.told(told);
    }

    /// Opens all that is served on.
    fn open(&mut self, options: &Options, inherited: Vec<Inherited>) -> Result<(), ServeError> {
        let mut is_anywhere = !inherited.is_empty();
        for socket in inherited {
            match socket {
                Inherited::Datagrams(socket) => self.datagrams.push(socket, &mut self.waiter)?,
                Inherited::Streams(listener) => {
                    self.guests.push(listener, "inherited".to_owned(), &mut self.waiter)?;
                }
            }
        }
        let mut listen = options.listen.clone();
        let has_other = !options.vsock.is_empty() || !options.uds.is_empty() || !options.uds_dir.is_empty();
        if listen.is_empty() && !has_other && !is_anywhere {
            listen.push(SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, NTP_PORT)));
        }
        is_anywhere |= has_other || !listen.is_empty();
        self.threads = datagrams::open(&mut self.datagrams, &mut self.waiter, &listen, options, &self.desk)?;
        for port in &options.vsock {
            let place = format!("vsock port {port}");
            self.guests
                .listen_vsock(*port, &place, &mut self.waiter)
                .map_err(|error| ServeError::Bind { place, error })?;
        }
        for path in &options.uds {
            let bound = self.guests.listen_unix(path, &mut self.waiter);
            bound.map_err(|error| ServeError::Bind { place: path.display().to_string(), error })?;
        }
        for (index, path) in (0..).zip(&options.uds_dir) {
            let door = Door::Folder(index);
            let folder = GuestFolder::open(path, options.uds_port, door, &mut self.guests, &mut self.waiter);
            let place = path.display().to_string();
            self.folders.push(folder.map_err(|error| ServeError::Bind { place, error })?);
        }
        let places: Vec<String> = self
            .datagrams
            .places()
            .chain(self.guests.places())
            .chain(self.folders.iter().map(GuestFolder::place))
            .collect();
        log::info!("serving {} on {}", options.what(), places.join(", "));
        if is_anywhere { Ok(()) } else { Err(ServeError::Nowhere) }
    }

    /// The control socket is no part of serving: without one the server serves.
    fn listen_for_questions(&mut self, options: &Options) {
        let Some(path) = &options.control else { return };
        match Listener::bind(path) {
            Ok(listener) => self.control = Some(listener),
            Err(error) => log::info!(
                "{}: {error}; `driftless serve --status` will not find this server there",
                path.display()
            ),
        }
    }
}

impl Door {
    /// As a number for [`Waiter`].
    pub(crate) fn token(self) -> u64 {
        let (kind, index) = match self {
            Self::Datagrams(index) => (0_u64, index),
            Self::Listener(index) => (1, index),
            Self::Stream(index) => (2, index),
            Self::Signal => (3, 0),
            Self::ClockSet => (4, 0),
            Self::Control => (5, 0),
            Self::Folder(index) => (6, index),
        };
        kind << 32 | u64::from(index)
    }

    fn of(token: u64) -> Option<Self> {
        let index = u32::try_from(token & u64::from(u32::MAX)).ok()?;
        Some(match token >> 32 {
            0 => Self::Datagrams(index),
            1 => Self::Listener(index),
            2 => Self::Stream(index),
            3 => Self::Signal,
            4 => Self::ClockSet,
            5 => Self::Control,
            6 => Self::Folder(index),
            _ => return None,
        })
    }
}

impl Options {
    const fn what(&self) -> &'static str {
        if self.as_is { "this host's clock as it is" } else { "network time" }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: try --listen ADDRESS:11123"
        }
        io::ErrorKind::AddrInUse => "; another server is there: stop it or choose another port with --listen",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::NotFound => "; there is no such folder, or no such device",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn options() -> Options {
        Options {
            listen: Vec::new(),
            vsock: Vec::new(),
            uds: Vec::new(),
            uds_dir: Vec::new(),
            uds_port: u32::from(NTP_PORT),
            as_is: true,
            allow: Vec::new(),
            deny: Vec::new(),
            rate: Rate::default(),
            threads: 1,
            control: None,
            daemon: PathBuf::from("/nonexistent/control.sock"),
            plain_io: false,
        }
    }

    #[test]
    fn doors_are_known_by_their_numbers() {
        for door in [
            Door::Datagrams(0),
            Door::Listener(7),
            Door::Stream(u32::MAX),
            Door::Signal,
            Door::ClockSet,
            Door::Control,
            Door::Folder(2),
        ] {
            assert_eq!(Door::of(door.token()), Some(door));
        }
        assert_eq!(Door::of(u64::MAX), None);
    }
}
