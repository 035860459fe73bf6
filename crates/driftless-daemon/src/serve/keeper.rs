//! Who keeps this host's clock, and what it says: a driftless daemon where one answers, otherwise the kernel, which whoever keeps the clock tells.

use std::path::Path;

use driftless_core::clock::{Clock as _, ClockCommand, Leap};
use driftless_core::server::Keeper;
use driftless_core::time::civil::{SECONDS_PER_DAY, days};
use driftless_core::time::{Seconds, WallTime};
use driftless_linux::clock::{ObservedClock, announced_leap};
use serde_json::Value;

use crate::control::{Request, ask_within};

/// What the daemon at `control` says. None where there is none.
pub(super) fn daemon(control: &Path, patience: std::time::Duration) -> Option<Keeper> {
    let report = ask_within(control, Request::Status, patience).ok()?;
    of_report(&report)
}

/// What the kernel says; None where nobody keeps it. Its maximum error, which it lets grow by itself, is all that may be wrong.
pub(super) fn kernel() -> Option<Keeper> {
    /// A server behind whatever keeps this clock, most often one of stratum 2.
    const KEPT_STRATUM: u8 = 3;
    let state = ObservedClock.apply(ClockCommand::Read).ok().filter(|state| state.synchronised)?;
    Some(Keeper {
        is_synchronised: true,
        leap: announced_leap(),
        stratum: KEPT_STRATUM,
        reference_id: *b"KERN",
        root_delay: Seconds::ZERO,
        root_dispersion: state.max_error,
        updated: None,
    })
}

/// A daemon's report as one of its clients may know it: this clock, with its offset, lies within |offset| + bound of the truth.
fn of_report(report: &Value) -> Option<Keeper> {
    let number = |key: &str| report[key].as_f64();
    let is_synchronised = matches!(report["state"].as_str()?, "synchronised" | "holdover");
    let root_delay = number("root_delay").unwrap_or(0.0);
    let distance = number("offset").unwrap_or(0.0).abs() + number("offset_bound").unwrap_or(0.0);
    let reference_id = report["reference_id"].as_str().and_then(|text| u32::from_str_radix(text, 16).ok());
    Some(Keeper {
        is_synchronised,
        leap: serde_json::from_value(report["leap"].clone()).unwrap_or(Leap::Unknown),
        stratum: report["stratum"].as_u64().and_then(|stratum| u8::try_from(stratum).ok()).unwrap_or(16),
        reference_id: reference_id.unwrap_or(0).to_be_bytes(),
        root_delay: Seconds(root_delay),
        root_dispersion: Seconds(number("root_dispersion").unwrap_or(0.0).max(distance - root_delay / 2.0)),
        updated: report["last_update"].as_str().and_then(instant),
    })
}

/// An instant as our reports write it, `2026-11-24T15:04:05.123456Z`.
fn instant(text: &str) -> Option<WallTime> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let day = days(field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let second = field(11, 13)? * 3_600 + field(14, 16)? * 60 + field(17, 19)?;
    Some(WallTime::from_parts(day * SECONDS_PER_DAY + second, field(20, 26)? * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::civil::rfc3339;
    use serde_json::json;

    fn report() -> Value {
        json!({
            "state": "synchronised", "stratum": 2, "reference_id": "C0A80502", "leap": "insert",
            "offset": -0.002, "offset_bound": 0.001, "root_delay": 0.0006, "root_dispersion": 0.0004,
            "last_update": "2026-11-24T21:30:34.250000Z",
        })
    }

    #[test]
    fn a_daemons_word_holds_its_offset_and_its_bound() {
        let keeper = of_report(&report()).unwrap();
        assert!(keeper.is_synchronised);
        assert_eq!((keeper.stratum, keeper.leap, keeper.reference_id), (2, Leap::Insert, [192, 168, 5, 2]));
        let distance = keeper.root_dispersion.0 + keeper.root_delay.0 / 2.0;
        assert!((distance - 0.003).abs() < 1e-12, "{distance}");
        let mut wide = report();
        wide["root_dispersion"] = json!(0.5);
        assert_eq!(of_report(&wide).unwrap().root_dispersion, Seconds(0.5));
    }

    #[test]
    fn a_daemon_that_does_not_keep_the_clock_says_so() {
        for (state, expected) in
            [("acquiring", false), ("interrupted", false), ("contested", false), ("holdover", true)]
        {
            let mut value = report();
            value["state"] = json!(state);
            assert_eq!(of_report(&value).unwrap().is_synchronised, expected, "{state}");
        }
        assert_eq!(of_report(&json!({})), None);
    }

    #[test]
    fn instants_are_read_as_they_are_written() {
        for nanos in [0, 1_709_210_096_000_001_000, 1_794_000_000_999_999_000] {
            let time = WallTime::from_nanos(nanos);
            assert_eq!(instant(&rfc3339(time)), Some(time));
        }
        for text in ["", "2026", "2026-11-24", "not-an-instant-at-all-but-long"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
