//! What may be wrong with a guest's clock: the lab's scenarios as data.

use std::time::Duration;

use driftless_core::time::Seconds;

/// One scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// How much too fast the guest's counter runs.
    pub(crate) drift_ppm: f64,
    /// How far ahead the guest's clock starts.
    pub(crate) ahead_s: i64,
    /// How long it is watched with the client running.
    pub(crate) watch: Duration,
    /// From when until when, after the client's start, the server is gone.
    pub(crate) silence: Option<(Duration, Duration)>,
    /// Limit of the median |true offset| from second 10 on.
    pub(crate) median_max: Seconds,
}

/// Specification A4: about what the asymmetry of QEMU's user network hides from everybody.
pub(crate) const MEDIAN_MAX: Seconds = Seconds(100e-6);

const fn drift(name: &'static str, about: &'static str, drift_ppm: f64) -> Scenario {
    Scenario {
        name,
        about,
        drift_ppm,
        ahead_s: 120,
        watch: Duration::from_secs(60),
        silence: None,
        median_max: MEDIAN_MAX,
    }
}

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 7] = [
    drift("drift+676", "the counter runs 676 ppm fast", 676.0),
    drift("drift-676", "the counter runs 676 ppm slow", -676.0),
    drift("drift-2000", "the counter runs 2000 ppm slow", -2_000.0),
    drift("drift+4000", "the counter runs 4000 ppm fast", 4_000.0),
    Scenario { ahead_s: 3_600, ..drift("offset-1h", "the clock starts an hour ahead", 676.0) },
    Scenario { ahead_s: -259_200, ..drift("offset-3d", "the clock starts three days behind", 676.0) },
    Scenario {
        watch: Duration::from_secs(130),
        silence: Some((Duration::from_secs(40), Duration::from_secs(100))),
        // A minute of holdover adds what a frequency known to 1 ppm gathers, 60 µs, to the path's own 100.
        median_max: Seconds(160e-6),
        ..drift("server-vanish", "the server is gone for a minute", 676.0)
    },
];

/// The scenario of that name.
pub(crate) fn find(name: &str) -> Option<Scenario> {
    SCENARIOS.into_iter().find(|scenario| scenario.name == name)
}
