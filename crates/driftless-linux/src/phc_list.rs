//! Which PTP clocks there are and what each is, told by the driver's name for it in `/sys/class/ptp/*/clock_name`.
//!
//! A network card's clock says nothing until somebody has set it; a hypervisor's says the host's time from the start. Only the
//! latter are used without being asked. What each counts is known of the hypervisors' drivers; of vmclock's it is not (UTC in Linux
//! 6.13, TAI later), nor of a network card's: those are measured.

use std::fs;
use std::path::{Path, PathBuf};

use driftless_core::source::TimeScale;
use driftless_core::time::Span;

/// A PTP clock as the system lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhcInfo {
    /// The device.
    pub path: PathBuf,
    /// What its driver calls it.
    pub name: String,
    /// What it is.
    pub kind: PhcKind,
    /// Where its driver writes its error bound, if it does.
    error_bound: Option<PathBuf>,
}

/// What a PTP clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PhcKind {
    /// The host's clock by KVM's hypercall (`ptp_kvm`).
    Kvm,
    /// Hyper-V's time samples, carried on by its reference counter (`hv_utils`).
    HyperV,
    /// The precision clock of VMware machines (`ptp_vmw`).
    Vmware,
    /// Amazon's network card (`ena`), which counts UTC and tells its error.
    Ena,
    /// A clock of a virtio-rtc device, with its type (`uapi/linux/virtio_rtc.h`).
    VirtioRtc(u8),
    /// A vmclock page that carries time, read by the kernel. [`crate::vmclock`] reads it better.
    VmClock,
    /// Anything else: as a rule a network card, which counts what somebody set.
    Other,
}

/// Where the kernel lists them.
pub const LIST: &str = "/sys";
/// What a SPEC calls the kinds, the most trusted first.
const NAMES: [&str; 7] = ["kvm", "hyperv", "vmware", "virtio", "ena", "vmclock", "other"];

impl PhcKind {
    /// Told by the driver's name for the clock and by the driver's own.
    #[must_use]
    pub fn new(name: &str, driver: &str) -> Self {
        match name {
            "KVM virtual PTP" => Self::Kvm,
            "hyperv" => Self::HyperV,
            "ptp_vmw" => Self::Vmware,
            _ if name.starts_with("ena-ptp") || driver == "ena" => Self::Ena,
            _ if name.starts_with("vmclock") => Self::VmClock,
            _ => virtio_type(name).map_or(Self::Other, Self::VirtioRtc),
        }
    }

    /// Whether it may be used without being asked: a hypervisor keeps it, it tells the time of day, and its scale is known.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Kvm | Self::HyperV | Self::Vmware | Self::Ena | Self::VirtioRtc(0 | 1))
    }

    /// Whether it counts from 1970 at all.
    #[must_use]
    pub const fn gives_time(self) -> bool {
        !matches!(self, Self::VirtioRtc(2))
    }

    /// What it counts, as far as its driver is known.
    #[must_use]
    pub const fn scale(self) -> TimeScale {
        match self {
            Self::Kvm | Self::HyperV | Self::Vmware | Self::Ena | Self::VirtioRtc(0 | 3 | 4) => {
                TimeScale::Utc
            }
            Self::VirtioRtc(1) => TimeScale::Tai(None),
            Self::VirtioRtc(_) | Self::VmClock | Self::Other => TimeScale::Unknown,
        }
    }

    /// What a SPEC calls it, as in `phc:kvm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::HyperV => "hyperv",
            Self::Vmware => "vmware",
            Self::VirtioRtc(_) => "virtio",
            Self::Ena => "ena",
            Self::VmClock => "vmclock",
            Self::Other => "other",
        }
    }

    /// Its place in the order of trust: less is better.
    fn rank(self) -> usize {
        NAMES.iter().position(|name| *name == self.name()).unwrap_or(NAMES.len())
    }
}

impl PhcInfo {
    /// A device of which the system says nothing.
    #[must_use]
    pub const fn unlisted(path: PathBuf) -> Self {
        Self { path, name: String::new(), kind: PhcKind::Other, error_bound: None }
    }

    /// The driver's own error bound, where it gives one: as of the last reading.
    #[must_use]
    pub fn error_bound(&self) -> Option<Span> {
        let text = fs::read_to_string(self.error_bound.as_ref()?).ok()?;
        let nanos: u32 = text.trim().parse().ok()?;
        (nanos != u32::MAX).then(|| Span::from_nanos(nanos.into()))
    }

    /// From `SYS/class/ptp/ptpN`.
    fn listed(folder: &Path) -> Option<Self> {
        let device = folder.file_name()?.to_str()?;
        device.strip_prefix("ptp")?.parse::<u32>().ok()?;
        let name = fs::read_to_string(folder.join("clock_name")).unwrap_or_default().trim().to_owned();
        let driver = fs::read_link(folder.join("device/driver")).unwrap_or_default();
        let driver = driver.file_name().unwrap_or_default().to_string_lossy();
        let error_bound = folder.join("device/phc_error_bound");
        Some(Self {
            path: Path::new("/dev").join(device),
            kind: PhcKind::new(&name, &driver),
            name,
            error_bound: error_bound.exists().then_some(error_bound),
        })
    }
}

/// All PTP clocks that the system lists under `sys` ([`LIST`]), the most trusted first.
#[must_use]
pub fn list(sys: &Path) -> Vec<PhcInfo> {
    let entries = fs::read_dir(sys.join("class/ptp"));
    let mut found: Vec<PhcInfo> =
        entries.into_iter().flatten().flatten().filter_map(|entry| PhcInfo::listed(&entry.path())).collect();
    found.sort_by_key(|info| (info.kind.rank(), info.path.as_os_str().len(), info.path.clone()));
    found
}

