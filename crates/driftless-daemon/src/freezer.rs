//! A workload that must not run on a wrong clock: its cgroup is frozen from the start, and from each sign of an interruption, until the clock is right.
//!
//! `cgroup.freeze` of cgroup v2 (`Documentation/admin-guide/cgroup-v2.rst`). It is thawed again whatever happens: when the clock is right, when that takes
//! too long, at the end. Only a daemon that is killed cannot do so; the next one does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use driftless_core::event::Event;
use driftless_core::report::State;
use driftless_core::time::{RawTime, Span};

/// The switch of one cgroup.
#[derive(Debug, Default)]
pub(crate) struct Freezer {
    file: Option<PathBuf>,
    frozen: Option<RawTime>,
    is_right: bool,
}

/// Longer than this nobody is kept from working, right clock or not.
const FROZEN_MAX: Span = Span::from_secs(30);

impl Freezer {
    /// Freezes a cgroup at once, until the clock is right.
    pub(crate) fn new(cgroup: &Path, now: RawTime) -> Self {
        let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if holds_us(cgroup, &ours) {
            log::warn!("{}: this daemon is in there itself: not frozen", cgroup.display());
            return Self::default();
        }
        let mut freezer = Self { file: Some(cgroup.join("cgroup.freeze")), frozen: None, is_right: false };
        freezer.freeze(now);
        freezer
    }

    /// Takes in what happened.
    pub(crate) fn heard(&mut self, now: RawTime, event: &Event) {
        match event {
            Event::Suspected { .. } | Event::Interrupted(_) => {
                self.is_right = false;
                self.freeze(now);
            }
            Event::Unchanged => self.is_right = true,
            Event::StateChanged { state } => {
                self.is_right = matches!(state, State::Synchronised | State::Contested);
            }
            _ => {}
        }
    }

    /// Thaws if it is time to.
    pub(crate) fn turn(&mut self, now: RawTime) {
        let Some(since) = self.frozen else { return };
        if self.is_right {
            self.thaw();
        } else if now - since >= FROZEN_MAX {
            log::warn!("the clock is not right after {FROZEN_MAX}: the workload goes on without");
            self.thaw();
        }
    }

    /// When to come back at the latest.
    pub(crate) fn deadline(&self) -> Option<RawTime> {
        self.frozen.map(|since| since + FROZEN_MAX)
    }

    fn freeze(&mut self, now: RawTime) {
        if self.frozen.is_none() && self.write("1", "frozen until the clock is right") {
            self.frozen = Some(now);
        }
    }

    fn thaw(&mut self) {
        self.frozen = None;
        self.write("0", "thawed");
    }

    fn write(&mut self, value: &str, what: &str) -> bool {
        let Some(file) = &self.file else { return false };
        match write(file, value) {
            Ok(()) => {
                log::info!("{}: {what}", file.parent().unwrap_or(file).display());
                true
            }
            Err(error) => {
                log::warn!("{}: {error}; the workload is not frozen", file.display());
                self.file = None;
                false
            }
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        if self.frozen.is_some() {
            self.thaw();
        }
    }
}

/// Into what is there: a file of our own making would freeze nobody.
fn write(file: &Path, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new().write(true).open(file)?.write_all(value.as_bytes())
}

/// Whether the process whose `/proc/self/cgroup` this is would be frozen with the cgroup.
fn holds_us(cgroup: &Path, ours: &str) -> bool {
    let root = cgroup
        .ancestors()
        .find(|folder| folder.join("cgroup.controllers").exists() && !folder.join("cgroup.type").exists());
    let path = ours.lines().find_map(|line| line.strip_prefix("0::/"));
    match (root, path) {
        (Some(root), Some(path)) => root.join(path).starts_with(cgroup),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::disruption::Sign;

    fn at(seconds: i64) -> RawTime {
        RawTime::from_parts(seconds, 0)
    }

    fn cgroup() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.freeze"), "0").unwrap();
        folder
    }

    fn value(cgroup: &tempfile::TempDir) -> String {
        fs::read_to_string(cgroup.path().join("cgroup.freeze")).unwrap()
    }

    const RIGHT: Event = Event::StateChanged { state: State::Synchronised };

    #[test]
    fn it_is_frozen_at_the_start_and_at_a_sign_until_the_clock_is_right() {
        let cgroup = cgroup();
        let mut freezer = Freezer::new(cgroup.path(), at(0));
        assert_eq!(value(&cgroup), "1");
        freezer.heard(at(1), &Event::StateChanged { state: State::Acquiring });
        freezer.turn(at(1));
        assert_eq!(value(&cgroup), "1");
        for right in [RIGHT, Event::Unchanged] {
            freezer.heard(at(2), &right);
            freezer.turn(at(2));
            assert_eq!((value(&cgroup), freezer.deadline()), ("0".to_owned(), None));
            freezer.heard(at(60), &Event::Suspected { sign: Sign::Push });
            freezer.turn(at(60));
            assert_eq!(value(&cgroup), "1");
        }
    }

    #[test]
    fn it_is_thawed_after_a_while_and_at_the_end_whatever_the_clock_does() {
        let cgroup = cgroup();
        let mut freezer = Freezer::new(cgroup.path(), at(0));
        freezer.turn(freezer.deadline().unwrap());
        assert_eq!(value(&cgroup), "0");
        freezer.heard(at(60), &Event::Suspected { sign: Sign::Slept });
        assert_eq!(value(&cgroup), "1");
        drop(freezer);
        assert_eq!(value(&cgroup), "0");
    }

    #[test]
    fn nobody_freezes_himself_or_what_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        let slice = root.path().join("system.slice");
        fs::create_dir_all(slice.join("driftless.service")).unwrap();
        for folder in [slice.clone(), slice.join("driftless.service")] {
            fs::write(folder.join("cgroup.controllers"), "").unwrap();
            fs::write(folder.join("cgroup.type"), "domain").unwrap();
        }
        let ours = "0::/system.slice/driftless.service\n";
        assert!(holds_us(&slice, ours) && holds_us(&slice.join("driftless.service"), ours));
        assert!(!holds_us(&slice.join("other.service"), ours));
        let freezer = Freezer::new(&slice, at(0));
        assert_eq!(freezer.deadline(), None, "there is no cgroup.freeze");
        assert!(!slice.join("cgroup.freeze").exists());
    }
}
