//! Debian packages: installed where we may, unpacked into a cache where installing would start a daemon or mix suites.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A suite to take packages from without installing them: this machine's own, or another one on the same mirror.
#[derive(Debug)]
pub(crate) struct Suite {
    name: String,
    /// What apt needs to be told; nothing for this machine's own.
    options: Vec<String>,
    /// Where its lists lie, if they are not this machine's.
    lists: Option<PathBuf>,
}

/// This machine's release of Debian, and the mirror that its apt is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) codename: String,
    mirror: String,
}

/// Silence that is long enough to be taken for a hang.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
const MEGABYTE: u64 = 1_000_000;
/// Without these apt stops at the first package of another release: its key is named where the sources would name it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Suite {
    /// The suites that this machine's apt knows.
    pub(crate) fn own() -> Self {
        Self { name: "this machine's suite".to_owned(), options: Vec::new(), lists: None }
    }

    /// Another suite on the mirror of `release`, with lists of its own in `cache`: the machine's sources stay as they are.
    pub(crate) fn beside(release: &Release, name: &str, cache: &Path) -> Result<Self> {
        let folder = cache.join("apt").join(name);
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let key = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        let list = folder.join("sources.list");
        fs::write(&list, format!("deb {key}{} {name} main\n", release.mirror))?;
        let settings = [
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            // What is installed here, and of which version, is no matter.
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::State::lists={}", folder.join("lists").display()),
            format!("Dir::Cache={}", folder.display()),
            "APT::Update::Error-Mode=any".to_owned(),
            "Acquire::Retries=0".to_owned(),
            "Acquire::http::Timeout=10".to_owned(),
        ];
        let options = settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]).collect();
        Ok(Self { name: name.to_owned(), options, lists: Some(folder.join("lists")) })
    }

    /// What a package depends on: how a meta package names the real one.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        self.refresh_if_empty()?;
        let output = self.apt("apt-cache").args(["depends", package]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
    }

    /// Unpacks packages into the folder `to`, unless that is there; nothing is installed. Runs beside each other do not collide.
    pub(crate) fn unpack(&self, packages: &[&str], to: &Path) -> Result<()> {
        if to.exists() {
            return Ok(());
        }
        self.refresh_if_empty()?;
        let parent = to.parent().context("a cache has a parent")?;
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let building = parent.join(name);
        let _ = fs::remove_dir_all(&building);
        fs::create_dir_all(&building)?;
        let done = packages.iter().try_for_each(|package| self.unpack_into(package, &building));
        if done.is_err() || fs::rename(&building, to).is_err() {
            // Failed, or another run was quicker.
            let _ = fs::remove_dir_all(&building);
        }
        done
    }

    fn unpack_into(&self, package: &str, root: &Path) -> Result<()> {
        let downloads = root.join(".download");
        fs::create_dir_all(&downloads)?;
        if self.download(package, &downloads).is_err() {
            // The lists are older than the mirror.
            self.refresh()?;
            self.download(package, &downloads)
                .with_context(|| format!("cannot download {package} from {}", self.name))?;
        }
        let deb = fs::read_dir(&downloads)?.flatten().next().context("apt-get download left no file")?;
        quietly(Command::new("dpkg").arg("-x").arg(deb.path()).arg(root))?;
        Ok(fs::remove_dir_all(&downloads)?)
    }

    fn download(&self, package: &str, to: &Path) -> Result<()> {
        let asked = self.apt("apt-get").args(["download", "--print-uris", package]).output()?;
        // 'URI' file size hash
        let answer = String::from_utf8_lossy(&asked.stdout).into_owned();
        let size: u64 = answer.split_whitespace().nth(2).and_then(|size| size.parse().ok()).unwrap_or(0);
        eprintln!("xtask: fetching {package} from {} ({} MB)", self.name, size.div_ceil(MEGABYTE));
        let mut download = self.apt("apt-get");
        download.args(["download", "-qq", package]).current_dir(to).stderr(std::process::Stdio::null());
        let mut child = download.spawn().context("running apt-get")?;
        let mut told = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return if status.success() { Ok(()) } else { bail!("apt-get download {package} failed") };
            }
            if told.elapsed() > PROGRESS_EVERY {
                told = Instant::now();
                let here: u64 =
                    fs::read_dir(to)?.flatten().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
                eprintln!("xtask:   {} of {} MB", here / MEGABYTE, size.div_ceil(MEGABYTE));
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn refresh_if_empty(&self) -> Result<()> {
        let Some(lists) = &self.lists else { return Ok(()) };
        let has_any =
            fs::read_dir(lists)?.flatten().any(|f| f.file_name().to_string_lossy().contains("_dists_"));
        if has_any { Ok(()) } else { self.refresh() }
    }

    /// Fetches the lists anew.
    pub(crate) fn refresh(&self) -> Result<()> {
        if self.lists.is_none() {
            return update();
        }
        quietly(self.apt("apt-get").args(["update", "-qq"]))
            .with_context(|| format!("the package lists of {} cannot be had", self.name))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }
}

impl Release {
    /// From what apt is set to fetch; none where this is not Debian.
    pub(crate) fn here() -> Option<Self> {
        let about = fs::read_to_string("/etc/os-release").ok()?;
        let value =
            |key: &str| about.lines().find_map(|line| line.strip_prefix(key)).map(|v| v.trim_matches('"'));
        let codename = value("VERSION_CODENAME=").filter(|_| value("ID=") == Some("debian"))?;
        let format = ["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"];
        let output = Command::new("apt-get").args(format).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mirror = text.lines().find_map(|line| line.strip_prefix(codename)?.strip_prefix(' '))?;
        Some(Self { codename: codename.to_owned(), mirror: mirror.to_owned() })
    }
}

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
    eprintln!("xtask: updating apt's package lists");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_suite_has_lists_of_its_own() {
        let cache = std::env::temp_dir().join(format!("driftless-packages-{}", std::process::id()));
        let release =
            Release { codename: "stable".to_owned(), mirror: "https://mirror.example/debian".to_owned() };
        let suite = Suite::beside(&release, "stable-backports", &cache).unwrap();
        let list = fs::read_to_string(cache.join("apt/stable-backports/sources.list")).unwrap();
        fs::remove_dir_all(&cache).unwrap();
        assert!(list.ends_with("https://mirror.example/debian stable-backports main\n"), "{list}");
        for setting in ["Dir::Etc::sourceparts=/dev/null", "Dir::State::status=/dev/null"] {
            assert!(suite.options.iter().any(|option| option == setting), "{setting}");
        }
        let lists = suite.lists.unwrap();
        assert!(lists.starts_with(&cache), "{}", lists.display());
    }
}
