//! `/run/systemd/timesync/synchronized`, the file by which systemd-time-wait-sync(8), and so `time-sync.target`, learns that the clock is right.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The file's place, where there is a systemd.
#[derive(Debug, Default)]
pub(crate) struct TimeSync {
    folder: Option<PathBuf>,
}

/// Where systemd keeps what does not outlive the boot.
pub(crate) const RUN: &str = "/run/systemd";

impl TimeSync {
    /// Under `run` ([`RUN`]), if that is there.
    pub(crate) fn new(run: &Path) -> Self {
        Self { folder: run.is_dir().then(|| run.join("timesync")) }
    }

    /// The clock is right.
    pub(crate) fn touch(&mut self) {
        let Some(folder) = &self.folder else { return };
        let file = folder.join("synchronized");
        if let Err(error) = fs::create_dir_all(folder).and_then(|()| File::create(&file)) {
            log::debug!("{}: {error}; systemd is not told", file.display());
            self.folder = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_where_systemd_is_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        TimeSync::new(&root.path().join("none")).touch();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        TimeSync::new(root.path()).touch();
        assert!(root.path().join("timesync/synchronized").exists());
    }
}
