//! NTP over a stream, without a network: packets of 48 bytes one after the other, over vsock or a Unix socket.
//!
//! The stream stays open from look to look, so that the host can say "look now" on it. Nothing here blocks.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use driftless_core::source::StreamAddress;

use crate::sys::{self, Plain as _};
use crate::vsock;

/// An NTP packet without extensions.
pub const PACKET_BYTES: usize = 48;

/// A stream of packets.
#[derive(Debug)]
pub struct PacketStream {
    /// Any stream socket: std's type for Unix sockets only reads, writes and asks for errors.
    socket: UnixStream,
    /// The packet that is coming in, and how much of it has.
    packet: [u8; PACKET_BYTES],
    filled: usize,
    is_connecting: bool,
}

/// Who is at the other end of an accepted stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamPeer {
    /// A virtual machine, or the host.
    Vsock {
        /// Its context id.
        cid: u32,
    },
    /// A process of this machine, or a hypervisor's vsock through a Unix socket.
    Unix,
}

/// A listening socket for streams.
#[derive(Debug)]
pub struct StreamListener {
    socket: OwnedFd,
    path: Option<PathBuf>,
}

impl PacketStream {
    /// Begins to connect. [`Self::is_connecting`] until [`Self::finish`] said otherwise.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(address: &StreamAddress) -> io::Result<Self> {
        match address {
            StreamAddress::Vsock { cid, port } => Ok(Self::new(vsock::connect(*cid, *port)?, true)),
            StreamAddress::Unix(path) => {
                let socket = unix_socket()?;
                sys::connect(socket.as_fd(), &unix_address(Path::new(path))?.name())?;
                Ok(Self::new(socket, false))
            }
        }
    }

    fn new(socket: OwnedFd, is_connecting: bool) -> Self {
        Self { socket: socket.into(), packet: [0; PACKET_BYTES], filled: 0, is_connecting }
    }

    /// Whether the connection is not yet made: wait until the socket is writable.
    #[must_use]
    pub const fn is_connecting(&self) -> bool {
        self.is_connecting
    }

    /// Once the socket is writable: whether the connection was made.
    ///
    /// # Errors
    /// Why it was not.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        self.is_connecting = false;
        Ok(())
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// What the system says; `WriteZero` where only a part of it went, which ends the stream.
    pub fn send(&mut self, packet: &[u8; PACKET_BYTES]) -> io::Result<()> {
        if self.socket.write(packet)? < PACKET_BYTES { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Takes one whole packet. None where it is not whole yet.
    ///
    /// # Errors
    /// `UnexpectedEof` where the other side has closed; otherwise what the system says.
    pub fn recv(&mut self) -> io::Result<Option<[u8; PACKET_BYTES]>> {
        let room = self.packet.get_mut(self.filled..).unwrap_or_default();
        match self.socket.read(room) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.filled += count;
                let whole = self.filled >= PACKET_BYTES;
                self.filled %= PACKET_BYTES;
                Ok(whole.then_some(self.packet))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for PacketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<PacketStream> for OwnedFd {
    fn from(stream: PacketStream) -> Self {
        stream.socket.into()
    }
}

impl StreamListener {
    /// Listens on a vsock port.
    ///
    /// # Errors
    /// What the system says.
    pub fn vsock(port: u32) -> io::Result<Self> {
        Ok(Self { socket: vsock::listen(port)?, path: None })
    }

    /// Listens on a Unix socket, in place of one that nobody listens on any more.
    ///
    /// # Errors
    /// What the system says, `AddrInUse` where somebody does.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let address = unix_address(path)?;
        let bound =
            unix_socket().and_then(|socket| sys::bind(socket.as_fd(), &address.name()).map(|()| socket));
        let socket = match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(path).is_ok() {
                    return Err(error);
                }
                std::fs::remove_file(path)?;
                let socket = unix_socket()?;
                sys::bind(socket.as_fd(), &address.name())?;
                socket
            }
            result => result?,
        };
        sys::listen(socket.as_fd(), BACKLOG)?;
        Ok(Self { socket, path: Some(path.to_owned()) })
    }

    /// One that listens already; its path, if it has one, is another's to take away.
    pub(crate) fn inherit(socket: OwnedFd) -> io::Result<Self> {
        sys::fcntl(socket.as_fd(), libc::F_SETFL, libc::O_NONBLOCK)?;
        Ok(Self { socket, path: None })
    }

    /// Where it listens: a path, unless it is over vsock or was inherited.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// `WouldBlock` where there is none; otherwise what the system says.
    pub fn accept(&self) -> io::Result<(PacketStream, StreamPeer)> {
        let (socket, from) = sys::accept(self.socket.as_fd())?;
        let peer = vsock::peer(&from).map_or(StreamPeer::Unix, |(cid, _)| StreamPeer::Vsock { cid });
        Ok((PacketStream::new(socket, false), peer))
    }
}

