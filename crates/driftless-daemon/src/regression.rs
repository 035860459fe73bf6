//! One linear regression without an end, as `dntpd -t` reports it (contract D8).
//!
//! dntpd's signs, not ours, since whoever reads its lines knows those: offsets are local − reference, and the slope is positive where the local
//! clock gains.

use std::fmt;

use driftless_core::sample::Sample;
use driftless_core::time::{RawTime, Seconds};

/// Sums over all samples so far. Abscissa: time on the counter since the first; ordinate: the offset without anybody's corrections of the clock.
#[derive(Debug, Clone, Default)]
pub struct Regression {
    first: Option<Sample>,
    count: f64,
    sum_x: f64,
    sum_xx: f64,
    sum_y: f64,
    sum_yy: f64,
    sum_xy: f64,
    /// Of the offsets as they were measured.
    sum_offset: f64,
    sum_offset_squared: f64,
    /// The newest sample: time since the first, offset, offset without corrections.
    newest: (f64, f64, f64),
}

impl Regression {
    /// Takes one sample in.
    pub fn add(&mut self, sample: &Sample) {
        let first = *self.first.get_or_insert(*sample);
        let elapsed = |at: RawTime| Seconds::from(at - first.raw).0;
        let x = elapsed(sample.raw);
        let offset = -sample.offset.0;
        // What the wall clock was moved against the counter meanwhile is somebody's correction.
        let corrected = Seconds::from(sample.local - first.local - (sample.raw - first.raw)).0;
        let y = offset - corrected;
        self.count += 1.0;
        self.sum_x += x;
        self.sum_xx += x * x;
        self.sum_y += y;
        self.sum_yy += y * y;
        self.sum_xy += x * y;
        self.sum_offset += offset;
        self.sum_offset_squared += offset * offset;
        self.newest = (x, offset, y);
    }

    /// Slope, intercept and correlation, from the second sample on.
    #[must_use]
    pub fn line(&self) -> Option<(f64, f64, f64)> {
        if self.count < 2.0 {
            return None;
        }
        let n = self.count;
        let products = n * self.sum_xy - self.sum_x * self.sum_y;
        let squares_x = n * self.sum_xx - self.sum_x * self.sum_x;
        let squares_y = (n * self.sum_yy - self.sum_y * self.sum_y).max(0.0);
        let slope = products / squares_x;
        let length = (squares_x * squares_y).sqrt();
        let correlation = if length > 0.0 { products / length } else { 0.0 };
        Some((slope, (self.sum_y - slope * self.sum_x) / n, correlation))
    }

    /// Standard deviation of the measured offsets, from the second sample on.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        if self.count < 2.0 {
            return None;
        }
        let squares = self.sum_offset_squared - self.sum_offset * self.sum_offset / self.count;
        Some((squares.max(0.0) / (self.count - 1.0)).sqrt())
    }
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, offset, uncorrected) = self.newest;
        write!(f, "iter={:2} time={time:7.3} off={offset:+.6} uoff={uncorrected:+.6}", self.count)?;
        if let Some((slope, intercept, correlation)) = self.line() {
            let ppm = slope * 1e6;
            write!(
                f,
                " slope {slope:+7.6} yint {intercept:+3.2} corr {correlation:+7.6} freq_ppm {ppm:+4.2}"
            )?;
        }
        if let Some(deviation) = self.deviation() {
            write!(f, " stddev {deviation:7.6}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::clock::Leap;
    use driftless_core::time::{Span, WallTime};

    /// A clock that starts 50 ms ahead and gains 100 ppm, and is set right by 20 ms at second 1000.
    fn sample(second: i64) -> Sample {
        let corrected = if second >= 1_000 { Span::from_millis(20) } else { Span::ZERO };
        let ahead = 0.05 + 100e-6 * f64::from(i32::try_from(second).unwrap()) - Seconds::from(corrected).0;
        Sample {
            raw: RawTime::from_parts(second, 0),
            local: WallTime::from_parts(1_000_000 + second, 0) - corrected,
            offset: Seconds(-ahead),
            delay: Seconds(1e-3),
            dispersion: Seconds::ZERO,
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds::ZERO,
            stratum: 1,
            leap: Leap::None,
        }
    }

    #[test]
    fn d8_one_regression_tells_the_drift_whatever_is_done_to_the_clock() {
        let mut regression = Regression::default();
        (0..8).for_each(|n| regression.add(&sample(n * 300)));
        let (slope, intercept, correlation) = regression.line().unwrap();
        assert!((slope - 100e-6).abs() < 1e-9 && correlation > 0.999_999, "{regression}");
        assert!((intercept - 0.05).abs() < 1e-6, "{regression}");
    }

    #[test]
    fn d8_its_line_is_dntpds() {
        let mut regression = Regression::default();
        regression.add(&sample(0));
        assert_eq!(regression.to_string(), "iter= 1 time=  0.000 off=+0.050000 uoff=+0.050000");
        regression.add(&sample(300));
        assert_eq!(
            regression.to_string(),
            "iter= 2 time=300.000 off=+0.080000 uoff=+0.080000 slope +0.000100 yint +0.05 corr +1.000000 \
             freq_ppm +100.00 stddev 0.021213"
        );
    }
}
