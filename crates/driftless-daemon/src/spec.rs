//! Source SPECs: `ntp:HOST[:PORT][?minpoll=0&maxpoll=4]`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use driftless_core::source::{Endpoint, PollExponent, SourceClass, SourceConfig};

/// Why a SPEC was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No kind, or an unknown one.
    #[error("source `{0}`: unknown kind; write ntp:HOST[:PORT], as in ntp:10.0.2.2 or ntp:[fd00::1]:123")]
    Kind(String),
    /// A kind that is planned.
    #[error("source `{0}`: this kind is not supported yet; use ntp:HOST[:PORT]")]
    NotYet(String),
    /// Host or port do not parse.
    #[error("source `{0}`: host or port is wrong; write ntp:HOST[:PORT], an IPv6 address in brackets")]
    Host(String),
    /// An option is unknown or out of range.
    #[error(
        "source `{spec}`: option `{option}` is wrong; known are minpoll and maxpoll, log2 of seconds from -2 to 17"
    )]
    Option {
        /// The whole SPEC.
        spec: String,
        /// The option as written.
        option: String,
    },
}

/// Reads a SPEC. The source's class, and so its poll limits, follow from its address where it is written as one; a name counts as [`SourceClass::Network`].
///
/// # Errors
/// [`SpecError`], with the SPEC and what to write instead.
pub fn parse(spec: &str) -> Result<SourceConfig, SpecError> {
    let (address, options) = spec.split_once('?').unwrap_or((spec, ""));
    let Some((kind, place)) = address.split_once(':') else { return Err(SpecError::Kind(spec.to_owned())) };
    match kind {
        "ntp" => {}
        "ntp+vsock" | "ntp+unix" | "phc" | "vmclock" | "rtc" => {
            return Err(SpecError::NotYet(spec.to_owned()));
        }
        _ => return Err(SpecError::Kind(spec.to_owned())),
    }
    let (host, port) = host_and_port(place).ok_or_else(|| SpecError::Host(spec.to_owned()))?;
    let class = host.parse().map_or(SourceClass::Network, |ip| classify(ip, default_gateway()));
    let (mut min_poll, mut max_poll) = class.poll_limits();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let bad = || SpecError::Option { spec: spec.to_owned(), option: option.to_owned() };
        let (key, value) = option.split_once('=').ok_or_else(bad)?;
        let log2_s: i8 = value.parse().map_err(|_| bad())?;
        let exponent = PollExponent::new(log2_s);
        match key {
            _ if exponent.get() != log2_s => return Err(bad()),
            "minpoll" => min_poll = exponent,
            "maxpoll" => max_poll = exponent,
            _ => return Err(bad()),
        }
    }
    if options.contains("minpoll") && !options.contains("maxpoll") {
        max_poll = max_poll.max(min_poll);
    }
    min_poll = min_poll.min(max_poll);
    let endpoint = Endpoint::Udp { host, port };
    Ok(SourceConfig { name: spec.to_owned(), endpoint, class, min_poll, max_poll })
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`, or a bare IPv6 address.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(String, u16)> {
    const NTP_PORT: u16 = 123;
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = match after.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if after.is_empty() => NTP_PORT,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some((text.to_owned(), NTP_PORT));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, NTP_PORT),
    };
    (!host.is_empty() && !host.contains(char::is_whitespace)).then(|| (host.to_owned(), port))
}

/// How near an address is: loopback, link-local and the default gateway are the host's, private ranges the network's.
#[must_use]
pub fn classify(ip: IpAddr, gateway: Option<Ipv4Addr>) -> SourceClass {
    let is_gateway = gateway.is_some_and(|gateway| ip == IpAddr::V4(gateway));
    let (is_near, is_private) = match ip {
        IpAddr::V4(v4) => (v4.is_loopback() || v4.is_link_local(), v4.is_private()),
        IpAddr::V6(v6) => (v6.is_loopback() || v6.is_unicast_link_local(), v6.is_unique_local()),
    };
    match () {
        () if is_near || is_gateway => SourceClass::Host,
        () if is_private => SourceClass::Network,
        () => SourceClass::Public,
    }
}

/// The IPv4 default gateway: on a desktop hypervisor that is the host.
#[must_use]
pub fn default_gateway() -> Option<Ipv4Addr> {
    gateway_in(&fs::read_to_string("/proc/net/route").ok()?)
}

/// `/proc/net/route`: interface, destination, gateway, flags…, addresses in host byte order (`net/ipv4/fib_trie.c`).
fn gateway_in(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000" && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read() {
        let source = parse("ntp:127.0.0.1:11123?minpoll=-2&maxpoll=3").unwrap();
        let udp = |host: &str, port| Endpoint::Udp { host: host.to_owned(), port };
        assert_eq!((source.endpoint, source.class), (udp("127.0.0.1", 11_123), SourceClass::Host));
        assert_eq!((source.min_poll.get(), source.max_poll.get()), (-2, 3));
        let source = parse("ntp:[fd00::1]").unwrap();
        assert_eq!((source.endpoint, source.class), (udp("fd00::1", 123), SourceClass::Network));
        assert_eq!(parse("ntp:192.0.2.7").unwrap().class, SourceClass::Public);
    }

    #[test]
    fn wrong_specs_say_what_to_write() {
        for (spec, expected) in [
            ("10.0.2.2", "write ntp:HOST"),
            ("ftp:10.0.2.2", "write ntp:HOST"),
            ("phc:/dev/ptp0", "not supported yet"),
            ("ntp:host:port", "host or port is wrong"),
            ("ntp:host?minpol=3", "`minpol=3`"),
            ("ntp:host?minpoll=40", "`minpoll=40`"),
        ] {
            let text = parse(spec).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_gateway_is_found_in_the_kernels_table() {
        let table = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0202000A\t0003\neth0\t0002000A\t00000000\t0001\n";
        assert_eq!(gateway_in(table), Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(classify([10, 0, 2, 2].into(), gateway_in(table)), SourceClass::Host);
        assert_eq!(classify([10, 0, 2, 3].into(), gateway_in(table)), SourceClass::Network);
    }
}
