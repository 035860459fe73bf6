//! The system calls, one function each: the only unsafe code in the project.
//!
//! Everything goes through libc's symbols, never raw system calls, so that a preloaded simulator can stand in for them.

use std::io::{Error, Result};
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicI64;

/// `clock_gettime(2)`.
pub(crate) fn clock_gettime(clock: libc::clockid_t) -> Result<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes for the length of the call.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(time) }
}

/// `clock_adjtime(2)` on the wall clock.
pub(crate) fn clock_adjtime(request: &mut libc::timex) -> Result<()> {
    // SAFETY: `request` is a valid, exclusively borrowed timex.
    let code = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, request) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// `clock_settime(2)` on the wall clock.
pub(crate) fn clock_settime(time: libc::timespec) -> Result<()> {
    // SAFETY: `time` is valid for reads for the length of the call.
    let code = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// A timex with nothing asked for.
pub(crate) fn empty_timex() -> libc::timex {
    // SAFETY: timex holds only integers, for which zero is a valid value.
    unsafe { zeroed() }
}

/// `sysconf(_SC_CLK_TCK)`: ticks a second as user space sees them.
pub(crate) fn user_hz() -> i64 {
    // SAFETY: no pointers are passed.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }
}

/// `poll(2)`: how many are ready.
pub(crate) fn poll(set: &mut [libc::pollfd], timeout_ms: i32) -> Result<usize> {
    let count = libc::nfds_t::try_from(set.len()).map_err(Error::other)?;
    // SAFETY: pointer and count describe the exclusively borrowed slice.
    let ready = unsafe { libc::poll(set.as_mut_ptr(), count, timeout_ms) };
    usize::try_from(ready).map_err(|_| Error::last_os_error())
}

/// `getrandom(2)`: how many bytes were filled.
pub(crate) fn getrandom(buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: pointer and length describe the exclusively borrowed slice.
    let count = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// `socket(2)`.
pub(crate) fn socket(family: i32, kind: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `fcntl(2)` with an integer argument.
pub(crate) fn fcntl(fd: BorrowedFd<'_>, command: i32, argument: i32) -> Result<i32> {
    // SAFETY: used only with F_SETFL and F_SETFD, which take an int.
    let code = unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(code) }
}

/// `pipe2(2)`, non-blocking and closed on exec: the reading end and the writing end.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the kernel just made it, nobody else owns it.
    let reading = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let writing = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((reading, writing))
}

/// The descriptor's number.
pub(crate) fn raw(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}

/// `sigaction(2)` without `SA_RESTART`: a signal ends a wait.
pub(crate) fn sigaction(signal: i32, handler: extern "C" fn(libc::c_int)) -> Result<()> {
    // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: `action` is initialised and lives over the call; the handler does only what signal-safety(7) allows.
    check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// `read(2)`.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer lives over the call and is as long as said.
    let count = unsafe { libc::read(raw(fd), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// `write(2)` of one byte from a signal handler; what it says does not matter, a full pipe wakes as well.
pub(crate) fn write_byte(fd: i32) {
    // SAFETY: one byte of a static is read; a bad descriptor is an error and no more.
    unsafe { libc::write(fd, b"!".as_ptr().cast(), 1) };
}

/// Turns a socket's time stamps on: `SO_TIMESTAMPNS`, software receive stamps on the wall clock (socket(7)).
pub(crate) fn stamp_arrivals(fd: BorrowedFd<'_>) -> Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: `on` lives over the call and is as long as said.
    let code = unsafe {
        libc::setsockopt(raw(fd), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, (&raw const on).cast(), length)
    };
    check(code).map(drop)
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

/// `prctl(PR_CAPBSET_DROP)`: this process and what it starts can never again gain `capability`.
pub(crate) fn drop_from_bounding_set(capability: libc::c_ulong) -> Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }).map(drop)
}

/// `capget(2)`: effective, permitted and inheritable sets, 64 bits each.
pub(crate) fn capabilities() -> Result<[u64; 3]> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut sets = [CapSets::default(); 2];
    // SAFETY: both are laid out as linux/capability.h says for version 3 and live over the call.
    let code = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    check(i32::try_from(code).unwrap_or(-1))?;
    let whole = |get: fn(&CapSets) -> u32| u64::from(get(&sets[0])) | u64::from(get(&sets[1])) << 32;
    Ok([whole(|s| s.effective), whole(|s| s.permitted), whole(|s| s.inheritable)])
}

/// `capset(2)`: effective, permitted and inheritable sets, 64 bits each.
pub(crate) fn set_capabilities(sets: [u64; 3]) -> Result<()> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |shift: u32| {
        let [effective, permitted, inheritable] =
            sets.map(|set| u32::try_from(set >> shift & u64::from(u32::MAX)).unwrap_or(0));
        CapSets { effective, permitted, inheritable }
    };
    let data = [half(0), half(32)];
    // SAFETY: both are laid out as linux/capability.h says for version 3 and live over the call.
    let code = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    check(i32::try_from(code).unwrap_or(-1)).map(drop)
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAP_VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapSets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Turns a −1 into what errno says.
fn check(code: i32) -> Result<i32> {
    if code < 0 { Err(Error::last_os_error()) } else { Ok(code) }
}

/// `mmap(2)` of a file's first `words` 64-bit words, shared, for reading and writing.
pub(crate) fn map_shared(fd: BorrowedFd<'_>, words: usize) -> Result<&'static [AtomicI64]> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice; nothing of ours is replaced.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), words * 8, protection, libc::MAP_SHARED, raw(fd), 0) };
    if address == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    // SAFETY: the mapping is page-aligned, `words` long, never unmapped, and every access to it is atomic.
    Ok(unsafe { std::slice::from_raw_parts(address.cast::<AtomicI64>(), words) })
}

/// The processor's counter; 0 where there is none that is known here.
pub(crate) fn read_tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC is there on every x86-64 processor; Linux leaves it to user space unless told otherwise.
    let tsc = unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    let tsc = 0;
    tsc
}
