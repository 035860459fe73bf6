//! The vmclock page: what a hypervisor tells in shared memory of the guest's counter and of the time (`uapi/linux/vmclock-abi.h`; the
//! UAPI group's specification 13 numbers the upper flags otherwise, and what is in use follows the header).
//!
//! At its least it is a marker that changes when the counter was disrupted, by a migration or a restore. At its most it is the time as
//! a function of the counter: T = T₁ + (C − C₁)·P, with bounds on T₁ and P. A field is there if the page says that it is long enough.
//! Nothing in it is trusted before it is looked at.

use crate::clock::Leap;
use crate::time::civil::{SECONDS_PER_DAY, next_month};
use crate::time::{NANOS_PER_SECOND, Seconds};

use super::TimeScale;

/// A consistent copy of the page, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct VmClockPage {
    /// Grows by two with each change.
    pub sequence: u32,
    /// Another value means: every calibration of the counter is void.
    pub disruption_marker: u64,
    /// Another value means: this is a copy of a machine, woken from a saved state.
    pub generation: Option<u64>,
    /// Whether the device tells of changes (`poll`).
    pub notifies: bool,
    /// Whether the host announces that it will disrupt this machine soon (within a day, an hour).
    pub is_disruption_near: bool,
    /// The clock, or why there is none.
    pub clock: Result<PageClock, NoClock>,
}

/// The time as a function of the counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageClock {
    /// Which counter.
    pub counter: Counter,
    /// What it counts.
    pub scale: TimeScale,
    /// What is announced.
    pub leap: Leap,
    counter_value: u64,
    /// In 2^-(64 + shift) s, as is its error.
    period: u64,
    period_error: u64,
    period_shift: u8,
    time_s: u64,
    /// In 2^-64 s.
    time_fraction: u64,
    time_error_ns: u64,
}

/// The processor's counters that a page can speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// `CNTVCT_EL0`.
    ArmVirtual,
    /// The time-stamp counter.
    X86Tsc,
}

/// The time at one value of the counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageTime {
    /// ns since 1970 in the page's own scale.
    pub nanos: i64,
    /// The page's own bound, or where it gives only an estimate, that. 0 where it gives neither.
    pub error: Seconds,
}

/// Why bytes are no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Fewer bytes than the least page.
    #[error("the vmclock page is too short")]
    Short,
    /// It does not begin as one.
    #[error("this is no vmclock page")]
    Magic,
    /// A version that nobody knows.
    #[error("vmclock version {0} is not known")]
    Version(u16),
    /// The copy was taken while the host wrote.
    #[error("the vmclock page changes")]
    Changing,
}

/// Why a page gives no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoClock {
    /// It is only a marker.
    #[error("the page gives no time, only a marker")]
    MarkerOnly,
    /// Its counter is none that we know.
    #[error("the page speaks of counter {0}, which is not known")]
    Counter(u8),
    /// The host does not vouch for it.
    #[error("the host calls its clock {0} (0 unknown, 1 initialising, 4 unreliable)")]
    Status(u8),
    /// It counts from no known moment, or smeared.
    #[error("the page counts in time type {0}, neither UTC nor TAI")]
    TimeType(u8),
    /// A leap second is just being inserted, and what UTC is called then is anybody's guess.
    #[error("a leap second is being inserted")]
    LeapSecond,
    /// Numbers that cannot be.
    #[error("the page's numbers are out of range")]
    Range,
}

/// Where the fields are: offset and length as the header has them.
mod field {
    pub(super) const MAGIC: usize = 0x00;
    pub(super) const SIZE: usize = 0x04;
    pub(super) const VERSION: usize = 0x08;
    pub(super) const COUNTER_ID: usize = 0x0a;
    pub(super) const TIME_TYPE: usize = 0x0b;
    pub(super) const SEQUENCE: usize = 0x0c;
    pub(super) const DISRUPTION_MARKER: usize = 0x10;
    pub(super) const FLAGS: usize = 0x18;
    pub(super) const STATUS: usize = 0x22;
    pub(super) const TAI_OFFSET: usize = 0x24;
    pub(super) const LEAP: usize = 0x26;
    pub(super) const PERIOD_SHIFT: usize = 0x27;
    pub(super) const COUNTER_VALUE: usize = 0x28;
    pub(super) const PERIOD: usize = 0x30;
    pub(super) const PERIOD_EST_ERROR: usize = 0x38;
    pub(super) const PERIOD_MAX_ERROR: usize = 0x40;
    pub(super) const TIME_S: usize = 0x48;
    pub(super) const TIME_FRACTION: usize = 0x50;
    pub(super) const TIME_EST_ERROR: usize = 0x58;
    pub(super) const TIME_MAX_ERROR: usize = 0x60;
    pub(super) const GENERATION: usize = 0x68;
}

