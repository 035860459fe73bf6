//! From series to panels: one function a kind of picture.

use driftless_core::drift::{self, Cause, allan};
use driftless_core::time::Seconds;
use driftless_picture::{Axis, Curve, Mark, Panel, Picture};

use super::Kind;
use super::series::Series;

/// What frequency alone can do, ppm.
const CLAMP_PPM: f64 = 500.0;
/// An offset beyond this is what recoveries recover from, s.
const WRONG_S: f64 = 1e-3;
/// Right for so long before it went wrong, and shown for so long after, s.
const RIGHT_BEFORE_S: f64 = 2.0;
const RECOVERY_S: f64 = 30.0;
/// The least that a picture of recoveries shows, s.
const RECOVERED_S: f64 = 1e-7;

/// The picture of a kind.
pub(super) fn picture(kind: Kind, series: &[Series], from_zero: bool, title: &str) -> Picture {
    match kind {
        Kind::Offset => Picture::of(offset(series, from_zero, title)),
        Kind::Drift => Picture::of(counter(series, title)),
        Kind::Frequency => {
            let rows = vec![(3, vec![frequency(series, title)]), (2, vec![tick(series)])];
            Picture { rows, size: (960, 680), ..Picture::default() }
        }
        Kind::Adev => Picture::of(adev(series, title)),
        Kind::Delay => Picture::of(delay(series, title)),
        Kind::Recovery => Picture::of(recovery(series, title)),
    }
}

/// Draws curves of seconds over seconds, each in the unit that fits.
fn over_time(title: &str, what: &str, curves: Vec<Curve>, must: &[f64]) -> Panel {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let largest = all().map(|point| point.1.abs()).chain(must.iter().copied()).fold(0.0, f64::max);
    let (scale, unit) = offset_unit(largest);
    let longest = all().map(|point| point.0.abs()).fold(0.0, f64::max);
    let (per, time) = time_unit(longest);
    let scaled = |curve: &Curve| Curve {
        points: curve.points.iter().map(|point| (point.0 / per, point.1 * scale)).collect(),
        ..curve.clone()
    };
    let curves: Vec<Curve> = curves.iter().map(scaled).collect();
    let (x, y) = (
        curves.iter().flat_map(|c| &c.points).map(|p| p.0),
        curves.iter().flat_map(|c| &c.points).map(|p| p.1),
    );
    Panel {
        title: title.to_owned(),
        x: tight(Axis::holding(&format!("time, {time}"), x, &[])),
        y: Axis::holding(
            &format!("{what}, {unit}"),
            y,
            &must.iter().map(|value| value * scale).collect::<Vec<_>>(),
        ),
        has_legend: curves.len() > 1,
        curves,
        ..Panel::default()
    }
}

/// Time needs no free ends.
fn tight(axis: Axis) -> Axis {
    let (from, to) = axis.range;
    let margin = (to - from) * 0.05;
    Axis { range: (from + margin, to - margin), ..axis }
}

fn offset_unit(largest_s: f64) -> (f64, &'static str) {
    match largest_s {
        s if s >= 1.5 => (1.0, "s"),
        s if s >= 1.5e-3 => (1e3, "ms"),
        s if s >= 1.5e-6 => (1e6, "µs"),
        _ => (1e9, "ns"),
    }
}

fn time_unit(longest_s: f64) -> (f64, &'static str) {
    match longest_s {
        s if s > 3.0 * 86_400.0 => (86_400.0, "days"),
        s if s > 3.0 * 3_600.0 => (3_600.0, "h"),
        s if s > 600.0 => (60.0, "min"),
        _ => (1.0, "s"),
    }
}

fn offset(series: &[Series], from_zero: bool, title: &str) -> Panel {
    let curves = series.iter().map(|series| {
        let first = if from_zero { series.points.first().map_or(0.0, |point| point.offset_s) } else { 0.0 };
        let points = series.points.iter().map(|point| (point.at_s, point.offset_s - first));
        Curve { name: series.name.clone(), points: points.collect(), ..Curve::default() }
    });
    let title = if title.is_empty() { "how far the wall clock is behind" } else { title };
    over_time(title, "reference − clock", curves.collect(), &[0.0])
}

fn counter(series: &[Series], title: &str) -> Panel {
    let curves = series.iter().map(|series| {
        let measured = drift::measure(&series.looks)
            .map_or_else(String::new, |drift| format!(": {:+.2} ppm", drift.drift.ppm()));
        Curve { name: format!("{}{measured}", series.name), points: series.drift(), ..Curve::default() }
    });
    let title = if title.is_empty() { "what the uncorrected counter gains" } else { title };
    Panel {
        has_legend: true,
        ..over_time(title, "counter − reference since the start", curves.collect(), &[0.0])
    }
}

