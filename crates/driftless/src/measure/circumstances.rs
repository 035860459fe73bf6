//! Under what circumstances a measurement is made: the machine, its kernel, its counter, what it runs on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// By the keys of the notebook's header. `root` is `/` but in tests.
pub(super) fn facts(root: &Path, label: &str, started: String) -> BTreeMap<String, String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok().map(|text| text.trim().to_owned());
    let known =
        |path: &str| read(path).filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    let machine = known("proc/sys/kernel/hostname");
    let kernel = format!(
        "{} {} {}",
        known("proc/sys/kernel/ostype"),
        known("proc/sys/kernel/osrelease"),
        std::env::consts::ARCH
    );
    let label = if label.is_empty() { machine.clone() } else { label.to_owned() };
    let facts = [
        ("label", label),
        ("started", started),
        ("machine", machine),
        ("kernel", kernel),
        ("clocksource", known("sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("hypervisor", hypervisor(&read)),
        ("boot", known("proc/sys/kernel/random/boot_id")),
    ];
    facts.map(|(key, value)| (key.to_owned(), value.replace('\n', " "))).into()
}

/// What the firmware's tables call this machine, if its processor says that it is a virtual one.
fn hypervisor(read: &dyn Fn(&str) -> Option<String>) -> String {
    let processor = read("proc/cpuinfo").unwrap_or_default();
    let mut lines =
        processor.lines().filter(|line| line.starts_with("flags") || line.starts_with("Features"));
    let is_virtual = lines.any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"));
    let names = ["sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name", "sys/hypervisor/type"];
    let told: Vec<String> = names.into_iter().filter_map(read).filter(|name| !name.is_empty()).collect();
    match (is_virtual, told.is_empty()) {
        (true, true) => "one that does not tell its name".to_owned(),
        (true, false) => told.join(", "),
        (false, true) => "none seen".to_owned(),
        (false, false) => format!("none seen ({})", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_described_and_a_bare_root_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/cpuinfo", "flags\t\t: fpu hypervisor lahf_lm\n");
        put("sys/class/dmi/id/sys_vendor", "QEMU\n");
        put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
        let found = facts(root.path(), "mine", "now".to_owned());
        let of = |key: &str| found[key].as_str();
        assert_eq!((of("hypervisor"), of("clocksource"), of("label")), ("QEMU", "tsc", "mine"));
        assert_eq!(facts(Path::new("/nonexistent"), "", String::new())["hypervisor"], "none seen");
    }
}
