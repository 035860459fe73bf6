//! What a guest is made of: a QEMU and a kernel, from Debian's backports where they can be had, since those bring devices that the release lacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::packages::{self, Release, Suite};

/// A QEMU and a kernel.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) qemu: Qemu,
    pub(crate) kernel: Kernel,
}

/// A QEMU, installed or unpacked.
#[derive(Debug)]
pub(crate) struct Qemu {
    program: PathBuf,
    /// Where it was unpacked, with its data and modules.
    unpacked: Option<PathBuf>,
}

/// A kernel and its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) modules: PathBuf,
}

/// For a release of Debian: the suite of a newer QEMU that its libraries can carry, and those of a newer kernel, best first.
const NEWER: [(&str, Option<&str>, &[&str]); 2] = [
    ("bookworm", Some("bookworm-backports"), &["trixie-backports", "bookworm-backports"]),
    ("trixie", None, &["trixie-backports"]),
];
/// The whole kernel: the small one for clouds has no driver for a network card with a clock.
const WHOLE_KERNEL: [&str; 1] = ["linux-image-amd64"];
/// Meta packages that name a small kernel, Debian's first, then Ubuntu's.
const SMALL_KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
const QEMU_PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

impl Machine {
    /// The newest that this machine can run.
    pub(crate) fn find(cache: &Path) -> Result<Self> {
        let release = Release::here();
        let newer = release.as_ref().and_then(|here| {
            NEWER.iter().find(|(codename, ..)| *codename == here.codename).map(|row| (here, row.1, row.2))
        });
        let Some((here, qemu_suite, kernel_suites)) = newer else {
            return Ok(Self { qemu: Qemu::installed()?, kernel: own_kernel(cache)? });
        };
        let qemu = match qemu_suite.map(|suite| Qemu::unpacked(here, suite, cache)) {
            Some(Ok(qemu)) => qemu,
            Some(Err(error)) => {
                eprintln!("xtask: no newer QEMU ({error:#}); taking the installed one");
                Qemu::installed()?
            }
            None => Qemu::installed()?,
        };
        Ok(Self {
            qemu,
            kernel: newer_kernel(here, kernel_suites, cache).map_or_else(|| own_kernel(cache), Ok)?,
        })
    }
}

impl Qemu {
    /// The distribution's own.
    pub(crate) fn installed() -> Result<Self> {
        let program = packages::find("qemu-system-x86_64").context("qemu-system-x86_64 is missing")?;
        Self { program, unpacked: None }.tried()
    }

    fn unpacked(release: &Release, suite: &str, cache: &Path) -> Result<Self> {
        let root = cache.join(format!("qemu-{suite}"));
        Suite::beside(release, suite, cache)?.unpack(&QEMU_PACKAGES, &root)?;
        let program = root.join("usr/bin/qemu-system-x86_64");
        Self { program, unpacked: Some(root) }.tried()
    }

    /// Starts it once: its libraries may be missing here.
    fn tried(self) -> Result<Self> {
        packages::quietly(self.command().arg("--version"))?;
        Ok(self)
    }

    /// Whether it has a device of that name.
    pub(crate) fn has(&self, device: &str) -> bool {
        let asked = self.command().args(["-device", &format!("{device},help")]).output();
        asked.is_ok_and(|answer| !String::from_utf8_lossy(&answer.stderr).contains("not found"))
    }

    /// It, told where its data and its modules lie.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.unpacked {
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(data));
            }
            command.env("QEMU_MODULE_DIR", root.join("usr/lib/x86_64-linux-gnu/qemu"));
        }
        command
    }
}

fn newer_kernel(release: &Release, suites: &[&str], cache: &Path) -> Option<Kernel> {
    for name in suites {
        match Suite::beside(release, name, cache).and_then(|suite| kernel(&suite, &WHOLE_KERNEL, cache)) {
            Ok(kernel) => return Some(kernel),
            Err(error) => eprintln!("xtask: no newer kernel ({error:#}); looking further"),
        }
    }
    None
}

/// The distribution's own kernel.
fn own_kernel(cache: &Path) -> Result<Kernel> {
    let own = Suite::own();
    kernel(&own, &SMALL_KERNELS, cache).or_else(|_| {
        own.refresh()?;
        kernel(&own, &SMALL_KERNELS, cache)
    })
}

/// The kernel that the first known meta package names, unpacked. Its image and modules may be packages of their own.
fn kernel(suite: &Suite, metas: &[&str], cache: &Path) -> Result<Kernel> {
    let is_image = |name: &String| name.starts_with("linux-image-");
    for meta in metas {
        let Some(package) = suite.dependencies(meta)?.into_iter().find(is_image) else { continue };
        let parts = suite.dependencies(&package)?;
        let parts = parts
            .iter()
            .filter(|p| ["linux-binary-", "linux-modules-"].iter().any(|start| p.starts_with(start)));
        let packages: Vec<&str> = [package.as_str()].into_iter().chain(parts.map(String::as_str)).collect();
        let root = cache.join(&package);
        suite.unpack(&packages, &root)?;
        return Kernel::within(&root);
    }
    bail!("apt knows none of {}", metas.join(", "))
}

impl Kernel {
    fn within(root: &Path) -> Result<Self> {
        let libraries = [root.join("usr/lib/modules"), root.join("lib/modules")];
        let library = libraries
            .iter()
            .find(|folder| folder.is_dir())
            .context("the kernel's packages hold no modules")?;
        let modules = first(library, "")?;
        let image = Some(modules.join("vmlinuz")).filter(|image| image.is_file());
        let image = image.map_or_else(|| first(&root.join("boot"), "vmlinuz-"), Ok)?;
        if !modules.join("modules.dep").exists() {
            let base = library.ancestors().nth(2).context("the modules lie too high")?;
            let version = modules.file_name().unwrap_or_default();
            let depmod = packages::find("depmod").context("depmod is missing")?;
            packages::quietly(Command::new(depmod).arg("-b").arg(base).arg(version))?;
        }
        Ok(Self { image, modules })
    }
}

fn first(folder: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .with_context(|| format!("nothing like {prefix}* in {}", folder.display()))
}
