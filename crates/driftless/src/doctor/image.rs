//! An image that does not run: which methods of keeping time it could use on which platform, judged by its kernel, its modules and its programs.
//!
//! What a platform offers is known beforehand ([`OFFERS`]); whether the image can take it follows from its kernel's options and modules. What the host's
//! settings allow cannot be seen from an image, and is said as a condition.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use driftless_daemon::tree::Tree;
use serde_json::{Value, json};

use super::finding::{Finding, Kind, Severity};
use super::kernel_config::KernelConfig;
use super::programs::{Manner, PROGRAMS};
use super::units;

pub(super) static KINDS: [&Kind; 3] = [&NO_KERNEL, &NO_CLIENT, &NOT_ENABLED];

static NO_KERNEL: Kind = Kind {
    id: "image-without-kernel",
    severity: Severity::Note,
    title: "the image has no kernel of its own",
    consequence: "which clocks it finds is up to the kernel that it is booted with; a container has its host's",
    cure: "inspect that kernel's configuration: its config file in the image's /boot is enough",
};
static NO_CLIENT: Kind = Kind {
    id: "image-keeps-no-time",
    severity: Severity::Warning,
    title: "the image has no program that keeps the time",
    consequence: "a virtual machine made of it drifts from its first minute, and stays behind after each pause",
    cure: "put driftless into it, and start it at boot",
};
static NOT_ENABLED: Kind = Kind {
    id: "image-client-not-enabled",
    severity: Severity::Warning,
    title: "the image has a program that keeps the time, and systemd does not start it",
    consequence: "a virtual machine made of it drifts from its first minute",
    cure: "systemctl --root=DIR enable UNIT",
};

/// What a platform offers, and what a kernel needs to take it.
#[derive(Debug)]
struct Offer {
    method: &'static str,
    platform: &'static str,
    option: &'static str,
    module: &'static str,
    /// Whether the kernel loads the module by itself when it sees the device.
    loads_itself: bool,
    /// The first release whose own driver has the clock: before that the driver is there without it.
    since: [u64; 2],
    /// What must be so on the host's side.
    provided: &'static str,
}

const fn offer(
    method: &'static str,
    platform: &'static str,
    option: &'static str,
    module: &'static str,
    provided: &'static str,
) -> Offer {
    Offer { method, platform, option, module, loads_itself: true, since: [0, 0], provided }
}

