//! The host's time server: requests in, replies out, and this machine's clock is only ever read.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use driftless_core::clock::{Clock as _, ClockCommand, Leap};
use driftless_core::server::{AccessList, Drop, Prefix, Reply, ServerState};
use driftless_core::time::{Now, Seconds, Span, WallTime};
use driftless_core::wire::{Header, Mode, NtpTimestamp};
use driftless_linux::clock::ObservedClock;
use driftless_linux::clock_set::ClockSet;
use driftless_linux::poll;
use driftless_linux::signal::Signals;
use driftless_linux::socket::ServerSocket;

use crate::guests::{self, Door, Guests};

/// What to serve, where, to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Ports to listen on for guests that come over vsock.
    pub vsock: Vec<u32>,
    /// Unix sockets to listen on.
    pub uds: Vec<PathBuf>,
    /// Serve the host's clock right or wrong, for its own guests.
    pub as_is: bool,
    /// Who may ask besides loopback and link-local clients.
    pub allow: Vec<Prefix>,
}

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
    /// Waiting failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What the server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Replies sent.
    pub replies: u64,
    /// Packets that are no NTP.
    pub malformed: u64,
    /// Packets that are no request.
    pub mode: u64,
    /// Requests from clients that may not ask.
    pub denied: u64,
    /// Replies that could not be sent.
    pub send_failed: u64,
}

