//! The kernel's time parameters as `adjtimex(2)` has them, field by field and in its own units: for people who look at them, and for the old tool's name.

use std::io;

use crate::clock::is_observing;
use crate::sys;

/// Everything that the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timex {
    /// What the kernel still adds to the clock, in µs, or in ns where `status` has [`STA_NANO`].
    pub offset: i64,
    /// 2^-16 ppm.
    pub frequency: i64,
    /// µs.
    pub max_error: i64,
    /// µs.
    pub est_error: i64,
    /// Bits, `STA_*`.
    pub status: i32,
    /// The phase-locked loop's, log2 of seconds with an offset of the kernel's.
    pub time_constant: i64,
    /// µs; of no use in today's kernels.
    pub precision: i64,
    /// The largest `frequency`, 2^-16 ppm.
    pub tolerance: i64,
    /// µs that each of `USER_HZ` ticks a second adds to the clock.
    pub tick: i64,
    /// Seconds of the wall clock.
    pub seconds: i64,
    /// µs beside them, or ns as in `offset`.
    pub fraction: i64,
    /// TAI − UTC, s; 0 where nobody said.
    pub tai: i32,
    /// What the call returned: 0 to 4 is about leap seconds, 5 says that the clock is not synchronised.
    pub state: i32,
}

/// What is to be set; the rest stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// As [`Timex::tick`].
    pub tick: Option<i64>,
    /// As [`Timex::frequency`].
    pub frequency: Option<i64>,
    /// An offset for the phase-locked loop, in the unit that is in force.
    pub offset: Option<i64>,
    /// An offset to be slewed as by `adjtime(3)`, µs.
    pub singleshot: Option<i64>,
    /// µs.
    pub max_error: Option<i64>,
    /// µs.
    pub est_error: Option<i64>,
    /// As [`Timex::status`].
    pub status: Option<i32>,
    /// As [`Timex::time_constant`].
    pub time_constant: Option<i64>,
}

/// Fractions are ns, not µs (linux/timex.h).
pub const STA_NANO: i32 = libc::STA_NANO;
/// The bits of `status`, in the order of their values: what each says when it is set.
pub const STATUS_WORDS: [(i32, &str); 15] = [
    (libc::STA_PLL, "phase-locked loop on"),
    (libc::STA_PPSFREQ, "frequency disciplined by pulses"),
    (libc::STA_PPSTIME, "time disciplined by pulses"),
    (libc::STA_FLL, "frequency-locked loop wanted"),
    (libc::STA_INS, "a leap second will be inserted"),
    (libc::STA_DEL, "a leap second will be deleted"),
    (libc::STA_UNSYNC, "not synchronised"),
    (libc::STA_FREQHOLD, "frequency held"),
    (libc::STA_PPSSIGNAL, "pulses are there"),
    (libc::STA_PPSJITTER, "pulses jitter"),
    (libc::STA_PPSWANDER, "pulses wander"),
    (libc::STA_PPSERROR, "pulses cannot be calibrated"),
    (libc::STA_CLOCKERR, "the clock's hardware is at fault"),
    (libc::STA_NANO, "nanoseconds"),
    (libc::STA_MODE, "frequency-locked loop on"),
];

/// Ticks a second as user space sees them.
#[must_use]
pub fn user_hz() -> i64 {
    sys::user_hz()
}

/// Reads all.
///
/// # Errors
/// What the system says.
pub fn read() -> io::Result<Timex> {
    call(&mut sys::empty_timex())
}

/// Sets what `change` names, all in one call but `singleshot`, which the kernel takes only by itself. Returns what is in force then.
///
/// # Errors
/// `PermissionDenied` where `DRIFTLESS_OBSERVE=1` forbids it, or the system does; what else the system says.
pub fn set(change: &Change) -> io::Result<Timex> {
    if is_observing() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "DRIFTLESS_OBSERVE=1: nothing is set"));
    }
    let mut request = sys::empty_timex();
    let mut put = |mode: u32, field: fn(&mut libc::timex) -> &mut i64, value: Option<i64>| {
        if let Some(value) = value {
            request.modes |= mode;
            *field(&mut request) = value;
        }
    };
    put(libc::ADJ_TICK, |t| &mut t.tick, change.tick);
    put(libc::ADJ_FREQUENCY, |t| &mut t.freq, change.frequency);
    put(libc::ADJ_OFFSET, |t| &mut t.offset, change.offset);
    put(libc::ADJ_MAXERROR, |t| &mut t.maxerror, change.max_error);
    put(libc::ADJ_ESTERROR, |t| &mut t.esterror, change.est_error);
    put(libc::ADJ_TIMECONST, |t| &mut t.constant, change.time_constant);
    if let Some(status) = change.status {
        request.modes |= libc::ADJ_STATUS;
        request.status = status;
    }
    let mut in_force = call(&mut request)?;
    if let Some(by) = change.singleshot {
        let mut once = sys::empty_timex();
        (once.modes, once.offset) = (libc::ADJ_OFFSET_SINGLESHOT, by);
        in_force = call(&mut once)?;
    }
    Ok(in_force)
}

fn call(request: &mut libc::timex) -> io::Result<Timex> {
    let state = sys::clock_state(request)?;
    Ok(Timex {
        offset: request.offset,
        frequency: request.freq,
        max_error: request.maxerror,
        est_error: request.esterror,
        status: request.status,
        time_constant: request.constant,
        precision: request.precision,
        tolerance: request.tolerance,
        tick: request.tick,
        seconds: request.time.tv_sec,
        fraction: request.time.tv_usec,
        tai: request.tai,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_can_be() {
        let now = read().unwrap();
        let (least, most) = (900_000 / user_hz(), 1_100_000 / user_hz());
        assert!((least..=most).contains(&now.tick) && (0..=5).contains(&now.state), "{now:?}");
        assert!(now.frequency.abs() <= now.tolerance && now.seconds > 1_000_000_000, "{now:?}");
    }

    #[test]
    fn nothing_is_set_where_the_environment_forbids_it() {
        // As everything that cargo starts, tests run with DRIFTLESS_OBSERVE=1.
        let change = Change { tick: Some(10_000), singleshot: Some(0), ..Change::default() };
        assert_eq!(set(&change).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
