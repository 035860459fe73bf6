//! Where facts are read: this machine, or the root folder of another one, which is only looked at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use crate::tree::Tree;

/// A machine as its files show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    tree: Tree,
    /// Where a cloud's metadata service answers.
    pub(super) metadata: SocketAddr,
}

/// The link-local address that OpenStack, like all big clouds, answers at.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Longer files are cut: whatever we look for is much smaller.
pub(super) const FILE_MAX: u64 = 64 * 1_024;
/// Files of one folder that are looked at.
const FILES_MAX: usize = 64;

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        Self::at(Path::new("/"))
    }

    /// The one whose root is `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { tree: Tree::new(root), metadata: SocketAddr::from((METADATA, 80)) }
    }

    /// With its metadata service elsewhere: for tests.
    #[must_use]
    pub fn with_metadata(self, metadata: SocketAddr) -> Self {
        Self { metadata, ..self }
    }

    /// Whether it is the one that we run on, so that devices can be opened and servers asked.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.tree.root() == Path::new("/")
    }

    /// Where devices, and the kernel's folders of them, are to be opened. Files are read by [`Self::text`].
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.tree.root().join(path.trim_start_matches('/'))
    }

    pub(super) fn octets(&self, path: &str) -> Option<Vec<u8>> {
        self.tree.octets_at_most(path, FILE_MAX)
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.octets(path).map(|octets| String::from_utf8_lossy(&octets).into_owned())
    }

    /// Names in a folder that `is_wanted`, sorted.
    pub(super) fn names(&self, folder: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.tree.names(folder).into_iter().filter(|name| is_wanted(name)).take(FILES_MAX).collect()
    }

    /// Whether an address is this machine's now: a lease for another one is old. Of a machine that does not run nobody knows.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        // Binding sends nothing, and only a local address can be bound.
        !self.is_here() || UdpSocket::bind((address, 0)).is_ok()
    }
}

/// `KEY=VALUE` lines, as systemd and NetworkManager write their state; quotes around a value are no part of it.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim().trim_matches('"')).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_read_below_the_root_and_never_without_end() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        fs::write(root.path().join("run/long"), vec![b'x'; 100_000]).unwrap();
        let machine = Machine::at(root.path());
        assert_eq!(machine.text("/run/long").unwrap().len(), 65_536);
        assert_eq!(machine.text("/etc/hostname"), None);
        assert_eq!(machine.names("/run", |_| true), ["long"]);
        assert!(!machine.is_here() && Machine::here().is_here());
    }

    #[test]
    fn only_an_address_of_ours_is_ours() {
        let here = Machine::here();
        assert!(here.has_address([127, 0, 0, 1].into()) && !here.has_address([192, 0, 2, 77].into()));
    }

    #[test]
    fn values_are_found_by_their_whole_key() {
        let text = "NTP_X=1\nNTP=\"a b\"\nDNS=\n";
        assert_eq!((value(text, "NTP"), value(text, "DNS"), value(text, "N")), (Some("a b"), None, None));
    }
}