/// Packets taken from one socket before the others get their turn.
const TURN_MAX: usize = 64;
/// Room for any packet that is worth reading; what is longer is cut and then malformed or not, as its head says.
const PACKET_MAX: usize = 1_024;
/// How long the kernel's own state is believed before it is read again.
const STATE_MAX_AGE: Span = Span::from_millis(500);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`].
pub fn serve(options: &Options) -> Result<Counters, ServeError> {
    let signals = Signals::install()?;
    let sockets = bind(options)?;
    let mut guests = admit(options)?;
    // Set, or woken from sleep: this host's guests must look at once. Where it cannot be had they see it by themselves.
    let mut clock_set = ClockSet::arm().ok();
    let access = AccessList::with(&options.allow);
    let mut server = Server { as_is: options.as_is, access, state: None, counters: Counters::default() };
    while !signals.should_end() {
        let woken = match wait(&sockets, &guests, &signals, clock_set.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            woken => woken?,
        };
        let mut doors = Vec::new();
        for waker in woken {
            match waker {
                Waker::Socket(index) => sockets.get(index).into_iter().for_each(|socket| server.turn(socket)),
                Waker::Door(door) => doors.push(door),
                Waker::Signal => signals.drain(),
                Waker::ClockSet => {
                    // A timer that fails is not waited on any more.
                    let was_set = clock_set.as_mut().map(ClockSet::take);
                    match was_set {
                        Some(Ok(true)) => server.tell_guests(&mut guests),
                        Some(Ok(false)) => {}
                        _ => clock_set = None,
                    }
                }
            }
        }
        guests.ready(&doors, |request| server.answer_stream(request));
    }
    log::info!("ending; {}", server.counters);
    Ok(server.counters)
}

/// What may wake the server.
#[derive(Debug, Clone, Copy)]
enum Waker {
    Socket(usize),
    Door(Door),
    Signal,
    ClockSet,
}

fn wait(
    sockets: &[ServerSocket],
    guests: &Guests,
    signals: &Signals,
    clock_set: Option<&ClockSet>,
) -> io::Result<Vec<Waker>> {
    let sockets = sockets.iter().enumerate().map(|(index, socket)| (Waker::Socket(index), socket.as_fd()));
    let (wakers, fds): (Vec<Waker>, Vec<BorrowedFd<'_>>) = sockets
        .chain(guests.waiting().map(|(door, fd)| (Waker::Door(door), fd)))
        .chain(signals.wake().map(|fd| (Waker::Signal, fd)))
        .chain(clock_set.map(|timer| (Waker::ClockSet, timer.as_fd())))
        .unzip();
    let ready = poll::wait(&fds, None)?;
    Ok(wakers.into_iter().zip(ready).filter(|(_, is_ready)| *is_ready).map(|(waker, _)| waker).collect())
}

/// One process's server.
struct Server {
    as_is: bool,
    access: AccessList,
    /// What is said of the clock, and when that was read.
    state: Option<(Now, ServerState)>,
    counters: Counters,
}

impl Server {
    fn turn(&mut self, socket: &ServerSocket) {
        let mut buffer = [0; PACKET_MAX];
        for _ in 0..TURN_MAX {
            let Ok((length, from, stamp)) = socket.recv(&mut buffer) else { return };
            let now = ObservedClock.now();
            if !self.access.allows(from.ip()) {
                self.counters.denied += 1;
                continue;
            }
            let received = stamp.filter(|stamp| *stamp <= now.wall).unwrap_or(now.wall);
            let request = buffer.get(..length).unwrap_or_default();
            let Some(reply) = self.answer(request, received, now) else { continue };
            match socket.send_to(&reply.encode_at(ObservedClock.now().wall), from) {
                Ok(_) => self.counters.replies += 1,
                Err(_) => self.counters.send_failed += 1,
            }
        }
    }

    fn answer_stream(&mut self, request: &[u8; 48]) -> Option<[u8; 48]> {
        let now = ObservedClock.now();
        let reply = self.answer(request, now.wall, now)?;
        self.counters.replies += 1;
        Some(reply.encode_at(ObservedClock.now().wall))
    }

    fn answer(&mut self, request: &[u8], received: WallTime, now: Now) -> Option<Reply> {
        let state = self.state(now);
        let counter = match state.answer(request, received) {
            Ok(reply) => return Some(reply),
            Err(Drop::Mode) => &mut self.counters.mode,
            Err(Drop::Malformed | Drop::Denied) => &mut self.counters.malformed,
        };
        *counter += 1;
        None
    }

    /// This host's clock was set, or it slept: what its guests knew of it is old.
    fn tell_guests(&mut self, guests: &mut Guests) {
        self.state = None;
        let now = ObservedClock.now();
        let state = self.state(now);
        log::info!("this host's clock was set, or it slept: telling {} guest(s) to look", guests.count());
        guests.tell_all(&look_now(&state, now.wall));
    }

    fn state(&mut self, now: Now) -> ServerState {
        match self.state {
            Some((read, state)) if now.raw - read.raw < STATE_MAX_AGE => state,
            _ => {
                let state = if self.as_is { ServerState::as_is(now.wall) } else { kernel_state(now) };
                self.state = Some((now, state));
                state
            }
        }
    }
}

/// "Look now" as an NTP broadcast packet (RFC 5905, section 9.1.1): its time, that nobody can compensate for its way, is not for use.
fn look_now(state: &ServerState, now: WallTime) -> [u8; 48] {
    let header = Header {
        leap: state.leap,
        version: 4,
        mode: Mode::Broadcast,
        stratum: if state.stratum > 15 { 0 } else { state.stratum },
        poll: 0,
        precision: state.precision,
        root_delay: driftless_core::wire::NtpShort::from_seconds(state.root_delay),
        root_dispersion: driftless_core::wire::NtpShort::from_seconds(state.root_dispersion),
        reference_id: state.reference_id,
        reference: NtpTimestamp::from_wall(state.reference),
        origin: NtpTimestamp::ZERO,
        receive: NtpTimestamp::ZERO,
        transmit: NtpTimestamp::from_wall(now),
    };
    header.encode()
}

/// What the kernel knows of its clock: unsynchronised when nobody keeps it. Its maximum error stands for root delay and dispersion.
fn kernel_state(now: Now) -> ServerState {
    /// A server behind whatever keeps this clock, most often one of stratum 2.
    const KEPT_STRATUM: u8 = 3;
    let kernel = ObservedClock.apply(ClockCommand::Read).ok().filter(|state| state.synchronised);
    ServerState {
        leap: if kernel.is_some() { Leap::None } else { Leap::Unknown },
        stratum: if kernel.is_some() { KEPT_STRATUM } else { 16 },
        root_dispersion: kernel.map_or(Seconds::ZERO, |state| state.max_error),
        reference_id: *b"KERN",
        ..ServerState::as_is(now.wall)
    }
}

fn bind(options: &Options) -> Result<Vec<ServerSocket>, ServeError> {
    let mut sockets = Vec::new();
    for address in &options.listen {
        let place = address.to_string();
        let socket = ServerSocket::bind(*address).map_err(|error| ServeError::Bind { place, error })?;
        log::info!("serving {} on {}", options.what(), socket.local_addr()?);
        sockets.push(socket);
    }
    Ok(sockets)
}

fn admit(options: &Options) -> Result<Guests, ServeError> {
    let mut guests = Guests::default();
    let ports = options.vsock.iter().map(|port| guests.listen_vsock(*port)).collect::<Vec<_>>();
    let paths = options.uds.iter().map(|path| guests.listen_unix(path)).collect::<Vec<_>>();
    for (place, result) in
        guests::places(&options.vsock, &options.uds).into_iter().zip(ports.into_iter().chain(paths))
    {
        match result {
            Ok(()) => log::info!("serving {} on {place}", options.what()),
            Err(error) => return Err(ServeError::Bind { place, error }),
        }
    }
    Ok(guests)
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
        _ => "",
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replies, malformed, mode, denied, send_failed } = self;
        write!(
            f,
            "{replies} replies; dropped: {denied} denied, {malformed} malformed, {mode} no requests; {send_failed} not sent"
        )
    }
}
