//! Where this system runs: in a container, in a virtual machine and whose, or on hardware.
//!
//! Told as `systemd-detect-virt(1)` tells it: a hypervisor by the processor's leaf 0x40000000, by the firmware's tables (DMI, ACPI), by `/sys/hypervisor`, by the
//! clock sources that only it has, and by what the kernel said at boot; a container by the marks that its runtime leaves.

use driftless_daemon::tree::Tree;

use super::evidence::Evidence;
use super::finding::{Finding, Kind, Severity};

/// Where a system runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The container's runtime as systemd takes it to be, and what gave it away.
    pub(crate) container: Option<(&'static str, String)>,
    /// The kernel's own threads are in sight: whatever the marks say, this system has its kernel to itself.
    pub(crate) has_own_kernel: bool,
    /// The hypervisor as systemd calls it, and what gave it away.
    pub(crate) hypervisor: Option<(&'static str, String)>,
    /// Whose machine it is, as far as the firmware says: vendor and product.
    pub(crate) product: String,
}

pub(super) static KINDS: [&Kind; 3] = [&CONTAINER, &MARKED, &MACHINE];

static CONTAINER: Kind = Kind {
    id: "in-container",
    severity: Severity::Note,
    title: "this is a container",
    consequence: "its clock is its host's: whoever keeps that one keeps this one, and setting it here sets it for all",
    cure: "keep the clock on the host, or in one container that has CAP_SYS_TIME and the devices (--cap-add SYS_TIME --device /dev/ptp0)",
};
static MARKED: Kind = Kind {
    id: "taken-for-container",
    severity: Severity::Note,
    title: "this system bears a container's marks, but has a kernel to itself",
    consequence: "it was made from a container's image; systemd takes it for a container, and skips what has ConditionVirtualization=!container, as time clients have",
    cure: "remove the mark from the image that the machine is made of",
};
static MACHINE: Kind = Kind {
    id: "in-virtual-machine",
    severity: Severity::Note,
    title: "this is a virtual machine",
    consequence: "its counter's rate is measured anew at each boot and may be off by hundreds of ppm, and its clock stands still while it is paused",
    cure: "nothing to be done but to keep its clock: driftless run",
};

/// What the processor says of the hypervisor, and systemd's name for it.
const SIGNATURES: [(&str, &str); 10] = [
    ("KVMKVMKVM", "kvm"),
    ("Linux KVM Hv", "kvm"),
    ("TCGTCGTCGTCG", "qemu"),
    ("Microsoft Hv", "microsoft"),
    ("VMwareVMware", "vmware"),
    ("XenVMMXenVMM", "xen"),
    ("VBoxVBoxVBox", "oracle"),
    ("bhyve bhyve ", "bhyve"),
    ("ACRNACRNACRN", "acrn"),
    (" lrpepyh  vr", "parallels"),
];
/// How the firmware's vendor or product begins, and the hypervisor.
const PRODUCTS: [(&str, &str); 13] = [
    ("Amazon EC2", "amazon"),
    ("Google", "google"),
    ("QEMU", "qemu"),
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("Cloud Hypervisor", "kvm"),
    ("VMware", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Parallels", "parallels"),
    ("Apple Virtualization", "apple"),
    ("Virtual Machine", "microsoft"),
];
/// Clock sources that only one hypervisor's guests have.
const CLOCKSOURCES: [(&str, &str); 3] =
    [("kvm-clock", "kvm"), ("hyperv_clocksource", "microsoft"), ("xen", "xen")];
/// The firmware's tables of a machine: `sys_vendor` and `product_name` say most.
const DMI: &str = "sys/class/dmi/id";
/// Files that a container's runtime leaves, and its name.
const MARKS: [(&str, &str); 3] =
    [(".dockerenv", "docker"), ("run/.containerenv", "podman"), ("run/host/container-manager", "container")];
/// Words in the name of a container's control group.
const GROUPS: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("kubepods", "kubernetes"),
    ("libpod", "podman"),
    ("lxc.payload", "lxc"),
    ("containerd", "containerd"),
    ("machine.slice", "systemd-nspawn"),
];

impl Place {
    /// From the files of a running system, what its kernel said of its clocks, and what the processor says.
    pub(crate) fn of(tree: &Tree, log: Option<&[String]>, signature: Option<&str>) -> Self {
        let dmi = |name: &str| tree.line(&format!("{DMI}/{name}"));
        let product = [dmi("sys_vendor"), dmi("product_name")].join(" ").trim().to_owned();
        Self {
            container: container(tree),
            has_own_kernel: tree.line("proc/2/comm") == "kthreadd",
            hypervisor: hypervisor(tree, log, signature),
            product,
        }
    }

    /// The container that this really is.
    pub(crate) fn container(&self) -> Option<&(&'static str, String)> {
        self.container.as_ref().filter(|_| !self.has_own_kernel)
    }

    /// Whether it is a virtual machine of that kind, Firecracker's and others' KVM included.
    pub(crate) fn is_kvm(&self) -> bool {
        matches!(self.hypervisor, Some(("kvm" | "amazon" | "google" | "firecracker", _)))
    }
}

fn hypervisor(
    tree: &Tree,
    log: Option<&[String]>,
    signature: Option<&str>,
) -> Option<(&'static str, String)> {
    let known = signature.and_then(|told| {
        Some((told, SIGNATURES.iter().find(|(mark, _)| told.starts_with(mark.trim_end_matches('\0')))?.1))
    });
    for name in ["sys_vendor", "product_name", "bios_vendor"] {
        let said = tree.line(&format!("{DMI}/{name}"));
        // Microsoft is no hypervisor's name alone: it sells hardware, too.
        let found = PRODUCTS.iter().find(|(start, _)| said.starts_with(start));
        if let Some((_, called)) = found {
            // A QEMU under KVM says QEMU in its firmware, and KVM by its processor.
            let called = match known {
                Some((_, by_processor)) if *called == "qemu" || *called == "microsoft" => by_processor,
                _ => called,
            };
            return Some((called, format!("the firmware says {said:?}")));
        }
    }
    // A table's header: signature, length, revision, checksum, then six octets of who made it (ACPI 5.2.6).
    let maker = tree.octets("sys/firmware/acpi/tables/FACP").unwrap_or_default();
    if maker.get(10..16).is_some_and(|maker| maker.starts_with(b"FIRECK")) {
        return Some(("firecracker", "the ACPI tables say FIRECK".to_owned()));
    }
    if let Some((told, called)) = known {
        return Some((called, format!("the processor says {:?}", told.trim())));
    }
    let kind = tree.line("sys/hypervisor/type");
    if kind == "xen" {
        return Some(("xen", "/sys/hypervisor/type says xen".to_owned()));
    }
    let listed = tree.line("sys/devices/system/clocksource/clocksource0/available_clocksource");
    if let Some((source, called)) = CLOCKSOURCES.iter().find(|(source, _)| listed.contains(source)) {
        return Some((called, format!("the kernel has the clock source {source}")));
    }
    if let Some(line) = log.into_iter().flatten().find(|line| line.contains("Hypervisor detected")) {
        return Some(("unknown", format!("the kernel said {line:?}")));
    }
    let flags = tree.text("proc/cpuinfo").unwrap_or_default();
    let is_guest = flags
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor"));
    is_guest.then(|| ("unknown", "the processor has the flag hypervisor".to_owned()))
}

fn container(tree: &Tree) -> Option<(&'static str, String)> {
    if tree.line("proc/sys/kernel/osrelease").to_lowercase().contains("microsoft") {
        return Some(("wsl", "the kernel's name holds \"microsoft\"".to_owned()));
    }
    if let Some((file, runtime)) = MARKS.iter().find(|(file, _)| tree.exists(file)) {
        return Some((runtime, format!("there is /{file}")));
    }
    let environment = tree.text("proc/1/environ").unwrap_or_default();
    if environment.split('\0').any(|word| word.starts_with("container=")) {
        return Some(("container", "the first process has container= in its environment".to_owned()));
    }
    let groups = tree.text("proc/1/cgroup").unwrap_or_default();
    let (word, runtime) = GROUPS.iter().find(|(word, _)| groups.contains(word))?;
    Some((runtime, format!("the first process is in a control group of {word}")))
}

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let Place { container, hypervisor, product, has_own_kernel } = &evidence.place;
    let kind = if *has_own_kernel { &MARKED } else { &CONTAINER };
    let container = container.as_ref().map(|(runtime, why)| kind.seen(format!("{runtime}: {why}")));
    let machine = hypervisor.as_ref().map(|(called, why)| {
        let product = if product.is_empty() { String::new() } else { format!(" ({product})") };
        MACHINE.seen(format!("{called}{product}: {why}"))
    });
    container.into_iter().chain(machine).collect()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::tree;
    use super::*;

    fn hypervisor_of(files: &[(&str, &str)], signature: Option<&str>) -> Option<&'static str> {
        Place::of(&tree(files).1, None, signature).hypervisor.map(|(called, _)| called)
    }

    #[test]
    fn hypervisors_are_told_by_processor_firmware_and_clock_sources() {
        const VENDOR: &str = "sys/class/dmi/id/sys_vendor";
        const PRODUCT: &str = "sys/class/dmi/id/product_name";
        const SOURCES: &str = "sys/devices/system/clocksource/clocksource0/available_clocksource";
        for (called, files, signature) in [
            ("kvm", &[(VENDOR, "QEMU\n")][..], Some("KVMKVMKVM\0\0\0")),
            ("qemu", &[(VENDOR, "QEMU\n")], Some("TCGTCGTCGTCG")),
            ("amazon", &[(VENDOR, "Amazon EC2\n")], Some("KVMKVMKVM")),
            (
                "microsoft",
                &[(VENDOR, "Microsoft Corporation\n"), (PRODUCT, "Virtual Machine\n")],
                Some("Microsoft Hv"),
            ),
            ("oracle", &[(VENDOR, "innotek GmbH\n")], None),
            (
                "firecracker",
                &[("sys/firmware/acpi/tables/FACP", "FACP....\u{1}\u{2}FIRECKFCVMFADT")],
                Some("KVMKVMKVM"),
            ),
            ("xen", &[("sys/hypervisor/type", "xen\n")], None),
            ("kvm", &[(SOURCES, "tsc kvm-clock \n")], None),
            ("unknown", &[("proc/cpuinfo", "flags\t\t: fpu hypervisor lahf_lm\n")], None),
        ] {
            assert_eq!(hypervisor_of(files, signature), Some(called), "{files:?}");
        }
        let laptop =
            [(VENDOR, "Microsoft Corporation\n"), (PRODUCT, "Surface\n"), ("proc/cpuinfo", "flags : fpu\n")];
        assert_eq!(hypervisor_of(&laptop, None), None);
    }

    #[test]
    fn containers_are_told_by_what_their_runtime_leaves() {
        let container = |files: &[(&str, &str)]| container(&tree(files).1).map(|(runtime, _)| runtime);
        assert_eq!(container(&[(".dockerenv", "")]), Some("docker"));
        assert_eq!(container(&[("run/.containerenv", "")]), Some("podman"));
        assert_eq!(
            container(&[("proc/sys/kernel/osrelease", "5.15.90.1-microsoft-standard-WSL2\n")]),
            Some("wsl")
        );
        assert_eq!(container(&[("proc/1/environ", "PATH=/bin\0container=lxc\0")]), Some("container"));
        assert_eq!(container(&[("proc/1/cgroup", "0::/kubepods/pod1/abc\n")]), Some("kubernetes"));
        assert_eq!(container(&[("proc/1/cgroup", "0::/init.scope\n")]), None);
    }
}
