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

#[cfg(test)]
mod tests {
    use driftless_core::clock::Leap;
    use driftless_core::server::Client;
    use driftless_core::time::Seconds;
    use driftless_core::wire::Header;

    use super::*;
    use crate::serve::tests::options;

    fn asked(desk: &Desk, from: &str) -> Option<Header> {
        let mut inner = desk.lock();
        let from = Client::Net(from.parse().unwrap());
        let reply = inner.responder.answer(&Header::request(7), from, wall()).ok()?;
        Header::parse(&inner.responder.leaving(&reply, wall()).0).ok()
    }

    fn keeper(error: f64) -> Keeper {
        Keeper {
            is_synchronised: true,
            leap: Leap::None,
            stratum: 2,
            reference_id: *b"KERN",
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds(error),
            updated: None,
        }
    }

    #[test]
    fn a_networks_server_is_silent_about_the_time_at_once_when_its_clock_was_set() {
        let desk = Desk::new(&Options { as_is: false, ..options() });
        let said =
            |desk: &Desk| asked(desk, "127.0.0.1:1").map(|header| (header.stratum, header.leap)).unwrap();
        assert_eq!(said(&desk), (0, Leap::Unknown), "nobody has said anything yet");
        desk.told(Some(keeper(0.01)), Span::from_secs(1));
        assert_eq!(said(&desk), (2, Leap::None));
        desk.interrupted();
        assert_eq!(said(&desk), (0, Leap::Unknown));
        assert_eq!(Header::parse(&desk.look_now()).unwrap().leap, Leap::Unknown);
        desk.told(Some(keeper(0.011)), Span::from_secs(1));
        assert_eq!(said(&desk), (0, Leap::Unknown), "that was measured before");
        desk.told(Some(keeper(0.005)), Span::from_secs(1));
        assert_eq!(said(&desk), (2, Leap::None));
    }

    #[test]
    fn a_clock_as_it_is_stays_what_it_is() {
        let desk = Desk::new(&options());
        desk.interrupted();
        desk.told(None, Span::from_secs(1));
        let header = asked(&desk, "127.0.0.1:1").unwrap();
        assert_eq!((header.stratum, &header.reference_id, header.leap), (10, b"HOST", Leap::None));
        let later = wall() + Span::from_secs(100);
        desk.lock().freshen(later);
        assert_eq!(asked(&desk, "127.0.0.1:1").unwrap().reference.resolve(later), later);
    }

    #[test]
    fn guests_networks_may_ask_while_they_are_private_and_not_denied() {
        let deny = vec!["192.168.122.9".parse().unwrap()];
        let desk = Desk::new(&Options { deny, ..options() });
        assert!(asked(&desk, "192.168.122.7:123").is_none());
        desk.set_networks(vec!["192.168.122.1/24".parse().unwrap(), "203.0.113.1/24".parse().unwrap()]);
        assert!(asked(&desk, "192.168.122.7:123").is_some());
        assert!(asked(&desk, "192.168.122.9:123").is_none() && asked(&desk, "203.0.113.7:123").is_none());
        desk.set_networks(Vec::new());
        assert!(asked(&desk, "192.168.122.7:123").is_none());
    }
}
