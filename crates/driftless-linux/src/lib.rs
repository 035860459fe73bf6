//! Everything in driftless that touches the Linux kernel: the only unsafe code, all of it in `sys`.
//!
//! One file a device or facility: [`clock`], [`phc`], [`vmclock`]; [`socket`]; [`poll`], [`signal`], [`entropy`], [`capability`].

pub mod capability;
pub mod clock;
pub mod entropy;
mod ioctl;
mod look;
pub mod mapping;
pub mod phc;
pub mod phc_list;
pub mod poll;
pub mod signal;
pub mod socket;
mod sys;
pub mod vmclock;