/// Columns of the table.
const PLATFORMS: [&str; 7] = ["kvm", "firecracker", "aws", "hyper-v", "vmware", "virtualbox", "xen"];
/// Rows of the table.
const METHODS: [&str; 6] = ["hypervisor-clock", "vmclock", "virtio-rtc", "rtc", "vsock", "ntp"];
const TSC_HOST: &str = "where the host counts by tsc";
const OFFERS: [Offer; 26] = [
    // KVM's hypercall is no device that could ask for its driver.
    Offer {
        loads_itself: false,
        ..offer("hypervisor-clock", "kvm", "PTP_1588_CLOCK_KVM", "ptp_kvm", TSC_HOST)
    },
    Offer {
        loads_itself: false,
        ..offer("hypervisor-clock", "firecracker", "PTP_1588_CLOCK_KVM", "ptp_kvm", TSC_HOST)
    },
    Offer {
        since: [6, 17],
        ..offer(
            "hypervisor-clock",
            "aws",
            "ENA_ETHERNET",
            "ena",
            "on instances whose network card has a clock, where it was switched on",
        )
    },
    offer(
        "hypervisor-clock",
        "hyper-v",
        "HYPERV_UTILS",
        "hv_utils",
        "where time synchronisation is on in the machine's integration services",
    ),
    offer(
        "hypervisor-clock",
        "vmware",
        "PTP_1588_CLOCK_VMW",
        "ptp_vmw",
        "where a precision clock was added to the machine",
    ),
    offer(
        "vmclock",
        "kvm",
        "PTP_1588_CLOCK_VMCLOCK",
        "ptp_vmclock",
        "with -device vmclock (QEMU 10), which marks interruptions only",
    ),
    offer(
        "vmclock",
        "firecracker",
        "PTP_1588_CLOCK_VMCLOCK",
        "ptp_vmclock",
        "in its newer releases, which mark interruptions only",
    ),
    offer("vmclock", "aws", "PTP_1588_CLOCK_VMCLOCK", "ptp_vmclock", "on some families of instances"),
    offer("virtio-rtc", "kvm", "VIRTIO_RTC", "virtio_rtc", "where the machine has the device"),
    offer("rtc", "kvm", RTC.0, RTC.1, ""),
    offer("rtc", "firecracker", FIRECRACKER_RTC.0, FIRECRACKER_RTC.1, ""),
    offer("rtc", "aws", RTC.0, RTC.1, ""),
    offer("rtc", "hyper-v", RTC.0, RTC.1, ""),
    offer("rtc", "vmware", RTC.0, RTC.1, ""),
    offer("rtc", "virtualbox", RTC.0, RTC.1, ""),
    offer("rtc", "xen", RTC.0, RTC.1, "in fully virtualised guests"),
    offer(
        "vsock",
        "kvm",
        "VIRTIO_VSOCKETS",
        "vmw_vsock_virtio_transport",
        "with driftless serve --vsock on the host",
    ),
    offer(
        "vsock",
        "firecracker",
        "VIRTIO_VSOCKETS",
        "vmw_vsock_virtio_transport",
        "with driftless serve --uds on the host",
    ),
    offer("vsock", "hyper-v", "HYPERV_VSOCKETS", "hv_sock", "with a server on the host"),
    offer("ntp", "kvm", "VIRTIO_NET", "virtio_net", ""),
    offer("ntp", "firecracker", "VIRTIO_NET", "virtio_net", ""),
    offer("ntp", "aws", "ENA_ETHERNET", "ena", ""),
    offer("ntp", "hyper-v", "HYPERV_NET", "hv_netvsc", ""),
    offer("ntp", "vmware", "VMXNET3", "vmxnet3", ""),
    offer("ntp", "virtualbox", "E1000", "e1000", ""),
    offer("ntp", "xen", "XEN_NETDEV_FRONTEND", "xen_netfront", ""),
];
/// The usual machine's real-time clock.
const RTC: (&str, &str) =
    if cfg!(target_arch = "x86_64") { ("RTC_DRV_CMOS", "rtc_cmos") } else { ("RTC_DRV_PL031", "rtc_pl031") };

/// Firecracker gives one to its Arm machines only.
const FIRECRACKER_RTC: (&str, &str) =
    if cfg!(target_arch = "aarch64") { ("RTC_DRV_PL031", "rtc_pl031") } else { ("", "") };

/// A cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Works,
    /// Once its module is loaded, which nobody does.
    IfLoaded,
    No,
    /// The kernel is not in the image.
    Unknown,
}

/// What was seen of an image.
#[derive(Debug)]
pub(super) struct Image {
    kernel: Option<Kernel>,
    /// Time clients whose programs are there.
    clients: Vec<&'static str>,
    /// Those of their units that are enabled.
    units: Vec<String>,
    has_systemd: bool,
    /// Modules that are loaded at boot because somebody said so.
    loaded: BTreeSet<String>,
}

#[derive(Debug)]
struct Kernel {
    release: String,
    config: Option<KernelConfig>,
    /// Names of modules, those built in included.
    modules: BTreeSet<String>,
}

const MODULES: [&str; 2] = ["usr/lib/modules", "lib/modules"];
const CONFIG: &str = "config-";

impl Image {
    pub(super) fn of(tree: &Tree) -> Self {
        let keeps =
            |program: &&super::programs::Program| matches!(program.manner, Manner::Keeps | Manner::Steps);
        let is_there =
            |program: &&super::programs::Program| program.files.iter().any(|file| tree.exists(file));
        let lists = ["etc/modules-load.d", "usr/lib/modules-load.d", "lib/modules-load.d"]
            .iter()
            .flat_map(|folder| tree.files(folder, ".conf"));
        let lists = lists.chain(tree.text("etc/modules").map(|text| ("etc/modules".to_owned(), text)));
        let loaded =
            lists.flat_map(|(_, text)| text.lines().map(|line| module_name(line.trim())).collect::<Vec<_>>());
        Self {
            kernel: Kernel::newest(tree),
            clients: PROGRAMS.iter().filter(keeps).filter(is_there).map(|program| program.name).collect(),
            units: units::enabled(tree).into_iter().map(|unit| unit.name).collect(),
            has_systemd: tree.exists("usr/lib/systemd/systemd") || tree.exists("lib/systemd/systemd"),
            loaded: loaded.collect(),
        }
    }

