//! Our report in chrony's words. Its offsets count the other way round (+ = this clock is ahead), and from the clock as it will be once the offset
//! that is known is corrected; its frequency is by how much this clock would gain, uncorrected.

use std::net::SocketAddr;

use driftless_core::clock::Leap;
use driftless_core::report::{LastLook, Report, SourceReport};
use driftless_core::time::{Seconds, WallTime};

use super::packet::{Address, Reply};

/// What a source is to chrony.
const MODE_CLIENT: u16 = 0;
const MODE_REFERENCE_CLOCK: u16 = 2;
/// An age that is not known.
const NEVER: u32 = u32::MAX;
/// What we ask with, and are answered by.
const NTP_VERSION: u8 = 4;
const MODE_SERVER: u8 = 4;
/// All ten tests that chrony makes of a reply, and that a sample of ours has passed.
const TESTS_PASSED: u16 = 0x3ff;

/// `RPY_TRACKING`.
pub(super) fn tracking(report: &Report, now: WallTime) -> Reply {
    let followed = report.sources.iter().find(|source| source.state == "selected");
    let is_right = report.reference_id.is_some();
    let letters = report.reference_id.as_deref().map_or([0; 4], octets);
    Reply::new(5)
        .octets(&letters)
        .address(followed.filter(|_| is_right).map_or(Address::None, network_address))
        .half(if is_right { u16::from(report.stratum) } else { 0 })
        .half(leap(if is_right { report.leap } else { Leap::Unknown }).into())
        .time(report.last_update.unwrap_or(WallTime::from_nanos(0)).min(now))
        .float(report.offset.unwrap_or(0.0))
        .float(-report.last_offset.unwrap_or(0.0))
        .float(report.rms_offset.unwrap_or(0.0))
        .float(-report.frequency.or_else(|| applied_ppm(report)).unwrap_or(0.0))
        .float(residual_ppm(report, report.frequency).filter(|_| is_right).unwrap_or(0.0))
        .float(report.frequency_error.filter(|_| is_right).unwrap_or(0.0))
        .float(if is_right { report.root_delay.unwrap_or(0.0) } else { 1.0 })
        .float(if is_right { report.root_dispersion.unwrap_or(0.0) } else { 1.0 })
        .float(report.update_interval.unwrap_or(0.0))
}

/// `RPY_SOURCE_DATA`.
pub(super) fn source_data(report: &Report, source: &SourceReport, index: u32) -> Reply {
    let last = source.last.as_ref();
    let ahead = |offset: f64| report.offset.unwrap_or(0.0) - offset;
    let state = match source.state.as_str() {
        "selected" => 0,
        "falseticker" => 2,
        "combined" => 4,
        "candidate" => 5,
        _ => 1,
    };
    let is_clock = is_reference_clock(source);
    Reply::new(3)
        .address(listed_address(source, index))
        .octets(&i16::from(source.poll).to_be_bytes())
        .half(if last.is_some() { u16::from(source.stratum) } else { 0 })
        .half(state)
        .half(if is_clock { MODE_REFERENCE_CLOCK } else { MODE_CLIENT })
        .half(0)
        .half(source.reach.into())
        .word(age(last))
        .float(last.map_or(0.0, |last| ahead(last.offset)))
        .float(source.offset.map_or(0.0, ahead))
        .float(last.map_or(0.0, |last| last.root_distance))
}

/// `RPY_SOURCESTATS`.
pub(super) fn sourcestats(report: &Report, source: &SourceReport, index: u32) -> Reply {
    // Runs of residuals are chrony's own way to judge a line; we fit none.
    const NO_RUNS: u32 = 0;
    let span = source.samples.saturating_sub(1).saturating_mul(interval_s(source));
    Reply::new(6)
        .octets(&octets(&source.reference_id))
        .address(statistics_address(source, index))
        .count(source.samples)
        .word(NO_RUNS)
        .count(span)
        .float(source.jitter.max(source.offset_error.unwrap_or(0.0)))
        .float(residual_ppm(report, source.frequency).unwrap_or(0.0))
        .float(source.frequency_error.unwrap_or(0.0))
        .float(source.offset.map_or(0.0, |offset| report.offset.unwrap_or(0.0) - offset))
        .float(source.offset_error.unwrap_or(0.0))
}

