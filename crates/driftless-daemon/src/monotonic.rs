//! Does the wall clock ever go backwards, on one processor or from one to another?
//!
//! Each thread, on a processor of its own, looks at what the others have last read, then reads the clock, then tells the others. A reading that is
//! earlier than one that was told before it began is a backward step: no order of events makes it anything else, and a nanosecond is enough.
//! `CLOCK_MONOTONIC` stands beside: slewed alike and never set, so that wall − monotonic moves by steps alone, forwards as well.
//!
//! The watcher knows the clock only as a function, so that a clock with a planted fault can be put in its place.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use driftless_core::time::Span;
use driftless_linux::{clock, cpu};

/// One reading of both clocks, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: i64,
    /// `CLOCK_MONOTONIC` just before.
    pub steady: i64,
    /// From there to `CLOCK_MONOTONIC` just after.
    pub width: i64,
}

/// A reading that is earlier than one that had been made before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackwardStep {
    /// The earlier made reading, ns, and which thread made it.
    pub before: (i64, usize),
    /// The later made one.
    pub after: (i64, usize),
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// How often the clock went backwards.
    pub backward: u64,
    /// The first time that it did.
    pub first: Option<BackwardStep>,
    /// The largest of them.
    pub largest: Span,
    /// How often it was set forwards.
    pub forward: u64,
    /// The longest time between two readings of a thread: how much may have happened unseen.
    pub longest_gap: Span,
    /// Readings of all threads.
    pub readings: u64,
}

/// What all threads share: the newest reading of each.
#[derive(Debug)]
pub struct Frontier {
    newest: Vec<AtomicI64>,
    /// And when a backward step was last seen, ns of the steady clock.
    found: Mutex<(Findings, i64)>,
}

/// One thread's part.
#[derive(Debug)]
pub struct Watcher<'a> {
    frontier: &'a Frontier,
    thread: usize,
    last: Option<Reading>,
    readings: u64,
    longest_gap: i64,
}

/// A step is seen by every thread until the clock has caught up with what was read before it: less than this apart, it is the same.
const SAME_STEP: Span = Span::from_millis(100);
/// A forward move that no reading of both clocks explains.
const FORWARD_MIN: Span = Span::from_millis(1);
/// A pair of readings that was interrupted for longer says nothing about that.
const WIDTH_MAX: Span = Span::from_micros(100);
/// Looks between two glances at whether it is over.
const BATCH: u32 = 64;

/// Watches this machine's wall clock for `length` with `threads` threads, on as many processors in turn.
#[must_use]
pub fn watch(length: Span, threads: usize) -> Findings {
    let cpus = cpu::online();
    watch_with(length, threads, |thread| {
        // A container may not own it: then the scheduler chooses.
        let _ = cpu::pin(cpus[thread % cpus.len()]);
        read
    })
}

/// The same with any clock: `clock_of` is called on each thread for its function.
pub fn watch_with<F: FnMut() -> Reading>(
    length: Span,
    threads: usize,
    clock_of: impl Fn(usize) -> F + Sync,
) -> Findings {
    let frontier = Frontier::new(threads.max(1));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..frontier.newest.len() {
            let (frontier, is_over, clock_of) = (&frontier, &is_over, &clock_of);
            scope.spawn(move || {
                let mut read = clock_of(thread);
                let mut watcher = Watcher::new(frontier, thread);
                let start = read().steady;
                while !is_over.load(Ordering::Relaxed) {
                    (0..BATCH).for_each(|_| watcher.look(&mut read));
                    let elapsed = watcher.last.map_or(0, |last| last.steady - start);
                    if elapsed >= length.as_nanos() {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
                watcher.finish();
            });
        }
    });
    frontier.findings()
}

fn read() -> Reading {
    let (wall, [steady, after]) = clock::wall_and_steady();
    Reading { wall, steady, width: after - steady }
}

impl Frontier {
    /// For so many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            newest: (0..threads).map(|_| AtomicI64::new(i64::MIN)).collect(),
            found: Mutex::new((Findings::default(), i64::MIN)),
        }
    }

    /// What was seen so far.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.with(|(found, _)| found.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut (Findings, i64)) -> T) -> T {
        // A thread that panicked leaves counts, no half-done state.
        act(&mut self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The latest reading that was told, and by whom.
    fn newest(&self) -> (i64, usize) {
        let told = self.newest.iter().enumerate();
        told.map(|(thread, newest)| (newest.load(Ordering::SeqCst), thread)).max().unwrap_or((i64::MIN, 0))
    }

    fn went_back(&self, step: BackwardStep, steady: i64) {
        self.with(|(found, last)| {
            if steady.saturating_sub(*last) > SAME_STEP.as_nanos() {
                found.backward += 1;
            }
            *last = steady;
            found.first.get_or_insert(step);
            found.largest = found.largest.max(step.by());
        });
        // What was read before the step is no measure of what comes after it.
        self.newest.iter().for_each(|newest| newest.store(i64::MIN, Ordering::SeqCst));
    }
}

impl<'a> Watcher<'a> {
    /// The part of the thread of this number.
    #[must_use]
    pub const fn new(frontier: &'a Frontier, thread: usize) -> Self {
        Self { frontier, thread, last: None, readings: 0, longest_gap: 0 }
    }

