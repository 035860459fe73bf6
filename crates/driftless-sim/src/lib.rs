//! A deterministic world to prove driftless in: one seed in, everything out, byte for byte. No I/O, no clock reads, no threads.
//!
//! ```text
//! noise ─► oscillator ─► kernel ─► guest (engine) ◄─► link ◄─► server, device ◄─ reference
//!               hypervisor ───────────┘  └─► every look ─► record ─► limits; invariant; oracle
//!                        all of it moved on by world, described by scenario, found in catalogue
//! ```
#![forbid(unsafe_code)]

pub mod catalogue;
mod density;
pub mod device;
pub mod guest;
pub mod hypervisor;
pub mod invariant;
pub mod kernel;
pub mod limits;
pub mod link;
pub mod noise;
pub mod oracle;
pub mod oscillator;
pub mod record;
pub mod reference;
pub mod scenario;
pub mod server;
pub mod soak;
pub mod truth;
pub mod world;

pub use scenario::Scenario;
pub use world::World;
