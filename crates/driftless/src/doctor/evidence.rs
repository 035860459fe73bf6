//! What the findings are judged by: the files of a system, and what a running one tells besides. Nothing is set in gathering it.

use std::path::{Path, PathBuf};

use driftless_core::clock::{Clock as _, ClockCommand, ClockState};
use driftless_core::source::{LookError, Reading, SourceConfig};
use driftless_core::time::{Seconds, Span, WallTime};
use driftless_daemon::config::{Config, Flags, Origin};
use driftless_daemon::control::{self, Request};
use driftless_daemon::tree::Tree;
use driftless_linux::clock::{self, ObservedClock};
use driftless_linux::phc::Phc;
use driftless_linux::phc_list::{self, PhcInfo};
use driftless_linux::rtc::{self, Rtc};
use driftless_linux::vmclock::{self, VmClock};
use driftless_linux::{kmsg, processor};
use serde_json::Value;

use super::answers::{self, Answer};
use super::place::Place;
use super::programs::{self, Running};

/// Everything that findings are judged by.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) tree: Tree,
    pub(crate) place: Place,
    /// None where the tree is an image's, not a running system's.
    pub(crate) live: Option<Live>,
}

/// What only a running system tells.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) now: WallTime,
    /// The kernel's tick, frequency and status.
    pub(crate) clock: Option<ClockState>,
    /// What an `adjtime` still has to slide in.
    pub(crate) sliding: Span,
    /// What the kernel said of its clocks; None where its log may not be read.
    pub(crate) log: Option<Vec<String>>,
    /// Programs that run here and have to do with the clock.
    pub(crate) programs: Vec<Running>,
    /// What the running driftless says of itself, where its socket is; or that it does not answer.
    pub(crate) daemon: Option<Result<Value, String>>,
    /// What driftless is to ask, and where that is said.
    pub(crate) sources: (Vec<String>, Origin),
    /// What they answered.
    pub(crate) answers: Vec<Answer>,
    /// The PTP clocks, and what a look at each gave.
    pub(crate) phcs: Vec<(PhcInfo, Result<Reading, LookError>)>,
    /// The same of the vmclock page.
    pub(crate) vmclock: Result<Reading, LookError>,
    /// The real-time clock − the system's, to a second.
    pub(crate) rtc: Result<Seconds, LookError>,
    /// How long this machine has slept, as far as its kernel knows.
    pub(crate) slept: Option<Span>,
    /// Whether the environment forbids everything to set the clock.
    pub(crate) is_observing: bool,
}

/// The words of kernel log lines that have to do with clocks.
const LOGGED: [&str; 9] = [
    "tsc",
    "TSC",
    "clocksource",
    "kvm-clock",
    "Hypervisor detected",
    "rtc",
    "soft lockup",
    "self-detected stall",
    "hrtimer: interrupt took",
];

impl Evidence {
    /// Of this machine. Asks what driftless would ask, and `more`.
    pub(crate) fn of_this_machine(more: &[SourceConfig]) -> Self {
        let tree = Tree::new("/");
        let log = kmsg::kernel_lines(|line| LOGGED.iter().any(|word| line.contains(word))).ok();
        let place = Place::of(&tree, log.as_deref(), processor::hypervisor().as_deref());
        let live = Some(Live::gather(&tree, log, more));
        Self { tree, place, live }
    }

    /// Of a system that does not run.
    pub(crate) fn of_image(root: &Path) -> Self {
        Self { tree: Tree::new(root), place: Place::default(), live: None }
    }
}

impl Live {
    fn gather(tree: &Tree, log: Option<Vec<String>>, more: &[SourceConfig]) -> Self {
        let mut own = ObservedClock;
        // A configuration that cannot be used is told by `driftless config check`, and by the daemon itself.
        let config = Config::load(&Flags::default()).ok();
        let control = config.as_ref().map_or_else(
            || PathBuf::from(driftless_daemon::config::DEFAULT_CONTROL),
            |config| config.control.value.clone(),
        );
        let configs = config.as_ref().and_then(|config| config.source_configs().ok()).unwrap_or_default();
        let sources = config.map(|config| (config.sources.value, config.sources.origin));
        let asked: Vec<SourceConfig> = configs.into_iter().filter(answers::is_near).collect();
        let phcs = phc_list::list(Path::new(phc_list::LIST));
        Self {
            clock: own.apply(ClockCommand::Read).ok(),
            sliding: clock::sliding().unwrap_or(Span::ZERO),
            log,
            programs: programs::running(tree, std::process::id()),
            daemon: control
                .exists()
                .then(|| control::ask(&control, Request::Status).map_err(|error| error.to_string())),
            sources: sources.unwrap_or((Vec::new(), Origin::Default)),
            answers: answers::ask(asked.iter().chain(more)),
            phcs: phcs.into_iter().map(|info| (info.clone(), look(info))).collect(),
            vmclock: VmClock::open(Path::new(vmclock::DEVICE)).and_then(|clock| clock.look()),
            rtc: Rtc::open(Path::new(rtc::DEVICE)).and_then(|rtc| {
                let seconds = WallTime::from_parts(rtc.read()?, 0);
                // Half of the second that has begun is gone, give or take the other half.
                Ok(Seconds::from(seconds - own.now().wall) + Seconds(0.5))
            }),
            slept: clock::slept(),
            is_observing: clock::is_observing(),
            now: own.now().wall,
        }
    }
}

fn look(info: PhcInfo) -> Result<Reading, LookError> {
    Phc::open(info).and_then(|mut phc| phc.look())
}

#[cfg(test)]
pub(crate) mod planted {
    //! Systems as the tests want them.

    use super::*;
    use driftless_core::clock::Rate;
    use std::fs;

    /// A tree with these files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let tree = Tree::new(root.path());
        (root, tree)
    }

    impl Live {
        /// A machine on which all is well and nothing is special.
        pub(crate) fn healthy() -> Self {
            let state = ClockState {
                rate: Rate::NOMINAL,
                synchronised: true,
                max_error: Seconds(1e-3),
                est_error: Seconds(1e-4),
                tai: 37,
                pending: Span::ZERO,
            };
            Self {
                now: WallTime::from_parts(1_795_000_000, 0),
                clock: Some(state),
                sliding: Span::ZERO,
                log: Some(Vec::new()),
                programs: vec![Running::planted("driftless", 7)],
                daemon: Some(Ok(serde_json::json!({"state": "synchronised"}))),
                sources: (vec!["ntp:192.0.2.1".to_owned()], Origin::File),
                answers: vec![Answer::planted("ntp:192.0.2.1", 1e-5)],
                phcs: Vec::new(),
                vmclock: Err(LookError::Missing),
                rtc: Ok(Seconds(0.2)),
                slept: Some(Span::ZERO),
                is_observing: false,
            }
        }
    }

    /// A running machine with these files.
    pub(crate) fn machine(files: &[(&str, &str)], live: Live) -> (tempfile::TempDir, Evidence) {
        let (root, tree) = tree(files);
        let place = Place::of(&tree, live.log.as_deref(), None);
        (root, Evidence { tree, place, live: Some(live) })
    }

    /// The ids of what a family finds.
    pub(crate) fn ids(found: &[super::super::finding::Finding]) -> Vec<&'static str> {
        found.iter().map(|finding| finding.kind.id).collect()
    }
}
