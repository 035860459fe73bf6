//! Guests that ask over streams, without a network: over vsock, or over the Unix sockets by which some hypervisors carry it on the host's side.
//!
//! One packet of 48 octets each way a look; the stream stays open, so that this host can say "look now" on it after it slept itself
//! (an NTP broadcast packet). Who may ask is settled by the socket: a context id cannot be forged, and a path has its permissions.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use driftless_linux::stream::{PACKET_BYTES, PacketStream, StreamListener};

/// Listening sockets and the streams that were taken from them.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    listeners: Vec<StreamListener>,
    open: Vec<PacketStream>,
}

/// A socket of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// One that guests come to.
    Listener(usize),
    /// One guest's.
    Stream(usize),
}

/// Streams open at once at most: each is a descriptor.
const OPEN_MAX: usize = 512;
/// Packets taken from one stream before the others get their turn.
const TURN_MAX: usize = 8;

impl Guests {
    /// Listens on a vsock port.
    pub(crate) fn listen_vsock(&mut self, port: u32) -> io::Result<()> {
        self.listeners.push(StreamListener::vsock(port)?);
        Ok(())
    }

    /// Listens on a Unix socket.
    pub(crate) fn listen_unix(&mut self, path: &Path) -> io::Result<()> {
        self.listeners.push(StreamListener::unix(path)?);
        Ok(())
    }

    /// What to wait on.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Door, BorrowedFd<'_>)> {
        let listeners = self.listeners.iter().map(|listener| listener.as_fd()).enumerate();
        let streams = self.open.iter().map(|stream| stream.as_fd()).enumerate();
        (listeners.map(|(index, fd)| (Door::Listener(index), fd)))
            .chain(streams.map(|(index, fd)| (Door::Stream(index), fd)))
    }

    /// Takes who comes and answers who asks. A stream that fails in any way is closed: its guest opens another.
    pub(crate) fn ready(
        &mut self,
        doors: &[Door],
        mut answer: impl FnMut(&[u8; PACKET_BYTES]) -> Option<[u8; PACKET_BYTES]>,
    ) {
        let mut ended = Vec::new();
        for door in doors {
            match *door {
                Door::Stream(index) => {
                    let is_over = |stream: &mut PacketStream| serve(stream, &mut answer).is_err();
                    if self.open.get_mut(index).is_some_and(is_over) {
                        ended.push(index);
                    }
                }
                Door::Listener(index) => self.take(index),
            }
        }
        // From the last, so that the places of the others stay.
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            self.open.swap_remove(index);
        }
    }

    /// Says something to every guest, unasked.
    pub(crate) fn tell_all(&mut self, packet: &[u8; PACKET_BYTES]) {
        self.open.retain_mut(|stream| stream.send(packet).is_ok());
    }

    /// How many are here.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    fn take(&mut self, index: usize) {
        let Some(listener) = self.listeners.get(index) else { return };
        // One whom there is no room for is closed at once, and comes again.
        if let Ok((stream, _)) = listener.accept() {
            if self.open.len() < OPEN_MAX {
                self.open.push(stream);
            }
        }
    }
}

fn serve(
    stream: &mut PacketStream,
    mut answer: impl FnMut(&[u8; PACKET_BYTES]) -> Option<[u8; PACKET_BYTES]>,
) -> io::Result<()> {
    for _ in 0..TURN_MAX {
        let Some(request) = stream.recv()? else { return Ok(()) };
        // What is no request has lost its place in the stream: nothing behind it can be trusted.
        let reply = answer(&request).ok_or(io::ErrorKind::InvalidData)?;
        stream.send(&reply)?;
    }
    Ok(())
}

/// Where guests come to, in words.
pub(crate) fn places(vsock: &[u32], unix: &[PathBuf]) -> Vec<String> {
    let ports = vsock.iter().map(|port| format!("vsock port {port}"));
    ports.chain(unix.iter().map(|path| path.display().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::source::StreamAddress;
    use driftless_core::time::Span;
    use driftless_linux::poll;

    fn turn(guests: &mut Guests) {
        let (doors, fds): (Vec<Door>, Vec<BorrowedFd<'_>>) = guests.waiting().unzip();
        let ready = poll::wait(&fds, Some(Span::from_secs(2))).unwrap();
        let doors: Vec<Door> =
            doors.into_iter().zip(ready).filter(|(_, is)| *is).map(|(door, _)| door).collect();
        guests.ready(&doors, |request| (request[0] != 0).then_some([request[0] + 1; 48]));
    }

    fn told(stream: &mut PacketStream) -> io::Result<Option<[u8; 48]>> {
        poll::wait(&[stream.as_fd()], Some(Span::from_secs(2))).unwrap();
        stream.recv()
    }

    #[test]
    fn guests_are_answered_told_and_turned_out_for_nonsense() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock_123");
        let mut guests = Guests::default();
        guests.listen_unix(&path).unwrap();
        let connect =
            || PacketStream::connect(&StreamAddress::Unix(path.to_str().unwrap().to_owned())).unwrap();
        let (mut one, mut other) = (connect(), connect());
        turn(&mut guests);
        turn(&mut guests);
        assert_eq!(guests.count(), 2);
        one.send(&[7; 48]).unwrap();
        turn(&mut guests);
        assert_eq!(told(&mut one).unwrap(), Some([8; 48]));
        other.send(&[0; 48]).unwrap();
        turn(&mut guests);
        assert_eq!(told(&mut other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        guests.tell_all(&[5; 48]);
        assert_eq!(told(&mut one).unwrap(), Some([5; 48]));
        drop(one);
        turn(&mut guests);
        assert_eq!(guests.count(), 0);
    }
}
