//! A clock that is read, not asked: a PTP hardware clock, the vmclock page, the RTC.
//!
//! The driver brackets the device's reading between two of the counter and keeps the tightest of several; what the bracket leaves open
//! is the look's delay. Devices differ in what they count: UTC, or TAI, which is 37 s ahead since 2017. That is known of a
//! driver, said by the user or measured against another source, and never assumed.

use crate::clock::Leap;
use crate::sample::Sample;
use crate::time::{Now, RawTime, Seconds, Span, WallTime};

use super::association::Seen;
use super::{Endpoint, Schedule, SourceConfig};

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A PTP hardware clock, `/dev/ptpN`.
    Phc,
    /// The hypervisor's vmclock page, `/dev/vmclock0`.
    VmClock,
    /// The real-time clock, `/dev/rtc0`.
    Rtc,
}

/// What a device's count means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeScale {
    /// UTC, leap seconds repeated: as the kernel counts.
    Utc,
    /// TAI, with TAI − UTC in seconds where the device tells it.
    Tai(Option<i32>),
    /// Nobody said: to be measured against another source first.
    Unknown,
}

/// One look at a device: the tightest bracket of several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The middle of the bracket on both local clocks.
    pub at: Now,
    /// Between the readings of the counter before and after: ≥ 0.
    pub width: Span,
    /// ns since 1970 as the device counts.
    pub device_ns: i64,
    /// What that count means.
    pub scale: TimeScale,
    /// The device's resolution and its own error bound: ≥ 0.
    pub dispersion: Seconds,
    /// What the device announces.
    pub leap: Leap,
}

/// Why a look at a device gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookError {
    /// There is no such device, or it is gone.
    #[error("there is no such device")]
    Missing,
    /// It may not be opened.
    #[error("not permitted to open the device")]
    Permission,
    /// It has not moved since the last look.
    #[error("the device's clock stands still")]
    Frozen,
    /// It moves, but by far more or less than time passes: nothing can be learnt from it.
    #[error("the device's clock does not run at the rate of time")]
    WrongRate,
    /// It answers, but gives no time (a vmclock page without a clock, a PHC without a valid time).
    #[error("the device gives no time")]
    NoTime,
    /// No two readings agreed in time: somebody writes all the while, or the bracket is too wide.
    #[error("no tight look was had")]
    Loose,
    /// It counts in a scale that nobody knows, and there is no other source to measure it against.
    #[error("its time scale (UTC or TAI) is not known; say ?scale=utc or ?scale=tai, or give another source")]
    UnknownScale,
    /// Any other errno.
    #[error("the kernel answered with errno {0}")]
    Other(i32),
}

/// One device as a source.
#[derive(Debug, Clone)]
pub struct Device {
    /// As configured.
    pub config: SourceConfig,
    /// Counters, for reports.
    pub seen: Seen,
    schedule: Schedule,
    /// The scale in force: configured, told by the driver, or measured.
    scale: TimeScale,
    last: Option<(RawTime, i64)>,
}

/// TAI − UTC since 2017-01-01, where neither kernel nor device tells it.
const TAI_UTC_S: i32 = 37;
/// A device whose count is within this of TAI (or UTC) is said to count so.
const SCALE_MARGIN: Span = Span::from_millis(5_000);

impl Device {
    /// A device that is looked at at once.
    #[must_use]
    pub fn new(config: SourceConfig, now: Now) -> Self {
        let scale = match &config.endpoint {
            Endpoint::Device { scale: Some(scale), .. } => *scale,
            _ => TimeScale::Unknown,
        };
        let schedule = Schedule::new(config.class, (config.min_poll, config.max_poll), now.raw);
        Self { config, seen: Seen::default(), schedule, scale, last: None }
    }

    /// Whether it is to be looked at now; counts the look.
    pub fn due(&mut self, now: Now) -> bool {
        if !self.schedule.is_due(now.raw) {
            return false;
        }
        self.schedule.looked(now.raw);
        self.seen.reach <<= 1;
        self.seen.sent += 1;
        true
    }

