//! The host's time server for hosts that are no Linux: what std can do, over the same decisions.
//!
//! A thread a socket, a packet a call, the system's clock as std reads it. It serves the host's clock as it is; what a network's server would have
//! to know of its own synchronisation, std cannot tell. That the host slept, or that its clock was set, shows by comparing std's two clocks.
#![forbid(unsafe_code)]

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use driftless_core::server::{
    AccessList, Client, Counters, HostClock, Prefix, REQUEST_MAX, Rate, Responder, ServerState,
};
use driftless_core::time::{Now, RawTime, WallTime};

/// A server.
#[derive(Debug)]
pub struct PortableServer {
    inner: Mutex<Inner>,
    start: Instant,
}

#[derive(Debug)]
struct Inner {
    responder: Responder,
    host: HostClock,
    said_at: WallTime,
    looked: Instant,
    interruptions: u64,
}

/// A socket's wait, after which the clocks are compared though nobody asked.
const WAIT: Duration = Duration::from_secs(1);
/// Nobody looked for so long, though each wait ends sooner: the host slept. Some systems' counters run on meanwhile, and show nothing.
const SLEPT: Duration = Duration::from_secs(5);
/// How often what is said of the clock is renewed.
const STATE_AGE: Duration = Duration::from_secs(1);

impl PortableServer {
    /// A server for near clients, those of `allow`, and none of `deny`.
    #[must_use]
    pub fn new(allow: &[Prefix], deny: &[Prefix], rate: Rate) -> Self {
        let access = AccessList::new(&[AccessList::NEAR.as_slice(), allow].concat(), deny);
        let now = wall();
        // std draws the keys of its hash tables from the system's randomness: three of them are a seed.
        let seed = [(); 3].map(|()| RandomState::new().build_hasher().finish());
        let responder = Responder::new(access, rate, &ServerState::as_is(now), seed);
        let looked = Instant::now();
        let inner = Inner { responder, host: HostClock::default(), said_at: now, looked, interruptions: 0 };
        Self { inner: Mutex::new(inner), start: looked }
    }

    /// Answers on `socket` until `goes_on` says no; it is asked after each packet, and once a second.
    ///
    /// # Errors
    /// What the system says of the socket itself.
    pub fn serve(&self, socket: &UdpSocket, goes_on: impl Fn() -> bool) -> io::Result<()> {
        socket.set_read_timeout(Some(WAIT))?;
        let mut buffer = [0; REQUEST_MAX + 8];
        while goes_on() {
            let arrival = socket.recv_from(&mut buffer);
            let received = wall();
            self.look(received);
            // A wait that ended, or an error that an earlier reply brought home, as Windows has it.
            let Ok((length, from)) = arrival else { continue };
            if let Some(reply) = self.answer(buffer.get(..length).unwrap_or_default(), from, received) {
                if socket.send_to(&reply, from).is_err() {
                    self.lock().responder.send_failed(1);
                }
            }
        }
        Ok(())
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.lock().responder.counters()
    }

    /// How often this host slept, or its clock was set.
    #[must_use]
    pub fn interruptions(&self) -> u64 {
        self.lock().interruptions
    }

    fn answer(&self, packet: &[u8], from: SocketAddr, received: WallTime) -> Option<[u8; 48]> {
        let mut inner = self.lock();
        let reply = inner.responder.answer(packet, Client::Net(from), received).ok()?;
        Some(inner.responder.leaving(&reply, wall()).0)
    }

    fn look(&self, wall: WallTime) {
        let instant = Instant::now();
        let raw = i64::try_from(instant.duration_since(self.start).as_nanos()).unwrap_or(i64::MAX);
        let mut inner = self.lock();
        let unwatched = instant.duration_since(inner.looked);
        if unwatched < STATE_AGE / 2 {
            return;
        }
        inner.looked = instant;
        let was_moved = inner.host.was_moved(Now { raw: RawTime::from_nanos(raw), wall });
        if was_moved || unwatched > SLEPT {
            inner.interruptions += 1;
            eprintln!(
                "driftless-serve: this host's clock was set, or it slept; its clock is served as it is now"
            );
        }
        if was_moved || (wall - inner.said_at).abs().as_nanos() > 500_000_000 {
            inner.said_at = wall;
            inner.responder.set_state(&ServerState::as_is(wall));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's clock; before 1970 it stands still.
fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use driftless_core::time::Span;
    use driftless_core::wire::Header;

    use super::*;

    #[test]
    fn a_client_gets_this_hosts_time_and_nonsense_gets_nothing() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let (server, is_over) = (PortableServer::new(&[], &[], Rate::default()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| server.serve(&socket, || !is_over.load(Ordering::Relaxed)));
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            for bad in [&[0; 48][..], &[0x24; 48], &[0x26; 48], &[0x23; 20], &[0x23; 1_100]] {
                client.send_to(bad, to).unwrap();
            }
            client.send_to(&Header::request(7), to).unwrap();
            let mut reply = [0; 100];
            assert_eq!(client.recv(&mut reply).unwrap(), 48);
            let header = Header::parse(&reply[..48]).unwrap();
            let now = wall();
            assert_eq!((header.origin.0, header.stratum, &header.reference_id), (7, 10, b"HOST"));
            assert!((header.transmit.resolve(now) - now).abs() < Span::from_secs(1));
            is_over.store(true, Ordering::Relaxed);
        });
        let counters = server.counters();
        assert_eq!((counters.replies, counters.dropped.total()), (1, 5), "{counters}");
        assert_eq!(server.interruptions(), 0);
    }

    #[test]
    fn a_clock_that_jumps_against_the_counter_is_an_interruption() {
        let server = PortableServer::new(&[], &[], Rate::default());
        let look = |wall| {
            std::thread::sleep(STATE_AGE / 2 + Duration::from_millis(10));
            server.look(wall);
            server.interruptions()
        };
        assert_eq!(look(wall()), 0);
        assert_eq!(look(wall()), 0);
        assert_eq!(look(wall() + Span::from_secs(100)), 1, "woken from a sleep, or set");
        assert_eq!(look(wall() + Span::from_secs(100)), 1);
        assert_eq!(look(wall()), 2);
    }
}
