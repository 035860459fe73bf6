//! The vmclock device, `/dev/vmclock0` (`drivers/ptp/ptp_vmclock.c`): the hypervisor's page, mapped, or read where it cannot be mapped.
//!
//! The host writes it under a sequence counter that is odd meanwhile: a copy counts if the counter was even and the same before and
//! after. Tries are few and wait in between, so that a host that stops in the middle of a write costs us milliseconds and no more.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use driftless_core::source::vmclock_page::{Counter, PAGE_BYTES, PageError, VmClockPage};
use driftless_core::source::{LookError, Reading};
use driftless_core::time::{RawTime, Seconds, Span};

use crate::look::{Bracket, Frame, Side, refusal, tightest};
use crate::{poll, sys};

/// An open vmclock device.
#[derive(Debug)]
pub struct VmClock {
    device: OwnedFd,
    page: Option<sys::Page>,
    /// Whether the kernel trusts the processor's counter.
    has_counter: bool,
    notifies: bool,
}

/// What changes when the machine was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Changed: the counter was disrupted.
    pub disruption: u64,
    /// Changed: the machine was woken from a saved state.
    pub generation: Option<u64>,
}

/// Where the device is.
pub const DEVICE: &str = "/dev/vmclock0";
/// Copies tried before the page is given up, and the wait between two: 20 ms in all.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Span = Span::from_millis(1);
/// Readings of the counter a look.
const READINGS: usize = 5;
/// Where the sequence counter is, in words of 64 bits (its upper half).
const SEQUENCE_WORD: usize = 1;
/// The kernel's clocks of which the counter is one, unless it found it unstable.
const CLOCKSOURCES: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";

impl VmClock {
    /// Opens the device. One that is only a marker is of use too.
    ///
    /// # Errors
    /// [`LookError`]: it is not there, may not be opened, or is no vmclock.
    pub fn open(path: &Path) -> Result<Self, LookError> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| LookError::Missing)?;
        let device = sys::open(&name, libc::O_RDONLY).map_err(|error| refusal(&error))?;
        let available = fs::read_to_string(CLOCKSOURCES);
        // Where the kernel does not say, it has no doubts that we know of.
        let has_counter = available.map_or(true, |list| is_trusted(&list));
        let mut clock = Self { device, page: None, has_counter, notifies: false };
        // Read before it is mapped: a mapping of a file too short for it cannot be touched.
        let page = clock.read_page()?;
        clock.page = sys::Page::map(clock.device.as_fd()).ok();
        // A device that tells of changes says so in the page, and its driver by not hanging up at once.
        clock.notifies = page.notifies && !poll::is_hung_up(clock.device.as_fd());
        Ok(clock)
    }

    /// What to wait on for a change of the page, if the device tells of changes. [`Self::marks`] then quiets it.
    #[must_use]
    pub fn notification(&self) -> Option<BorrowedFd<'_>> {
        self.notifies.then(|| self.device.as_fd())
    }

    /// The marks as they are now.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn marks(&self) -> Result<Marks, LookError> {
        // Only a read tells the driver that we have seen the change.
        let page = if self.notifies { self.read_page()? } else { self.page()? };
        Ok(Marks { disruption: page.disruption_marker, generation: page.generation })
    }

    /// A consistent copy of the page.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn page(&self) -> Result<VmClockPage, LookError> {
        let Some(page) = &self.page else { return self.read_page() };
        for _ in 0..TRIES {
            match VmClockPage::parse(&copy(page)) {
                Err(PageError::Changing) => {
                    poll::wait(&[], Some(BETWEEN_TRIES)).map_err(|error| refusal(&error))?;
                }
                result => return result.map_err(|_| LookError::NoTime),
            }
        }
        Err(LookError::Loose)
    }

    /// Looks at its clock: under a microsecond of the counter, and no system call but our own clocks.
    ///
    /// # Errors
    /// [`LookError`], `NoTime` where the page is only a marker.
    pub fn look(&self) -> Result<Reading, LookError> {
        for _ in 0..TRIES {
            let page = self.page()?;
            let clock = page.clock.map_err(|_| LookError::NoTime)?;
            if !self.has_counter || clock.counter != OURS {
                return Err(LookError::NoTime);
            }
            let (frame, counted) =
                Frame::around(|| (0..READINGS).map(|_| count()).collect::<io::Result<Vec<_>>>());
            // The page may have been written anew meanwhile, by another host even.
            if self.page()?.sequence != page.sequence {
                continue;
            }
            let mut error = Seconds(0.0);
            let mut brackets = Vec::with_capacity(READINGS);
            for (before, counter, after) in counted.map_err(|error| refusal(&error))? {
                let time = clock.at(counter).map_err(|_| LookError::NoTime)?;
                error = error.max(time.error);
                brackets.push(Bracket { before, device: time.nanos, after });
            }
            let middle = tightest(&brackets).ok_or(LookError::Loose)?;
            return Ok(Reading {
                at: frame.place(middle.local, Side::Raw).ok_or(LookError::Loose)?,
                width: middle.width,
                device_ns: middle.device,
                scale: clock.scale,
                dispersion: RESOLUTION + error,
                leap: clock.leap,
            });
        }
        Err(LookError::Loose)
    }

    /// By `read(2)`, which takes care of the sequence counter itself.
    fn read_page(&self) -> Result<VmClockPage, LookError> {
        let mut bytes = [0; PAGE_BYTES];
        let length = sys::pread(self.device.as_fd(), &mut bytes, 0).map_err(|error| refusal(&error))?;
        let page = VmClockPage::parse(bytes.get(..length).unwrap_or_default());
        page.map_err(|error| if error == PageError::Changing { LookError::Loose } else { LookError::NoTime })
    }
}

