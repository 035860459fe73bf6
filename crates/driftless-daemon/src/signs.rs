//! The watch for signs of an interruption: a pause stops all of a guest's clocks together, so that only what comes from outside shows it.
//!
//! Some signs wake the loop, others are found by a glance each second, combined with whatever else woke it. Every sign is optional: one
//! that cannot be had is said once, for who debugs, and the daemon goes on without.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use driftless_core::disruption::Sign;
use driftless_core::source::{LookError, PollExponent, SourceClass, SourceConfig};
use driftless_core::time::{RawTime, Span};
use driftless_linux::clock;
use driftless_linux::clock_set::ClockSet;
use driftless_linux::kmsg::Kmsg;
use driftless_linux::rtc;
use driftless_linux::uevent::{Uevent, Uevents};
use driftless_linux::vmclock::{self, Marks, VmClock};

use crate::rtc_watch::{Glance, RtcWatch};

/// Everything that is watched.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    clock_set: Option<ClockSet>,
    kmsg: Option<Kmsg>,
    uevents: Option<Uevents>,
    vmclock: Option<(VmClock, Marks)>,
    rtc: Option<RtcWatch>,
    /// How long this machine had slept when that was last looked at.
    slept: Option<Span>,
    /// When the last glance was.
    glanced: Option<RawTime>,
    /// What talked about something else is not waited on before the next glance: it may talk all day.
    quiet: Vec<Watched>,
}

/// What can wake the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    ClockSet,
    Kmsg,
    Uevents,
    VmClock,
}

/// Between two glances.
const GLANCE_EVERY: Span = Span::from_secs(1);
/// A glance comes so much early if the loop is awake anyway, and so much late if it is not, so that a look each second takes it along.
const GLANCE_PLAY: Span = Span::from_millis(100);
/// A wait that ends so much late says that this machine stood still.
const LATE_MIN: Span = Span::from_secs(1);
/// A shorter sleep is none.
const SLEPT_MIN: Span = Span::from_millis(50);

impl Signs {
    /// The watch beside these sources. Where a pause cannot be seen without asking, servers on the host are asked each second.
    pub(crate) fn beside(sources: &mut [SourceConfig], is_plain: bool) -> Self {
        if is_plain {
            return Self::default();
        }
        let has_hypervisor_clock = sources.iter().any(|source| source.class == SourceClass::Hypervisor);
        let signs = Self::watch(has_hypervisor_clock);
        if !has_hypervisor_clock && !signs.sees_pauses() {
            let is_free = |source: &SourceConfig| {
                source.class == SourceClass::Host && !source.name.contains("maxpoll=")
            };
            for source in sources.iter_mut().filter(|source| is_free(source)) {
                source.max_poll = source.min_poll.max(PollExponent::new(0));
            }
        }
        signs
    }

    /// Watches whatever this machine has. With a hypervisor's clock among the sources, which is looked at each second anyway, the RTC is let alone.
    fn watch(has_hypervisor_clock: bool) -> Self {
        let rtc = if has_hypervisor_clock { None } else { RtcWatch::open(Path::new(rtc::DEVICE)) };
        if rtc.is_none() && !has_hypervisor_clock {
            log::debug!("no real-time clock can be glanced at: a pause shows at the next look at a source");
        }
        Self {
            clock_set: had("the news that the clock was set", ClockSet::arm()),
            kmsg: had("the kernel's log", Kmsg::open()),
            uevents: had("the kernel's events", Uevents::open()),
            vmclock: had("the vmclock page", open_vmclock()),
            rtc,
            slept: clock::slept(),
            ..Self::default()
        }
    }

    /// Whether a pause is seen within a second without asking a server.
    const fn sees_pauses(&self) -> bool {
        self.rtc.is_some()
    }

