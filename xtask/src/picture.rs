//! The demo's picture: disease, cure, and what is left of it, in three panels.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

/// One curve: seconds since the guest was up, host − guest in s.
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Colours that the colour-blind tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];
const GREY: RGBColor = RGBColor(110, 110, 110);
const SIZE: (u32, u32) = (960, 680);
const UPPER_HEIGHT: u32 = 300;
const FONT: &str = "sans-serif";
/// From seconds to the unit of a panel.
const MILLI: f64 = 1e3;
const MICRO: f64 = 1e6;
/// What the lowest panel shows of the kept clock, in s.
const KEPT: f64 = 500e-6;

/// Draws the first curve, the truth, whole and magnified, with the others beside it there; PNG or SVG by the name's end.
pub(crate) fn draw(to: &Path, started_s: f64, curves: &[Curve<'_>]) -> Result<()> {
    // The bitmap needs a font of our own, since a fresh machine has none; the SVG is laid out with the same.
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .ok()
        .context("the font cannot be read")?;
    let whole = match to.extension().and_then(|extension| extension.to_str()) {
        Some("png") => page(&BitMapBackend::new(to, SIZE).into_drawing_area(), started_s, curves),
        Some("svg") => page(&SVGBackend::new(to, SIZE).into_drawing_area(), started_s, curves),
        _ => bail!("{}: neither .png nor .svg", to.display()),
    };
    whole.map_err(|error| anyhow!("drawing {}: {error}", to.display()))
}

type Area<B> = DrawingArea<B, Shift>;

fn page<B: DrawingBackend>(area: &Area<B>, started_s: f64, curves: &[Curve<'_>]) -> Result<(), String> {
    let Some(truth) = curves.first() else { return Ok(()) };
    let (Some(first), Some(last)) = (truth.points.first(), truth.points.last()) else { return Ok(()) };
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    area.fill(&WHITE).map_err(said)?;
    let (upper, lower) = area.split_vertically(UPPER_HEIGHT);
    let (left, right) = upper.split_horizontally(SIZE.0 / 2);
    let before = truth.points.iter().filter(|point| point.0 < started_s);
    let change = Curve { name: "", points: before.map(|point| (point.0, point.1 - first.1)).collect() };
    let free = Panel {
        title: "free running: how the offset changes",
        unit: "ms since the beginning",
        scale: MILLI,
        from: change.lowest() * 1.15 - 1e-3,
        to: change.highest() * 1.15 + 1e-3,
        times: (0.0, started_s),
        mark_s: None,
        has_legend: false,
    };
    free.draw(&left, std::slice::from_ref(&change))?;
    let margin = (truth.highest() - truth.lowest()) * 0.1;
    let all = Panel {
        title: "all of it",
        unit: "host − guest, s",
        scale: 1.0,
        from: truth.lowest() - margin,
        to: truth.highest() + margin,
        times: (0.0, last.0),
        mark_s: Some(started_s),
        ..free
    };
    all.draw(&right, std::slice::from_ref(truth))?;
    let kept = Panel {
        title: "the same, magnified, from the daemon's start on",
        unit: "host − guest, µs",
        scale: MICRO,
        from: -KEPT,
        to: KEPT,
        times: (started_s - 1.0, last.0),
        has_legend: true,
        ..all
    };
    kept.draw(&lower, curves)?;
    area.present().map_err(said)
}

impl Curve<'_> {
    fn lowest(&self) -> f64 {
        self.points.iter().map(|point| point.1).fold(0.0, f64::min)
    }

    fn highest(&self) -> f64 {
        self.points.iter().map(|point| point.1).fold(0.0, f64::max)
    }
}

/// One panel's frame. Offsets in s.
#[derive(Clone)]
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    /// From seconds to the unit.
    scale: f64,
    from: f64,
    to: f64,
    times: (f64, f64),
    /// When the daemon started.
    mark_s: Option<f64>,
    has_legend: bool,
}

impl Panel<'_> {
    fn draw<B: DrawingBackend>(&self, area: &Area<B>, curves: &[Curve<'_>]) -> Result<(), String> {
        let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
        let (low, high) = (self.from * self.scale, self.to * self.scale);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 17))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(self.times.0..self.times.1, low..high)
            .map_err(said)?;
        let mut mesh = chart.configure_mesh();
        let plain = |value: &f64| ((value * 10.0).round() / 10.0 + 0.0).to_string();
        mesh.x_label_formatter(&plain).y_label_formatter(&plain);
        mesh.x_desc("seconds since the guest is up").y_desc(self.unit);
        mesh.light_line_style(WHITE)
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 14))
            .draw()
            .map_err(said)?;
        if let Some(mark_s) = self.mark_s {
            let line = LineSeries::new([(mark_s, low), (mark_s, high)], GREY.stroke_width(1));
            chart.draw_series(line).map_err(said)?;
            let place = (mark_s + (self.times.1 - self.times.0) * 0.012, high - (high - low) * 0.03);
            let text = Text::new("driftless run starts", place, (FONT, 14).into_font().color(&GREY));
            chart.draw_series([text]).map_err(said)?;
        }
        for (curve, colour) in curves.iter().zip(COLOURS) {
            let points = curve.points.iter().filter(|p| p.0 >= self.times.0).map(|p| (p.0, p.1 * self.scale));
            let visible = points.filter(|p| (low..=high).contains(&p.1));
            chart
                .draw_series(LineSeries::new(visible, colour.stroke_width(2)))
                .map_err(said)?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        if self.has_legend {
            let mut labels = chart.configure_series_labels();
            labels.position(SeriesLabelPosition::UpperRight).label_font((FONT, 14));
            labels
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(200, 200, 200))
                .draw()
                .map_err(said)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(end: &str) -> Vec<u8> {
        let to = std::env::temp_dir().join(format!("driftless-picture-{}.{end}", std::process::id()));
        let points = (0..40_u8).map(|n| (f64::from(n), if n < 20 { -120.0 } else { 50e-6 })).collect();
        draw(&to, 15.0, &[Curve { name: "truth", points }]).unwrap();
        let octets = std::fs::read(&to).unwrap();
        std::fs::remove_file(&to).unwrap();
        octets
    }

    #[test]
    fn the_picture_holds_three_panels_with_their_curves() {
        let svg = String::from_utf8(drawn("svg")).unwrap();
        assert_eq!(svg.matches("truth").count(), 1, "one legend");
        assert!(svg.contains("free running") && svg.contains("host − guest, µs"));
        assert!(svg.matches("<polyline").count() >= 3);
    }

    #[test]
    fn the_bitmap_is_a_png() {
        assert!(drawn("png").starts_with(b"\x89PNG\r\n"));
    }
}
