//! Everything in driftless that touches the Linux kernel: the only unsafe code, all of it in `sys`.
//!
//! One file a facility: [`clock`], [`socket`], [`poll`], [`signal`], [`entropy`], [`capability`].

pub mod capability;
pub mod clock;
pub mod entropy;
pub mod mapping;
pub mod poll;
pub mod signal;
pub mod socket;
mod sys;
