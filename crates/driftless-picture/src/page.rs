//! Panels on a page, by way of plotters.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::register_font;

use crate::shape::{pieces, thinned};
use crate::svg::Frame;
use crate::{Curve, Panel, Picture, PictureError};

type Area<B> = DrawingArea<B, Shift>;
type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(110, 110, 110);
const PALE: RGBColor = RGBColor(228, 228, 228);
const TEXT_SIZE: u32 = 14;
const TITLE_SIZE: u32 = 17;
const TITLE_HEIGHT: u32 = 30;
const MARGIN: u32 = 12;
const TITLE_PLACE: (i32, i32) = (12, 10);

/// Draws a picture to a file.
pub(crate) fn draw(picture: &Picture, to: &Path) -> Result<(), PictureError> {
    // The bitmap needs a font of its own, since a fresh machine has none; the SVG is laid out with the same.
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| PictureError::Font)?;
    let failed = |text: String| PictureError::Drawing(to.to_owned(), text);
    match to.extension().and_then(|extension| extension.to_str()) {
        Some("png") => {
            page(picture, &BitMapBackend::new(to, picture.size).into_drawing_area()).map_err(failed)?;
            Ok(())
        }
        Some("svg") => {
            let mut text = String::new();
            let area = SVGBackend::with_string(&mut text, picture.size).into_drawing_area();
            let frames = page(picture, &area).map_err(failed)?;
            drop(area);
            let whole = crate::svg::with_values(&text, &frames);
            std::fs::write(to, whole).map_err(|error| PictureError::Io(to.to_owned(), error))
        }
        _ => Err(PictureError::Format(to.to_owned())),
    }
}

fn page<B: DrawingBackend>(picture: &Picture, area: &Area<B>) -> Result<Vec<Frame>, String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    area.fill(&WHITE).map_err(said)?;
    let mut below = area.clone();
    if !picture.title.is_empty() {
        let (title, rest) = area.split_vertically(TITLE_HEIGHT);
        let style = (FONT, TITLE_SIZE + 2).into_font().color(&BLACK);
        title.draw(&Text::new(picture.title.clone(), TITLE_PLACE, style)).map_err(said)?;
        below = rest;
    }
    let parts: u32 = picture.rows.iter().map(|(parts, _)| parts).sum();
    let height = below.dim_in_pixel().1;
    let mut frames = Vec::new();
    for (own, panels) in &picture.rows {
        let (row, rest) = below.split_vertically(height * own / parts.max(1));
        below = rest;
        for (panel, place) in panels.iter().zip(row.split_evenly((1, panels.len()))) {
            frames.push(draw_panel(panel, &place)?);
        }
    }
    area.present().map_err(said)?;
    Ok(frames)
}

fn draw_panel<B: DrawingBackend>(panel: &Panel, area: &Area<B>) -> Result<Frame, String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let ((left, right), (low, high)) = (panel.x.drawn_range(), panel.y.drawn_range());
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, TITLE_SIZE))
        .margin(MARGIN)
        .x_label_area_size(40)
        .y_label_area_size(74)
        .build_cartesian_2d(left..right, low..high)
        .map_err(said)?;
    let (x_text, y_text) = (|value: &f64| panel.x.read(*value), |value: &f64| panel.y.read(*value));
    let mut mesh = chart.configure_mesh();
    mesh.x_label_formatter(&x_text).y_label_formatter(&y_text);
    mesh.x_desc(&panel.x.label).y_desc(&panel.y.label).bold_line_style(PALE).light_line_style(WHITE);
    if panel.x.is_log {
        mesh.x_labels(decades(left, right));
    }
    if panel.y.is_log {
        mesh.y_labels(decades(low, high));
    }
    mesh.label_style((FONT, TEXT_SIZE)).axis_desc_style((FONT, TEXT_SIZE)).draw().map_err(said)?;
    draw_marks(panel, &mut chart)?;
    for (index, curve) in panel.curves.iter().enumerate() {
        draw_curve(panel, (index, curve), &mut chart)?;
    }
    if panel.has_legend {
        draw_legend(panel, &mut chart)?;
    }
    let (x, y) = chart.plotting_area().get_pixel_range();
    Ok(Frame::of(panel, (x.start, x.end), (y.start, y.end)))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
