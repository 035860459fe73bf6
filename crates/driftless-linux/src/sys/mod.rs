//! The system calls, one function each: the only unsafe code in the project.
//!
//! Everything goes through libc's symbols, never raw system calls, so that a preloaded simulator can stand in for them.

mod batch;
mod file;
mod memory;
mod network;
mod process;
mod socket;
mod time;
mod wait;

use std::io::{Error, Result};

pub(crate) use batch::*;
pub(crate) use file::*;
pub(crate) use memory::*;
pub(crate) use network::*;
pub(crate) use process::*;
pub(crate) use socket::*;
pub(crate) use time::*;
pub(crate) use wait::*;

/// Turns a −1 into what errno says.
fn check(code: i32) -> Result<i32> {
    if code < 0 { Err(Error::last_os_error()) } else { Ok(code) }
}
