//! Source SPECs: `ntp:HOST[:PORT]`, `ntp+vsock:CID[:PORT]`, `ntp+unix:PATH`, `phc:PATH` or `phc:NAME`, `vmclock:[PATH]`, `rtc:[PATH]`, each with
//! options behind a question mark, as in `?minpoll=0&maxpoll=4`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use driftless_core::source::{
    DeviceKind, Endpoint, PollExponent, SourceClass, SourceConfig, StreamAddress, TimeScale,
};
use driftless_linux::{rtc, vmclock, vsock};

/// Why a SPEC was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No kind, or an unknown one.
    #[error(
        "source `{0}`: unknown kind; write ntp:HOST[:PORT], as in ntp:10.0.2.2 or ntp:[fd00::1]:123, or ntp+vsock:host:123, \
        ntp+unix:PATH, phc:/dev/ptp0, phc:kvm, vmclock:/dev/vmclock0, rtc:/dev/rtc0"
    )]
    Kind(String),
    /// A path or a name is missing.
    #[error(
        "source `{0}`: a path is missing; write ntp+unix:PATH, phc:/dev/ptp0 or a clock's name as in phc:kvm"
    )]
    Path(String),
    /// Context id or port do not parse.
    #[error(
        "source `{0}`: context id or port is wrong; write ntp+vsock:host:123, the host being 2 as a number"
    )]
    Vsock(String),
    /// Host or port do not parse.
    #[error("source `{0}`: host or port is wrong; write ntp:HOST[:PORT], an IPv6 address in brackets")]
    Host(String),
    /// An option is unknown or out of range.
    #[error(
        "source `{spec}`: option `{option}` is wrong; known are minpoll and maxpoll, log2 of seconds from -2 to 17, and for devices scale=utc or scale=tai"
    )]
    Option {
        /// The whole SPEC.
        spec: String,
        /// The option as written.
        option: String,
    },
}

/// Reads a SPEC. The source's class, and so its poll limits, follow from its kind and its address; a name counts as [`SourceClass::Network`].
///
/// # Errors
/// [`SpecError`], with the SPEC and what to write instead.
pub fn parse(spec: &str) -> Result<SourceConfig, SpecError> {
    let (address, options) = spec.split_once('?').unwrap_or((spec, ""));
    let Some((kind, place)) = address.split_once(':') else { return Err(SpecError::Kind(spec.to_owned())) };
    let (mut endpoint, class) = match kind {
        "ntp" => udp(place).ok_or_else(|| SpecError::Host(spec.to_owned()))?,
        "ntp+vsock" => (vsock(place).ok_or_else(|| SpecError::Vsock(spec.to_owned()))?, SourceClass::Host),
        "ntp+unix" if place.is_empty() => return Err(SpecError::Path(spec.to_owned())),
        "ntp+unix" => (Endpoint::Stream(StreamAddress::Unix(place.to_owned())), SourceClass::Host),
        "phc" if place.is_empty() => return Err(SpecError::Path(spec.to_owned())),
        "phc" => (device(DeviceKind::Phc, place), SourceClass::Hypervisor),
        "vmclock" => (device(DeviceKind::VmClock, or(place, vmclock::DEVICE)), SourceClass::Hypervisor),
        "rtc" => (device(DeviceKind::Rtc, or(place, rtc::DEVICE)), SourceClass::Rtc),
        _ => return Err(SpecError::Kind(spec.to_owned())),
    };
    let (mut min_poll, mut max_poll) = match &endpoint {
        Endpoint::Device { kind: DeviceKind::Rtc, .. } => RTC_POLL_LIMITS,
        _ => class.poll_limits(),
    };
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let bad = || SpecError::Option { spec: spec.to_owned(), option: option.to_owned() };
        let (key, value) = option.split_once('=').ok_or_else(bad)?;
        match (key, &mut endpoint) {
            ("minpoll", _) => min_poll = poll(value).ok_or_else(bad)?,
            ("maxpoll", _) => max_poll = poll(value).ok_or_else(bad)?,
            ("scale", Endpoint::Device { scale: told, .. }) => *told = Some(scale(value).ok_or_else(bad)?),
            _ => return Err(bad()),
        }
    }
    if options.contains("minpoll") && !options.contains("maxpoll") {
        max_poll = max_poll.max(min_poll);
    }
    min_poll = min_poll.min(max_poll);
    Ok(SourceConfig { name: spec.to_owned(), endpoint, class, min_poll, max_poll })
}

/// What desktop hypervisors and container engines call the machine that they run on.
pub const HOST_NAMES: [&str; 5] = [
    "gateway.docker.internal",
    "host.docker.internal",
    "host.lima.internal",
    "host.containers.internal",
    "host.orb.internal",
];

