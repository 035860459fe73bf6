//! What an observer may see: one immutable snapshot, serialised once, here. Keys are promised by `cli.md`.

use serde::{Deserialize, Serialize};

use crate::clock::Leap;
use crate::disruption::Interruption;
use crate::time::WallTime;

/// How the clock is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is known yet.
    #[default]
    Unsynchronised,
    /// A source answers; the clock is being put right.
    Acquiring,
    /// The clock is right within its bound.
    Synchronised,
    /// The sources are silent; the learnt frequency is kept.
    Holdover,
    /// The guest was interrupted; a verdict is being sought.
    Interrupted,
    /// Somebody else steers, too.
    Contested,
}

/// What a source said last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastLook {
    /// How long ago, s.
    pub age: f64,
    /// As measured then, reference − local, s; positive: local was behind.
    pub offset: f64,
    /// The largest error that honest clocks allow it (RFC 5905, section 11.1), s.
    pub root_distance: f64,
    /// The reference's own round trip to its root, s.
    pub root_delay: f64,
    /// The reference's own dispersion to its root, s.
    pub root_dispersion: f64,
    /// What it announces.
    pub leap: Leap,
    /// Whom it follows, eight hexadecimal digits, where it says so.
    pub reference_id: Option<String>,
    /// log2 of its clock's precision in seconds, where it says so.
    pub precision: Option<i8>,
    /// Whether the kernel stamped the reply's arrival.
    pub kernel_stamp: bool,
}

/// One source as an observer sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its SPEC as configured.
    pub name: String,
    /// Its identity as we would pass it on (RFC 5905, section 7.3), eight hexadecimal digits: an address, or four letters.
    pub reference_id: String,
    /// The address and port in use.
    pub address: Option<String>,
    /// `selected`, `combined`, or why not: `unreachable`, `unresolved`, `falseticker`, `unsynchronised`, `candidate`, `offline`, `refused`.
    pub state: String,
    /// The last eight polls, one bit each, the newest lowest.
    pub reach: u8,
    /// Steps to the root as last told; 16 for unknown.
    pub stratum: u8,
    /// log2 of the poll interval in seconds.
    pub poll: i8,
    /// The poll interval, s: dntpd's are no powers of two.
    #[serde(default)]
    pub interval: f64,
    /// Until the next look, s; none while nothing is due.
    #[serde(default)]
    pub next: Option<f64>,
    /// Mean excess of one direction's delay, s.
    #[serde(default)]
    pub jitter: f64,
    /// Reference − local, s; positive: local is behind.
    pub offset: Option<f64>,
    /// Standard deviation of `offset`, s.
    pub offset_error: Option<f64>,
    /// Round trip of the last sample, s.
    pub delay: Option<f64>,
    /// The reference's rate against the uncorrected counter, ppm.
    pub frequency: Option<f64>,
    /// Standard deviation of `frequency`, ppm.
    pub frequency_error: Option<f64>,
    /// What it said last.
    pub last: Option<LastLook>,
    /// Samples taken.
    pub samples: u64,
    /// Requests sent.
    pub sent: u64,
    /// Valid replies.
    pub received: u64,
    /// |`offset`'s error| is at most this, s.
    pub offset_bound: Option<f64>,
    /// Of a real-time clock: whether it is known where its second begins, `learnt` or `not-learnt` (then it is right to a second).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// Of a real-time clock whose edge is learnt: RTC − truth, s. It is taken off `offset` already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<f64>,
    /// Largest credible error of `phase`, s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_error: Option<f64>,
}

/// The whole state in one piece. Offsets are seconds, reference − local; frequencies are ppm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How the clock is doing.
    pub state: State,
    /// Whether nothing is set, only observed.
    pub observe: bool,
    /// SPEC of the followed source.
    pub source: Option<String>,
    /// Our own stratum: the source's plus one; 16 while unsynchronised.
    pub stratum: u8,
    /// The followed source's identity as servers pass it on (RFC 5905, section 7.3), eight hexadecimal digits.
    pub reference_id: Option<String>,
    /// The announced leap second.
    pub leap: Leap,
    /// Reference − local now.
    pub offset: Option<f64>,
    /// |offset error| is at most this.
    pub offset_bound: Option<f64>,
    /// The rate that corrects the counter, ppm: negative where the counter runs fast.
    pub frequency: Option<f64>,
    /// Its standard deviation, ppm.
    pub frequency_error: Option<f64>,
    /// The kernel's tick, µs.
    pub tick: Option<i32>,
    /// The kernel's frequency, ppm.
    pub kernel_frequency: Option<f64>,
    /// The kernel's clock source; the driver fills it in.
    pub clocksource: Option<String>,
    /// Round trip to the root, s.
    pub root_delay: Option<f64>,
    /// Dispersion to the root, s.
    pub root_dispersion: Option<f64>,
    /// When the last sample of the followed source was taken; printed as RFC 3339 by the driver.
    #[serde(skip)]
    pub last_update: Option<WallTime>,
    /// By how much the last sample of a followed source moved `offset`, s.
    pub last_offset: Option<f64>,
    /// Root mean square of such moves, the older the less they weigh, s.
    pub rms_offset: Option<f64>,
    /// Between the last two samples of followed sources, s.
    pub update_interval: Option<f64>,
    /// Steps since the start.
    pub steps: u64,
    /// Interruptions since the start.
    pub interruptions: u64,
    /// The last of them; the driver adds when it was.
    pub last_interruption: Option<Interruption>,
    /// Names of those who steer, too; the driver fills it in.
    pub other_writers: Vec<String>,
    /// Each source.
    pub sources: Vec<SourceReport>,
}
