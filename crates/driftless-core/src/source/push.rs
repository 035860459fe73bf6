//! What a host pushes into its guest, in the dialects of the hypervisors' own tools, as one type.

use crate::time::WallTime;

/// Something that a host told us unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// Something happened: look at the sources now.
    Look,
    /// The host's time when it was sent, without any compensation of the way.
    Time(WallTime),
    /// Take the time from the RTC.
    Rtc,
}

/// The time in a datagram as libkrun sends it: 8 bytes, ns since 1970, little-endian.
#[must_use]
pub fn time_datagram(datagram: &[u8]) -> Option<Push> {
    let nanos = i64::try_from(u64::from_le_bytes(datagram.try_into().ok()?)).ok()?;
    (nanos > 0).then(|| Push::Time(WallTime::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_of_eight_bytes_is_a_time_and_no_other_is() {
        let time = 1_800_000_000_000_000_123_i64;
        assert_eq!(time_datagram(&time.to_le_bytes()), Some(Push::Time(WallTime::from_nanos(time))));
        assert_eq!(time_datagram(&[0xff; 8]), None);
        assert_eq!(time_datagram(&[0; 8]), None);
        assert_eq!(time_datagram(&[1; 7]), None);
    }
}
