//! Names to addresses by the system's resolver, off the loop's thread: a resolver that hangs must not stop the clock from being kept.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use driftless_core::source::SourceId;

/// What a lookup led to; nothing where the name leads nowhere.
pub type Resolved = (SourceId, Vec<SocketAddr>);

/// getaddrinfo and its modules need little; only pages that are touched count.
const STACK: usize = 256 * 1_024;

/// Lookups under way.
#[derive(Debug)]
pub struct Resolver {
    results: Receiver<Resolved>,
    sender: Sender<Resolved>,
    /// A finished lookup writes an octet into the second, which wakes whoever polls the first. `None`: lookups are done in place.
    wake: Option<(UnixStream, UnixStream)>,
}

impl Resolver {
    /// `in_place` does without threads, as time simulators need it.
    #[must_use]
    pub fn new(in_place: bool) -> Self {
        let (sender, results) = channel();
        let pair = if in_place { None } else { UnixStream::pair().ok() };
        let wake = pair.filter(|(reading, _)| reading.set_nonblocking(true).is_ok());
        Self { results, sender, wake }
    }

    /// Looks `host` up: at once where it is an address, otherwise on a thread of its own.
    pub fn start(&self, source: SourceId, host: String, port: u16) {
        let sender = self.sender.clone();
        let waking = self.wake.as_ref().and_then(|(_, writing)| writing.try_clone().ok());
        let look_up = move || {
            let addresses =
                (host.as_str(), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
            // A daemon that has ended needs no answer.
            let _ = sender.send((source, addresses));
            if let Some(mut waking) = waking {
                let _ = waking.write_all(b"!");
            }
        };
        if self.wake.is_none() {
            return look_up();
        }
        if thread::Builder::new().stack_size(STACK).spawn(look_up).is_err() {
            let _ = self.sender.send((source, Vec::new()));
        }
    }

    /// A lookup that has ended.
    pub fn finished(&self) -> Option<Resolved> {
        self.results.try_recv().ok()
    }

    /// What to wait on.
    #[must_use]
    pub fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(|(reading, _)| reading.as_fd())
    }

    /// Empties what woke us.
    pub fn drain(&self) {
        if let Some((reading, _)) = &self.wake {
            // Non-blocking: nothing there is no matter.
            let _ = (&*reading).read(&mut [0; 16]);
        }
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
