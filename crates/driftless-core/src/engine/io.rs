//! What goes into the engine and what comes out.

use std::net::SocketAddr;

use crate::clock::{ClockCommand, ClockError, ClockState, Rate};
use crate::disruption::Sign;
use crate::estimator::dntpd::Settings;
use crate::event::Event;
use crate::source::push::Push;
use crate::source::{LookError, Peer, Reading, SourceConfig, SourceId};
use crate::time::{Frequency, Now, WallTime};

use super::{Leave, Method, OtherWriter, Policy, StepPolicy};

/// A frequency remembered from an earlier run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrequencyPrior {
    /// The reference's rate against the uncorrected counter.
    pub frequency: Frequency,
    /// Its standard deviation.
    pub error: Frequency,
}

/// What the engine is built from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Whom to ask; a source's [`SourceId`] is its place in this list.
    pub sources: Vec<SourceConfig>,
    /// Whom to believe.
    pub policy: Policy,
    /// When stepping is allowed.
    pub step: StepPolicy,
    /// What to do about others who steer.
    pub other_writer: OtherWriter,
    /// What to leave behind.
    pub leave: Leave,
    /// How offset and frequency are estimated.
    pub method: Method,
    /// What dntpd's method polls and sets by, where that is the method.
    pub dntpd: Settings,
    /// Estimate and report, set nothing: no [`Output::Clock`] other than [`ClockCommand::Read`] is ever given.
    pub observe: bool,
    /// A frequency from an earlier run under the same clock source.
    pub prior: Option<FrequencyPrior>,
    /// The rate that an earlier engine of this run found ([`super::Engine::found_rate`]): what [`Leave::Restore`] restores.
    pub found: Option<Rate>,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The deadline came, or nothing in particular.
    Wake,
    /// A name was looked up; empty where it leads nowhere.
    Resolved {
        /// Whose name.
        source: SourceId,
        /// Where it leads, in the order of preference.
        addresses: Vec<SocketAddr>,
    },
    /// A request left.
    Transmitted {
        /// Whose.
        source: SourceId,
        /// Both clocks just before the call that sent it.
        at: Now,
        /// The kernel's own stamp of its leaving, where it gives one.
        stamp: Option<WallTime>,
    },
    /// A request could not leave, or an ICMP error came back for it.
    TransmitFailed {
        /// Whose.
        source: SourceId,
        /// What the system said.
        errno: i32,
    },
    /// A packet came in on a source's socket.
    Datagram {
        /// Whose socket.
        source: SourceId,
        /// Who sent it.
        from: Peer,
        /// All of it, or as much as the buffer took.
        data: &'a [u8],
        /// The kernel's stamp of its arrival on the wall clock, where it gives one.
        stamp: Option<WallTime>,
    },
    /// A device was looked at.
    Reading {
        /// Which.
        source: SourceId,
        /// What it said.
        result: Result<Reading, LookError>,
    },
    /// Something was noticed that may mean an interruption.
    Sign(Sign),
    /// A host told us something unasked.
    Push(Push),
    /// The answer to the [`Output::Clock`] that was last taken.
    Clock(Result<ClockState, ClockError>),
    /// Somebody ordered something.
    Order(Order),
    /// An order that is about one source alone: to burst, to go offline or online.
    OrderOf {
        /// Which.
        source: SourceId,
        /// What.
        order: Order,
    },
}

/// Orders that people and programs give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Correct the offset at once, whatever the policy.
    MakeStep,
    /// Ask every source several times now.
    Burst,
    /// Ask nobody.
    Offline,
    /// Ask again.
    Online,
    /// The driver ends: the clock is left as [`Leave`] says. Nothing is steered after it.
    Leave,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Look a name up and come back with [`Input::Resolved`].
    Resolve {
        /// Whose name.
        source: SourceId,
        /// The name, or an address in writing.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// Send a request **from a newly bound random port** (RFC 9109), closing the source's earlier socket, and come back
    /// with [`Input::Transmitted`] or [`Input::TransmitFailed`] at once. A stream is opened anew where it is not open.
    Transmit {
        /// Whose.
        source: SourceId,
        /// To whom.
        to: Peer,
        /// The packet.
        data: [u8; 48],
    },
    /// Look at the source's device and come back with [`Input::Reading`] at once.
    Look {
        /// Whose device.
        source: SourceId,
    },
    /// Carry it out and come back with [`Input::Clock`] at once, under a fresh `now`.
    Clock(ClockCommand),
    /// Tell whoever listens.
    Event(Event),
}
