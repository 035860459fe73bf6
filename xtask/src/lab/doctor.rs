//! `cargo xtask lab doctor`: guests with real faults, one after the other, and whether `driftless doctor` finds each, and nothing in a healthy guest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use driftless_lab_probe as page;
use driftless_linux::signal::Signals;
use serde_json::{Value, json};

use super::bench::{build, folder, free_port, host_server, prepare, workspace};
use super::boot::{Accelerator, Boot, tsc_khz};
use super::client::{Client, unpacked};
use super::faults::{Fault, PATIENTS, Patient};
use super::image;
use super::machine::{Machine, Qemu};
use super::network::Network;
use super::process::{Ended, go_on, rest};
use super::scratch::Scratch;
use crate::packages;

/// What the lab calls it.
pub(crate) const NAME: &str = "doctor";
pub(crate) const ABOUT: &str = "two guests with twenty faults between them: what driftless doctor finds";

/// One examination.
#[derive(Debug)]
struct Verdict {
    fault: &'static str,
    expected: &'static [&'static str],
    /// Ids of what was found, notes left out.
    found: Vec<String>,
    ok: bool,
}

/// What a guest needs to mount a folder of its host's.
const SHARE_DRIVERS: [&str; 2] = ["9pnet_virtio", "9p"];
/// How a line on the console begins that is the doctor's.
const MARK: &str = "LAB-DOCTOR ";
/// A guest that has not come to an end by then has hung.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Examines all guests; whether each fault was found, and health where it reigned.
pub(crate) fn run(wants_json: bool) -> Result<bool> {
    let signals = Signals::install()?;
    let start = Instant::now();
    let mut verdicts = Vec::new();
    for patient in &PATIENTS {
        verdicts.extend(Ward::new(patient)?.examine(patient, &signals)?);
    }
    let ok = verdicts.iter().all(|verdict| verdict.ok);
    for Verdict { fault, expected, found, ok } in &verdicts {
        let word = if *ok { "ok" } else { "MISSED" };
        let expected = if expected.is_empty() { "nothing".to_owned() } else { expected.join(", ") };
        eprintln!("{word:<7} {fault:<17} wanted {expected}; found {}", found.join(", "));
    }
    let good = verdicts.iter().filter(|verdict| verdict.ok).count();
    eprintln!("xtask: doctor: {good} of {} in {:.0} s", verdicts.len(), start.elapsed().as_secs_f64());
    if wants_json {
        let rows = verdicts.iter().map(|verdict| json!({"fault": verdict.fault, "expected": verdict.expected, "found": verdict.found, "ok": verdict.ok}));
        println!("{}", json!({"scenario": NAME, "ok": ok, "faults": rows.collect::<Vec<_>>()}));
    }
    Ok(ok)
}

/// What a guest lies in: its files, and the host's server.
#[derive(Debug)]
struct Ward {
    folder: PathBuf,
    machine: Machine,
    initramfs: PathBuf,
    scratch: Scratch,
    _server: Ended,
}

impl Ward {
    fn new(patient: &Patient) -> Result<Self> {
        let (workspace, lab) = (workspace()?, folder()?);
        let mut machine = prepare()?;
        if patient.card.is_some() {
            machine.qemu = Qemu::installed()?;
        }
        build(&workspace)?;
        let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let folder =
            lab.join("runs").join(format!("{}-{NAME}-{}-{unique}", patient.name, std::process::id()));
        fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let initramfs = folder.join("initramfs");
        let client = equipment(patient, port, &workspace, &lab.join("cache"))?;
        let drivers: Vec<&str> =
            patient.card.into_iter().chain(SHARE_DRIVERS.into_iter().filter(|_| patient.shares)).collect();
        image::initramfs(&machine.kernel, &client, &drivers, &workspace, &initramfs)?;
        let scratch = Scratch::new(&folder)?;
        let mut server = host_server(&workspace, &scratch);
        server.args(["--listen", &format!("127.0.0.1:{port}")]);
        let server = Ended::spawn(&server, &[], &folder.join("server.log"))?;
        Ok(Self { folder, machine, initramfs, scratch, _server: server })
    }

