//! Debian packages: installed where we may, unpacked into a cache where installing would start a daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Makes sure that each program is there, installing its package when root or sudo allows.
pub(crate) fn need(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("xtask: installing {}", missing.join(", "));
    let mut install = as_root("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if quietly(&mut install).is_ok() {
        return Ok(());
    }
    update()?;
    quietly(&mut install).with_context(|| {
        format!("these Debian packages are missing and could not be installed: {}", missing.join(" "))
    })
}

/// Unpacks a package into `cache/NAME` without installing it; returns the folder.
pub(crate) fn unpacked(package: &str, cache: &Path) -> Result<PathBuf> {
    let root = cache.join(package);
    if root.join(".whole").exists() {
        return Ok(root);
    }
    let downloads = cache.join("downloads").join(package);
    let _ = fs::remove_dir_all(&root);
    let _ = fs::remove_dir_all(&downloads);
    fs::create_dir_all(&downloads)?;
    eprintln!("xtask: fetching Debian's {package}");
    let mut download = Command::new("apt-get");
    download.args(["download", "-qq", package]).current_dir(&downloads);
    if quietly(&mut download).is_err() {
        update()?;
        quietly(&mut download).with_context(|| format!("cannot download Debian's {package}"))?;
    }
    let Some(deb) = fs::read_dir(&downloads)?.flatten().find(|file| file.path().extension().is_some()) else {
        bail!("apt-get download {package} left no file");
    };
    quietly(Command::new("dpkg").arg("-x").arg(deb.path()).arg(&root))?;
    fs::write(root.join(".whole"), "")?;
    Ok(root)
}

/// What a package depends on that begins with `prefix`: how a meta package names the real one.
pub(crate) fn dependency(package: &str, prefix: &str) -> Result<String> {
    for attempt in 0..2 {
        let output = Command::new("apt-cache").args(["depends", package]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        if let Some(name) = names.find(|name| name.starts_with(prefix)) {
            return Ok(name.to_owned());
        }
        if attempt == 0 {
            update()?;
        }
    }
    bail!("apt knows no package {package} with a dependency {prefix}…; is this Debian or Ubuntu?")
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a command; its output is shown only when it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{:?} failed: {}", command.get_program(), said.trim())
}

fn update() -> Result<()> {
    quietly(as_root("apt-get").args(["update", "-qq"])).context("apt's package lists cannot be updated")
}

fn as_root(program: &str) -> Command {
    if is_root() || find("sudo").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")))
}
