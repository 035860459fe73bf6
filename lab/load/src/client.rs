//! A client socket, and its requests that are under way.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use anyhow::Result;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg, setsockopt};

use crate::exchange::{Base, Key, Kind, LENGTH};

/// Packets taken or sent in one call.
pub(crate) const BATCH: usize = 64;

/// Requests whose replies are waited for: more than any socket's buffer holds.
const UNDER_WAY_MAX: usize = 1 << 16;
/// Room for a reply that is too long.
const ROOM: usize = LENGTH + 1;

/// A client.
pub(crate) struct Client {
    socket: UdpSocket,
    to: SockaddrIn,
    kind: Kind,
    key: Key,
    base: Base,
    /// Each request's number and when it left, until it is answered or its place is another's.
    under_way: Box<[Option<(u32, Instant)>]>,
    next: u32,
    leaving: [[u8; LENGTH]; BATCH],
    arriving: MultiHeaders<()>,
}

/// What came in.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests sent.
    pub(crate) asked: u64,
    /// Good replies.
    pub(crate) replies: u64,
    /// Replies that are none to what was asked.
    pub(crate) wrong: u64,
    /// Good replies to what is not waited for any more.
    pub(crate) stray: u64,
    /// From asked to answered, ns.
    pub(crate) latencies_ns: Vec<u32>,
}

impl Client {
    /// A client of the server at `to`.
    pub(crate) fn new(to: SocketAddrV4, kind: Kind) -> Result<Self> {
        let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        // What is written in one call becomes packets of this length: that way one core can offer more than another can answer.
        setsockopt(&socket, UdpGsoSegment, &i32::try_from(LENGTH)?)?;
        let key = Key(u32::try_from(RandomState::new().hash_one(0) >> 32)?);
        Ok(Self {
            socket,
            to: SockaddrIn::from(to),
            kind,
            key,
            base: Base::now(),
            under_way: vec![None; UNDER_WAY_MAX].into(),
            next: 0,
            leaving: [[0; LENGTH]; BATCH],
            arriving: MultiHeaders::preallocate(BATCH, None),
        })
    }

    /// Sends up to [`BATCH`] requests, from another of this machine's addresses where one is given.
    pub(crate) fn ask(&mut self, count: usize, from: Option<Ipv4Addr>, tally: &mut Tally) -> Result<()> {
        let now = Instant::now();
        let leaving = self.leaving.get_mut(..count).unwrap_or_default();
        for packet in leaving.iter_mut() {
            self.key.write_request(self.next, packet);
            if let Some(place) = self.under_way.get_mut(place(self.next)) {
                *place = Some((self.next, now));
            }
            self.next = self.next.wrapping_add(1);
            tally.asked += 1;
        }
        self.send(count, from)
    }

    fn send(&self, count: usize, from: Option<Ipv4Addr>) -> Result<()> {
        let data = self.leaving.get(..count).unwrap_or_default().as_flattened();
        let source = in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: from.map_or(0, |from| u32::from_ne_bytes(from.octets())) },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let chosen = [ControlMessage::Ipv4PacketInfo(&source)];
        let control = if from.is_some() { chosen.as_slice() } else { &[] };
        let socket = self.socket.as_raw_fd();
        match sendmsg(socket, &[IoSlice::new(data)], control, MsgFlags::MSG_DONTWAIT, Some(&self.to)) {
            // A refusal belongs to an earlier packet. What finds no room is lost, as it might be anywhere on its way.
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what has come in; returns how many good replies that were.
    pub(crate) fn collect(&mut self, tally: &mut Tally) -> Result<usize> {
        let mut packets = [[0; ROOM]; BATCH];
        let mut places = packets.each_mut().map(|packet| [IoSliceMut::new(packet)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let received =
            match recvmmsg(self.socket.as_raw_fd(), &mut self.arriving, places.iter_mut(), flags, None) {
                Ok(received) => received,
                Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
        let now = Instant::now();
        let mut good = 0;
        for message in received {
            let packet = message.iovs().next().unwrap_or_default();
            let Some((number, times)) = self.key.read(packet, self.kind) else {
                tally.wrong += 1;
                continue;
            };
            let under_way = self.under_way.get_mut(place(number));
            let asked = under_way.and_then(|place| place.take_if(|(asked, _)| *asked == number));
            let Some((_, asked)) = asked else {
                tally.stray += 1;
                continue;
            };
            if times.is_some_and(|times| !self.base.allows(times, asked, now)) {
                tally.wrong += 1;
                continue;
            }
            let latency = u32::try_from((now - asked).as_nanos()).unwrap_or(u32::MAX);
            tally.latencies_ns.push(latency);
            tally.replies += 1;
            good += 1;
        }
        Ok(good)
    }
}

const fn place(number: u32) -> usize {
    number as usize % UNDER_WAY_MAX
}
