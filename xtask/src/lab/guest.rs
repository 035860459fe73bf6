//! One guest: QEMU, the page it shares with us, and its true offset.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use driftless_core::clock::Clock as _;
use driftless_core::time::{RawTime, Seconds, Span, WallTime};
use driftless_lab_probe as page;
use driftless_linux::clock::ObservedClock;
use driftless_linux::mapping::Mapping;
use driftless_linux::signal::Signals;
use serde_json::{Value, json};

use super::boot::{self, Boot};
use super::monitor::Monitor;
use super::process::{Ended, go_on, rest};
use super::summary::{Spent, Start};
use super::tool::Tool;

/// A running guest; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    /// None while its state lies in a file.
    process: Option<Ended>,
    monitor: Monitor,
    /// What started QEMU, for another one to go on where it was saved.
    command: Command,
    log: PathBuf,
    shared: Mapping,
    scratch: PathBuf,
    asked: i64,
    /// Whether it has a PTP clock that we set to the host's time.
    sets_phc: bool,
    /// Who tells it after an interruption.
    tool: Option<Tool>,
    /// The client's last status and its serial number.
    status: (i64, Value),
}

/// A clock of the guest: the words by which it is asked for.
struct Asked {
    asked: usize,
    answered: usize,
    reading: usize,
}

const WALL: Asked = Asked { asked: page::ASKED, answered: page::ANSWERED, reading: page::WALL };
const PHC: Asked = Asked { asked: page::PHC_ASKED, answered: page::PHC_ANSWERED, reading: page::PHC };

/// The guest's true offset at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Truth {
    /// On the host's counter.
    pub(crate) at: RawTime,
    /// Host − guest: + means that the guest is behind.
    pub(crate) offset: Seconds,
    /// Half of the exchange's round trip.
    pub(crate) bound: Seconds,
}

/// The monitor's socket in the scratch folder.
pub(crate) const MONITOR: &str = "monitor";
/// The saved state in the scratch folder.
const STATE: &str = "state";
/// An exchange that bounds the truth this well is good enough.
const BOUND_WANTED: Seconds = Seconds(3e-6);
/// Near enough for a PTP clock, and how often it is set until then.
const PHC_OFFSET_MAX: Seconds = Seconds(2e-6);
const PHC_STEPS_MAX: u32 = 10;
/// How long one reading may take: on a busy host both sides seldom run at the same time.
pub(crate) const READING_MAX: Duration = Duration::from_millis(250);

impl Guest {
    /// Boots and waits until the guest's agent answers.
    pub(crate) fn boot(boot: &Boot<'_>, signals: &Signals) -> Result<Self> {
        let khz = boot::tsc_khz(signals)? * (1.0 - boot.drift_ppm * 1e-6);
        let shared_file = boot.scratch.join("page");
        File::create(&shared_file)?.set_len(1 << 20)?;
        let shared = Mapping::open(&shared_file, page::WORDS)?;
        let command = boot.command(khz);
        boot.keep(&command)?;
        let log = boot.folder.join("qemu.log");
        let mut process = Ended::spawn(&command, &[], &log)?;
        let monitor = Monitor::connect(&boot.scratch.join(MONITOR), &mut process, signals)
            .with_context(|| format!("QEMU: {}", fs::read_to_string(&log).unwrap_or_default().trim()))?;
        let status = (0, Value::Null);
        let mut guest = Self {
            process: Some(process),
            monitor,
            command,
            log,
            shared,
            scratch: boot.scratch.to_owned(),
            asked: 0,
            sets_phc: false,
            tool: boot.is_told.then(|| Tool::connect(boot.scratch)).transpose()?,
            status,
        };
        guest.wait_until_ready(boot, signals)?;
        Ok(guest)
    }

