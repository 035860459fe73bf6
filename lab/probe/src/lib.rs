//! The page that host and guest share, word by word: what each word means, for both sides.
#![forbid(unsafe_code)]

/// Host → guest: a new number asks for a reading.
pub const ASKED: usize = 0;
/// Guest → host: the number that was last answered.
pub const ANSWERED: usize = 1;
/// Host → guest: while 1, the guest spins and answers within a microsecond.
pub const WINDOW: usize = 2;
/// Host → guest: while 1, the client under test is to run.
pub const CLIENT: usize = 3;
/// Guest → host: 1 once the guest is up and its clock source is `tsc`, −1 where it is another.
pub const READY: usize = 4;
/// Guest → host: how many times the wall clock went backwards.
pub const BACKWARD_STEPS: usize = 5;
/// Guest → host: how many times it was stepped forwards by more than 2 ms.
pub const FORWARD_STEPS: usize = 6;
/// Guest → host: its wall clock, ns.
pub const WALL: usize = 8;
/// Guest → host: its uncorrected counter, ns.
pub const RAW: usize = 9;
/// Guest → host: the kernel's tick, µs.
pub const TICK: usize = 10;
/// Guest → host: the kernel's frequency in 2^-16 ppm.
pub const FREQUENCY: usize = 11;
/// Guest → host: the client's resident memory in kB.
pub const RESIDENT_KB: usize = 12;
/// Guest → host: the client's time on the processor, ns.
pub const CLIENT_NS: usize = 13;
/// Guest → host: how many times the client has slept and was woken.
pub const CLIENT_WAKES: usize = 22;
/// Host → guest: a new number asks for a reading of the PTP clock.
pub const PHC_ASKED: usize = 16;
/// Guest → host: the number that was last answered.
pub const PHC_ANSWERED: usize = 17;
/// Guest → host: the PTP clock's time, ns; 0 where there is none.
pub const PHC: usize = 18;
/// Host → guest: a new number orders a step of the PTP clock.
pub const PHC_STEP_ORDERED: usize = 19;
/// Guest → host: the number of the last step that was made.
pub const PHC_STEP_MADE: usize = 20;
/// Host → guest: by how much, ns.
pub const PHC_STEP: usize = 21;
/// Host → guest: ms between two looks at the client's status, each of which wakes it; 0 for half a second.
pub const STATUS_EVERY_MS: usize = 23;
/// Guest → host: how long `waitsync --once` took from its start to its end, ns; 0 where it was not timed. The first time is apart: where
/// instructions are translated, it pays for that.
pub const WAITSYNC_FIRST_NS: usize = 26;
/// The same of the second time.
pub const WAITSYNC_NS: usize = 24;
/// Guest → host: from the client's start until the wall clock agreed with the PTP clock to a millisecond, ns; 0 where it was not timed.
pub const RIGHT_AFTER_NS: usize = 25;
/// Guest → host: goes up with each new status; odd while it is written.
pub const STATUS_SERIAL: usize = 14;
/// Guest → host: octets of the status.
pub const STATUS_LENGTH: usize = 15;
/// Guest → host: `driftless status --json` of the client, eight octets a word, from here.
pub const STATUS: usize = 64;
/// Words that are mapped.
pub const WORDS: usize = 8_192;
