//! How a kernel was configured: `/proc/config.gz` of the running one, `/boot/config-RELEASE` of any.

use std::collections::BTreeMap;
use std::io::Read as _;

use driftless_daemon::tree::Tree;
use flate2::read::GzDecoder;

use super::evidence::Evidence;
use super::finding::{Finding, Kind, Severity};

pub(super) static KINDS: [&Kind; 2] = [&UNKNOWN, &MISSING];

static UNKNOWN: Kind = Kind {
    id: "kernel-config-unknown",
    severity: Severity::Note,
    title: "the kernel's configuration is not known",
    consequence: "whether a missing clock was left out of the kernel or refused by the host cannot be told",
    cure: "build it with CONFIG_IKCONFIG_PROC=y, or leave its configuration in /boot",
};
static MISSING: Kind = Kind {
    id: "kernel-option-missing",
    severity: Severity::Note,
    title: "the kernel was built without options that give it a clock",
    consequence: "the hypervisor's clock, the real-time clock or the host's socket is not there in this guest, whatever the host offers",
    cure: "build the kernel with them, or take one that has them; NTP over the network needs none",
};

/// A kernel's options that are set, as `PTP_1588_CLOCK` → `y` or `m`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KernelConfig {
    /// Where it was found.
    pub(super) from: String,
    options: BTreeMap<String, String>,
}

/// A configuration is never longer.
const CONFIG_MAX: u64 = 4 << 20;
/// What a guest of a hypervisor wants, and what it gives.
const WANTED: [(&str, &[&str], &str); 7] = [
    ("PTP_1588_CLOCK", &[], "PTP clocks at all"),
    ("PTP_1588_CLOCK_KVM", &["kvm", "firecracker", "google"], "the host's clock under KVM"),
    ("HYPERV_UTILS", &["microsoft"], "the host's clock under Hyper-V"),
    ("PTP_1588_CLOCK_VMW", &["vmware"], "VMware's precision clock"),
    ("RTC_CLASS", &[], "real-time clocks"),
    ("RTC_HCTOSYS", &[], "a boot that starts from the real-time clock"),
    ("VSOCKETS", &["kvm", "firecracker", "microsoft", "vmware"], "sockets to the host without a network"),
];

impl KernelConfig {
    /// The configuration of the kernel of that release; the running one's own word first.
    pub(super) fn of(tree: &Tree, release: &str) -> Option<Self> {
        let mut running = String::new();
        if let Some(packed) = tree.octets("proc/config.gz") {
            if GzDecoder::new(packed.as_slice()).take(CONFIG_MAX).read_to_string(&mut running).is_ok() {
                return Some(Self::parse(&running, "/proc/config.gz".to_owned()));
            }
        }
        let places = ["boot/config-", "usr/lib/modules/", "lib/modules/"];
        let files = places.map(|start| {
            if start.ends_with('-') {
                format!("{start}{release}")
            } else {
                format!("{start}{release}/config")
            }
        });
        files.into_iter().find_map(|path| Some(Self::parse(&tree.text(&path)?, format!("/{path}"))))
    }

    fn parse(text: &str, from: String) -> Self {
        let option = |line: &str| {
            let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        Self { from, options: text.lines().filter_map(option).collect() }
    }

    /// `y`, `m`, another value, or nothing.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    // An image's kernels are told by its table.
    if evidence.live.is_none() || evidence.place.container().is_some() {
        return Vec::new();
    }
    let release = evidence.tree.line("proc/sys/kernel/osrelease");
    let Some(config) = KernelConfig::of(&evidence.tree, &release) else {
        return vec![UNKNOWN.seen(format!("neither /proc/config.gz nor /boot/config-{release}"))];
    };
    let here = evidence.place.hypervisor.as_ref().map_or("", |(called, _)| *called);
    let is_wanted = |at: &[&str]| at.is_empty() || at.contains(&here);
    let missing: Vec<String> = WANTED
        .iter()
        .filter(|(option, at, _)| is_wanted(at) && config.option(option).is_none())
        .map(|(option, _, gives)| format!("CONFIG_{option} ({gives})"))
        .collect();
    if missing.is_empty() {
        Vec::new()
    } else {
        vec![MISSING.seen(format!("{} lacks {}", config.from, missing.join(", ")))]
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Live;
    use super::super::evidence::planted::tree;
    use super::super::evidence::planted::{ids, machine};
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    const RELEASE: (&str, &str) = ("proc/sys/kernel/osrelease", "6.1.0-cloud\n");

    #[test]
    fn options_are_read_from_the_running_kernel_before_the_file() {
        let (root, tree) = tree(&[("boot/config-6.1", "CONFIG_RTC_CLASS=y\n# CONFIG_VSOCKETS is not set\n")]);
        let config = KernelConfig::of(&tree, "6.1").unwrap();
        assert_eq!((config.option("RTC_CLASS"), config.option("VSOCKETS")), (Some("y"), None));
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"CONFIG_PTP_1588_CLOCK=m\n").unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/config.gz"), packed.finish().unwrap()).unwrap();
        let config = KernelConfig::of(&tree, "6.1").unwrap();
        assert_eq!((config.option("PTP_1588_CLOCK"), config.from.as_str()), (Some("m"), "/proc/config.gz"));
        assert_eq!(KernelConfig::of(&super::super::evidence::planted::tree(&[]).1, "6.1"), None);
    }

    #[test]
    fn what_this_hypervisors_guests_want_is_missed_and_nothing_else() {
        let config = "CONFIG_PTP_1588_CLOCK=y\nCONFIG_RTC_CLASS=y\nCONFIG_RTC_HCTOSYS=y\n";
        let files = [RELEASE, ("boot/config-6.1.0-cloud", config)];
        assert_eq!(ids(&find(&machine(&files, Live::healthy()).1)), [""; 0]);
        let files =
            [RELEASE, ("boot/config-6.1.0-cloud", config), ("sys/class/dmi/id/sys_vendor", "VMware, Inc.\n")];
        let found = find(&machine(&files, Live::healthy()).1);
        assert!(
            found[0].evidence.contains("PTP_1588_CLOCK_VMW") && !found[0].evidence.contains("KVM"),
            "{found:?}"
        );
        assert_eq!(ids(&find(&machine(&[RELEASE], Live::healthy()).1)), ["kernel-config-unknown"]);
    }
}
