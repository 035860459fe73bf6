//! News that something may be found now, or not any more: the network's from the kernel, leases and devices from their folders. Each is optional.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use driftless_linux::folder_watch::{FolderWatch, Told};
use driftless_linux::netlink::NetworkChanges;

use super::leases;

/// What tells of changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    network: Option<NetworkChanges>,
    folders: Option<FolderWatch>,
}

const DEVICES: &str = "/dev";
/// Devices that give time, or lead to who does.
const NAMES: [&[u8]; 4] = [b"ptp", b"vmclock", b"vsock", b"rtc"];
/// Beside leases.
const FOLDERS: [&str; 2] = ["/run/cloud-init", "/var/lib/cloud/instance"];

impl Changes {
    /// Watches whatever can be watched.
    pub(super) fn watch() -> Self {
        let lost = |what: &str, error: &std::io::Error| log::debug!("{what} cannot be had: {error}");
        let network = NetworkChanges::open().inspect_err(|error| lost("news of the network", error)).ok();
        let folders = FolderWatch::new().inspect_err(|error| lost("news of files", error)).ok();
        let mut changes = Self { network, folders };
        changes.renew();
        changes
    }

    /// Watches folders that were not there before.
    pub(super) fn renew(&mut self) {
        let Some(watch) = &mut self.folders else { return };
        for folder in leases::FOLDERS.iter().chain(&FOLDERS) {
            // Most machines have one client, and not all the folders.
            let _ = watch.add(Path::new(folder), Told::Writing);
        }
        let _ = watch.add(Path::new(DEVICES), Told::ComingAndGoing);
    }

    /// Whether changes are told at all.
    pub(super) const fn is_any(&self) -> bool {
        self.network.is_some()
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let network = self.network.iter().map(|network| network.as_fd());
        network.chain(self.folders.iter().map(|folders| folders.as_fd()))
    }

    /// Whether something changed since the last call.
    pub(super) fn take(&self) -> bool {
        let is_wanted = |folder: &Path, name: &[u8]| {
            // Files that are being written have names with a dot before them; they are renamed once they are whole.
            if folder == Path::new(DEVICES) {
                NAMES.iter().any(|start| name.starts_with(start))
            } else {
                !name.starts_with(b".")
            }
        };
        let network = self.network.as_ref().is_some_and(NetworkChanges::take);
        self.folders.as_ref().is_some_and(|watch| watch.take(is_wanted)) || network
    }
}
