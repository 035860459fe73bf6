//! The clocks that are devices: whether the hypervisor's is there, may be opened, and runs like a clock; and if it is not there, why.

use std::os::unix::fs::MetadataExt as _;

use driftless_core::source::LookError;
use driftless_linux::phc_list::PhcKind;
use driftless_linux::{rtc, vmclock};

use super::capability::is_root;
use super::evidence::{Evidence, Live};
use super::finding::{Finding, Kind, Severity};
use super::kernel_config::KernelConfig;
use super::programs::{Running, field};

pub(super) static KINDS: [&Kind; 5] = [&ABSENT, &NODE, &PERMISSION, &IMPLAUSIBLE, &CARD];

static ABSENT: Kind = Kind {
    id: "hypervisor-clock-absent",
    severity: Severity::Note,
    title: "this guest has no hypervisor's clock",
    consequence: "its time comes over the network, good to tens or hundreds of microseconds, and a pause is seen later",
    cure: "KVM: the host's clock source must be tsc (driftless doctor --host there), and modprobe ptp_kvm here; Hyper-V: hv_utils; VMware: add a precision clock; else an NTP server on the host",
};
static NODE: Kind = Kind {
    id: "device-node-missing",
    severity: Severity::Warning,
    title: "the kernel has a clock that has no device node here",
    consequence: "nobody in here can read it",
    cure: "container: --device /dev/NAME; a system without udev or devtmpfs: mknod with the numbers in /sys/class/…/dev",
};
static PERMISSION: Kind = Kind {
    id: "device-not-permitted",
    severity: Severity::Warning,
    title: "a clock may not be opened by who should read it",
    consequence: "the best source that this machine has is not used",
    cure: "a udev rule that gives the device to the daemon's group (MODE=\"0640\", GROUP=…); in a container, the device's control group; else SELinux or AppArmor",
};
static IMPLAUSIBLE: Kind = Kind {
    id: "device-implausible",
    severity: Severity::Warning,
    title: "a PTP clock does not run like a clock",
    consequence: "whoever follows it is led astray; driftless refuses it",
    cure: "leave it out of every configuration; it is emulated wrongly (QEMU's e1000e is), or broken",
};
static CARD: Kind = Kind {
    id: "card-clock-unset",
    severity: Severity::Note,
    title: "a network card has a PTP clock that nobody is known to set",
    consequence: "it counts from whenever its driver was loaded: no time of day comes from it",
    cure: "nothing; ptp4l sets it where the network speaks PTP, and phc:DEVICE?scale=tai then makes it a source",
};

/// Where the kernel lists its clocks, how their names begin.
const LISTS: [(&str, &str); 3] =
    [("sys/class/ptp", "ptp"), ("sys/class/rtc", "rtc"), ("sys/class/misc", "vmclock")];

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let Some(live) = &evidence.live else { return Vec::new() };
    let mut found = Vec::new();
    let listed = listed(evidence);
    let missing: Vec<&str> =
        listed.iter().map(String::as_str).filter(|device| !evidence.tree.exists(device)).collect();
    if !missing.is_empty() {
        found.push(NODE.seen(format!("/sys lists {}, which are not there", missing.join(", "))));
    }
    found.extend(refused(evidence, live));
    found.extend(shut_out(evidence, live, &listed));
    for (info, look) in &live.phcs {
        match look {
            Err(error @ (LookError::Frozen | LookError::WrongRate)) => {
                found.push(IMPLAUSIBLE.seen(format!("{} ({}): {error}", info.path.display(), info.name)));
            }
            Ok(_) if info.kind == PhcKind::Other => {
                found.push(CARD.seen(format!("{} ({})", info.path.display(), info.name)));
            }
            _ => {}
        }
    }
    let has_clock = live.vmclock.is_ok() || live.phcs.iter().any(|(info, _)| info.kind.is_trusted());
    if evidence.place.hypervisor.is_some() && evidence.place.container().is_none() && !has_clock {
        found.push(ABSENT.seen(why_absent(evidence, live)));
    }
    found
}

