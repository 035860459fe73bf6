//! A scenario as it happens: looks at the truth, and what befalls the guest between them.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use driftless_linux::signal::Signals;

use super::bench::Bench;
use super::guest::{Guest, READING_MAX};
use super::process::rest;
use super::scenario::{BETWEEN_EVENTS, Event, Scenario};
use super::summary::Look;

/// What was seen.
#[derive(Debug)]
pub(crate) struct Watch {
    start: Instant,
    pub(crate) looks: Vec<Look>,
    /// When the guest went on after an interruption, in seconds since the client's start.
    pub(crate) resumed: Vec<f64>,
}

/// Between two looks at the truth.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The same while a start or a recovery is timed. The guest's only processor is spun on for a look, so none may take long.
const LOOK_EVERY_RECOVERING: Duration = Duration::from_millis(25);
const READING_RECOVERING: Duration = Duration::from_millis(5);
const RECOVERING: Duration = Duration::from_secs(5);
/// Between two signs of life.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Watch {
    /// Starts the client and watches until the scenario is over.
    pub(crate) fn over(
        scenario: &Scenario,
        bench: &mut Bench,
        guest: &mut Guest,
        signals: &Signals,
    ) -> Result<Self> {
        let mut csv = File::create(bench.folder.join("samples.csv"))?;
        writeln!(csv, "{}", Look::CSV_HEADER)?;
        guest.let_rest();
        guest.set_client(true);
        let mut watch = Self { start: Instant::now(), looks: Vec::new(), resumed: Vec::new() };
        let mut events = scenario.events.iter().peekable();
        let mut told = watch.start;
        let mut acted: Option<Instant> = None;
        while watch.start.elapsed() < scenario.watch {
            let has_rested = acted.is_none_or(|acted| acted.elapsed() > BETWEEN_EVENTS);
            if let Some((_, event)) =
                events.next_if(|(at_s, _)| has_rested && watch.start.elapsed().as_secs() >= *at_s)
            {
                watch.let_happen(*event, bench, guest, signals)?;
                acted = Some(Instant::now());
            }
            let is_timed = acted.unwrap_or(watch.start).elapsed() < RECOVERING;
            let patience = if is_timed { READING_RECOVERING } else { READING_MAX };
            let look = Look::take(guest, watch.start, scenario.host_ahead_s, patience)?;
            writeln!(csv, "{}", look.csv())?;
            watch.looks.push(look);
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                eprintln!("xtask: {:.0} s of {}", watch.at_s(), scenario.watch.as_secs());
            }
            rest(signals, if is_timed { LOOK_EVERY_RECOVERING } else { LOOK_EVERY })?;
        }
        Ok(watch)
    }

    fn let_happen(
        &mut self,
        event: Event,
        bench: &mut Bench,
        guest: &mut Guest,
        signals: &Signals,
    ) -> Result<()> {
        eprintln!("xtask: {:.0} s: {event:?}", self.at_s());
        let resumed = match event {
            Event::ServerEnds => return bench.serve_or_not(true),
            Event::ServerStarts => return bench.serve_or_not(false),
            Event::Pause(length_ms) => guest.pause(Duration::from_millis(length_ms), signals)?,
            Event::Restore(gap_s) => guest.restore(Duration::from_secs(gap_s), signals)?,
        };
        self.resumed.push(resumed.duration_since(self.start).as_secs_f64());
        Ok(())
    }

    fn at_s(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