    pub(super) fn find(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.kernel.is_none() {
            found.push(NO_KERNEL.seen("neither modules in /lib/modules nor a configuration in /boot"));
        }
        if self.clients.is_empty() {
            found.push(NO_CLIENT.seen("none of the known time clients' programs is there"));
        } else if self.has_systemd && self.units.is_empty() {
            found.push(NOT_ENABLED.seen(format!(
                "{} is there; no unit of it is wanted by any target",
                self.clients.join(", ")
            )));
        }
        found
    }

    /// Whether and why the image can take what is offered.
    fn fit(&self, offer: &Offer) -> (Fit, String) {
        let Some(kernel) = &self.kernel else { return (Fit::Unknown, "the image has no kernel".to_owned()) };
        let Offer { option, module, .. } = offer;
        if option.is_empty() {
            return (Fit::No, "its machines of this processor have none".to_owned());
        }
        if numbers(&kernel.release).as_slice() < offer.since.as_slice() {
            let [major, minor] = offer.since;
            return (
                Fit::Unknown,
                format!(
                    "Linux's own {module} has a clock since {major}.{minor} only; Amazon's own driver had it before"
                ),
            );
        }
        let has_module = kernel.modules.contains(*module);
        let provided =
            if offer.provided.is_empty() { String::new() } else { format!(", {}", offer.provided) };
        match kernel.config.as_ref().map(|config| config.option(option)) {
            Some(None) => (Fit::No, format!("the kernel was built without CONFIG_{option}")),
            Some(Some("y")) => (Fit::Works, format!("CONFIG_{option}=y{provided}")),
            Some(Some(_)) if !has_module => (
                Fit::No,
                format!(
                    "CONFIG_{option}=m, but there is no {module}.ko: a package of more modules is missing"
                ),
            ),
            None if !has_module => (
                Fit::No,
                format!("there is no module {module}, and no configuration that says it is built in"),
            ),
            _ if offer.loads_itself || self.loaded.contains(*module) => {
                (Fit::Works, format!("{module}.ko{provided}"))
            }
            _ => (
                Fit::IfLoaded,
                format!(
                    "{module}.ko{provided}; nobody loads it: echo {module} > /etc/modules-load.d/{module}.conf"
                ),
            ),
        }
    }

    fn cells(&self) -> impl Iterator<Item = (&'static Offer, Fit, String)> + '_ {
        OFFERS.iter().map(|offer| {
            let (fit, why) = self.fit(offer);
            (offer, fit, why)
        })
    }

    pub(super) fn words(&self) -> String {
        let kernel = self.kernel.as_ref().map_or("none", |kernel| kernel.release.as_str());
        let or_none = |names: &str| if names.is_empty() { "none".to_owned() } else { names.to_owned() };
        let mut text = format!(
            "kernel: {kernel}\ntime clients: {}; enabled units: {}\n\n{:<17}",
            or_none(&self.clients.join(", ")),
            or_none(&self.units.join(", ")),
            "method"
        );
        text.push_str(&PLATFORMS.map(|platform| format!("{platform:<12}")).concat());
        for method in METHODS {
            text.push_str(&format!("\n{method:<17}"));
            for platform in PLATFORMS {
                let cell = OFFERS.iter().find(|offer| offer.method == method && offer.platform == platform);
                text.push_str(&format!("{:<12}", cell.map_or("-", |offer| self.fit(offer).0.name())));
            }
        }
        text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        text.push('\n');
        for method in METHODS {
            let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
            for (offer, fit, why) in self.cells().filter(|(offer, ..)| offer.method == method) {
                let why = format!("{}: {why}", fit.name());
                match reasons.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, platforms)) => platforms.push(offer.platform),
                    None => reasons.push((why, vec![offer.platform])),
                }
            }
            let lines = reasons
                .iter()
                .map(|(why, platforms)| format!("\n{method} on {}: {why}", platforms.join(", ")));
            text.push_str(&lines.collect::<String>());
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let methods = self.cells().map(|(offer, fit, why)| json!({"method": offer.method, "platform": offer.platform, "works": fit.name(), "why": why}));
        json!({
            "kernel": self.kernel.as_ref().map(|kernel| &kernel.release),
            "clients": self.clients, "enabled_units": self.units,
            "methods": methods.collect::<Vec<_>>(),
        })
    }
}

impl Fit {
    const fn name(self) -> &'static str {
        match self {
            Self::Works => "yes",
            Self::IfLoaded => "if loaded",
            Self::No => "no",
            Self::Unknown => "?",
        }
    }
}

