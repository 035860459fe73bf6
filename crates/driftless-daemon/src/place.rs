//! Where a host reaches us: `vsock:PORT`, `unix:PATH`, `port:PATH` (a virtio-serial port), or `off`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// A place to listen at, or none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Place {
    /// Nowhere.
    Off,
    /// A vsock port, for this machine's host alone.
    Vsock(u32),
    /// A Unix socket, for whom its permissions let in.
    Unix(PathBuf),
    /// A virtio-serial port.
    Port(PathBuf),
}

/// A place that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place; write vsock:PORT, unix:/PATH, port:/dev/virtio-ports/NAME or off")]
pub struct PlaceError(String);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let path = |path: &str| path.starts_with('/').then(|| PathBuf::from(path));
        let place = match text.split_once(':') {
            None if text == "off" => Some(Self::Off),
            Some(("vsock", port)) => port.parse().ok().map(Self::Vsock),
            Some(("unix", rest)) => path(rest).map(Self::Unix),
            Some(("port", rest)) => path(rest).map(Self::Port),
            _ => None,
        };
        place.ok_or_else(|| PlaceError(text.to_owned()))
    }
}

impl TryFrom<String> for Place {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Vsock(port) => write!(f, "vsock:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Port(path) => write!(f, "port:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_they_are_read() {
        for text in
            ["off", "vsock:62372", "unix:/run/wake.sock", "port:/dev/virtio-ports/org.qemu.guest_agent.0"]
        {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "on", "vsock:", "vsock:-1", "unix:", "port:org.qemu.guest_agent.0", "tcp:80"] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains("write vsock:PORT"), "{error}");
        }
    }
}
