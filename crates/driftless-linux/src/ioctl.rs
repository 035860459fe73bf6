//! The ioctls of clocks, each number bound to the structure that goes with it: what makes [`crate::sys::ioctl`] safe to call.

use std::marker::PhantomData;

/// An ioctl's number together with what it reads or fills.
#[derive(Debug)]
pub(crate) struct Request<T>(libc::Ioctl, PhantomData<T>);

impl<T> Request<T> {
    /// The number.
    pub(crate) const fn number(&self) -> libc::Ioctl {
        self.0
    }
}

/// `linux/ptp_clock.h`. The variants with a 2 differ only in checking reserved fields and came later.
pub(crate) const PTP_PRECISE: Request<libc::ptp_sys_offset_precise> =
    Request(libc::PTP_SYS_OFFSET_PRECISE, PhantomData);
/// As above; `clockid` counts since late 2024, before it had to be zero.
pub(crate) const PTP_EXTENDED: Request<libc::ptp_sys_offset_extended> =
    Request(libc::PTP_SYS_OFFSET_EXTENDED, PhantomData);
/// As above.
pub(crate) const PTP_BASIC: Request<libc::ptp_sys_offset> = Request(libc::PTP_SYS_OFFSET, PhantomData);
/// `linux/rtc.h`.
pub(crate) const RTC_READ: Request<RtcTime> = Request(libc::_IOR::<RtcTime>(b'p' as u32, 0x09), PhantomData);
/// As above.
pub(crate) const RTC_SET: Request<RtcTime> = Request(libc::_IOW::<RtcTime>(b'p' as u32, 0x0a), PhantomData);
/// As above: an interrupt at each of the clock's seconds.
pub(crate) const RTC_UPDATES_ON: Request<()> = Request(libc::_IO(b'p' as u32, 0x03), PhantomData);
/// As above.
pub(crate) const RTC_UPDATES_OFF: Request<()> = Request(libc::_IO(b'p' as u32, 0x04), PhantomData);
/// `linux/vm_sockets.h`, whose numbers are not made as the others are.
pub(crate) const VSOCK_LOCAL_CID: Request<libc::c_uint> = Request(0x7b9, PhantomData);

/// `struct rtc_time` of `linux/rtc.h`: as `struct tm` begins.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RtcTime {
    pub(crate) second: i32,
    pub(crate) minute: i32,
    pub(crate) hour: i32,
    pub(crate) day: i32,
    pub(crate) month: i32,
    pub(crate) year: i32,
    pub(crate) week_day: i32,
    pub(crate) year_day: i32,
    pub(crate) is_dst: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_numbers_of_the_kernels_headers() {
        assert_eq!(PTP_PRECISE.0, 0xc040_3d08);
        assert_eq!(PTP_EXTENDED.0, 0xc4c0_3d09);
        assert_eq!(PTP_BASIC.0, 0x4340_3d05);
        assert_eq!((RTC_READ.0, RTC_SET.0), (0x8024_7009, 0x4024_700a));
        assert_eq!((RTC_UPDATES_ON.0, RTC_UPDATES_OFF.0), (0x7003, 0x7004));
    }

    #[test]
    fn a_number_carries_its_structures_size() {
        fn size<T>(request: &Request<T>) -> (u64, usize) {
            (request.0 >> 16 & 0x3fff, size_of::<T>())
        }
        for (told, real) in [size(&PTP_PRECISE), size(&PTP_EXTENDED), size(&PTP_BASIC), size(&RTC_READ)] {
            assert_eq!(usize::try_from(told).unwrap(), real);
        }
    }
}