/// The devices that there should be, as `dev/ptp0`.
fn listed(evidence: &Evidence) -> Vec<String> {
    let in_list = |(folder, start): &(&str, &str)| {
        let names = evidence.tree.names(folder).into_iter();
        names.filter(|name| name.starts_with(start)).map(|name| format!("dev/{name}")).collect::<Vec<_>>()
    };
    LISTS.iter().flat_map(in_list).collect()
}

/// Root itself was refused.
fn refused(evidence: &Evidence, live: &Live) -> Option<Finding> {
    if !is_root(&evidence.tree.text("proc/self/status").unwrap_or_default()) {
        return None;
    }
    let phcs = live.phcs.iter().map(|(info, look)| (info.path.display().to_string(), look.as_ref().err()));
    let others = [
        (vmclock::DEVICE.to_owned(), live.vmclock.as_ref().err()),
        (rtc::DEVICE.to_owned(), live.rtc.as_ref().err()),
    ];
    let refused: Vec<String> = phcs
        .chain(others)
        .filter(|(_, error)| *error == Some(&LookError::Permission))
        .map(|(name, _)| name)
        .collect();
    (!refused.is_empty()).then(|| PERMISSION.seen(format!("root may not open {}", refused.join(", "))))
}

/// A daemon that runs as a user of its own, and what its user may not read.
fn shut_out(evidence: &Evidence, live: &Live, devices: &[String]) -> Option<Finding> {
    let daemon = live.programs.iter().find(|program| program.name == "driftless" && program.steers())?;
    let (user, groups) = user_of(daemon)?;
    let may_not = |device: &&String| {
        let Some(about) = evidence.tree.resolve(device).and_then(|path| path.metadata().ok()) else {
            return false;
        };
        let right = if about.uid() == user {
            0o400
        } else if groups.contains(&about.gid()) {
            0o040
        } else {
            0o004
        };
        about.mode() & right == 0
    };
    let closed: Vec<String> = devices.iter().filter(may_not).map(|device| format!("/{device}")).collect();
    (!closed.is_empty()).then(|| {
        PERMISSION.seen(format!(
            "{} runs as user {user}, who may not read {}",
            daemon.words(),
            closed.join(", ")
        ))
    })
}

/// `CAP_DAC_OVERRIDE`: permissions are no matter.
const OVERRIDE: u64 = 1 << 1;

