//! A panel in braille: two by four dots a character, for terminals without pictures.

use std::fmt::Write as _;

use crate::Panel;
use crate::shape::pieces;

/// Dots of a character, across and down.
const DOTS: (usize, usize) = (2, 4);
/// The first of Unicode's braille patterns; each dot adds its bit.
const BLANK: u32 = 0x2800;
/// Bits of the dots: columns, each from above.
const BITS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// Where an axis is written.
const LABEL_WIDTH: usize = 10;
/// The terminal's own colours, in the order of the curves: blue, red, green, magenta, cyan, yellow.
const COLOURS: [u8; 6] = [34, 31, 32, 35, 36, 33];

/// A canvas of characters.
struct Canvas {
    width: usize,
    height: usize,
    /// Bits, and the curve that was drawn last.
    cells: Vec<(u32, Option<usize>)>,
    letters: Vec<Option<char>>,
}

/// The panel in so many characters across and lines down. Without colours, each curve ends in the letter that its legend has.
#[must_use]
pub fn drawn(panel: &Panel, (width, height): (usize, usize), has_colours: bool) -> String {
    let (columns, lines) = (width.saturating_sub(LABEL_WIDTH + 1).max(10), height.saturating_sub(4).max(4));
    let mut canvas = Canvas::new(columns, lines);
    let ((left, right), (low, high)) = (panel.x.drawn_range(), panel.y.drawn_range());
    let place = |point: (f64, f64)| {
        let dots = |part: f64, count: usize| part * float(count - 1);
        let x = dots((point.0 - left) / (right - left), columns * DOTS.0);
        (x, dots((high - point.1) / (high - low), lines * DOTS.1))
    };
    for level in &panel.levels {
        let y = place((left, panel.y.drawn(level.at))).1;
        (0..columns * DOTS.0).step_by(4).for_each(|x| canvas.set((float(x), y), None));
    }
    for (index, curve) in panel.curves.iter().enumerate() {
        for piece in pieces(curve, &panel.x, &panel.y) {
            let dots: Vec<(f64, f64)> = piece.into_iter().map(place).collect();
            dots.iter().for_each(|dot| canvas.set(*dot, Some(index)));
            if !curve.is_dots {
                dots.windows(2).for_each(|pair| canvas.line(pair[0], pair[1], index));
            }
            if let (Some(last), true) = (dots.last(), panel.curves.len() > 1) {
                canvas.write(*last, letter(index), index);
            }
        }
    }
    framed(panel, &canvas, has_colours)
}

fn framed(panel: &Panel, canvas: &Canvas, has_colours: bool) -> String {
    let mut text = format!("{} ({})\n", panel.title, panel.y.label);
    let (low, high) = panel.y.drawn_range();
    for line in 0..canvas.height {
        let part = float(line) / float(canvas.height - 1);
        let is_labelled = line == 0 || line == canvas.height / 2 || line == canvas.height - 1;
        let mut label = if is_labelled { panel.y.read(high - part * (high - low)) } else { String::new() };
        if is_labelled && label.is_empty() {
            label = format!("{:.1e}", 10_f64.powf(high - part * (high - low)));
        }
        let _ = writeln!(text, "{label:>LABEL_WIDTH$}│{}", canvas.row(line, has_colours));
    }
    let ends = [panel.x.range.0, panel.x.range.1].map(|end| panel.x.read(panel.x.drawn(end)));
    let between = canvas.width.saturating_sub(ends[0].chars().count() + ends[1].chars().count());
    let _ = writeln!(text, "{:>LABEL_WIDTH$}└{}", "", "─".repeat(canvas.width));
    let _ = writeln!(
        text,
        "{:>LABEL_WIDTH$} {}{}{}",
        "",
        ends[0],
        format_args!("{:^between$}", panel.x.label),
        ends[1]
    );
    if panel.curves.len() > 1 {
        let names = panel.curves.iter().enumerate();
        let named = names
            .map(|(index, curve)| coloured(&format!("{} {}", letter(index), curve.name), index, has_colours));
        let _ = writeln!(text, "{:>LABEL_WIDTH$} {}", "", named.collect::<Vec<_>>().join("   "));
    }
    text
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, cells: vec![(0, None); width * height], letters: vec![None; width * height] }
    }

    fn set(&mut self, (x, y): (f64, f64), curve: Option<usize>) {
        let (Some(x), Some(y)) = (whole(x), whole(y)) else { return };
        let index = y / DOTS.1 * self.width + x / DOTS.0;
        if x / DOTS.0 < self.width {
            if let Some(cell) = self.cells.get_mut(index) {
                cell.0 |= BITS[x % DOTS.0][y % DOTS.1];
                cell.1 = curve.or(cell.1);
            }
        }
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), curve: usize) {
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0);
        let mut step = 0.0;
        while step < steps {
            let part = step / steps;
            self.set((from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1)), Some(curve));
            step += 1.0;
        }
    }

    fn write(&mut self, (x, y): (f64, f64), letter: char, curve: usize) {
        let (Some(x), Some(y)) = (whole(x), whole(y)) else { return };
        let index = y / DOTS.1 * self.width + x / DOTS.0;
        if let (Some(place), Some(cell)) = (self.letters.get_mut(index), self.cells.get_mut(index)) {
            *place = Some(letter);
            cell.1 = Some(curve);
        }
    }

    fn row(&self, line: usize, has_colours: bool) -> String {
        let from = line * self.width;
        let cells = self.cells.iter().zip(&self.letters).skip(from).take(self.width);
        let texts = cells.map(|((bits, curve), letter)| {
            let character = letter.or_else(|| char::from_u32(BLANK + bits)).unwrap_or(' ');
            curve.map_or_else(
                || character.to_string(),
                |curve| coloured(&character.to_string(), curve, has_colours),
            )
        });
        texts.collect()
    }
}

fn coloured(text: &str, curve: usize, has_colours: bool) -> String {
    let colour = COLOURS[curve % COLOURS.len()];
    if has_colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

fn letter(curve: usize) -> char {
    const LETTERS: [char; 8] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    LETTERS[curve % LETTERS.len()]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place on a canvas, checked first"
)]
fn whole(value: f64) -> Option<usize> {
    (0.0..1e6).contains(&value.round()).then(|| value.round() as usize)
}

#[expect(clippy::cast_precision_loss, reason = "a place on a canvas")]
const fn float(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Curve};

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let panel = Panel {
            title: "offset".to_owned(),
            x: Axis::exactly("s", 0.0, 10.0),
            y: Axis::exactly("ms", 0.0, 10.0),
            curves: vec![Curve { points: vec![(0.0, 0.0), (10.0, 10.0)], ..Curve::default() }],
            ..Panel::default()
        };
        let text = drawn(&panel, (31, 14), false);
        let lines: Vec<&str> = text.lines().collect();
        let canvas = |line: usize| lines[line].split('│').nth(1).unwrap().chars().collect::<Vec<_>>();
        assert_eq!((lines[0], lines.len()), ("offset (ms)", 13));
        assert_ne!(canvas(1)[19], '\u{2800}', "{text}");
        assert_eq!(canvas(1)[0], '\u{2800}', "{text}");
        assert_ne!(canvas(10)[0], '\u{2800}', "{text}");
        assert!(lines[1].trim_start().starts_with("10│") && lines[12].contains('s'), "{text}");
    }
}
