//! The real-time clock for people: how far it is from the system's clock, either one set from the other.

use std::path::{Path, PathBuf};

use driftless_core::clock::{ClockCommand, ClockError};
use driftless_core::source::LookError;
use driftless_core::time::{Seconds, WallTime};
use driftless_linux::clock::{clock, is_observing};
use driftless_linux::rtc::{Rtc, Zone, zone_difference};
use serde_json::{Value, json};

use crate::civil;

/// What a look at the edge of a second showed.
#[derive(Debug, Clone, PartialEq)]
pub struct RtcReport {
    /// The device.
    pub device: PathBuf,
    /// Its driver, as far as the system says.
    pub driver: String,
    /// What it counts.
    pub zone: Zone,
    /// Its time at the edge.
    pub time: WallTime,
    /// The clock's time − the system's.
    pub offset: Seconds,
    /// How well that is known.
    pub error: Seconds,
    /// Whether the edge came as an interrupt.
    pub by_interrupt: bool,
    /// The offset in minutes, where it looks like a matter of time zones.
    pub zone_difference: Option<i32>,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RtcError {
    /// The real-time clock.
    #[error("{}: {error}", device.display())]
    Look {
        /// The device.
        device: PathBuf,
        /// Why.
        error: LookError,
    },
    /// Writing to it.
    #[error("{}: {error}; setting it needs CAP_SYS_TIME", device.display())]
    Write {
        /// The device.
        device: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The system's clock.
    #[error("the system's clock: {0}")]
    Clock(ClockError),
    /// The environment.
    #[error("DRIFTLESS_OBSERVE=1: nothing is set")]
    Observing,
}

/// Compares the device with the system's clock at the edge of a second: up to 1.3 s where it interrupts, else up to 2.5 s.
///
/// # Errors
/// [`RtcError::Look`].
pub fn read(device: &Path) -> Result<RtcReport, RtcError> {
    let rtc = open(device)?;
    let (driver, zone) = (rtc.driver().to_owned(), rtc.zone());
    let mut watch = rtc.watch();
    let reading = watch.edge().map_err(|error| RtcError::Look { device: device.to_owned(), error })?;
    let time = WallTime::from_nanos(reading.device_ns);
    let offset = Seconds::from(time - reading.at.wall);
    let error = reading.dispersion + Seconds::from(reading.width.half());
    Ok(RtcReport {
        device: device.to_owned(),
        driver,
        zone,
        time,
        offset,
        error,
        by_interrupt: watch.is_by_interrupt(),
        zone_difference: zone_difference(offset, error),
    })
}

/// Steps the system's clock to the device's time. The report is of before.
///
/// # Errors
/// [`RtcError`].
pub fn set_system(device: &Path) -> Result<RtcReport, RtcError> {
    if is_observing() {
        return Err(RtcError::Observing);
    }
    let report = read(device)?;
    clock(false).apply(ClockCommand::Step(report.offset.to_span())).map_err(RtcError::Clock)?;
    Ok(report)
}

/// Sets the device to the system's clock. The report is of afterwards.
///
/// # Errors
/// [`RtcError`].
pub fn write(device: &Path) -> Result<RtcReport, RtcError> {
    if is_observing() {
        return Err(RtcError::Observing);
    }
    let rtc = open(device)?;
    rtc.set_from_wall().map_err(|error| RtcError::Write { device: device.to_owned(), error })?;
    drop(rtc);
    read(device)
}

fn open(device: &Path) -> Result<Rtc, RtcError> {
    Rtc::open(device).map_err(|error| RtcError::Look { device: device.to_owned(), error })
}

impl RtcError {
    /// Whether more rights would help.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Look { error, .. } => *error == LookError::Permission,
            Self::Write { error, .. } => error.kind() == std::io::ErrorKind::PermissionDenied,
            Self::Clock(error) => *error == ClockError::Permission,
            Self::Observing => true,
        }
    }
}

impl RtcReport {
    /// As JSON, one object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "device": self.device,
            "driver": self.driver,
            "zone": self.zone_name(),
            "time": civil::rfc3339(self.time),
            "offset": self.offset.0,
            "error": self.error.0,
            "edge": if self.by_interrupt { "interrupt" } else { "polling" },
            "zone_difference_minutes": self.zone_difference,
        })
    }

    /// `utc` or `local`.
    #[must_use]
    pub const fn zone_name(&self) -> &'static str {
        match self.zone {
            Zone::Utc => "utc",
            Zone::Local => "local",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_set_where_the_environment_forbids_it() {
        // As everything that cargo starts, tests run with DRIFTLESS_OBSERVE=1.
        let device = Path::new("/dev/driftless-none");
        assert!(matches!(set_system(device), Err(RtcError::Observing)));
        assert!(matches!(write(device), Err(RtcError::Observing)));
    }

    #[test]
    fn a_clock_that_is_not_there_is_named() {
        let error = read(Path::new("/dev/driftless-none")).unwrap_err();
        assert_eq!(error.to_string(), "/dev/driftless-none: there is no such device");
        assert!(!error.is_permission());
    }
}
