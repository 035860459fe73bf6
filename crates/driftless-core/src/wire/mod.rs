//! What goes over the network: NTP's packets (RFC 5905) and nothing of its state.
//!
//! The wire's 32.32 and 16.16 fixed point exist here alone; one function each way turns them into the types of [`crate::time`].

mod header;
mod timestamp;

pub(crate) use header::skip_extensions;
pub use header::{HEADER_LENGTH, Header, Mode, WireError};
pub use timestamp::{NtpShort, NtpTimestamp};
