//! `driftless measure`: how wrong this machine's counter is by nature, against any source, whoever steers the clock meanwhile.

mod circumstances;
mod words;

use std::fs::{self, File};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftless_core::drift::{self, Drift, Look, allan};
use driftless_core::source::SourceClass;
use driftless_core::time::{RawTime, Seconds, Span, WallTime};
use driftless_daemon::looker::{Looker, LookerError, steerers, wish_to_end};
use serde_json::{Value, json};

use crate::length::{length, ppm};
use crate::notebook::{self, Run};
use crate::{Outcome, say};
use words::{Finding, decimals};

/// Arguments of `driftless measure`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless measure --source ntp:10.0.2.2                       a minute against the host
  driftless measure --source phc:kvm --source ntp:10.0.2.2      two sources at once
  driftless measure --source ntp:10.0.2.2 --duration 1d --interval 10s --out day.csv --label \"laptop, lid open\"
  driftless measure --source ntp:10.0.2.2 --duration 1h --until 0.1ppm

Nothing is set, and what a daemon does to the clock meanwhile is not in the result. A drift is positive where this machine's counter runs
fast; with a chance of 95 % it lies within the error that is told. --out goes on with a file that is there. See `driftless plot`.")]
pub(crate) struct Args {
    /// What to measure against: a SPEC, as in ntp:10.0.2.2 or phc:kvm; may be given several times
    #[arg(long, value_name = "SPEC", required = true)]
    source: Vec<String>,
    /// How long, as in 90s, 10m, 1d
    #[arg(long, value_name = "T", default_value = "60s", value_parser = length)]
    duration: Span,
    /// Between two looks [default: 100ms at a clock that is read or at the host, 2s on the network, 64s at a public server]
    #[arg(long, value_name = "T", value_parser = length)]
    interval: Option<Span>,
    /// End once the drift is known as well as this, as in 0.1ppm
    #[arg(long, value_name = "PPM", value_parser = ppm)]
    until: Option<f64>,
    /// Write each look to this file
    #[arg(long, value_name = "F.csv")]
    out: Option<PathBuf>,
    /// What the run is called in pictures
    #[arg(long, value_name = "L", default_value = "")]
    label: String,
    /// One line of JSON at the end
    #[arg(long)]
    json: bool,
}

/// How long one look may take.
const PATIENCE: Span = Span::from_secs(3);
/// A public server is not asked more often, whoever wants it (RFC 8633, section 4.2).
const PUBLIC_INTERVAL_MIN: Span = Span::from_secs(16);
/// Between two lines of progress, on a terminal and elsewhere.
const TELL_EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY_ELSEWHERE: Duration = Duration::from_secs(10);
/// An estimate in between may cost this part of the time.
const ESTIMATING_PART: u32 = 20;
/// Jumps that are this near are one.
const SAME_JUMP: Span = Span::from_secs(10);

/// What a source's thread tells.
type Told = (usize, Result<Look, LookerError>);

pub(crate) fn run(args: &Args) -> Outcome {
    if let Some(Err(error)) = args.source.iter().map(|spec| Looker::new(spec)).find(Result::is_err) {
        return Outcome::Wrong.told(&error);
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let started = WallTime::from_nanos(i64::try_from(started).unwrap_or(0));
    let mut facts =
        circumstances::facts(Path::new("/"), &args.label, driftless_daemon::civil::rfc3339(started));
    facts.insert("duration".to_owned(), format!("{:.0} s wanted", Seconds::from(args.duration).0));
    let blank = Run { facts, sources: args.source.clone(), looks: Vec::new() };
    let (run, file) = match args.out.as_deref().map(|out| opened(out, &blank)).transpose() {
        Ok(opened) => opened.map_or((blank, None), |(run, file)| (run, Some(file))),
        Err(error) => return Outcome::Wrong.told(&error),
    };
    let should_end = match wish_to_end() {
        Ok(should_end) => should_end,
        Err(error) => return Outcome::Wrong.told(&error),
    };
    let mut work = Measurement {
        lost: vec![0; run.sources.len()],
        is_silent: vec![false; run.sources.len()],
        run,
        file,
        args,
        told: Instant::now(),
    };
    work.watch(&should_end);
    work.finish()
}

/// The run that is under way.
struct Measurement<'a> {
    args: &'a Args,
    run: Run,
    file: Option<File>,
    lost: Vec<u64>,
    /// When progress was last told, or will have been paid for.
    told: Instant,
    /// Which sources have failed since their last answer: told once.
    is_silent: Vec<bool>,
}