/// `RPY_SELECT_DATA`.
pub(super) fn select_data(report: &Report, source: &SourceReport, index: u32) -> Reply {
    let state = match source.state.as_str() {
        "selected" => b'*',
        "combined" => b'+',
        "candidate" => b'P',
        "falseticker" => b'x',
        "unsynchronised" => b's',
        "unreachable" if source.last.is_some() => b'S',
        _ => b'M',
    };
    let is_usable = matches!(source.state.as_str(), "selected" | "combined");
    let distance = source.last.as_ref().map_or(0.0, |last| last.root_distance);
    let offset = source.offset.map_or(0.0, |offset| report.offset.unwrap_or(0.0) - offset);
    Reply::new(23)
        .octets(&octets(&source.reference_id))
        .address(statistics_address(source, index))
        .octets(&[state, 0, leap(source.last.as_ref().map_or(Leap::Unknown, |last| last.leap)), 0])
        .half(0)
        .half(0)
        .word(age(source.last.as_ref()))
        .float(if is_usable { 1.0 } else { 0.0 })
        .float(offset - distance)
        .float(offset + distance)
}

/// `RPY_NTP_DATA`, or the longer `RPY_NTP_DATA2` of chronyc since 4.6, whichever was left room for.
pub(super) fn ntp_data(source: &SourceReport, has_room_for: impl Fn(usize) -> bool) -> Reply {
    const LONG_BYTES: usize = 144;
    let is_long = has_room_for(LONG_BYTES);
    let socket = socket_address(source);
    let last = source.last.as_ref();
    let kernel = u64::from(last.is_some_and(|last| last.kernel_stamp));
    let (stamp, stamps) = if kernel == 1 { (b'K', source.received) } else { (b'D', 0) };
    let reply = Reply::new(if is_long { 26 } else { 16 })
        .address(network_address(source))
        .address(Address::None)
        .half(socket.map_or(0, |socket| socket.port()))
        .octets(&[
            leap(last.map_or(Leap::Unknown, |last| last.leap)),
            NTP_VERSION,
            MODE_SERVER,
            source.stratum,
        ])
        .octets(&[octet(source.poll), octet(last.and_then(|last| last.precision).unwrap_or(0))])
        .float(last.map_or(0.0, |last| last.root_delay))
        .float(last.map_or(0.0, |last| last.root_dispersion))
        .octets(&last.and_then(|last| last.reference_id.as_deref()).map_or([0; 4], octets))
        .time(WallTime::from_nanos(0))
        // As NTP counts it: + = this clock is behind.
        .float(last.map_or(0.0, |last| last.offset))
        .float(source.delay.unwrap_or(0.0))
        .float(source.offset_error.unwrap_or(0.0))
        .float(0.0)
        .float(0.0)
        .half(if last.is_some() { TESTS_PASSED } else { 0 })
        .octets(b"D")
        .octets(&[stamp])
        .count(source.sent)
        .count(source.received)
        .count(source.received)
        .count(source.samples);
    if is_long {
        // Stamps of the kernel and of the hardware, departures and arrivals; then what is reserved.
        reply.word(0).count(stamps).word(0).word(0).octets(&[0xff; 16])
    } else {
        reply.octets(&[0xff; 12])
    }
}

/// `RPY_ACTIVITY`.
pub(super) fn activity(report: &Report) -> Reply {
    let count = |state: &[&str]| {
        report.sources.iter().filter(|source| state.contains(&source.state.as_str())).count() as u64
    };
    let (offline, unresolved) = (count(&["offline", "refused"]), count(&["unresolved"]));
    let online = report.sources.len() as u64 - offline - unresolved;
    Reply::new(12).count(online).count(offline).word(0).word(0).count(unresolved)
}

