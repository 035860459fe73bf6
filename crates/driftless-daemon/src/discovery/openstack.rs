//! OpenStack's vendor data, from its config drive or its metadata service: documents of the operator's, with the key of [`super::vendor_data`].
//!
//! The drive is a small volume labelled `config-2`: read where it is mounted, else from the device itself where it is ISO 9660, which needs no mount and writes
//! nothing. The service is asked only where the firmware says that this is OpenStack.

use std::fs::File;

use super::candidate::Candidate;
use super::cloud::Cloud;
use super::http;
use super::iso9660::Volume;
use super::machine::Machine;
use super::vendor_data;

const DOCUMENTS: [&str; 2] = ["openstack/latest/vendor_data.json", "openstack/latest/vendor_data2.json"];
const LABEL: &str = "config-2";
/// The device by its label, in both cases that udev has seen.
const DEVICES: [&str; 2] = ["/dev/disk/by-label/config-2", "/dev/disk/by-label/CONFIG-2"];
/// Where people mount it, beside what the mount table says.
const MOUNTS: [&str; 3] = ["/config-drive", "/mnt/config", "/media/configdrive"];

/// What the config drive says; what is wrong with it goes to `refused`.
pub(super) fn config_drive(machine: &Machine, refused: &mut Vec<String>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (text, from) in mounted(machine).or_else(|| on_device(machine)).unwrap_or_default() {
        match vendor_data::servers(&text, &format!("OpenStack's config drive, {from}")) {
            Ok(servers) => found.extend(servers),
            Err(error) => refused.push(error),
        }
    }
    found
}

/// Documents and their names.
type Documents = Vec<(String, String)>;

fn mounted(machine: &Machine) -> Option<Documents> {
    let table = machine.text("/proc/mounts").unwrap_or_default();
    let is_drive = |device: &str| DEVICES.contains(&device) || is_labelled(machine, device);
    let told = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, place) = (fields.next()?, fields.next()?);
        (device.starts_with("/dev/") && is_drive(device)).then(|| place.to_owned())
    });
    let places = told.chain(MOUNTS.iter().map(|place| (*place).to_owned()));
    let read = |place: String| -> Documents {
        let files = DOCUMENTS.iter().map(|document| format!("{place}/{document}"));
        files.filter_map(|file| Some((machine.text(&file)?, file))).collect()
    };
    places.map(read).find(|documents| !documents.is_empty())
}

/// Whether udev's link of the label leads to that device.
fn is_labelled(machine: &Machine, device: &str) -> bool {
    let links = DEVICES.iter().filter_map(|link| machine.path(link).canonicalize().ok());
    let device = machine.path(device).canonicalize().ok();
    links.into_iter().any(|link| device.as_ref() == Some(&link))
}

fn on_device(machine: &Machine) -> Option<Documents> {
    let device = DEVICES.iter().find(|device| machine.path(device).exists())?;
    let mut volume = Volume::open(File::open(machine.path(device)).ok()?).ok()?;
    if !volume.label().eq_ignore_ascii_case(LABEL) {
        return None;
    }
    let read = |document: &&str| {
        let text = String::from_utf8(volume.read(document).ok()?).ok()?;
        Some((text, format!("{device}: {document}")))
    };
    Some(DOCUMENTS.iter().filter_map(read).collect())
}

/// What the metadata service says. It takes up to a second a document, so it is an errand.
pub(super) fn metadata(machine: &Machine, refused: &mut Vec<String>) -> Vec<Candidate> {
    let Some((Cloud::OpenStack, mark)) = Cloud::of(machine) else { return Vec::new() };
    let mut found = Vec::new();
    for document in DOCUMENTS {
        let from = format!("OpenStack's metadata, http://{}/{document} ({mark})", machine.metadata);
        let servers = http::get(machine.metadata, &format!("/{document}"))
            .map_err(|error| format!("{from}: {error}"))
            .and_then(|text| vendor_data::servers(&text, &from));
        match servers {
            Ok(servers) => found.extend(servers),
            Err(error) => refused.push(error),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::http::tests::server;
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    fn machine(dmi: &str) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/class/dmi/id")).unwrap();
        fs::write(root.path().join("sys/class/dmi/id/product_name"), dmi).unwrap();
        let machine = Machine::at(root.path());
        (root, machine)
    }

    fn specs(found: &[Candidate]) -> Vec<&str> {
        found.iter().map(|one| one.spec.as_str()).collect()
    }

    #[test]
    fn the_metadata_service_is_asked_in_openstack_and_nowhere_else() {
        let mut refused = Vec::new();
        let address = server(|mut stream, _| {
            stream
                .write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"driftless\": {\"sources\": [\"10.0.0.1\"]}}")
                .unwrap();
        });
        let (_root, machine) = machine("OpenStack Nova\n");
        let machine = machine.with_metadata(address);
        assert_eq!(specs(&metadata(&machine, &mut refused)), ["ntp:10.0.0.1"]);
        assert_eq!(refused.len(), 1, "the second document was not had: {refused:?}");
        let address = server(|_, _| panic!("nobody may ask"));
        let (_root, elsewhere) = self::machine("Standard PC\n");
        assert_eq!(metadata(&elsewhere.with_metadata(address), &mut refused), []);
    }

    #[test]
    fn garbage_is_refused_and_told() {
        let mut refused = Vec::new();
        let address = server(|mut stream, _| stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n<html>").unwrap());
        let (_root, machine) = machine("OpenStack Nova\n");
        assert_eq!(metadata(&machine.with_metadata(address), &mut refused), []);
        assert!(refused[0].contains("no JSON"), "{refused:?}");
    }

    #[test]
    fn a_config_drive_is_read_from_its_device_and_where_it_is_mounted() {
        let (root, machine) = machine("");
        let mut refused = Vec::new();
        assert_eq!(config_drive(&machine, &mut refused), []);
        let labels = root.path().join("dev/disk/by-label");
        fs::create_dir_all(&labels).unwrap();
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discovery/config-drive.iso");
        fs::copy(image, labels.join("config-2")).unwrap();
        let found = config_drive(&machine, &mut refused);
        assert_eq!(specs(&found), ["ntp:10.0.0.1", "ntp:10.0.0.2"]);
        assert!(found[0].evidence.contains("/dev/disk/by-label/config-2: openstack/latest/vendor_data.json"));
        let mount = root.path().join("mnt/drive/openstack/latest");
        fs::create_dir_all(&mount).unwrap();
        fs::write(mount.join("vendor_data.json"), r#"{"ntp": {"servers": ["10.0.0.7"]}}"#).unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/mounts"), "/dev/disk/by-label/config-2 /mnt/drive iso9660 ro 0 0\n")
            .unwrap();
        assert_eq!(specs(&config_drive(&machine, &mut refused)), ["ntp:10.0.0.7"]);
        assert!(refused.is_empty(), "{refused:?}");
    }

    #[test]
    fn a_device_of_that_label_that_is_no_config_drive_says_nothing() {
        let (root, machine) = machine("");
        let labels = root.path().join("dev/disk/by-label");
        fs::create_dir_all(&labels).unwrap();
        fs::write(labels.join("config-2"), vec![7; 100_000]).unwrap();
        assert_eq!(config_drive(&machine, &mut Vec::new()), []);
    }
}
