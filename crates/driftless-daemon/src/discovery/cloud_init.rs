//! What cloud-init was told: the merged cloud-configs of user and vendors that it leaves below `/var/lib/cloud/instance`.
//!
//! cloud-init sets up a client of its own choice with these servers, or none where it knows none that is installed; whichever it is, they are meant for this machine.

use super::candidate::Candidate;
use super::machine::Machine;
use super::vendor_data;

/// Written at each boot: without it the instance's files are another machine's, of which this one is a copy.
const THIS_BOOT: &str = "/run/cloud-init/instance-data.json";
/// The user's stands above the vendors'.
const CONFIGS: [&str; 3] = ["cloud-config.txt", "vendor-cloud-config.txt", "vendor2-cloud-config.txt"];
const INSTANCE: &str = "/var/lib/cloud/instance";

pub(super) fn servers(machine: &Machine) -> Vec<Candidate> {
    if !machine.path(THIS_BOOT).exists() {
        return Vec::new();
    }
    let read = |name: &&str| {
        let file = format!("{INSTANCE}/{name}");
        let found = vendor_data::in_cloud_config(&machine.text(&file)?, &format!("cloud-init, {file}"));
        Some(found).filter(|found| !found.is_empty())
    };
    CONFIGS.iter().find_map(read).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_the_real_cloud_init_leaves_is_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discovery/cloud-init");
        let found = servers(&Machine::at(&root));
        let specs: Vec<&str> = found.iter().map(|one| one.spec.as_str()).collect();
        assert_eq!(specs, ["ntp:10.0.0.1", "ntp:ntp.lab.example"]);
        assert!(found[0].evidence.ends_with("/vendor-cloud-config.txt, key ntp"), "{}", found[0].evidence);
    }

    #[test]
    fn what_another_boot_left_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("var/lib/cloud/instance");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cloud-config.txt"), "ntp:\n  servers: [10.0.0.1]\n").unwrap();
        assert_eq!(servers(&Machine::at(root.path())), []);
    }
}
