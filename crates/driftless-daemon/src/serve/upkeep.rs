//! What a server does unasked, now and then: asks who keeps this host's clock, compares the clocks, looks for guests' networks.

use std::path::PathBuf;
use std::time::Duration;

use driftless_core::time::{Now, RawTime, Span};
use driftless_linux::clock::{now, raw};
use driftless_linux::interfaces::guest_networks;

use super::desk::Desk;
use super::{Options, keeper};

/// When that is due.
#[derive(Debug)]
pub(super) struct Upkeep {
    daemon: PathBuf,
    /// How often the keeper is asked, or just looked about where the clock is served as it is.
    interval: Span,
    due: RawTime,
    networks_due: RawTime,
    /// A daemon that did not answer is left alone until then: the server waits meanwhile.
    daemon_due: RawTime,
    /// Of guests, the last time that they were told to look.
    pub(super) last_told: Option<(Now, usize)>,
}

/// Between two questions to the keeper: the age of what is said is told by the dispersion.
const KEEPER_INTERVAL: Span = Span::from_secs(1);
/// Where there is no keeper to ask.
const AS_IS_INTERVAL: Span = Span::from_secs(10);
const NETWORKS_INTERVAL: Span = Span::from_secs(10);
/// How long a daemon may think, while requests queue with the kernel's stamps on them.
const DAEMON_PATIENCE: Duration = Duration::from_millis(50);
/// And how long one that did not answer is left alone.
const DAEMON_REST: Span = Span::from_secs(10);

impl Upkeep {
    pub(super) fn new(options: &Options) -> Self {
        let start = raw();
        Self {
            daemon: options.daemon.clone(),
            interval: if options.as_is { AS_IS_INTERVAL } else { KEEPER_INTERVAL },
            due: start,
            networks_due: start,
            daemon_due: start,
            last_told: None,
        }
    }

    /// Time left until it is due; none left when it is.
    pub(super) fn left(&self) -> Span {
        self.due - raw()
    }

    /// Does it: true where this host's clock was moved.
    pub(super) fn look(&mut self, desk: &Desk) -> bool {
        let (now, _) = now();
        self.due = now.raw + self.interval;
        if now.raw >= self.networks_due {
            self.networks_due = now.raw + NETWORKS_INTERVAL;
            // Where they cannot be had, nobody is let in by them.
            desk.set_networks(guest_networks().unwrap_or_default());
        }
        let was_moved = desk.was_moved(now);
        if was_moved {
            desk.interrupted();
        }
        if self.interval == KEEPER_INTERVAL {
            desk.told(self.ask(now.raw), self.interval);
        }
        was_moved
    }

    /// So many guests were told to look.
    pub(super) fn told(&mut self, guests: usize) {
        self.last_told = Some((now().0, guests));
    }

    fn ask(&mut self, now: RawTime) -> Option<driftless_core::server::Keeper> {
        if now >= self.daemon_due {
            if let Some(keeper) = keeper::daemon(&self.daemon, DAEMON_PATIENCE) {
                return Some(keeper);
            }
            self.daemon_due = now + DAEMON_REST;
        }
        keeper::kernel()
    }
}
