//! Instants as people write them: RFC 3339 in UTC.

use driftless_core::time::civil::{SECONDS_PER_DAY, date};
use driftless_core::time::{NANOS_PER_SECOND, WallTime};

/// `2026-11-24T15:04:05.123456Z`.
#[must_use]
pub fn rfc3339(time: WallTime) -> String {
    let seconds = time.as_nanos().div_euclid(NANOS_PER_SECOND);
    let micros = time.as_nanos().rem_euclid(NANOS_PER_SECOND) / 1_000;
    let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates_are_written_rightly() {
        let written = |seconds| rfc3339(WallTime::from_parts(seconds, 1_500));
        assert_eq!(written(0), "1970-01-01T00:00:00.000001Z");
        assert_eq!(written(1_709_210_096), "2024-02-29T12:34:56.000001Z");
        assert_eq!(written(-1), "1969-12-31T23:59:59.000001Z");
    }
}
