//! A source that is looked at again and again outside of the daemon, to measure with: nothing is set, nothing is decided.

use driftless_core::clock::{Clock as _, ClockCommand, Rate};
use driftless_core::drift::Look;
use driftless_core::sample::Sample;
use driftless_core::source::{Device, Endpoint, LookError, SourceClass, SourceId};
use driftless_core::time::Span;
use driftless_linux::clock::ObservedClock;
use driftless_linux::poll;
use driftless_linux::signal::Signals;

use crate::devices::Devices;
use crate::query::{Query, QueryError};
use crate::{spec, writers};

/// One source.
pub struct Looker {
    /// The SPEC as written.
    pub name: String,
    /// How near it is.
    pub class: SourceClass,
    way: Way,
}

enum Way {
    Server(Query),
    Device(Box<Device>, Devices),
}

/// Why a look gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookerError {
    /// The SPEC, or the exchange.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The device.
    #[error("{0}: {1}")]
    Device(String, LookError),
    /// Waiting for it.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

impl Looker {
    /// A source by its SPEC.
    ///
    /// # Errors
    /// [`QueryError::Spec`].
    pub fn new(spec: &str) -> Result<Self, LookerError> {
        let config = spec::parse(spec).map_err(QueryError::from)?;
        let (name, class) = (config.name.clone(), config.class);
        let way = match config.endpoint {
            Endpoint::Device { .. } => {
                let devices = Devices::new(std::slice::from_ref(&config));
                Way::Device(Box::new(Device::new(config, ObservedClock.now())), devices)
            }
            _ => Way::Server(Query::new(spec)?),
        };
        Ok(Self { name, class, way })
    }

    /// Looks once, for as long as `patience` lasts.
    ///
    /// # Errors
    /// [`LookerError`].
    pub fn look(&mut self, patience: Span) -> Result<Look, LookerError> {
        let sample = match &mut self.way {
            Way::Server(query) => query.ask(patience)?.sample,
            Way::Device(device, devices) => read(&self.name, device, devices, patience)?,
        };
        Ok(Look { sample, rate: rate() })
    }
}

/// The only source's number.
const ONLY: SourceId = SourceId(0);

fn read(
    name: &str,
    device: &mut Device,
    devices: &mut Devices,
    patience: Span,
) -> Result<Sample, LookerError> {
    let failed = |error| LookerError::Device(name.to_owned(), error);
    let kernel_tai = ObservedClock.apply(ClockCommand::Read).map_or(0, |state| state.tai);
    let end = ObservedClock.now().raw + patience;
    let mut looked = devices.look(ONLY);
    while looked.is_none() {
        if ObservedClock.now().raw >= end {
            return Err(failed(LookError::Loose));
        }
        let fds: Vec<_> = devices.waiting().collect();
        poll::wait(&fds, devices.wait()).map_err(|error| LookerError::Io(name.to_owned(), error))?;
        looked = devices.turn().pop().map(|(_, result)| result);
    }
    device.read(looked.unwrap_or(Err(LookError::Loose)), None, kernel_tai).map_err(failed)
}

/// What the kernel makes of the counter now.
fn rate() -> Rate {
    ObservedClock.apply(ClockCommand::Read).map_or(Rate::NOMINAL, |state| state.rate)
}

/// Programs and drivers here that are known to steer clocks.
#[must_use]
pub fn steerers() -> Vec<String> {
    let found = writers::suspects(std::path::Path::new("/"), std::process::id());
    found.iter().map(ToString::to_string).collect()
}

/// Whether somebody wants this process to end; from the first call on, SIGINT and SIGTERM only tell so.
///
/// # Errors
/// What the system says.
pub fn wish_to_end() -> std::io::Result<impl Fn() -> bool> {
    let signals = Signals::install()?;
    Ok(move || signals.should_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_that_is_none_is_told_and_a_missing_device_too() {
        assert!(Looker::new("ftp:x").err().unwrap().to_string().contains("unknown kind"));
        let mut looker = Looker::new("phc:/dev/no-such-clock?scale=utc").unwrap();
        let error = looker.look(Span::from_millis(100)).unwrap_err().to_string();
        assert_eq!(error, "phc:/dev/no-such-clock?scale=utc: there is no such device");
    }
}