impl Measurement<'_> {
    /// Looks at every source in a thread of its own until it is over.
    fn watch(&mut self, should_end: &dyn Fn() -> bool) {
        let is_over = AtomicBool::new(false);
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            for (number, spec) in self.args.source.iter().enumerate() {
                let (sender, is_over, wanted) = (sender.clone(), &is_over, self.args.interval);
                scope.spawn(move || look_on((number, spec), wanted, &sender, is_over));
            }
            drop(sender);
            self.collect(&receiver, should_end);
            is_over.store(true, Ordering::Relaxed);
        });
        progress("");
    }

    fn collect(&mut self, receiver: &Receiver<Told>, should_end: &dyn Fn() -> bool) {
        let start = Instant::now();
        let length = Duration::try_from_secs_f64(Seconds::from(self.args.duration).0).unwrap_or_default();
        while start.elapsed() < length && !should_end() {
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok((number, Ok(look))) => self.take(number, look),
                Ok((number, Err(error))) => self.lose(number, &error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.is_told_to_be_enough(start) {
                return;
            }
        }
    }

    fn take(&mut self, number: usize, look: Look) {
        if let Some(is_silent) = self.is_silent.get_mut(number) {
            *is_silent = false;
        }
        if let Some(file) = &mut self.file {
            if let Err(error) = file.write_all(Run::line(number, &look).as_bytes()) {
                Outcome::NotYet.told(&format!("nothing more is written: {error}"));
                self.file = None;
            }
        }
        self.run.looks.push((number, look));
    }

    fn lose(&mut self, number: usize, error: &LookerError) {
        if let Some(lost) = self.lost.get_mut(number) {
            *lost += 1;
        }
        let was_silent = self.is_silent.get_mut(number).map(|is_silent| std::mem::replace(is_silent, true));
        if was_silent == Some(false) {
            progress("");
            Outcome::NotYet.told(error);
        }
    }

    /// Tells where it stands, and whether that is as well as was wanted.
    fn is_told_to_be_enough(&mut self, start: Instant) -> bool {
        let is_terminal = std::io::stderr().is_terminal();
        let every = if is_terminal { TELL_EVERY } else { TELL_EVERY_ELSEWHERE };
        let every = if self.args.until.is_some() { TELL_EVERY } else { every };
        if self.told.elapsed() < every {
            return false;
        }
        let began = Instant::now();
        let Some((number, drift)) = self.best() else { return false };
        self.told = Instant::now() + began.elapsed() * ESTIMATING_PART;
        let error = drift.error.ppm();
        let digits = decimals(error);
        let source = self.run.sources.get(number).map_or("", String::as_str);
        let line = format!(
            "{:4.0} s  {:+.digits$} ± {error:.digits$} ppm  {} looks  {source}",
            start.elapsed().as_secs_f64(),
            drift.drift.ppm(),
            drift.looks
        );
        if is_terminal {
            progress(&line);
        } else if start.elapsed().as_secs() % TELL_EVERY_ELSEWHERE.as_secs() == 0 {
            eprintln!("{line}");
        }
        self.args.until.is_some_and(|until| error <= until)
    }

    /// The source that knows the drift best.
    fn best(&self) -> Option<(usize, Drift)> {
        let measured =
            (0..self.run.sources.len()).filter_map(|n| Some((n, drift::measure(&self.run.of(n))?)));
        measured.min_by(|one, two| one.1.error.0.total_cmp(&two.1.error.0))
    }

    fn finish(&self) -> Outcome {
        let steerers = steerers();
        let findings = findings(&self.run, &self.lost, &steerers);
        for (number, source) in self.run.sources.iter().enumerate() {
            if !findings.iter().any(|finding| finding.source == source) {
                let looks = self.run.of(number).len();
                Outcome::NotYet.told(&format!("{source}: {looks} looks are too few to tell a drift; measure longer, or check it with `driftless query`"));
            }
        }
        let best = findings.iter().min_by(|one, two| one.drift.error.0.total_cmp(&two.drift.error.0));
        if self.args.json {
            say(&json!({
                "label": self.run.facts.get("label"),
                "clocksource": self.run.facts.get("clocksource"),
                "drift_ppm": best.map(|finding| finding.drift.drift.ppm()),
                "error_ppm": best.map(|finding| finding.drift.error.ppm()),
                "sources": Value::from_iter(findings.iter().map(Finding::to_json)),
            })
            .to_string());
        } else {
            findings.iter().flat_map(Finding::lines).for_each(|line| say(&line));
        }
        match (best, self.args.until) {
            (None, _) => Outcome::NotYet,
            (Some(best), Some(until)) if best.drift.error.ppm() > until => {
                Outcome::NotYet.told(&format!("not known to {until} ppm in time"))
            }
            _ => Outcome::Done,
        }
    }
}

fn findings<'a>(run: &'a Run, lost: &[u64], steerers: &'a [String]) -> Vec<Finding<'a>> {
    let measured: Vec<(usize, Vec<Look>, Drift)> = (0..run.sources.len())
        .filter_map(|number| {
            let looks = run.of(number);
            let drift = drift::measure(&looks)?;
            Some((number, looks, drift))
        })
        .collect();
    let saw = |at: RawTime| {
        measured
            .iter()
            .filter(|(.., drift)| drift.breaks.iter().any(|one| (one.at - at).abs() < SAME_JUMP))
            .count()
    };
    let finding = |(number, looks, drift): &(usize, Vec<Look>, Drift)| {
        Some(Finding {
            source: run.sources.get(*number)?,
            drift: drift.clone(),
            deviations: allan::deviations(looks),
            lost: lost.get(*number).copied().unwrap_or(0),
            began: looks.first()?.sample.raw,
            sources: measured.len(),
            shared: drift.breaks.iter().map(|one| saw(one.at)).collect(),
            steerers,
        })
    };
    measured.iter().filter_map(finding).collect()
}

