//! The system calls, one function each: the only unsafe code in the project.
//!
//! Everything goes through libc's symbols, never raw system calls, so that a preloaded simulator can stand in for them.

use std::ffi::CStr;
use std::io::{Error, Result};
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI64, AtomicU64};

use crate::ioctl::{Request, RtcTime};

/// `clock_gettime(2)`.
pub(crate) fn clock_gettime(clock: libc::clockid_t) -> Result<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes for the length of the call.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(time) }
}

/// `clock_adjtime(2)` on the wall clock.
pub(crate) fn clock_adjtime(request: &mut libc::timex) -> Result<()> {
    clock_adjtime_of(libc::CLOCK_REALTIME, request)
}

/// `clock_adjtime(2)` on any clock.
pub(crate) fn clock_adjtime_of(clock: libc::clockid_t, request: &mut libc::timex) -> Result<()> {
    // SAFETY: `request` is a valid, exclusively borrowed timex.
    let code = unsafe { libc::clock_adjtime(clock, request) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// The dynamic clock behind a descriptor: `FD_TO_CLOCKID` of `kernel/time/posix-clock.c`.
pub(crate) fn clock_of(fd: BorrowedFd<'_>) -> libc::clockid_t {
    !raw(fd) << 3 | 3
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

/// `madvise(2)` with `MADV_DONTNEED` on unwritten file pages.
pub(crate) fn forget_pages(from: usize, length: usize) -> Result<()> {
    // SAFETY: the caller took the range from the kernel's own list: a private mapping of a file that may not be written and has no pages of its
    // own. So the kernel reads the same again at the next touch (madvise(2), file mappings).
    let code = unsafe { libc::madvise(from as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    if code < 0 { Err(Error::last_os_error()) } else { Ok(()) }
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

/// `setsid(2)`.
pub(crate) fn setsid() -> Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::setsid() }).map(drop)
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

/// The processor's counter, read after all that stands before it; 0 where there is none that is known here.
pub(crate) fn read_counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: SSE2 belongs to every x86-64 processor. Without the fence RDTSC may run ahead of earlier loads.
        unsafe { std::arch::x86_64::_mm_lfence() };
        // SAFETY: RDTSC is there on every x86-64 processor; Linux leaves it to user space unless told otherwise.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let counter: u64;
        // SAFETY: Linux lets user space read the virtual counter (its own vDSO does); nothing else is touched.
        unsafe { std::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) counter, options(nomem, nostack)) };
        counter
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

/// `open(2)`, closed on exec. Not std's, which calls `open64`: a preloaded simulator stands in for `open`.
pub(crate) fn open(path: &CStr, flags: i32) -> Result<OwnedFd> {
    // SAFETY: `path` ends in a zero byte; no mode is needed, as nothing is created.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `pread(2)`.
pub(crate) fn pread(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: libc::off_t) -> Result<usize> {
    // SAFETY: the buffer lives over the call and is as long as said.
    let count = unsafe { libc::pread(raw(fd), buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// `lseek(2)` to the end.
pub(crate) fn seek_to_end(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: no pointers are passed.
    if unsafe { libc::lseek(raw(fd), 0, libc::SEEK_END) } < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// `ioctl(2)` with the structure that its number was made for.
pub(crate) fn ioctl<T>(fd: BorrowedFd<'_>, request: &Request<T>, argument: &mut T) -> Result<()> {
    // SAFETY: only the ioctl module makes requests, each bound to the structure that its driver reads or fills.
    check(unsafe { libc::ioctl(raw(fd), request.number(), &raw mut *argument) }).map(drop)
}

/// Empty structures for ioctls.
pub(crate) trait Empty: Sized {
    /// All zeroes.
    fn empty() -> Self {
        // SAFETY: implemented only for structures of integers, for which zero is a valid value.
        unsafe { zeroed() }
    }
}

impl Empty for libc::ptp_sys_offset_precise {}
impl Empty for libc::ptp_sys_offset_extended {}
impl Empty for libc::ptp_sys_offset {}

/// A page of a device, mapped for reading only as long as this lives.
#[derive(Debug)]
pub(crate) struct Page {
    start: *mut libc::c_void,
    length: usize,
}

impl Page {
    /// `mmap(2)` of a file's first page.
    pub(crate) fn map(fd: BorrowedFd<'_>) -> Result<Self> {
        // SAFETY: no pointers are passed.
        let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(Error::other)?;
        // SAFETY: a new mapping at a place of the kernel's choice; nothing of ours is replaced.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, raw(fd), 0)
        };
        if start == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(Self { start, length }) }
    }

    /// Its 64-bit words. Somebody else writes them, so only atomic loads make sense.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: page-aligned, mapped for as long as `self` lives, and never written through this.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length / size_of::<AtomicU64>()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; no borrow of it outlives `self`.
        unsafe { libc::munmap(self.start, self.length) };
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

impl Plain for libc::sockaddr_vm {}
impl Plain for libc::sockaddr_nl {}
impl Plain for libc::sockaddr_un {}

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

/// `timerfd_create(2)` with `flags`, then `timerfd_settime(2)` to the absolute time `at`, to be cancelled when the clock is set.
pub(crate) fn timer_cancelled_on_set(clock: libc::clockid_t, at: libc::timespec) -> Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })?;
    // SAFETY: the kernel just made it, nobody else owns it.
    let timer = unsafe { OwnedFd::from_raw_fd(fd) };
    let setting = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
    let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
    // SAFETY: the setting lives over the call.
    check(unsafe { libc::timerfd_settime(fd, flags, &raw const setting, std::ptr::null_mut()) })?;
    Ok(timer)
}

/// `mktime(3)`: seconds since 1970 of a local time, in the zone that the system is set to.
pub(crate) fn from_local(time: &RtcTime) -> Option<i64> {
    // SAFETY: all zeroes is a valid `tm`: no zone name.
    let mut local: libc::tm = unsafe { zeroed() };
    (local.tm_sec, local.tm_min, local.tm_hour) = (time.second, time.minute, time.hour);
    (local.tm_mday, local.tm_mon, local.tm_year) = (time.day, time.month, time.year);
    local.tm_isdst = -1;
    // SAFETY: `local` is initialised and exclusively borrowed.
    let seconds = unsafe { libc::mktime(&raw mut local) };
    (seconds != -1).then_some(seconds)
}

/// `localtime_r(3)`.
pub(crate) fn to_local(seconds: i64) -> Option<RtcTime> {
    // SAFETY: all zeroes is a valid `tm`: no zone name.
    let mut local: libc::tm = unsafe { zeroed() };
    // SAFETY: both live over the call.
    let result = unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    (!result.is_null()).then_some(RtcTime {
        second: local.tm_sec,
        minute: local.tm_min,
        hour: local.tm_hour,
        day: local.tm_mday,
        month: local.tm_mon,
        year: local.tm_year,
        week_day: local.tm_wday,
        year_day: local.tm_yday,
        is_dst: 0,
    })
}
