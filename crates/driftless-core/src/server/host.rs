//! What this host may say of its own clock as a network's server: what its keeper last told, and nothing at all after an interruption until
//! the keeper has set the clock anew.

use crate::clock::Leap;
use crate::time::{Now, Seconds, Span, WallTime};

use super::ServerState;

/// What whoever keeps this host's clock says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keeper {
    /// Whether the clock is kept.
    pub is_synchronised: bool,
    /// The announced leap second.
    pub leap: Leap,
    /// Steps to the root.
    pub stratum: u8,
    /// Whom it follows.
    pub reference_id: [u8; 4],
    /// Round trip to the root.
    pub root_delay: Seconds,
    /// All that may be wrong beyond half of that.
    pub root_dispersion: Seconds,
    /// When the clock was last measured, where that is told.
    pub updated: Option<WallTime>,
}

/// The host's clock as its guests may know it.
#[derive(Debug, Clone, Default)]
pub struct HostClock {
    /// What the keeper said last.
    last: Option<Keeper>,
    /// Since an interruption nothing new was measured.
    is_distrusted: bool,
    /// Both clocks as they were read last.
    seen: Option<Now>,
}

/// The clock's own error grows by this much a second between two measurements (RFC 5905, section 4: PHI).
const PHI: f64 = 15e-6;
/// Two clocks of one machine part by no more than a keeper's slewing, a tenth, and this.
const PARTING: Span = Span::from_millis(10);

impl HostClock {
    /// The clock was set, or this machine slept: whatever was measured before says nothing any more.
    pub const fn interrupted(&mut self) {
        self.is_distrusted = true;
    }

    /// Compares both clocks with the last time: true where the wall clock was moved in between. The first time tells nothing.
    pub fn was_moved(&mut self, now: Now) -> bool {
        let Some(seen) = self.seen.replace(now) else { return false };
        let (raw, wall) = (now.raw - seen.raw, now.wall - seen.wall);
        (wall - raw).abs() > PARTING + Span::from_nanos(raw.abs().as_nanos() / 10)
    }

    /// The keeper was asked, and will be again in `interval`.
    pub fn told(&mut self, keeper: Option<Keeper>, interval: Span) -> ServerState {
        let Some(keeper) = keeper.filter(|keeper| keeper.is_synchronised) else {
            // Whatever it says next, it has measured anew.
            self.is_distrusted = false;
            self.last = None;
            return ServerState::unsynchronised();
        };
        if self.last.is_none_or(|last| keeper.is_newer_than(&last)) {
            self.is_distrusted = false;
        }
        self.last = Some(keeper);
        if self.is_distrusted {
            return ServerState::unsynchronised();
        }
        ServerState {
            leap: keeper.leap,
            stratum: keeper.stratum.clamp(1, 16),
            precision: ServerState::PRECISION,
            root_delay: keeper.root_delay,
            root_dispersion: keeper.root_dispersion + Seconds(Seconds::from(interval).0 * PHI),
            reference_id: keeper.reference_id,
            reference: keeper.updated,
        }
    }
}

impl Keeper {
    /// Whether the clock was measured between the two. A keeper that does not tell when shows it by an error that no longer grows.
    fn is_newer_than(&self, last: &Self) -> bool {
        match (self.updated, last.updated) {
            (Some(now), Some(then)) => now != then,
            (None, None) => self.root_dispersion < last.root_dispersion,
            // Another keeper than the last: what it says may be as old.
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::RawTime;

    const SECOND: Span = Span::from_secs(1);
    const NOW: WallTime = WallTime::from_nanos(1_700_000_000_000_000_000);

    fn kernel(error: f64) -> Keeper {
        Keeper {
            is_synchronised: true,
            leap: Leap::None,
            stratum: 3,
            reference_id: *b"KERN",
            root_delay: Seconds::ZERO,
            root_dispersion: Seconds(error),
            updated: None,
        }
    }

    fn daemon(updated: WallTime) -> Keeper {
        Keeper { updated: Some(updated), ..kernel(0.001) }
    }

    #[test]
    fn what_the_keeper_says_is_told_with_what_its_age_adds() {
        let state = HostClock::default().told(Some(kernel(0.010)), SECOND);
        assert_eq!((state.stratum, state.leap, &state.reference_id), (3, Leap::None, b"KERN"));
        assert!((state.root_dispersion.0 - 0.010_015).abs() < 1e-12, "{}", state.root_dispersion);
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_unsynchronised() {
        let mut host = HostClock::default();
        assert_eq!(host.told(None, SECOND), ServerState::unsynchronised());
        let unkept = Keeper { is_synchronised: false, ..kernel(16.0) };
        assert_eq!(host.told(Some(unkept), SECOND), ServerState::unsynchronised());
    }

    #[test]
    fn after_an_interruption_nothing_is_said_until_the_kernels_error_fell() {
        let mut host = HostClock::default();
        assert_eq!(host.told(Some(kernel(0.010)), SECOND).stratum, 3);
        host.interrupted();
        for error in [0.0105, 0.011, 0.0115] {
            assert_eq!(host.told(Some(kernel(error)), SECOND), ServerState::unsynchronised());
        }
        assert_eq!(host.told(Some(kernel(0.004)), SECOND).stratum, 3, "somebody has measured");
        host.interrupted();
        assert_eq!(host.told(None, SECOND).stratum, 16);
        assert_eq!(host.told(Some(kernel(0.1)), SECOND).stratum, 3, "synchronised again after it was not");
    }

    #[test]
    fn after_an_interruption_nothing_is_said_until_the_daemon_has_measured() {
        let mut host = HostClock::default();
        host.told(Some(daemon(NOW)), SECOND);
        host.interrupted();
        assert_eq!(host.told(Some(daemon(NOW)), SECOND).stratum, 16);
        assert_eq!(host.told(Some(daemon(NOW - SECOND)), SECOND).stratum, 3, "its clock was set back");
    }

    #[test]
    fn a_moved_clock_is_seen_and_a_slewed_one_is_not() {
        let at = |raw_ms: i64, wall_ms| Now {
            raw: RawTime::from_nanos(raw_ms * 1_000_000),
            wall: NOW + Span::from_millis(wall_ms),
        };
        let mut host = HostClock::default();
        assert!(!host.was_moved(at(0, 0)));
        assert!(!host.was_moved(at(500, 530)), "six percent are a keeper's");
        assert!(host.was_moved(at(1_000, 1_200)));
        assert!(!host.was_moved(at(1_500, 1_700)));
        assert!(host.was_moved(at(2_000, 1_000)));
    }
}
