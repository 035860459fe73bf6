//! The kernel's wall clock as it really behaves, after `kernel/time/ntp.c` and `kernel/time/timekeeping.c`.
//!
//! Wall time runs at the counter's rate plus tick and frequency, plus whatever an `adjtime` or the phase-locked loop has to add in the present
//! second. Every second of wall time the kernel doubts itself by 500 µs more; at 16 s it says that it is not synchronised.

use driftless_core::clock::{ClockCommand, ClockError, ClockState, Leap, Rate, Status};
use driftless_core::time::{Frequency, NANOS_PER_SECOND, RawTime, Seconds, Span, WallTime};

/// The simulated kernel's clock.
#[derive(Debug, Clone)]
pub struct KernelClock {
    raw: RawTime,
    wall: WallTime,
    /// Fraction of a ns of wall time.
    fraction: f64,
    tick: i32,
    /// In the kernel's unit, 2^-16 ppm.
    scaled_ppm: i64,
    /// What the present second adds beside tick and frequency, s/s: the chunk of an `adjtime`, of the loop.
    extra: f64,
    /// What an `adjtime` has still to add from the next second on.
    adjust: Span,
    /// What the phase-locked loop has still to add.
    loop_offset: Span,
    synchronised: bool,
    leap: Leap,
    leap_done: bool,
    max_error: Span,
    est_error: Span,
    tai: i32,
    /// What the kernel answers instead of obeying: `EPERM` without `CAP_SYS_TIME`.
    pub refuses: Option<ClockError>,
    /// What was done to it.
    pub history: History,
}

/// What was done to a clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Every step, in order: positive is forwards.
    pub steps: Vec<Span>,
    /// All of them together.
    pub stepped: Span,
    /// How often the rate was set to something else.
    pub adjustments: u64,
    /// How often the tick was set to something else.
    pub tick_changes: u64,
}

/// The kernel clamps to this without a word: ±500 ppm.
const SCALED_PPM_MAX: i64 = 500 << 16;
/// What `adjtime` adds in a second at most (`MAX_TICKADJ`).
const ADJUST_MAX: Span = Span::from_micros(500);
/// Half-life of the loop's offset: 2^(`SHIFT_PLL` + time constant), both 2.
const LOOP_DIVISOR: i64 = 16;
/// How much worse the clock may have become in a second (`MAXFREQ`).
const MAX_ERROR_GROWTH: Span = Span::from_micros(500);
/// Above this the kernel calls its clock unsynchronised (`NTP_PHASE_LIMIT`).
const PHASE_LIMIT: Span = Span::from_secs(16);
const SECONDS_A_DAY: i64 = 86_400;

impl KernelClock {
    /// A clock as it is after boot: nominal rate, not synchronised.
    #[must_use]
    pub fn new(raw: RawTime, wall: WallTime) -> Self {
        Self {
            raw,
            wall,
            fraction: 0.0,
            tick: Rate::NOMINAL_TICK,
            scaled_ppm: 0,
            extra: 0.0,
            adjust: Span::ZERO,
            loop_offset: Span::ZERO,
            synchronised: false,
            leap: Leap::None,
            leap_done: false,
            max_error: PHASE_LIMIT,
            est_error: PHASE_LIMIT,
            tai: 0,
            refuses: None,
            history: History::default(),
        }
    }

    /// Lets the counter run until it reads `raw`.
    pub fn advance(&mut self, raw: RawTime) {
        // A second at a time, which an `f64` holds to a ten millionth of a ns.
        while raw - self.raw > Span::from_secs(1) {
            self.run(self.raw + Span::from_secs(1));
        }
        self.run(raw);
    }

    fn run(&mut self, raw: RawTime) {
        let mut left_ns = Seconds::from(raw - self.raw).0 * 1e9;
        while left_ns > 0.0 {
            let speed = 1.0 + self.slope();
            let into_second = self.wall.as_nanos().rem_euclid(NANOS_PER_SECOND);
            let to_second_ns = nanos(NANOS_PER_SECOND - into_second) - self.fraction;
            if left_ns * speed < to_second_ns {
                self.fraction += left_ns * speed;
                let whole = self.fraction.floor();
                self.fraction -= whole;
                self.wall = self.wall + Seconds(whole * 1e-9).to_span();
                break;
            }
            left_ns -= to_second_ns / speed;
            self.wall = self.wall + Span::from_nanos(NANOS_PER_SECOND - into_second);
            self.fraction = 0.0;
            self.second_ended();
        }
        self.raw = raw;
    }

    /// What programs read.
    #[must_use]
    pub const fn wall(&self) -> WallTime {
        self.wall
    }

