//! Who may ask: address prefixes, and the longest that fits decides.

use std::cmp::Reverse;
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

/// Who may ask and who may not: nobody whom no prefix fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessList {
    /// The longest first.
    v4: Vec<Rule<u32>>,
    v6: Vec<Rule<u128>>,
}

/// Addresses that equal `value` where `mask` has bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule<T> {
    mask: T,
    value: T,
    is_allowed: bool,
}

impl Prefix {
    /// The prefix of `length` bits that `address` lies in; a length beyond the address's own is the whole address.
    #[must_use]
    pub const fn new(address: IpAddr, length: u8) -> Self {
        Self { address, length }
    }

    /// Whether it belongs to a private network: RFC 1918, or unique local (RFC 4193).
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self.address {
            IpAddr::V4(v4) => v4.is_private() && self.length >= 8,
            IpAddr::V6(v6) => v6.octets()[0] & 0xfe == 0xfc && self.length >= 7,
        }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
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
    /// Loopback and link-local addresses: whoever has one is on this machine or on its very link.
    pub const NEAR: [Prefix; 4] = [
        Prefix::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        Prefix::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        Prefix::new(IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
        Prefix::new(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    ];

    /// Those of `allowed` may ask, those of `denied` may not. The longest prefix decides, of two alike the denial.
    #[must_use]
    pub fn new(allowed: &[Prefix], denied: &[Prefix]) -> Self {
        let mut list = Self::default();
        let rules = denied.iter().map(|prefix| (prefix, false));
        for (prefix, is_allowed) in rules.chain(allowed.iter().map(|prefix| (prefix, true))) {
            match prefix.address {
                IpAddr::V4(address) => {
                    let shift = 32 - u32::from(prefix.length.min(32));
                    let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                    list.v4.push(Rule { mask, value: address.to_bits() & mask, is_allowed });
                }
                IpAddr::V6(address) => {
                    let shift = 128 - u32::from(prefix.length.min(128));
                    let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                    list.v6.push(Rule { mask, value: address.to_bits() & mask, is_allowed });
                }
            }
        }
        // Stable: denials stay before permissions of the same length.
        list.v4.sort_by_key(|rule| Reverse(rule.mask));
        list.v6.sort_by_key(|rule| Reverse(rule.mask));
        list
    }

    /// Whether `client` may ask.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(address) => {
                let bits = address.to_bits();
                self.v4.iter().find(|rule| bits & rule.mask == rule.value).is_some_and(|rule| rule.is_allowed)
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                self.v6.iter().find(|rule| bits & rule.mask == rule.value).is_some_and(|rule| rule.is_allowed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn nobody_but_near_clients_unless_allowed() {
        let near = AccessList::new(&AccessList::NEAR, &[]);
        for address in ["127.0.0.9", "::1", "169.254.3.4", "fe80::1", "::ffff:127.0.0.1"] {
            assert!(near.allows(address.parse().unwrap()), "{address}");
        }
        for address in ["10.2.0.1", "8.8.8.8", "::2", "fd00::1", "fec0::1"] {
            assert!(!near.allows(address.parse().unwrap()), "{address}");
        }
        assert!("10.0.0.0/33".parse::<Prefix>().is_err() && "ten".parse::<Prefix>().is_err());
    }

    #[test]
    fn the_longest_prefix_decides_and_of_two_alike_the_denial() {
        let list = AccessList::new(
            &prefixes(&["0.0.0.0/0", "10.1.2.0/24", "fd00::/8", "10.9.0.0/16"]),
            &prefixes(&["10.0.0.0/8", "10.1.2.3", "fd00:1::/32", "10.9.0.0/16"]),
        );
        for (address, expected) in [
            ("8.8.8.8", true),
            ("10.2.0.1", false),
            ("10.1.2.9", true),
            ("10.1.2.3", false),
            ("10.9.0.1", false),
            ("fd00:2::1", true),
            ("fd00:1::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(list.allows(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn private_networks_are_told_from_others() {
        for (text, expected) in [
            ("10.3.0.0/16", true),
            ("172.17.0.1/16", true),
            ("192.168.122.1/24", true),
            ("fd12::/64", true),
            ("172.32.0.1/16", false),
            ("203.0.113.1/24", false),
            ("2001:db8::/64", false),
            ("10.0.0.0/0", false),
        ] {
            assert_eq!(prefixes(&[text])[0].is_private(), expected, "{text}");
        }
    }

    proptest! {
        /// Against the plainest reading of the rule.
        #[test]
        fn sorted_rules_decide_as_a_search_for_the_longest_does(
            allowed in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..6),
            denied in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..6),
            client in any::<u32>(),
        ) {
            let prefix = |(bits, length): &(u32, u8)| Prefix::new(Ipv4Addr::from_bits(*bits).into(), *length);
            let fits = |(bits, length): &(u32, u8)| {
                let shift = 32 - u32::from(*length);
                bits.checked_shr(shift) == client.checked_shr(shift)
            };
            let longest = |rules: &[(u32, u8)]| {
                rules.iter().filter(|rule| fits(rule)).map(|rule| i32::from(rule.1)).max().unwrap_or(-1)
            };
            let list = AccessList::new(
                &allowed.iter().map(prefix).collect::<Vec<_>>(),
                &denied.iter().map(prefix).collect::<Vec<_>>(),
            );
            prop_assert_eq!(list.allows(Ipv4Addr::from_bits(client).into()), longest(&allowed) > longest(&denied));
        }
    }
}