    /// A look's outcome. `truth` is another source's idea of the time at `reading.at`, if there is one: a scale that nobody told is measured
    /// against it. `kernel_tai` is TAI − UTC as the kernel has it, 0 where nobody set it.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn read(
        &mut self,
        result: Result<Reading, LookError>,
        truth: Option<WallTime>,
        kernel_tai: i32,
    ) -> Result<Sample, LookError> {
        let reading = result?;
        let last = self.last.replace((reading.at.raw, reading.device_ns));
        let resolution = if self.is_rtc() { Span::from_secs(2) } else { Span::ZERO };
        if last.is_some_and(|(raw, ns)| reading.at.raw - raw > resolution && reading.device_ns == ns) {
            return Err(LookError::Frozen);
        }
        let reference = self.utc(&reading, truth, kernel_tai).ok_or(LookError::UnknownScale)?;
        self.seen.reach |= 1;
        self.seen.received += 1;
        self.seen.leap = reading.leap;
        self.seen.delay = Some(reading.width.into());
        self.schedule.answered(reading.at.raw, reading.at.raw);
        Ok(Sample {
            raw: reading.at.raw,
            local: reading.at.wall,
            offset: (reference - reading.at.wall).into(),
            delay: Seconds::from(reading.width).max(Seconds::ZERO),
            dispersion: reading.dispersion,
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds::ZERO,
            stratum: 0,
            leap: reading.leap,
        })
    }

    const fn is_rtc(&self) -> bool {
        matches!(self.config.endpoint, Endpoint::Device { kind: DeviceKind::Rtc, .. })
    }

    fn utc(&mut self, reading: &Reading, truth: Option<WallTime>, kernel_tai: i32) -> Option<WallTime> {
        let tai_s = |told: Option<i32>| told.unwrap_or(if kernel_tai > 0 { kernel_tai } else { TAI_UTC_S });
        let count = WallTime::from_nanos(reading.device_ns);
        let less = |seconds: i32| count - Span::from_secs(seconds.into());
        if self.scale == TimeScale::Unknown {
            self.scale = reading.scale;
        }
        if self.scale == TimeScale::Unknown {
            let is_near = |time: WallTime| truth.is_some_and(|truth| (time - truth).abs() < SCALE_MARGIN);
            self.scale = match () {
                () if is_near(count) => TimeScale::Utc,
                () if is_near(less(tai_s(None))) => TimeScale::Tai(None),
                () => TimeScale::Unknown,
            };
        }
        match (self.scale, reading.scale) {
            (TimeScale::Utc, _) => Some(count),
            (TimeScale::Tai(_), TimeScale::Tai(told)) | (TimeScale::Tai(told), _) => Some(less(tai_s(told))),
            (TimeScale::Unknown, _) => None,
        }
    }

    /// When and how often it is looked at.
    pub(crate) const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The same, to change it.
    pub(crate) const fn schedule_mut(&mut self) -> &mut Schedule {
        &mut self.schedule
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceClass;
    use crate::time::NANOS_PER_SECOND;

    const NOW: i64 = 1_800_000_000_000_000_000;

    fn device(scale: Option<TimeScale>) -> Device {
        let (min_poll, max_poll) = SourceClass::Hypervisor.poll_limits();
        let endpoint = Endpoint::Device { kind: DeviceKind::Phc, path: "/dev/ptp0".into(), scale };
        let config = SourceConfig {
            name: "phc:/dev/ptp0".into(),
            endpoint,
            class: SourceClass::Hypervisor,
            min_poll,
            max_poll,
        };
        Device::new(config, at(0))
    }

    fn at(millis: i64) -> Now {
        let since = Span::from_millis(millis);
        Now { raw: RawTime::from_nanos(0) + since, wall: WallTime::from_nanos(NOW) + since }
    }

    fn reading(millis: i64, ahead_s: i64, scale: TimeScale) -> Reading {
        Reading {
            at: at(millis),
            width: Span::from_nanos(900),
            device_ns: NOW + millis * 1_000_000 + ahead_s * NANOS_PER_SECOND,
            scale,
            dispersion: Seconds(1e-9),
            leap: Leap::None,
        }
    }

    #[test]
    fn tai_is_37_seconds_less() {
        let sample = device(None).read(Ok(reading(5, 37, TimeScale::Tai(None))), None, 0).unwrap();
        assert!(sample.offset.abs().0 < 1e-9, "{sample:?}");
        let told = device(None).read(Ok(reading(5, 38, TimeScale::Tai(Some(38)))), None, 37).unwrap();
        assert!(told.offset.abs().0 < 1e-9, "{told:?}");
    }

    #[test]
    fn a_scale_that_nobody_told_is_measured_and_never_assumed() {
        let mut device = device(None);
        let unknown = |millis| Ok(reading(millis, 37, TimeScale::Unknown));
        assert_eq!(device.read(unknown(5), None, 0), Err(LookError::UnknownScale));
        let sample = device.read(unknown(6), Some(at(6).wall), 0).unwrap();
        assert!(sample.offset.abs().0 < 1e-9);
        assert!(device.read(unknown(7), None, 0).is_ok(), "once measured it is known");
    }

    #[test]
    fn a_device_that_stands_still_is_refused() {
        let mut device = device(Some(TimeScale::Utc));
        assert!(device.read(Ok(reading(5, 0, TimeScale::Utc)), None, 0).is_ok());
        let frozen = Reading { at: at(900), ..reading(5, 0, TimeScale::Utc) };
        assert_eq!(device.read(Ok(frozen), None, 0), Err(LookError::Frozen));
    }
}
