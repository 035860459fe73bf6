//! Everything in driftless that touches the Linux kernel: the only unsafe code, all of it in `sys`.
//!
//! * [`clock::clock`]`(observe) -> Box<dyn Clock>`; `DRIFTLESS_OBSERVE=1` always wins. [`clock::now`]` -> (Now, bracket width)`.
//! * [`socket::RequestSocket`]: `connect(to)`, `send`, `recv -> (length, from)`, `AsFd`; non-blocking, no stamps yet.
//! * [`poll::wait`]`(fds, timeout) -> Vec<bool>`: which are ready; `Interrupted` after a signal.
//! * [`entropy::KernelEntropy`]: the engine's `Entropy` by `getrandom(2)`.

pub mod clock;
pub mod entropy;
pub mod poll;
pub mod socket;
mod sys;
