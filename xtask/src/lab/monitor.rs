//! QEMU's monitor: one JSON line each way over a Unix socket (docs/interop/qmp-spec.rst), to stop, save and go on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use driftless_linux::signal::Signals;
use serde_json::{Value, json};

use super::process::{Ended, go_on};

/// A connection to one QEMU's monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
}

/// A busy host takes its time over a memory image.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Events that may come between a command and its answer.
const EVENTS_MAX: u32 = 100;

impl Monitor {
    /// Connects as soon as `qemu` listens.
    pub(crate) fn connect(socket: &Path, qemu: &mut Ended, signals: &Signals) -> Result<Self> {
        let start = Instant::now();
        let stream = loop {
            go_on(signals)?;
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if !qemu.is_running() || start.elapsed() > PATIENCE => {
                    bail!("QEMU's monitor does not listen: {error}")
                }
                Err(_) => sleep(LOOK_EVERY),
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        // Its greeting.
        monitor.line()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Carries out one command.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = json!({"execute": command, "arguments": arguments}).to_string();
        writeln!(self.stream.get_mut(), "{line}")?;
        for _ in 0..EVENTS_MAX {
            let mut answer = self.line()?;
            if !answer["error"].is_null() {
                bail!("QEMU refuses {command}: {}", answer["error"]["desc"]);
            }
            if !answer["return"].is_null() {
                return Ok(answer["return"].take());
            }
        }
        bail!("QEMU does not answer {command}")
    }

    /// Writes the stopped guest's state to a file.
    pub(crate) fn save(&mut self, state: &Path, signals: &Signals) -> Result<()> {
        self.execute("migrate", &json!({"uri": format!("exec:cat > '{}'", state.display())}))?;
        self.wait("query-migrate", "completed", signals)
    }

    /// Waits until what `query` asks for has the status `wanted`.
    pub(crate) fn wait(&mut self, query: &str, wanted: &str, signals: &Signals) -> Result<()> {
        let start = Instant::now();
        loop {
            go_on(signals)?;
            let answer = self.execute(query, &json!({}))?;
            if answer["status"] == wanted {
                return Ok(());
            }
            if answer["status"] == "failed" || start.elapsed() > PATIENCE {
                bail!("QEMU's {query} says {answer}, {wanted} was expected");
            }
            sleep(LOOK_EVERY);
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("QEMU's monitor is silent")?;
        serde_json::from_str(&line).context("QEMU's monitor has gone")
    }
}
