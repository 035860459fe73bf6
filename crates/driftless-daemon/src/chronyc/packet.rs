//! The packets of chrony's command protocol, version 6, as chrony's `candm.h` lays them out: big-endian throughout.
//!
//! A request carries padding up to the length of its reply, so that nobody is answered at greater length than he asked.

use std::net::IpAddr;

use driftless_core::time::WallTime;

/// The version that is spoken here and by every chronyc since 2.0.
const VERSION: u8 = 6;
/// The oldest version whose speakers understand that theirs is not spoken.
const VERSION_TOLD: u8 = 5;
const KIND_REQUEST: u8 = 1;
const KIND_REPLY: u8 = 2;
/// Length of a request's head, and of a reply's.
const REQUEST_HEAD: usize = 20;
const REPLY_HEAD: usize = 28;
/// Longest request: head, the longest data, and padding.
pub(super) const REQUEST_MAX: usize = 1_024;

/// How it went: `STT_…` of `candm.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Status {
    Success = 0,
    Failed = 1,
    Unauthorised = 2,
    Invalid = 3,
    NoSuchSource = 4,
    NotEnabled = 6,
    NoRtc = 13,
    BadVersion = 18,
    BadLength = 19,
}

/// A request, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) command: u16,
    sequence: [u8; 4],
    data: &'a [u8],
}

/// A reply in the making.
#[derive(Debug)]
pub(super) struct Reply {
    kind: u16,
    status: Status,
    data: Vec<u8>,
}

/// An address as chrony writes it: a 16-octet field, a family, padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    None,
    Ip(IpAddr),
    /// Four letters of a reference clock, written like an IPv4 address.
    Letters([u8; 4]),
    /// A source without an address yet, by its number.
    Unresolved(u32),
}

impl<'a> Request<'a> {
    /// Takes a packet apart. `Err` is what is to be answered to a packet that cannot be served, if anything.
    pub(super) fn parse(packet: &'a [u8]) -> Result<Self, Option<Vec<u8>>> {
        // What an error's reply would exceed is not answered at all.
        let is_sound = packet.len() >= REPLY_HEAD && packet.get(1..4) == Some(&[KIND_REQUEST, 0, 0]);
        let head = packet.first_chunk::<REQUEST_HEAD>().filter(|_| is_sound).ok_or(None)?;
        let request = Self {
            command: u16::from_be_bytes([head[4], head[5]]),
            sequence: [head[8], head[9], head[10], head[11]],
            data: packet.get(REQUEST_HEAD..).unwrap_or_default(),
        };
        match head[0] {
            VERSION => Ok(request),
            VERSION_TOLD.. => Err(Some(request.encode(&Reply::status(Status::BadVersion)))),
            _ => Err(None),
        }
    }

    /// A number at an offset of the data.
    pub(super) fn word(&self, at: usize) -> Option<u32> {
        self.data.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
    }

    /// An address at an offset of the data; `None` where the packet ends before it, or its family is unknown.
    pub(super) fn address(&self, at: usize) -> Option<Address> {
        let field: &[u8; 20] = self.data.get(at..)?.first_chunk()?;
        let four = [field[0], field[1], field[2], field[3]];
        let sixteen: &[u8; 16] = field.first_chunk()?;
        match u16::from_be_bytes([field[16], field[17]]) {
            0 => Some(Address::None),
            1 => Some(Address::Ip(four.into())),
            2 => Some(Address::Ip((*sixteen).into())),
            3 => Some(Address::Unresolved(u32::from_be_bytes(four))),
            _ => None,
        }
    }

    /// Whether a reply with so much data is no longer than the request.
    pub(super) const fn has_room_for(&self, data: usize) -> bool {
        REPLY_HEAD + data <= REQUEST_HEAD + self.data.len()
    }

    /// The reply as it goes out.
    pub(super) fn encode(&self, reply: &Reply) -> Vec<u8> {
        let mut packet = Vec::with_capacity(REPLY_HEAD + reply.data.len());
        packet.extend([VERSION, KIND_REPLY, 0, 0]);
        for word in [self.command, reply.kind, reply.status as u16, 0, 0, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(self.sequence);
        packet.extend([0; 8]);
        packet.extend(&reply.data);
        packet
    }
}

impl Reply {
    /// A reply of the kind `RPY_…` to a request that was served.
    pub(super) const fn new(kind: u16) -> Self {
        Self { kind, status: Status::Success, data: Vec::new() }
    }

    /// A reply that says only how it went.
    pub(super) const fn status(status: Status) -> Self {
        const NULL: u16 = 1;
        Self { kind: NULL, status, data: Vec::new() }
    }

    pub(super) fn octets(mut self, octets: &[u8]) -> Self {
        self.data.extend(octets);
        self
    }

