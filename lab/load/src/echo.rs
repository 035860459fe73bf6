//! The least that a server can do: take what is there in one call, send it back in another.

use std::convert::Infallible;
use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use crate::client::BATCH;
use crate::exchange::LENGTH;

/// Echoes until it is killed.
pub(crate) fn run(socket: &UdpSocket) -> Result<Infallible> {
    let mut packets = [[0; LENGTH]; BATCH];
    let mut senders = [None::<SockaddrIn>; BATCH];
    let mut arriving = MultiHeaders::preallocate(BATCH, None);
    let mut leaving = MultiHeaders::preallocate(BATCH, None);
    loop {
        let mut places = packets.each_mut().map(|packet| [IoSliceMut::new(packet)]);
        // Waits for the first alone.
        let waiting = MsgFlags::MSG_WAITFORONE;
        let count = match recvmmsg(socket.as_raw_fd(), &mut arriving, places.iter_mut(), waiting, None) {
            Ok(received) => {
                senders.iter_mut().zip(received).map(|(sender, message)| *sender = message.address).count()
            }
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let places = packets.each_ref().map(|packet| [IoSlice::new(packet)]);
        let (places, senders) = (places.iter().take(count), senders.get(..count).unwrap_or_default());
        sendmmsg(socket.as_raw_fd(), &mut leaving, places, senders, [], MsgFlags::empty())?;
    }
}
