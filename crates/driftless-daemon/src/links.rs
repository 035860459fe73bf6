//! The ways to the servers that are asked: a fresh UDP socket for each request (RFC 9109), or a stream that stays open from look to look.
//!
//! Nothing here blocks. A stream that is not yet connected keeps its request until it is; one that has ended is opened anew by the next request.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use driftless_core::clock::Clock;
use driftless_core::source::{Endpoint, Peer, SourceConfig, SourceId, StreamAddress};
use driftless_core::time::{Now, WallTime};
use driftless_linux::poll::Direction;
use driftless_linux::socket::RequestSocket;
use driftless_linux::stream::{PACKET_BYTES, PacketStream};

/// The way to each source, by its number.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

/// The way to one source.
#[derive(Debug)]
enum Link {
    Udp(Option<RequestSocket>),
    Stream {
        address: StreamAddress,
        stream: Option<Stream>,
    },
    /// A device is read, not asked.
    None,
}

/// An open stream.
#[derive(Debug)]
struct Stream {
    packets: PacketStream,
    /// Waits for the connection.
    request: Option<[u8; PACKET_BYTES]>,
    /// A request left and was not answered yet.
    is_asked: bool,
}

/// What came of a socket that was ready.
#[derive(Debug, PartialEq)]
pub(crate) enum Arrival<'a> {
    /// Nothing yet.
    Nothing,
    /// The request left just now: both clocks before it did.
    Left(Now),
    /// A packet, its sender, and the kernel's stamp of its arrival.
    Packet(&'a [u8], Peer, Option<WallTime>),
    /// The host says "look now", unasked.
    LookNow,
}

/// Room for any packet that is worth reading.
pub(crate) const PACKET_MAX: usize = 1_024;
/// The mode of NTP's broadcast packets (RFC 5905, figure 10), in the lowest three bits of a packet.
const BROADCAST: u8 = 5;

impl Links {
    /// No link is open yet.
    pub(crate) fn new(sources: &[SourceConfig]) -> Self {
        let link = |source: &SourceConfig| match &source.endpoint {
            Endpoint::Udp { .. } => Link::Udp(None),
            Endpoint::Stream(address) => Link::Stream { address: address.clone(), stream: None },
            Endpoint::Device { .. } => Link::None,
        };
        Self(sources.iter().map(link).collect())
    }

    /// Sends a request. Both clocks just before it left; `None` where it leaves once the stream is connected.
    ///
    /// # Errors
    /// What the system says; the link is closed then.
    pub(crate) fn transmit(
        &mut self,
        source: SourceId,
        to: Peer,
        data: &[u8; PACKET_BYTES],
        clock: &mut dyn Clock,
    ) -> io::Result<Option<Now>> {
        match (self.0.get_mut(usize::from(source.0)), to) {
            (Some(Link::Udp(slot)), Peer::Udp(to)) => {
                *slot = None;
                let socket = RequestSocket::connect(to)?;
                let at = clock.now();
                socket.send(data)?;
                *slot = Some(socket);
                Ok(Some(at))
            }
            (Some(Link::Stream { address, stream }), Peer::Stream) => {
                let open = match stream.take() {
                    Some(open) => open,
                    None => Stream::connect(address)?,
                };
                // An error closes it: what is left of it is of no use.
                let open = stream.insert(open);
                let left = open.transmit(data, clock);
                if left.is_err() {
                    *stream = None;
                }
                left
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What to wait on.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (SourceId, BorrowedFd<'_>, Direction)> {
        (0_u16..).zip(&self.0).filter_map(|(id, link)| match link {
            Link::Udp(Some(socket)) => Some((SourceId(id), socket.as_fd(), Direction::In)),
            Link::Stream { stream: Some(stream), .. } => {
                let is_connecting = stream.packets.is_connecting();
                let direction = if is_connecting { Direction::Out } else { Direction::In };
                Some((SourceId(id), stream.packets.as_fd(), direction))
            }
            _ => None,
        })
    }

    /// Takes what came, now that the link is ready.
    ///
    /// # Errors
    /// What the system says of a request that is under way; the link is closed then.
    pub(crate) fn ready<'a>(
        &mut self,
        source: SourceId,
        clock: &mut dyn Clock,
        buffer: &'a mut [u8; PACKET_MAX],
    ) -> io::Result<Arrival<'a>> {
        match self.0.get_mut(usize::from(source.0)) {
            Some(Link::Udp(slot)) => {
                let Some(socket) = slot else { return Ok(Arrival::Nothing) };
                match socket.recv(buffer) {
                    Ok((length, from, stamp)) => {
                        let packet = buffer.get(..length).unwrap_or_default();
                        Ok(Arrival::Packet(packet, from.into(), stamp))
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Arrival::Nothing),
                    Err(error) => {
                        *slot = None;
                        Err(error)
                    }
                }
            }
            Some(Link::Stream { stream: slot, .. }) => {
                let Some(stream) = slot else { return Ok(Arrival::Nothing) };
                match stream.ready(clock, buffer) {
                    Ok(arrival) => Ok(arrival),
                    Err(error) => {
                        let is_asked = stream.is_asked;
                        *slot = None;
                        // A host that closes between two looks takes nothing from us.
                        if is_asked { Err(error) } else { Ok(Arrival::Nothing) }
                    }
                }
            }
            _ => Ok(Arrival::Nothing),
        }
    }
}

impl Stream {
    fn connect(address: &StreamAddress) -> io::Result<Self> {
        Ok(Self { packets: PacketStream::connect(address)?, request: None, is_asked: true })
    }

