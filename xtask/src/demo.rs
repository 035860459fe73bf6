//! `cargo xtask demo`: the product's main job, live, in a real guest.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use driftless_core::time::Seconds;
use driftless_linux::signal::Signals;

use crate::lab::{Accelerator, Bench, Guest, Kind, Look, MEDIAN_MAX, Summary, folder, rest};
use crate::picture::{Curve, draw};

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The guest's counter runs 676 ppm fast and its clock starts two minutes ahead. For 15 s nothing is done about it, then
`driftless run` starts. Exit status 0 only if the clock was kept. Picture, CSV and summary are left in .lab/demo/.")]
pub(crate) struct Args {}

const DRIFT_PPM: f64 = 676.0;
const AHEAD_S: i64 = 120;
const FREE: Duration = Duration::from_secs(15);
const KEPT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) fn run(_: &Args) -> Result<bool> {
    let signals = Signals::install()?;
    let bench = Bench::new("demo", Kind::Driftless)?;
    eprintln!("xtask: booting a real Linux guest whose counter runs {DRIFT_PPM} ppm fast, two minutes ahead");
    let mut guest = bench.boot(Accelerator::Tcg, (DRIFT_PPM, AHEAD_S), &signals)?;
    bench.forget_initramfs();
    let mut screen = Screen::new();
    println!("host: this machine, its clock is only read. guest: free running for {} s", FREE.as_secs());
    let free = watch(&mut guest, &signals, FREE, &mut screen)?;
    guest.set_client(true);
    screen.say("guest: `driftless run` starts");
    let kept = watch(&mut guest, &signals, KEPT, &mut screen)?;
    let summary = Summary::of(("demo", "driftless"), &kept, guest.steps(), guest.resident_kb(), MEDIAN_MAX);
    screen.end();
    leave(&folder()?.join("demo"), &free, &kept, &summary)?;
    println!("{summary}");
    Ok(summary.ok)
}

fn watch(guest: &mut Guest, signals: &Signals, length: Duration, screen: &mut Screen) -> Result<Vec<Look>> {
    let start = Instant::now();
    let mut looks = Vec::new();
    while start.elapsed() < length {
        let look = Look::take(guest, start)?;
        screen.show(&look);
        looks.push(look);
        rest(signals, LOOK_EVERY)?;
    }
    Ok(looks)
}

/// One line, redrawn on a terminal, a line a second elsewhere.
struct Screen {
    is_terminal: bool,
    shown: Option<Instant>,
}

impl Screen {
    fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), shown: None }
    }

    fn show(&mut self, look: &Look) {
        if !self.is_terminal && self.shown.is_some_and(|shown| shown.elapsed() < Duration::from_millis(990)) {
            return;
        }
        self.shown = Some(Instant::now());
        let estimated = look.estimated.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let line = format!(
            "{:5.1} s  true offset {:>12}  estimated {:>12}  tick {:>5}  frequency {:>+9.3} ppm  {}",
            look.at_s,
            look.offset.to_string(),
            estimated,
            if look.tick == 0 { 10_000 } else { look.tick },
            look.frequency_ppm,
            if look.state == "-" { "free running" } else { &look.state }
        );
        if self.is_terminal {
            print!("\r\x1b[K{line}");
            let _ = std::io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn say(&self, text: &str) {
        self.end();
        println!("{text}");
    }

    fn end(&self) {
        if self.is_terminal {
            println!();
        }
    }
}

/// Picture, CSV and summary.
fn leave(to: &Path, free: &[Look], kept: &[Look], summary: &Summary) -> Result<()> {
    fs::create_dir_all(to)?;
    let started_s = FREE.as_secs_f64();
    let mut csv = format!("{}\n", Look::CSV_HEADER);
    for look in
        free.iter().map(|l| Look { at_s: l.at_s - started_s, ..l.clone() }).chain(kept.iter().cloned())
    {
        csv.push_str(&look.csv());
        csv.push('\n');
    }
    fs::write(to.join("samples.csv"), csv)?;
    fs::write(to.join("summary.json"), serde_json::to_string(summary)?)?;
    let after = kept.iter().map(|l| (l.at_s + started_s, l));
    let truth =
        free.iter().map(|l| (l.at_s, l.offset.0)).chain(after.clone().map(|(at, l)| (at, l.offset.0)));
    let believed = after.filter_map(|(at, l)| l.estimated.map(|Seconds(offset)| (at, offset)));
    let curves = [
        Curve { name: "true offset", points: truth.collect() },
        Curve { name: "the daemon's estimate", points: believed.collect() },
    ];
    let picture = to.join("offset.svg");
    draw(&picture, "a guest 676 ppm fast, started 2 minutes ahead: host - guest", started_s, &curves)?;
    println!("picture {}, data {}", picture.display(), to.join("samples.csv").display());
    Ok(())
}
