//! The 48 bytes that every NTP packet begins with (RFC 5905, section 7.3), and a safe walk over what may follow them.

use crate::clock::Leap;

use super::{NtpShort, NtpTimestamp};

/// Octets of a packet without extensions or authentication.
pub const HEADER_LENGTH: usize = 48;

/// Who speaks (RFC 5905, figure 10). Modes 6 and 7, control and private, are not spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 1.
    SymmetricActive,
    /// 2.
    SymmetricPassive,
    /// 3.
    Client,
    /// 4.
    Server,
    /// 5.
    Broadcast,
}

/// Why a packet was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer octets than a header.
    #[error("{0} octets are no NTP packet: at least 48 are needed")]
    Short(usize),
    /// A version other than 1 to 4.
    #[error("NTP version {0} is not spoken")]
    Version(u8),
    /// Control or private packets: never answered, so that nobody is amplified.
    #[error("mode {0} is refused")]
    Mode(u8),
    /// An extension field's length is wrong.
    #[error("an extension field does not fit into the packet")]
    Extension,
}

/// A packet's fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Announced leap second, or "not synchronised".
    pub leap: Leap,
    /// 1 to 4.
    pub version: u8,
    /// Who speaks.
    pub mode: Mode,
    /// 0 kiss-o'-death, 1 to 15 steps to the root, 16 unsynchronised.
    pub stratum: u8,
    /// log2 of the sender's poll interval in seconds.
    pub poll: i8,
    /// log2 of the sender's clock's precision in seconds.
    pub precision: i8,
    /// Round trip to the root.
    pub root_delay: NtpShort,
    /// Dispersion to the root.
    pub root_dispersion: NtpShort,
    /// Whom the sender follows, or the kiss code.
    pub reference_id: [u8; 4],
    /// When its clock was last set.
    pub reference: NtpTimestamp,
    /// The client's transmit timestamp, given back.
    pub origin: NtpTimestamp,
    /// When the request arrived.
    pub receive: NtpTimestamp,
    /// When this packet left.
    pub transmit: NtpTimestamp,
}

impl Header {
    /// A client's request that tells nothing about the client: everything is zero but the version, the mode and an
    /// unpredictable transmit timestamp (RFC 8633, section 5.4; the data minimisation draft of the NTP working group).
    #[must_use]
    pub fn request(cookie: u64) -> [u8; HEADER_LENGTH] {
        let mut data = [0; HEADER_LENGTH];
        data[0] = 4 << 3 | 3;
        data[40..].copy_from_slice(&cookie.to_be_bytes());
        data
    }

    /// Reads a packet. Extension fields (RFC 7822) are skipped, a trailing MAC is tolerated.
    ///
    /// # Errors
    /// [`WireError`], for anything that is no NTP packet or not of a kind spoken here.
    pub fn parse(data: &[u8]) -> Result<Self, WireError> {
        let (fixed, rest) = data.split_first_chunk::<HEADER_LENGTH>().ok_or(WireError::Short(data.len()))?;
        let version = fixed[0] >> 3 & 7;
        if !(1..=4).contains(&version) {
            return Err(WireError::Version(version));
        }
        let mode = Mode::from_bits(fixed[0] & 7)?;
        skip_extensions(rest)?;
        Ok(Self {
            leap: leap_from_bits(fixed[0] >> 6),
            version,
            mode,
            stratum: fixed[1],
            poll: i8::from_be_bytes([fixed[2]]),
            precision: i8::from_be_bytes([fixed[3]]),
            root_delay: NtpShort(word(fixed, 4)),
            root_dispersion: NtpShort(word(fixed, 8)),
            reference_id: word(fixed, 12).to_be_bytes(),
            reference: stamp(fixed, 16),
            origin: stamp(fixed, 24),
            receive: stamp(fixed, 32),
            transmit: stamp(fixed, 40),
        })
    }

