//! A look at the sources without a daemon: is this clock right? Nothing is set.

use driftless_core::source::{Endpoint, SourceConfig};
use driftless_core::time::{Seconds, Span};
use driftless_linux::signal::Signals;
use serde_json::Value;

use crate::config::Config;
use crate::run::{Daemon, RunError};

/// Watches `config`'s sources without setting anything until the offset is known to better than `max_bound`, or `patience` is over.
/// Returns the last report.
///
/// # Errors
/// As [`crate::run::run`].
pub fn observe(mut config: Config, max_bound: Seconds, patience: Span) -> Result<Value, RunError> {
    config.observe.value = true;
    let signals = Signals::install()?;
    // What the daemon's configuration wants to be done is the daemon's to do.
    config.on_interruption.value.clear();
    config.on_synchronised.value.clear();
    let mut daemon = Daemon::new(config, signals, true)?;
    let end = daemon.clock.now().raw + patience;
    // One look at a device is the best of several already.
    let is_device = |source: &SourceConfig| matches!(source.endpoint, Endpoint::Device { .. });
    let enough: Vec<u64> =
        daemon.sources.iter().map(|source| if is_device(source) { 1 } else { 3 }).collect();
    loop {
        daemon.act()?;
        let now = daemon.clock.now();
        let report = daemon.engine.report(now);
        let is_known = report.offset_bound.is_some_and(|bound| bound < max_bound.0)
            && report.sources.iter().zip(&enough).any(|(source, enough)| source.samples >= *enough);
        if is_known || now.raw >= end || daemon.signals.should_end() {
            return Ok(daemon.status());
        }
        daemon.rest()?;
    }
}
