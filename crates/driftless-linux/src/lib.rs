//! Everything in driftless that touches the Linux kernel: the only unsafe code, all of it in `sys`.
//!
//! One file a device or facility: [`clock`], [`phc`], [`vmclock`], [`rtc`]; [`socket`], [`datagrams`], [`stream`], [`vsock`], [`channel`]; [`clock_set`], [`uevent`], [`kmsg`]; [`netlink`], [`folder_watch`], [`interfaces`]; [`timex`] (every field by itself); [`poll`], [`wait`], [`inherited`], [`signal`], [`session`], [`cpu`], [`entropy`], [`capability`].

pub mod capability;
pub mod channel;
pub mod clock;
pub mod clock_set;
mod control_message;
pub mod cpu;
pub mod datagrams;
pub mod entropy;
pub mod folder_watch;
pub mod footprint;
pub mod inherited;
pub mod interfaces;
mod ioctl;
pub mod kmsg;
mod look;
pub mod mapping;
pub mod netlink;
pub mod phc;
pub mod phc_list;
pub mod phc_set;
pub mod poll;
pub mod processor;
pub mod rtc;
pub mod session;
pub mod signal;
pub mod socket;
pub mod stream;
mod sys;
pub mod timex;
pub mod uevent;
pub mod vmclock;
pub mod vsock;
pub mod wait;
