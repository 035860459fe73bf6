//! A source as the engine sees it, whether it is asked over a network or read as a device.

use std::net::SocketAddr;

use crate::entropy::Entropy;
use crate::time::Now;

use super::association::Seen;
use super::{Action, Association, Device, Endpoint, Schedule, SourceConfig};

/// One of both.
#[derive(Debug, Clone)]
pub(crate) enum Inquiry {
    Ntp(Association),
    Device(Device),
}

impl Inquiry {
    pub(crate) fn new(config: SourceConfig, now: Now) -> Self {
        match config.endpoint {
            Endpoint::Udp { .. } | Endpoint::Stream(_) => Self::Ntp(Association::new(config, now)),
            Endpoint::Device { .. } => Self::Device(Device::new(config, now)),
        }
    }

    /// What is due at `now`, if anything.
    pub(crate) fn due(&mut self, now: Now, entropy: &mut dyn Entropy) -> Option<Action> {
        match self {
            Self::Ntp(association) => association.due(now, entropy),
            Self::Device(device) => device.due(now).then_some(Action::Look),
        }
    }

    pub(crate) const fn config(&self) -> &SourceConfig {
        match self {
            Self::Ntp(association) => &association.config,
            Self::Device(device) => &device.config,
        }
    }

    pub(crate) const fn seen(&self) -> &Seen {
        match self {
            Self::Ntp(association) => &association.seen,
            Self::Device(device) => &device.seen,
        }
    }

    pub(crate) const fn schedule(&self) -> &Schedule {
        match self {
            Self::Ntp(association) => association.schedule(),
            Self::Device(device) => device.schedule(),
        }
    }

    pub(crate) const fn schedule_mut(&mut self) -> &mut Schedule {
        match self {
            Self::Ntp(association) => association.schedule_mut(),
            Self::Device(device) => device.schedule_mut(),
        }
    }

    /// The address in use, where there is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Ntp(association) => association.address(),
            Self::Device(_) => None,
        }
    }

    /// Whether a name still has to lead to an address.
    pub(crate) fn is_unresolved(&self) -> bool {
        matches!(self, Self::Ntp(a) if matches!(a.config.endpoint, Endpoint::Udp { .. }) && a.address().is_none())
    }

    pub(crate) const fn is_offline(&self) -> bool {
        match self {
            Self::Ntp(association) => association.is_offline(),
            Self::Device(device) => device.schedule().is_held,
        }
    }

    pub(crate) const fn set_offline(&mut self, now: Now, offline: bool) {
        match self {
            Self::Ntp(association) => association.set_offline(now, offline),
            Self::Device(device) => {
                device.schedule_mut().is_held = offline;
                device.schedule_mut().set_next(now.raw);
            }
        }
    }
}
