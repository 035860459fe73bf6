//! The guest's daemon and the host's server as a library: everything round the core's engine that the binary drives.
#![forbid(unsafe_code)]

mod asked;
pub mod background;
mod chronyc;
pub mod civil;
pub mod config;
mod consequences;
pub mod control;
mod devices;
pub mod discovery;
pub mod dntpd_conf;
pub mod errand;
mod freezer;
mod hooks;
pub mod kernel_clock;
mod links;
pub mod log;
pub mod looker;
pub mod loudness;
pub mod monotonic;
pub mod once;
pub mod place;
pub mod predecessor;
mod pushes;
pub mod query;
pub mod regression;
pub mod resolve;
pub mod rtc;
mod rtc_watch;
pub mod run;
pub mod serve;
mod signs;
pub mod spec;
pub mod state;
mod timesync;
pub mod tree;
pub mod writers;
