//! Days and dates of the Gregorian calendar, by Hinnant's "chrono-compatible low-level date algorithms".

/// Seconds in a day that has no leap second.
pub const SECONDS_PER_DAY: i64 = 86_400;
/// From 0000-03-01, where the algorithms begin, to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// In 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// Year, month (from 1) and day (from 1) of the `days`th day after 1970-01-01.
#[must_use]
pub const fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_DAYS;
    let era = shifted.div_euclid(ERA_DAYS);
    let day_of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Days from 1970-01-01 to that date; the month counts from 1 and may be 13.
#[must_use]
pub const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
    let year_from_march = if month <= 2 { year - 1 } else { year };
    let era = year_from_march.div_euclid(400);
    let year_of_era = year_from_march.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

/// The first second (since 1970, in UTC) of the month after the one that holds `seconds`: where leap seconds are.
#[must_use]
pub const fn next_month(seconds: i64) -> i64 {
    let (year, month, _) = date(seconds.div_euclid(SECONDS_PER_DAY));
    days(year, month + 1, 1) * SECONDS_PER_DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days_have_their_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(-1), (1969, 12, 31));
        assert_eq!(days(2017, 1, 1), 17_167);
    }

    #[test]
    fn months_end_where_they_do() {
        let at = |year, month, day| days(year, month, day) * SECONDS_PER_DAY;
        assert_eq!(next_month(at(2016, 12, 31) + 86_399), at(2017, 1, 1));
        assert_eq!(next_month(at(2017, 1, 1)), at(2017, 2, 1));
        assert_eq!(next_month(at(2024, 2, 1)), at(2024, 3, 1));
    }

    proptest! {
        #[test]
        fn a_date_leads_back_to_its_day(day in -3_000_000_i64..3_000_000) {
            let (year, month, of_month) = date(day);
            prop_assert_eq!(days(year, month, of_month), day);
        }
    }
}
