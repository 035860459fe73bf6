//! Sockets that whoever started us has opened already (`sd_listen_fds(3)`): a service manager, who may use ports that we may not.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::datagrams::ServerSocket;
use crate::stream::StreamListener;
use crate::sys;

/// One of them.
#[derive(Debug)]
pub enum Inherited {
    /// For datagrams over IP.
    Datagrams(ServerSocket),
    /// For streams over vsock or a Unix socket.
    Streams(StreamListener),
}

/// The first of them, by the protocol.
const FIRST: i32 = 3;
/// More than anybody means.
const MOST: i32 = 64;

/// Takes them; none where nobody left any, or they are another process's. To be called once, before other descriptors are opened.
///
/// # Errors
/// What the system says of one that is no socket that can be served on.
pub fn take(is_plain: bool) -> io::Result<Vec<Inherited>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST);
    (FIRST..FIRST + count).map(|number| of(sys::inherited(number), is_plain)).collect()
}

fn of(socket: OwnedFd, is_plain: bool) -> io::Result<Inherited> {
    let option = |name| {
        let mut value = [0];
        sys::options(socket.as_fd(), libc::SOL_SOCKET, name, &mut value).map(|_| value[0])
    };
    let is = |value: u32, expected: i32| u32::try_from(expected) == Ok(value);
    sys::fcntl(socket.as_fd(), libc::F_SETFD, libc::FD_CLOEXEC)?;
    let (kind, family) = (option(libc::SO_TYPE)?, option(libc::SO_DOMAIN)?);
    if is(kind, libc::SOCK_DGRAM) && (is(family, libc::AF_INET) || is(family, libc::AF_INET6)) {
        return ServerSocket::inherit(socket, is_plain).map(Inherited::Datagrams);
    }
    let is_local = is(family, libc::AF_UNIX) || is(family, libc::AF_VSOCK);
    if is(kind, libc::SOCK_STREAM) && is_local && option(libc::SO_ACCEPTCONN)? == 1 {
        return StreamListener::inherit(socket).map(Inherited::Streams);
    }
    let what =
        "an inherited descriptor is neither a UDP socket nor one that listens for vsock or Unix streams";
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_can_be_served_on_is_taken_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(of(udp.into(), false), Ok(Inherited::Datagrams(_))));
        let path = folder.path().join("time");
        let listener = UnixListener::bind(&path).unwrap();
        let taken = of(listener.into(), false).unwrap();
        assert!(matches!(taken, Inherited::Streams(_)));
        drop(taken);
        assert!(path.exists(), "its path belongs to whoever made it");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(of(tcp.into(), false).is_err());
        let (connected, _other) = UnixStream::pair().unwrap();
        assert!(of(connected.into(), false).is_err());
    }

    #[test]
    fn nobody_elses_are_taken() {
        assert!(take(false).unwrap().is_empty());
    }
}
