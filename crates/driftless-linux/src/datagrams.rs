//! A server's datagrams, many in one call: a system call costs more than all that is decided about a packet.
//!
//! Each comes with the kernel's stamp of its arrival; on a socket for all addresses with the one it was sent to, so that the reply leaves from
//! there. Where the kernel, or a preloaded simulator, does not have the calls for many, they go one by one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use driftless_core::server::REQUEST_MAX;
use driftless_core::time::WallTime;

use crate::control_message::{self, Writer};
use crate::socket::open;
use crate::sys::{self, Headers, Slot};

/// A bound, non-blocking UDP socket that answers many.
#[derive(Debug)]
pub struct ServerSocket {
    socket: OwnedFd,
    /// Bound to all addresses: replies must say from which.
    is_for_all: bool,
    /// One datagram a call.
    is_plain: bool,
    /// Whether departures can be stamped; None before it was tried.
    follows: Option<bool>,
}

/// How a socket is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opening {
    /// Others of ours will be bound to the same address, and the kernel spreads clients over them.
    pub is_shared: bool,
    /// An IPv6 socket for all addresses leaves those of IPv4 to another.
    pub is_v6_only: bool,
    /// One datagram a call.
    pub is_plain: bool,
}

/// Datagrams of one call.
pub struct Batch {
    slots: Vec<Slot>,
    headers: Headers,
    filled: usize,
    /// Slots whose replies wait to be sent.
    chosen: Vec<usize>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// What it holds; longer than [`REQUEST_MAX`] where it was cut.
    pub packet: &'a [u8],
    /// Who sent it.
    pub from: SocketAddr,
    /// When the kernel took it in.
    pub stamp: Option<WallTime>,
}

/// Datagrams in one call. More would make the last ones wait for the first, and gain no more.
pub const BATCH: usize = 64;
/// The least that is asked for, so that a server that is seldom asked does not prepare for many.
const BATCH_MIN: usize = 4;
/// Octets that the kernel may keep for us: some thousand requests, or ten milliseconds of a busy server. It counts each at about 800.
const QUEUE_OCTETS: i32 = 1 << 20;
/// `SO_MEMINFO` of asm-generic/socket.h.
const SO_MEMINFO: i32 = 55;
/// Words of its answer up to the count of drops (`linux/sock_diag.h`).
const MEMINFO_WORDS: usize = 9;