/// The processor's counter of this machine.
const OURS: Counter = if cfg!(target_arch = "aarch64") { Counter::ArmVirtual } else { Counter::X86Tsc };
/// What we carry the time in.
const RESOLUTION: Seconds = Seconds(1e-9);

/// The counter between two readings of the raw clock.
fn count() -> io::Result<(i64, u64, i64)> {
    let raw = || {
        let time = sys::clock_gettime(libc::CLOCK_MONOTONIC_RAW)?;
        io::Result::Ok(RawTime::from_parts(time.tv_sec, time.tv_nsec).as_nanos())
    };
    Ok((raw()?, sys::read_counter(), raw()?))
}

/// The page's first bytes; with an odd sequence number where it was written meanwhile.
fn copy(page: &sys::Page) -> [u8; PAGE_BYTES] {
    let words = page.words();
    let sequence = |order| words.get(SEQUENCE_WORD).map_or(0, |word| word.load(order));
    let before = sequence(Ordering::Acquire);
    let mut bytes = [0; PAGE_BYTES];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    fence(Ordering::Acquire);
    if sequence(Ordering::Relaxed) != before {
        // The same as if the host were writing still.
        if let Some(low) = bytes.get_mut(SEQUENCE_BYTE) {
            *low |= 1;
        }
    }
    bytes
}

/// The sequence counter's lowest byte.
const SEQUENCE_BYTE: usize = 0x0c;

/// Whether the processor's counter is among the kernel's clocks still: one found unstable is taken out.
fn is_trusted(available: &str) -> bool {
    let counter = if cfg!(target_arch = "aarch64") { "arch_sys_counter" } else { "tsc" };
    available.split_whitespace().any(|name| name == counter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::source::TimeScale;

    /// A page that says what this machine's clocks say: UTC at the counter's present value.
    fn page(counter_hz: f64) -> Vec<u8> {
        let mut bytes = vec![0_u8; 4_096];
        let wall = crate::clock::now().0.wall.as_nanos();
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0x00, b"VCLK");
        put(0x04, &4_096_u32.to_le_bytes());
        put(0x08, &1_u16.to_le_bytes());
        put(0x0a, &[u8::from(OURS == Counter::X86Tsc)]);
        put(0x10, &41_u64.to_le_bytes());
        put(0x18, &(1_u64 << 6).to_le_bytes());
        put(0x22, &[3]);
        put(0x28, &sys::read_counter().to_le_bytes());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a period of some 1e10 units"
        )]
        put(0x30, &((2_f64.powi(64) / counter_hz) as u64).to_le_bytes());
        put(0x48, &u64::try_from(wall / 1_000_000_000).unwrap().to_le_bytes());
        let fraction = u128::try_from(wall % 1_000_000_000).unwrap() * (1 << 64) / 1_000_000_000;
        put(0x50, &u64::try_from(fraction).unwrap().to_le_bytes());
        put(0x60, &800_u64.to_le_bytes());
        bytes
    }

    fn counter_hz() -> f64 {
        let (first, _, _) = count().unwrap();
        let from = sys::read_counter();
        poll::wait(&[], Some(Span::from_millis(20))).unwrap();
        let (last, to, _) = count().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "20 ms")]
        let hz = (to - from) as f64 / ((last - first) as f64 * 1e-9);
        hz
    }

    fn device(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_page_of_this_machines_own_time_reads_as_that() {
        let file = device(&page(counter_hz()));
        let mut clock = VmClock::open(file.path()).unwrap();
        assert!(clock.page.is_some(), "a file can be mapped");
        clock.has_counter = true;
        let reading = clock.look().unwrap();
        let apart = (reading.device_ns - reading.at.wall.as_nanos()).abs();
        assert!(apart < 5_000_000, "{apart} ns");
        assert_eq!((reading.scale, reading.dispersion), (TimeScale::Utc, Seconds(801e-9)));
        assert!(reading.width >= Span::ZERO && reading.width < Span::from_millis(1));
        clock.page = None;
        assert!(clock.look().is_ok(), "it can be read as well");
    }

    #[test]
    fn a_counter_that_the_kernel_distrusts_gives_no_time_but_marks() {
        let file = device(&page(1e9));
        let mut clock = VmClock::open(file.path()).unwrap();
        clock.has_counter = false;
        assert_eq!(clock.look(), Err(LookError::NoTime));
        assert_eq!(clock.marks(), Ok(Marks { disruption: 41, generation: None }));
        assert!(clock.notification().is_none());
        assert!(is_trusted("kvm-clock tsc acpi_pm\n") || cfg!(target_arch = "aarch64"));
        assert!(!is_trusted("hpet acpi_pm\n"));
    }

    #[test]
    fn a_host_that_stops_while_writing_is_given_up_soon() {
        let mut bytes = page(1e9);
        let file = device(&bytes);
        let clock = VmClock::open(file.path()).unwrap();
        bytes[0x0c] = 1;
        fs::write(file.path(), &bytes).unwrap();
        assert_eq!(clock.page(), Err(LookError::Loose));
        assert_eq!(VmClock::open(file.path()).unwrap_err(), LookError::Loose);
    }

    #[test]
    fn what_is_no_vmclock_is_refused() {
        assert_eq!(VmClock::open(Path::new("/dev/driftless-none")).unwrap_err(), LookError::Missing);
        assert_eq!(VmClock::open(device(&[0; 4_096]).path()).unwrap_err(), LookError::NoTime);
    }
}