    /// The packet's octets.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut data = [0; HEADER_LENGTH];
        data[0] = leap_bits(self.leap) << 6 | (self.version & 7) << 3 | self.mode.bits();
        data[1] = self.stratum;
        data[2] = self.poll.to_be_bytes()[0];
        data[3] = self.precision.to_be_bytes()[0];
        data[4..8].copy_from_slice(&self.root_delay.0.to_be_bytes());
        data[8..12].copy_from_slice(&self.root_dispersion.0.to_be_bytes());
        data[12..16].copy_from_slice(&self.reference_id);
        data[16..24].copy_from_slice(&self.reference.0.to_be_bytes());
        data[24..32].copy_from_slice(&self.origin.0.to_be_bytes());
        data[32..40].copy_from_slice(&self.receive.0.to_be_bytes());
        data[40..48].copy_from_slice(&self.transmit.0.to_be_bytes());
        data
    }
}

impl Mode {
    const fn from_bits(bits: u8) -> Result<Self, WireError> {
        match bits {
            1 => Ok(Self::SymmetricActive),
            2 => Ok(Self::SymmetricPassive),
            3 => Ok(Self::Client),
            4 => Ok(Self::Server),
            5 => Ok(Self::Broadcast),
            other => Err(WireError::Mode(other)),
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::SymmetricActive => 1,
            Self::SymmetricPassive => 2,
            Self::Client => 3,
            Self::Server => 4,
            Self::Broadcast => 5,
        }
    }
}

/// Walks over extension fields: type, length (a multiple of 4, at least 16), value. What is left at the end and too short
/// to be one is a MAC of 20 or 24 octets, or a crypto-NAK of 4 (RFC 7822, section 7.5.1.4).
pub(crate) fn skip_extensions(mut rest: &[u8]) -> Result<(), WireError> {
    while !rest.is_empty() && !matches!(rest.len(), 4 | 20 | 24) {
        let &[_, _, high, low, ..] = rest else { return Err(WireError::Extension) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 16 || length % 4 != 0 {
            return Err(WireError::Extension);
        }
        rest = rest.get(length..).ok_or(WireError::Extension)?;
    }
    Ok(())
}

const fn leap_from_bits(bits: u8) -> Leap {
    match bits {
        0 => Leap::None,
        1 => Leap::Insert,
        2 => Leap::Delete,
        _ => Leap::Unknown,
    }
}

const fn leap_bits(leap: Leap) -> u8 {
    match leap {
        Leap::None => 0,
        Leap::Insert => 1,
        Leap::Delete => 2,
        Leap::Unknown => 3,
    }
}

fn word(data: &[u8; HEADER_LENGTH], at: usize) -> u32 {
    u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

fn stamp(data: &[u8; HEADER_LENGTH], at: usize) -> NtpTimestamp {
    NtpTimestamp(u64::from(word(data, at)) << 32 | u64::from(word(data, at + 4)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_identifies_nobody() {
        let data = Header::request(0x0102_0304_0506_0708);
        assert_eq!(data[0], 0x23);
        assert!(data[1..40].iter().all(|octet| *octet == 0));
        assert_eq!(Header::parse(&data).unwrap().transmit, NtpTimestamp(0x0102_0304_0506_0708));
    }

    #[test]
    fn control_and_private_packets_are_refused() {
        for mode in [0, 6, 7] {
            let mut data = [0; 48];
            data[0] = 4 << 3 | mode;
            assert_eq!(Header::parse(&data), Err(WireError::Mode(mode)));
        }
    }

    #[test]
    fn extension_fields_are_skipped_and_bad_ones_refused() {
        let mut data = Header::request(7).to_vec();
        data.extend([1, 4, 0, 28]);
        data.extend([0; 24]);
        assert!(Header::parse(&data).is_ok());
        data[51] = 200;
        assert_eq!(Header::parse(&data), Err(WireError::Extension));
        assert_eq!(Header::parse(&data[..47]), Err(WireError::Short(47)));
    }

    proptest! {
        #[test]
        fn any_octets_are_parsed_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::parse(&data);
        }

        #[test]
        fn what_is_parsed_encodes_to_the_same_octets(mut data in proptest::collection::vec(any::<u8>(), 48..=48)) {
            data[0] = (data[0] & 0b1100_0000) | (4 << 3) | (1 + data[0] % 5);
            prop_assert_eq!(Header::parse(&data).unwrap().encode().to_vec(), data);
        }
    }
}
