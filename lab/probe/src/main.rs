//! The lab guest's agent. Started by the guest's init with the client's command line; runs until the guest is ended.
#![forbid(unsafe_code)]

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use driftless_core::clock::{Clock as _, ClockCommand};
use driftless_core::time::{Now, Span, WallTime};
use driftless_daemon::control::{Request, ask};
use driftless_lab_probe as page;
use driftless_linux::clock::ObservedClock;
use driftless_linux::mapping::Mapping;
use driftless_linux::phc_list;
use driftless_linux::phc_set::PhcSetter;

/// Between two looks at the page while no window is open.
const NAP: Duration = Duration::from_millis(5);
/// The same while the client's start is timed.
const NAP_STARTING: Duration = Duration::from_micros(500);
/// A start is timed for so long at most.
const STARTING_MAX: Duration = Duration::from_secs(10);
/// A clock is right within a millisecond of the PTP clock.
const RIGHT: Span = Span::from_millis(1);
/// Between two reports of the client's status.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// A change of wall against raw time in a nap that no slew could make.
const STEP_NS: i64 = 2_000_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let Some(port) = std::env::var("LAB_RELAY").ok().and_then(|port| port.parse::<u16>().ok()) {
        thread::spawn(move || relay(port));
    }
    let shared = Mapping::open(&find_page()?, page::WORDS).context("mapping the shared page")?;
    let program = arguments.next();
    let rest: Vec<String> = arguments.collect();
    shared.store(page::READY, if is_on_tsc() { 1 } else { -1 });
    let gate = std::env::var("LAB_WAITSYNC").ok();
    let mut agent =
        Agent { shared, client: None, last: ObservedClock.now(), phc: phc(), gate, starting: None };
    let mut reported = Instant::now();
    loop {
        agent.answer();
        agent.keep_phc();
        agent.watch();
        if let Some(program) = &program {
            agent.keep_client(program, &rest)?;
        }
        agent.time_start();
        let asked_ms = u64::try_from(shared.load(page::STATUS_EVERY_MS)).unwrap_or(0);
        let every = if asked_ms == 0 { STATUS_EVERY } else { Duration::from_millis(asked_ms) };
        if reported.elapsed() > every && agent.client.is_some() {
            agent.report();
            reported = Instant::now();
        }
        if shared.load(page::WINDOW) == 0 {
            thread::sleep(if agent.starting.is_some() { NAP_STARTING } else { NAP });
        }
    }
}

/// What the agent remembers.
struct Agent {
    shared: Mapping,
    client: Option<Child>,
    last: Now,
    /// The PTP clock that the host sets: a network card's.
    phc: Option<PhcSetter>,
    /// What `waitsync --once` is to ask where starts are timed.
    gate: Option<String>,
    /// When the client was started whose start is timed.
    starting: Option<Instant>,
}

impl Agent {
    /// Answers what was asked since the last look.
    fn answer(&mut self) {
        let asked = self.shared.load(page::ASKED);
        if asked == self.shared.load(page::ANSWERED) {
            return;
        }
        let now = ObservedClock.now();
        self.shared.store(page::WALL, now.wall.as_nanos());
        self.shared.store(page::RAW, now.raw.as_nanos());
        self.shared.store(page::ANSWERED, asked);
    }

    /// Reads and steps the PTP clock as the host wants it.
    fn keep_phc(&self) {
        let shared = self.shared;
        let ordered = shared.load(page::PHC_STEP_ORDERED);
        if ordered != shared.load(page::PHC_STEP_MADE) {
            let span = Span::from_nanos(shared.load(page::PHC_STEP));
            if let Some(Err(error)) = self.phc.as_ref().map(|phc| phc.step(span)) {
                println!("LAB the PTP clock cannot be set: {error}");
            }
            shared.store(page::PHC_STEP_MADE, ordered);
        }
        let asked = shared.load(page::PHC_ASKED);
        if asked != shared.load(page::PHC_ANSWERED) {
            let now = self.phc.as_ref().and_then(|phc| phc.read().ok());
            shared.store(page::PHC, now.unwrap_or(0));
            shared.store(page::PHC_ANSWERED, asked);
        }
    }

    /// Notices steps: wall time against raw time.
    fn watch(&mut self) {
        let now = ObservedClock.now();
        let wall = (now.wall - self.last.wall).as_nanos();
        let extra = wall - (now.raw - self.last.raw).as_nanos();
        self.last = now;
        let count = |word: usize| self.shared.store(word, self.shared.load(word) + 1);
        if wall < 0 || extra < -STEP_NS {
            count(page::BACKWARD_STEPS);
        } else if extra > STEP_NS {
            count(page::FORWARD_STEPS);
        }
    }

    /// Starts the client when the host says so, and ends it when the host says so.
    fn keep_client(&mut self, program: &str, arguments: &[String]) -> Result<()> {
        let wanted = self.shared.load(page::CLIENT) == 1;
        if wanted && self.client.is_none() {
            self.time_gate(program)?;
            self.starting = self.gate.as_ref().map(|_| Instant::now());
            self.client = Some(Command::new(program).args(arguments).spawn().context("starting the client")?);
        } else if !wanted {
            if let Some(mut client) = self.client.take() {
                client.kill().context("ending the client")?;
                client.wait().context("ending the client")?;
            }
        }
        Ok(())
    }

