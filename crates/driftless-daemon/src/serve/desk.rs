//! The desk that all loops share: where it is decided who gets a reply, and what is said of this host's clock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use driftless_core::entropy::Entropy as _;
use driftless_core::server::{AccessList, Counters, HostClock, Keeper, Prefix, Responder, ServerState};
use driftless_core::time::{Now, Span, WallTime};
use driftless_linux::clock::wall;
use driftless_linux::entropy::KernelEntropy;

use super::Options;

/// The desk.
#[derive(Debug)]
pub(super) struct Desk(Mutex<Inner>);

/// What is behind its lock.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) responder: Responder,
    /// What this host's keeper says; None where the clock is served as it is.
    host: Option<HostClock>,
    said: ServerState,
    /// When the clock that is served as it is was last said to be kept.
    said_at: WallTime,
    access: (Vec<Prefix>, Vec<Prefix>),
    /// The networks of this host's guests.
    networks: Vec<Prefix>,
    pub(super) interruptions: u64,
}

/// A clock as it is was "last set" at most so long ago: it is itself what it follows.
const AS_IS_AGE: Span = Span::from_secs(1);

impl Desk {
    pub(super) fn new(options: &Options) -> Self {
        let now = wall();
        let said = if options.as_is { ServerState::as_is(now) } else { ServerState::unsynchronised() };
        let seed = [(); 3].map(|()| KernelEntropy.next_u64());
        let access = ([AccessList::NEAR.as_slice(), &options.allow].concat(), options.deny.clone());
        let list = AccessList::new(&access.0, &access.1);
        Self(Mutex::new(Inner {
            responder: Responder::new(list, options.rate, &said, seed),
            host: (!options.as_is).then(HostClock::default),
            said,
            said_at: now,
            access,
            networks: Vec::new(),
            interruptions: 0,
        }))
    }

    /// Its lock. A thread that ended by a fault has left nothing half done that matters.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This host's clock was set, or it slept.
    pub(super) fn interrupted(&self) {
        let mut inner = self.lock();
        inner.interruptions += 1;
        if let Some(host) = &mut inner.host {
            host.interrupted();
            inner.say(ServerState::unsynchronised());
        }
    }

    /// Whether the wall clock was moved since the last time, as far as a comparison with the counter shows.
    pub(super) fn was_moved(&self, now: Now) -> bool {
        self.lock().host.as_mut().is_some_and(|host| host.was_moved(now))
    }

    /// What the keeper of this host's clock says; it will be asked again in `interval`.
    pub(super) fn told(&self, keeper: Option<Keeper>, interval: Span) {
        let mut inner = self.lock();
        let Some(host) = &mut inner.host else { return };
        let state = host.told(keeper, interval);
        if (inner.said.stratum > 15) != (state.stratum > 15) {
            let what = if state.stratum > 15 { "not synchronised" } else { "synchronised" };
            log::info!("this host's clock is {what}, and so are its clients told");
        }
        inner.say(state);
    }

    /// These are the networks of this host's guests, who may ask as long as they are private.
    pub(super) fn set_networks(&self, mut networks: Vec<Prefix>) {
        networks.retain(Prefix::is_private);
        let mut inner = self.lock();
        if networks != inner.networks {
            let (allowed, denied) = &inner.access;
            let list = AccessList::new(&[allowed.as_slice(), &networks].concat(), denied);
            inner.responder.set_access(list);
            let names: Vec<String> = networks.iter().map(Prefix::to_string).collect();
            log::info!(
                "guests' networks, whose clients may ask: {}",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
            inner.networks = networks;
        }
    }

    /// "Look now", as it is sent unasked.
    pub(super) fn look_now(&self) -> [u8; 48] {
        self.lock().said.look_now(wall())
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().responder.counters()
    }
}

impl Inner {
    /// To be called before a batch is answered at `now`.
    pub(super) fn freshen(&mut self, now: WallTime) {
        if self.host.is_none() && (now - self.said_at).abs() > AS_IS_AGE {
            self.said_at = now;
            self.say(ServerState::as_is(now));
        }
    }

    /// What is said of the clock now.
    pub(super) const fn said(&self) -> &ServerState {
        &self.said
    }

    /// Whether the clock is served as it is.
    pub(super) const fn is_as_is(&self) -> bool {
        self.host.is_none()
    }

    /// Whose clients may ask besides those that were named.
    pub(super) fn networks(&self) -> &[Prefix] {
        &self.networks
    }

    fn say(&mut self, state: ServerState) {
        self.responder.set_state(&state);
        self.said = state;
    }
}
