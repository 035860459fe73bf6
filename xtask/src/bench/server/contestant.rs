//! The servers that are compared: each on a core of its own, none of them with power over this machine's clock.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::lab::{Ended, peers};
use crate::packages::find;

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Contestant {
    /// What comes is sent back: nothing can be quicker
    Echo,
    /// `driftless serve --as-is`
    Driftless,
    /// chronyd as its package's configuration would have it, with `local` and `allow`
    Chronyd,
    /// ntpd-rs with one server and no source
    NtpdRs,
}

/// Where each contestant's program is.
#[derive(Debug)]
pub(super) struct Programs {
    built: PathBuf,
    folders: Vec<PathBuf>,
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    process: Ended,
    /// On 127.0.0.1.
    pub(super) port: u16,
    log: PathBuf,
}

/// How long a server may take to end, even under valgrind.
const END_MAX: Duration = Duration::from_secs(10);
/// The load generator, and the echo.
const GENERATOR: &str = "driftless-lab-load";
/// The core of the servers, and that of whoever asks them.
const SERVERS_CORE: &str = "1";
pub(super) const CLIENTS_CORE: &str = "0";

impl Contestant {
    pub(super) const ALL: [Self; 4] = [Self::Echo, Self::Driftless, Self::Chronyd, Self::NtpdRs];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Driftless => "driftless",
            Self::Chronyd => "chronyd",
            Self::NtpdRs => "ntpd-rs",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Echo => GENERATOR,
            Self::Driftless => "driftless",
            Self::Chronyd => "chronyd",
            Self::NtpdRs => "ntp-daemon",
        }
    }

    /// Starts it, by way of the program `under` where one is given, with what it needs in `folder`.
    pub(super) fn start(self, programs: &Programs, folder: &Path, under: &[&str]) -> Result<Running> {
        let program = programs.of(self).with_context(|| format!("there is no {} here", self.program()))?;
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", SERVERS_CORE]).args(under).arg(program);
        self.configure(&mut command, port, folder)?;
        let log = folder.join(format!("{}.log", self.name()));
        let _ = fs::remove_file(&log);
        let process = Ended::spawn(&command, &[], &log)?;
        Ok(Running { process, port, log })
    }

    fn configure(self, command: &mut Command, port: u16, folder: &Path) -> Result<()> {
        let address = format!("127.0.0.1:{port}");
        let config = folder.join(format!("{}.conf", self.name()));
        match self {
            Self::Echo => command.args(["echo", &address]),
            Self::Driftless => command
                .args(["serve", "--as-is", "--listen", &address, "--control"])
                // Not where this machine's own server is asked for its status.
                .arg(folder.join("driftless.sock")),
            Self::Chronyd => {
                let pid = folder.join("chronyd.pid");
                let text = format!(
                    "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.0/8\nlocal stratum 5\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
                    pid.display()
                );
                fs::write(&config, text)?;
                command.args(["-x", "-d", "-u", "root", "-f"]).arg(config)
            }
            Self::NtpdRs => {
                let observe = folder.join("ntpd-rs.sock");
                let text = format!(
                    "[observability]\nobservation-path = \"{}\"\n\n[[server]]\nlisten = \"{address}\"\n",
                    observe.display()
                );
                fs::write(&config, text)?;
                command.arg("-c").arg(config)
            }
        };
        Ok(())
    }
}

impl Programs {
    /// Those of `built`, and peers where they are found.
    pub(super) fn find(built: PathBuf) -> Result<Self> {
        Ok(Self { built, folders: std::env::split_paths(&peers()?).collect() })
    }

    /// What puts load on them.
    pub(super) fn generator(&self) -> PathBuf {
        self.built.join(GENERATOR)
    }

    pub(super) fn of(&self, contestant: Contestant) -> Option<PathBuf> {
        let name = contestant.program();
        match contestant {
            Contestant::Echo | Contestant::Driftless => Some(self.built.join(name)),
            Contestant::Chronyd | Contestant::NtpdRs => {
                let unpacked =
                    self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
                unpacked.or_else(|| find(name))
            }
        }
    }
}

impl Running {
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end, and returns what it said until it had.
    pub(super) fn end(mut self) -> Result<String> {
        let asked = Command::new("sh").args(["-c", "kill \"$0\"", &self.id().to_string()]).status()?;
        let start = Instant::now();
        while asked.success() && self.process.is_running() {
            if start.elapsed() > END_MAX {
                bail!("it did not end within {END_MAX:?}");
            }
            sleep(Duration::from_millis(10));
        }
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Resident memory in kB.
    pub(super) fn resident_kb(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}
