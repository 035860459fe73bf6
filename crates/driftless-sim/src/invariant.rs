//! What must hold at every moment, whatever happens.

use driftless_core::engine::StepPolicy;
use driftless_core::event::{Event, StepReason};
use driftless_core::source::{SourceClass, SourceConfig, SourceId};
use driftless_core::time::{Seconds, Span, WallTime};

use crate::record::Look;
use crate::truth::TrueTime;

/// Watches a run.
#[derive(Debug, Clone)]
pub struct Invariants {
    policy: StepPolicy,
    allowances: Vec<Allowance>,
    last: Option<(WallTime, Span)>,
    /// The first of each kind of violation, and when; the rest is only counted.
    pub seen: Vec<(TrueTime, Violation)>,
    /// How often something was broken.
    pub count: u64,
}

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Violation {
    /// An estimate is not finite, or a variance not positive.
    #[error("an estimate is no number, or its deviation not positive: {0}")]
    Unsound(String),
    /// The clock was stepped back without leave.
    #[error("stepped by {by} for {reason:?} under {policy:?}")]
    Backwards {
        /// By how much.
        by: Span,
        /// Why.
        reason: StepReason,
        /// Though this was the policy.
        policy: StepPolicy,
    },
    /// A program that reads the clock saw it go back without a step.
    #[error("the clock went back by {0} without a step")]
    NotMonotonic(Span),
    /// The rate left what is allowed.
    #[error("rate {0} ppm is out of range")]
    Rate(f64),
    /// A source was asked more often than its class allows.
    #[error("source {} was asked too often", .0.0)]
    Packets(SourceId),
    /// The engine wakes again and again while no time passes.
    #[error("the engine spins")]
    Spin,
}

/// How often one source may be asked: a bucket of looks, refilled with one each shortest poll interval.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    capacity: f64,
    interval: f64,
    left: f64,
    at: TrueTime,
}

/// ±10 %, and what rounding adds.
const RATE_MAX: f64 = 0.100_001;

impl Invariants {
    /// Watches an engine with this policy and these sources.
    #[must_use]
    pub fn new(policy: StepPolicy, sources: &[SourceConfig]) -> Self {
        let allowance = |source: &SourceConfig| {
            // Bursts at the start, after a doubt and by an order may follow each other closely.
            let capacity = match source.class {
                SourceClass::Hypervisor | SourceClass::Rtc => 64.0,
                SourceClass::Host => 32.0,
                SourceClass::Network => 16.0,
                SourceClass::Public => 12.0,
            };
            // The guest's counter times it, which may run fast.
            let interval = Seconds::from(source.min_poll.interval()).0 * 0.99;
            Allowance { capacity, interval, left: capacity, at: TrueTime::ZERO }
        };
        let allowances = sources.iter().map(allowance).collect();
        Self { policy, allowances, last: None, seen: Vec::new(), count: 0 }
    }

    /// A look at the guest, whose clock reads `wall`.
    pub(crate) fn look(&mut self, look: &Look, wall: WallTime) {
        if let Some(estimate) = &look.estimate {
            let deviations = [estimate.offset_error.0, estimate.frequency_error.0, estimate.bound.0];
            let is_sound = estimate.offset.is_finite()
                && estimate.frequency.0.is_finite()
                && deviations.iter().all(|deviation| deviation.is_finite() && *deviation > 0.0);
            if !is_sound {
                self.broken(look.at, Violation::Unsound(format!("{estimate:?}")));
            }
        }
        let total = look.rate.total().0;
        if total.abs() > RATE_MAX || look.rate.frequency.abs().0 > 500.000_1e-6 {
            self.broken(look.at, Violation::Rate(total * 1e6));
        }
        if let Some((before, stepped)) = self.last.replace((wall, look.stepped)) {
            let moved = wall - before - (look.stepped - stepped);
            if moved < Span::ZERO {
                self.broken(look.at, Violation::NotMonotonic(moved));
            }
        }
    }

    /// The engine tells something.
    pub(crate) fn told(&mut self, at: TrueTime, event: &Event) {
        let Event::Stepped { by, reason } = *event else { return };
        let is_ordered = reason == StepReason::Order;
        let is_back = by < Span::ZERO;
        let is_allowed = match self.policy {
            StepPolicy::Auto => !is_back || matches!(reason, StepReason::Start | StepReason::Interruption),
            StepPolicy::ForwardOnly => !is_back,
            StepPolicy::Never => false,
            StepPolicy::Always { forward_only, .. } => !is_back || !forward_only,
        };
        if !is_allowed && !is_ordered {
            self.broken(at, Violation::Backwards { by, reason, policy: self.policy });
        }
    }