/// Bits of the flags.
mod flag {
    pub(super) const TAI_OFFSET_VALID: u64 = 1 << 0;
    pub(super) const DISRUPTION_NEAR: u64 = 1 << 1 | 1 << 2;
    pub(super) const PERIOD_EST_ERROR: u64 = 1 << 3;
    pub(super) const PERIOD_MAX_ERROR: u64 = 1 << 4;
    pub(super) const TIME_EST_ERROR: u64 = 1 << 5;
    pub(super) const TIME_MAX_ERROR: u64 = 1 << 6;
    pub(super) const GENERATION: u64 = 1 << 8;
    pub(super) const NOTIFIES: u64 = 1 << 9;
}

/// As many bytes of the page as are worth copying.
pub const PAGE_BYTES: usize = 0x70;
/// "VCLK".
const MAGIC: u32 = 0x4b4c_4356;
/// TAI − UTC since 2017, give or take the next leap second. Hosts write it with either sign.
const TAI_OFFSETS: core::ops::RangeInclusive<u16> = 36..=38;

impl VmClockPage {
    /// Understands a copy of the page.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PageError> {
        let page = Fields::new(bytes)?;
        let sequence = page.u32(field::SEQUENCE).ok_or(PageError::Short)?;
        let flags = page.u64(field::FLAGS).ok_or(PageError::Short)?;
        if sequence % 2 == 1 {
            return Err(PageError::Changing);
        }
        Ok(Self {
            sequence,
            disruption_marker: page.u64(field::DISRUPTION_MARKER).ok_or(PageError::Short)?,
            generation: page.u64(field::GENERATION).filter(|_| flags & flag::GENERATION != 0),
            notifies: flags & flag::NOTIFIES != 0,
            is_disruption_near: flags & flag::DISRUPTION_NEAR != 0,
            clock: PageClock::parse(&page, flags),
        })
    }
}

impl PageClock {
    fn parse(page: &Fields<'_>, flags: u64) -> Result<Self, NoClock> {
        let there = |value: Option<u64>| value.ok_or(NoClock::MarkerOnly);
        let counter = match page.u8(field::COUNTER_ID) {
            Some(0) => Counter::ArmVirtual,
            Some(1) => Counter::X86Tsc,
            Some(0xff) | None => return Err(NoClock::MarkerOnly),
            Some(other) => return Err(NoClock::Counter(other)),
        };
        match page.u8(field::STATUS) {
            Some(2 | 3) => {}
            status => return Err(NoClock::Status(status.unwrap_or(0))),
        }
        let told = [TIME_SCALE_UTC, TIME_SCALE_TAI]
            .into_iter()
            .find(|kind| Some(*kind) == page.u8(field::TIME_TYPE));
        let scale = match told {
            Some(TIME_SCALE_UTC) => TimeScale::Utc,
            Some(_) => TimeScale::Tai(tai_offset(page, flags)),
            None => return Err(NoClock::TimeType(page.u8(field::TIME_TYPE).unwrap_or(0xff))),
        };
        let leap = match page.u8(field::LEAP) {
            Some(1) => Leap::Insert,
            Some(2) => Leap::Delete,
            Some(3) if scale == TimeScale::Utc => return Err(NoClock::LeapSecond),
            _ => Leap::None,
        };
        // The bound where there is one, else the estimate, else nothing.
        let error = |[bound, estimate]: [(usize, u64); 2]| {
            let field = |(offset, bit): (usize, u64)| page.u64(offset).filter(|_| flags & bit != 0);
            field(bound).or_else(|| field(estimate)).unwrap_or(0)
        };
        Ok(Self {
            counter,
            scale,
            leap,
            counter_value: there(page.u64(field::COUNTER_VALUE))?,
            period: there(page.u64(field::PERIOD))?,
            period_error: error([
                (field::PERIOD_MAX_ERROR, flag::PERIOD_MAX_ERROR),
                (field::PERIOD_EST_ERROR, flag::PERIOD_EST_ERROR),
            ]),
            period_shift: page.u8(field::PERIOD_SHIFT).ok_or(NoClock::MarkerOnly)?,
            time_s: there(page.u64(field::TIME_S))?,
            time_fraction: there(page.u64(field::TIME_FRACTION))?,
            time_error_ns: error([
                (field::TIME_MAX_ERROR, flag::TIME_MAX_ERROR),
                (field::TIME_EST_ERROR, flag::TIME_EST_ERROR),
            ]),
        })
    }

