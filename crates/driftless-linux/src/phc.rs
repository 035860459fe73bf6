//! PTP hardware clocks, `/dev/ptpN` (`drivers/ptp/ptp_chardev.c`): in a virtual machine the hypervisor's clock for microseconds.
//!
//! Which way of reading is best depends on driver, kernel and even on the guest's own clock source, so the ways are tried in the order of what they
//! are worth: the driver's own cross timestamp (`PTP_SYS_OFFSET_PRECISE`), brackets taken inside of the driver (`_EXTENDED`, on the counter
//! where the kernel is of late 2024 or newer), brackets taken round the driver (`PTP_SYS_OFFSET`), and `clock_gettime` on the device. A way that stops
//! working is given up for the next. The ioctls' variants with a 2 (Linux 5.4) add nothing for us and are left alone.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use driftless_core::clock::Leap;
use driftless_core::source::{LookError, Reading};
use driftless_core::time::{NANOS_PER_SECOND, RawTime, Seconds, Span};

use crate::look::{Bracket, Frame, Side, refusal, tightest};
use crate::phc_list::PhcInfo;
use crate::sys::{self, Empty as _};
use crate::{ioctl, poll};

/// An open PTP clock.
#[derive(Debug)]
pub struct Phc {
    device: OwnedFd,
    info: PhcInfo,
    way: Way,
    readings: u32,
}

/// How the device is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `PTP_SYS_OFFSET_PRECISE`: one moment on the device and on both of our clocks.
    Precise,
    /// `PTP_SYS_OFFSET_EXTENDED` with brackets on `CLOCK_MONOTONIC_RAW`.
    ExtendedRaw,
    /// `PTP_SYS_OFFSET_EXTENDED` with brackets on `CLOCK_REALTIME`.
    Extended,
    /// `PTP_SYS_OFFSET`.
    Basic,
    /// `clock_gettime(2)` on the device's dynamic clock.
    Plain,
}

/// The best first.
const WAYS: [Way; 5] = [Way::Precise, Way::ExtendedRaw, Way::Extended, Way::Basic, Way::Plain];
/// Readings a look at most: more gains nothing; and at least, so that one late one does no harm.
const READINGS: (u32, u32) = (3, 10);
/// What a look may take where a reading is slow (a PCI read takes a microsecond, a virtio request can take milliseconds).
const LOOK_MAX: Span = Span::from_micros(200);
/// How long a device is watched at first for whether it moves, and as a clock does.
const PROOF: Span = Span::from_millis(2);
/// A clock that has moved by less than this part of the time is taken for a frozen one.
const FROZEN_PART: i64 = 100;
/// One whose rate is off by more than this part is taken for a broken one: no card can be adjusted that far.
const WRONG_RATE_PART: i64 = 5;
/// What the kernel's interface resolves.
const RESOLUTION: Seconds = Seconds(1e-9);

impl Phc {
    /// Opens a device, finds the best way to read it and makes sure that it moves (2 ms).
    ///
    /// # Errors
    /// [`LookError`].
    pub fn open(info: PhcInfo) -> Result<Self, LookError> {
        if !info.kind.gives_time() {
            return Err(LookError::NoTime);
        }
        let path = CString::new(info.path.as_os_str().as_encoded_bytes()).map_err(|_| LookError::Missing)?;
        let device = sys::open(&path, libc::O_RDONLY).map_err(|error| refusal(&error))?;
        let mut phc = Self { device, info, way: WAYS[0], readings: READINGS.1 };
        let first = phc.look()?;
        poll::wait(&[], Some(PROOF)).map_err(|error| refusal(&error))?;
        let second = phc.look()?;
        let passed = second.at.raw - first.at.raw;
        prove(second.device_ns.saturating_sub(first.device_ns), passed, first.width + second.width)?;
        Ok(phc)
    }

    /// What is known of it.
    #[must_use]
    pub const fn info(&self) -> &PhcInfo {
        &self.info
    }