impl AsFd for StreamListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for StreamListener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Somebody may have taken it away already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Connections waiting to be taken.
const BACKLOG: i32 = 256;

fn unix_socket() -> io::Result<OwnedFd> {
    sys::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
}

fn unix_address(path: &Path) -> io::Result<libc::sockaddr_un> {
    let mut address = libc::sockaddr_un::empty();
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or_default();
    let bytes = path.as_os_str().as_bytes();
    // One place stays zero: it ends the path.
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket's path has 1 to 107 bytes"));
    }
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll;
    use driftless_core::time::Span;

    fn wait(fd: BorrowedFd<'_>) {
        assert_eq!(poll::wait(&[fd], Some(Span::from_secs(2))).unwrap(), [true]);
    }

    fn exchange(listener: &StreamListener, address: &StreamAddress) -> StreamPeer {
        let mut client = PacketStream::connect(address).unwrap();
        wait(listener.as_fd());
        let (mut server, peer) = listener.accept().unwrap();
        assert!(poll::is_writable(client.as_fd(), Span::from_secs(2)));
        client.finish().unwrap();
        assert_eq!(server.recv().unwrap(), None, "nothing is there yet, and nothing blocks");
        client.send(&[7; 48]).unwrap();
        client.send(&[8; 48]).unwrap();
        wait(server.as_fd());
        assert_eq!([server.recv().unwrap(), server.recv().unwrap()], [Some([7; 48]), Some([8; 48])]);
        drop(server);
        wait(client.as_fd());
        assert_eq!(client.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        peer
    }

    #[test]
    fn packets_cross_a_unix_socket_and_its_end_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time.sock");
        let listener = StreamListener::unix(&path).unwrap();
        let address = StreamAddress::Unix(path.to_str().unwrap().to_owned());
        assert_eq!(exchange(&listener, &address), StreamPeer::Unix);
        assert_eq!(StreamListener::unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time.sock");
        let dead = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(dead);
        assert!(path.exists());
        assert!(StreamListener::unix(&path).is_ok());
    }

    #[test]
    fn a_packet_may_come_in_pieces() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let mut stream = PacketStream::new(one.into(), false);
        other.write_all(&[1; 30]).unwrap();
        assert_eq!(stream.recv().unwrap(), None);
        other.write_all(&[2; 30]).unwrap();
        let packet = stream.recv().unwrap().unwrap();
        assert_eq!((packet[29], packet[30]), (1, 2));
        other.write_all(&[3; 36]).unwrap();
        assert_eq!(stream.recv().unwrap().map(|packet| (packet[11], packet[12])), Some((2, 3)));
    }

    #[test]
    fn nobody_there_is_an_error_at_once() {
        let nobody = StreamAddress::Unix("/nonexistent/driftless".to_owned());
        assert_eq!(PacketStream::connect(&nobody).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(PacketStream::connect(&StreamAddress::Unix("x".repeat(108))).is_err());
    }

    #[test]
    fn packets_cross_vsock_and_tell_where_they_come_from() {
        if !vsock::has_loopback() {
            eprintln!("skipped: this kernel has no vsock loopback");
            return;
        }
        let port = 40_000 + std::process::id() % 10_000;
        let listener = StreamListener::vsock(port).unwrap();
        let address = StreamAddress::Vsock { cid: vsock::LOCAL, port };
        assert_eq!(exchange(&listener, &address), StreamPeer::Vsock { cid: vsock::LOCAL });
    }
}