    /// The time when the counter was at `counter`, before or after the page was written.
    ///
    /// # Errors
    /// [`NoClock::Range`].
    pub fn at(&self, counter: u64) -> Result<PageTime, NoClock> {
        // The counter may be a little behind the page's: the difference is signed.
        let since = i128::from(i64::from_ne_bytes(counter.wrapping_sub(self.counter_value).to_ne_bytes()));
        let shifted = |product: i128| product.checked_shr(self.period_shift.into()).unwrap_or(0);
        let elapsed = since.checked_mul(self.period.into()).map(shifted).ok_or(NoClock::Range)?;
        let fraction = elapsed.checked_add(self.time_fraction.into()).ok_or(NoClock::Range)?;
        let seconds = i128::from(self.time_s) + (fraction >> 64);
        let nanos = ((fraction & i128::from(u64::MAX)) * i128::from(NANOS_PER_SECOND)) >> 64;
        let total = seconds * i128::from(NANOS_PER_SECOND) + nanos;
        let nanos = i64::try_from(total).map_err(|_| NoClock::Range)?;
        let spread = shifted(since.saturating_abs().saturating_mul(self.period_error.into())) >> 32;
        // Below 2^96 after the shift: what does not fit is no time worth having.
        let spread = u64::try_from(spread).map_err(|_| NoClock::Range)?;
        let spread = Seconds(to_f64(spread) / to_f64(1 << 32));
        let error = Seconds(to_f64(self.time_error_ns) * 1e-9) + spread;
        Ok(PageTime { nanos: self.past_leap(nanos), error })
    }

    /// UTC once an announced leap second has passed that the host has not written down yet: as the kernel counts, the last
    /// second of the month is repeated, or left out.
    fn past_leap(&self, nanos: i64) -> i64 {
        let Ok(written) = i64::try_from(self.time_s) else { return nanos };
        // Such a page is not of our era, and its months are none of ours.
        if self.scale != TimeScale::Utc || written > SECONDS_PER_DAY * 366 * 1_000 {
            return nanos;
        }
        let end = next_month(written).saturating_mul(NANOS_PER_SECOND);
        match self.leap {
            Leap::Insert if nanos >= end => nanos - NANOS_PER_SECOND,
            Leap::Delete if nanos >= end - NANOS_PER_SECOND => nanos.saturating_add(NANOS_PER_SECOND),
            _ => nanos,
        }
    }
}

const TIME_SCALE_UTC: u8 = 0;
const TIME_SCALE_TAI: u8 = 1;

/// TAI − UTC as the page tells it, if that is a number that can be.
fn tai_offset(page: &Fields<'_>, flags: u64) -> Option<i32> {
    let told = page.take(field::TAI_OFFSET).map(i16::from_le_bytes);
    let told = told.filter(|_| flags & flag::TAI_OFFSET_VALID != 0)?;
    TAI_OFFSETS.contains(&told.unsigned_abs()).then(|| told.unsigned_abs().into())
}

#[expect(clippy::cast_precision_loss, reason = "an error bound needs no 53 bits")]
const fn to_f64(value: u64) -> f64 {
    value as f64
}

