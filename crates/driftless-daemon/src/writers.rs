//! Who else may steer this clock: programs and drivers that are known to, as far as they can be seen from here.
//!
//! The kernel tells that tick, frequency or the time itself were changed, not by whom. So whoever runs and is known to do such things is named.

use std::fmt;
use std::fs;
use std::path::Path;

/// A suspect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// As people call it.
    pub name: &'static str,
    /// Its process, if it is one.
    pub process: Option<u32>,
}

/// Programs by what the kernel calls their processes, 15 octets at most, and what they are called.
const PROGRAMS: [(&str, &str); 17] = [
    ("chronyd", "chronyd"),
    ("systemd-timesyn", "systemd-timesyncd"),
    ("ntpd", "ntpd"),
    ("openntpd", "openntpd"),
    ("ntp-daemon", "ntpd-rs"),
    ("dntpd", "dntpd"),
    ("driftless", "driftless"),
    ("sntp", "sntp"),
    ("sntpc", "sntpc"),
    ("htpdate", "htpdate"),
    ("ptp4l", "ptp4l"),
    ("phc2sys", "phc2sys"),
    ("timemaster", "timemaster"),
    ("vmtoolsd", "vmtoolsd"),
    ("VBoxService", "VBoxService"),
    ("qemu-ga", "qemu-ga"),
    ("prl_tools_servi", "prltoolsd"),
];
/// Drivers that set the clock by themselves.
const MODULES: [&str; 1] = ["hv_utils"];

/// Everybody who is known to steer and runs here, `ours` left out. `root` is `/` but in tests.
#[must_use]
pub fn suspects(root: &Path, ours: u32) -> Vec<Writer> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok().filter(|process| *process != ours)?;
        let called = fs::read_to_string(entry.path().join("comm")).ok()?;
        let (_, name) = PROGRAMS.iter().find(|(program, _)| *program == called.trim_end())?;
        Some(Writer { name, process: Some(process) })
    });
    let modules = MODULES.iter().filter(|module| root.join("sys/module").join(module).exists());
    let mut found: Vec<Writer> =
        processes.chain(modules.map(|name| Writer { name, process: None })).collect();
    found.sort_unstable();
    found
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "{} (process {process})", self.name),
            None => write!(f, "{} (driver)", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_programs_and_drivers_are_named_and_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        for (process, called) in
            [(1, "init"), (40, "systemd-timesyn"), (7, "chronyd"), (99, "driftless"), (8, "chronyc")]
        {
            let folder = root.path().join(format!("proc/{process}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("comm"), format!("{called}\n")).unwrap();
        }
        fs::create_dir_all(root.path().join("sys/module/hv_utils")).unwrap();
        let names: Vec<String> = suspects(root.path(), 99).iter().map(Writer::to_string).collect();
        assert_eq!(names, ["chronyd (process 7)", "hv_utils (driver)", "systemd-timesyncd (process 40)"]);
        assert_eq!(suspects(Path::new("/nonexistent"), 99), []);
    }
}
