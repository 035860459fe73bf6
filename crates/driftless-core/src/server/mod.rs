//! The server's half: a request in, a reply of 48 octets out, never longer than what was asked.
//!
//! [`Responder`] joins the parts: which packets are requests, who may ask and how often, when the reply before this one left, what is said of the
//! clock ([`ServerState`], for a network's server out of [`HostClock`]), and the counters.

mod access;
mod counters;
mod departures;
mod host;
mod limit;
mod reply;
mod request;
mod responder;

pub use access::{AccessList, Prefix, PrefixError};
pub use counters::{Counters, DropCounters, Dropped};
pub use host::{HostClock, Keeper};
pub use limit::{Client, Rate};
pub use reply::ServerState;
pub use request::REQUEST_MAX;
pub use responder::{Reply, Responder};
