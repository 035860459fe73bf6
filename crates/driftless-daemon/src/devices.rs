//! The clocks that are read, not asked: opened at the first look and open from then on, opened anew after they were gone.
//!
//! A PTP clock or a vmclock page answers at once. The real-time clock answers at the edge of its second, up to 2 s later: its look goes on in
//! the loop's waiting. It is closed after each look, since only one process may have it open.

use std::os::fd::BorrowedFd;
use std::path::Path;

use driftless_core::source::{DeviceKind, Endpoint, LookError, Reading, SourceConfig, SourceId};
use driftless_core::time::Span;
use driftless_linux::phc::Phc;
use driftless_linux::phc_list;
use driftless_linux::rtc::{EdgeWatch, Rtc};
use driftless_linux::vmclock::VmClock;

/// A clock that can be looked at.
trait Face {
    /// Looks, or goes on looking: `None` where the answer comes later.
    fn look(&mut self) -> Option<Result<Reading, LookError>>;

    /// What to wait on for the answer, if there is something.
    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// After how long to look again for the answer at the latest.
    fn wait(&self) -> Span {
        Span::ZERO
    }

    /// What was found at its opening, in words.
    fn description(&self) -> String {
        String::new()
    }
}

/// Opens a clock.
type Opener = fn(DeviceKind, &str) -> Result<Box<dyn Face>, LookError>;

/// Each source's device, by its number.
pub(crate) struct Devices {
    slots: Vec<Option<Slot>>,
    open: Opener,
}

struct Slot {
    name: String,
    kind: DeviceKind,
    path: String,
    face: Option<Box<dyn Face>>,
    /// A look is under way.
    is_looking: bool,
    /// It was opened before: what it is was told.
    was_told: bool,
}

/// A look that has ended.
pub(crate) type Looked = (SourceId, Result<Reading, LookError>);

impl Devices {
    /// None is open yet.
    pub(crate) fn new(sources: &[SourceConfig]) -> Self {
        Self::opened_by(sources, open)
    }

    fn opened_by(sources: &[SourceConfig], open: Opener) -> Self {
        let slot = |source: &SourceConfig| match &source.endpoint {
            Endpoint::Device { kind, path, .. } => Some(Slot {
                name: source.name.clone(),
                kind: *kind,
                path: path.clone(),
                face: None,
                is_looking: false,
                was_told: false,
            }),
            _ => None,
        };
        Self { slots: sources.iter().map(slot).collect(), open }
    }

    /// Begins a look at a source's device: its outcome, unless that comes later by [`Self::turn`].
    pub(crate) fn look(&mut self, source: SourceId) -> Option<Result<Reading, LookError>> {
        let open = self.open;
        let Some(Some(slot)) = self.slots.get_mut(usize::from(source.0)) else {
            return Some(Err(LookError::Missing));
        };
        if slot.face.is_none() {
            match slot.opened(open) {
                Ok(face) => slot.face = Some(face),
                Err(error) => return Some(Err(error)),
            }
        }
        slot.look()
    }

    /// Goes on with the looks that are under way.
    pub(crate) fn turn(&mut self) -> Vec<Looked> {
        let slots = (0_u16..).zip(self.slots.iter_mut()).filter_map(|(id, slot)| Some((id, slot.as_mut()?)));
        let looking = slots.filter(|(_, slot)| slot.is_looking);
        looking.filter_map(|(id, slot)| Some((SourceId(id), slot.look()?))).collect()
    }

    /// What to wait on for the looks that are under way.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.looking().filter_map(Face::waitable)
    }

    /// After how long to come back at the latest.
    pub(crate) fn wait(&self) -> Option<Span> {
        self.looking().map(Face::wait).min()
    }

    fn looking(&self) -> impl Iterator<Item = &dyn Face> {
        let slots = self.slots.iter().flatten();
        slots.filter(|slot| slot.is_looking).filter_map(|slot| slot.face.as_deref())
    }
}

impl Slot {
    fn opened(&mut self, open: Opener) -> Result<Box<dyn Face>, LookError> {
        let face = open(self.kind, &self.path)?;
        if !std::mem::replace(&mut self.was_told, true) {
            log::info!("{}: {}", self.name, face.description());
        }
        Ok(face)
    }

    fn look(&mut self) -> Option<Result<Reading, LookError>> {
        let result = self.face.as_mut()?.look();
        self.is_looking = result.is_none();
        let is_gone = matches!(result, Some(Err(LookError::Missing)));
        if is_gone || (self.kind == DeviceKind::Rtc && !self.is_looking) {
            self.face = None;
        }
        result
    }
}

