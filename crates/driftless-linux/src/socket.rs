//! A client's UDP socket, for one request, with the kernel's receive stamp.
//!
//! It is bound to a port of the kernel's random choice (RFC 9109: a fresh one each time; the kernel's choice follows RFC 6056)
//! and connected, so that ICMP errors come back and foreign packets do not.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use driftless_core::time::WallTime;

use crate::sys;

/// A connected, non-blocking UDP socket.
#[derive(Debug)]
pub struct RequestSocket(UdpSocket);

impl RequestSocket {
    /// Opens a socket and connects it to `to`.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = UdpSocket::from(open(family)?);
        socket.connect(to)?;
        // Without stamps we read the clock ourselves: a little later, not wrong.
        let _ = sys::stamp_arrivals(socket.as_fd());
        Ok(Self(socket))
    }

    /// Sends a packet to the peer.
    ///
    /// # Errors
    /// What the system says, an ICMP error of an earlier packet among it.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.0.send(data)
    }

    /// Takes one packet: its length, its sender, and the kernel's stamp of its arrival.
    ///
    /// # Errors
    /// `WouldBlock` where there is none; otherwise what the system says.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<WallTime>)> {
        receive(self.as_fd(), buffer)
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<WallTime>)> {
    let received = sys::recvmsg(socket, buffer)?;
    let from = sys::address(&received.from)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a packet without a sender"))?;
    let stamp = received.stamp.map(|time| WallTime::from_parts(time.tv_sec, time.tv_nsec));
    Ok((received.length, from, stamp))
}

impl AsFd for RequestSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Flags first; a simulator knows only the bare type, so then `fcntl`.
pub(crate) fn open(family: i32) -> io::Result<OwnedFd> {
    match sys::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let fd = sys::socket(family, libc::SOCK_DGRAM)?;
            sys::fcntl(fd.as_fd(), libc::F_SETFL, libc::O_NONBLOCK)?;
            sys::fcntl(fd.as_fd(), libc::F_SETFD, libc::FD_CLOEXEC)?;
            Ok(fd)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_on_loopback() -> io::Result<()> {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let client = RequestSocket::connect(server.local_addr()?)?;
        client.send(b"ask")?;
        let mut buffer = [0; 48];
        let (_, from) = server.recv_from(&mut buffer)?;
        server.send_to(b"reply", from)?;
        assert_eq!(
            crate::poll::wait(&[client.as_fd()], Some(driftless_core::time::Span::from_secs(2)))?,
            [true]
        );
        let (length, from, stamp) = client.recv(&mut buffer)?;
        assert_eq!((length, from), (5, server.local_addr()?));
        assert!(stamp.is_some(), "the kernel stamps what arrives on loopback");
        Ok(())
    }
}
