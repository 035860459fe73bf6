//! Names to addresses by the system's resolver, off the loop's thread: a resolver that hangs must not stop the clock from being kept.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::BorrowedFd;

use driftless_core::source::SourceId;

use crate::errand::Errands;

/// What a lookup led to; nothing where the name leads nowhere.
pub type Resolved = (SourceId, Vec<SocketAddr>);

/// Lookups under way.
#[derive(Debug)]
pub struct Resolver(Errands<Resolved>);

impl Resolver {
    /// `in_place` does without threads, as time simulators need it.
    #[must_use]
    pub fn new(in_place: bool) -> Self {
        Self(Errands::new(in_place))
    }

    /// Looks `host` up on a thread of its own.
    pub fn start(&self, source: SourceId, host: String, port: u16) {
        let look_up = move || {
            let addresses =
                (host.as_str(), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
            (source, addresses)
        };
        self.0.start(look_up, || (source, Vec::new()));
    }

    /// A lookup that has ended.
    pub fn finished(&self) -> Option<Resolved> {
        self.0.finished()
    }

    /// What to wait on.
    #[must_use]
    pub fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.0.wake()
    }

    /// Empties what woke us.
    pub fn drain(&self) {
        self.0.drain();
    }
}

/// The address that `host` is in writing; a name is none.
#[must_use]
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use driftless_core::time::Span;
    use driftless_linux::poll;

    use super::*;

    #[test]
    fn a_finished_lookup_wakes_the_loop() {
        let resolver = Resolver::new(false);
        resolver.start(SourceId(3), "127.0.0.1".to_owned(), 123);
        let wake = resolver.wake().unwrap();
        assert_eq!(poll::wait(&[wake], Some(Span::from_secs(10))).unwrap(), [true]);
        resolver.drain();
        let expected = vec![SocketAddr::from(([127, 0, 0, 1], 123))];
        assert_eq!(resolver.finished(), Some((SourceId(3), expected)));
    }

    #[test]
    fn in_place_needs_no_thread() {
        let resolver = Resolver::new(true);
        resolver.start(SourceId(0), "::1".to_owned(), 1);
        assert!(resolver.wake().is_none() && resolver.finished().is_some());
        assert!(literal("name.example", 1).is_none() && literal("fd00::1", 1).is_some());
    }
}
