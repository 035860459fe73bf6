//! What the kernel tells of the network (`NETLINK_ROUTE`): a link, an address or a route came or went.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{self, Plain as _};

/// A socket on which the network's changes arrive.
#[derive(Debug)]
pub struct NetworkChanges(OwnedFd);

/// Links, addresses and routes of both families (linux/rtnetlink.h).
const GROUPS: [i32; 5] = [
    libc::RTMGRP_LINK,
    libc::RTMGRP_IPV4_IFADDR,
    libc::RTMGRP_IPV4_ROUTE,
    libc::RTMGRP_IPV6_IFADDR,
    libc::RTMGRP_IPV6_ROUTE,
];
/// What is not read of a message is lost with it: only that there was one matters.
const READ_BYTES: usize = 512;
/// Messages taken at once, so that a busy router does not hold us.
const MESSAGES_MAX: usize = 256;

impl NetworkChanges {
    /// Listens from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn open() -> io::Result<Self> {
        let groups = GROUPS.iter().fold(0, |all, group| all | group.unsigned_abs());
        listening(libc::NETLINK_ROUTE, groups).map(Self)
    }

    /// Whether anything changed since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut buffer = [0; READ_BYTES];
        let mut is_any = false;
        for _ in 0..MESSAGES_MAX {
            match sys::recvmsg(self.as_fd(), &mut buffer) {
                Ok(_) => is_any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Some were lost: something changed.
                Err(_) => return true,
            }
        }
        is_any
    }
}

/// A socket on which what `groups` of a netlink protocol tell arrives (netlink(7)).
pub(crate) fn listening(protocol: i32, groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let socket = sys::socket_of(libc::AF_NETLINK, kind, protocol)?;
    let mut address = libc::sockaddr_nl::empty();
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    address.nl_groups = groups;
    sys::bind(socket.as_fd(), &address.name())?;
    Ok(socket)
}

impl AsFd for NetworkChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_network_tells_nothing() {
        let changes = NetworkChanges::open().unwrap();
        let _ = changes.take();
        // Another test may change a network namespace, not this one.
        assert!(!changes.take());
    }
}
