//! How often a client may ask, in a table of fixed size: a million addresses, true or forged, cost no more memory than ten.
//!
//! A client's whole record is one instant, until which what it asked so far has used up its share (the generic cell rate algorithm of
//! ITU-T I.371: a leaky bucket in one number). A client whose instant has passed is the same as one never seen, so throwing such a record
//! out loses nothing, and the earliest instant of a set is what is thrown out.

use std::net::{IpAddr, SocketAddr};

use crate::time::WallTime;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Over a network.
    Net(SocketAddr),
    /// Over a stream, known by a number of the driver's.
    Stream(u64),
}

/// How often a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second in the long run; 0 sets no limit.
    pub per_second: u16,
    /// Requests at once.
    pub burst: u16,
}

impl Default for Rate {
    /// Four times what the quickest of our own polls needs, and several starts with their bursts behind one address.
    fn default() -> Self {
        Self { per_second: 16, burst: 64 }
    }
}

/// One client's record.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// Half of the hash of who it is; 0 is nobody.
    tag: u32,
    /// Until when its share is used up.
    until: u32,
}

/// Records looked through for one client: they share a cache line.
const WAYS: usize = 8;
/// 2^14 sets of 8 records of 8 octets: 1 MB, and 131 072 clients that are remembered at once.
const SETS: usize = 1 << 14;
/// Instants count in 2^16 ns: wide enough for a day and a half on either side, fine enough for the quickest rate that fits.
const TICK_SHIFT: u32 = 16;
const TICKS_PER_SECOND: u32 = 15_259;
/// A client is "here" for so long after it asked.
const HERE_TICKS: i32 = 3_600 * 15_259;

/// The table.
#[derive(Debug)]
pub(super) struct Limiter {
    records: Box<[[Record; WAYS]]>,
    /// Drawn at the start, so that nobody outside knows which clients share a set.
    key: (u64, u64),
    interval: u32,
    /// How far ahead of now a record may be.
    slack: i32,
}

impl Limiter {
    pub(super) fn new(rate: Rate, key: (u64, u64)) -> Self {
        let interval = TICKS_PER_SECOND.checked_div(u32::from(rate.per_second)).unwrap_or(0);
        let slack = interval.saturating_mul(u32::from(rate.burst.max(1)));
        Self {
            records: vec![[Record::default(); WAYS]; SETS].into_boxed_slice(),
            key: (key.0, key.1 | 1),
            interval,
            slack: i32::try_from(slack).unwrap_or(i32::MAX / 2),
        }
    }

    /// Whether `client` may ask at `now`; if so it has.
    pub(super) fn admits(&mut self, client: Client, now: WallTime) -> bool {
        let (set, tag) = self.place(client);
        let now = ticks(now);
        let Some(records) = self.records.get_mut(set) else { return true };
        // Whoever has been silent longest, or is nobody, makes room.
        let (mut place, mut least) = (0, i32::MAX);
        for (index, record) in records.iter().enumerate() {
            let ahead = if record.tag == 0 { i32::MIN } else { ahead(record.until, now) };
            // Further ahead than anybody can be: the clock was set back, or two days went round.
            let ahead = if ahead > self.slack { i32::MIN } else { ahead };
            if record.tag == tag {
                (place, least) = (index, ahead);
                break;
            }
            if ahead < least {
                (place, least) = (index, ahead);
            }
        }
        let Some(record) = records.get_mut(place) else { return true };
        let from = if record.tag == tag && least > 0 { record.until } else { now };
        let until = from.wrapping_add(self.interval);
        let is_admitted = ahead(until, now) <= self.slack;
        if is_admitted {
            *record = Record { tag, until };
        }
        is_admitted
    }

    /// Clients remembered that asked within the last hour: the table's size at most.
    pub(super) fn clients(&self, now: WallTime) -> usize {
        let now = ticks(now);
        let is_here = |record: &&Record| {
            record.tag != 0 && (-HERE_TICKS..=self.slack).contains(&ahead(record.until, now))
        };
        self.records.iter().flatten().filter(is_here).count()
    }

    /// Set and tag.
    fn place(&self, client: Client) -> (usize, u32) {
        let (identity, kind) = identity(client);
        let wide = u128::from(identity ^ self.key.0 ^ kind).wrapping_mul(u128::from(self.key.1));
        let octets = wide.to_ne_bytes();
        let (low, high) = octets.split_at(8);
        let half = |octets: &[u8]| u64::from_ne_bytes(octets.try_into().unwrap_or_default());
        let hash = (half(low) ^ half(high)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let set = usize::try_from(hash >> 50).unwrap_or(0) % SETS;
        (set, u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0) | 1)
    }
}

