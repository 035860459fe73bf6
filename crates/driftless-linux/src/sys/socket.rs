//! Sockets.

use std::io::{Error, Result};
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use super::{check, raw};

/// `socket(2)` with the family's usual protocol.
pub(crate) fn socket(family: i32, kind: i32) -> Result<OwnedFd> {
    socket_of(family, kind, 0)
}

/// `socket(2)`.
pub(crate) fn socket_of(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Turns a socket's time stamps on: `SO_TIMESTAMPNS`, software receive stamps on the wall clock (socket(7)).
pub(crate) fn stamp_arrivals(fd: BorrowedFd<'_>) -> Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

/// `setsockopt(2)` with an integer.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: `value` lives over the call and is as long as said.
    check(unsafe { libc::setsockopt(raw(fd), level, name, (&raw const value).cast(), length) }).map(drop)
}

/// `getsockopt(2)` of integers: how many of `values` were filled.
pub(crate) fn options(fd: BorrowedFd<'_>, level: i32, name: i32, values: &mut [u32]) -> Result<usize> {
    let mut length = libc::socklen_t::try_from(size_of_val(values)).map_err(Error::other)?;
    // SAFETY: pointer and length describe the exclusively borrowed slice.
    check(unsafe { libc::getsockopt(raw(fd), level, name, values.as_mut_ptr().cast(), &raw mut length) })?;
    Ok(usize::try_from(length).unwrap_or(0) / size_of::<u32>())
}

/// The address that a socket is bound to (`getsockname(2)`).
pub(crate) fn local_name(fd: BorrowedFd<'_>) -> Result<libc::sockaddr_storage> {
    // SAFETY: all zeroes is a valid `sockaddr_storage`: no address.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0);
    // SAFETY: address and length live over the call; the length is the address's own.
    check(unsafe { libc::getsockname(raw(fd), (&raw mut storage).cast(), &raw mut length) })?;
    Ok(storage)
}

/// The descriptor `number`, which whoever started us left open for us (`sd_listen_fds(3)`).
pub(crate) fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the caller takes each of the numbers that the protocol hands over, once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// What `recvmsg(2)` gave: length, sender, and the kernel's stamp of the arrival.
pub(crate) struct Received {
    pub(crate) length: usize,
    pub(crate) from: libc::sockaddr_storage,
    pub(crate) stamp: Option<libc::timespec>,
}

/// Room for control messages, aligned as their headers want it.
#[repr(align(8))]
struct ControlRoom([u8; 128]);

/// `recvmsg(2)` of one datagram with its stamp.
pub(crate) fn recvmsg(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received> {
    // SAFETY: all zeroes is a valid `sockaddr_storage`: no address.
    let mut from: libc::sockaddr_storage = unsafe { zeroed() };
    let mut room = ControlRoom([0; 128]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid `msghdr`: nothing anywhere.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(128);
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = room.0.as_mut_ptr().cast();
    message.msg_controllen = room.0.len();
    // SAFETY: every pointer in `message` is to a live, exclusively borrowed object of the length given beside it.
    let length = unsafe { libc::recvmsg(raw(fd), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| Error::last_os_error())?;
    Ok(Received { length, from, stamp: arrival_stamp(&message) })
}

/// The `SCM_TIMESTAMPNS` among a message's control messages.
fn arrival_stamp(message: &libc::msghdr) -> Option<libc::timespec> {
    // SAFETY: the kernel filled `message`; its control room is still alive in the caller.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // Bounded: the room holds no more headers than this.
    for _ in 0..8 {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header inside of the room.
        let header = unsafe { next.as_ref() }?;
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: as above; CMSG_DATA only computes.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: a message of this type carries a timespec; it need not be aligned.
            return Some(unsafe { data.cast::<libc::timespec>().read_unaligned() });
        }
        // SAFETY: `next` is a header of `message`.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    None
}

/// Reads an address that the kernel wrote.
pub(crate) fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a `sockaddr_in`, which is smaller and less aligned.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = std::net::Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a `sockaddr_in6`, which is smaller and less aligned.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = std::net::Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(std::net::SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// A socket's address of a family that std does not know.
pub(crate) struct Name {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

/// Socket addresses that are integers and nothing else.
pub(crate) trait Plain: Copy + Sized {
    /// No address.
    fn empty() -> Self {
        // SAFETY: implemented only for structures of integers, for which zero is a valid value.
        unsafe { zeroed() }
    }

    /// What a received address holds. The caller looks at the family first.
    fn from_storage(storage: &libc::sockaddr_storage) -> Self {
        // SAFETY: smaller than the storage and no more aligned, and any bytes are valid integers.
        unsafe { (&raw const *storage).cast::<Self>().read() }
    }

    /// As the calls below want it.
    fn name(self) -> Name {
        // SAFETY: all zeroes is a valid `sockaddr_storage`: no address.
        let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
        // SAFETY: smaller than the storage and no more aligned.
        unsafe { (&raw mut storage).cast::<Self>().write(self) };
        Name { storage, length: libc::socklen_t::try_from(size_of::<Self>()).unwrap_or(0) }
    }
}

impl Plain for libc::sockaddr_in {}
impl Plain for libc::sockaddr_in6 {}
impl Plain for libc::sockaddr_vm {}
impl Plain for libc::sockaddr_nl {}
impl Plain for libc::sockaddr_un {}

/// An IP address as the calls below want it.
pub(crate) fn ip_name(address: SocketAddr) -> Name {
    let family = |family: i32| libc::sa_family_t::try_from(family).unwrap_or_default();
    match address {
        SocketAddr::V4(v4) => {
            let mut name = libc::sockaddr_in::empty();
            name.sin_family = family(libc::AF_INET);
            name.sin_port = v4.port().to_be();
            name.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            name.name()
        }
        SocketAddr::V6(v6) => {
            let mut name = libc::sockaddr_in6::empty();
            name.sin6_family = family(libc::AF_INET6);
            name.sin6_port = v6.port().to_be();
            name.sin6_flowinfo = v6.flowinfo();
            name.sin6_addr.s6_addr = v6.ip().octets();
            name.sin6_scope_id = v6.scope_id();
            name.name()
        }
    }
}

/// `connect(2)`.
pub(crate) fn connect(fd: BorrowedFd<'_>, name: &Name) -> Result<()> {
    // SAFETY: the address lives over the call and is as long as said.
    check(unsafe { libc::connect(raw(fd), (&raw const name.storage).cast(), name.length) }).map(drop)
}

/// `bind(2)`.
pub(crate) fn bind(fd: BorrowedFd<'_>, name: &Name) -> Result<()> {
    // SAFETY: the address lives over the call and is as long as said.
    check(unsafe { libc::bind(raw(fd), (&raw const name.storage).cast(), name.length) }).map(drop)
}

/// `listen(2)`.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::listen(raw(fd), backlog) }).map(drop)
}

/// `accept4(2)`, non-blocking and closed on exec: the connection and who it is.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> Result<(OwnedFd, libc::sockaddr_storage)> {
    // SAFETY: all zeroes is a valid `sockaddr_storage`: no address.
    let mut peer: libc::sockaddr_storage = unsafe { zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0);
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: address and length live over the call; the length is the address's own.
    let code = unsafe { libc::accept4(raw(fd), (&raw mut peer).cast(), &raw mut length, flags) };
    let connection = check(code)?;
    // SAFETY: the kernel just made it, nobody else owns it.
    Ok((unsafe { OwnedFd::from_raw_fd(connection) }, peer))
}
