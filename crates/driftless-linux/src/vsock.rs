//! Sockets between a guest and its host (`vsock(7)`): no network, no addresses to configure, and the host known by its context id.
//!
//! A context id cannot be forged by a guest's processes, unlike an IP address: what comes from [`HOST`] comes from the host.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::sys::{self, Plain as _};
use crate::{ioctl, poll};
use driftless_core::time::Span;

/// The host's context id.
pub const HOST: u32 = libc::VMADDR_CID_HOST;
/// This machine's own, where the kernel has a loopback for it.
pub const LOCAL: u32 = libc::VMADDR_CID_LOCAL;
/// Where `LinuxKit`'s host connects when it has woken up: look now.
pub const WAKE_PORT: u32 = 0xf3a4;
/// Where libkrun sends the time, and where we serve it.
pub const TIME_PORT: u32 = 123;

/// This machine's context id, which the hypervisor gave it.
///
/// # Errors
/// What the system says: `NotFound` where there is no vsock at all.
pub fn local_cid() -> io::Result<u32> {
    let device = sys::open(c"/dev/vsock", libc::O_RDONLY)?;
    let mut cid = 0;
    sys::ioctl(device.as_fd(), &ioctl::VSOCK_LOCAL_CID, &mut cid)?;
    Ok(cid)
}

/// This machine's context id where it is a guest: the smaller ones are the hypervisor's, itself and the host's, the largest is nobody's.
#[must_use]
pub fn guest_cid() -> Option<u32> {
    local_cid().ok().filter(|cid| (HOST + 1..libc::VMADDR_CID_ANY).contains(cid))
}

/// A stream on its way to a context id's port: it is connected once it is writable without an error.
pub(crate) fn connect(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = socket(libc::SOCK_STREAM)?;
    match sys::connect(socket.as_fd(), &address(cid, port).name()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// A socket that listens on a port for anybody.
pub(crate) fn listen(port: u32) -> io::Result<OwnedFd> {
    let socket = socket(libc::SOCK_STREAM)?;
    sys::bind(socket.as_fd(), &address(libc::VMADDR_CID_ANY, port).name())?;
    sys::listen(socket.as_fd(), BACKLOG)?;
    Ok(socket)
}

/// Who connected: context id and port.
pub(crate) fn peer(storage: &libc::sockaddr_storage) -> Option<(u32, u32)> {
    let address = libc::sockaddr_vm::from_storage(storage);
    (i32::from(storage.ss_family) == libc::AF_VSOCK).then_some((address.svm_cid, address.svm_port))
}

/// Datagrams with the time in them, as libkrun's host sends them: 8 bytes, ns since 1970, little-endian.
#[derive(Debug)]
pub struct TimeDatagrams(OwnedFd);

impl TimeDatagrams {
    /// Listens on [`TIME_PORT`].
    ///
    /// # Errors
    /// What the system says: `ENODEV` on kernels whose transport has no datagrams, as virtio's in mainline.
    pub fn listen() -> io::Result<Self> {
        let socket = socket(libc::SOCK_DGRAM)?;
        sys::bind(socket.as_fd(), &address(libc::VMADDR_CID_ANY, TIME_PORT).name())?;
        Ok(Self(socket))
    }

    /// What to wait on.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes one datagram from the host: its length. None where it came from somebody else.
    ///
    /// # Errors
    /// `WouldBlock` where there is none; otherwise what the system says.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let received = sys::recvmsg(self.as_fd(), buffer)?;
        Ok(peer(&received.from).filter(|(cid, _)| *cid == HOST).map(|_| received.length))
    }
}

/// Connections waiting to be taken.
const BACKLOG: i32 = 64;

fn socket(kind: i32) -> io::Result<OwnedFd> {
    sys::socket(libc::AF_VSOCK, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
}

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    let mut address = libc::sockaddr_vm::empty();
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).unwrap_or_default();
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

/// Whether this kernel carries vsock streams to itself: what tests need.
#[must_use]
pub fn has_loopback() -> bool {
    const FREE_PORT: u32 = 0x6472_6966;
    let Ok(_listener) = listen(FREE_PORT) else { return false };
    let Ok(client) = connect(LOCAL, FREE_PORT) else { return false };
    poll::is_writable(client.as_fd(), Span::from_millis(200))
}