    /// Boots the guest and reads from its console until it has ended.
    fn examine(&self, patient: &Patient, signals: &Signals) -> Result<Vec<Verdict>> {
        eprintln!("xtask: booting {}: {} examinations", patient.name, patient.faults.len());
        File::create(self.scratch.path().join("page"))?
            .set_len(u64::try_from(page::WORDS * 8)?.next_multiple_of(1 << 20))?;
        let share = self.scratch.path().join("share");
        fs::create_dir(&share)?;
        let boot = Boot {
            machine: &self.machine,
            accelerator: Accelerator::Tcg,
            initramfs: &self.initramfs,
            folder: &self.folder,
            scratch: self.scratch.path(),
            drift_ppm: 0.0,
            ahead_s: 30,
            card: patient.card,
            has_vsock: false,
            share: patient.shares.then_some(share.as_path()),
            counters: patient.counters,
            network: Network::User,
            wire: None,
            words: "",
            is_told: false,
        };
        let command = boot.command(tsc_khz(signals)?);
        boot.keep(&command)?;
        let log = self.folder.join("qemu.log");
        let mut qemu = Ended::spawn(&command, &[], &log)?;
        let start = Instant::now();
        loop {
            go_on(signals)?;
            let console = fs::read(self.folder.join("console.log")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            if console.contains(&format!("{MARK}end")) {
                return Ok(patient
                    .faults
                    .iter()
                    .enumerate()
                    .map(|(index, fault)| Verdict::of(fault, index, &console))
                    .collect());
            }
            if !qemu.is_running() || start.elapsed() > PATIENCE {
                let qemu = fs::read_to_string(&log).unwrap_or_default();
                bail!(
                    "{} did not come to its end; QEMU: {} its console is in {}",
                    patient.name,
                    qemu.trim(),
                    self.folder.display()
                );
            }
            rest(signals, LOOK_EVERY)?;
        }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.initramfs);
    }
}

/// The programs and files of a guest with faults.
fn equipment(patient: &Patient, port: u16, workspace: &Path, cache: &Path) -> Result<Client> {
    let functions = fs::read_to_string(workspace.join("lab/guest/doctor.sh"))?;
    let chronyd = unpacked("chrony", cache)?.join("usr/sbin/chronyd");
    let setpriv = packages::find("setpriv").context("setpriv is missing")?;
    let driftless = workspace.join("target/lab/driftless");
    let text = |place: &str, text: String| (place.to_owned(), text);
    Ok(Client {
        programs: vec![
            (driftless, "bin/driftless".to_owned()),
            (chronyd, "bin/chronyd".to_owned()),
            (setpriv, "bin/setpriv".to_owned()),
        ],
        files: vec![
            text("lab/faults", patient.script(&functions)),
            text("etc/driftless/driftless.toml", format!("sources = [\"ntp:10.0.2.2:{port}\"]\n")),
            text(
                "etc/chrony/chrony.conf",
                format!(
                    "server 10.0.2.2 port {port} iburst\nmakestep 1 3\ncmdport 0\nbindcmdaddress /\npidfile /run/chronyd.pid\n"
                ),
            ),
        ],
        scripts: vec![text("bin/sntpc", STEPPING.to_owned())],
        ..Client::default()
    })
}

/// A client that steps the clock every 30 s, as some desktop hypervisors' did.
const STEPPING: &str = "#!/bin/sh\nwhile :; do date -s \"@$(date +%s)\" > /dev/null; sleep 30; done\n";

impl Verdict {
    /// What the console's `index`th examination came to.
    fn of(fault: &'static Fault, index: usize, console: &str) -> Self {
        let said =
            console.lines().filter_map(|line| line.split_once(MARK)).nth(index).map_or("", |(_, said)| said);
        let mut words = said.splitn(3, ' ');
        let (name, status, report) = (words.next(), words.next(), words.next().unwrap_or_default());
        let report: Value = serde_json::from_str(report.trim()).unwrap_or(Value::Null);
        let findings = report["findings"].as_array();
        let bad = findings.into_iter().flatten().filter(|finding| finding["severity"] != "note");
        let found: Vec<String> = bad.filter_map(|finding| Some(finding["id"].as_str()?.to_owned())).collect();
        let is_found = |id: &&str| found.iter().any(|found| found == id);
        let expected = fault.expects;
        let status_wanted = if expected.is_empty() { "0" } else { "1" };
        let is_right = if expected.is_empty() { found.is_empty() } else { expected.iter().all(is_found) };
        let ok = name == Some(fault.name) && status == Some(status_wanted) && findings.is_some() && is_right;
        Self { fault: fault.name, expected, found, ok }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(expects: &'static [&'static str]) -> &'static Fault {
        Box::leak(Box::new(Fault { name: "x", prepare: "", undo: "", doctor: "", expects }))
    }

    #[test]
    fn only_what_was_wanted_and_reported_counts() {
        let console = "LAB ready\r\nLAB-DOCTOR x 1 {\"findings\":[{\"id\":\"a\",\"severity\":\"warning\"},{\"id\":\"n\",\"severity\":\"note\"}]}\r\nLAB-DOCTOR end\r\n";
        assert!(Verdict::of(fault(&["a"]), 0, console).ok);
        assert!(!Verdict::of(fault(&["a", "n"]), 0, console).ok, "a note is none");
        assert!(!Verdict::of(fault(&[]), 0, console).ok);
        assert!(!Verdict::of(fault(&["a"]), 1, console).ok, "there was no second");
        let healthy = "LAB-DOCTOR x 0 {\"findings\":[]}\n";
        assert!(Verdict::of(fault(&[]), 0, healthy).ok);
        assert!(!Verdict::of(fault(&[]), 0, "LAB-DOCTOR x 0 \n").ok, "silence is no health");
    }
}