    /// How it is read, in a word, for logs.
    #[must_use]
    pub const fn way(&self) -> &'static str {
        match self.way {
            Way::Precise => "precise",
            Way::ExtendedRaw => "extended, on the counter",
            Way::Extended => "extended",
            Way::Basic => "basic",
            Way::Plain => "clock_gettime",
        }
    }

    /// Looks at it: microseconds.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn look(&mut self) -> Result<Reading, LookError> {
        let (frame, (brackets, side)) = self.read()?;
        let middle = tightest(&brackets).ok_or(LookError::Loose)?;
        let at = frame.place(middle.local, side).ok_or(LookError::Loose)?;
        // What the look costs decides how many readings the next one takes.
        let each = frame.duration().as_nanos() / i64::from(self.readings);
        let affordable = LOOK_MAX.as_nanos() / each.max(1);
        self.readings = u32::try_from(affordable).unwrap_or(READINGS.1).clamp(READINGS.0, READINGS.1);
        // A driver that knows its error caches it at each reading, so it is asked afterwards.
        let own_error = self.info.error_bound().map_or(Seconds(0.0), Seconds::from);
        let carried = if side == Side::Wall { frame.error } else { Seconds(0.0) };
        Ok(Reading {
            at,
            width: middle.width,
            device_ns: middle.device,
            scale: self.info.kind.scale(),
            dispersion: RESOLUTION + own_error + carried,
            leap: Leap::None,
        })
    }

    /// Reads by the way that works, or by the first worse one that does. From the last way there is a way back to the first:
    /// what a driver can do depends on the guest's clock source, which changes.
    fn read(&mut self) -> Result<(Frame, (Vec<Bracket>, Side)), LookError> {
        let start = WAYS.iter().position(|way| *way == self.way).unwrap_or(0);
        let mut failed = LookError::NoTime;
        for way in WAYS.iter().cycle().skip(start).take(WAYS.len()) {
            let (frame, result) = Frame::around(|| self.read_by(*way));
            match result {
                // Who knows no clock id takes it for a reserved field, and may not mind.
                Ok((brackets, side)) if brackets.iter().all(|bracket| frame.holds(bracket.before, side)) => {
                    self.way = *way;
                    return Ok((frame, (brackets, side)));
                }
                Ok(_) => {}
                Err(error) => failed = told(failed, &error),
            }
        }
        Err(failed)
    }

    fn read_by(&self, way: Way) -> io::Result<(Vec<Bracket>, Side)> {
        match way {
            Way::Precise => Ok((self.precise()?, Side::Raw)),
            Way::ExtendedRaw => Ok((self.extended(libc::CLOCK_MONOTONIC_RAW)?, Side::Raw)),
            Way::Extended => Ok((self.extended(libc::CLOCK_REALTIME)?, Side::Wall)),
            Way::Basic => Ok((self.basic()?, Side::Wall)),
            Way::Plain => Ok((self.plain()?, Side::Raw)),
        }
    }

    fn precise(&self) -> io::Result<Vec<Bracket>> {
        let mut request = libc::ptp_sys_offset_precise::empty();
        (0..self.readings)
            .map(|_| {
                sys::ioctl(self.device.as_fd(), &ioctl::PTP_PRECISE, &mut request)?;
                let raw = nanos(&request.sys_monoraw);
                Ok(Bracket { before: raw, device: nanos(&request.device), after: raw })
            })
            .collect()
    }

    fn extended(&self, clock: libc::clockid_t) -> io::Result<Vec<Bracket>> {
        let mut request = libc::ptp_sys_offset_extended::empty();
        request.n_samples = self.readings;
        request.clockid = clock;
        sys::ioctl(self.device.as_fd(), &ioctl::PTP_EXTENDED, &mut request)?;
        let read = request.ts.iter().take(usize::try_from(self.readings).unwrap_or(0));
        Ok(read
            .map(|[before, device, after]| Bracket {
                before: nanos(before),
                device: nanos(device),
                after: nanos(after),
            })
            .collect())
    }

    /// Timestamps alternate between system and device and end on the system's.
    fn basic(&self) -> io::Result<Vec<Bracket>> {
        let mut request = libc::ptp_sys_offset::empty();
        request.n_samples = self.readings;
        sys::ioctl(self.device.as_fd(), &ioctl::PTP_BASIC, &mut request)?;
        Ok(alternating(
            request.ts.iter().take(1 + 2 * usize::try_from(self.readings).unwrap_or(0)).map(nanos),
        ))
    }

    fn plain(&self) -> io::Result<Vec<Bracket>> {
        let clock = sys::clock_of(self.device.as_fd());
        let both = [libc::CLOCK_MONOTONIC_RAW, clock];
        let read = |index: u32| {
            let time = sys::clock_gettime(if index % 2 == 0 { both[0] } else { both[1] })?;
            Ok(RawTime::from_parts(time.tv_sec, time.tv_nsec).as_nanos())
        };
        let times: io::Result<Vec<i64>> = (0..=2 * self.readings).map(read).collect();
        Ok(alternating(times?.into_iter()))
    }
}

