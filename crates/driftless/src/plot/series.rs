//! What can be drawn: files of `measure`, of `simulate --out` and of the lab, each run and source as one series.

use std::path::Path;

use driftless_core::clock::{Leap, Rate};
use driftless_core::drift::{self, Look};
use driftless_core::sample::Sample;
use driftless_core::time::{Frequency, RawTime, Seconds, WallTime};

use crate::notebook::{self, Run};

/// One line in a picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// In the legend.
    pub(super) name: String,
    /// In the order of time.
    pub(super) points: Vec<Point>,
    /// As looks: of a lab's or simulator's file, looks at the truth.
    pub(super) looks: Vec<Look>,
    /// Whether the looks are of the uncorrected counter.
    pub(super) is_measured: bool,
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Since the series' beginning, s.
    pub(super) at_s: f64,
    /// Reference − wall clock, s.
    pub(super) offset_s: f64,
    /// The kernel's tick, µs, and frequency, ppm, where the file tells them.
    pub(super) rate: Option<(f64, f64)>,
}

/// Columns of a file that holds true offsets: seconds, offset, tick, frequency.
const TRUTHS: [[&str; 4]; 2] = [
    ["seconds_since_client_start", "true_offset_s", "tick_us", "frequency_ppm"],
    ["second", "true_offset", "tick", "kernel_frequency_ppm"],
];

/// All series of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Series>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let found = match notebook::parse(&text) {
        Some(runs) => runs.iter().flat_map(measured).collect(),
        None => truth(&text, stem).into_iter().collect::<Vec<_>>(),
    };
    let is_empty = found.iter().all(|series| series.points.is_empty());
    let wrong = || {
        format!(
            "{}: nothing to draw; give files of `driftless measure --out`, `driftless simulate --out` or the lab's samples.csv",
            path.display()
        )
    };
    if is_empty { Err(wrong()) } else { Ok(found) }
}

fn measured(run: &Run) -> Vec<Series> {
    let label = run.facts.get("label").cloned().unwrap_or_default();
    let series = |(number, source): (usize, &String)| {
        let looks = run.of(number);
        let first = looks.first()?.sample.raw;
        let point = |look: &Look| Point {
            at_s: Seconds::from(look.sample.raw - first).0,
            offset_s: look.sample.offset.0,
            rate: Some((f64::from(look.rate.tick), look.rate.frequency.ppm())),
        };
        let name = if run.sources.len() > 1 { format!("{label}, {source}") } else { label.clone() };
        Some(Series { name, points: looks.iter().map(point).collect(), looks, is_measured: true })
    };
    run.sources.iter().enumerate().filter_map(series).collect()
}

fn truth(text: &str, name: String) -> Option<Series> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header: Vec<&str> = lines.next()?.split(',').collect();
    let place = |name: &str| header.iter().position(|column| *column == name);
    let columns = TRUTHS.iter().find(|columns| place(columns[0]).is_some() && place(columns[1]).is_some())?;
    let places = columns.map(place);
    let points: Vec<Point> = lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |place: Option<usize>| fields.get(place?)?.parse::<f64>().ok();
            let (tick, frequency) = (number(places[2]), number(places[3]));
            // Before its first report the lab's agent tells a tick of 0.
            let rate = tick.zip(frequency).filter(|(tick, _)| *tick > 0.0);
            Some(Point { at_s: number(places[0])?, offset_s: number(places[1])?, rate })
        })
        .collect();
    let looks = points.iter().map(look).collect();
    Some(Series { name, points, looks, is_measured: false })
}

/// A look at the truth, as if the clock itself were the counter.
fn look(point: &Point) -> Look {
    let at = Seconds(point.at_s).to_span();
    let zero = Seconds::ZERO;
    let sample = Sample {
        raw: RawTime::from_nanos(at.as_nanos()),
        local: WallTime::from_nanos(at.as_nanos()),
        offset: Seconds(point.offset_s),
        delay: zero,
        dispersion: zero,
        root_delay: zero,
        root_dispersion: zero,
        stratum: 1,
        leap: Leap::None,
    };
    let (tick, frequency) = point.rate.unwrap_or((10_000.0, 0.0));
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
    let tick = tick as i32;
    Look { sample, rate: Rate { tick, frequency: Frequency::from_ppm(frequency) } }
}

impl Series {
    /// Seconds and how far the uncorrected counter has run ahead since the first look, s.
    pub(super) fn drift(&self) -> Vec<(f64, f64)> {
        drift::curve(&self.looks).into_iter().map(|(at_s, z_s)| (at_s, -z_s)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labs_and_the_simulators_files_are_read() {
        let lab = "seconds_since_client_start,true_offset_s,bound_s,estimated_offset_s,tick_us,frequency_ppm,state\n-1.5,-120.1,0.000001,,0,0,-\n1.0,0.5,0.000001,0.5,9993,24.5,synchronised\n";
        let series = truth(lab, "lab".to_owned()).unwrap();
        let seen: Vec<_> = series.points.iter().map(|p| (p.at_s, p.offset_s, p.rate)).collect();
        assert_eq!(seen, [(-1.5, -120.1, None), (1.0, 0.5, Some((9_993.0, 24.5)))]);
        let simulated = "second,true_offset,estimated_offset,bound,rate_error_ppm,frequency_ppm,tick,kernel_frequency_ppm,stepped\n1.000,0.25,,,300.0,,10000,-3.5,0\n";
        assert_eq!(truth(simulated, String::new()).unwrap().points[0].rate, Some((10_000.0, -3.5)));
        assert_eq!(truth("a,b\n1,2\n", String::new()), None);
    }
}
