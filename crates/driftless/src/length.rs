//! Lengths of time on the command line.

use driftless_core::time::{Seconds, Span};

/// `250ms`, `30`, `30s`, `10m`, `2h`, `1d`, also with a fraction.
pub(crate) fn length(text: &str) -> Result<Span, String> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0), ("", 1.0)];
    let wrong = || format!("`{text}` is no length; write 250ms, 30s, 10m, 2h or 1d");
    let found = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, unit) = found.ok_or_else(wrong)?;
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * unit;
    if (1e-3..1e9).contains(&seconds) { Ok(Seconds(seconds).to_span()) } else { Err(wrong()) }
}

/// `0.1ppm`, `100ppb`, or ppm without a unit.
pub(crate) fn ppm(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no precision; write 0.1ppm or 100ppb");
    let (number, unit) = match text.strip_suffix("ppb") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix("ppm").unwrap_or(text), 1.0),
    };
    let value = number.trim().parse::<f64>().map_err(|_| wrong())? * unit;
    if (1e-6..1e5).contains(&value) { Ok(value) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_precisions_are_read() {
        for (text, seconds) in
            [("250ms", 0.25), ("30", 30.0), ("30s", 30.0), ("1.5m", 90.0), ("2h", 7_200.0), ("1d", 86_400.0)]
        {
            assert_eq!(length(text), Ok(Seconds(seconds).to_span()), "{text}");
        }
        for (text, value) in [("0.1ppm", 0.1), ("100ppb", 0.1), ("2", 2.0)] {
            assert!((ppm(text).unwrap() - value).abs() < 1e-12, "{text}");
        }
        for text in ["", "s", "-1s", "0", "1w", "nan"] {
            assert!(length(text).is_err() && ppm(text).is_err(), "{text}");
        }
    }
}
