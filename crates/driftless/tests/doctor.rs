//! `driftless doctor` as people and scripts call it.
#![cfg(feature = "tools")]
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn doctor(arguments: &[&str]) -> (i32, String, String) {
    // In a network of its own: the default gateway of whoever runs the tests is not asked for the time.
    let mut command = Command::new("unshare");
    if !fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t") {
        command.arg("--map-root-user");
    }
    command.arg("--net").arg(env!("CARGO_BIN_EXE_driftless"));
    let output = command.arg("doctor").args(arguments).env("DRIFTLESS_OBSERVE", "1").output().unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn report(arguments: &[&str]) -> (i32, Value) {
    let (status, said, _) = doctor(&[arguments, &["--json"]].concat());
    (status, serde_json::from_str(said.trim()).unwrap())
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

#[test]
fn this_machine_gets_a_verdict_and_nothing_is_set() {
    let (status, report) = report(&[]);
    let findings = report["findings"].as_array().unwrap();
    let is_bad = findings.iter().any(|finding| finding["severity"] != "note");
    assert_eq!(status, i32::from(is_bad), "{report}");
    assert!(findings.iter().any(|finding| finding["id"] == "observing"), "{report}");
    for finding in findings {
        for part in ["title", "evidence", "consequence", "cure"] {
            assert!(finding[part].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
        }
    }
}

#[test]
fn an_image_is_judged_by_its_own_files() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().to_str().unwrap();
    let (status, bare) = report(&["--root", folder]);
    assert_eq!((status, &bare["worst"]), (1, &"warning".into()));
    write(
        root.path(),
        &[
            ("boot/config-6.12", "CONFIG_PTP_1588_CLOCK_KVM=y\nCONFIG_VIRTIO_NET=y\n"),
            ("usr/bin/driftless", ""),
            ("usr/lib/systemd/systemd", ""),
            ("usr/lib/systemd/system/driftless.service", "[Service]\n"),
            ("etc/systemd/system/multi-user.target.wants/driftless.service", ""),
        ],
    );
    let (status, whole) = report(&["--root", folder]);
    assert_eq!((status, &whole["findings"]), (0, &Value::Array(Vec::new())));
    let methods = whole["image"]["methods"].as_array().unwrap();
    let works = |method: &str, platform: &str| {
        methods.iter().find(|row| row["method"] == method && row["platform"] == platform).unwrap()["works"]
            .clone()
    };
    assert_eq!(works("hypervisor-clock", "kvm"), "yes");
    assert_eq!(works("hypervisor-clock", "hyper-v"), "no");
    let (_, words, _) = doctor(&["--root", folder]);
    assert!(
        words.contains("hypervisor-clock on kvm, firecracker: yes: CONFIG_PTP_1588_CLOCK_KVM=y"),
        "{words}"
    );
}

#[test]
fn a_wrong_command_line_is_told_from_a_wrong_clock() {
    for arguments in [&["--root", "/nonexistent"][..], &["--root", "/", "--host"], &["--source", "nonsense"]]
    {
        let (status, _, said) = doctor(arguments);
        assert_eq!(status, 2, "{arguments:?}: {said}");
    }
    let (status, list, _) = doctor(&["--list"]);
    assert!(status == 0 && list.lines().count() >= 40, "{list}");
}
