//! A run's folder in memory: the shared page, sockets and saved states, since a path to a socket must be short and a state is large.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The folder; it lasts as long as this.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

/// Where the folders lie.
pub(crate) const FOLDER: &str = "/dev/shm";
/// How their names begin.
pub(crate) const PREFIX: &str = "driftless-";

impl Scratch {
    /// One for the run that leaves its files in `run`, by whose name it is called.
    pub(crate) fn new(run: &Path) -> Result<Self> {
        let unique = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = Path::new(FOLDER).join(format!("{PREFIX}{unique}"));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
