//! Who may ask: address prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address prefix, as in `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address prefix: write ADDRESS/LENGTH, as in 10.0.0.0/8 or fd00::/8")]
pub struct PrefixError(String);

/// The prefixes that may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessList(Vec<Prefix>);

impl Prefix {
    fn contains(&self, client: IpAddr) -> bool {
        match (self.address, client.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.length.min(32));
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.length.min(128));
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let bad = || PrefixError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(full), str::parse).map_err(|_| bad())?;
        if length > full { Err(bad()) } else { Ok(Self { address, length }) }
    }
}

impl AccessList {
    /// Loopback and link-local clients, and whoever is allowed besides.
    #[must_use]
    pub fn with(allowed: &[Prefix]) -> Self {
        let own = [
            Prefix { address: Ipv4Addr::LOCALHOST.into(), length: 8 },
            Prefix { address: Ipv6Addr::LOCALHOST.into(), length: 128 },
            Prefix { address: Ipv4Addr::new(169, 254, 0, 0).into(), length: 16 },
            Prefix { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), length: 10 },
        ];
        Self(own.iter().chain(allowed).copied().collect())
    }

    /// Whether `client` may ask.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_near_clients_unless_allowed() {
        let list = AccessList::with(&["10.0.0.0/8".parse().unwrap(), "0.0.0.0/0".parse().unwrap()]);
        assert!(list.allows([8, 8, 8, 8].into()));
        let list = AccessList::with(&["10.1.0.0/16".parse().unwrap()]);
        assert!(list.allows([127, 0, 0, 9].into()) && list.allows([10, 1, 9, 9].into()));
        assert!(!list.allows([10, 2, 0, 1].into()) && !list.allows([8, 8, 8, 8].into()));
        assert!(list.allows("::ffff:10.1.0.1".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<Prefix>().is_err() && "ten".parse::<Prefix>().is_err());
    }
}