fn open(kind: DeviceKind, path: &str) -> Result<Box<dyn Face>, LookError> {
    Ok(match kind {
        DeviceKind::Phc => {
            let info = phc_list::find(path, Path::new(phc_list::LIST)).ok_or(LookError::Missing)?;
            Box::new(Phc::open(info)?)
        }
        DeviceKind::VmClock => Box::new(VmClock::open(Path::new(path))?),
        DeviceKind::Rtc => Box::new(Rtc::open(Path::new(path))?.watch()),
    })
}

impl Face for Phc {
    fn look(&mut self) -> Option<Result<Reading, LookError>> {
        Some(Self::look(self))
    }

    fn description(&self) -> String {
        let info = self.info();
        let name = if info.name.is_empty() { "a PTP clock" } else { &info.name };
        format!("{} ({name}), read by way of {}", info.path.display(), self.way())
    }
}

impl Face for VmClock {
    fn look(&mut self) -> Option<Result<Reading, LookError>> {
        Some(Self::look(self))
    }

    fn description(&self) -> String {
        "the hypervisor's page of time".to_owned()
    }
}

impl Face for EdgeWatch {
    fn look(&mut self) -> Option<Result<Reading, LookError>> {
        self.turn().transpose()
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        Self::waitable(self)
    }

    fn wait(&self) -> Span {
        Self::wait(self)
    }

    fn description(&self) -> String {
        "a real-time clock, looked at at the edge of its second".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;
    use driftless_core::clock::Leap;
    use driftless_core::source::TimeScale;
    use driftless_core::time::{Now, RawTime, Seconds, WallTime};
    use std::cell::Cell;

    const READING: Reading = Reading {
        at: Now { raw: RawTime::from_nanos(1), wall: WallTime::from_nanos(2) },
        width: Span::ZERO,
        device_ns: 3,
        scale: TimeScale::Utc,
        dispersion: Seconds(1e-9),
        leap: Leap::None,
    };

    thread_local! {
        static OPENED: Cell<u32> = const { Cell::new(0) };
    }

    /// Answers at the look after so many that do not.
    struct Fake {
        late: u32,
        error: Option<LookError>,
    }

    impl Face for Fake {
        fn look(&mut self) -> Option<Result<Reading, LookError>> {
            if self.late > 0 {
                self.late -= 1;
                return None;
            }
            Some(self.error.map_or(Ok(READING), Err))
        }

        fn wait(&self) -> Span {
            Span::from_millis(7)
        }
    }

    fn devices(spec: &str, open: Opener) -> Devices {
        OPENED.set(0);
        Devices::opened_by(&[spec::parse("ntp:192.0.2.1").unwrap(), spec::parse(spec).unwrap()], open)
    }

    fn fake(late: u32, error: Option<LookError>) -> Result<Box<dyn Face>, LookError> {
        OPENED.set(OPENED.get() + 1);
        Ok(Box::new(Fake { late, error }))
    }

    #[test]
    fn a_device_is_opened_once_and_stays_open() {
        let mut devices = devices("phc:kvm", |_, _| fake(0, None));
        for _ in 0..3 {
            assert_eq!(devices.look(SourceId(1)), Some(Ok(READING)));
        }
        assert_eq!((OPENED.get(), devices.wait()), (1, None));
        assert_eq!(devices.look(SourceId(0)), Some(Err(LookError::Missing)), "a server is no device");
    }

    #[test]
    fn a_device_that_went_is_opened_anew_and_one_that_failed_is_not() {
        let mut devices = devices("phc:kvm", |_, _| fake(0, Some(LookError::Missing)));
        for opened in 1..4 {
            assert_eq!(devices.look(SourceId(1)), Some(Err(LookError::Missing)));
            assert_eq!(OPENED.get(), opened);
        }
        devices.open = |_, _| fake(0, Some(LookError::Loose));
        for _ in 0..3 {
            assert_eq!(devices.look(SourceId(1)), Some(Err(LookError::Loose)));
        }
        assert_eq!(OPENED.get(), 4);
    }

    #[test]
    fn the_real_time_clock_answers_later_and_is_closed_then() {
        let mut devices = devices("rtc:", |_, _| fake(2, None));
        assert_eq!(devices.look(SourceId(1)), None);
        assert_eq!(devices.wait(), Some(Span::from_millis(7)));
        assert_eq!(devices.turn(), []);
        assert_eq!(devices.turn(), [(SourceId(1), Ok(READING))]);
        assert_eq!((devices.turn(), devices.wait()), (vec![], None));
        assert_eq!(devices.look(SourceId(1)), None);
        assert_eq!(OPENED.get(), 2, "it was closed after the look");
    }
}
