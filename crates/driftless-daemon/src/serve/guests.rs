//! Guests that ask over streams, without a network: over vsock, or over the Unix sockets by which some hypervisors carry it on the host's side.
//!
//! One packet of 48 octets each way a look; the stream stays open, so that this host can say "look now" on it after it slept itself
//! (an NTP broadcast packet). Who may ask is settled by the socket: a context id cannot be forged, and a path has its permissions.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use driftless_core::server::{Client, Dropped};
use driftless_linux::clock::wall;
use driftless_linux::stream::{PACKET_BYTES, PacketStream, StreamListener, StreamPeer};
use driftless_linux::wait::Waiter;

use super::Door;
use super::desk::Desk;

/// Listening sockets and the streams that were taken from them.
#[derive(Debug)]
pub(super) struct Guests {
    listeners: Places<Listener>,
    streams: Places<Stream>,
    streams_max: usize,
    pub(super) tally: Tally,
}

/// What became of streams since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) taken: u64,
    /// Closed at once, as there was no room.
    pub(super) refused: u64,
}

/// One that guests come to.
#[derive(Debug)]
pub(super) struct Listener {
    socket: StreamListener,
    pub(super) place: String,
    pub(super) taken: u64,
}

#[derive(Debug)]
struct Stream {
    socket: PacketStream,
    client: Client,
}

/// Things that keep their number as long as they are here.
#[derive(Debug)]
struct Places<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

/// Descriptors that are not for streams.
const RESERVED: u64 = 128;
/// Streams open at once at most, however many descriptors there may be: each holds some hundred octets here and more in the kernel.
const STREAMS_MAX: u64 = 16_384;
/// Packets taken from one stream, and streams from one listener, before the others get their turn.
const TURN_MAX: usize = 8;

impl Guests {
    /// With room for as many streams as `descriptors` allow.
    pub(super) fn new(descriptors: u64) -> Self {
        let room = descriptors.saturating_sub(RESERVED).clamp(RESERVED, STREAMS_MAX);
        Self {
            listeners: Places::new(),
            streams: Places::new(),
            streams_max: usize::try_from(room).unwrap_or(1_024),
            tally: Tally::default(),
        }
    }

    /// Listens on a vsock port.
    pub(super) fn listen_vsock(&mut self, port: u32, place: &str, waiter: &mut Waiter) -> io::Result<()> {
        self.push(StreamListener::vsock(port)?, place.to_owned(), waiter)
    }

    /// Listens on a Unix socket: under which number.
    pub(super) fn listen_unix(&mut self, path: &Path, waiter: &mut Waiter) -> io::Result<usize> {
        let socket = StreamListener::unix(path)?;
        self.listen(socket, path.display().to_string(), waiter)
    }

    /// Takes guests from `socket`, too.
    pub(super) fn push(
        &mut self,
        socket: StreamListener,
        place: String,
        waiter: &mut Waiter,
    ) -> io::Result<()> {
        self.listen(socket, place, waiter).map(drop)
    }

    fn listen(&mut self, socket: StreamListener, place: String, waiter: &mut Waiter) -> io::Result<usize> {
        let index = self.listeners.put(Listener { socket, place, taken: 0 });
        let listener = self.listeners.get(index).ok_or(io::ErrorKind::Other)?;
        if let Err(error) = waiter.add(listener.socket.as_fd(), Door::Listener(number(index)).token()) {
            self.listeners.remove(index);
            return Err(error);
        }
        Ok(index)
    }

    /// Listens there no more.
    pub(super) fn unlisten(&mut self, index: usize, waiter: &mut Waiter) {
        if let Some(listener) = self.listeners.remove(index) {
            waiter.remove(listener.socket.as_fd());
        }
    }

    /// Where guests come to.
    pub(super) fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.places.iter().flatten()
    }

    /// The same in words.
    pub(super) fn places(&self) -> impl Iterator<Item = String> {
        self.listeners().map(|listener| listener.place.clone())
    }

    /// How many guests are here.
    pub(super) fn count(&self) -> usize {
        self.streams.count()
    }

    /// Takes who comes to a listener.
    pub(super) fn take(&mut self, index: u32, waiter: &mut Waiter) {
        for _ in 0..TURN_MAX {
            let Some(listener) = self.listeners.get_mut(position(index)) else { return };
            let Ok((socket, peer)) = listener.socket.accept() else { return };
            // One whom there is no room for is closed at once, and comes again.
            if self.streams.count() >= self.streams_max {
                self.tally.refused += 1;
                continue;
            }
            listener.taken += 1;
            self.tally.taken += 1;
            let client = Client::Stream(match peer {
                StreamPeer::Vsock { cid } => u64::from(cid),
                // Above all context ids: a listener is one guest's, or what runs under its path's permissions.
                StreamPeer::Unix => u64::from(index) | 1 << 32,
            });
            let index = self.streams.put(Stream { socket, client });
            let Some(stream) = self.streams.get(index) else { return };
            if waiter.add(stream.socket.as_fd(), Door::Stream(number(index)).token()).is_err() {
                self.streams.remove(index);
            }
        }
    }

    /// Answers who asks on a stream. One that fails in any way is closed: its guest opens another.
    pub(super) fn turn(&mut self, index: u32, desk: &Desk, waiter: &mut Waiter) {
        let Some(stream) = self.streams.get_mut(position(index)) else { return };
        if stream.serve(desk).is_err() {
            self.close(position(index), waiter);
        }
    }

    /// Says something to every guest, unasked: how many heard it.
    pub(super) fn tell_all(&mut self, packet: &[u8; PACKET_BYTES], waiter: &mut Waiter) -> usize {
        for index in 0..self.streams.places.len() {
            let is_deaf = |stream: &mut Stream| stream.socket.send(packet).is_err();
            if self.streams.get_mut(index).is_some_and(is_deaf) {
                self.close(index, waiter);
            }
        }
        self.count()
    }

    fn close(&mut self, index: usize, waiter: &mut Waiter) {
        if let Some(stream) = self.streams.remove(index) {
            waiter.remove(stream.socket.as_fd());
        }
    }
}

