//! A folder of microVMs' sockets: where a hypervisor has `v.sock`, its guest's connections to port 123 come to `v.sock_123`.
//!
//! Firecracker and cloud-hypervisor carry a guest's vsock so on the host's side. They make `v.sock` themselves when the VM starts, and connect to
//! `v.sock_123` when the guest does; that one must be listened on by then. So each socket found gets one beside it, owned by whoever owns the
//! first: a jailed hypervisor could not connect to it else. What happened in the folder is never inferred from events; it is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use driftless_linux::folder_watch::{FolderWatch, Told};
use driftless_linux::wait::Waiter;

use super::Door;
use super::guests::Guests;

/// The folder.
#[derive(Debug)]
pub(super) struct GuestFolder {
    path: PathBuf,
    port: u32,
    watch: FolderWatch,
    /// Hypervisors' sockets, and under which number the one beside each is listened on; None where that cannot be.
    known: BTreeMap<PathBuf, Option<usize>>,
}

/// Whether a socket of ours that is gone, or could not be made, is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not now: whoever takes it away may be taking the whole folder away, and would find it not empty.
    None,
    /// The hypervisor's is still here, so its guest is to be served.
    Over,
}

/// Folders below the one that is named: a jailed Firecracker has `ID/root/run/v.sock`.
const DEPTH_MAX: usize = 3;
/// Entries looked at, at most.
const ENTRIES_MAX: usize = 65_536;

impl GuestFolder {
    /// Listens beside what is there, and watches for more, to be told of at `door`.
    pub(super) fn open(
        path: &Path,
        port: u32,
        door: Door,
        guests: &mut Guests,
        waiter: &mut Waiter,
    ) -> io::Result<Self> {
        let mut watch = FolderWatch::new()?;
        watch.add(path, Told::ComingAndGoing)?;
        waiter.add(watch.as_fd(), door.token())?;
        let mut folder = Self { path: path.to_owned(), port, watch, known: BTreeMap::new() };
        folder.look(Patience::None, guests, waiter);
        Ok(folder)
    }

    /// What it is, in words.
    pub(super) fn place(&self) -> String {
        format!("{}/*_{}", self.path.display(), self.port)
    }

    /// Something came or went, or it is time to look again.
    pub(super) fn look(&mut self, patience: Patience, guests: &mut Guests, waiter: &mut Waiter) {
        self.watch.take(|_, _| true);
        self.watch.prune();
        let mut here = BTreeSet::new();
        let mut left = ENTRIES_MAX;
        find(&mut self.watch, &self.path, 0, &mut left, &mut here);
        let gone: Vec<PathBuf> = self.known.keys().filter(|known| !here.contains(*known)).cloned().collect();
        for socket in gone {
            if let Some(Some(index)) = self.known.remove(&socket) {
                guests.unlisten(index, waiter);
            }
        }
        for socket in here {
            let beside = beside(&socket, self.port);
            match self.known.get(&socket) {
                Some(_) if patience == Patience::None => continue,
                Some(Some(_)) if beside.exists() => continue,
                Some(Some(index)) => guests.unlisten(*index, waiter),
                _ => {}
            }
            let index = match listen(&socket, &beside, guests, waiter) {
                Ok(index) => Some(index),
                // Tried again at each look, and told once.
                Err(error) => {
                    if !self.known.contains_key(&socket) {
                        log::warn!("{}: {error}; its guest is not served", beside.display());
                    }
                    None
                }
            };
            self.known.insert(socket, index);
        }
    }
}

/// Hypervisors' sockets in `folder` and below; watches each folder.
fn find(
    watch: &mut FolderWatch,
    folder: &Path,
    depth: usize,
    left: &mut usize,
    found: &mut BTreeSet<PathBuf>,
) {
    // Watched first, then looked at: what comes in between wakes us again. One that cannot be watched is looked at with the others.
    let _ = watch.add(folder, Told::ComingAndGoing);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if kind.is_socket() && !is_beside(&path) {
            found.insert(path);
        } else if kind.is_dir() && depth < DEPTH_MAX {
            find(watch, &path, depth + 1, left, found);
        }
    }
}

fn listen(socket: &Path, beside: &Path, guests: &mut Guests, waiter: &mut Waiter) -> io::Result<usize> {
    let index = guests.listen_unix(beside, waiter)?;
    let owner = fs::symlink_metadata(socket)?;
    // Without the right to give files away we run as the same user, or the hypervisor as root.
    let _ = std::os::unix::fs::lchown(beside, Some(owner.uid()), Some(owner.gid()));
    Ok(index)
}

/// The socket by which a guest's connections to `port` come.
fn beside(socket: &Path, port: u32) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(format!("_{port}"));
    path.into()
}

/// Whether a path is for a guest's connections to some port, ours or another's.
fn is_beside(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.rsplit_once('_')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn each_microvm_gets_a_socket_beside_its_own_as_long_as_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (mut guests, mut waiter) = (Guests::new(1_024), Waiter::new(false));
        let first = folder.path().join("a.sock");
        let _hypervisor = UnixListener::bind(&first).unwrap();
        let mut watched =
            GuestFolder::open(folder.path(), 123, Door::Folder(0), &mut guests, &mut waiter).unwrap();
        assert!(UnixStream::connect(folder.path().join("a.sock_123")).is_ok());
        let jail = folder.path().join("vm7/root/run");
        fs::create_dir_all(&jail).unwrap();
        let _jailed = UnixListener::bind(jail.join("v.sock")).unwrap();
        let _elsewhere = UnixListener::bind(folder.path().join("a.sock_5000")).unwrap();
        watched.look(Patience::None, &mut guests, &mut waiter);
        assert!(UnixStream::connect(jail.join("v.sock_123")).is_ok());
        assert_eq!(guests.places().count(), 2, "another port's is no hypervisor's");
        // A second look, which our own sockets cause, finds nothing new; one that was taken away comes again, but not at once.
        fs::remove_file(jail.join("v.sock_123")).unwrap();
        watched.look(Patience::None, &mut guests, &mut waiter);
        assert!(!jail.join("v.sock_123").exists(), "a folder that is being taken away can be");
        watched.look(Patience::Over, &mut guests, &mut waiter);
        assert!(UnixStream::connect(jail.join("v.sock_123")).is_ok());
        fs::remove_file(&first).unwrap();
        watched.look(Patience::None, &mut guests, &mut waiter);
        assert_eq!(guests.places().count(), 1);
        assert!(!folder.path().join("a.sock_123").exists());
    }

    #[test]
    fn a_new_microvm_wakes_the_loop() {
        let folder = tempfile::tempdir().unwrap();
        let (mut guests, mut waiter) = (Guests::new(1_024), Waiter::new(false));
        let door = Door::Folder(3);
        let _watched = GuestFolder::open(folder.path(), 123, door, &mut guests, &mut waiter).unwrap();
        let _hypervisor = UnixListener::bind(folder.path().join("v.sock")).unwrap();
        let mut ready = Vec::new();
        waiter.wait(Some(driftless_core::time::Span::from_secs(2)), &mut ready).unwrap();
        assert_eq!(ready, [door.token()]);
        let error =
            GuestFolder::open(&folder.path().join("none"), 123, door, &mut guests, &mut waiter).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn sockets_of_ports_are_told_from_hypervisors() {
        for (path, expected) in [
            ("v.sock", false),
            ("v.sock_123", true),
            ("my_vm", false),
            ("my_vm_", false),
            ("vm_7.sock", false),
        ] {
            assert_eq!(is_beside(Path::new(path)), expected, "{path}");
        }
    }
}
