//! Many datagrams in one call: `recvmmsg(2)` and `sendmmsg(2)`, and the same one by one.

use std::io::{Error, Result};
use std::mem::zeroed;
use std::os::fd::BorrowedFd;

use super::raw;

/// Room for one datagram, its sender and its control messages.
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// The datagram.
    pub(crate) packet: [u8; PACKET_ROOM],
    /// Control messages, aligned as their headers want it: a time stamp and a packet's destination.
    pub(crate) control: [u64; CONTROL_ROOM / 8],
    /// Who sent it.
    pub(crate) name: libc::sockaddr_storage,
    /// How long the three are: as received, or to be sent.
    pub(crate) packet_length: usize,
    /// As above.
    pub(crate) control_length: usize,
    /// As above.
    pub(crate) name_length: libc::socklen_t,
}

/// Octets of a datagram that are kept; the rest is cut off.
pub(crate) const PACKET_ROOM: usize = 1_032;
/// Octets for control messages.
pub(crate) const CONTROL_ROOM: usize = 192;

impl Slot {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        Self {
            packet: [0; PACKET_ROOM],
            control: [0; CONTROL_ROOM / 8],
            // SAFETY: all zeroes is a valid `sockaddr_storage`: no address.
            name: unsafe { zeroed() },
            packet_length: 0,
            control_length: 0,
            name_length: 0,
        }
    }

    /// The control messages.
    pub(crate) fn control(&self) -> &[u8] {
        let length = self.control_length.min(CONTROL_ROOM);
        // SAFETY: initialised integers of at least this length, borrowed as long as the result.
        unsafe { std::slice::from_raw_parts(self.control.as_ptr().cast(), length) }
    }

    /// A header that has this room to be filled.
    fn open(&mut self, part: &mut libc::iovec, header: &mut libc::msghdr) {
        self.packet_length = PACKET_ROOM;
        self.control_length = CONTROL_ROOM;
        self.name_length = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(128);
        self.describe(part, header);
    }

    /// A header that says what is here.
    fn describe(&mut self, part: &mut libc::iovec, header: &mut libc::msghdr) {
        part.iov_base = self.packet.as_mut_ptr().cast();
        part.iov_len = self.packet_length;
        header.msg_name = (&raw mut self.name).cast();
        header.msg_namelen = self.name_length;
        header.msg_iov = part;
        header.msg_iovlen = 1;
        header.msg_control = self.control.as_mut_ptr().cast();
        header.msg_controllen = self.control_length;
        header.msg_flags = 0;
    }

    fn filled(&mut self, header: &libc::mmsghdr) {
        self.packet_length = usize::try_from(header.msg_len).unwrap_or(0).min(PACKET_ROOM);
        self.control_length = header.msg_hdr.msg_controllen.min(CONTROL_ROOM);
        self.name_length = header.msg_hdr.msg_namelen;
    }
}

/// Headers for as many datagrams as one call takes.
pub(crate) struct Headers {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
}

impl Headers {
    /// For `count` datagrams.
    pub(crate) fn new(count: usize) -> Self {
        // SAFETY: all zeroes is a valid `mmsghdr`: nothing anywhere.
        let header: libc::mmsghdr = unsafe { zeroed() };
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self { headers: vec![header; count].into_boxed_slice(), parts: vec![part; count].into_boxed_slice() }
    }
}

/// `recvmmsg(2)` without waiting: how many of `slots` were filled, from the first.
pub(crate) fn recvmmsg(fd: BorrowedFd<'_>, headers: &mut Headers, slots: &mut [Slot]) -> Result<usize> {
    let all = headers.headers.iter_mut().zip(&mut headers.parts);
    let mut count: libc::c_uint = 0;
    for (slot, (header, part)) in slots.iter_mut().zip(all) {
        slot.open(part, &mut header.msg_hdr);
        count += 1;
    }
    // SAFETY: the first `count` headers were just given pointers to parts and slots that are exclusively borrowed over the call, with their lengths.
    let filled = unsafe {
        libc::recvmmsg(raw(fd), headers.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, std::ptr::null_mut())
    };
    let filled = usize::try_from(filled).map_err(|_| Error::last_os_error())?;
    for (slot, header) in slots.iter_mut().zip(headers.headers.iter()).take(filled) {
        slot.filled(header);
    }
    Ok(filled)
}

/// `sendmmsg(2)` of those slots that `chosen` names: how many left, from the first.
pub(crate) fn sendmmsg(
    fd: BorrowedFd<'_>,
    headers: &mut Headers,
    slots: &mut [Slot],
    chosen: &[usize],
) -> Result<usize> {
    let all = headers.headers.iter_mut().zip(&mut headers.parts);
    let mut count: libc::c_uint = 0;
    for (index, (header, part)) in chosen.iter().zip(all) {
        let Some(slot) = slots.get_mut(*index) else { break };
        slot.describe(part, &mut header.msg_hdr);
        count += 1;
    }
    // SAFETY: the first `count` headers were just given pointers to parts and slots that are exclusively borrowed over the call, with their lengths.
    let left = unsafe { libc::sendmmsg(raw(fd), headers.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(left).map_err(|_| Error::last_os_error())
}

/// `recvmsg(2)` into one slot without waiting, with further `flags`.
pub(crate) fn recvmsg_into(
    fd: BorrowedFd<'_>,
    headers: &mut Headers,
    slot: &mut Slot,
    flags: i32,
) -> Result<()> {
    let (Some(header), Some(part)) = (headers.headers.first_mut(), headers.parts.first_mut()) else {
        return Err(Error::from_raw_os_error(libc::EINVAL));
    };
    slot.open(part, &mut header.msg_hdr);
    // SAFETY: the header was just given pointers to a part and a slot that are exclusively borrowed over the call, with their lengths.
    let length = unsafe { libc::recvmsg(raw(fd), &raw mut header.msg_hdr, libc::MSG_DONTWAIT | flags) };
    header.msg_len = u32::try_from(length).map_err(|_| Error::last_os_error())?;
    slot.filled(header);
    Ok(())
}

/// `sendmsg(2)` of one slot without waiting.
pub(crate) fn sendmsg_from(fd: BorrowedFd<'_>, headers: &mut Headers, slot: &mut Slot) -> Result<()> {
    let (Some(header), Some(part)) = (headers.headers.first_mut(), headers.parts.first_mut()) else {
        return Err(Error::from_raw_os_error(libc::EINVAL));
    };
    slot.describe(part, &mut header.msg_hdr);
    // SAFETY: the header was just given pointers to a part and a slot that are exclusively borrowed over the call, with their lengths.
    let length = unsafe { libc::sendmsg(raw(fd), &raw const header.msg_hdr, libc::MSG_DONTWAIT) };
    if length < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}
