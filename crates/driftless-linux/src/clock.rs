//! The kernel's wall clock, steered through `clock_adjtime(2)` (`kernel/time/ntp.c`), and the same clock only looked at.
//!
//! [`clock`] itself reads `DRIFTLESS_OBSERVE`, so that observing wins over whatever the caller asked for.

use driftless_core::clock::{Clock, ClockCommand, ClockError, ClockState, Leap, Rate, Status};
use driftless_core::time::{Frequency, NANOS_PER_SECOND, Now, RawTime, Seconds, Span, WallTime};

use crate::sys;

/// The wall clock, with the right to change it.
#[derive(Debug)]
pub struct KernelClock(());

/// The wall clock, only looked at: every command that would change it is refused without a system call.
#[derive(Debug, Default)]
pub struct ObservedClock;

/// The clock to use: the observed one where `observe` is set or the environment has `DRIFTLESS_OBSERVE=1`.
#[must_use]
pub fn clock(observe: bool) -> Box<dyn Clock> {
    if observe || is_observing() { Box::new(ObservedClock) } else { Box::new(KernelClock(())) }
}

/// Whether the environment forbids to set anything, above every flag and file: `DRIFTLESS_OBSERVE=1`.
#[must_use]
pub fn is_observing() -> bool {
    std::env::var_os("DRIFTLESS_OBSERVE").is_some_and(|value| value == "1")
}

impl Clock for ObservedClock {
    fn now(&mut self) -> Now {
        now().0
    }

    fn apply(&mut self, command: ClockCommand) -> Result<ClockState, ClockError> {
        match command {
            ClockCommand::Read => adjust(&mut sys::empty_timex()),
            _ => Err(ClockError::Permission),
        }
    }
}

impl Clock for KernelClock {
    fn now(&mut self) -> Now {
        now().0
    }

    fn apply(&mut self, command: ClockCommand) -> Result<ClockState, ClockError> {
        match command {
            ClockCommand::Read => {}
            ClockCommand::TakeOver => take_over()?,
            ClockCommand::SetRate(rate) => set_rate(rate)?,
            ClockCommand::Step(span) => step(span)?,
            ClockCommand::SetStatus(status) => set_status(status)?,
        }
        adjust(&mut sys::empty_timex())
    }
}

/// Both clocks as one, and the width of the bracket of raw readings around the wall's: the pair's uncertainty.
#[must_use]
pub fn now() -> (Now, Span) {
    let mut best = pair();
    for _ in 1..5 {
        let next = pair();
        if next.1 < best.1 {
            best = next;
        }
    }
    best
}

/// The wall clock beside `CLOCK_MONOTONIC`, which is steered alike but never set: the steady clock's ns before and after, the wall's between.
#[must_use]
pub fn wall_and_steady() -> (i64, [i64; 2]) {
    let before = read(libc::CLOCK_MONOTONIC);
    let wall = read(libc::CLOCK_REALTIME);
    (wall, [before, read(libc::CLOCK_MONOTONIC)])
}

/// The wall clock alone, as cheaply as the kernel gives it.
#[must_use]
pub fn wall() -> WallTime {
    WallTime::from_nanos(read(libc::CLOCK_REALTIME))
}

/// The counter alone, as cheaply as the kernel gives it.
#[must_use]
pub fn raw() -> RawTime {
    RawTime::from_nanos(read(libc::CLOCK_MONOTONIC_RAW))
}

/// The leap second that the kernel will carry out, as whoever keeps its clock has told it.
#[must_use]
pub fn announced_leap() -> Leap {
    let mut request = sys::empty_timex();
    match sys::clock_adjtime(&mut request) {
        Err(_) => Leap::Unknown,
        Ok(()) if request.status & libc::STA_INS != 0 => Leap::Insert,
        Ok(()) if request.status & libc::STA_DEL != 0 => Leap::Delete,
        Ok(()) => Leap::None,
    }
}

/// How long this machine has slept, as far as its kernel knows: `CLOCK_BOOTTIME` − `CLOCK_MONOTONIC`. It grows by a suspend that the kernel carried out,
/// not by a pause from outside. None where there is no such clock.
#[must_use]
pub fn slept() -> Option<Span> {
    let once = || {
        let before = read(libc::CLOCK_MONOTONIC);
        let boot = sys::clock_gettime(libc::CLOCK_BOOTTIME).ok()?;
        let width = read(libc::CLOCK_MONOTONIC) - before;
        Some((width, boot.tv_sec * NANOS_PER_SECOND + boot.tv_nsec - before - width / 2))
    };
    let tightest = (0..3).filter_map(|_| once()).min()?;
    Some(Span::from_nanos(tightest.1))
}

/// What an `adjtime(3)` still has to slide in. It has a register of its own beside the kernel's loop; looking needs no privilege.
#[must_use]
pub fn sliding() -> Option<Span> {
    /// `ADJ_OFFSET_SS_READ` of linux/timex.h: read only.
    const READ: u32 = 0xa001;
    let mut request = sys::empty_timex();
    request.modes = READ;
    sys::clock_adjtime(&mut request).ok()?;
    Some(Span::from_micros(request.offset))
}

fn pair() -> (Now, Span) {
    let before = read(libc::CLOCK_MONOTONIC_RAW);
    let wall = read(libc::CLOCK_REALTIME);
    let width = read(libc::CLOCK_MONOTONIC_RAW) - before;
    (
        Now { raw: RawTime::from_nanos(before + width / 2), wall: WallTime::from_nanos(wall) },
        Span::from_nanos(width),
    )
}

