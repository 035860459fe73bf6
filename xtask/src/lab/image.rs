//! What the guest boots into: a small initramfs with busybox, the agent, the client and the kernel modules that they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::packages;

use super::client::Client;
use super::machine::Kernel;

/// What the guest needs from its kernel's modules: the network card, and the vmclock page where QEMU has one.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_net", "ptp_vmclock"];
/// What init and people at the console use.
const APPLETS: [&str; 25] = [
    "sh", "mount", "mkdir", "cat", "insmod", "ip", "usleep", "date", "tr", "sed", "echo", "ls", "dmesg",
    "sleep", "ps", "strace", "rm", "mv", "ln", "touch", "adjtimex", "hwclock", "umount", "poweroff",
    "udhcpc",
];

/// Builds the initramfs for a client, with more drivers if need be.
pub(crate) fn initramfs(
    kernel: &Kernel,
    client: &Client,
    drivers: &[&str],
    workspace: &Path,
    to: &Path,
) -> Result<()> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.file("init", &fs::read(workspace.join("lab/guest/init"))?, true);
    archive.file("lab/udhcpc", &fs::read(workspace.join("lab/guest/udhcpc"))?, true);
    archive.file("lab/hook", &fs::read(workspace.join("packaging/dhcp/driftless-dhcp"))?, true);
    let busybox = packages::find("busybox").context("busybox is missing")?;
    let probe = workspace.join("target/lab/driftless-lab-probe");
    let mut programs = vec![(busybox, "bin/busybox".to_owned()), (probe, "bin/probe".to_owned())];
    programs.extend(client.program.iter().map(|program| (program.clone(), "bin/client".to_owned())));
    programs.extend(client.programs.iter().cloned());
    programs.extend(packages::find("strace").map(|strace| (strace, "bin/strace".to_owned())));
    for (program, place) in &programs {
        archive.file(place, &fs::read(program).with_context(|| program.display().to_string())?, true);
    }
    for library in libraries(programs.iter().map(|(program, _)| program.as_path()))? {
        let place = library.to_string_lossy().trim_start_matches('/').to_owned();
        archive.file(&place, &fs::read(&library)?, true);
    }
    archive.file("lab/client", client.command.as_bytes(), false);
    archive.file("lab/client.env", client.environment.as_bytes(), false);
    for (files, are_programs) in [(&client.files, false), (&client.scripts, true)] {
        for (place, text) in files {
            archive.file(place, text.as_bytes(), are_programs);
        }
    }
    archive.file("etc/passwd", PASSWD.as_bytes(), false);
    archive.file("etc/group", GROUP.as_bytes(), false);
    archive.file("etc/services", b"ntp 123/udp\n", false);
    let modules = modules(kernel, drivers)?;
    let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
    archive.file("lab/modules", names.join("\n").as_bytes(), false);
    for (name, octets) in &modules {
        archive.file(&format!("lab/{name}"), octets, false);
    }
    fs::write(to, archive.finish()).with_context(|| to.display().to_string())
}

const FOLDERS: [&str; 13] = [
    "bin",
    "lab",
    "lib",
    "lib64",
    "etc",
    "var",
    "var/empty",
    "var/lib",
    "var/lib/openntpd",
    "var/lib/openntpd/db",
    "var/lib/openntpd/run",
    "run",
    "tmp",
];
const PASSWD: &str = "root:x:0:0::/:/bin/sh\n_chrony:x:101:101::/:/bin/false\n_openntpd:x:102:102::/var/empty:/bin/false\nopenntpd:x:102:102::/var/empty:/bin/false\n_ntp:x:102:102::/var/empty:/bin/false\nntpd:x:102:102::/var/empty:/bin/false\n";
const GROUP: &str =
    "root:x:0:\n_chrony:x:101:\n_openntpd:x:102:\nopenntpd:x:102:\n_ntp:x:102:\nntpd:x:102:\n";

/// The modules in the order of loading, uncompressed, by file name. `modules.dep`: "path: dependency dependency…".
fn modules(kernel: &Kernel, drivers: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let text = fs::read_to_string(kernel.modules.join("modules.dep"))?;
    let mut ordered: Vec<String> = Vec::new();
    for module in MODULES.iter().chain(drivers) {
        let ends = [format!("/{module}.ko:"), format!("/{module}.ko.xz:"), format!("/{module}.ko.zst:")];
        // Absent from the list means built into the kernel.
        let Some(line) = text.lines().find(|line| ends.iter().any(|end| line.contains(end.as_str()))) else {
            continue;
        };
        let paths: Vec<&str> = line.split([':', ' ']).filter(|path| !path.is_empty()).collect();
        for path in paths.iter().rev() {
            if !ordered.iter().any(|known| known == path) {
                ordered.push((*path).to_owned());
            }
        }
    }
    ordered
        .iter()
        .map(|path| {
            let file = kernel.modules.join(path);
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, uncompressed(&file)?))
        })
        .collect()
}

fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    let (tool, package) = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => ("xz", "xz-utils"),
        Some("zst") => ("zstd", "zstd"),
        _ => return fs::read(file).with_context(|| file.display().to_string()),
    };
    packages::need(&[(tool, package)])?;
    let output = Command::new(tool).arg("-dc").arg(file).output().with_context(|| tool.to_owned())?;
    Ok(output.stdout)
}

/// The shared libraries of programs, as ldd(1) tells them.
fn libraries<'a>(programs: impl Iterator<Item = &'a Path>) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output().context("ldd")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        found.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    }
    Ok(found)
}

/// An initramfs in cpio's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Debug, Default)]
struct Archive {
    octets: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, &[]);
    }

    fn link(&mut self, name: &str, to: &str) {
        self.entry(name, 0o120_777, to.as_bytes());
    }

    fn file(&mut self, name: &str, data: &[u8], is_program: bool) {
        let parents: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        for parent in parents.iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            self.folder(&parent.to_string_lossy());
        }
        self.entry(name, if is_program { 0o100_755 } else { 0o100_644 }, data);
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        let number = self.names.len();
        let fields = [number, mode as usize, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.octets.extend(b"070701");
        for field in fields {
            self.octets.extend(format!("{field:08x}").bytes());
        }
        self.octets.extend(name.bytes().chain([0]));
        self.pad();
        self.octets.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_cpio_makes_of_it() {
        let mut archive = Archive::default();
        archive.file("a/b", b"hello", true);
        let octets = archive.finish();
        assert_eq!(octets.len() % 4, 0);
        let text = String::from_utf8_lossy(&octets).into_owned();
        assert_eq!(text.matches("070701").count(), 3, "folder, file, trailer");
        assert!(text.contains("a/b\0") && text.contains("hello"));
    }
}
