//! A file's beginning as shared memory of 64-bit words, and the processor's counter: what the lab's truth channel is made of.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::sys;

/// Shared words. The mapping lasts as long as the process.
#[derive(Debug, Clone, Copy)]
pub struct Mapping(&'static [AtomicI64]);

impl Mapping {
    /// Maps the first `words` words of an existing file or PCI resource.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, words: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(sys::map_shared(file.as_fd(), words)?))
    }

    /// The word at `index`; 0 beyond the end.
    #[must_use]
    pub fn load(self, index: usize) -> i64 {
        self.0.get(index).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Sets the word at `index`; nothing beyond the end.
    pub fn store(self, index: usize, value: i64) {
        if let Some(word) = self.0.get(index) {
            word.store(value, Ordering::SeqCst);
        }
    }
}

/// The processor's time-stamp counter; 0 where there is none.
#[must_use]
pub fn read_tsc() -> u64 {
    sys::read_counter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4_096).unwrap();
        let (one, other) =
            (Mapping::open(file.path(), 512).unwrap(), Mapping::open(file.path(), 512).unwrap());
        one.store(7, -5);
        assert_eq!((other.load(7), other.load(512)), (-5, 0));
    }
}