/// What is one client: an IPv4 address; the first 64 bits of an IPv6 address, since whoever has one there has them all; a stream.
fn identity(client: Client) -> (u64, u64) {
    match client {
        Client::Stream(number) => (number, 1 << 63),
        Client::Net(address) => match address.ip().to_canonical() {
            IpAddr::V4(v4) => (u64::from(v4.to_bits()), 1 << 62),
            IpAddr::V6(v6) => {
                let first = v6.octets().first_chunk().copied().unwrap_or_default();
                (u64::from_be_bytes(first), 0)
            }
        },
    }
}

fn ticks(time: WallTime) -> u32 {
    let wrapped = (time.as_nanos() >> TICK_SHIFT) & i64::from(u32::MAX);
    u32::try_from(wrapped).unwrap_or(0)
}

/// How far `time` is ahead of `now`, on a circle.
const fn ahead(time: u32, now: u32) -> i32 {
    i32::from_ne_bytes(time.wrapping_sub(now).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    const NOW: WallTime = WallTime::from_nanos(1_700_000_000_000_000_000);

    fn limiter(per_second: u16, burst: u16) -> Limiter {
        Limiter::new(Rate { per_second, burst }, (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210))
    }

    fn client(address: &str) -> Client {
        Client::Net(SocketAddr::new(address.parse().unwrap(), 123))
    }

    fn admitted(limiter: &mut Limiter, who: Client, at: WallTime, times: usize) -> usize {
        (0..times).filter(|_| limiter.admits(who, at)).count()
    }

    #[test]
    fn a_burst_is_answered_and_then_so_many_a_second() {
        let (mut limiter, who) = (limiter(4, 10), client("10.0.0.1"));
        assert_eq!(admitted(&mut limiter, who, NOW, 100), 10);
        let later: usize =
            (1..=40).map(|step| admitted(&mut limiter, who, NOW + Span::from_millis(step * 250), 3)).sum();
        assert!((39..=41).contains(&later), "{later}");
        assert_eq!(
            admitted(&mut limiter, client("10.0.0.2"), NOW, 100),
            10,
            "another has a share of its own"
        );
        assert_eq!(admitted(&mut limiter, Client::Stream(1), NOW, 100), 10);
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let mut limiter = limiter(0, 1);
        assert_eq!(admitted(&mut limiter, client("10.0.0.1"), NOW, 100_000), 100_000);
    }

    #[test]
    fn an_address_of_version_six_is_one_with_its_neighbours() {
        let mut limiter = limiter(4, 10);
        assert_eq!(admitted(&mut limiter, client("2001:db8::1"), NOW, 10), 10);
        assert_eq!(admitted(&mut limiter, client("2001:db8::2"), NOW, 10), 0);
        assert_eq!(admitted(&mut limiter, client("2001:db8:0:1::1"), NOW, 10), 10);
        assert_eq!(admitted(&mut limiter, client("::ffff:10.0.0.1"), NOW, 10), 10);
        assert_eq!(
            admitted(&mut limiter, client("10.0.0.1"), NOW, 10),
            0,
            "the same address in other clothes"
        );
    }

    #[test]
    fn a_clock_that_is_set_locks_nobody_out() {
        let (mut limiter, who) = (limiter(4, 10), client("10.0.0.1"));
        assert_eq!(admitted(&mut limiter, who, NOW, 100), 10);
        for back in [3_600, 86_400 * 365] {
            assert!(limiter.admits(who, NOW - Span::from_secs(back)), "{back}");
        }
    }

    #[test]
    fn a_million_forged_addresses_cost_no_memory_and_free_no_one_who_asks_too_often() {
        let (mut limiter, greedy) = (limiter(1, 50), client("192.168.0.7"));
        let size = limiter.records.len();
        assert_eq!(admitted(&mut limiter, greedy, NOW, 1_000), 50);
        for bits in 0..1_000_000_u32 {
            let from = std::net::Ipv4Addr::from_bits(0x7f00_0000 | bits);
            assert!(limiter.admits(Client::Net(SocketAddr::new(from.into(), 1)), NOW));
        }
        assert_eq!(admitted(&mut limiter, greedy, NOW, 1_000), 0, "its record is the last to be thrown out");
        assert_eq!(limiter.records.len(), size);
        assert!(size * size_of::<[Record; WAYS]>() <= 1 << 20);
        let clients = limiter.clients(NOW);
        assert!((120_000..=SETS * WAYS).contains(&clients), "{clients}: the sets fill evenly");
    }
}
