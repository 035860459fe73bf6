//! The demo's picture: disease, cure, and what is left of it, in three panels.

use std::path::Path;

use anyhow::Result;
use driftless_picture::{Axis, Curve, Mark, Panel, Picture};

const SIZE: (u32, u32) = (960, 680);
/// From seconds to the unit of a panel.
const MILLI: f64 = 1e3;
const MICRO: f64 = 1e6;
/// What the lowest panel shows of the kept clock, µs.
const KEPT_US: f64 = 500.0;

/// Draws the first curve, the truth, whole and magnified, with the others beside it there; PNG or SVG by the name's end. Points are seconds since the
/// guest was up, and host − guest in s.
pub(crate) fn draw(to: &Path, started_s: f64, curves: &[Curve]) -> Result<()> {
    Ok(picture(started_s, curves).draw(to)?)
}

fn picture(started_s: f64, curves: &[Curve]) -> Picture {
    let Some(truth) = curves.first() else { return Picture::default() };
    let (first, last) =
        (truth.points.first().copied().unwrap_or_default(), truth.points.last().copied().unwrap_or_default());
    let time = |from: f64, to: f64| Axis::exactly("seconds since the guest is up", from, to);
    let before = Curve {
        points: truth
            .points
            .iter()
            .filter(|p| p.0 < started_s)
            .map(|p| (p.0, (p.1 - first.1) * MILLI))
            .collect(),
        ..truth.clone()
    };
    let marks = vec![Mark::new(started_s, "driftless run starts")];
    let free = Panel {
        title: "free running: how the offset changes".to_owned(),
        x: time(0.0, started_s),
        y: Axis::holding("ms since the beginning", before.points.iter().map(|p| p.1), &[-1.0, 1.0]),
        curves: vec![before],
        ..Panel::default()
    };
    let all = Panel {
        title: "all of it".to_owned(),
        x: time(0.0, last.0),
        y: Axis::holding("host − guest, s", truth.points.iter().map(|p| p.1), &[0.0]),
        curves: vec![truth.clone()],
        moments: marks.clone(),
        ..Panel::default()
    };
    let scaled = |curve: &Curve| Curve {
        points: curve.points.iter().map(|p| (p.0, p.1 * MICRO)).collect(),
        ..curve.clone()
    };
    let kept = Panel {
        title: "the same, magnified, from the daemon's start on".to_owned(),
        x: time(started_s - 1.0, last.0),
        y: Axis::exactly("host − guest, µs", -KEPT_US, KEPT_US),
        curves: curves.iter().map(scaled).collect(),
        moments: marks,
        has_legend: true,
        ..Panel::default()
    };
    Picture { title: String::new(), size: SIZE, rows: vec![(4, vec![free, all]), (5, vec![kept])] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_holds_three_panels_with_their_curves() {
        let to = std::env::temp_dir().join(format!("driftless-picture-{}.svg", std::process::id()));
        let points = (0..40_u8).map(|n| (f64::from(n), if n < 20 { -120.0 } else { 50e-6 })).collect();
        draw(&to, 15.0, &[Curve { name: "truth".to_owned(), points, ..Curve::default() }]).unwrap();
        let svg = std::fs::read_to_string(&to).unwrap();
        std::fs::remove_file(&to).unwrap();
        let found = driftless_picture::svg::curves(&svg);
        let [free, all, kept] = found.as_slice() else { panic!("{found:?}") };
        assert!(
            free.0.starts_with("free running") && free.2.iter().all(|point| point.1.abs() < 0.1),
            "{free:?}"
        );
        assert!((all.2[0].1 + 120.0).abs() < 1.0 && all.2.last().unwrap().1.abs() < 1.0, "{all:?}");
        assert!(kept.2.iter().filter(|point| (point.1 - 50.0).abs() < 5.0).count() >= 19, "{kept:?}");
    }
}