    fn wait_until_ready(&mut self, boot: &Boot<'_>, signals: &Signals) -> Result<()> {
        let start = Instant::now();
        while self.shared.load(page::READY) == 0 {
            go_on(signals)?;
            if !self.is_running() || start.elapsed() > boot.accelerator.patience() {
                let log = |name: &str| fs::read_to_string(boot.folder.join(name)).unwrap_or_default();
                let tail: String = log("console.log").lines().rev().take(8).collect::<Vec<_>>().join(" | ");
                bail!("the guest did not come up; QEMU: {} console: {tail}", log("qemu.log").trim());
            }
            sleep(Duration::from_millis(50));
        }
        if self.shared.load(page::READY) < 0 {
            bail!(
                "the guest left clock source tsc, so its drift is not the planted one: the host is too busy"
            );
        }
        Ok(())
    }

    fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Ended::is_running)
    }

    /// Stops the guest for `length`, as a host's sleep does. Returns when it went on.
    pub(crate) fn pause(&mut self, length: Duration, signals: &Signals) -> Result<Instant> {
        self.monitor.execute("stop", &json!({}))?;
        rest(signals, length)?;
        self.go_on()
    }

    /// Saves the guest's state to a file and ends QEMU; `gap` later another QEMU goes on from there. Returns when it did.
    pub(crate) fn restore(&mut self, gap: Duration, signals: &Signals) -> Result<Instant> {
        let start = Instant::now();
        let state = self.scratch.join(STATE);
        self.monitor.execute("stop", &json!({}))?;
        self.monitor.save(&state, signals)?;
        self.process = None;
        rest(signals, gap.saturating_sub(start.elapsed()))?;
        let from = format!("exec:cat '{}'", state.display());
        let mut process = Ended::spawn(&self.command, &["-S", "-incoming", &from], &self.log)?;
        self.monitor = Monitor::connect(&self.scratch.join(MONITOR), &mut process, signals)?;
        self.process = Some(process);
        self.monitor.wait("query-status", "paused", signals)?;
        self.go_on()
    }

    fn go_on(&mut self) -> Result<Instant> {
        let start = Instant::now();
        self.monitor.execute("cont", &json!({}))?;
        if self.sets_phc {
            self.set_phc()?;
        }
        if let Some(tool) = &mut self.tool {
            tool.tell()?;
        }
        Ok(start)
    }

    /// Lets the agent ask the client for its status every ten seconds only: each time wakes it, and its own wake-ups are to be counted.
    pub(crate) fn let_rest(&self) {
        self.shared.store(page::STATUS_EVERY_MS, 10_000);
    }

    /// Starts or ends the client under test.
    pub(crate) fn set_client(&self, runs: bool) {
        self.shared.store(page::CLIENT, i64::from(runs));
    }

    /// The true offset of the wall clock now, as well as it can be had in about `patience`.
    pub(crate) fn truth(&mut self, patience: Duration) -> Result<Truth> {
        self.tightest(&WALL, patience)
    }

    /// The true offset of the PTP clock that we set, where there is one.
    pub(crate) fn phc_truth(&mut self, patience: Duration) -> Result<Option<Truth>> {
        if self.sets_phc { self.tightest(&PHC, patience).map(Some) } else { Ok(None) }
    }

    /// Sets the PTP clock to the host's time. It runs on the host's counter, but stops while the guest is stopped.
    pub(crate) fn set_phc(&mut self) -> Result<()> {
        self.sets_phc = true;
        for _ in 0..PHC_STEPS_MAX {
            let offset = self.tightest(&PHC, READING_MAX)?.offset;
            if offset.abs() < PHC_OFFSET_MAX {
                return Ok(());
            }
            self.shared.store(page::PHC_STEP, offset.to_span().as_nanos());
            let order = self.shared.load(page::PHC_STEP_MADE) + 1;
            self.shared.store(page::PHC_STEP_ORDERED, order);
            let start = Instant::now();
            while self.shared.load(page::PHC_STEP_MADE) != order && start.elapsed() < Duration::from_secs(5) {
                sleep(Duration::from_millis(1));
            }
        }
        bail!("the guest's PTP clock cannot be set")
    }

    /// The tightest of several exchanges about a clock.
    fn tightest(&mut self, clock: &Asked, patience: Duration) -> Result<Truth> {
        self.shared.store(page::WINDOW, 1);
        let mut best: Option<Truth> = None;
        let start = Instant::now();
        while start.elapsed() < patience || best.is_none() && start.elapsed() < READING_MAX {
            if let Some(truth) = self.exchange(clock) {
                if best.is_none_or(|best| truth.bound < best.bound) {
                    best = Some(truth);
                }
                if truth.bound < BOUND_WANTED {
                    break;
                }
            }
            if !self.is_running() {
                bail!("the guest ended");
            }
        }
        self.shared.store(page::WINDOW, 0);
        best.context("the guest's agent does not answer")
    }

    fn exchange(&mut self, clock: &Asked) -> Option<Truth> {
        self.asked += 1;
        let before = ObservedClock.now();
        self.shared.store(clock.asked, self.asked);
        let mut spins: u32 = 0;
        while self.shared.load(clock.answered) != self.asked {
            spins += 1;
            if spins % (1 << 12) == 0 {
                // The guest may need our core to answer at all.
                sleep(Duration::from_micros(200));
            }
            if spins > 1 << 18 {
                return None;
            }
        }
        let after = ObservedClock.now();
        let guest = WallTime::from_nanos(self.shared.load(clock.reading));
        let half = (after.wall - before.wall).half();
        Some(Truth {
            at: before.raw,
            offset: Seconds::from(before.wall + half - guest),
            bound: Seconds::from(half.max(Span::from_nanos(1))),
        })
    }

    /// The client's own status, as far as it has one.
    pub(crate) fn status(&mut self) -> &Value {
        let serial = self.shared.load(page::STATUS_SERIAL);
        if serial % 2 == 0 && serial != self.status.0 {
            let length = usize::try_from(self.shared.load(page::STATUS_LENGTH)).unwrap_or(0);
            let octets: Vec<u8> = (0..length.div_ceil(8))
                .flat_map(|index| self.shared.load(page::STATUS + index).to_le_bytes())
                .take(length)
                .collect();
            if let Ok(status) = serde_json::from_slice(&octets) {
                if self.shared.load(page::STATUS_SERIAL) == serial {
                    self.status = (serial, status);
                }
            }
        }
        &self.status.1
    }

    /// The kernel's tick in µs and frequency in ppm as the agent last read them.
    pub(crate) fn rate(&self) -> (i64, f64) {
        let scaled = self.shared.load(page::FREQUENCY);
        let frequency = driftless_core::time::Frequency::from_scaled_ppm(scaled);
        (self.shared.load(page::TICK), frequency.ppm())
    }

    /// Backward and forward steps that the agent saw.
    pub(crate) fn steps(&self) -> (i64, i64) {
        (self.shared.load(page::BACKWARD_STEPS), self.shared.load(page::FORWARD_STEPS))
    }

    /// How long the gate took, and from the client's start to a right clock, in seconds, where the agent has timed them.
    pub(crate) fn start(&self) -> Start {
        let timed = |word: usize| {
            let nanos = self.shared.load(word);
            (nanos > 0).then(|| Seconds::from(Span::from_nanos(nanos)).0)
        };
        Start {
            waitsync_first_s: timed(page::WAITSYNC_FIRST_NS),
            waitsync_s: timed(page::WAITSYNC_NS),
            right_after_s: timed(page::RIGHT_AFTER_NS),
        }
    }

    /// What the client has cost so far.
    pub(crate) fn spent(&self) -> Spent {
        Spent {
            resident_kb: self.shared.load(page::RESIDENT_KB),
            processor_ns: self.shared.load(page::CLIENT_NS),
            wakes: self.shared.load(page::CLIENT_WAKES),
        }
    }
}
