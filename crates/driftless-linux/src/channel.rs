//! A channel of bytes to the host's tools: a virtio-serial port, or an accepted stream. The guest agent's protocol runs over it.
//!
//! A port with nobody at the host's end always claims to have hung up: it is then left out of the waiting, and asked again now and then.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::{poll, sys};

/// The port that QEMU's tools expect an agent at.
pub const AGENT_PORT: &str = "/dev/virtio-ports/org.qemu.guest_agent.0";

/// An open channel. Nothing here blocks.
#[derive(Debug)]
pub struct Channel {
    device: File,
    /// Whether the other end may come and go: a port stays, a stream that has ended is gone.
    is_port: bool,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The other side is gone, for good.
    End,
}

impl Channel {
    /// Opens a virtio-serial port.
    ///
    /// # Errors
    /// What the system says; `EBUSY` where another agent has it.
    pub fn port(path: &Path) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())?;
        let device = sys::open(&name, libc::O_RDWR | libc::O_NONBLOCK)?;
        Ok(Self { device: device.into(), is_port: true })
    }

    /// A stream that somebody opened to us.
    pub fn stream(stream: impl Into<OwnedFd>) -> Self {
        Self { device: stream.into().into(), is_port: false }
    }

    /// What to wait on. None as long as nobody is at a port's other end.
    #[must_use]
    pub fn waitable(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.device.as_fd();
        (!self.is_port || !poll::is_hung_up(fd)).then_some(fd)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        match self.device.read(buffer) {
            Ok(0) if self.is_port => Ok(Got::Nothing),
            Ok(0) => Ok(Got::End),
            Ok(count) => Ok(Got::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Got::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Writes a reply.
    ///
    /// # Errors
    /// What the system says: a host that does not read its replies does not get them.
    pub fn write(&mut self, reply: &[u8]) -> io::Result<()> {
        self.device.write_all(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_streams_bytes_and_its_end_are_told() {
        let (one, mut other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let mut channel = Channel::stream(one);
        let mut buffer = [0; 16];
        assert_eq!(channel.read(&mut buffer).unwrap(), Got::Nothing);
        other.write_all(b"ask").unwrap();
        assert!(channel.waitable().is_some());
        assert_eq!(channel.read(&mut buffer).unwrap(), Got::Bytes(3));
        channel.write(b"reply").unwrap();
        let mut reply = [0; 5];
        other.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"reply");
        drop(other);
        assert_eq!(channel.read(&mut buffer).unwrap(), Got::End);
    }

    #[test]
    fn a_port_without_a_host_is_not_waited_on() {
        let (one, other) = UnixStream::pair().unwrap();
        let channel = Channel { device: OwnedFd::from(one).into(), is_port: true };
        assert!(channel.waitable().is_some());
        drop(other);
        assert!(channel.waitable().is_none());
        assert_eq!(Channel::port(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