    /// A source is asked.
    pub(crate) fn asked(&mut self, at: TrueTime, source: SourceId) {
        let Some(allowance) = self.allowances.get_mut(usize::from(source.0)) else { return };
        let passed = Seconds::from(at - allowance.at).0;
        allowance.left = (allowance.left + passed / allowance.interval).min(allowance.capacity) - 1.0;
        allowance.at = at;
        if allowance.left < 0.0 {
            allowance.left = 0.0;
            self.broken(at, Violation::Packets(source));
        }
    }

    /// Somebody ordered a burst, or the daemon starts anew: it may ask as at the beginning.
    pub(crate) fn renewed(&mut self) {
        for allowance in &mut self.allowances {
            allowance.left = allowance.capacity;
        }
    }

    /// The engine woke so often while no time passed that it must be in a loop.
    pub(crate) fn spins(&mut self, at: TrueTime) {
        self.broken(at, Violation::Spin);
    }

    fn broken(&mut self, at: TrueTime, violation: Violation) {
        self.count += 1;
        let is_same =
            |other: &Violation| core::mem::discriminant(other) == core::mem::discriminant(&violation);
        if !self.seen.iter().any(|(_, other)| is_same(other)) {
            self.seen.push((at, violation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::clock::Rate;
    use driftless_core::time::Frequency;

    fn watched(policy: StepPolicy) -> Invariants {
        let servers = vec![crate::scenario::ServerConfig::default()];
        let scenario = crate::Scenario { servers, ..crate::Scenario::default() };
        Invariants::new(policy, &scenario.engine_config().sources)
    }

    fn look(rate: Rate, stepped: Span) -> Look {
        Look { at: TrueTime::ZERO, offset: 0.0, rate_error: 0.0, estimate: None, rate, stepped }
    }

    #[test]
    fn a_step_back_needs_a_reason_that_the_policy_takes() {
        let steps = |policy, seconds: i64, reason| {
            let mut invariants = watched(policy);
            invariants.told(TrueTime::ZERO, &Event::Stepped { by: Span::from_secs(seconds), reason });
            invariants.count
        };
        assert_eq!(steps(StepPolicy::Auto, -1, StepReason::Interruption), 0);
        assert_eq!(steps(StepPolicy::Auto, -1, StepReason::Behind), 1);
        assert_eq!(steps(StepPolicy::ForwardOnly, -1, StepReason::Start), 1);
        assert_eq!(steps(StepPolicy::Never, 1, StepReason::Behind), 1);
        assert_eq!(steps(StepPolicy::Never, -1, StepReason::Order), 0);
    }

    #[test]
    fn too_many_packets_are_noticed() {
        let mut invariants = watched(StepPolicy::Auto);
        for second in 0..16_u32 {
            invariants.asked(TrueTime::from_seconds(f64::from(second)), SourceId(0));
        }
        assert_eq!(invariants.count, 0);
        for second in 16..40_u32 {
            invariants.asked(TrueTime::from_seconds(f64::from(second)), SourceId(0));
        }
        assert!(matches!(invariants.seen[..], [(_, Violation::Packets(SourceId(0)))]));
    }

    #[test]
    fn a_clock_that_goes_back_and_a_rate_out_of_range_are_noticed() {
        let wall = |second: i64| WallTime::from_parts(second, 0);
        let mut invariants = watched(StepPolicy::Auto);
        invariants.look(&look(Rate::NOMINAL, Span::ZERO), wall(10));
        invariants.look(&look(Rate::NOMINAL, Span::from_secs(-5)), wall(6));
        assert_eq!(invariants.count, 0, "a step explains it");
        invariants.look(&look(Rate::NOMINAL, Span::from_secs(-5)), wall(5));
        assert_eq!(invariants.count, 1);
        let wild = Rate { tick: 10_000, frequency: Frequency::from_ppm(501.0) };
        invariants.look(&look(wild, Span::from_secs(-5)), wall(7));
        assert_eq!(invariants.count, 2);
    }
}