/// The page's little-endian fields, as far as it says that it goes and as far as it was copied.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, PageError> {
        let all = Self(bytes);
        match all.u32(field::MAGIC) {
            None => return Err(PageError::Short),
            Some(MAGIC) => {}
            Some(_) => return Err(PageError::Magic),
        }
        match all.u16(field::VERSION) {
            None => return Err(PageError::Short),
            Some(1) => {}
            Some(other) => return Err(PageError::Version(other)),
        }
        let size = all.u32(field::SIZE).ok_or(PageError::Short)?;
        let length = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
        bytes.get(..length).map(Self).ok_or(PageError::Short)
    }

    fn take<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        self.take(offset).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        self.take(offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        self.take(offset).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2016-12-31 23:59:50 UTC: ten seconds before a leap second.
    const BEFORE_LEAP: u64 = 1_483_228_790;
    const PERIOD_1GHZ: u64 = 18_446_744_074;

    /// A whole page: UTC, 1 GHz, synchronised, with bounds.
    fn page() -> Vec<u8> {
        let mut bytes = vec![0; PAGE_BYTES];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        put(field::MAGIC, b"VCLK");
        put(field::SIZE, &4_096_u32.to_le_bytes());
        put(field::VERSION, &1_u16.to_le_bytes());
        put(field::COUNTER_ID, &[1]);
        put(field::SEQUENCE, &6_u32.to_le_bytes());
        put(field::DISRUPTION_MARKER, &77_u64.to_le_bytes());
        put(field::FLAGS, &(1_u64 << 4 | 1 << 6 | 1 << 8 | 1 << 63).to_le_bytes());
        put(field::STATUS, &[2]);
        put(field::COUNTER_VALUE, &1_000_000_u64.to_le_bytes());
        put(field::PERIOD, &PERIOD_1GHZ.to_le_bytes());
        // 1 ppm of the period.
        put(field::PERIOD_MAX_ERROR, &(PERIOD_1GHZ / 1_000_000).to_le_bytes());
        put(field::TIME_S, &BEFORE_LEAP.to_le_bytes());
        put(field::TIME_FRACTION, &(1_u64 << 63).to_le_bytes());
        put(field::TIME_MAX_ERROR, &250_u64.to_le_bytes());
        put(field::GENERATION, &5_u64.to_le_bytes());
        bytes
    }

    fn with(offset: usize, value: &[u8]) -> Vec<u8> {
        let mut bytes = page();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        bytes
    }

    fn clock(bytes: &[u8]) -> Result<PageClock, NoClock> {
        VmClockPage::parse(bytes).unwrap().clock
    }

    #[test]
    fn a_whole_page_gives_time_and_bound() {
        let parsed = VmClockPage::parse(&page()).unwrap();
        assert_eq!((parsed.sequence, parsed.disruption_marker, parsed.generation), (6, 77, Some(5)));
        let time = parsed.clock.unwrap().at(1_000_000 + 2_000_000_000).unwrap();
        let expected = (i64::try_from(BEFORE_LEAP).unwrap() + 2) * NANOS_PER_SECOND + NANOS_PER_SECOND / 2;
        assert!((time.nanos - expected).abs() <= 1, "{}", time.nanos - expected);
        assert!((time.error.0 - 2.25e-6).abs() < 1e-9, "250 ns and 1 ppm of 2 s: {}", time.error.0);
    }

    #[test]
    fn a_counter_before_the_pages_is_a_time_before() {
        let time = clock(&page()).unwrap().at(0).unwrap();
        let expected = i64::try_from(BEFORE_LEAP).unwrap() * NANOS_PER_SECOND + 499_000_000;
        assert!((time.nanos - expected).abs() <= 1);
    }

    #[test]
    fn the_shift_divides_the_period() {
        let mut bytes = with(field::PERIOD_SHIFT, &[3]);
        bytes[field::PERIOD..field::PERIOD + 8].copy_from_slice(&(PERIOD_1GHZ << 3).to_le_bytes());
        assert_eq!(
            clock(&bytes).unwrap().at(9_000_000).unwrap().nanos,
            clock(&page()).unwrap().at(9_000_000).unwrap().nanos
        );
    }

    #[test]
    fn a_page_that_is_only_a_marker_says_so() {
        for bytes in [with(field::COUNTER_ID, &[0xff]), with(field::SIZE, &0x28_u32.to_le_bytes())] {
            let parsed = VmClockPage::parse(&bytes).unwrap();
            assert_eq!((parsed.disruption_marker, parsed.clock), (77, Err(NoClock::MarkerOnly)));
        }
        let least = &page()[..field::FLAGS + 8];
        assert_eq!(VmClockPage::parse(least).unwrap().generation, None);
    }

    #[test]
    fn what_nobody_vouches_for_is_refused() {
        for status in [0, 1, 4, 9] {
            assert_eq!(clock(&with(field::STATUS, &[status])), Err(NoClock::Status(status)));
        }
        for kind in [2, 3, 4] {
            assert_eq!(clock(&with(field::TIME_TYPE, &[kind])), Err(NoClock::TimeType(kind)));
        }
        assert_eq!(clock(&with(field::COUNTER_ID, &[7])), Err(NoClock::Counter(7)));
        assert_eq!(clock(&with(field::LEAP, &[3])), Err(NoClock::LeapSecond));
    }

    #[test]
    fn tai_is_told_with_either_sign_and_only_if_it_can_be() {
        let tai = |offset: i16, flags: u64| {
            let mut bytes = with(field::TIME_TYPE, &[1]);
            bytes[field::FLAGS..field::FLAGS + 8].copy_from_slice(&flags.to_le_bytes());
            bytes[field::TAI_OFFSET..field::TAI_OFFSET + 2].copy_from_slice(&offset.to_le_bytes());
            clock(&bytes).unwrap().scale
        };
        assert_eq!(tai(37, 1), TimeScale::Tai(Some(37)));
        assert_eq!(tai(-37, 1), TimeScale::Tai(Some(37)));
        assert_eq!(tai(3_600, 1), TimeScale::Tai(None));
        assert_eq!(tai(37, 0), TimeScale::Tai(None));
    }

    #[test]
    fn an_announced_leap_second_is_obeyed_when_its_month_ends() {
        let utc_s = |leap: u8, after_s: u64| {
            let time =
                clock(&with(field::LEAP, &[leap])).unwrap().at(1_000_000 + after_s * 1_000_000_000).unwrap();
            time.nanos.div_euclid(NANOS_PER_SECOND) - i64::try_from(BEFORE_LEAP).unwrap()
        };
        assert_eq!([utc_s(0, 12), utc_s(1, 12), utc_s(2, 12)], [12, 11, 13]);
        assert_eq!([utc_s(1, 9), utc_s(2, 8), utc_s(2, 9)], [9, 8, 10]);
        // 23:59:60.5 is the repeated 23:59:59.5.
        assert_eq!(utc_s(1, 10), 9);
    }

    #[test]
    fn no_page_is_told_from_a_page_in_change() {
        assert_eq!(VmClockPage::parse(b"VCL"), Err(PageError::Short));
        assert_eq!(VmClockPage::parse(&with(field::MAGIC, b"VCLX")), Err(PageError::Magic));
        assert_eq!(VmClockPage::parse(&with(field::VERSION, &[2, 0])), Err(PageError::Version(2)));
        assert_eq!(VmClockPage::parse(&with(field::SEQUENCE, &[7])), Err(PageError::Changing));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), counter: u64) {
            if let Ok(VmClockPage { clock: Ok(clock), .. }) = VmClockPage::parse(&bytes) {
                let _ = clock.at(counter);
            }
        }

        #[test]
        fn no_numbers_make_it_panic(body in proptest::collection::vec(any::<u8>(), PAGE_BYTES - 0x22), leap in 0_u8..3, kind in 0_u8..2, counter: u64) {
            let mut bytes = with(0x22, &body);
            bytes[field::STATUS] = 2;
            bytes[field::LEAP] = leap;
            bytes[field::TIME_TYPE] = kind;
            bytes[field::FLAGS] = 0xff;
            if let Ok(time) = clock(&bytes).unwrap().at(counter) {
                prop_assert!(time.error.0 >= 0.0 && time.error.0.is_finite());
            }
        }
    }
}
