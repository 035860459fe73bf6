//! The system calls, one function each: the only unsafe code in the project.
//!
//! Everything goes through libc's symbols, never raw system calls, so that a preloaded simulator can stand in for them.

mod file;
mod memory;
mod process;
mod socket;
mod time;

use std::io::{Error, Result};

pub(crate) use file::*;
pub(crate) use memory::*;
pub(crate) use process::*;
pub(crate) use socket::*;
pub(crate) use time::*;

/// Turns a −1 into what errno says.
fn check(code: i32) -> Result<i32> {
    if code < 0 { Err(Error::last_os_error()) } else { Ok(code) }
}