    /// One look.
    pub fn look(&mut self, mut read: impl FnMut() -> Reading) {
        let before = self.frontier.newest();
        let now = read();
        if now.wall < before.0 {
            let step = BackwardStep { before, after: (now.wall, self.thread) };
            self.frontier.went_back(step, now.steady);
        }
        self.frontier.newest[self.thread].store(now.wall, Ordering::SeqCst);
        self.readings += 1;
        let Some(last) = self.last else {
            self.last = Some(now);
            return;
        };
        self.longest_gap = self.longest_gap.max(now.steady - last.steady);
        if now.width > WIDTH_MAX.as_nanos() {
            // Interrupted between the two clocks: the next pair tells it as well.
            self.last = Some(Reading { wall: last.wall + (now.steady - last.steady), ..now });
            return;
        }
        let moved = (now.wall - last.wall) - (now.steady - last.steady);
        // Each thread sees it; the first alone counts.
        if moved > FORWARD_MIN.as_nanos() && self.thread == 0 {
            self.frontier.with(|(found, _)| found.forward += 1);
        }
        self.last = Some(now);
    }

    /// Adds its counts to what all have seen.
    pub fn finish(self) {
        self.frontier.with(|(found, _)| {
            found.readings += self.readings;
            found.longest_gap = found.longest_gap.max(Span::from_nanos(self.longest_gap));
        });
    }
}

impl BackwardStep {
    /// By how much, as a length.
    #[must_use]
    pub fn by(&self) -> Span {
        Span::from_nanos(self.before.0 - self.after.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, steady: i64) -> impl Fn() -> Reading {
        move || Reading { wall, steady, width: 30 }
    }

    #[test]
    fn n4_a_nanosecond_backwards_on_another_processor_is_caught() {
        let frontier = Frontier::new(2);
        let (mut one, mut other) = (Watcher::new(&frontier, 0), Watcher::new(&frontier, 1));
        one.look(at(1_000, 0));
        other.look(at(1_000, 10));
        assert_eq!(frontier.findings().backward, 0, "the same reading twice is no step");
        one.look(at(1_500, 20));
        other.look(at(1_499, 30));
        let found = frontier.findings();
        assert_eq!(found.backward, 1);
        let step = found.first.unwrap();
        assert_eq!((step.before, step.after, step.by()), ((1_500, 0), (1_499, 1), Span::from_nanos(1)));
    }

    /// Two real threads on a simulated clock that ticks 10 ns with each reading; what the second reads is planted 21 ns behind.
    #[test]
    fn n4_it_is_caught_between_threads_that_run_at_once() {
        let time = AtomicI64::new(0);
        let planted = |behind: i64| {
            watch_with(Span::from_millis(20), 2, |thread| {
                let (time, behind) = (&time, if thread == 1 { behind } else { 0 });
                move || {
                    let now = time.fetch_add(10, Ordering::SeqCst);
                    Reading { wall: now - behind, steady: now, width: 0 }
                }
            })
        };
        assert_eq!(planted(0).first, None, "a true clock is not accused");
        let step = planted(21).first.unwrap();
        assert!((step.before.1, step.after.1) == (0, 1) && step.by() <= Span::from_nanos(11), "{step:?}");
    }

    #[test]
    fn a_step_is_counted_once_however_many_see_it() {
        let frontier = Frontier::new(2);
        let (mut one, mut other) = (Watcher::new(&frontier, 0), Watcher::new(&frontier, 1));
        let (second, ms) = (1_000_000_000, 1_000_000);
        one.look(at(second, 0));
        // Read before the step, told after it: a straggler.
        one.look(at(second - 20 * ms, ms));
        other.look(at(second + ms, ms));
        one.look(at(second - 18 * ms, 2 * ms));
        assert_eq!((frontier.findings().backward, frontier.findings().largest), (1, Span::from_millis(20)));
        one.look(at(31 * second, 30 * second));
        one.look(at(31 * second - 20 * ms, 30 * second + ms));
        assert_eq!(frontier.findings().backward, 2, "half a minute later it is another one");
    }

    #[test]
    fn a_step_forwards_is_told_from_a_watcher_that_was_held_up() {
        let frontier = Frontier::new(1);
        let mut watcher = Watcher::new(&frontier, 0);
        let ms = 1_000_000;
        watcher.look(at(0, 0));
        watcher.look(at(30 * ms, 30 * ms));
        assert_eq!(frontier.findings().forward, 0);
        // Held up between the two clocks.
        watcher.look(|| Reading { wall: 50 * ms, steady: 31 * ms, width: 20 * ms });
        watcher.look(at(51 * ms, 51 * ms));
        assert_eq!(frontier.findings().forward, 0);
        watcher.look(at(72 * ms, 52 * ms));
        watcher.finish();
        let found = frontier.findings();
        assert_eq!((found.forward, found.longest_gap, found.readings), (1, Span::from_millis(30), 5));
    }

    #[test]
    fn n4_this_machine_is_watched_and_its_readings_are_counted() {
        let found = watch(Span::from_millis(50), 2);
        assert!(found.readings > 1_000, "{found:?}");
    }
}
