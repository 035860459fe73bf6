//! Which cloud this is, by what its firmware says of itself (DMI), and that cloud's well-known server: nobody is asked on another cloud's account.

use super::candidate::{Candidate, Rank};
use super::machine::Machine;

/// A cloud that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cloud {
    Amazon,
    Google,
    /// Its clock is Hyper-V's PTP device; there is no server.
    Azure,
    Alibaba,
    Oracle,
    /// Its operator hands servers over by metadata.
    OpenStack,
}

/// `/sys/class/dmi/id/FILE` holds TEXT.
const MARKS: [(&str, &str, Cloud); 11] = [
    ("sys_vendor", "Amazon EC2", Cloud::Amazon),
    ("board_vendor", "Amazon EC2", Cloud::Amazon),
    ("bios_version", ".amazon", Cloud::Amazon),
    ("product_name", "Google Compute Engine", Cloud::Google),
    // The same on all of Azure's machines; Hyper-V's own have others.
    ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", Cloud::Azure),
    ("product_name", "Alibaba Cloud ECS", Cloud::Alibaba),
    ("sys_vendor", "Alibaba Cloud", Cloud::Alibaba),
    ("chassis_asset_tag", "OracleCloud.com", Cloud::Oracle),
    ("product_name", "OpenStack", Cloud::OpenStack),
    ("chassis_asset_tag", "OpenStack", Cloud::OpenStack),
    ("sys_vendor", "OpenStack Foundation", Cloud::OpenStack),
];
const DMI: &str = "/sys/class/dmi/id";

impl Cloud {
    /// The cloud that this machine is in, and the mark that says so.
    pub(super) fn of(machine: &Machine) -> Option<(Self, String)> {
        MARKS.iter().find_map(|(file, mark, cloud)| {
            let text = machine.text(&format!("{DMI}/{file}"))?;
            text.contains(mark).then(|| (*cloud, format!("DMI {file} is {}", text.trim())))
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Amazon => "Amazon's",
            Self::Google => "Google's",
            Self::Azure => "Azure's",
            Self::Alibaba => "Alibaba's",
            Self::Oracle => "Oracle's",
            Self::OpenStack => "OpenStack's",
        }
    }

    /// Its well-known servers: addresses within the link, or names that lead into its own network.
    const fn servers(self) -> &'static [&'static str] {
        match self {
            Self::Amazon => &["169.254.169.123", "fd00:ec2::123"],
            Self::Google | Self::Oracle => &["169.254.169.254"],
            Self::Alibaba => &["ntp7.cloud.aliyuncs.com", "ntp8.cloud.aliyuncs.com"],
            Self::Azure | Self::OpenStack => &[],
        }
    }
}

/// The provider's servers, where this is a known provider's machine.
pub(super) fn servers(machine: &Machine) -> Vec<Candidate> {
    let Some((cloud, mark)) = Cloud::of(machine) else { return Vec::new() };
    let evidence = format!("{} own server; {mark}", cloud.name());
    let found = cloud.servers().iter().filter_map(|word| Candidate::server(word, Rank::Provider, &evidence));
    // At this address Oracle does not smear; Google does.
    found.map(|one| Candidate { smears: matches!(cloud, Cloud::Amazon | Cloud::Google), ..one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn specs(file: &str, text: &str) -> Vec<(String, bool)> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/class/dmi/id")).unwrap();
        fs::write(root.path().join("sys/class/dmi/id").join(file), format!("{text}\n")).unwrap();
        servers(&Machine::at(root.path())).into_iter().map(|one| (one.spec, one.smears)).collect()
    }

    #[test]
    fn each_cloud_has_its_own_servers_and_nobody_elses_are_asked() {
        let link = |address: &str, smears| (format!("ntp:{address}"), smears);
        assert_eq!(
            specs("sys_vendor", "Amazon EC2"),
            [link("169.254.169.123", true), link("[fd00:ec2::123]", true)]
        );
        assert_eq!(specs("product_name", "Google Compute Engine"), [link("169.254.169.254", true)]);
        assert_eq!(specs("chassis_asset_tag", "OracleCloud.com"), [link("169.254.169.254", false)]);
        assert_eq!(specs("product_name", "Alibaba Cloud ECS").len(), 2);
        for (file, text) in [
            ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
            ("product_name", "OpenStack Nova"),
            ("product_name", "Standard PC (Q35 + ICH9, 2009)"),
            ("sys_vendor", "QEMU"),
        ] {
            assert_eq!(specs(file, text), [], "{text}");
        }
    }
}