impl Stream {
    fn serve(&mut self, desk: &Desk) -> io::Result<()> {
        for _ in 0..TURN_MAX {
            let Some(request) = self.socket.recv()? else { return Ok(()) };
            let received = wall();
            let mut desk = desk.lock();
            desk.freshen(received);
            let packet = match desk.responder.answer(&request, self.client, received) {
                Ok(reply) => desk.responder.leaving(&reply, wall()).0,
                Err(Dropped::Limited) => continue,
                // What is no request has lost its place in the stream: nothing behind it can be trusted.
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            };
            drop(desk);
            self.socket.send(&packet)?;
        }
        Ok(())
    }
}

impl<T> Places<T> {
    const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    fn put(&mut self, thing: T) -> usize {
        if let Some(index) = self.free.pop() {
            if let Some(place) = self.places.get_mut(index) {
                *place = Some(thing);
                return index;
            }
        }
        self.places.push(Some(thing));
        self.places.len() - 1
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        let thing = self.places.get_mut(index)?.take();
        if thing.is_some() {
            self.free.push(index);
        }
        thing
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.places.get(index)?.as_ref()
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.places.get_mut(index)?.as_mut()
    }

    fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn position(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::source::StreamAddress;
    use driftless_core::time::Span;
    use driftless_core::wire::Header;
    use driftless_linux::poll;

    struct World {
        guests: Guests,
        waiter: Waiter,
        desk: Desk,
    }

    impl World {
        fn new() -> Self {
            let desk = Desk::new(&crate::serve::tests::options());
            Self { guests: Guests::new(1_024), waiter: Waiter::new(false), desk }
        }

        fn turn(&mut self) {
            let mut ready = Vec::new();
            self.waiter.wait(Some(Span::from_secs(2)), &mut ready).unwrap();
            for door in ready.into_iter().filter_map(Door::of) {
                match door {
                    Door::Listener(index) => self.guests.take(index, &mut self.waiter),
                    Door::Stream(index) => self.guests.turn(index, &self.desk, &mut self.waiter),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn told(stream: &mut PacketStream) -> io::Result<Option<[u8; 48]>> {
        poll::wait(&[stream.as_fd()], Some(Span::from_secs(2))).unwrap();
        stream.recv()
    }

    fn connect(path: &Path) -> PacketStream {
        PacketStream::connect(&StreamAddress::Unix(path.to_str().unwrap().to_owned())).unwrap()
    }

    #[test]
    fn guests_are_answered_told_and_turned_out_for_nonsense() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock_123");
        let mut world = World::new();
        world.guests.listen_unix(&path, &mut world.waiter).unwrap();
        let (mut one, mut other) = (connect(&path), connect(&path));
        world.turn();
        assert_eq!(world.guests.count(), 2);
        one.send(&Header::request(7)).unwrap();
        world.turn();
        let reply = Header::parse(&told(&mut one).unwrap().unwrap()).unwrap();
        assert_eq!((reply.origin.0, &reply.reference_id), (7, b"HOST"));
        other.send(&[0; 48]).unwrap();
        world.turn();
        assert_eq!(told(&mut other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(world.guests.tell_all(&[5; 48], &mut world.waiter), 1);
        assert_eq!(told(&mut one).unwrap(), Some([5; 48]));
        drop(one);
        world.turn();
        assert_eq!(world.guests.count(), 0);
        assert_eq!(world.guests.tally, Tally { taken: 2, refused: 0 });
    }

    #[test]
    fn a_guest_that_asks_too_often_waits_and_keeps_its_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time");
        let mut world = World::new();
        world.guests.listen_unix(&path, &mut world.waiter).unwrap();
        let mut guest = connect(&path);
        world.turn();
        for n in 0..200 {
            guest.send(&Header::request(n)).unwrap();
        }
        while world.desk.counters().received < 200 {
            world.turn();
        }
        let counters = world.desk.counters();
        assert!(counters.dropped.limited > 80 && counters.replies >= 64, "{counters}");
        assert_eq!(world.guests.count(), 1);
    }

    #[test]
    fn one_whom_there_is_no_room_for_is_turned_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time");
        let mut world = World::new();
        world.guests.streams_max = 1;
        let listener = world.guests.listen_unix(&path, &mut world.waiter).unwrap();
        let (_one, mut other) = (connect(&path), connect(&path));
        world.turn();
        assert_eq!(told(&mut other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(world.guests.tally, Tally { taken: 1, refused: 1 });
        world.guests.unlisten(listener, &mut world.waiter);
        assert!(!path.exists());
        assert_eq!(world.guests.places().count(), 0);
    }
}
