//! `driftless plot`: pictures of what was measured, or braille where there is no display.

mod panels;
mod series;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use driftless_picture::terminal;

use crate::{Outcome, say};
use series::Series;

/// Arguments of `driftless plot`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless plot day.csv                                       on the terminal
  driftless plot free.csv chronyd.csv driftless.csv --out all.svg
  driftless plot day.csv --kind frequency --out rate.png       the kernel's frequency and tick, with its limit of +-500 ppm
  driftless plot day.csv --kind adev                           how much the counter wanders, at which times
  driftless plot day.csv --kind delay --out wedge.svg          what delays say of offsets
  driftless plot .lab/runs/pause-*/samples.csv --kind recovery

Files of `driftless measure --out`, `driftless simulate --out` and the lab's samples.csv may be mixed; each run is a line.")]
pub(crate) struct Args {
    /// Files with measurements
    #[arg(required = true, value_name = "F.csv")]
    files: Vec<PathBuf>,
    /// What to draw
    #[arg(long, default_value = "offset")]
    kind: Kind,
    /// A picture by its name's end, .png or .svg; without, it is drawn on the terminal
    #[arg(long, value_name = "F.png|F.svg")]
    out: Option<PathBuf>,
    /// With offset: each run from zero
    #[arg(long)]
    from_zero: bool,
    /// Instead of the usual title
    #[arg(long, value_name = "TEXT", default_value = "")]
    title: String,
    /// What the lines are called, in the files' order, instead of their labels
    #[arg(long, value_name = "NAME", value_delimiter = ';')]
    names: Vec<String>,
}

/// A kind of picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// How far the wall clock is behind, over time
    Offset,
    /// What the uncorrected counter gains on the reference, over time
    Drift,
    /// The kernel's frequency and tick over time
    Frequency,
    /// Allan deviation
    Adev,
    /// Offset over delay
    Delay,
    /// What follows each interruption
    Recovery,
}

/// Where the terminal's size is not known.
const TERMINAL: (usize, usize) = (100, 30);

pub(crate) fn run(args: &Args) -> Outcome {
    let mut all: Vec<Series> = Vec::new();
    for file in &args.files {
        match series::read(file) {
            Ok(found) => all.extend(found),
            Err(error) => return Outcome::Wrong.told(&error),
        }
    }
    for (series, name) in all.iter_mut().zip(&args.names) {
        series.name.clone_from(name);
    }
    let picture = panels::picture(args.kind, &all, args.from_zero, &args.title);
    let panels = || picture.rows.iter().flat_map(|(_, panels)| panels);
    if panels().all(|panel| panel.curves.iter().all(|curve| curve.points.is_empty())) {
        return Outcome::NotYet.told(
            &"these files hold nothing of that kind; `driftless plot --help` shows what each kind needs",
        );
    }
    if let Some(out) = &args.out {
        return match picture.draw(out) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Wrong.told(&error),
        };
    }
    let has_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    panels().for_each(|panel| say(&terminal::drawn(panel, size(), has_colours)));
    Outcome::Done
}

/// Characters across and down, as shells tell them.
fn size() -> (usize, usize) {
    let told = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok().filter(|size| *size > 20);
    (told("COLUMNS").unwrap_or(TERMINAL.0), told("LINES").map_or(TERMINAL.1, |lines| lines - 2))
}