fn rates(series: &[Series], of: fn((f64, f64)) -> f64) -> Vec<Curve> {
    let curve = |series: &Series| Curve {
        name: series.name.clone(),
        points: series.points.iter().filter_map(|point| Some((point.at_s, of(point.rate?)))).collect(),
        ..Curve::default()
    };
    series.iter().map(curve).collect()
}

fn frequency(series: &[Series], title: &str) -> Panel {
    let limits = [CLAMP_PPM, -CLAMP_PPM];
    let text = ["+500 ppm: the kernel takes no more", "-500 ppm: the kernel takes no less"];
    let title = if title.is_empty() { "the kernel's frequency" } else { title };
    Panel {
        levels: limits.into_iter().zip(text).map(|(at, text)| Mark::new(at, text)).collect(),
        ..plain(title, "frequency, ppm", rates(series, |(_, frequency)| frequency), &[-560.0, 560.0])
    }
}

fn tick(series: &[Series]) -> Panel {
    let curves = rates(series, |(tick, _)| tick);
    let panel = plain("the kernel's tick: one more is +100 ppm", "tick, µs", curves, &[9_998.0, 10_002.0]);
    Panel { has_legend: false, ..panel }
}

/// Values over time, in the unit that they are in.
fn plain(title: &str, what: &str, curves: Vec<Curve>, must: &[f64]) -> Panel {
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1)).collect::<Vec<_>>();
    let y = Axis::holding(what, values.into_iter(), must);
    Panel { y, curves: curves.clone(), ..over_time_axis(title, curves) }
}

fn over_time_axis(title: &str, curves: Vec<Curve>) -> Panel {
    let times = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0)).collect::<Vec<_>>();
    Panel {
        title: title.to_owned(),
        x: tight(Axis::holding("time, s", times.into_iter(), &[])),
        has_legend: curves.len() > 1,
        ..Panel::default()
    }
}

fn adev(series: &[Series], title: &str) -> Panel {
    let curves: Vec<Curve> = series
        .iter()
        .map(|series| {
            let points = allan::deviations(&series.looks).iter().map(|d| (d.tau_s, d.deviation)).collect();
            Curve { name: series.name.clone(), points, ..Curve::default() }
        })
        .collect();
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let what =
        if series.iter().all(|series| series.is_measured) { "the uncorrected counter" } else { "the clock" };
    Panel {
        title: if title.is_empty() { format!("Allan deviation of {what}") } else { title.to_owned() },
        x: Axis::decades("τ, s", all().map(|point| point.0)),
        y: Axis::decades("Allan deviation, s/s", all().map(|point| point.1)),
        has_legend: true,
        curves,
        ..Panel::default()
    }
}

/// Offsets over delays: without the drift they fill a wedge, whose edges are half of the excess delay.
fn delay(series: &[Series], title: &str) -> Panel {
    let mut curves: Vec<Curve> = Vec::new();
    let mut edges: Vec<Curve> = Vec::new();
    for series in series.iter().filter(|series| series.is_measured) {
        let Some(drift) = drift::measure(&series.looks) else { continue };
        let beside = beside_the_line(series, drift.drift.0, &drift.breaks);
        let (floor, most) =
            beside.iter().fold((f64::INFINITY, 0.0_f64), |(f, m), p| (f.min(p.0), m.max(p.0)));
        let edge = |sign: f64| (most, sign * (most - floor) / 2.0);
        let edge = |name: &str, sign: f64| Curve {
            name: name.to_owned(),
            points: vec![(floor, 0.0), edge(sign)],
            colour: Some(6),
            ..Curve::default()
        };
        edges.extend([edge("half of the excess delay", 1.0), edge("", -1.0)]);
        curves.push(Curve { name: series.name.clone(), points: beside, is_dots: true, ..Curve::default() });
    }
    curves.extend(edges);
    let (all, title) = (
        || curves.iter().flat_map(|c| &c.points),
        if title.is_empty() { "what a delay says of an offset" } else { title },
    );
    let scaled = |largest: f64| offset_unit(largest);
    let ((x_scale, x_unit), (y_scale, y_unit)) = (
        scaled(all().map(|p| p.0).fold(0.0, f64::max)),
        scaled(all().map(|p| p.1.abs()).fold(0.0, f64::max)),
    );
    let curves: Vec<Curve> = curves
        .iter()
        .map(|c| Curve {
            points: c.points.iter().map(|p| (p.0 * x_scale, p.1 * y_scale)).collect(),
            ..c.clone()
        })
        .collect();
    let points = || curves.iter().flat_map(|curve| &curve.points);
    Panel {
        title: title.to_owned(),
        x: Axis::holding(&format!("round trip, {x_unit}"), points().map(|p| p.0), &[]),
        y: Axis::holding(&format!("offset, the drift taken out, {y_unit}"), points().map(|p| p.1), &[0.0]),
        has_legend: true,
        curves: curves.clone(),
        ..Panel::default()
    }
}