impl ServerSocket {
    /// Binds to `address`.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr, opening: Opening) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = open(family)?;
        if opening.is_shared {
            sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if address.is_ipv6() && opening.is_v6_only {
            sys::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        sys::bind(socket.as_fd(), &sys::ip_name(address))?;
        Ok(Self::of(socket, address, opening.is_plain))
    }

    /// One that is bound already.
    ///
    /// # Errors
    /// What the system says.
    pub fn inherit(socket: OwnedFd, is_plain: bool) -> io::Result<Self> {
        let address = local_address(socket.as_fd())?;
        sys::fcntl(socket.as_fd(), libc::F_SETFL, libc::O_NONBLOCK)?;
        Ok(Self::of(socket, address, is_plain))
    }

    fn of(socket: OwnedFd, address: SocketAddr, is_plain: bool) -> Self {
        let fd = socket.as_fd();
        // Without stamps we read the clock ourselves: a little later, not wrong. Without room, more is lost under load, and counted.
        let _ = sys::stamp_arrivals(fd);
        if sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, QUEUE_OCTETS).is_err() {
            let _ = sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, QUEUE_OCTETS);
        }
        let is_for_all = address.ip().is_unspecified();
        if is_for_all {
            // A socket of IPv6 needs both, the first for clients of IPv4. What cannot be had leaves the choice of address to the kernel.
            let _ = sys::set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1);
            if address.is_ipv6() {
                let _ = sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1);
            }
        }
        Self { socket, is_for_all, is_plain, follows: None }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_address(self.as_fd())
    }

    /// Datagrams lost since it was opened, because the queue was full. None where the kernel does not say.
    #[must_use]
    pub fn lost(&self) -> Option<u32> {
        let mut words = [0; MEMINFO_WORDS];
        let count = sys::options(self.as_fd(), libc::SOL_SOCKET, SO_MEMINFO, &mut words).ok()?;
        words.get(..count)?.get(MEMINFO_WORDS - 1).copied()
    }

    /// The same socket once more, to ask it what was lost.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, ..*self })
    }

    /// Whether departures are stamped, as a reply was to be followed.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.follows == Some(true)
    }

    /// Whether departures are stamped from now on.
    fn follows(&mut self) -> bool {
        const ASKED: u32 = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE;
        *self.follows.get_or_insert_with(|| {
            let asked = i32::try_from(ASKED).unwrap_or(0);
            sys::set_option(self.socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, asked).is_ok()
        })
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// With room for [`BATCH`] datagrams.
    #[must_use]
    pub fn new() -> Self {
        Self {
            slots: (0..BATCH).map(|_| Slot::empty()).collect(),
            headers: Headers::new(BATCH),
            filled: 0,
            chosen: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there, in place of what was taken before: how many.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where nothing is there.
    pub fn receive(&mut self, socket: &mut ServerSocket) -> io::Result<usize> {
        self.chosen.clear();
        // Twice the last time's: preparing room costs, too.
        let wanted = (self.filled * 2).clamp(BATCH_MIN, BATCH);
        self.filled = 0;
        if !socket.is_plain {
            let slots = self.slots.get_mut(..wanted).unwrap_or_default();
            match sys::recvmmsg(socket.as_fd(), &mut self.headers, slots) {
                Err(error) if is_unknown(&error) => socket.is_plain = true,
                result => {
                    self.filled = result?;
                    return Ok(self.filled);
                }
            }
        }
        for slot in self.slots.iter_mut().take(wanted) {
            match sys::recvmsg_into(socket.as_fd(), &mut self.headers, slot, 0) {
                Ok(()) => self.filled += 1,
                Err(error) if self.filled == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(self.filled)
    }

    /// How many were taken.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether none was.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// One of those that were taken. None for one without a sender.
    #[must_use]
    pub fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        let slot = self.slots.get(..self.filled)?.get(index)?;
        let packet = slot.packet.get(..slot.packet_length)?;
        let from = sys::address(&slot.name)?;
        Some(Datagram { packet, from, stamp: control_message::read(slot.control()).stamp })
    }

    /// Has `reply` sent to the sender of a datagram, in its place. Where `is_followed`, its departure will be told by [`Self::departures`].
    pub fn reply(&mut self, socket: &mut ServerSocket, index: usize, reply: &[u8; 48], is_followed: bool) {
        let Some(slot) = self.slots.get_mut(..self.filled).and_then(|filled| filled.get_mut(index)) else {
            return;
        };
        let destination =
            if socket.is_for_all { control_message::read(slot.control()).destination } else { None };
        let mut writer = Writer::new(&mut slot.control);
        if let Some(destination) = destination {
            writer.from(destination);
        }
        if is_followed && socket.follows() {
            writer.stamped();
        }
        slot.control_length = writer.length();
        slot.packet_length = reply.len();
        if let Some(room) = slot.packet.first_chunk_mut() {
            *room = *reply;
        }
        self.chosen.push(index);
    }

    /// Sends the replies: how many left. What cannot be sent now is not tried again: its client will.
    pub fn send(&mut self, socket: &mut ServerSocket) -> usize {
        let (mut from, mut left) = (0, 0);
        while let Some(&first) = self.chosen.get(from) {
            let sent = if socket.is_plain {
                let Some(slot) = self.slots.get_mut(first) else { break };
                sys::sendmsg_from(socket.as_fd(), &mut self.headers, slot).map(|()| 1)
            } else {
                let rest = self.chosen.get(from..).unwrap_or_default();
                sys::sendmmsg(socket.as_fd(), &mut self.headers, &mut self.slots, rest)
            };
            match sent {
                Ok(count) => (from, left) = (from + count.max(1), left + count),
                Err(error) if is_unknown(&error) && !socket.is_plain => socket.is_plain = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // That one cannot be sent, the next may.
                Err(_) => from += 1,
            }
        }
        left
    }

    /// Tells which replies left when, as far as the kernel has said by now. What was taken before is gone.
    pub fn departures(&mut self, socket: &ServerSocket, mut told: impl FnMut(&[u8; 48], WallTime)) {
        self.filled = 0;
        if !socket.is_following() {
            return;
        }
        let Some(slot) = self.slots.first_mut() else { return };
        // Bounded: no more than a batch can have left behind.
        for _ in 0..BATCH {
            if sys::recvmsg_into(socket.as_fd(), &mut self.headers, slot, libc::MSG_ERRQUEUE).is_err() {
                return;
            }
            // The kernel gives the whole frame back: headers, then what we sent.
            let sent = slot.packet.get(..slot.packet_length).and_then(|frame| frame.last_chunk());
            if let Some((sent, stamp)) = sent.zip(control_message::read(slot.control()).stamp) {
                told(sent, stamp);
            }
        }
    }
}

// A packet that is too long must be seen to be.
const _: () = assert!(sys::PACKET_ROOM > REQUEST_MAX);

/// A call that this kernel, or who stands in for it, does not have.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL))
}

fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    sys::address(&sys::local_name(fd)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a socket of IPv4 or IPv6"))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use driftless_core::time::Span;

    fn wait(socket: &ServerSocket) {
        assert_eq!(crate::poll::wait(&[socket.as_fd()], Some(Span::from_secs(2))).unwrap(), [true]);
    }

    fn server(address: &str, is_plain: bool) -> ServerSocket {
        let opening = Opening { is_plain, ..Opening::default() };
        ServerSocket::bind(address.parse().unwrap(), opening).unwrap()
    }

    #[test]
    fn many_are_taken_and_answered_at_once_and_one_by_one() {
        for is_plain in [false, true] {
            let mut socket = server("127.0.0.1:0", is_plain);
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(socket.local_addr().unwrap()).unwrap();
            let mut batch = Batch::new();
            let mut expected: u8 = 0;
            for _ in 0..3 {
                (0..100).for_each(|n| assert_eq!(client.send(&[n; 60]).unwrap(), 60));
                while expected < 100 {
                    wait(&socket);
                    let count = batch.receive(&mut socket).unwrap();
                    for index in 0..count {
                        let datagram = batch.datagram(index).unwrap();
                        assert_eq!(
                            (datagram.packet, datagram.from),
                            (&[expected; 60][..], client.local_addr().unwrap())
                        );
                        assert!(datagram.stamp.is_some());
                        batch.reply(&mut socket, index, &[expected; 48], false);
                        expected += 1;
                    }
                    assert_eq!(batch.send(&mut socket), count);
                }
                let mut reply = [0; 100];
                for n in 0..100 {
                    assert_eq!(client.recv(&mut reply).unwrap(), 48);
                    assert_eq!(reply[0], n);
                }
                expected = 0;
            }
            assert_eq!(socket.lost(), Some(0));
        }
    }

    #[test]
    fn a_reply_leaves_from_the_address_that_was_asked() {
        for (listen, asked) in [("0.0.0.0:0", "127.0.0.77"), ("[::]:0", "127.0.0.77"), ("[::]:0", "::1")] {
            let mut socket = server(listen, false);
            let asked = SocketAddr::new(asked.parse().unwrap(), socket.local_addr().unwrap().port());
            // Connected: a reply from another address would not come in.
            let client = UdpSocket::bind(if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
            client.connect(asked).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            client.send(&[1; 48]).unwrap();
            wait(&socket);
            let mut batch = Batch::new();
            assert_eq!(batch.receive(&mut socket).unwrap(), 1);
            batch.reply(&mut socket, 0, &[2; 48], false);
            assert_eq!(batch.send(&mut socket), 1);
            assert_eq!(client.recv(&mut [0; 100]).unwrap(), 48, "{listen} {asked}");
        }
    }

    #[test]
    fn the_kernel_tells_when_a_followed_reply_left() {
        let mut socket = server("127.0.0.1:0", false);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut batch = Batch::new();
        for round in 0..3 {
            client.send_to(&[1; 48], socket.local_addr().unwrap()).unwrap();
            wait(&socket);
            assert_eq!(batch.receive(&mut socket).unwrap(), 1);
            let came = batch.datagram(0).unwrap().stamp.unwrap();
            let before = crate::clock::now().0.wall;
            batch.reply(&mut socket, 0, &[round; 48], true);
            assert_eq!(batch.send(&mut socket), 1);
            let after = crate::clock::now().0.wall;
            let mut told = Vec::new();
            batch.departures(&socket, |packet, stamp| told.push((*packet, stamp)));
            let [(packet, stamp)] = told[..] else { panic!("{told:?}") };
            assert_eq!(packet, [round; 48]);
            assert!(
                came < before && before < stamp && stamp < after,
                "{came:?} {before:?} {stamp:?} {after:?}"
            );
        }
    }

    #[test]
    fn what_is_lost_and_what_is_cut_is_seen() {
        let mut socket = server("127.0.0.1:0", false);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        client.send_to(&[1; 2_000], to).unwrap();
        wait(&socket);
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&mut socket).unwrap(), 1);
        assert!(batch.datagram(0).unwrap().packet.len() > REQUEST_MAX);
        for _ in 0..5_000 {
            client.send_to(&[1; 48], to).unwrap();
        }
        let lost = socket.lost().unwrap();
        assert!((1..5_000).contains(&lost), "{lost}");
    }

    #[test]
    fn sockets_share_an_address_only_where_both_want_it() {
        let shared = Opening { is_shared: true, ..Opening::default() };
        let one = ServerSocket::bind("127.0.0.1:0".parse().unwrap(), shared).unwrap();
        let address = one.local_addr().unwrap();
        assert!(ServerSocket::bind(address, shared).is_ok());
        let error = ServerSocket::bind(address, Opening::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
