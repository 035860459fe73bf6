//! Curves to pictures: PNG and SVG by their file's name, braille for a terminal. What is drawn is said here, how in the modules below.
//!
//! ```text
//! Picture ─ Panel ─┬─► shape (ranges, clipping, thinning) ─► page ─► PNG, SVG (with its values inside: svg)
//!                  └─► shape ───────────────────────────────► terminal
//! ```
#![forbid(unsafe_code)]

mod page;
pub mod shape;
pub mod svg;
pub mod terminal;

use std::path::{Path, PathBuf};

/// A page of panels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Picture {
    /// Above all of it; may be empty.
    pub title: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// From above; the panels of a row stand side by side. A row's height goes by its number.
    pub rows: Vec<(u32, Vec<Panel>)>,
}

/// One frame with its curves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is shown; the first lies below the others.
    pub curves: Vec<Curve>,
    /// Lines across.
    pub levels: Vec<Mark>,
    /// Lines from top to bottom.
    pub moments: Vec<Mark>,
    /// Whether the curves are named in it.
    pub has_legend: bool,
}

/// What stands along a side.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    /// What and in which unit.
    pub label: String,
    /// The first value, and the last.
    pub range: (f64, f64),
    /// Decades instead of values.
    pub is_log: bool,
}

/// One curve.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// In the legend.
    pub name: String,
    /// In the axes' units. A value that is not finite breaks the line.
    pub points: Vec<(f64, f64)>,
    /// Points without a line between them.
    pub is_dots: bool,
    /// Which of [`COLOURS`]; the curve's own place where none is said.
    pub colour: Option<usize>,
}

/// A value that is marked.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where.
    pub at: f64,
    /// What it is; may be empty.
    pub text: String,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The name says nothing of a format.
    #[error("{0}: neither .png nor .svg; name the file so")]
    Format(PathBuf),
    /// The font that comes with the program.
    #[error("the font that is built in cannot be read")]
    Font,
    /// While drawing.
    #[error("{0}: {1}")]
    Drawing(PathBuf, String),
    /// While writing.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
}

/// Colours that the colour-blind tell apart (Okabe and Ito), red, green and blue.
pub const COLOURS: [(u8, u8, u8); 7] =
    [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0)];

impl Picture {
    /// One panel on a page of its own.
    #[must_use]
    pub fn of(panel: Panel) -> Self {
        Self { title: String::new(), size: (960, 480), rows: vec![(1, vec![panel])] }
    }

    /// Draws it; PNG or SVG by the name's end.
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn draw(&self, to: &Path) -> Result<(), PictureError> {
        page::draw(self, to)
    }
}

impl Panel {
    /// The colour of the curve at `index`.
    #[must_use]
    pub fn colour(&self, index: usize) -> (u8, u8, u8) {
        let own = self.curves.get(index).and_then(|curve| curve.colour).unwrap_or(index);
        COLOURS[own % COLOURS.len()]
    }
}

impl Mark {
    /// A value and what it is.
    #[must_use]
    pub fn new(at: f64, text: &str) -> Self {
        Self { at, text: text.to_owned() }
    }
}