    /// What to wait on.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Watched, BorrowedFd<'_>)> {
        let vmclock = self.vmclock.as_ref().and_then(|(device, _)| device.notification());
        (self.clock_set.as_ref().map(|timer| (Watched::ClockSet, timer.as_fd())).into_iter())
            .chain(self.kmsg.as_ref().map(|log| (Watched::Kmsg, log.as_fd())))
            .chain(self.uevents.as_ref().map(|events| (Watched::Uevents, events.as_fd())))
            .chain(vmclock.map(|fd| (Watched::VmClock, fd)))
            .filter(|(watched, _)| !self.quiet.contains(watched))
    }

    /// When to come back for a glance at the latest. `pace` as in [`Self::after_wait`].
    pub(crate) fn deadline(&self, pace: f64) -> Option<RawTime> {
        let is_silent_page = self.vmclock.as_ref().is_some_and(|(device, _)| device.notification().is_none());
        let glances = is_silent_page || !self.quiet.is_empty();
        let glance = self.glanced.filter(|_| glances).map(|glanced| glanced + GLANCE_EVERY + GLANCE_PLAY);
        glance.into_iter().chain(self.rtc.as_ref().and_then(|rtc| rtc.due(pace))).min()
    }

    /// What woke the loop: what it means.
    pub(crate) fn woken(&mut self, by: Watched) -> Option<Sign> {
        let found = self.read(by);
        if found.is_none() && by != Watched::ClockSet {
            self.quiet.push(by);
        }
        found
    }

    /// After each wait, which was to end at `due`: what shows by itself, and a glance if it is time for one. `pace` is the true second's rate
    /// against the counter, as far as it is known.
    pub(crate) fn after_wait(&mut self, now: RawTime, due: RawTime, pace: f64) -> Vec<Sign> {
        let mut found = Vec::new();
        if now - due > LATE_MIN {
            found.push(Sign::LateTimer);
        }
        if let (Some(before), Some(slept)) = (self.slept, clock::slept()) {
            self.slept = Some(slept);
            if slept - before > SLEPT_MIN {
                found.push(Sign::Slept);
            }
        }
        if self.glanced.is_none_or(|glanced| now - glanced >= GLANCE_EVERY - GLANCE_PLAY) {
            self.glanced = Some(now);
            for quiet in std::mem::take(&mut self.quiet) {
                found.extend(self.read(quiet));
            }
            found.extend(self.read_marks());
        }
        found.extend(self.glance_at_rtc(now, pace));
        found
    }

    /// An interruption was found: what the real-time clock showed before it means nothing any more, and the other signs of it are old.
    pub(crate) fn interrupted(&mut self) {
        if let Some(rtc) = &mut self.rtc {
            rtc.forget();
        }
        for watched in [Watched::Kmsg, Watched::Uevents, Watched::VmClock] {
            let _ = self.read(watched);
        }
    }

    /// Our own step is no news.
    pub(crate) fn stepped(&mut self) {
        if let Some(timer) = &mut self.clock_set {
            // What goes wrong with it shows at the next wait.
            let _ = timer.take();
        }
    }

    fn glance_at_rtc(&mut self, now: RawTime, pace: f64) -> Option<Sign> {
        let rtc = self.rtc.as_mut()?;
        if rtc.due(pace).is_some_and(|due| now < due) {
            return None;
        }
        match rtc.look(pace) {
            Glance::Usual => None,
            Glance::Moved => Some(Sign::RtcMoved),
            Glance::Useless => {
                log::debug!(
                    "the real-time clock stands still, or cannot be read any more: no longer watched"
                );
                self.rtc = None;
                None
            }
        }
    }

    fn read(&mut self, watched: Watched) -> Option<Sign> {
        match watched {
            Watched::ClockSet => self.read_timer(),
            Watched::Kmsg => self.read_log(),
            Watched::Uevents => self.read_events(),
            Watched::VmClock => self.read_marks(),
        }
    }

    fn read_timer(&mut self) -> Option<Sign> {
        match self.clock_set.as_mut()?.take() {
            Ok(was_set) => was_set.then_some(Sign::ClockSet),
            Err(error) => {
                self.clock_set = lost("the news that the clock was set", &error);
                None
            }
        }
    }

    fn read_log(&mut self) -> Option<Sign> {
        match self.kmsg.as_ref()?.take_fork() {
            Ok(is_fork) => is_fork.then_some(Sign::NewGeneration),
            Err(error) => {
                self.kmsg = lost("the kernel's log", &error);
                None
            }
        }
    }

    fn read_events(&mut self) -> Option<Sign> {
        let uevents = self.uevents.as_ref()?;
        let mut found = None;
        for _ in 0..EVENTS_MAX {
            match uevents.take() {
                Ok(Some(Uevent::NewGeneration)) => found = Some(Sign::NewGeneration),
                Ok(Some(_)) => {}
                Ok(None) => break,
                // Some were lost: the next are read behind them.
                Err(_) => {}
            }
        }
        found
    }

    fn read_marks(&mut self) -> Option<Sign> {
        let (device, last) = self.vmclock.as_mut()?;
        match device.marks() {
            Ok(marks) => {
                let before = std::mem::replace(last, marks);
                if marks.generation != before.generation {
                    return Some(Sign::NewGeneration);
                }
                (marks.disruption != before.disruption).then_some(Sign::Disruption)
            }
            // Written at this moment, or the host stopped in the middle of it: the next glance shows.
            Err(LookError::Loose) => None,
            Err(error) => {
                self.vmclock = lost("the vmclock page", &error);
                None
            }
        }
    }
}

