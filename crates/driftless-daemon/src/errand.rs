//! Errands that may take long, off the loop's thread: a resolver that hangs must not stop the clock from being kept.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// getaddrinfo and its modules need little; only pages that are touched count.
const STACK: usize = 256 * 1_024;

/// Errands under way, each bringing a `T`.
#[derive(Debug)]
pub struct Errands<T> {
    results: Receiver<T>,
    sender: Sender<T>,
    /// A finished errand writes an octet into the second, which wakes whoever polls the first. `None`: they are done in place.
    wake: Option<(UnixStream, UnixStream)>,
}

impl<T: Send + 'static> Errands<T> {
    /// `in_place` does without threads, as time simulators need it.
    #[must_use]
    pub fn new(in_place: bool) -> Self {
        let (sender, results) = channel();
        let pair = if in_place { None } else { UnixStream::pair().ok() };
        let wake = pair.filter(|(reading, _)| reading.set_nonblocking(true).is_ok());
        Self { results, sender, wake }
    }

    /// Runs `errand`; where no thread can be had, `otherwise` is brought.
    pub fn start(&self, errand: impl FnOnce() -> T + Send + 'static, otherwise: impl FnOnce() -> T) {
        let sender = self.sender.clone();
        let waking = self.wake.as_ref().and_then(|(_, writing)| writing.try_clone().ok());
        let run = move || {
            // A daemon that has ended needs no answer.
            let _ = sender.send(errand());
            if let Some(mut waking) = waking {
                let _ = waking.write_all(b"!");
            }
        };
        if self.wake.is_none() {
            return run();
        }
        if thread::Builder::new().stack_size(STACK).spawn(run).is_err() {
            let _ = self.sender.send(otherwise());
        }
    }

    /// What an errand that has ended brought.
    pub fn finished(&self) -> Option<T> {
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
