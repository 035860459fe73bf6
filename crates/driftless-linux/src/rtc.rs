//! The real-time clock, `/dev/rtc0` (`drivers/rtc/dev.c`): whole seconds, so it says something only at the edge of one.
//!
//! Only one process may have it open, so it is opened for a look and closed again; the watch of [`since_epoch`] needs no opening.
//! The edge comes as an interrupt where there is one; else the clock is read every 10 ms, and around the next edge every
//! millisecond. In QEMU the edge stands where the machine was started, not on the host's second: constant, but up to a second off.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use driftless_core::clock::Leap;
use driftless_core::source::{LookError, Reading, TimeScale};
use driftless_core::time::civil::{SECONDS_PER_DAY, date, days};
use driftless_core::time::{NANOS_PER_SECOND, Now, RawTime, Seconds, Span, WallTime};

use crate::ioctl::{self, RtcTime};
use crate::look::refusal;
use crate::{clock, poll, sys};

/// An open real-time clock.
#[derive(Debug)]
pub struct Rtc {
    device: OwnedFd,
    zone: Zone,
    driver: String,
}

/// What a real-time clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// As it should be.
    Utc,
    /// The local time, for the sake of other systems on the machine.
    Local,
}

/// The wait for a second's edge. It does not block: come back when [`EdgeWatch::waitable`] is readable, and after [`EdgeWatch::wait`].
#[derive(Debug)]
pub struct EdgeWatch {
    rtc: Rtc,
    began: RawTime,
    by_interrupt: bool,
    /// The last reading: the second, and the time before it was read.
    last: Option<(i64, Now)>,
    /// A rough edge is known: the next one comes at this time.
    expected: Option<RawTime>,
}

/// The usual device.
pub const DEVICE: &str = "/dev/rtc0";
/// Where the system says which zone the clock is in: the third line (`hwclock(8)`).
pub const ADJTIME: &str = "/etc/adjtime";
/// Longer than this between two edges: it stands still.
const EDGE_MAX: Span = Span::from_millis(2_500);
/// An interrupt that has not come by then does not come at all.
const INTERRUPT_MAX: Span = Span::from_millis(1_300);
/// How late an interrupt can reach us in a virtual machine: 8 ms were seen.
const INTERRUPT_ERROR: Seconds = Seconds(10e-3);
/// Between two readings on the search for an edge, far from it and near it.
const STEPS: (Span, Span) = (Span::from_millis(10), Span::from_millis(1));
/// How far before an expected edge the fine search begins.
const EARLY: Span = Span::from_millis(15);
/// PC clocks begin the next second this long after they were set (`rtc-cmos`); others a whole second.
const CMOS_SET_DELAY: Span = Span::from_millis(500);