    /// Tick and frequency in force.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate { tick: self.tick, frequency: Frequency::from_scaled_ppm(self.scaled_ppm) }
    }

    /// How fast it runs now against the counter, minus one, an `adjtime` included.
    #[must_use]
    pub fn slope(&self) -> f64 {
        self.rate().total().0 + self.extra
    }

    /// What `driftless-linux` makes of a command, done by the kernel.
    ///
    /// # Errors
    /// As the kernel's: no privilege, a tick out of range. Then nothing has changed.
    pub fn apply(&mut self, command: ClockCommand) -> Result<ClockState, ClockError> {
        if command != ClockCommand::Read {
            self.refuses.map_or(Ok(()), Err)?;
        }
        match command {
            ClockCommand::Read => {}
            ClockCommand::TakeOver => {
                (self.adjust, self.loop_offset, self.extra) = (Span::ZERO, Span::ZERO, 0.0);
            }
            ClockCommand::SetRate(rate) => self.set_rate(rate)?,
            ClockCommand::Step(by) => {
                let before = (self.synchronised, self.max_error, self.est_error);
                self.step(by);
                // A step makes the kernel forget its status; the driver puts it back.
                (self.synchronised, self.max_error, self.est_error) = before;
            }
            ClockCommand::SetStatus(status) => self.set_status(status),
        }
        Ok(self.state())
    }

    /// `ADJ_TICK | ADJ_FREQUENCY`.
    ///
    /// # Errors
    /// [`ClockError::Invalid`] for a tick out of range; a frequency is clamped without a word.
    pub fn set_rate(&mut self, rate: Rate) -> Result<(), ClockError> {
        if !(Rate::TICK_MIN..=Rate::TICK_MAX).contains(&rate.tick) {
            return Err(ClockError::Invalid);
        }
        let scaled_ppm = rate.frequency.scaled_ppm().clamp(-SCALED_PPM_MAX, SCALED_PPM_MAX);
        self.history.adjustments += u64::from((rate.tick, scaled_ppm) != (self.tick, self.scaled_ppm));
        self.history.tick_changes += u64::from(rate.tick != self.tick);
        (self.tick, self.scaled_ppm) = (rate.tick, scaled_ppm);
        Ok(())
    }

    /// `ADJ_SETOFFSET`, or `settimeofday`: the kernel forgets what it was adding, and its status (`ntp_clear`).
    pub fn step(&mut self, by: Span) {
        self.history.steps.push(by);
        self.history.stepped = self.history.stepped + by;
        self.wall = self.wall + by;
        (self.adjust, self.loop_offset, self.extra) = (Span::ZERO, Span::ZERO, 0.0);
        (self.synchronised, self.max_error, self.est_error) = (false, PHASE_LIMIT, PHASE_LIMIT);
    }

    /// `adjtime(3)`: adds `by` at 500 ppm, from the next second on, in place of what an earlier call left.
    pub const fn adjtime(&mut self, by: Span) {
        self.adjust = by;
    }

    /// `ADJ_OFFSET`: what ntpd's kernel discipline leaves to the phase-locked loop; half a second at most.
    pub fn set_loop_offset(&mut self, by: Span) {
        self.loop_offset = by.clamp(Span::from_millis(-500), Span::from_millis(500));
    }

    /// What `adjtimex` reads.
    #[must_use]
    pub fn state(&self) -> ClockState {
        ClockState {
            rate: self.rate(),
            synchronised: self.synchronised,
            max_error: Seconds::from(self.max_error),
            est_error: Seconds::from(self.est_error),
            tai: self.tai,
            pending: self.adjust + self.loop_offset,
        }
    }

    fn set_status(&mut self, status: Status) {
        if status.leap != self.leap {
            self.leap_done = false;
        }
        self.synchronised = status.synchronised;
        self.leap = status.leap;
        // The kernel keeps whole µs.
        let micros = |error: Seconds| {
            Span::from_micros(error.to_span().as_nanos() / 1_000).clamp(Span::ZERO, PHASE_LIMIT)
        };
        (self.max_error, self.est_error) = (micros(status.max_error), micros(status.est_error));
        self.tai = status.tai.unwrap_or(self.tai);
    }

    /// `second_overflow` of `kernel/time/ntp.c`.
    fn second_ended(&mut self) {
        self.leap_second();
        self.max_error = (self.max_error + MAX_ERROR_GROWTH).min(PHASE_LIMIT);
        self.synchronised &= self.max_error < PHASE_LIMIT;
        let chunk = self.adjust.clamp(-ADJUST_MAX, ADJUST_MAX);
        let loop_chunk = Span::from_nanos(self.loop_offset.as_nanos() / LOOP_DIVISOR);
        self.adjust = self.adjust - chunk;
        self.loop_offset = self.loop_offset - loop_chunk;
        self.extra = Seconds::from(chunk + loop_chunk).0;
    }

    fn leap_second(&mut self) {
        let second = self.wall.as_nanos().div_euclid(NANOS_PER_SECOND).rem_euclid(SECONDS_A_DAY);
        let by = match self.leap {
            Leap::Insert if second == 0 => -1,
            Leap::Delete if second == SECONDS_A_DAY - 1 => 1,
            _ => return,
        };
        if !core::mem::replace(&mut self.leap_done, true) {
            self.wall = self.wall + Span::from_secs(by);
            // TAI goes on: what UTC repeats, it gains on it.
            self.tai += if by < 0 { 1 } else { -1 };
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a second's worth of ns")]
const fn nanos(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: WallTime = WallTime::from_nanos(1_700_006_400_000_000_000);

    fn clock() -> KernelClock {
        KernelClock::new(RawTime::from_nanos(0), MIDNIGHT)
    }

    fn at(clock: &mut KernelClock, second: f64) -> Span {
        clock.advance(RawTime::from_nanos(0) + Seconds(second).to_span());
        clock.wall() - MIDNIGHT
    }

    fn rate(tick: i32, ppm: f64) -> Rate {
        Rate { tick, frequency: Frequency::from_ppm(ppm) }
    }

    #[test]
    fn tick_and_frequency_add_up() {
        let mut clock = clock();
        clock.set_rate(rate(9_993, 24.0)).unwrap();
        let expected = Span::from_secs(1_000_000) - Span::from_millis(676_000);
        assert!((at(&mut clock, 1e6) - expected).abs() <= Span::from_nanos(1));
    }

    #[test]
    fn frequency_is_rounded_and_clamped_without_a_word_and_a_wild_tick_refused() {
        let mut clock = clock();
        clock.apply(ClockCommand::SetRate(rate(10_000, 700.0))).unwrap();
        assert!((clock.rate().frequency.ppm() - 500.0).abs() < 1e-12);
        clock.apply(ClockCommand::SetRate(rate(10_000, 1e-5))).unwrap();
        assert!((clock.rate().frequency.ppm() - 1.0 / 65_536.0).abs() < 1e-12);
        assert_eq!(clock.apply(ClockCommand::SetRate(rate(8_999, 0.0))), Err(ClockError::Invalid));
    }

    #[test]
    fn adjtime_takes_two_thousand_seconds_for_one() {
        let mut clock = clock();
        clock.adjtime(Span::from_secs(-1));
        let gained = |clock: &mut KernelClock, second: f64| at(clock, second) - Seconds(second).to_span();
        assert!((Seconds::from(gained(&mut clock, 1_001.0)).0 + 0.5).abs() < 1e-3);
        assert!(
            (Seconds::from(gained(&mut clock, 2_100.0)).0 + 1.0).abs() < 1e-3,
            "a slower second lasts longer"
        );
        assert_eq!(clock.state().pending, Span::ZERO);
    }

    #[test]
    fn the_loops_offset_fades_and_taking_over_ends_it() {
        let mut clock = clock();
        clock.set_loop_offset(Span::from_millis(16));
        assert!((at(&mut clock, 2.0) - Span::from_micros(2_001_000)).abs() < Span::from_micros(2));
        clock.apply(ClockCommand::TakeOver).unwrap();
        let before = at(&mut clock, 3.0);
        assert_eq!(at(&mut clock, 4.0) - before, Span::from_secs(1));
    }

    #[test]
    fn a_clock_left_alone_doubts_itself_until_it_is_unsynchronised() {
        let mut clock = clock();
        let status = Status {
            synchronised: true,
            leap: Leap::None,
            max_error: Seconds(0.001),
            est_error: Seconds(1e-5),
            tai: Some(37),
        };
        clock.apply(ClockCommand::SetStatus(status)).unwrap();
        at(&mut clock, 1_000.5);
        assert!((clock.state().max_error.0 - 0.501).abs() < 1e-9 && clock.state().synchronised);
        at(&mut clock, 32_001.0);
        assert!(!clock.state().synchronised);
    }

    #[test]
    fn a_step_is_kept_in_the_history_and_the_status_survives() {
        let mut clock = clock();
        clock.apply(ClockCommand::Step(Span::from_secs(-2))).unwrap();
        assert_eq!((at(&mut clock, 5.0), clock.history.steps.len()), (Span::from_secs(3), 1));
    }

    #[test]
    fn an_inserted_second_comes_once_at_the_end_of_the_day() {
        let mut clock = KernelClock::new(RawTime::from_nanos(0), MIDNIGHT - Span::from_secs(10));
        let status = Status {
            synchronised: true,
            leap: Leap::Insert,
            max_error: Seconds::ZERO,
            est_error: Seconds::ZERO,
            tai: Some(37),
        };
        clock.apply(ClockCommand::SetStatus(status)).unwrap();
        assert_eq!(at(&mut clock, 12.0), Span::from_secs(1));
        assert_eq!((at(&mut clock, 90_000.0), clock.state().tai), (Span::from_secs(89_989), 38));
    }
}
