//! Clocks, and civil time.

use std::io::{Error, Result};
use std::mem::zeroed;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use super::{check, raw};
use crate::ioctl::RtcTime;

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

/// `clock_adjtime(2)` on the wall clock, for what it returns: the state of the leap second, or that the clock is not synchronised.
pub(crate) fn clock_state(request: &mut libc::timex) -> Result<i32> {
    // SAFETY: `request` is a valid, exclusively borrowed timex.
    check(unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, request) })
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

/// Leaf 0x40000000 of `CPUID`: ebx, ecx, edx, where the processor says that a hypervisor is there.
#[allow(unused_unsafe, reason = "CPUID is a safe call since Rust 1.91 or so, and an unsafe one before")]
pub(crate) fn hypervisor_signature() -> Option<[u8; 12]> {
    #[cfg(target_arch = "x86_64")]
    {
        /// Bit 31 of ecx in leaf 1: reserved for hypervisors to say so.
        const IS_GUEST: u32 = 1 << 31;
        // SAFETY: every x86-64 processor has CPUID, and leaf 1 of it.
        let features = unsafe { std::arch::x86_64::__cpuid(1) };
        if features.ecx & IS_GUEST == 0 {
            return None;
        }
        // SAFETY: every x86-64 processor has CPUID; a hypervisor that says that it is there has this leaf.
        let leaf = unsafe { std::arch::x86_64::__cpuid(0x4000_0000) };
        let mut signature = [0; 12];
        for (part, register) in signature.chunks_exact_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
            part.copy_from_slice(&register.to_le_bytes());
        }
        Some(signature)
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
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