impl Rtc {
    /// Opens a clock, and learns from the system which zone it is in.
    ///
    /// # Errors
    /// [`LookError`]; `Other(EBUSY)` while another process has it.
    pub fn open(path: &Path) -> Result<Self, LookError> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| LookError::Missing)?;
        let device = sys::open(&name, libc::O_RDONLY | libc::O_NONBLOCK).map_err(|error| refusal(&error))?;
        let listed = sysfs(path).map(|folder| fs::read_to_string(folder.join("name")).unwrap_or_default());
        let zone = zone(&fs::read_to_string(ADJTIME).unwrap_or_default());
        Ok(Self { device, zone, driver: listed.unwrap_or_default().trim().to_owned() })
    }

    /// What its driver is called; empty where the system does not say.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Which zone it is taken to be in.
    #[must_use]
    pub const fn zone(&self) -> Zone {
        self.zone
    }

    /// Its present second, in UTC since 1970.
    ///
    /// # Errors
    /// [`LookError`], `NoTime` where it lost its time.
    pub fn read(&self) -> Result<i64, LookError> {
        let mut time = RtcTime::default();
        match sys::ioctl(self.device.as_fd(), &ioctl::RTC_READ, &mut time) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(LookError::NoTime),
            Err(error) => Err(refusal(&error)),
            Ok(()) => to_seconds(&time, self.zone).ok_or(LookError::NoTime),
        }
    }

    /// Begins to wait for the edge of a second.
    #[must_use]
    pub fn watch(self) -> EdgeWatch {
        let by_interrupt = sys::ioctl(self.device.as_fd(), &ioctl::RTC_UPDATES_ON, &mut ()).is_ok();
        EdgeWatch { rtc: self, began: clock::now().0.raw, by_interrupt, last: None, expected: None }
    }

    /// Sets it to the wall clock, waiting for the moment at which its seconds will be in step with the wall clock's: up to 1 s.
    ///
    /// # Errors
    /// `PermissionDenied` where `DRIFTLESS_OBSERVE=1` forbids it, or the system does; what else the system says.
    pub fn set_from_wall(&self) -> io::Result<()> {
        if clock::is_observing() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "DRIFTLESS_OBSERVE=1: nothing is set",
            ));
        }
        let delay = if self.driver.starts_with("rtc_cmos") { CMOS_SET_DELAY } else { Span::ZERO };
        let seconds = wait_for_second(delay);
        let mut time = from_seconds(seconds, self.zone).ok_or(io::ErrorKind::InvalidData)?;
        sys::ioctl(self.device.as_fd(), &ioctl::RTC_SET, &mut time)
    }
}

/// Sleeps until the wall clock is `delay` past a whole second, and returns that second.
fn wait_for_second(delay: Span) -> i64 {
    let past = |now: Now| now.wall - WallTime::from_nanos(delay.as_nanos());
    let sleep = |nanos: i64| {
        std::thread::sleep(std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)));
    };
    let mut since = past(clock::now().0).as_nanos();
    // Bounded: a machine so busy that each sleep ends late sets it late.
    for _ in 0..5 {
        sleep(NANOS_PER_SECOND - since.rem_euclid(NANOS_PER_SECOND));
        since = past(clock::now().0).as_nanos();
        if since.rem_euclid(NANOS_PER_SECOND) < SET_LATE_MAX.as_nanos() {
            break;
        }
    }
    since.div_euclid(NANOS_PER_SECOND)
}

/// Later than this after the right moment, the next one is waited for.
const SET_LATE_MAX: Span = Span::from_millis(2);