    fn transmit(&mut self, data: &[u8; PACKET_BYTES], clock: &mut dyn Clock) -> io::Result<Option<Now>> {
        self.is_asked = true;
        if self.packets.is_connecting() {
            self.request = Some(*data);
            return Ok(None);
        }
        let at = clock.now();
        self.packets.send(data)?;
        Ok(Some(at))
    }

    fn ready<'a>(
        &mut self,
        clock: &mut dyn Clock,
        buffer: &'a mut [u8; PACKET_MAX],
    ) -> io::Result<Arrival<'a>> {
        if self.packets.is_connecting() {
            self.packets.finish()?;
            let Some(request) = self.request.take() else { return Ok(Arrival::Nothing) };
            return Ok(self.transmit(&request, clock)?.map_or(Arrival::Nothing, Arrival::Left));
        }
        let Some(packet) = self.packets.recv()? else { return Ok(Arrival::Nothing) };
        if packet.first().is_some_and(|first| first & 7 == BROADCAST) {
            return Ok(Arrival::LookNow);
        }
        self.is_asked = false;
        let place = &mut buffer[..PACKET_BYTES];
        place.copy_from_slice(&packet);
        Ok(Arrival::Packet(place, Peer::Stream, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;
    use driftless_core::time::Span;
    use driftless_linux::clock::ObservedClock;
    use driftless_linux::poll;
    use driftless_linux::stream::StreamListener;

    const FIRST: SourceId = SourceId(0);

    fn wait(links: &Links) {
        let waiting: Vec<_> = links.waiting().map(|(_, fd, direction)| (fd, direction)).collect();
        assert_eq!(poll::wait_for(&waiting, Some(Span::from_secs(2))).unwrap(), [true]);
    }

    #[test]
    fn a_stream_carries_looks_and_pushes_and_is_opened_anew_after_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time.sock");
        let listener = StreamListener::unix(&path).unwrap();
        let mut links = Links::new(&[spec::parse(&format!("ntp+unix:{}", path.display())).unwrap()]);
        let (mut clock, mut buffer) = (ObservedClock, [0; PACKET_MAX]);
        for _ in 0..2 {
            assert!(links.transmit(FIRST, Peer::Stream, &[3; 48], &mut clock).unwrap().is_some());
            let (mut server, _) = listener.accept().unwrap();
            poll::wait(&[server.as_fd()], Some(Span::from_secs(2))).unwrap();
            assert_eq!(server.recv().unwrap(), Some([3; 48]));
            server.send(&[0x25; 48]).unwrap();
            wait(&links);
            assert_eq!(links.ready(FIRST, &mut clock, &mut buffer).unwrap(), Arrival::LookNow);
            server.send(&[0x24; 48]).unwrap();
            wait(&links);
            let expected = Arrival::Packet(&[0x24; 48], Peer::Stream, None);
            assert_eq!(links.ready(FIRST, &mut clock, &mut buffer).unwrap(), expected);
            drop(server);
            wait(&links);
            assert_eq!(links.ready(FIRST, &mut clock, &mut buffer).unwrap(), Arrival::Nothing);
            assert_eq!(links.waiting().count(), 0, "it has ended");
        }
    }

    #[test]
    fn an_end_before_the_answer_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time.sock");
        let listener = StreamListener::unix(&path).unwrap();
        let mut links = Links::new(&[spec::parse(&format!("ntp+unix:{}", path.display())).unwrap()]);
        let (mut clock, mut buffer) = (ObservedClock, [0; PACKET_MAX]);
        links.transmit(FIRST, Peer::Stream, &[3; 48], &mut clock).unwrap();
        drop(listener.accept().unwrap());
        wait(&links);
        let error = links.ready(FIRST, &mut clock, &mut buffer).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset));
        drop(listener);
        assert!(links.transmit(FIRST, Peer::Stream, &[3; 48], &mut clock).is_err(), "nobody is there");
        assert_eq!(links.waiting().count(), 0);
    }
}