    /// Times `waitsync --once`, whatever it finds, twice.
    fn time_gate(&self, program: &str) -> Result<()> {
        let Some(source) = &self.gate else { return Ok(()) };
        for word in [page::WAITSYNC_FIRST_NS, page::WAITSYNC_NS] {
            let mut gate = Command::new(program);
            gate.args(["waitsync", "--once", "--source", source]).stdout(Stdio::null());
            let start = Instant::now();
            gate.status().context("starting waitsync")?;
            self.shared.store(word, i64::try_from(start.elapsed().as_nanos())?);
        }
        Ok(())
    }

    /// Looks whether the clock that a client was started to keep is right.
    fn time_start(&mut self) {
        let (Some(start), Some(phc)) = (self.starting, &self.phc) else { return };
        let took = start.elapsed();
        let wall = ObservedClock.now().wall;
        let is_right = phc.read().is_ok_and(|phc| (wall - WallTime::from_nanos(phc)).abs() < RIGHT);
        if is_right {
            self.shared.store(page::RIGHT_AFTER_NS, i64::try_from(took.as_nanos()).unwrap_or(0));
        }
        if is_right || took > STARTING_MAX {
            self.starting = None;
        }
    }

    /// Writes tick, frequency, the client's memory and its own status into the page.
    fn report(&self) {
        let shared = self.shared;
        if let Ok(state) = ObservedClock.apply(ClockCommand::Read) {
            shared.store(page::TICK, state.rate.tick.into());
            shared.store(page::FREQUENCY, state.rate.frequency.scaled_ppm());
        }
        let resident = self.client.as_ref().and_then(|client| field(client.id(), "VmRSS:"));
        shared.store(page::RESIDENT_KB, resident.unwrap_or(0));
        if let Some(client) = &self.client {
            shared.store(page::CLIENT_NS, on_processor_ns(client.id()).unwrap_or(0));
            shared.store(page::CLIENT_WAKES, field(client.id(), "voluntary_ctxt_switches:").unwrap_or(0));
        }
        let Ok(status) = ask(Path::new("/run/driftless/control.sock"), Request::Status) else { return };
        let text = status.to_string();
        shared.store(page::STATUS_SERIAL, shared.load(page::STATUS_SERIAL) + 1);
        for (index, octets) in text.as_bytes().chunks(8).enumerate() {
            let mut word = [b' '; 8];
            word[..octets.len()].copy_from_slice(octets);
            shared.store(page::STATUS + index, i64::from_le_bytes(word));
        }
        shared.store(page::STATUS_LENGTH, i64::try_from(text.len()).unwrap_or(0));
        shared.store(page::STATUS_SERIAL, shared.load(page::STATUS_SERIAL) + 1);
    }
}

/// Whether the kernel has settled on the counter whose rate was planted; it takes it a second or two after boot.
fn is_on_tsc() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let settled = || fs::read_to_string(SOURCE).is_ok_and(|source| source.trim() == "tsc");
    (0..100).any(|_| {
        settled() || {
            thread::sleep(Duration::from_millis(100));
            false
        }
    })
}

/// A number of /proc/PID/status.
fn field(pid: u32, name: &str) -> Option<i64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The first number of /proc/PID/schedstat (Documentation/scheduler/sched-stats.rst).
fn on_processor_ns(pid: u32) -> Option<i64> {
    fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

/// The first PTP clock that may be written.
fn phc() -> Option<PhcSetter> {
    phc_list::list(Path::new(phc_list::LIST)).iter().find_map(|info| PhcSetter::open(&info.path).ok())
}

/// The memory of QEMU's ivshmem device (PCI 1af4:1110), switched on.
fn find_page() -> Result<PathBuf> {
    for device in fs::read_dir("/sys/bus/pci/devices")? {
        let device = device?.path();
        let is = |file: &str, value: &str| {
            fs::read_to_string(device.join(file)).is_ok_and(|text| text.trim() == value)
        };
        if is("vendor", "0x1af4") && is("device", "0x1110") {
            fs::write(device.join("enable"), "1")?;
            return Ok(device.join("resource2"));
        }
    }
    anyhow::bail!("no ivshmem device in this guest")
}

/// For clients that can only ask port 123: loopback's is passed on to the host's server.
fn relay(port: u16) -> Result<()> {
    let near = UdpSocket::bind("127.0.0.1:123")?;
    let far = UdpSocket::bind("0.0.0.0:0")?;
    far.connect(("10.0.2.2", port))?;
    far.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut packet = [0; 512];
    loop {
        let (length, client) = near.recv_from(&mut packet)?;
        far.send(&packet[..length])?;
        if let Ok(length) = far.recv(&mut packet) {
            near.send_to(&packet[..length], client)?;
        }
    }
}
