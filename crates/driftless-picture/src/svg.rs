//! An SVG that tells its values: where each frame lies and what its axes say, so that the curves can be read back from their lines.

use serde_json::{Value, json};

use crate::Panel;

/// Where a panel came to lie.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame(Value);

const OPENING: &str = "<metadata id=\"frames\">";
const CLOSING: &str = "</metadata>";

impl Frame {
    pub(crate) fn of(panel: &Panel, x: (i32, i32), y: (i32, i32)) -> Self {
        let axis = |axis: &crate::Axis| json!({"label": axis.label, "range": axis.range, "log": axis.is_log});
        let curves = panel.curves.iter().enumerate();
        let curves =
            curves.map(|(index, curve)| json!({"name": curve.name, "colour": hex(panel.colour(index))}));
        Self(json!({
            "title": panel.title,
            "pixels": {"x": x, "y": y},
            "x": axis(&panel.x),
            "y": axis(&panel.y),
            "curves": Value::from_iter(curves),
        }))
    }
}

fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The same SVG with its frames told.
pub(crate) fn with_values(svg: &str, frames: &[Frame]) -> String {
    let told = Value::from_iter(frames.iter().map(|frame| frame.0.clone())).to_string();
    let told = told.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body = svg.trim_end().trim_end_matches("</svg>");
    format!("{body}{OPENING}{told}{CLOSING}\n</svg>\n")
}

/// A curve as it was read back: the panel's title, the curve's name, and its points.
pub type ReadCurve = (String, String, Vec<(f64, f64)>);

/// The lines of an SVG of ours, in the units of their axes, to a pixel.
#[must_use]
pub fn curves(svg: &str) -> Vec<ReadCurve> {
    let told = svg.split(OPENING).nth(1).and_then(|rest| rest.split(CLOSING).next()).unwrap_or_default();
    let told = told.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let frames: Vec<Value> = serde_json::from_str(&told).unwrap_or_default();
    let mut found = Vec::new();
    for frame in &frames {
        for curve in frame["curves"].as_array().into_iter().flatten() {
            let colour = curve["colour"].as_str().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            found.push((text(&frame["title"]), text(&curve["name"]), points(svg, colour, frame)));
        }
    }
    found
}

fn points(svg: &str, colour: &str, frame: &Value) -> Vec<(f64, f64)> {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let pair = |value: &Value| (number(&value[0]), number(&value[1]));
    let (x, y) = (pair(&frame["pixels"]["x"]), pair(&frame["pixels"]["y"]));
    let value = |axis: &Value, part: f64| {
        let (from, to) = pair(&axis["range"]);
        if axis["log"] == true { from * (to / from).powf(part) } else { from + part * (to - from) }
    };
    let is_in = |p: &(f64, f64)| (x.0..=x.1).contains(&p.0) && (y.0..=y.1).contains(&p.1);
    let lines = svg.split("<polyline ").skip(1).filter(|line| {
        // A curve's line is two pixels wide, and no legend's has more than two points.
        line.contains(&format!("stroke=\"{colour}\"")) && line.contains("stroke-width=\"2\"")
    });
    let places = lines.filter_map(|line| line.split("points=\"").nth(1)?.split('"').next());
    let pixels = places.map(|places| {
        let each = places.split_whitespace().filter_map(|place| place.split_once(','));
        each.filter_map(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?))).collect::<Vec<(f64, f64)>>()
    });
    let is_legend = |line: &Vec<(f64, f64)>| matches!(line.as_slice(), [one, two] if (two.0 - one.0 - 18.0).abs() < 0.5 && (two.1 - one.1).abs() < 0.5);
    pixels
        .filter(|line| !is_legend(line) && line.iter().all(is_in))
        .flatten()
        .map(|p| {
            (value(&frame["x"], (p.0 - x.0) / (x.1 - x.0)), value(&frame["y"], (y.1 - p.1) / (y.1 - y.0)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Curve, Mark, Picture};

    fn panel() -> Panel {
        let steady = (0..50).map(|n| (f64::from(n), 666.0 * f64::from(n) / 1e3)).collect();
        let other = (0..50).map(|n| (f64::from(n), -10.0 + f64::from(n % 7))).collect();
        Panel {
            title: "offset <of> two & more".to_owned(),
            x: Axis::holding("time, s", [0.0, 49.0].into_iter(), &[]),
            y: Axis::holding("offset, ms", [-10.0, 34.0].into_iter(), &[]),
            curves: vec![
                Curve { name: "steady".to_owned(), points: steady, ..Curve::default() },
                Curve { name: "saw".to_owned(), points: other, ..Curve::default() },
            ],
            levels: vec![Mark::new(20.0, "a level")],
            moments: vec![Mark::new(10.0, "a moment")],
            has_legend: true,
        }
    }

    fn drawn(picture: &Picture, name: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join(name);
        picture.draw(&to).unwrap();
        std::fs::read(&to).unwrap()
    }

    #[test]
    fn an_svg_holds_the_curves_that_were_drawn() {
        let picture = Picture { rows: vec![(1, vec![panel()]), (1, vec![panel()])], ..Picture::of(panel()) };
        let svg = String::from_utf8(drawn(&picture, "p.svg")).unwrap();
        let found = curves(&svg);
        assert_eq!(found.len(), 4, "two curves in each of two panels");
        for (at, (title, name, points)) in found.iter().enumerate() {
            let meant = &panel().curves[at % 2];
            assert_eq!((title.as_str(), name), ("offset <of> two & more", &meant.name));
            assert_eq!(points.len(), meant.points.len(), "{name}");
            for (seen, meant) in points.iter().zip(&meant.points) {
                assert!(
                    (seen.0 - meant.0).abs() < 0.15 && (seen.1 - meant.1).abs() < 0.5,
                    "{seen:?} {meant:?}"
                );
            }
        }
    }

    #[test]
    fn decades_are_read_back_too() {
        let points: Vec<(f64, f64)> = (0..10).map(|n| (2_f64.powi(n), 1e-6 / 2_f64.powi(n))).collect();
        let panel = Panel {
            x: Axis::decades("τ, s", points.iter().map(|p| p.0)),
            y: Axis::decades("deviation", points.iter().map(|p| p.1)),
            curves: vec![Curve { name: "falls".to_owned(), points: points.clone(), ..Curve::default() }],
            ..Panel::default()
        };
        let svg = String::from_utf8(drawn(&Picture::of(panel), "p.svg")).unwrap();
        let (_, _, seen) = &curves(&svg)[0];
        for (seen, meant) in seen.iter().zip(&points) {
            assert!(
                (seen.0 / meant.0 - 1.0).abs() < 0.02 && (seen.1 / meant.1 - 1.0).abs() < 0.05,
                "{seen:?} {meant:?}"
            );
        }
    }

    #[test]
    fn the_bitmap_is_a_png_and_another_name_is_refused() {
        assert!(drawn(&Picture::of(panel()), "p.png").starts_with(b"\x89PNG\r\n"));
        let error = Picture::of(panel()).draw(std::path::Path::new("/tmp/p.gif")).unwrap_err().to_string();
        assert_eq!(error, "/tmp/p.gif: neither .png nor .svg; name the file so");
    }
}