fn decades(from: f64, to: f64) -> usize {
    (to - from).clamp(1.0, 30.0) as usize + 1
}

fn draw_marks<B: DrawingBackend>(panel: &Panel, chart: &mut Chart<'_, B>) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let ((left, right), (low, high)) = (panel.x.drawn_range(), panel.y.drawn_range());
    let style = || (FONT, TEXT_SIZE).into_font().color(&GREY);
    for level in &panel.levels {
        let at = panel.y.drawn(level.at);
        if (low..=high).contains(&at) {
            let line = DashedLineSeries::new([(left, at), (right, at)], 6, 4, GREY.stroke_width(1));
            chart.draw_series(line).map_err(said)?;
            // Below the line where there is no room above.
            let lift = if at > high - (high - low) * 0.1 { -0.02 } else { 0.06 };
            let place = (left + (right - left) * 0.012, at + (high - low) * lift);
            chart.draw_series([Text::new(level.text.clone(), place, style())]).map_err(said)?;
        }
    }
    for moment in &panel.moments {
        let at = panel.x.drawn(moment.at);
        if (left..=right).contains(&at) {
            chart
                .draw_series(LineSeries::new([(at, low), (at, high)], GREY.stroke_width(1)))
                .map_err(said)?;
            let place = (at + (right - left) * 0.012, high - (high - low) * 0.03);
            chart.draw_series([Text::new(moment.text.clone(), place, style())]).map_err(said)?;
        }
    }
    Ok(())
}

fn draw_curve<B: DrawingBackend>(
    panel: &Panel,
    (index, curve): (usize, &Curve),
    chart: &mut Chart<'_, B>,
) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let (red, green, blue) = panel.colour(index);
    let colour = RGBColor(red, green, blue);
    let columns = f64::from(chart.plotting_area().dim_in_pixel().0);
    for piece in pieces(curve, &panel.x, &panel.y) {
        if curve.is_dots {
            let dot = |point: (f64, f64)| Circle::new(point, 2, colour.mix(0.55).filled());
            chart.draw_series(piece.into_iter().map(dot)).map_err(said)?;
        } else {
            let line = thinned(&piece, panel.x.drawn_range(), columns);
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).map_err(said)?;
        }
    }
    if panel.has_legend {
        chart
            .draw_series(LineSeries::new(Vec::new(), colour))
            .map_err(said)?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    Ok(())
}

/// In the corner with the fewest points.
fn draw_legend<'a, B: DrawingBackend + 'a>(panel: &Panel, chart: &mut Chart<'a, B>) -> Result<(), String> {
    let ((left, right), (low, high)) = (panel.x.drawn_range(), panel.y.drawn_range());
    let (far, above) = (left + (right - left) * 0.6, low + (high - low) * 0.5);
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let within = |is_right: bool, is_upper: bool| {
        let is_there = |p: &&(f64, f64)| {
            (panel.x.drawn(p.0) > far) == is_right && (panel.y.drawn(p.1) > above) == is_upper
        };
        points().filter(is_there).count()
    };
    let corners = [
        (within(true, true), SeriesLabelPosition::UpperRight),
        (within(true, false), SeriesLabelPosition::LowerRight),
        (within(false, true), SeriesLabelPosition::UpperLeft),
        (within(false, false), SeriesLabelPosition::LowerLeft),
    ];
    let mut emptiest = corners.into_iter().collect::<Vec<_>>();
    emptiest.sort_by_key(|(points, _)| *points);
    let Some((_, corner)) = emptiest.into_iter().next() else { return Ok(()) };
    let mut labels = chart.configure_series_labels();
    labels.position(corner).label_font((FONT, TEXT_SIZE));
    labels
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()
        .map_err(|error| error.to_string())
}