/// Looks at one source until it is over.
fn look_on((number, spec): (usize, &str), wanted: Option<Span>, told: &Sender<Told>, is_over: &AtomicBool) {
    // Opened here, since a device stays with the thread that opened it.
    let mut looker = match Looker::new(spec) {
        Ok(looker) => looker,
        Err(error) => return drop(told.send((number, Err(error)))),
    };
    let interval = interval(looker.class, wanted);
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        if told.send((number, looker.look(PATIENCE))).is_err() {
            return;
        }
        next = (next + interval).max(Instant::now());
        while Instant::now() < next && !is_over.load(Ordering::Relaxed) {
            std::thread::sleep((next - Instant::now()).min(Duration::from_millis(100)));
        }
    }
}

fn interval(class: SourceClass, wanted: Option<Span>) -> Duration {
    let usual = match class {
        SourceClass::Hypervisor => Span::from_millis(100),
        SourceClass::Host => Span::from_millis(100),
        SourceClass::Rtc => Span::from_secs(1),
        SourceClass::Network => Span::from_secs(2),
        SourceClass::Public => Span::from_secs(64),
    };
    let least = if class == SourceClass::Public { PUBLIC_INTERVAL_MIN } else { Span::from_millis(1) };
    Duration::try_from_secs_f64(Seconds::from(wanted.unwrap_or(usual).max(least)).0).unwrap_or_default()
}

/// The file, ready for more lines, and the run that goes on in it.
fn opened(path: &Path, blank: &Run) -> Result<(Run, File), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let mut file = File::options().append(true).create(true).open(path).map_err(failed)?;
    let mut add = |text: &str| file.write_all(text.as_bytes()).map_err(failed);
    if !before.is_empty() && !before.ends_with('\n') {
        add("\n")?;
    }
    let runs = if before.is_empty() {
        Vec::new()
    } else {
        notebook::parse(&before)
            .ok_or_else(|| format!("{}: not a measurement's file; name another", path.display()))?
    };
    if let Some(last) = runs.into_iter().next_back().filter(|last| last.goes_on(blank)) {
        eprintln!("driftless: going on with {}: {} looks are there", path.display(), last.looks.len());
        return Ok((last, file));
    }
    add(&blank.header())?;
    Ok((blank.clone(), file))
}

/// One line that is drawn over itself; on a terminal only.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
        let _ = std::io::stderr().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_in_its_file_and_a_foreign_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.csv");
        let mut run = notebook::tests::run("one", 1.0);
        let looks = std::mem::take(&mut run.looks);
        let (_, mut file) = opened(&path, &run).unwrap();
        file.write_all(Run::line(0, &looks[0].1).as_bytes()).unwrap();
        // A line that was cut off by a crash.
        file.write_all(b"0,123").unwrap();
        let (resumed, mut file) = opened(&path, &run).unwrap();
        assert_eq!(resumed.looks.len(), 1);
        file.write_all(Run::line(0, &looks[1].1).as_bytes()).unwrap();
        assert_eq!(notebook::parse(&fs::read_to_string(&path).unwrap()).unwrap()[0].looks.len(), 2);
        run.facts.insert("boot".to_owned(), "another".to_owned());
        opened(&path, &run).unwrap();
        assert_eq!(notebook::parse(&fs::read_to_string(&path).unwrap()).unwrap().len(), 2);
        fs::write(&path, "a,b\n1,2\n").unwrap();
        assert!(opened(&path, &run).unwrap_err().contains("not a measurement"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a,b\n1,2\n");
    }

    #[test]
    fn findings_are_told_in_words() {
        let mut run = notebook::tests::run("one", 666.0);
        for (_, look) in &mut run.looks[20..] {
            look.sample.offset = look.sample.offset + Seconds(3.0);
        }
        let found = findings(&run, &[2], &[]);
        let text = found[0].lines().join("\n");
        for expected in [
            "+666.0",
            "runs fast, 2.398 s an hour",
            "2 without an answer",
            "loses 166.0 ppm",
            "+3.000 s after 20 s: this machine stood still",
            "nobody steers it",
            "tick 9993, frequency +34.0",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        let json = found[0].to_json();
        assert!(
            (json["drift_ppm"].as_f64().unwrap() - 666.0).abs() < 0.1 && json["breaks"][0]["kind"] == "jump"
        );
    }

    #[test]
    fn nobody_asks_a_public_server_in_a_hurry() {
        assert_eq!(interval(SourceClass::Public, Some(Span::from_secs(1))), Duration::from_secs(16));
        assert_eq!(interval(SourceClass::Host, Some(Span::from_secs(1))), Duration::from_secs(1));
    }
}