/// `RPY_SERVER_STATS3` of chronyc 4.2 to 4.3, or `RPY_SERVER_STATS4`: this daemon serves nobody.
pub(super) fn server_stats(has_room_for: impl Fn(usize) -> bool) -> Reply {
    const SHORT: usize = 44;
    const LONG: usize = 168;
    if has_room_for(LONG) { Reply::new(25).octets(&[0; LONG]) } else { Reply::new(24).octets(&[0; SHORT]) }
}

/// `RPY_NTP_SOURCE_NAME`: the host as configured.
pub(super) fn source_name(source: &SourceReport) -> Reply {
    const NAME_BYTES: usize = 256;
    let spec = source.name.split('?').next().unwrap_or_default();
    let name = spec.strip_prefix("ntp:").unwrap_or(spec);
    // Without its port, if it has one: HOST:PORT and [V6]:PORT, but not a bare V6.
    let name = match name.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host.trim_matches(['[', ']']),
        _ => name,
    };
    let mut field = [0; NAME_BYTES];
    // The last octet stays zero: it ends the name.
    field.iter_mut().take(NAME_BYTES - 1).zip(name.bytes()).for_each(|(to, from)| *to = from);
    Reply::new(19).octets(&field)
}

/// The address that a network's server is at.
pub(super) fn network_address(source: &SourceReport) -> Address {
    socket_address(source).map_or(Address::None, |socket| Address::Ip(socket.ip().to_canonical()))
}

/// Clocks that are read, and streams, which have no address.
fn is_reference_clock(source: &SourceReport) -> bool {
    !source.name.starts_with("ntp:")
}

/// Reference clocks are listed by their letters in the place of an address.
fn listed_address(source: &SourceReport, index: u32) -> Address {
    if is_reference_clock(source) {
        return Address::Letters(octets(&source.reference_id));
    }
    statistics_address(source, index)
}

/// Reference clocks have none here: they are told by their letters.
fn statistics_address(source: &SourceReport, index: u32) -> Address {
    match network_address(source) {
        Address::None if !is_reference_clock(source) => Address::Unresolved(index),
        address => address,
    }
}

fn socket_address(source: &SourceReport) -> Option<SocketAddr> {
    source.address.as_ref()?.parse().ok()
}

/// What corrects the counter now, ppm: the kernel's tick and frequency.
fn applied_ppm(report: &Report) -> Option<f64> {
    /// A tick of 10 000 µs is the nominal rate.
    const PPM_PER_TICK: f64 = 100.0;
    Some(f64::from(report.tick? - 10_000) * PPM_PER_TICK + report.kernel_frequency?)
}

/// By how much this clock, as it is corrected now, gains on a reference.
fn residual_ppm(report: &Report, reference_ppm: Option<f64>) -> Option<f64> {
    Some(applied_ppm(report)? - reference_ppm?)
}

fn interval_s(source: &SourceReport) -> u64 {
    1 << source.poll.clamp(0, 17)
}

fn age(last: Option<&LastLook>) -> u32 {
    last.map_or(NEVER, |last| {
        let whole = Seconds(last.age).to_span().as_nanos() / 1_000_000_000;
        u32::try_from(whole).unwrap_or(0)
    })
}

/// NTP's two bits (RFC 5905, figure 9).
const fn leap(leap: Leap) -> u8 {
    match leap {
        Leap::None => 0,
        Leap::Insert => 1,
        Leap::Delete => 2,
        Leap::Unknown => 3,
    }
}

fn octets(hexadecimal: &str) -> [u8; 4] {
    u32::from_str_radix(hexadecimal, 16).unwrap_or(0).to_be_bytes()
}

const fn octet(signed: i8) -> u8 {
    signed.to_be_bytes()[0]
}
