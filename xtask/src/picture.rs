//! The demo's picture: true offset over time, disease and cure in two panels.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One curve: seconds since the guest was up, offset in s.
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Colours that the colour-blind tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// Draws `curves` twice: above whole, below within ±1 ms from `cured_s` on.
pub(crate) fn draw(to: &Path, title: &str, started_s: f64, curves: &[Curve<'_>]) -> Result<()> {
    let end_s = curves.iter().flat_map(|c| c.points.iter()).map(|p| p.0).fold(1.0, f64::max);
    let lowest = curves.iter().flat_map(|c| c.points.iter()).map(|p| p.1).fold(0.0, f64::min);
    let highest = curves.iter().flat_map(|c| c.points.iter()).map(|p| p.1).fold(0.0, f64::max);
    let margin = (highest - lowest).max(1e-3) * 0.08;
    let area = SVGBackend::new(to, (900, 620)).into_drawing_area();
    let bad = |error: String| anyhow!("drawing {}: {error}", to.display());
    area.fill(&WHITE).map_err(|e| bad(e.to_string()))?;
    let (upper, lower) = area.split_vertically(310);
    let whole = Panel {
        title,
        unit: "true offset, s",
        scale: 1.0,
        from: lowest - margin,
        to: highest + margin,
        start_s: 0.0,
        end_s,
        mark_s: started_s,
        legend: SeriesLabelPosition::MiddleRight,
    };
    whole.draw(&upper, curves).map_err(bad)?;
    let cured = Panel {
        title: "the same from the daemon's start on, magnified",
        unit: "true offset, µs",
        scale: 1e6,
        from: -500.0,
        to: 500.0,
        start_s: started_s - 1.0,
        legend: SeriesLabelPosition::LowerRight,
        ..whole
    };
    cured.draw(&lower, curves).map_err(bad)?;
    area.present().map_err(|e| bad(e.to_string()))
}

/// One panel's frame.
#[derive(Clone)]
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    /// From seconds to the unit.
    scale: f64,
    from: f64,
    to: f64,
    start_s: f64,
    end_s: f64,
    /// When the daemon started.
    mark_s: f64,
    legend: SeriesLabelPosition,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>, curves: &[Curve<'_>]) -> Result<(), String> {
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 17))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(self.start_s..self.end_s, self.from..self.to)
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .x_desc("seconds since the guest is up")
            .y_desc(self.unit)
            .light_line_style(WHITE)
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(|error| error.to_string())?;
        for (curve, colour) in curves.iter().zip(COLOURS) {
            let points = curve.points.iter().filter(|p| p.0 >= self.start_s).map(|p| (p.0, p.1 * self.scale));
            let visible = points.filter(|p| (self.from..=self.to).contains(&p.1));
            chart
                .draw_series(LineSeries::new(visible, colour.stroke_width(2)))
                .map_err(|error| error.to_string())?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        let mark = [(self.mark_s, self.from), (self.mark_s, self.to)];
        chart
            .draw_series(LineSeries::new(mark, RGBColor(120, 120, 120).stroke_width(1)))
            .map_err(|error| error.to_string())?
            .label("the daemon starts")
            .legend(|(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], RGBColor(120, 120, 120).stroke_width(1))
            });
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 13))
            .draw()
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_holds_both_panels_and_every_curve() {
        let to = std::env::temp_dir().join(format!("driftless-picture-{}.svg", std::process::id()));
        let points = (0..40_u8).map(|n| (f64::from(n), if n < 20 { -120.0 } else { 50e-6 })).collect();
        draw(&to, "a title", 15.0, &[Curve { name: "truth", points }]).unwrap();
        let svg = std::fs::read_to_string(&to).unwrap();
        std::fs::remove_file(&to).unwrap();
        assert_eq!(svg.matches("truth").count(), 2, "a legend in each panel");
        assert!(svg.contains("a title") && svg.contains("true offset, µs"));
        assert!(svg.matches("<polyline").count() >= 4);
    }
}
