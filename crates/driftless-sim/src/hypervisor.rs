//! What happens to a guest from outside, and what others do to its clock.

use driftless_core::clock::Rate;
use driftless_core::disruption::Sign;
use driftless_core::engine::Order;
use driftless_core::time::Frequency;
use serde::Deserialize;

/// Something happens at a time, in seconds since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Event {
    /// When.
    pub at: f64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Happening {
    /// The guest does not run for a while, and nothing tells it.
    Pause {
        /// For how long, s.
        lasts: f64,
        /// Its counter goes on meanwhile: the hypervisor forgot to stop it, or made up for it.
        #[serde(default)]
        counter_runs: bool,
        /// What was on its way to the guest is lost, not kept: a snapshot was restored.
        #[serde(default)]
        packets_lost: bool,
        /// What tells the guest's daemon, as soon as it runs again.
        #[serde(default)]
        sign: Option<Sign>,
    },
    /// The counter's rate changes: the guest was migrated, or its counter calibrated anew.
    RateJump {
        /// By how much, ppm.
        by_ppm: f64,
    },
    /// The daemon is killed, and started again at once.
    Restart {
        /// Whether its state file is there.
        keeps_frequency: bool,
    },
    /// Another program sets tick and frequency.
    OtherWriter {
        /// The tick, µs.
        tick: i32,
        /// The frequency, ppm.
        frequency_ppm: f64,
    },
    /// Another program steps the clock.
    OtherStep {
        /// By how much, s: positive is forwards.
        by: f64,
    },
    /// Another program calls `adjtime`.
    Adjtime {
        /// By how much, s.
        by: f64,
    },
    /// Another program leaves an offset to the kernel's phase-locked loop.
    LoopOffset {
        /// How much, s.
        by: f64,
    },
    /// Somebody orders something of the daemon.
    Order {
        /// What.
        order: OrderWord,
    },
}

/// An order as scenarios write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderWord {
    /// Correct the offset at once.
    MakeStep,
    /// Ask several times now.
    Burst,
    /// Ask nobody.
    Offline,
    /// Ask again.
    Online,
    /// The daemon ends.
    Leave,
}

impl Happening {
    /// After these the clock may be wrong, and has to be put right: recovery is measured from their end.
    #[must_use]
    pub const fn is_disturbance(&self) -> bool {
        !matches!(self, Self::Order { .. })
    }

    /// How long it lasts, s.
    #[must_use]
    pub const fn lasts(&self) -> f64 {
        if let Self::Pause { lasts, .. } = self { *lasts } else { 0.0 }
    }
}

impl From<OrderWord> for Order {
    fn from(word: OrderWord) -> Self {
        match word {
            OrderWord::MakeStep => Self::MakeStep,
            OrderWord::Burst => Self::Burst,
            OrderWord::Offline => Self::Offline,
            OrderWord::Online => Self::Online,
            OrderWord::Leave => Self::Leave,
        }
    }
}

/// A rate as another program sets it.
#[must_use]
pub(crate) const fn foreign_rate(tick: i32, frequency_ppm: f64) -> Rate {
    Rate { tick, frequency: Frequency::from_ppm(frequency_ppm) }
}