/// User and groups of a process that permissions hold for.
fn user_of(program: &Running) -> Option<(u32, Vec<u32>)> {
    let numbers = |name: &str| -> Vec<u32> {
        program
            .field(name)
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let effective = u64::from_str_radix(program.field("CapEff")?, 16).ok()?;
    let user = *numbers("Uid").get(1)?;
    let groups = numbers("Gid").get(1).copied().into_iter().chain(numbers("Groups")).collect();
    (effective & OVERRIDE == 0 && user != 0).then_some((user, groups))
}

/// Not built, not loaded, or refused by the host (`drivers/ptp/ptp_kvm_common.c`).
fn why_absent(evidence: &Evidence, live: &Live) -> String {
    let here = evidence.place.hypervisor.as_ref().map_or("", |(called, _)| *called);
    let page = match live.vmclock {
        Err(LookError::NoTime) => "; /dev/vmclock0 marks interruptions, but gives no time",
        _ => "",
    };
    let (option, module) = match here {
        "microsoft" => ("HYPERV_UTILS", "hv_utils"),
        "vmware" => ("PTP_1588_CLOCK_VMW", "ptp_vmw"),
        _ if evidence.place.is_kvm() => ("PTP_1588_CLOCK_KVM", "ptp_kvm"),
        _ => return format!("no PTP clock of a hypervisor, and none is known that {here} would offer{page}"),
    };
    let release = evidence.tree.line("proc/sys/kernel/osrelease");
    let built =
        KernelConfig::of(&evidence.tree, &release).map(|config| config.option(option).map(str::to_owned));
    let is_loaded = evidence.tree.exists(&format!("sys/module/{module}"));
    let why = match built {
        Some(None) => format!("the kernel was built without CONFIG_{option}"),
        _ if is_loaded => format!("{module} is loaded, but the host refuses it"),
        Some(Some(built)) if built == "y" => format!("{module} is built in, but the host refuses it"),
        _ => format!("the module {module} is not loaded"),
    };
    format!("{why}{page}")
}

/// What the kernel calls an effective user, for the tests of others too.
pub(super) fn effective_user(status: &str) -> Option<u32> {
    field(status, "Uid")?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::{ids, machine};
    use super::*;
    use driftless_linux::phc_list::PhcInfo;

    const KVM: (&str, &str) = ("sys/class/dmi/id/sys_vendor", "KVM\n");

    fn card(error: LookError) -> Live {
        Live { phcs: vec![(PhcInfo::unlisted("/dev/ptp0".into()), Err(error))], ..Live::healthy() }
    }

    #[test]
    fn a_clock_that_is_none_is_told() {
        let found = |live| ids(&find(&machine(&[], live).1));
        assert_eq!(found(card(LookError::Frozen)), ["device-implausible"]);
        assert_eq!(found(card(LookError::WrongRate)), ["device-implausible"]);
        assert_eq!(found(Live::healthy()), [""; 0]);
    }

    #[test]
    fn a_node_that_the_kernel_lists_and_nobody_made_is_missed() {
        let files = [
            ("sys/class/ptp/ptp0/clock_name", "igb\n"),
            ("sys/class/rtc/rtc0/name", "cmos\n"),
            ("dev/rtc0", ""),
        ];
        let found = find(&machine(&files, Live::healthy()).1);
        assert_eq!(ids(&found), ["device-node-missing"]);
        assert!(found[0].evidence.contains("dev/ptp0") && !found[0].evidence.contains("rtc0"));
    }

    #[test]
    fn a_device_closed_to_root_or_to_the_daemons_user_is_told() {
        let root = [("proc/self/status", "Uid:\t0\t0\t0\t0\n")];
        assert_eq!(ids(&find(&machine(&root, card(LookError::Permission)).1)), ["device-not-permitted"]);
        let somebody = [("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\n")];
        assert_eq!(ids(&find(&machine(&somebody, card(LookError::Permission)).1)), [""; 0]);
        let status =
            "Uid:\t1\t65533\t1\t1\nGid:\t65533\t65533\nGroups:\t\nCapEff:\t0000000002000000\n".to_owned();
        let daemon = Running { status, ..Running::planted("driftless", 7) };
        let (root, evidence) = machine(
            &[("sys/class/rtc/rtc0/name", ""), ("dev/rtc0", "")],
            Live { programs: vec![daemon], ..Live::healthy() },
        );
        let mode = |mode| {
            std::fs::set_permissions(
                root.path().join("dev/rtc0"),
                std::os::unix::fs::PermissionsExt::from_mode(mode),
            )
            .unwrap();
        };
        mode(0o660);
        assert_eq!(ids(&find(&evidence)), ["device-not-permitted"]);
        mode(0o664);
        assert_eq!(ids(&find(&evidence)), [""; 0]);
    }

    #[test]
    fn why_the_hypervisors_clock_is_absent_is_walked_through() {
        let why = |files: &[(&str, &str)]| {
            let release = [KVM, ("proc/sys/kernel/osrelease", "6.1\n")];
            find(&machine(&[&release, files].concat(), Live::healthy()).1).remove(0).evidence
        };
        assert_eq!(why(&[]), "the module ptp_kvm is not loaded");
        assert_eq!(
            why(&[("boot/config-6.1", "CONFIG_X=y\n")]),
            "the kernel was built without CONFIG_PTP_1588_CLOCK_KVM"
        );
        assert_eq!(
            why(&[("boot/config-6.1", "CONFIG_PTP_1588_CLOCK_KVM=y\n")]),
            "ptp_kvm is built in, but the host refuses it"
        );
        assert_eq!(why(&[("sys/module/ptp_kvm/x", "")]), "ptp_kvm is loaded, but the host refuses it");
    }
}
