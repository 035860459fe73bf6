//! Programs that have to do with the clock: what each does to it, its units, and which of them run here.

use driftless_daemon::tree::Tree;
use driftless_daemon::writers;

/// A program that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// As people call it.
    pub(crate) name: &'static str,
    pub(crate) manner: Manner,
    /// systemd's units for it.
    pub(crate) units: &'static [&'static str],
    /// Where its program lies, below the root.
    pub(crate) files: &'static [&'static str],
}

/// What a program does to the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Keeps it, by its rate.
    Keeps,
    /// Sets it again and again.
    Steps,
    /// A hypervisor's agent: sets it now and then, or when it is told to.
    Obeys,
    /// Nothing, to this clock.
    Nothing,
}

/// One that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) name: &'static str,
    pub(crate) manner: Manner,
    /// None for a driver.
    pub(crate) process: Option<u32>,
    /// Whether it was told to leave the clock alone.
    pub(crate) only_watches: bool,
    /// What the kernel says of the process: `/proc/PID/status`.
    pub(crate) status: String,
}

const fn program(
    name: &'static str,
    manner: Manner,
    units: &'static [&'static str],
    files: &'static [&'static str],
) -> Program {
    Program { name, manner, units, files }
}

/// By the names that the daemon gives them.
pub(crate) const PROGRAMS: [Program; 16] = [
    program(
        "driftless",
        Manner::Keeps,
        &["driftless.service"],
        &["usr/bin/driftless", "usr/sbin/driftless", "usr/local/bin/driftless", "bin/driftless"],
    ),
    program("chronyd", Manner::Keeps, &["chrony.service", "chronyd.service"], &["usr/sbin/chronyd"]),
    program(
        "systemd-timesyncd",
        Manner::Keeps,
        &["systemd-timesyncd.service"],
        &["usr/lib/systemd/systemd-timesyncd", "lib/systemd/systemd-timesyncd"],
    ),
    program(
        "ntpd",
        Manner::Keeps,
        &["ntp.service", "ntpd.service", "ntpsec.service", "openntpd.service"],
        &["usr/sbin/ntpd"],
    ),
    program("openntpd", Manner::Keeps, &[], &["usr/sbin/openntpd"]),
    program("ntpd-rs", Manner::Keeps, &["ntpd-rs.service"], &["usr/bin/ntp-daemon", "usr/sbin/ntp-daemon"]),
    program("dntpd", Manner::Keeps, &["dntpd.service"], &["usr/sbin/dntpd"]),
    program("phc2sys", Manner::Keeps, &["phc2sys.service"], &["usr/sbin/phc2sys"]),
    program("timemaster", Manner::Keeps, &["timemaster.service"], &["usr/sbin/timemaster"]),
    program(
        "VBoxService",
        Manner::Keeps,
        &["virtualbox-guest-utils.service", "vboxadd-service.service"],
        &["usr/sbin/VBoxService"],
    ),
    program("sntp", Manner::Steps, &[], &["usr/sbin/sntp", "usr/bin/sntp"]),
    program("sntpc", Manner::Steps, &[], &["usr/sbin/sntpc", "usr/bin/sntpc"]),
    program("htpdate", Manner::Steps, &["htpdate.service"], &["usr/sbin/htpdate"]),
    program("vmtoolsd", Manner::Obeys, &["open-vm-tools.service", "vmtoolsd.service"], &["usr/bin/vmtoolsd"]),
    program(
        "qemu-ga",
        Manner::Obeys,
        &["qemu-guest-agent.service"],
        &["usr/sbin/qemu-ga", "usr/bin/qemu-ga"],
    ),
    program("prltoolsd", Manner::Obeys, &[], &["usr/bin/prltoolsd"]),
];

/// What is known of a program or driver of that name.
fn manner_of(name: &str) -> Manner {
    let known = PROGRAMS.iter().find(|program| program.name == name).map(|program| program.manner);
    known.unwrap_or(if name == "hv_utils" { Manner::Obeys } else { Manner::Nothing })
}

/// Which of them run; `own` is this process.
pub(crate) fn running(tree: &Tree, own: u32) -> Vec<Running> {
    let suspects = writers::suspects(tree.root(), own);
    suspects
        .into_iter()
        .map(|writer| {
            let file =
                |name: &str| writer.process.and_then(|process| tree.text(&format!("proc/{process}/{name}")));
            let command = file("cmdline").unwrap_or_default().replace('\0', " ");
            let observes = writer.name == "driftless"
                && file("environ")
                    .is_some_and(|text| text.split('\0').any(|word| word == "DRIFTLESS_OBSERVE=1"));
            Running {
                name: writer.name,
                manner: manner_of(writer.name),
                process: writer.process,
                only_watches: watches_only(writer.name, command.trim()) || observes,
                status: file("status").unwrap_or_default(),
            }
        })
        .collect()
}

/// Whether a command line of the program leaves the clock alone.
fn watches_only(name: &str, command: &str) -> bool {
    let mut words = command.split(' ').skip(1);
    match name {
        "driftless" => {
            !words.clone().any(|word| word == "run" || word == "dntpd")
                || words.any(|word| word == "--observe")
        }
        "chronyd" => {
            words.any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(['x', 'Q']))
        }
        "sntpc" => words.any(|word| word == "-n"),
        _ => false,
    }
}

impl Running {
    /// Whether it moves the clock without being told to.
    pub(crate) const fn steers(&self) -> bool {
        matches!(self.manner, Manner::Keeps | Manner::Steps) && !self.only_watches
    }

    /// As in `chronyd (process 40)`.
    pub(crate) fn words(&self) -> String {
        self.process.map_or_else(
            || format!("{} (driver)", self.name),
            |process| format!("{} (process {process})", self.name),
        )
    }

    /// A field of its status, as in `CapEff`.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.status, name)
    }
}

/// A field of a `/proc/PID/status`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
impl Running {
    /// One that runs with every right.
    pub(crate) fn planted(name: &'static str, process: u32) -> Self {
        let status = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n".to_owned();
        Self { name, manner: manner_of(name), process: Some(process), only_watches: false, status }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::tree;
    use super::*;

    #[test]
    fn a_program_that_was_told_to_leave_the_clock_alone_does_not_steer() {
        let (_root, tree) = tree(&[
            ("proc/7/comm", "driftless\n"),
            ("proc/7/cmdline", "driftless\0run\0--observe\0"),
            ("proc/8/comm", "driftless\n"),
            ("proc/8/cmdline", "driftless\0serve\0"),
            ("proc/9/comm", "chronyd\n"),
            ("proc/9/cmdline", "/usr/sbin/chronyd\0-x\0-d\0"),
            ("proc/10/comm", "ntpd\n"),
            ("proc/10/cmdline", "ntpd\0-g\0"),
            ("proc/10/status", "Uid:\t0\t0\n"),
            ("proc/11/comm", "driftless\n"),
            ("proc/11/cmdline", "driftless\0run\0"),
            ("proc/11/environ", "A=1\0DRIFTLESS_OBSERVE=1\0"),
        ]);
        let all = running(&tree, 1);
        let steering: Vec<_> = all.iter().filter(|program| program.steers()).map(Running::words).collect();
        assert_eq!(steering, ["ntpd (process 10)"]);
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn every_program_that_the_daemon_knows_has_its_manner() {
        for name in ["hv_utils", "qemu-ga"] {
            assert_eq!(manner_of(name), Manner::Obeys);
        }
        assert_eq!(manner_of("ptp4l"), Manner::Nothing, "it keeps the card's clock, not this one");
    }
}
