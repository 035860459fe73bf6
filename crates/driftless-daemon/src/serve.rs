//! The host's time server: requests in, replies out, and this machine's clock is only ever read.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use driftless_core::clock::{Clock as _, ClockCommand, Leap};
use driftless_core::server::{AccessList, Drop, Prefix, ServerState};
use driftless_core::time::{Now, Seconds, Span};
use driftless_linux::clock::ObservedClock;
use driftless_linux::poll;
use driftless_linux::signal::Signals;
use driftless_linux::socket::ServerSocket;

/// What to serve, where, to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Serve the host's clock right or wrong, for its own guests.
    pub as_is: bool,
    /// Who may ask besides loopback and link-local clients.
    pub allow: Vec<Prefix>,
}

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", advice(error))]
    Bind {
        /// Which.
        address: SocketAddr,
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
    let access = AccessList::with(&options.allow);
    let mut server = Server { as_is: options.as_is, access, state: None, counters: Counters::default() };
    while !signals.should_end() {
        let mut fds: Vec<_> = sockets.iter().map(std::os::fd::AsFd::as_fd).collect();
        fds.extend(signals.wake());
        let ready = match poll::wait(&fds, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            ready => ready?,
        };
        for (socket, is_ready) in sockets.iter().zip(&ready) {
            if *is_ready {
                server.turn(socket);
            }
        }
    }
    log::info!("ending; {}", server.counters);
    Ok(server.counters)
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
            let state = self.state(now);
            match state.answer(buffer.get(..length).unwrap_or_default(), received) {
                Ok(reply) => match socket.send_to(&reply.encode_at(ObservedClock.now().wall), from) {
                    Ok(_) => self.counters.replies += 1,
                    Err(_) => self.counters.send_failed += 1,
                },
                Err(Drop::Mode) => self.counters.mode += 1,
                Err(Drop::Malformed | Drop::Denied) => self.counters.malformed += 1,
            }
        }
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
        let socket =
            ServerSocket::bind(*address).map_err(|error| ServeError::Bind { address: *address, error })?;
        let what = if options.as_is { "this host's clock as it is" } else { "network time" };
        log::info!("serving {what} on {}", socket.local_addr()?);
        sockets.push(socket);
    }
    Ok(sockets)
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
