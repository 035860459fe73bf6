//! What follows outside of the clock from what the engine tells: log lines, commands, a frozen workload, systemd's file, a search for who else steers.

use std::path::Path;

use driftless_core::event::Event;
use driftless_core::report::State;
use driftless_core::time::{Now, RawTime, Span};

use crate::config::Config;
use crate::freezer::Freezer;
use crate::hooks::Hooks;
use crate::log::event;
use crate::timesync::{RUN, TimeSync};
use crate::writers::{Writer, suspects};

/// Everybody who wants to know.
#[derive(Debug)]
pub(crate) struct Consequences {
    hooks: Hooks,
    freezer: Freezer,
    timesync: TimeSync,
    /// Who was suspected when somebody else was last seen at work, and when that was.
    writers: Option<(RawTime, Vec<Writer>)>,
}

/// How long they are remembered.
const SUSPECTED_FOR: Span = Span::from_secs(600);

impl Consequences {
    /// As configured. Whoever only observes keeps nobody from working. With `is_plain` commands are waited for in place.
    pub(crate) fn new(config: &Config, is_plain: bool, now: Now) -> Self {
        let observe = config.observe.value;
        let cgroup = &config.freeze.value;
        let is_frozen = !observe && !cgroup.as_os_str().is_empty();
        Self {
            hooks: Hooks::new(
                &config.on_interruption.value,
                &config.on_synchronised.value,
                observe,
                is_plain,
            ),
            freezer: if is_frozen { Freezer::new(cgroup, now.raw) } else { Freezer::default() },
            timesync: if observe || is_plain { TimeSync::default() } else { TimeSync::new(Path::new(RUN)) },
            writers: None,
        }
    }

    /// Something happened. `name` tells what a source is called, `offset` how far the clock is off.
    pub(crate) fn heard(
        &mut self,
        now: Now,
        told: &Event,
        name: impl Fn(usize) -> String,
        offset: impl FnOnce() -> Option<f64>,
    ) {
        event(told, |id| name(usize::from(id.0)));
        match told {
            Event::StateChanged { state: State::Synchronised } => self.timesync.touch(),
            Event::OtherWriter { .. } | Event::OtherStepped { .. } => self.suspect(now.raw),
            _ => {}
        }
        self.freezer.heard(now.raw, told);
        self.hooks.heard(now.raw, told, offset);
    }

    /// Does what is due.
    pub(crate) fn turn(&mut self, now: Now) {
        self.hooks.turn(now.raw);
        self.freezer.turn(now.raw);
    }

    /// Names of those who may steer this clock, too; nobody where it is long ago that somebody did.
    pub(crate) fn other_writers(&self, now: RawTime) -> Vec<String> {
        match &self.writers {
            Some((at, found)) if now - *at < SUSPECTED_FOR => match found.as_slice() {
                [] => vec!["unknown".to_owned()],
                found => found.iter().map(|writer| writer.name.to_owned()).collect(),
            },
            _ => Vec::new(),
        }
    }

    fn suspect(&mut self, now: RawTime) {
        let found = suspects(Path::new("/"), std::process::id());
        let is_news = self.writers.as_ref().is_none_or(|(_, known)| *known != found);
        if is_news && !found.is_empty() {
            let names: Vec<String> = found.iter().map(Writer::to_string).collect();
            log::warn!("who may have done it: {}; stop whoever is not wanted", names.join(", "));
        }
        self.writers = Some((now, found));
    }

    /// When to come back at the latest.
    pub(crate) fn deadline(&self) -> Option<RawTime> {
        self.hooks.deadline().into_iter().chain(self.freezer.deadline()).min()
    }
}
