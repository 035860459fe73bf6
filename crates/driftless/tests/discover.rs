//! `driftless discover` and `provision` as a user and an operator see them. Nobody outside is asked: the roots are folders, the parsers the real consumers'.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use driftless_lab_stand::peer;
use serde_json::Value;

fn driftless(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_driftless"))
        .args(arguments)
        .env("DRIFTLESS_OBSERVE", "1")
        .output()
        .unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn fixture(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../driftless-daemon/tests/discovery/leases").join(client)
}

#[test]
fn what_each_real_client_left_is_found_as_json_and_as_a_table() {
    for client in ["networkd", "networkmanager", "dhclient", "dhcpcd", "udhcpc"] {
        let root = fixture(client);
        let root = root.to_str().unwrap();
        let output = driftless(&["discover", "--json", "--root", root]);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let first = &told["candidates"][0];
        assert_eq!(first["spec"], "ntp:192.168.77.1", "{client}");
        assert_eq!(
            (&first["rank"], &first["class"], &first["smears"]),
            (&"handed-over".into(), &"network".into(), &false.into())
        );
        assert_eq!(
            (&first["asked"], &first["used"]),
            (&false.into(), &false.into()),
            "of a folder nobody is asked"
        );
        let has_v6 = told["candidates"].as_array().unwrap().iter().any(|one| one["spec"] == "ntp:[fd77::1]");
        assert_eq!(has_v6, client != "udhcpc", "{client}");
        assert_eq!(output.status.code(), Some(1), "nothing answered");
        let table = text(&driftless(&["discover", "--root", root]).stdout);
        assert!(table.contains("DHCP, a lease of") && table.contains("not used: not asked yet"), "{table}");
    }
}

#[test]
fn a_source_on_the_kernels_command_line_is_used_unasked() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("proc")).unwrap();
    fs::write(root.path().join("proc/cmdline"), "quiet driftless.source=ntp:10.0.0.1 driftless.source=x\n")
        .unwrap();
    let output = driftless(&["discover", "--json", "--root", root.path().to_str().unwrap()]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["sources"][0].as_str(), output.status.code()), (Some("ntp:10.0.0.1"), Some(0)));
    assert!(told["refused"][0].as_str().unwrap().contains("`x`"), "{told}");
}

/// What is printed for a v4 and a v6 server.
fn provision(format: &str) -> String {
    let output = driftless(&["provision", "--server", "10.0.0.1", "--server", "fd00::1", "--format", format]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn what_is_provisioned_for_openstack_is_discovered_from_a_config_drive() {
    let root = tempfile::tempdir().unwrap();
    let drive = root.path().join("config-drive/openstack/latest");
    fs::create_dir_all(&drive).unwrap();
    fs::write(drive.join("vendor_data.json"), provision("vendor-data")).unwrap();
    let output = driftless(&["discover", "--json", "--root", root.path().to_str().unwrap()]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let specs: Vec<&str> =
        told["candidates"].as_array().unwrap().iter().filter_map(|one| one["spec"].as_str()).collect();
    assert_eq!(specs, ["ntp:10.0.0.1", "ntp:[fd00::1]"]);
}

#[test]
fn what_is_provisioned_for_cloud_init_is_discovered_where_it_leaves_it() {
    let root = tempfile::tempdir().unwrap();
    for (folder, file, text) in [
        ("run/cloud-init", "instance-data.json", "{}"),
        ("var/lib/cloud/instance", "cloud-config.txt", &provision("cloud-config")),
    ] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
        fs::write(root.path().join(folder).join(file), text).unwrap();
    }
    let output = driftless(&["discover", "--json", "--root", root.path().to_str().unwrap()]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["candidates"].as_array().unwrap().len(), 2, "{told}");
}

/// Whether the consumer's parser takes `text`, given behind `arguments` as a file.
fn accepts(program: &Path, arguments: &[&str], text: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conf");
    fs::write(&file, text).unwrap();
    // One that was unpacked, not installed, has its libraries beside it.
    let libraries = program.parent().unwrap().join("../lib/x86_64-linux-gnu");
    let output =
        Command::new(program).args(arguments).arg(&file).env("LD_LIBRARY_PATH", libraries).output().unwrap();
    let is_taken = output.status.success();
    eprintln!("{}: {}{}", program.display(), self::text(&output.stdout), self::text(&output.stderr));
    is_taken
}

#[test]
fn dnsmasq_takes_its_snippet_and_neutrons_options() {
    let Some(dnsmasq) = peer("dnsmasq") else { return };
    let test = ["--test", "-C"];
    assert!(accepts(&dnsmasq, &test, &provision("dnsmasq")));
    assert!(!accepts(&dnsmasq, &test, "dhcp-option=option:no-such-option,10.0.0.1\n"), "it can refuse");
    // Neutron's agent writes `tag:…,option:NAME,VALUE`, with option6 for the other family.
    let neutron = provision("neutron");
    let values: Vec<&str> =
        neutron.lines().filter_map(|line| line.split("value='").nth(1)?.split('\'').next()).collect();
    let [v4, v6] = values.as_slice() else { panic!("{neutron}") };
    assert!(accepts(
        &dnsmasq,
        &test,
        &format!(
            "dhcp-option=tag:port,option:ntp-server,{v4}\ndhcp-option=tag:port,option6:ntp-server,{v6}\n"
        )
    ));
}

#[test]
fn dhcpd_takes_both_of_its_snippets() {
    let Some(dhcpd) = peer("dhcpd") else { return };
    let snippet = provision("dhcpd");
    let (v4, v6) = snippet.split_once("# dhcpd6.conf\n").unwrap();
    assert!(accepts(
        &dhcpd,
        &["-4", "-t", "-cf"],
        &format!("{v4}subnet 10.0.0.0 netmask 255.255.255.0 {{}}\n")
    ));
    assert!(accepts(&dhcpd, &["-6", "-t", "-cf"], v6));
    assert!(!accepts(&dhcpd, &["-4", "-t", "-cf"], "option ntp-servers \"x\";\n"), "it can refuse");
}

#[test]
fn kea_takes_its_snippets() {
    let document: Value = serde_json::from_str(&provision("kea")).unwrap();
    for (program, key) in [("kea-dhcp4", "Dhcp4"), ("kea-dhcp6", "Dhcp6")] {
        let Some(kea) = peer(program) else { continue };
        assert!(accepts(&kea, &["-t"], &serde_json::json!({ key: document[key] }).to_string()), "{program}");
    }
}

#[test]
fn cloud_init_takes_its_snippet() {
    let Some(cloud_init) = peer("cloud-init") else { return };
    assert!(accepts(&cloud_init, &["schema", "-c"], &provision("cloud-config")));
}
