//! Everything in driftless that decides. No I/O, no clock reads, no log, no threads.
//!
//! ```text
//! source ──► Sample ──► estimator ──► selection ──► discipline ──► clock
//!     every stage ──► Event, Report
//! ```
//!
//! The modules stand in the data's order; no stage calls back into an earlier one. [`engine`] joins them.
#![forbid(unsafe_code)]

pub mod clock;
pub mod discipline;
pub mod disruption;
pub mod drift;
pub mod engine;
pub mod entropy;
pub mod estimator;
pub mod event;
pub mod policy;
pub mod report;
pub mod sample;
pub mod selection;
pub mod server;
pub mod source;
pub mod time;
pub mod wire;
