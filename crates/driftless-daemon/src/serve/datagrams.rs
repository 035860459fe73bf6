//! Requests and replies over UDP, a batch a turn.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use driftless_core::server::{Client, Reply};
use driftless_core::time::{Span, WallTime};
use driftless_linux::clock::wall;
use driftless_linux::datagrams::{BATCH, Batch, Opening, ServerSocket};
use driftless_linux::wait::Waiter;

use super::desk::Desk;
use super::{Door, Options, ServeError, THREADS_MAX};

/// The sockets of one loop.
#[derive(Default)]
pub(super) struct Datagrams {
    sockets: Vec<ServerSocket>,
    batch: Batch,
    /// Replies of this turn, and which datagrams they answer.
    replies: Vec<(usize, Reply)>,
    cost: SendCost,
}

/// A further loop. It ends when this is dropped.
pub(super) struct Thread {
    handle: Option<JoinHandle<()>>,
    end: Option<UnixStream>,
    /// Its sockets, to ask them what was lost.
    pub(super) sockets: Vec<ServerSocket>,
}

/// Batches taken from one socket before the others get their turn.
const TURN_MAX: usize = 8;
/// A stamp of the kernel's that is older was taken before the clock was set: no queue is that long.
const STAMP_AGE_MAX: Span = Span::from_millis(500);

/// How long the system takes to send one reply of many, as of late: the last of a batch leaves so much later than the first.
///
/// The transmit timestamps of a batch are written before it is sent. With one reading of the clock for all, the last of 64 would claim to have
/// left a hundred microseconds before it did. So each adds what the ones before it cost: the least of late, for a reply must never claim to
/// have left later than it did.
#[derive(Debug, Default)]
struct SendCost {
    nanos: i64,
}

impl SendCost {
    /// When the reply at `place` leaves, of those that are sent from `start` on.
    fn leaving(&self, start: WallTime, place: i64) -> WallTime {
        start + Span::from_nanos(self.nanos.saturating_mul(place))
    }

    /// `count` were sent in `took`.
    fn learn(&mut self, took: Span, count: i64) {
        /// Batches after which a cost that rose is believed.
        const SLOWLY: i64 = 64;
        const PLAUSIBLE_NS: std::ops::Range<i64> = 1..20_000;
        if count < 2 {
            return;
        }
        let each = took.as_nanos() / count;
        if !PLAUSIBLE_NS.contains(&each) {
            return;
        }
        let rise = (each - self.nanos) / SLOWLY;
        self.nanos = if self.nanos == 0 || each < self.nanos { each } else { self.nanos + rise };
    }
}

impl Datagrams {
    /// Serves on `socket`, too.
    pub(super) fn push(&mut self, socket: ServerSocket, waiter: &mut Waiter) -> io::Result<()> {
        let index = u32::try_from(self.sockets.len()).unwrap_or(u32::MAX);
        waiter.add(socket.as_fd(), Door::Datagrams(index).token())?;
        self.sockets.push(socket);
        Ok(())
    }

    /// Its sockets.
    pub(super) fn sockets(&self) -> &[ServerSocket] {
        &self.sockets
    }

    /// Where it listens, in words.
    pub(super) fn places(&self) -> impl Iterator<Item = String> {
        self.sockets.iter().map(place)
    }

    /// Answers what came to one socket.
    pub(super) fn turn(&mut self, index: u32, desk: &Desk) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(socket) = self.sockets.get_mut(index) else { return };
        for _ in 0..TURN_MAX {
            let Ok(count) = self.batch.receive(socket) else { break };
            if count > 0 {
                exchange(&mut self.batch, &mut self.replies, &mut self.cost, socket, desk);
            }
            if count < BATCH {
                break;
            }
        }
        // Stamps that came later than their replies were sent wake us as well.
        if socket.is_following() {
            tell_departures(&mut self.batch, socket, desk);
        }
    }
}

/// One batch: decided, stamped, sent.
fn exchange(
    batch: &mut Batch,
    replies: &mut Vec<(usize, Reply)>,
    cost: &mut SendCost,
    socket: &mut ServerSocket,
    desk: &Desk,
) {
    let now = wall();
    replies.clear();
    let mut desk_lock = desk.lock();
    desk_lock.freshen(now);
    for index in 0..batch.len() {
        let Some(datagram) = batch.datagram(index) else { continue };
        let is_credible = |stamp: &WallTime| *stamp <= now && now - *stamp < STAMP_AGE_MAX;
        let received = datagram.stamp.filter(is_credible).unwrap_or(now);
        if let Ok(reply) = desk_lock.responder.answer(datagram.packet, Client::Net(datagram.from), received) {
            replies.push((index, reply));
        }
    }
    let start = wall();
    for (place, (index, reply)) in (0..).zip(replies.iter()) {
        let (packet, is_followed) = desk_lock.responder.leaving(reply, cost.leaving(start, place));
        batch.reply(socket, *index, &packet, is_followed);
    }
    drop(desk_lock);
    let left = batch.send(socket);
    if left < replies.len() {
        let lost = u64::try_from(replies.len() - left).unwrap_or(0);
        desk.lock().responder.send_failed(lost);
    } else {
        cost.learn(wall() - start, i64::try_from(left).unwrap_or(0));
    }
}

