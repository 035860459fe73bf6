//! Real guests under QEMU, with a chosen drift beneath adjtimex, measured through a shared page to a microsecond.

mod client;
mod guest;
mod image;
mod scenario;
mod summary;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use driftless_linux::signal::Signals;

use crate::packages;
pub(crate) use client::{Client, Kind};
pub(crate) use guest::{Boot, Ended, Guest};
pub(crate) use scenario::{MEDIAN_MAX, Scenario, find};
pub(crate) use summary::{Look, Summary};

/// Arguments of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab --list
  cargo xtask lab drift-2000 --json
  cargo xtask lab drift+676 --client chronyd

Each run leaves console, log, samples.csv and summary.json in .lab/runs/ (or below DRIFTLESS_LAB_DIR).")]
pub(crate) struct Args {
    /// Which scenario
    #[arg(required_unless_present_any = ["list", "clean"])]
    scenario: Option<String>,
    /// What keeps the guest's clock: driftless, chronyd, openntpd or none
    #[arg(long, default_value = "driftless")]
    client: Kind,
    /// One line of JSON at the end
    #[arg(long)]
    json: bool,
    /// Leave the guest's files behind
    #[arg(long)]
    keep: bool,
    /// Watch for so many seconds instead
    #[arg(long, value_name = "S")]
    duration: Option<u64>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Remove what earlier runs left
    #[arg(long)]
    clean: bool,
}

/// Between two looks at the truth.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) fn run(args: &Args) -> Result<bool> {
    if args.list {
        for scenario in scenario::SCENARIOS {
            println!("{:<14} {}", scenario.name, scenario.about);
        }
        return Ok(true);
    }
    if args.clean {
        let runs = folder()?.join("runs");
        if runs.exists() {
            fs::remove_dir_all(&runs)?;
        }
        eprintln!("xtask: removed {}", runs.display());
        return Ok(true);
    }
    let name = args.scenario.as_deref().unwrap_or_default();
    let Some(mut scenario) = find(name) else {
        bail!("no scenario {name}; `cargo xtask lab --list` shows all")
    };
    if let Some(seconds) = args.duration {
        scenario.watch = Duration::from_secs(seconds);
    }
    let summary = measure(&scenario, args.client)?;
    eprintln!("{summary}");
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    }
    Ok(summary.ok || args.client != Kind::Driftless)
}

/// Gets what a guest is made of: Debian's packages, and a kernel in the cache.
pub(crate) fn prepare() -> Result<image::Kernel> {
    packages::need(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("depmod", "kmod"),
        ("setpriv", "util-linux"),
    ])?;
    let cache = folder()?.join("cache");
    fs::create_dir_all(&cache)?;
    image::kernel(&cache)
}

/// Runs one scenario to its end.
pub(crate) fn measure(scenario: &Scenario, kind: Kind) -> Result<Summary> {
    let signals = Signals::install()?;
    let mut bench = Bench::new(scenario.name, kind)?;
    eprintln!("xtask: booting a guest for {}: {}", scenario.name, scenario.about);
    let mut guest = bench.boot(scenario.drift_ppm, scenario.ahead_s)?;
    let mut csv = fs::File::create(bench.folder.join("samples.csv"))?;
    writeln!(csv, "{}", Look::CSV_HEADER)?;
    guest.set_client(true);
    let start = Instant::now();
    let mut looks = Vec::new();
    let mut told = Instant::now();
    while start.elapsed() < scenario.watch {
        if signals.should_end() {
            bail!("interrupted; everything that was started is ended");
        }
        bench
            .serve_or_not(scenario.silence.is_some_and(|(from, to)| (from..to).contains(&start.elapsed())))?;
        let look = Look::take(&mut guest, start)?;
        writeln!(csv, "{}", look.csv())?;
        looks.push(look);
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("xtask: {} s of {}", start.elapsed().as_secs(), scenario.watch.as_secs());
        }
        sleep(LOOK_EVERY);
    }
    let summary = Summary::of(
        scenario.name,
        kind.name(),
        &looks,
        guest.steps(),
        guest.resident_kb(),
        scenario.median_max,
    );
    fs::write(bench.folder.join("summary.json"), serde_json::to_string(&summary)?)?;
    Ok(summary)
}

/// Everything that one guest needs on the host.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    workspace: PathBuf,
    kernel: image::Kernel,
    initramfs: PathBuf,
    port: u16,
    server: Option<Ended>,
}

impl Bench {
    /// Fetches and builds what is missing and starts the host's server.
    pub(crate) fn new(name: &str, kind: Kind) -> Result<Self> {
        let (workspace, lab) = (workspace()?, folder()?);
        let cache = lab.join("cache");
        let kernel = prepare()?;
        build(&workspace)?;
        let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let folder = lab.join("runs").join(format!("{name}-{}-{}-{unique}", kind.name(), std::process::id()));
        fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let client = client::prepare(kind, port, &workspace, &cache)?;
        let initramfs = folder.join("initramfs");
        image::initramfs(&kernel, &client, &workspace, &initramfs)?;
        let mut bench = Self { folder, workspace, kernel, initramfs, port, server: None };
        bench.serve_or_not(false)?;
        Ok(bench)
    }

    pub(crate) fn boot(&self, drift_ppm: f64, ahead_s: i64) -> Result<Guest> {
        let guest = Guest::boot(&Boot {
            kernel: &self.kernel.image,
            initramfs: &self.initramfs,
            folder: &self.folder,
            drift_ppm,
            ahead_s,
        });
        let _ = fs::remove_file(&self.initramfs);
        guest
    }

    /// Starts the host's server, or lets it vanish.
    pub(crate) fn serve_or_not(&mut self, is_gone: bool) -> Result<()> {
        if is_gone {
            self.server = None;
        } else if self.server.is_none() {
            let driftless = self.workspace.join("target/lab/driftless").to_string_lossy().into_owned();
            let listen = format!("127.0.0.1:{}", self.port);
            let command = [driftless.as_str(), "serve", "--as-is", "--listen", &listen].map(str::to_owned);
            self.server = Some(Ended::spawn(command.to_vec(), &self.folder.join("server.log"))?);
        }
        Ok(())
    }
}

/// The workspace's root.
pub(crate) fn workspace() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask lies in the workspace")?.to_owned())
}

/// Where the lab keeps its cache and its runs.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(match std::env::var_os("DRIFTLESS_LAB_DIR") {
        Some(folder) => folder.into(),
        None => workspace()?.join(".lab"),
    })
}

fn build(workspace: &Path) -> Result<()> {
    eprintln!("xtask: building driftless and the guest's agent");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "lab", "-p", "driftless", "-p", "driftless-lab-probe"])
        .current_dir(workspace)
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    if built.success() { Ok(()) } else { bail!("cargo build failed") }
}

/// A UDP port that nobody uses on loopback.
fn free_port() -> Result<u16> {
    Ok(std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}