/// An edge of the real-time clock takes up to a second to see and is good to some milliseconds.
const RTC_POLL_LIMITS: (PollExponent, PollExponent) = (PollExponent::new(4), PollExponent::new(6));

fn udp(place: &str) -> Option<(Endpoint, SourceClass)> {
    let (host, port) = host_and_port(place)?;
    // An address within a link names its link behind a percent sign.
    let address = host.split('%').next().unwrap_or_default();
    let class = match address.parse() {
        Ok(ip) => classify(ip, default_gateway()),
        Err(_) if HOST_NAMES.contains(&address) => SourceClass::Host,
        Err(_) => SourceClass::Network,
    };
    Some((Endpoint::Udp { host, port }, class))
}

/// `CID:PORT` or `host:PORT`, with the port of NTP where none is written.
fn vsock(place: &str) -> Option<Endpoint> {
    let (cid, port) = place.split_once(':').unwrap_or((place, ""));
    let cid = if cid == "host" { vsock::HOST } else { cid.parse().ok()? };
    let port = if port.is_empty() { vsock::TIME_PORT } else { port.parse().ok()? };
    Some(Endpoint::Stream(StreamAddress::Vsock { cid, port }))
}

fn device(kind: DeviceKind, path: &str) -> Endpoint {
    Endpoint::Device { kind, path: path.to_owned(), scale: None }
}

const fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn poll(log2_s: &str) -> Option<PollExponent> {
    let log2_s: i8 = log2_s.parse().ok()?;
    Some(PollExponent::new(log2_s)).filter(|exponent| exponent.get() == log2_s)
}

fn scale(name: &str) -> Option<TimeScale> {
    match name {
        "utc" => Some(TimeScale::Utc),
        "tai" => Some(TimeScale::Tai(None)),
        _ => None,
    }
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
        IpAddr::V4(v4) => (v4.is_loopback() || v4.is_link_local(), v4.is_private() || is_shared(v4)),
        IpAddr::V6(v6) => (v6.is_loopback() || v6.is_unicast_link_local(), v6.is_unique_local()),
    };
    match () {
        () if is_near || is_gateway => SourceClass::Host,
        () if is_private => SourceClass::Network,
        () => SourceClass::Public,
    }
}

/// 100.64.0.0/10, a provider's own (RFC 6598).
const fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

/// The IPv4 default gateway: on a desktop hypervisor that is the host.
#[must_use]
pub fn default_gateway() -> Option<Ipv4Addr> {
    gateway_in(&fs::read_to_string("/proc/net/route").ok()?)
}

/// `/proc/net/route`: interface, destination, gateway, flags…, addresses in host byte order (`net/ipv4/fib_trie.c`).
pub(crate) fn gateway_in(table: &str) -> Option<Ipv4Addr> {
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
    fn devices_and_streams_are_read() {
        let device = |kind, path: &str, scale| Endpoint::Device { kind, path: path.to_owned(), scale };
        let stream = |cid, port| Endpoint::Stream(StreamAddress::Vsock { cid, port });
        let unix = Endpoint::Stream(StreamAddress::Unix("/run/t.sock".to_owned()));
        for (spec, endpoint, class) in [
            ("phc:kvm", device(DeviceKind::Phc, "kvm", None), SourceClass::Hypervisor),
            (
                "phc:/dev/ptp0?scale=tai&minpoll=-2",
                device(DeviceKind::Phc, "/dev/ptp0", Some(TimeScale::Tai(None))),
                SourceClass::Hypervisor,
            ),
            ("vmclock:", device(DeviceKind::VmClock, "/dev/vmclock0", None), SourceClass::Hypervisor),
            ("rtc:/dev/rtc1", device(DeviceKind::Rtc, "/dev/rtc1", None), SourceClass::Rtc),
            ("ntp+vsock:host", stream(2, 123), SourceClass::Host),
            ("ntp+vsock:3:9000", stream(3, 9_000), SourceClass::Host),
            ("ntp+unix:/run/t.sock", unix, SourceClass::Host),
        ] {
            let source = parse(spec).unwrap();
            assert_eq!((source.endpoint, source.class), (endpoint, class), "{spec}");
        }
        assert_eq!(parse("rtc:").unwrap().min_poll.get(), 4);
        assert_eq!(parse("phc:kvm?minpoll=-2").unwrap().min_poll.get(), -2);
    }

    #[test]
    fn wrong_specs_say_what_to_write() {
        for (spec, expected) in [
            ("10.0.2.2", "write ntp:HOST"),
            ("ftp:10.0.2.2", "write ntp:HOST"),
            ("phc:", "a path is missing"),
            ("ntp+unix:", "a path is missing"),
            ("ntp+vsock:two:123", "context id or port is wrong"),
            ("ntp:host?scale=tai", "`scale=tai`"),
            ("phc:kvm?scale=gps", "`scale=gps`"),
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