/// Events taken at once, so that a kernel that finds devices all the time does not hold us.
const EVENTS_MAX: u32 = 256;

fn open_vmclock() -> Result<(VmClock, Marks), LookError> {
    let device = VmClock::open(Path::new(vmclock::DEVICE))?;
    let marks = device.marks()?;
    Ok((device, marks))
}

fn had<T, E: fmt::Display>(what: &str, result: Result<T, E>) -> Option<T> {
    result.map_err(|error| log::debug!("{what} cannot be had: {error}")).ok()
}

fn lost<T>(what: &str, error: &dyn fmt::Display) -> Option<T> {
    log::debug!("{what} is lost: {error}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn at(millis: i64) -> RawTime {
        RawTime::from_nanos(0) + Span::from_millis(millis)
    }

    #[test]
    fn a_wait_that_ends_late_is_a_sign_and_one_that_ends_early_is_none() {
        let mut signs = Signs::default();
        assert_eq!(signs.after_wait(at(900), at(1_000), 1.0), []);
        assert_eq!(signs.after_wait(at(1_900), at(1_000), 1.0), []);
        assert_eq!(signs.after_wait(at(4_000), at(2_900), 1.0), [Sign::LateTimer]);
    }

    #[test]
    fn nothing_watched_wakes_nobody() {
        let mut signs = Signs::default();
        signs.after_wait(at(0), at(0), 1.0);
        assert_eq!((signs.waiting().count(), signs.deadline(1.0)), (0, None));
        assert!(!signs.sees_pauses());
    }

    #[test]
    fn a_page_is_glanced_at_each_second_and_its_marks_tell_what_happened() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut page = vec![0; 4_096];
        let put = |page: &mut Vec<u8>, offset: usize, bytes: &[u8]| {
            page[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(&mut page, 0, b"VCLK");
        put(&mut page, 4, &4_096_u32.to_le_bytes());
        put(&mut page, 8, &1_u16.to_le_bytes());
        put(&mut page, 0x18, &(1_u64 << 8).to_le_bytes());
        std::fs::write(file.path(), &page).unwrap();
        let device = VmClock::open(&PathBuf::from(file.path())).unwrap();
        let marks = device.marks().unwrap();
        let mut signs = Signs { vmclock: Some((device, marks)), ..Signs::default() };
        assert_eq!(signs.after_wait(at(0), at(0), 1.0), []);
        assert_eq!(signs.deadline(1.0), Some(at(1_100)));
        put(&mut page, 0x10, &7_u64.to_le_bytes());
        std::fs::write(file.path(), &page).unwrap();
        assert_eq!(signs.after_wait(at(500), at(500), 1.0), [], "not at each wake");
        assert_eq!(signs.after_wait(at(950), at(950), 1.0), [Sign::Disruption], "but not a wake more for it");
        put(&mut page, 0x68, &9_u64.to_le_bytes());
        std::fs::write(file.path(), &page).unwrap();
        assert_eq!(signs.after_wait(at(2_000), at(2_000), 1.0), [Sign::NewGeneration]);
        put(&mut page, 0x10, &8_u64.to_le_bytes());
        std::fs::write(file.path(), &page).unwrap();
        signs.interrupted();
        assert_eq!(signs.after_wait(at(3_000), at(3_000), 1.0), [], "that is over");
    }

    #[test]
    fn everything_can_be_watched_where_it_is_and_nothing_is_found_at_first() {
        let mut signs = Signs::watch(false);
        assert_eq!(signs.after_wait(at(0), at(0), 1.0), []);
    }
}