impl Kernel {
    fn newest(tree: &Tree) -> Option<Self> {
        let modules = MODULES.iter().flat_map(|folder| tree.names(folder));
        let configs =
            tree.names("boot").into_iter().filter_map(|name| name.strip_prefix(CONFIG).map(str::to_owned));
        let mut releases: Vec<String> = modules.chain(configs).collect();
        releases.sort_by_key(|release| Reverse(numbers(release)));
        let release = releases.into_iter().next()?;
        let lists = MODULES.iter().flat_map(|folder| {
            ["modules.dep", "modules.builtin"].map(|list| format!("{folder}/{release}/{list}"))
        });
        let texts: Vec<String> = lists.filter_map(|list| tree.text(&list)).collect();
        let modules = texts
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| module_name(line.split(':').next().unwrap_or(line)))
            .collect();
        Some(Self { config: KernelConfig::of(tree, &release), release, modules })
    }
}

/// `kernel/drivers/ptp/ptp-kvm.ko.xz` → `ptp_kvm`: dash and underscore are one to the kernel.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// Versions are compared number by number.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::tree;
    use super::*;

    fn fits(image: &Image, method: &str, platform: &str) -> &'static str {
        image
            .cells()
            .find(|(offer, ..)| offer.method == method && offer.platform == platform)
            .map_or("-", |(_, fit, _)| fit.name())
    }

    #[test]
    fn what_works_follows_from_options_modules_and_who_loads_them() {
        let config = "CONFIG_PTP_1588_CLOCK_KVM=m\nCONFIG_RTC_DRV_CMOS=y\nCONFIG_RTC_DRV_PL031=y\nCONFIG_VIRTIO_VSOCKETS=m\nCONFIG_VIRTIO_NET=m\n";
        let dep = "kernel/drivers/ptp/ptp_kvm.ko.xz: kernel/drivers/ptp/ptp.ko.xz\nkernel/drivers/net/virtio_net.ko.xz:\n";
        let files = [
            ("boot/config-6.1.0-9", config),
            ("usr/lib/modules/6.1.0-9/modules.dep", dep),
            ("boot/config-5.10.0-30", ""),
        ];
        let (root, tree) = tree(&files);
        let image = Image::of(&tree);
        assert_eq!(image.kernel.as_ref().unwrap().release, "6.1.0-9");
        for (method, platform, cell) in [
            ("hypervisor-clock", "kvm", "if loaded"),
            ("hypervisor-clock", "hyper-v", "no"),
            ("hypervisor-clock", "virtualbox", "-"),
            ("rtc", "kvm", "yes"),
            ("vsock", "firecracker", "no"),
            ("ntp", "kvm", "yes"),
        ] {
            assert_eq!(fits(&image, method, platform), cell, "{method} {platform}");
        }
        std::fs::create_dir_all(root.path().join("etc/modules-load.d")).unwrap();
        std::fs::write(root.path().join("etc/modules-load.d/time.conf"), "# the host's clock\nptp_kvm\n")
            .unwrap();
        assert_eq!(fits(&Image::of(&tree), "hypervisor-clock", "kvm"), "yes");
        assert!(
            image.words().contains(
                "hypervisor-clock on kvm, firecracker: if loaded: ptp_kvm.ko, where the host counts by tsc"
            ),
            "{}",
            image.words()
        );
    }

    #[test]
    fn an_image_without_kernel_or_client_is_told() {
        let (_root, bare) = tree(&[("bin/sh", "")]);
        let image = Image::of(&bare);
        let ids: Vec<&str> = image.find().iter().map(|finding| finding.kind.id).collect();
        assert_eq!(ids, ["image-without-kernel", "image-keeps-no-time"]);
        assert_eq!(fits(&image, "ntp", "kvm"), "?");
        let (_root, tree) =
            tree(&[("usr/sbin/chronyd", ""), ("usr/lib/systemd/systemd", ""), ("boot/config-6.1", "")]);
        let ids: Vec<&str> = Image::of(&tree).find().iter().map(|finding| finding.kind.id).collect();
        assert_eq!(ids, ["image-client-not-enabled"]);
    }

    #[test]
    fn every_offer_stands_in_the_table() {
        for offer in &OFFERS {
            assert!(METHODS.contains(&offer.method) && PLATFORMS.contains(&offer.platform), "{offer:?}");
        }
    }
}