/// When replies really left, for clients that ask for it.
#[cold]
fn tell_departures(batch: &mut Batch, socket: &ServerSocket, desk: &Desk) {
    batch.departures(socket, |packet, at| desk.lock().responder.departed(packet, at));
}

/// Opens the sockets of all loops, and starts the further ones.
pub(super) fn open(
    first: &mut Datagrams,
    waiter: &mut Waiter,
    listen: &[SocketAddr],
    options: &Options,
    desk: &Arc<Desk>,
) -> Result<Vec<Thread>, ServeError> {
    let threads = if options.plain_io { 1 } else { options.threads.clamp(1, THREADS_MAX) };
    let bind = |address: SocketAddr| {
        let opening = Opening {
            is_shared: threads > 1,
            is_v6_only: has_v4(listen, address),
            is_plain: options.plain_io,
        };
        let place = address.to_string();
        ServerSocket::bind(address, opening).map_err(|error| ServeError::Bind { place, error })
    };
    let mut addresses = Vec::new();
    for address in listen {
        let socket = bind(*address)?;
        // Where the port was left to the kernel, the others need the same.
        addresses.push(socket.local_addr()?);
        first.push(socket, waiter)?;
    }
    let mut further = Vec::new();
    for number in 1..threads {
        let sockets: Result<Vec<_>, _> = addresses.iter().map(|address| bind(*address)).collect();
        further.push(Thread::start(number, sockets?, desk)?);
    }
    Ok(further)
}

/// Whether clients of IPv4 have a socket of their own beside this one of IPv6 for all addresses.
fn has_v4(listen: &[SocketAddr], address: SocketAddr) -> bool {
    listen.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

/// Where a socket listens, in words.
pub(super) fn place(socket: &ServerSocket) -> String {
    socket.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string())
}

impl Thread {
    fn start(number: u16, sockets: Vec<ServerSocket>, desk: &Arc<Desk>) -> io::Result<Self> {
        let (end, ended) = UnixStream::pair()?;
        let watched = sockets.iter().map(ServerSocket::try_clone).collect::<io::Result<Vec<_>>>()?;
        let desk = Arc::clone(desk);
        let run = move || {
            if let Err(error) = serve(sockets, &ended, &desk) {
                log::error!("a loop for datagrams ended: {error}");
            }
        };
        let handle = std::thread::Builder::new().name(format!("datagrams {number}")).spawn(run)?;
        Ok(Self { handle: Some(handle), end: Some(end), sockets: watched })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(handle) = self.handle.take() {
            // One that ended by a fault has said so.
            let _ = handle.join();
        }
    }
}

/// A further loop, until the other end of `ended` is closed.
fn serve(sockets: Vec<ServerSocket>, ended: &UnixStream, desk: &Desk) -> io::Result<()> {
    let mut waiter = Waiter::new(false);
    let mut datagrams = Datagrams::default();
    for socket in sockets {
        datagrams.push(socket, &mut waiter)?;
    }
    waiter.add(ended.as_fd(), Door::Signal.token())?;
    let mut ready = Vec::new();
    loop {
        match waiter.wait(None, &mut ready) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for door in ready.drain(..).filter_map(Door::of) {
            match door {
                Door::Datagrams(index) => datagrams.turn(index, desk),
                _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_replies_of_a_batch_leave_later_and_never_too_late() {
        let start = WallTime::from_nanos(1_000_000_000);
        let mut cost = SendCost::default();
        assert_eq!(cost.leaving(start, 63), start, "nothing is known yet");
        cost.learn(Span::from_micros(128), 64);
        assert_eq!(cost.leaving(start, 10), start + Span::from_micros(20));
        cost.learn(Span::from_micros(64), 64);
        assert_eq!(cost.leaving(start, 10), start + Span::from_micros(10), "the least counts at once");
        for _ in 0..1_000 {
            cost.learn(Span::from_micros(192), 64);
        }
        let later = cost.leaving(start, 10) - start;
        assert!(later > Span::from_micros(28) && later <= Span::from_micros(30), "{later}");
        cost.learn(Span::from_secs(1), 64);
        cost.learn(Span::from_nanos(-5), 64);
        cost.learn(Span::from_micros(1), 1);
        assert_eq!(cost.leaving(start, 10) - start, later, "no cost of sending is like that");
    }
}
