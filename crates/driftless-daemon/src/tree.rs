//! A system's files, seen from its root: this machine's, or an image's that lies unpacked or mounted somewhere.
//!
//! Links are followed inside of the root: an image's `/etc/localtime` must not lead into ours. What is read is bounded, and only plain files
//! are read at all: a pipe in somebody's image would hold us for ever.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// The files below a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(PathBuf);

/// A file of settings, or what the kernel says of itself, is never longer.
const READ_MAX: u64 = 4 << 20;
/// As the kernel's own limit (`MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;
/// A folder with more entries is not one of those that are looked into.
const ENTRIES_MAX: usize = 20_000;

impl Tree {
    /// The one below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Where a path leads, links followed inside of the root. None where nothing is there.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<PathBuf> {
        let mut parts: VecDeque<OsString> = parts_of(Path::new(path));
        let (mut place, mut links) = (PathBuf::new(), 0);
        while let Some(part) = parts.pop_front() {
            if part == ".." {
                place.pop();
                continue;
            }
            let next = place.join(&part);
            let Ok(to) = fs::read_link(self.0.join(&next)) else {
                place = next;
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            if to.is_absolute() {
                place = PathBuf::new();
            }
            for part in parts_of(&to).into_iter().rev() {
                parts.push_front(part);
            }
        }
        let found = self.0.join(place);
        found.symlink_metadata().is_ok().then_some(found)
    }

    /// Whether anything is there.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_some()
    }

    /// A plain file's octets, 4 MB of them at most.
    #[must_use]
    pub fn octets(&self, path: &str) -> Option<Vec<u8>> {
        self.octets_at_most(path, READ_MAX)
    }

    /// The same, cut where it is longer than `most`.
    #[must_use]
    pub fn octets_at_most(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        let path = self.resolve(path)?;
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let mut octets = Vec::new();
        File::open(path).ok()?.take(most).read_to_end(&mut octets).ok()?;
        Some(octets)
    }

    /// A plain file's text, whatever is no text in it replaced.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        self.octets(path).map(|octets| String::from_utf8_lossy(&octets).into_owned())
    }

    /// The first line of a file, trimmed; empty where there is none.
    #[must_use]
    pub fn line(&self, path: &str) -> String {
        let text = self.text(path).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().trim_matches('\0').to_owned()
    }

    /// The names in a folder, sorted.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = self.resolve(path).and_then(|folder| fs::read_dir(folder).ok());
        let entries = entries.into_iter().flatten().flatten().take(ENTRIES_MAX);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The files in a folder whose names end so, with their texts.
    #[must_use]
    pub fn files(&self, folder: &str, ending: &str) -> Vec<(String, String)> {
        let names = self.names(folder).into_iter().filter(|name| name.ends_with(ending));
        names
            .filter_map(|name| {
                let path = format!("{folder}/{name}");
                Some((path.clone(), self.text(&path)?))
            })
            .collect()
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }
}

fn parts_of(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn planted(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let tree = Tree::new(root.path());
        (root, tree)
    }

    #[test]
    fn links_lead_nowhere_outside_of_the_root() {
        let (root, tree) = planted(&[("etc/real", "inside\n"), ("lib/deep/file", "deep\n")]);
        let link = |to: &str, from: &str| symlink(to, root.path().join(from)).unwrap();
        link("/etc/real", "etc/absolute");
        link("../../../../etc/real", "lib/deep/upwards");
        link("/lib/deep", "short");
        link("loop", "loop");
        link("/etc/passwd", "etc/theirs");
        assert_eq!(tree.line("etc/absolute"), "inside");
        assert_eq!(tree.line("lib/deep/upwards"), "inside");
        assert_eq!(tree.line("short/file"), "deep");
        assert!(!tree.exists("loop") && !tree.exists("etc/theirs"), "there is no passwd in this root");
        assert_eq!(tree.names("short"), ["file", "upwards"]);
    }

    #[test]
    fn only_plain_files_are_read() {
        let (_root, tree) = planted(&[("a/b.conf", "x"), ("a/c.txt", "y")]);
        assert_eq!(tree.text("a"), None);
        assert_eq!(tree.text("none"), None);
        assert_eq!(tree.files("a", ".conf"), [("a/b.conf".to_owned(), "x".to_owned())]);
    }
}
