//! Instants as people write them: RFC 3339 in UTC.

use driftless_core::time::{NANOS_PER_SECOND, WallTime};

/// `2026-11-24T15:04:05.123456Z`. Days are turned into dates by the algorithm of Hinnant's "chrono-compatible low-level date algorithms".
#[must_use]
pub fn rfc3339(time: WallTime) -> String {
    let seconds = time.as_nanos().div_euclid(NANOS_PER_SECOND);
    let micros = time.as_nanos().rem_euclid(NANOS_PER_SECOND) / 1_000;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of the `days`th day after 1970-01-01.
const fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
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