impl EdgeWatch {
    /// What to wait on, where the clock interrupts.
    #[must_use]
    pub fn waitable(&self) -> Option<BorrowedFd<'_>> {
        self.by_interrupt.then(|| self.rtc.device.as_fd())
    }

    /// Whether the edge comes as an interrupt, not by reading again and again.
    #[must_use]
    pub const fn is_by_interrupt(&self) -> bool {
        self.by_interrupt
    }

    /// After how long to come back at the latest.
    #[must_use]
    pub fn wait(&self) -> Span {
        let now = clock::now().0.raw;
        if self.by_interrupt {
            return (self.began + INTERRUPT_MAX - now).max(Span::ZERO);
        }
        match self.expected {
            None => STEPS.0,
            Some(edge) => (edge - EARLY - now).max(STEPS.1),
        }
    }

    /// Looks: the edge, or None while it has not come.
    ///
    /// # Errors
    /// [`LookError`], `Frozen` where no edge comes.
    pub fn turn(&mut self) -> Result<Option<Reading>, LookError> {
        if clock::now().0.raw - self.began > EDGE_MAX {
            return Err(LookError::Frozen);
        }
        if self.by_interrupt { self.interrupted() } else { self.search() }
    }

    /// Waits for the edge: up to 4 s where there is none.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn edge(&mut self) -> Result<Reading, LookError> {
        loop {
            if let Some(reading) = self.turn()? {
                return Ok(reading);
            }
            let fds: Vec<_> = self.waitable().into_iter().collect();
            match poll::wait(&fds, Some(self.wait())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(refusal(&error)),
                _ => {}
            }
        }
    }

    /// The clock again, for another use.
    #[must_use]
    pub fn into_rtc(self) -> Rtc {
        // Closing would do it too.
        let _ = sys::ioctl(self.rtc.device.as_fd(), &ioctl::RTC_UPDATES_OFF, &mut ());
        self.rtc
    }

    fn interrupted(&mut self) -> Result<Option<Reading>, LookError> {
        let mut count = [0; 8];
        match sys::read(self.rtc.device.as_fd(), &mut count) {
            Ok(_) => {
                let at = clock::now().0;
                let second = self.rtc.read()?;
                Ok(Some(reading(second, at, Span::ZERO, INTERRUPT_ERROR)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if clock::now().0.raw - self.began > INTERRUPT_MAX {
                    self.by_interrupt = false;
                    self.began = clock::now().0.raw;
                }
                Ok(None)
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    fn search(&mut self) -> Result<Option<Reading>, LookError> {
        let before = clock::now().0;
        let second = self.rtc.read()?;
        let after = clock::now().0;
        let Some((last, earlier)) = self.last.replace((second, before)) else { return Ok(None) };
        if second == last {
            return Ok(None);
        }
        let width = after.raw - earlier.raw;
        let middle =
            Now { raw: earlier.raw + width.half(), wall: earlier.wall + (after.wall - earlier.wall).half() };
        if self.expected.is_some() || second != last + 1 {
            return Ok(Some(reading(second, middle, width, Seconds(0.0))));
        }
        // A rough edge: the next one is looked at closely.
        self.expected = Some(middle.raw + Span::from_secs(1));
        self.began = after.raw;
        Ok(None)
    }
}

fn reading(second: i64, at: Now, width: Span, error: Seconds) -> Reading {
    Reading {
        at,
        width,
        device_ns: second.saturating_mul(NANOS_PER_SECOND),
        scale: TimeScale::Utc,
        dispersion: error,
        leap: Leap::None,
    }
}

/// The seconds that a clock shows, without opening it: cheap enough to look each second whether time was lost. Its zone is not considered: only changes count.
#[must_use]
pub fn since_epoch(path: &Path) -> Option<i64> {
    fs::read_to_string(sysfs(path)?.join("since_epoch")).ok()?.trim().parse().ok()
}

/// A difference from the true time that is a matter of zones: whole quarters of an hour, as far as `error` lets see. In minutes.
#[must_use]
pub fn zone_difference(offset: Seconds, error: Seconds) -> Option<i32> {
    const QUARTER_S: f64 = 900.0;
    /// From −12 to +14 hours there are zones.
    const QUARTERS_MAX: f64 = 56.0;
    let quarters = (offset.0 / QUARTER_S).round();
    let rest = (offset.0 - quarters * QUARTER_S).abs();
    let is_zone = (1.0..=QUARTERS_MAX).contains(&quarters.abs()) && rest <= error.0 + 2.0;
    #[expect(clippy::cast_possible_truncation, reason = "at most 56")]
    is_zone.then_some(quarters as i32 * 15)
}

/// `/sys/class/rtc/rtcN` of a device.
fn sysfs(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    Some(Path::new("/sys/class/rtc").join(real.file_name()?))
}

fn zone(adjtime: &str) -> Zone {
    if adjtime.lines().nth(2).is_some_and(|line| line.trim() == "LOCAL") { Zone::Local } else { Zone::Utc }
}

fn to_seconds(time: &RtcTime, zone: Zone) -> Option<i64> {
    if zone == Zone::Local {
        return sys::from_local(time);
    }
    let day = days(i64::from(time.year) + 1_900, i64::from(time.month) + 1, i64::from(time.day));
    let second = i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + i64::from(time.second);
    Some(day * SECONDS_PER_DAY + second)
}

fn from_seconds(seconds: i64, zone: Zone) -> Option<RtcTime> {
    if zone == Zone::Local {
        return sys::to_local(seconds);
    }
    let (day, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
    let (year, month, of_month) = date(day);
    let small = |value: i64| i32::try_from(value).ok();
    Some(RtcTime {
        second: small(second % 60)?,
        minute: small(second / 60 % 60)?,
        hour: small(second / 3_600)?,
        day: small(of_month)?,
        month: small(month - 1)?,
        year: small(year - 1_900)?,
        // 1970-01-01 was a Thursday.
        week_day: small((day + 4).rem_euclid(7))?,
        year_day: small(day - days(year, 1, 1))?,
        is_dst: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_broken_down_time_is_understood() {
        let time = from_seconds(1_709_210_096, Zone::Utc).unwrap();
        let shown = (time.year, time.month, time.day, time.hour, time.minute, time.second);
        assert_eq!(shown, (124, 1, 29, 12, 34, 56));
        assert_eq!((time.week_day, time.year_day), (4, 59));
        assert_eq!(to_seconds(&time, Zone::Utc), Some(1_709_210_096));
    }

    #[test]
    fn the_zone_is_the_third_line() {
        assert_eq!(zone("0.0 0 0.0\n0\nLOCAL\n"), Zone::Local);
        assert_eq!(zone("0.0 0 0.0\n0\nUTC\n"), Zone::Utc);
        assert_eq!(zone(""), Zone::Utc);
    }

    #[test]
    fn whole_quarters_of_an_hour_are_a_matter_of_zones() {
        let error = Seconds(0.01);
        assert_eq!(zone_difference(Seconds(7_200.8), error), Some(120));
        assert_eq!(zone_difference(Seconds(-20_700.0), error), Some(-345));
        assert_eq!(zone_difference(Seconds(0.8), error), None);
        assert_eq!(zone_difference(Seconds(7_260.0), error), None);
        assert_eq!(zone_difference(Seconds(86_400.0), error), None);
    }

    #[test]
    fn a_clock_that_is_none_is_refused() {
        assert_eq!(Rtc::open(Path::new("/dev/driftless-none")).unwrap_err(), LookError::Missing);
        let null = Rtc::open(Path::new("/dev/null")).unwrap();
        assert!(null.read().is_err());
        assert_eq!(since_epoch(Path::new("/dev/driftless-none")), None);
    }

    #[test]
    fn both_ways_to_the_edge_agree() {
        let edge = |by_interrupt| {
            let mut watch = Rtc::open(Path::new(DEVICE)).ok()?.watch();
            watch.by_interrupt &= by_interrupt;
            let reading = watch.edge().unwrap();
            Some(Seconds::from(WallTime::from_nanos(reading.device_ns) - reading.at.wall))
        };
        let Some(by_interrupt) = edge(true) else { return eprintln!("skipped: no real-time clock here") };
        let by_search = edge(false).unwrap();
        assert!((by_search - by_interrupt).abs() < Seconds(20e-3), "{by_interrupt} {by_search}");
    }

    #[test]
    fn observing_wins_over_setting() {
        // The tests run with DRIFTLESS_OBSERVE=1, as everything that cargo starts.
        let null = Rtc::open(Path::new("/dev/null")).unwrap();
        assert_eq!(null.set_from_wall().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    proptest! {
        #[test]
        fn a_broken_down_time_leads_back(seconds in 0_i64..5_000_000_000) {
            let time = from_seconds(seconds, Zone::Utc).unwrap();
            prop_assert_eq!(to_seconds(&time, Zone::Utc), Some(seconds));
        }

        #[test]
        fn local_time_leads_back(seconds in 0_i64..4_000_000_000) {
            // Within the hour that autumn repeats it may lead to the other one.
            let back = to_seconds(&from_seconds(seconds, Zone::Local).unwrap(), Zone::Local).unwrap();
            prop_assert!((back - seconds).abs() <= 3_600);
        }
    }
}