    pub(super) fn half(self, value: u16) -> Self {
        self.octets(&value.to_be_bytes())
    }

    pub(super) fn word(self, value: u32) -> Self {
        self.octets(&value.to_be_bytes())
    }

    /// A count, as much of it as there is room for.
    pub(super) fn count(self, value: u64) -> Self {
        self.word(u32::try_from(value).unwrap_or(u32::MAX))
    }

    pub(super) fn float(self, value: f64) -> Self {
        self.word(float(value))
    }

    /// Seconds in two halves, then nanoseconds.
    pub(super) fn time(self, time: WallTime) -> Self {
        const NANOS: i64 = 1_000_000_000;
        let nanos = u32::try_from(time.as_nanos().rem_euclid(NANOS)).unwrap_or(0);
        self.octets(&time.as_nanos().div_euclid(NANOS).to_be_bytes()).word(nanos)
    }

    pub(super) fn address(self, address: Address) -> Self {
        let (octets, family) = match address {
            Address::None => ([0; 16], 0),
            Address::Ip(IpAddr::V4(v4)) => (wide(v4.octets()), 1),
            Address::Letters(letters) => (wide(letters), 1),
            Address::Ip(IpAddr::V6(v6)) => (v6.octets(), 2),
            Address::Unresolved(id) => (wide(id.to_be_bytes()), 3),
        };
        self.octets(&octets).half(family).half(0)
    }
}

fn wide(four: [u8; 4]) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&four);
    octets
}

/// chrony's floating-point format: a signed exponent of 7 bits above a signed coefficient of 25, worth 2^(exponent − 25) · coefficient.
fn float(value: f64) -> u32 {
    const COEFFICIENT_BITS: i32 = 25;
    const COEFFICIENT_MAX: f64 = 16_777_215.0;
    const EXPONENT: (i32, i32) = (-64, 63);
    if value == 0.0 || value.is_nan() {
        return 0;
    }
    // The exponent that leaves the coefficient 24 bits without its sign.
    let fitting = value.abs().log2().floor().clamp(-200.0, 200.0);
    #[expect(clippy::cast_possible_truncation, reason = "clamped to a small range")]
    let exponent = (fitting as i32 + 2).clamp(EXPONENT.0, EXPONENT.1);
    let scaled = (value * f64::from(COEFFICIENT_BITS - exponent).exp2()).round();
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the coefficient's range")]
    let coefficient = scaled.clamp(-COEFFICIENT_MAX, COEFFICIENT_MAX) as i32;
    let bits = (exponent << COEFFICIENT_BITS) | (coefficient & 0x01ff_ffff);
    u32::from_be_bytes(bits.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the format's definition.
    fn value(word: u32) -> f64 {
        let signed = i32::from_be_bytes(word.to_be_bytes());
        f64::from((signed << 7) >> 7) * f64::from((signed >> 25) - 25).exp2()
    }

    #[test]
    fn floats_keep_seven_digits_and_their_sign() {
        for expected in [1.0, -1.0, 0.5, 1e-9, -3.25e-5, 123_456.75, 1e9, -7.0e-12, 4.0, 3.999_999_9] {
            let got = value(float(expected));
            assert!(((got - expected) / expected).abs() < 1e-7, "{expected} became {got}");
        }
        assert_eq!((float(0.0), float(f64::NAN)), (0, 0));
        assert!(value(float(f64::INFINITY)) > 1e17 && value(float(f64::NEG_INFINITY)) < -1e17);
        assert!(value(float(1e-40)).abs() < 1e-20);
    }

    #[test]
    fn what_is_no_request_is_not_answered() {
        let mut packet = [0; 60];
        packet[..6].copy_from_slice(&[6, 1, 0, 0, 0, 33]);
        assert_eq!(Request::parse(&packet).unwrap().command, 33);
        assert!(matches!(Request::parse(&packet[..27]), Err(None)), "shorter than an error's reply");
        packet[0] = 5;
        assert_eq!(Request::parse(&packet).unwrap_err().unwrap()[9], 18, "an older version is told so");
        packet[0] = 4;
        assert!(matches!(Request::parse(&packet), Err(None)));
        packet[..2].copy_from_slice(&[6, 2]);
        assert!(matches!(Request::parse(&packet), Err(None)), "a reply");
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for address in [
            Address::None,
            Address::Ip([10, 0, 2, 2].into()),
            Address::Ip("fd00::7".parse().unwrap()),
            Address::Unresolved(3),
        ] {
            let data = Reply::new(1).address(address).data;
            let request = Request { command: 0, sequence: [0; 4], data: &data };
            assert_eq!(request.address(0), Some(address));
            assert_eq!(request.address(1), None, "cut short");
        }
    }
}
