//! Files that come, change or go in folders (`inotify(7)`).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::sys;

/// The watch over some folders.
#[derive(Debug)]
pub struct FolderWatch {
    inotify: OwnedFd,
    folders: BTreeMap<i32, PathBuf>,
}

/// What of a folder's files is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// One came or went: all that is to be told of devices, which a whole system writes to all day.
    ComingAndGoing,
    /// It was written, too.
    Writing,
}

impl Told {
    const fn events(self) -> u32 {
        let coming = libc::IN_MOVED_TO | libc::IN_CREATE | libc::IN_DELETE | libc::IN_ONLYDIR;
        match self {
            Self::ComingAndGoing => coming,
            Self::Writing => coming | libc::IN_CLOSE_WRITE,
        }
    }
}

/// An event before its name: descriptor, mask, cookie, length, 32 bits each.
const HEAD: usize = 16;
const READ_BYTES: usize = 4_096;
/// Reads in a row, so that a busy folder does not hold us.
const READS_MAX: usize = 16;

impl FolderWatch {
    /// A watch over none yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        Ok(Self { inotify: sys::inotify()?, folders: BTreeMap::new() })
    }

    /// Watches one more, unless it is watched already.
    ///
    /// # Errors
    /// What the system says: `NotFound` where there is none.
    pub fn add(&mut self, folder: &Path, told: Told) -> io::Result<()> {
        let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
        let id = sys::inotify_add(self.inotify.as_fd(), &path, told.events())?;
        self.folders.insert(id, folder.to_owned());
        Ok(())
    }

    /// Forgets the folders that are gone: the kernel does so by itself.
    pub fn prune(&mut self) {
        self.folders.retain(|_, folder| folder.is_dir());
    }

    /// Whether a file that `is_wanted`, told its folder and its name, came, changed or went since the last call.
    pub fn take(&self, is_wanted: impl Fn(&Path, &[u8]) -> bool) -> bool {
        let mut is_any = false;
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            let Ok(length) = sys::read(self.as_fd(), &mut buffer) else { break };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((id, name, after)) = event(rest) {
                is_any |= self.folders.get(&id).is_some_and(|folder| is_wanted(folder, name));
                rest = after;
            }
        }
        is_any
    }
}

/// The first event of some octets: its watch, its name, and what follows.
fn event(octets: &[u8]) -> Option<(i32, &[u8], &[u8])> {
    let id = i32::from_ne_bytes(*octets.first_chunk::<4>()?);
    let length = u32::from_ne_bytes(*octets.get(12..)?.first_chunk::<4>()?);
    let (name, after) = octets.get(HEAD..)?.split_at_checked(usize::try_from(length).ok()?)?;
    Some((id, name.split(|octet| *octet == 0).next().unwrap_or_default(), after))
}

impl AsFd for FolderWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll;
    use driftless_core::time::Span;
    use std::fs;

    #[test]
    fn a_file_that_is_written_or_goes_is_told_and_a_foreign_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = FolderWatch::new().unwrap();
        watch.add(folder.path(), Told::Writing).unwrap();
        watch.add(folder.path(), Told::Writing).unwrap();
        let is_lease = |_: &Path, name: &[u8]| name.ends_with(b".lease");
        assert!(!watch.take(is_lease));
        fs::write(folder.path().join("eth0.lease"), "x").unwrap();
        assert!(watch.take(is_lease) && !watch.take(is_lease));
        fs::write(folder.path().join("other"), "x").unwrap();
        assert!(!watch.take(is_lease));
        fs::remove_file(folder.path().join("eth0.lease")).unwrap();
        assert!(watch.take(is_lease));
        assert!(watch.add(Path::new("/nonexistent"), Told::Writing).is_err());
    }

    #[test]
    fn writing_to_a_device_is_no_news_of_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("null"), "").unwrap();
        let mut watch = FolderWatch::new().unwrap();
        watch.add(folder.path(), Told::ComingAndGoing).unwrap();
        fs::write(folder.path().join("null"), "x").unwrap();
        assert_eq!(poll::wait(&[watch.as_fd()], Some(Span::from_millis(20))).unwrap(), [false]);
        fs::write(folder.path().join("ptp0"), "").unwrap();
        assert!(watch.take(|_, name| name == b"ptp0"));
    }
}
