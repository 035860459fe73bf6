//! The demo's story where no guest can be booted: the same core, the same counter and the same two minutes, in the simulated world.

use std::time::Duration;

use anyhow::Result;
use driftless_core::source::SourceClass;
use driftless_core::time::{Seconds, Span};
use driftless_linux::signal::Signals;
use driftless_sim::World;
use driftless_sim::oscillator::OscillatorConfig;
use driftless_sim::scenario::{GuestConfig, Scenario, ServerConfig};

use super::{FREE, KEPT, LOOK_EVERY, Screen, leave};
use crate::lab::{self, Look, Spent, Summary, folder, rest};

/// Simulated time runs so much faster than this machine's.
const FASTER: u32 = 5;
const SEED: u64 = 1;

pub(super) fn run(like: &lab::Scenario, signals: &Signals) -> Result<bool> {
    let mut world = World::new(scenario(like), SEED);
    let mut screen = Screen::new();
    screen.say(&format!(
        "a SIMULATED guest, {FASTER} times as fast as life; offset = truth - guest; its counter runs 676 ppm fast, its clock starts \
         two minutes ahead and runs free for {} s",
        FREE.as_secs()
    ));
    let free = watch(&mut world, signals, FREE, &mut screen)?;
    screen.say("the daemon's engine starts in the simulated guest");
    let kept = watch(&mut world, signals, KEPT, &mut screen)?;
    let steps = &world.guest.kernel.history.steps;
    let backward = steps.iter().filter(|by| **by < Span::ZERO).count();
    let counts = (signed(backward), signed(steps.len() - backward));
    let summary = Summary::of((like, "driftless, simulated"), (&kept, &[]), counts);
    leave(&folder()?.join("demo"), &free, &kept, &summary)?;
    println!("{summary}");
    Ok(summary.ok)
}

/// As the lab's guest: host NTP over the user network.
fn scenario(like: &lab::Scenario) -> Scenario {
    let ahead = Seconds::from(Span::from_secs(like.ahead_s));
    Scenario {
        name: "demo".into(),
        start_offset: -ahead.0,
        oscillator: OscillatorConfig { drift_ppm: like.drift_ppm, ..OscillatorConfig::default() },
        guest: GuestConfig { starts_at: FREE.as_secs_f64(), ..GuestConfig::default() },
        servers: vec![ServerConfig { class: SourceClass::Host, ..ServerConfig::default() }],
        ..Scenario::default()
    }
}

fn watch(world: &mut World, signals: &Signals, length: Duration, screen: &mut Screen) -> Result<Vec<Look>> {
    let start_s = world.at().seconds();
    let mut looks = Vec::new();
    while world.at().seconds() < start_s + length.as_secs_f64() {
        let look = look(world, start_s);
        screen.show(&look);
        looks.push(look);
        rest(signals, LOOK_EVERY / FASTER)?;
        world.run(LOOK_EVERY.as_secs_f64());
    }
    Ok(looks)
}

fn look(world: &World, start_s: f64) -> Look {
    let rate = world.guest.kernel.rate();
    let has_started = world.at().seconds() > world.scenario.guest.starts_at;
    let report = world.guest.engine.report(world.guest.now());
    let state = serde_json::to_value(report.state).unwrap_or_default();
    Look {
        at_s: world.at().seconds() - start_s,
        offset: Seconds(world.offset()),
        bound: Seconds::ZERO,
        estimated: report.offset.map(Seconds),
        estimated_ppm: report.frequency,
        tick: rate.tick.into(),
        frequency_ppm: rate.frequency.ppm(),
        state: if has_started { state.as_str().unwrap_or("-").to_owned() } else { "-".to_owned() },
        steps: signed(world.guest.kernel.history.steps.len()),
        spent: Spent::default(),
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