/// Delay and offset of each look up to the first break, the mean drift taken out; the quickest look's offset is zero.
fn beside_the_line(series: &Series, drift: f64, breaks: &[drift::Break]) -> Vec<(f64, f64)> {
    let is_jump = |one: &&drift::Break| !matches!(one.cause, Cause::Route(_));
    let end = breaks.iter().find(is_jump).map(|one| one.at);
    let looks = series.looks.iter().take_while(|look| end.is_none_or(|end| look.sample.raw < end));
    let beside: Vec<(f64, f64)> = looks
        .zip(drift::curve(&series.looks))
        .map(|(look, (at_s, z_s))| (look.sample.delay.0, z_s + drift * at_s))
        .collect();
    let quickest = beside.iter().min_by(|one, two| one.0.total_cmp(&two.0)).map_or(0.0, |point| point.1);
    beside.into_iter().map(|(delay, offset)| (delay, offset - quickest)).collect()
}

/// Each time that a clock went wrong, from its first wrong look on, all from the same zero.
fn recovery(series: &[Series], title: &str) -> Panel {
    let mut curves = Vec::new();
    for series in series {
        for (number, points) in recoveries(series).into_iter().enumerate() {
            let name =
                if number == 0 { series.name.clone() } else { format!("{}, {}", series.name, number + 1) };
            curves.push(Curve { name, points, ..Curve::default() });
        }
    }
    let values =
        curves.iter().flat_map(|curve: &Curve| curve.points.iter().map(|point| point.1)).collect::<Vec<_>>();
    let title = if title.is_empty() { "how soon the clock is right again" } else { title };
    Panel {
        title: title.to_owned(),
        x: Axis::exactly("time since it went wrong, s", 0.0, RECOVERY_S),
        y: Axis::decades("|offset|, s", values.into_iter().chain([WRONG_S])),
        levels: vec![Mark::new(WRONG_S, "1 ms")],
        has_legend: curves.len() > 1,
        curves,
        ..Panel::default()
    }
}

fn recoveries(series: &Series) -> Vec<Vec<(f64, f64)>> {
    let mut found: Vec<Vec<(f64, f64)>> = Vec::new();
    // At the beginning every clock counts as right until then.
    let (mut wrong_since, mut right_since) = (None::<f64>, Some(f64::NEG_INFINITY));
    for point in &series.points {
        let size = point.offset_s.abs();
        if wrong_since.is_some_and(|since| point.at_s - since > RECOVERY_S) {
            wrong_since = None;
        }
        if size > WRONG_S && wrong_since.is_none() {
            if right_since.is_some_and(|since| point.at_s - since > RIGHT_BEFORE_S) {
                wrong_since = Some(point.at_s);
                found.push(Vec::new());
            }
            right_since = None;
        } else if size <= WRONG_S && right_since.is_none() {
            right_since = Some(point.at_s);
        }
        if let (Some(since), Some(last)) = (wrong_since, found.last_mut()) {
            last.push((point.at_s - since, Seconds(size).0.max(RECOVERED_S)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::series::Point;

    fn series(name: &str, offset: impl Fn(f64) -> f64) -> Series {
        let point = |n: u32| {
            let at_s = f64::from(n) / 4.0;
            Point { at_s, offset_s: offset(at_s), rate: Some((10_000.0, 500.0)) }
        };
        Series {
            name: name.to_owned(),
            points: (0..400).map(point).collect(),
            looks: Vec::new(),
            is_measured: false,
        }
    }

    #[test]
    fn a_loss_of_two_milliseconds_in_three_seconds_reads_as_666_ppm() {
        let run = crate::notebook::tests::run("slow", -2_000.0 / 3.0);
        let mut slow = series("slow", |_| 0.0);
        slow.looks = run.of(0);
        let panel = counter(&[slow], "");
        assert_eq!(panel.curves[0].name, "slow: -666.67 ppm");
        let (at_s, gained) = panel.curves[0].points[30];
        assert!((at_s - 30.0).abs() < 1e-9 && (gained + 20.0).abs() < 1e-6, "{gained}");
        assert_eq!(panel.y.label, "counter − reference since the start, ms");
    }

    #[test]
    fn the_clamp_is_drawn_and_lies_within() {
        let panel = frequency(&[series("a", |_| 0.0)], "");
        assert!(panel.levels.iter().all(|level| level.at.abs() < panel.y.range.1.abs()));
        assert!(panel.curves[0].points.iter().all(|point| (point.1 - 500.0).abs() < 1e-9));
    }

    #[test]
    fn every_interruption_is_a_recovery_and_a_saw_is_not_a_hundred() {
        let twice = series("a", |at_s| {
            if (20.0..23.0).contains(&at_s) || (60.0..62.0).contains(&at_s) { 5.0 } else { 1e-5 }
        });
        let found = recoveries(&twice);
        assert_eq!(found.len(), 2);
        let right = found[0].iter().find(|point| point.1 < 1e-3).unwrap().0;
        assert!((right - 3.0).abs() < 0.01, "{right}");
    }
}