/// Nanoseconds; 0 where the clock does not exist, which no supported kernel does.
fn read(id: libc::clockid_t) -> i64 {
    sys::clock_gettime(id).map_or(0, |time| time.tv_sec * NANOS_PER_SECOND + time.tv_nsec)
}

fn error(error: &std::io::Error) -> ClockError {
    match error.raw_os_error().unwrap_or(0) {
        libc::EPERM | libc::EACCES => ClockError::Permission,
        libc::EOPNOTSUPP | libc::ENOSYS => ClockError::Unsupported,
        libc::ENODEV | libc::ENOENT => ClockError::NoDevice,
        libc::EINVAL => ClockError::Invalid,
        other => ClockError::Other(other),
    }
}

fn adjust(request: &mut libc::timex) -> Result<ClockState, ClockError> {
    sys::clock_adjtime(request).map_err(|e| error(&e))?;
    let unit = if request.status & libc::STA_NANO == 0 { 1_000 } else { 1 };
    let tick = i32::try_from(request.tick * sys::user_hz() / 100).map_err(|_| ClockError::Invalid)?;
    Ok(ClockState {
        rate: Rate { tick, frequency: Frequency::from_scaled_ppm(request.freq) },
        synchronised: request.status & libc::STA_UNSYNC == 0,
        max_error: Seconds::from(Span::from_micros(request.maxerror)),
        est_error: Seconds::from(Span::from_micros(request.esterror)),
        tai: request.tai,
        pending: Span::from_nanos(request.offset * unit),
    })
}

/// Cancels the PLL's offset, then a pending `adjtime`; without the privilege the first call already fails.
fn take_over() -> Result<(), ClockError> {
    let mut request = sys::empty_timex();
    adjust(&mut request)?;
    let status = request.status & !(libc::STA_PPSFREQ | libc::STA_PPSTIME | libc::STA_FREQHOLD);
    // The kernel takes an offset only under STA_PLL: so zero it first, then switch the loop off.
    request.modes = libc::ADJ_STATUS | libc::ADJ_OFFSET;
    request.status = status | libc::STA_PLL | libc::STA_FREQHOLD;
    request.offset = 0;
    adjust(&mut request)?;
    let mut off = sys::empty_timex();
    off.modes = libc::ADJ_STATUS;
    off.status = status & !(libc::STA_PLL | libc::STA_FLL);
    adjust(&mut off)?;
    let mut cancel = sys::empty_timex();
    cancel.modes = libc::ADJ_OFFSET_SINGLESHOT;
    adjust(&mut cancel).map(drop)
}

fn set_rate(rate: Rate) -> Result<(), ClockError> {
    let mut request = sys::empty_timex();
    request.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
    request.tick = i64::from(rate.tick) * 100 / sys::user_hz().max(1);
    request.freq = rate.frequency.scaled_ppm();
    adjust(&mut request).map(drop)
}

fn step(span: Span) -> Result<(), ClockError> {
    let mut before = sys::empty_timex();
    adjust(&mut before)?;
    let mut request = sys::empty_timex();
    request.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    request.time.tv_sec = span.as_nanos().div_euclid(NANOS_PER_SECOND);
    request.time.tv_usec = span.as_nanos().rem_euclid(NANOS_PER_SECOND);
    match adjust(&mut request) {
        Err(ClockError::Invalid | ClockError::Unsupported) => {
            let target = read(libc::CLOCK_REALTIME) + span.as_nanos();
            let time = libc::timespec {
                tv_sec: target.div_euclid(NANOS_PER_SECOND),
                tv_nsec: target.rem_euclid(NANOS_PER_SECOND),
            };
            sys::clock_settime(time).map_err(|e| error(&e))?;
        }
        result => drop(result?),
    }
    // A step makes the kernel forget its status (`ntp_clear`): put back what it had.
    before.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    adjust(&mut before).map(drop)
}

fn set_status(status: Status) -> Result<(), ClockError> {
    let mut request = sys::empty_timex();
    request.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    request.status = if status.synchronised { 0 } else { libc::STA_UNSYNC };
    request.status |= match status.leap {
        Leap::Insert => libc::STA_INS,
        Leap::Delete => libc::STA_DEL,
        Leap::None | Leap::Unknown => 0,
    };
    request.maxerror = status.max_error.to_span().as_nanos() / 1_000;
    request.esterror = status.est_error.to_span().as_nanos() / 1_000;
    adjust(&mut request)?;
    if let Some(tai) = status.tai {
        // ADJ_TAI shares its field (`constant`) with ADJ_TIMECONST: a call of its own.
        let mut offset = sys::empty_timex();
        offset.modes = libc::ADJ_TAI;
        offset.constant = i64::from(tai);
        adjust(&mut offset)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observed_clock_reads_and_refuses() {
        let mut clock = ObservedClock;
        assert!(clock.apply(ClockCommand::Read).is_ok());
        for command in [
            ClockCommand::TakeOver,
            ClockCommand::SetRate(Rate::NOMINAL),
            ClockCommand::Step(Span::from_secs(1)),
        ] {
            assert_eq!(clock.apply(command), Err(ClockError::Permission));
        }
    }

    #[test]
    fn sleep_is_told_to_some_microseconds() {
        let (first, second) = (slept().unwrap(), slept().unwrap());
        assert!((second - first).abs() < Span::from_millis(5), "{first} {second}");
    }

    #[test]
    fn pair_is_tight() {
        let width = now().1;
        assert!(width >= Span::ZERO && width < Span::from_millis(100));
    }
}