/// Whether a clock that moved by `moved` ns while so much time passed is one. `doubt` is how wide both looks were.
fn prove(moved: i64, passed: Span, doubt: Span) -> Result<(), LookError> {
    let passed = passed.as_nanos();
    let wrong = moved.saturating_sub(passed).saturating_abs();
    match () {
        () if moved.saturating_abs().saturating_mul(FROZEN_PART) < passed => Err(LookError::Frozen),
        () if wrong > passed / WRONG_RATE_PART + doubt.as_nanos() => Err(LookError::WrongRate),
        () => Ok(()),
    }
}

/// The reason to give when no way works: the first that is more than "this way does not exist".
fn told(so_far: LookError, error: &io::Error) -> LookError {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENODEV)
            if so_far != LookError::NoTime =>
        {
            so_far
        }
        _ => refusal(error),
    }
}

/// Brackets of a row that alternates between us and the device and ends on us.
fn alternating(times: impl Iterator<Item = i64>) -> Vec<Bracket> {
    let times: Vec<i64> = times.collect();
    times
        .windows(3)
        .step_by(2)
        .filter_map(|row| match row {
            &[before, device, after] => Some(Bracket { before, device, after }),
            _ => None,
        })
        .collect()
}

fn nanos(time: &libc::ptp_clock_time) -> i64 {
    time.sec.saturating_mul(NANOS_PER_SECOND).saturating_add(i64::from(time.nsec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::time::WallTime;
    use std::path::{Path, PathBuf};

    #[test]
    fn a_row_of_times_gives_overlapping_brackets() {
        let found = alternating([1, 10, 3, 20, 5].into_iter());
        let expected = |before, device, after| Bracket { before, device, after };
        assert_eq!(found, [expected(1, 10, 3), expected(3, 20, 5)]);
    }

    #[test]
    fn every_way_that_works_shows_the_same() {
        let info = crate::phc_list::find("/dev/ptp0", Path::new(crate::phc_list::LIST)).unwrap();
        let Ok(mut phc) = Phc::open(info) else { return eprintln!("skipped: no PTP clock that runs here") };
        let mut shown = Vec::new();
        for way in WAYS {
            phc.way = way;
            let reading = phc.look().unwrap();
            eprintln!("{way:?} gave way to {:?}: width {}", phc.way, reading.width);
            shown.push(Seconds::from(WallTime::from_nanos(reading.device_ns) - reading.at.wall));
        }
        for offset in &shown {
            assert!((*offset - shown[0]).abs() < Seconds(1e-3), "{shown:?}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_runs_wild_is_refused() {
        let (passed, doubt) = (Span::from_micros(2_100), Span::from_micros(1));
        let proved = |moved_us: i64| prove(moved_us * 1_000, passed, doubt);
        assert_eq!((proved(2_100), proved(2_400), proved(1_900)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((proved(0), proved(15)), (Err(LookError::Frozen), Err(LookError::Frozen)));
        assert_eq!((proved(4_200), proved(-2_100)), (Err(LookError::WrongRate), Err(LookError::WrongRate)));
        assert_eq!(prove(9_000_000, passed, Span::from_millis(9)), Ok(()), "looks too wide to tell");
    }

    #[test]
    fn what_is_no_clock_is_refused_with_the_reason() {
        let info = |path: &str| PhcInfo::unlisted(PathBuf::from(path));
        assert_eq!(Phc::open(info("/dev/driftless-none")).unwrap_err(), LookError::Missing);
        assert!(matches!(Phc::open(info("/dev/null")), Err(LookError::Other(_))));
    }
}
