//! What follows outside of the clock from what the engine tells: log lines, commands, a frozen workload.

use driftless_core::event::Event;
use driftless_core::time::{Now, RawTime};

use crate::config::Config;
use crate::freezer::Freezer;
use crate::hooks::Hooks;
use crate::log::event;

/// Everybody who wants to know.
#[derive(Debug)]
pub(crate) struct Consequences {
    hooks: Hooks,
    freezer: Freezer,
}

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
        self.freezer.heard(now.raw, told);
        self.hooks.heard(now.raw, told, offset);
    }

    /// Does what is due.
    pub(crate) fn turn(&mut self, now: Now) {
        self.hooks.turn(now.raw);
        self.freezer.turn(now.raw);
    }

    /// When to come back at the latest.
    pub(crate) fn deadline(&self) -> Option<RawTime> {
        self.hooks.deadline().into_iter().chain(self.freezer.deadline()).min()
    }
}
