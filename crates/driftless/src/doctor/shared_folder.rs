//! Whether files in a shared folder get times that agree with this clock: `make` compares them.
//!
//! Whoever keeps the folder stamps the files: a server on the host by the host's clock, a guest's kernel by its own. A file is written here, and
//! its time compared with the clock before and after; a time between the two is right.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use driftless_core::time::Seconds;

use super::finding::{Finding, Kind, Severity};

pub(super) static KINDS: [&Kind; 3] = [&SKEW, &FUTURE, &UNTRIED];

static SKEW: Kind = Kind {
    id: "shared-folder-skew",
    severity: Severity::Warning,
    title: "files in the shared folder get times that do not agree with this clock",
    consequence: "make finds targets newer than their sources, or older, and builds too little or too much",
    cure: "let this guest follow the clock of whoever keeps the folder, as a rule the host: driftless serve --as-is there, driftless run here",
};
static FUTURE: Kind = Kind {
    id: "shared-folder-future",
    severity: Severity::Warning,
    title: "the shared folder holds files from the future",
    consequence: "make: \"Clock skew detected. Your build may be incomplete.\"",
    cure: "put the clock right first (driftless doctor says by whom it is wrong), then touch those files",
};
static UNTRIED: Kind = Kind {
    id: "shared-folder-untried",
    severity: Severity::Warning,
    title: "no file could be written to the shared folder",
    consequence: "how its times compare with this clock is not known",
    cure: "run as a user who may write there",
};

/// What a build bears.
const SKEW_FROM: Seconds = Seconds(50e-3);
/// Kernels stamp files by a clock that moves once a tick: 10 ms at 100 Hz.
const TICK: Seconds = Seconds(10e-3);
/// A folder that keeps whole seconds may round by this (two seconds in FAT).
const COARSE: Seconds = Seconds(2.0);
const TRIES: u32 = 5;
/// Entries of the folder that are looked at.
const ENTRIES_MAX: usize = 1_000;
const NAMED_MAX: usize = 5;

/// A file's time against this clock.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Skew {
    /// The file's time − the clock's.
    skew: Seconds,
    bound: Seconds,
}

pub(super) fn find(folder: &Path) -> Vec<Finding> {
    let name = folder.display();
    let mut found = Vec::new();
    match measure(folder) {
        Err(error) => found.push(UNTRIED.seen(format!("{name}: {error}"))),
        Ok(skew) if skew.skew.abs().0 > (SKEW_FROM + skew.bound).0 => {
            let side = if skew.skew.0 > 0.0 { "ahead of" } else { "behind" };
            found.push(SKEW.seen(format!(
                "a file written to {name} is {} {side} this clock, give or take {}",
                plain(skew.skew),
                plain(skew.bound)
            )));
        }
        Ok(_) => {}
    }
    let late = from_the_future(folder);
    if let Some(first) = late.first() {
        found.push(FUTURE.seen(format!("{} of {name}, as {first}", late.len())));
    }
    found
}

fn plain(seconds: Seconds) -> String {
    seconds.abs().to_string().trim_start_matches('+').to_owned()
}

/// The tightest of several tries.
fn measure(folder: &Path) -> io::Result<Skew> {
    let path = folder.join(format!(".driftless-doctor-{}", std::process::id()));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    let tries: io::Result<Vec<(Skew, bool)>> = (0..TRIES).map(|_| once(&mut file, &path)).collect();
    drop(file);
    fs::remove_file(&path)?;
    let tries = tries?;
    let is_coarse = tries.iter().all(|(_, is_whole)| *is_whole);
    let tightest = tries.into_iter().map(|(skew, _)| skew).min_by(|a, b| a.bound.0.total_cmp(&b.bound.0));
    let Skew { skew, bound } = tightest.unwrap_or(Skew { skew: Seconds::ZERO, bound: Seconds::ZERO });
    Ok(Skew { skew, bound: bound + if is_coarse { COARSE } else { TICK } })
}

/// One try, and whether the file's time is a whole second.
fn once(file: &mut File, path: &Path) -> io::Result<(Skew, bool)> {
    let before = seconds(SystemTime::now());
    file.write_all(b".")?;
    file.sync_all()?;
    let after = seconds(SystemTime::now());
    // By its name: an open file may answer from a cache of its own.
    let modified = fs::metadata(path)?.modified()?;
    let middle = (before + after) * 0.5;
    let skew = Skew { skew: seconds(modified) - middle, bound: (after - before) * 0.5 };
    let part = modified.duration_since(UNIX_EPOCH).map_or(1, |since| since.subsec_nanos());
    Ok((skew, part == 0))
}

fn seconds(time: SystemTime) -> Seconds {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Seconds(since.as_secs_f64()),
        Err(before) => Seconds(-before.duration().as_secs_f64()),
    }
}

/// Files of the folder whose times are still to come, `name (+3.2 s)` each.
fn from_the_future(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let now = seconds(SystemTime::now());
    let late = entries.filter_map(|entry| {
        let ahead = seconds(entry.metadata().ok()?.modified().ok()?) - now;
        (ahead.0 > 1.0).then(|| format!("{} ({ahead})", entry.file_name().to_string_lossy()))
    });
    late.take(NAMED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::ids;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_folder_of_our_own_agrees_with_our_own_clock() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ids(&find(folder.path())), [""; 0]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_file_from_the_future_is_told_and_so_is_a_folder_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("main.o")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(30)).unwrap();
        let found = find(folder.path());
        assert_eq!(ids(&found), ["shared-folder-future"]);
        assert!(found[0].evidence.contains("main.o"));
        assert_eq!(ids(&find(&folder.path().join("none"))), ["shared-folder-untried"]);
    }
}
