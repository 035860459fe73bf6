//! `cargo xtask demo`: the product's main job, live, in a real guest.

mod world;

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use driftless_core::time::Seconds;
use driftless_linux::signal::Signals;
use driftless_picture::Curve;

use crate::lab::{Accelerator, Bench, Guest, Kind, Look, Scenario, Summary, find, folder, rest};
use crate::picture::draw;

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The guest's counter runs 676 ppm fast and its clock starts two minutes ahead. For 15 s nothing is done about it, then
`driftless run` starts. Where no guest can be booted, the same is shown in the simulated world.
Exit status 0 only if the clock was kept. Picture, CSV and summary are left in .lab/demo/.")]
pub(crate) struct Args {
    /// In the simulated world, without a guest: also what happens where none can be booted
    #[arg(long)]
    simulated: bool,
}

/// 676 ppm fast, two minutes ahead.
const SCENARIO: &str = "drift+676";
const FREE: Duration = Duration::from_secs(15);
const KEPT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two lines where no terminal is redrawn: about a second, in whole looks.
const LINE_EVERY: Duration = Duration::from_millis(950);

pub(crate) fn run(args: &Args) -> Result<bool> {
    let signals = Signals::install()?;
    let Some(scenario) = find(SCENARIO) else { bail!("there is no scenario {SCENARIO}") };
    if args.simulated {
        return world::run(&scenario, &signals);
    }
    match boot(&scenario, &signals) {
        Ok((_bench, guest)) => in_guest(guest, &scenario, &signals),
        Err(error) if signals.should_end() => Err(error),
        Err(error) => {
            eprintln!("xtask: no guest can be booted here: {error:#}");
            eprintln!(
                "xtask: so this is the same story in the SIMULATED world; no kernel and no network take part in it"
            );
            world::run(&scenario, &signals)
        }
    }
}

fn boot(scenario: &Scenario, signals: &Signals) -> Result<(Bench, Guest)> {
    let bench = Bench::new(scenario, Kind::Driftless, false)?;
    eprintln!("xtask: booting a real Linux guest whose counter runs 676 ppm fast, two minutes ahead");
    let guest = bench.boot(scenario, Accelerator::Tcg, signals)?;
    Ok((bench, guest))
}

fn in_guest(mut guest: Guest, scenario: &Scenario, signals: &Signals) -> Result<bool> {
    let mut screen = Screen::new();
    screen.say(&format!(
        "this machine is the host, its clock is only read; offset = host - guest; the guest runs free for {} s",
        FREE.as_secs()
    ));
    let free = watch(&mut guest, signals, FREE, &mut screen)?;
    guest.set_client(true);
    screen.say("`driftless run` starts in the guest");
    let kept = watch(&mut guest, signals, KEPT, &mut screen)?;
    let summary = Summary::of((scenario, "driftless"), (&kept, &[]), guest.steps());
    leave(&folder()?.join("demo"), &free, &kept, &summary)?;
    println!("{summary}");
    Ok(summary.ok)
}

fn watch(guest: &mut Guest, signals: &Signals, length: Duration, screen: &mut Screen) -> Result<Vec<Look>> {
    let start = Instant::now();
    let mut looks = Vec::new();
    while start.elapsed() < length {
        let look = Look::take(guest, start, 0, LOOK_EVERY)?;
        screen.show(&look);
        looks.push(look);
        rest(signals, LOOK_EVERY)?;
    }
    Ok(looks)
}

/// A few lines, redrawn in place on a terminal; a line a second elsewhere.
struct Screen {
    is_terminal: bool,
    shown: Option<Instant>,
}

impl Screen {
    fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), shown: None }
    }

    fn show(&mut self, look: &Look) {
        if !self.is_terminal && self.shown.is_some_and(|shown| shown.elapsed() < LINE_EVERY) {
            return;
        }
        let told = [
            ("", format!("{:.1} s", look.at_s)),
            ("true offset", look.offset.to_string()),
            ("estimated", look.estimated.map_or_else(|| "-".to_owned(), |offset| offset.to_string())),
            ("tick", if look.tick == 0 { 10_000 } else { look.tick }.to_string()),
            ("frequency", format!("{:+.3} ppm", look.frequency_ppm)),
            ("", if look.state == "-" { "free running".to_owned() } else { look.state.clone() }),
        ];
        if !self.is_terminal {
            println!("{}", told.map(|(name, value)| format!("{name} {value:>12}")).join("  ").trim());
        } else {
            if self.shown.is_some() {
                print!("\x1b[{}A", told.len());
            }
            for (name, value) in &told {
                println!("\r\x1b[K  {name:<12} {value:>14}");
            }
        }
        let _ = std::io::stdout().flush();
        self.shown = Some(Instant::now());
    }

    /// A line that stays.
    fn say(&mut self, text: &str) {
        self.shown = None;
        println!("{text}");
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
    let good = |l: &&Look| l.is_good();
    let after = kept.iter().filter(good).map(|l| (l.at_s + started_s, l));
    let before = free.iter().filter(good).map(|l| (l.at_s, l.offset.0));
    let truth = before.chain(after.clone().map(|(at, l)| (at, l.offset.0)));
    let believed = after.filter_map(|(at, l)| l.estimated.map(|Seconds(offset)| (at, offset)));
    let curves = [
        Curve { name: "true offset".to_owned(), points: truth.collect(), ..Curve::default() },
        Curve { name: "the daemon's estimate".to_owned(), points: believed.collect(), ..Curve::default() },
    ];
    for name in ["offset.svg", "offset.png"] {
        draw(&to.join(name), started_s, &curves)?;
    }
    println!("in {}: offset.png, offset.svg, samples.csv, summary.json", to.display());
    Ok(())
}