/// The clock that a SPEC means: a device's path, the name of a kind (`kvm`), a driver's name for its clock (`vmclock0`), or a network
/// interface, whose card's clock is meant.
#[must_use]
pub fn find(wanted: &str, sys: &Path) -> Option<PhcInfo> {
    if wanted.contains('/') {
        let path = PathBuf::from(wanted);
        // udev's names for them are links.
        let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let folder = sys.join("class/ptp").join(real.file_name()?);
        return Some(match PhcInfo::listed(&folder).filter(|_| folder.exists()) {
            Some(info) => PhcInfo { path, ..info },
            None => PhcInfo::unlisted(path),
        });
    }
    let of_card = fs::read_dir(sys.join("class/net").join(wanted).join("device/ptp"));
    let card: Vec<_> = of_card.into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    list(sys).into_iter().find(|info| {
        info.kind.name() == wanted
            || info.name == wanted
            || info.path.file_name().is_some_and(|device| card.iter().any(|name| name == device))
    })
}

/// `Virtio PTP type 0/variant 0` (`drivers/virtio/virtio_rtc_driver.c`).
fn virtio_type(name: &str) -> Option<u8> {
    let rest = name.strip_prefix("Virtio PTP type ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A `/sys` with one folder a clock: number, name, driver.
    fn system(clocks: &[(u32, &str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (number, name, driver) in clocks {
            let folder = root.path().join(format!("class/ptp/ptp{number}"));
            fs::create_dir_all(folder.join("device")).unwrap();
            fs::write(folder.join("clock_name"), format!("{name}\n")).unwrap();
            symlink(format!("/drivers/{driver}"), folder.join("device/driver")).unwrap();
        }
        root
    }

    #[test]
    fn drivers_are_told_apart_by_their_names() {
        for (name, driver, kind, trusted) in [
            ("KVM virtual PTP", "", PhcKind::Kvm, true),
            ("hyperv", "", PhcKind::HyperV, true),
            ("ptp_vmw", "", PhcKind::Vmware, true),
            ("ena-ptp-05", "ena", PhcKind::Ena, true),
            ("Virtio PTP type 0/variant 0", "", PhcKind::VirtioRtc(0), true),
            ("Virtio PTP type 1/variant 0", "", PhcKind::VirtioRtc(1), true),
            ("Virtio PTP type 2/variant 0", "", PhcKind::VirtioRtc(2), false),
            ("Virtio PTP type 3/variant 1", "", PhcKind::VirtioRtc(3), false),
            ("vmclock0", "vmclock", PhcKind::VmClock, false),
            ("00:04:00.0", "igb", PhcKind::Other, false),
            ("", "", PhcKind::Other, false),
        ] {
            assert_eq!((PhcKind::new(name, driver), kind.is_trusted()), (kind, trusted), "{name}");
        }
    }

    #[test]
    fn a_scale_is_told_only_where_the_driver_is_known() {
        assert_eq!(PhcKind::Kvm.scale(), TimeScale::Utc);
        assert_eq!(PhcKind::VirtioRtc(1).scale(), TimeScale::Tai(None));
        assert_eq!(PhcKind::VmClock.scale(), TimeScale::Unknown);
        assert_eq!(PhcKind::Other.scale(), TimeScale::Unknown);
    }

    #[test]
    fn the_most_trusted_comes_first_and_the_tenth_after_the_second() {
        let root =
            system(&[(10, "b", "igb"), (2, "a", "igb"), (1, "vmclock0", ""), (3, "KVM virtual PTP", "")]);
        let paths: Vec<_> = list(root.path()).into_iter().map(|info| info.path).collect();
        assert_eq!(paths, ["/dev/ptp3", "/dev/ptp1", "/dev/ptp2", "/dev/ptp10"].map(PathBuf::from));
    }

    #[test]
    fn clocks_are_found_by_path_kind_name_and_interface() {
        let root = system(&[(0, "igb clock", "igb"), (1, "KVM virtual PTP", "")]);
        let card = root.path().join("class/net/eth0/device/ptp/ptp0");
        fs::create_dir_all(card).unwrap();
        let found = |wanted| find(wanted, root.path()).map(|info| (info.path, info.kind));
        assert_eq!(found("kvm"), Some(("/dev/ptp1".into(), PhcKind::Kvm)));
        assert_eq!(found("/dev/ptp1"), Some(("/dev/ptp1".into(), PhcKind::Kvm)));
        assert_eq!(found("igb clock"), Some(("/dev/ptp0".into(), PhcKind::Other)));
        assert_eq!(found("eth0"), Some(("/dev/ptp0".into(), PhcKind::Other)));
        assert_eq!(found("/dev/ptp7"), Some(("/dev/ptp7".into(), PhcKind::Other)));
        assert_eq!(found("hyperv"), None);
    }

    #[test]
    fn a_drivers_own_error_bound_is_read_at_each_look() {
        let root = system(&[(0, "ena-ptp-05", "ena")]);
        let file = root.path().join("class/ptp/ptp0/device/phc_error_bound");
        assert_eq!(find("ena", root.path()).unwrap().error_bound(), None);
        fs::write(&file, "23456\n").unwrap();
        let info = find("ena", root.path()).unwrap();
        assert_eq!(info.error_bound(), Some(Span::from_nanos(23_456)));
        fs::write(&file, "4294967295\n").unwrap();
        assert_eq!(info.error_bound(), None);
    }
}
