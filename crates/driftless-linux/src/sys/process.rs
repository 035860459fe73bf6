//! The process itself: capabilities, signals, randomness.

use std::io::{Error, Result};
use std::mem::zeroed;

use super::check;

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

/// `getrandom(2)`: how many bytes were filled.
pub(crate) fn getrandom(buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: pointer and length describe the exclusively borrowed slice.
    let count = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
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

/// `kill(2)`.
pub(crate) fn kill(process: libc::pid_t, signal: i32) -> Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::kill(process, signal) }).map(drop)
}

/// `sched_setaffinity(2)`: this thread runs on `cpu` alone.
pub(crate) fn pin_to(cpu: usize) -> Result<()> {
    // SAFETY: all zeroes is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    if cpu >= size_of_val(&set) * 8 {
        return Err(Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the number was just found to be within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set lives over the call and has the size that is told.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
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
