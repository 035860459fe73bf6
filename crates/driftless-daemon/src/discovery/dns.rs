//! One bounded question to a name server: what finding published servers and the host's names needs, and no more. The system's resolver would try for as long
//! as it is set to, and would ask whomever it is set to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use driftless_core::entropy::Entropy as _;
use driftless_core::source::SourceClass;
use driftless_linux::entropy::KernelEntropy;

use super::machine::Machine;
use crate::spec;

/// A name server that is near, and the domains to search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameServer {
    address: SocketAddr,
    pub(super) domains: Vec<String>,
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    /// The address of a name.
    Address(Ipv4Addr),
    /// Priority, host and port of a service (RFC 2782).
    Service(u16, String, u16),
}

/// Nobody answered: no other question is worth the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PATIENCE: Duration = Duration::from_secs(1);
const DOMAINS_MAX: usize = 2;
const PORT: u16 = 53;
/// Without extensions an answer over UDP has no more.
const ANSWER_MAX: usize = 512;
/// More records are not looked at.
const RECORDS_MAX: u16 = 32;
/// Record types (RFC 1035, 2782) and the only class.
pub(super) const ADDRESS: u16 = 1;
pub(super) const SERVICE: u16 = 33;
const INTERNET: u16 = 1;
/// A message's fixed part (RFC 1035, section 4.1.1), and flags within it.
const HEAD: usize = 12;
const RECURSION_DESIRED: u8 = 1;
const IS_ANSWER: u8 = 0x80;

impl NameServer {
    /// The first of `/etc/resolv.conf` that is near: a stranger is not told what we look for.
    pub(super) fn near(machine: &Machine) -> Option<Self> {
        let (servers, domains) = resolver(&machine.text(RESOLV_CONF)?);
        let is_near = |server: &IpAddr| spec::classify(*server, None) != SourceClass::Public;
        let server = servers.into_iter().find(is_near)?;
        Some(Self { address: SocketAddr::new(server, PORT), domains })
    }

    /// The records of that type of a name, sorted; none where there is no such name.
    pub(super) fn ask(&self, name: &str, kind: u16) -> Result<Vec<Record>, Silent> {
        let bind: SocketAddr =
            if self.address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(bind).map_err(|_| Silent)?;
        socket.connect(self.address).map_err(|_| Silent)?;
        let [first, second, ..] = KernelEntropy.next_u64().to_ne_bytes();
        let Some(question) = question([first, second], name, kind) else { return Ok(Vec::new()) };
        socket.send(&question).map_err(|_| Silent)?;
        let end = Instant::now() + PATIENCE;
        let mut answer = [0; ANSWER_MAX];
        loop {
            let left =
                end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or(Silent)?;
            socket.set_read_timeout(Some(left)).map_err(|_| Silent)?;
            let length = socket.recv(&mut answer).map_err(|_| Silent)?;
            let answer = answer.get(..length).unwrap_or_default();
            // Number and question come back with the answer: whoever did not see them cannot forge one.
            let is_ours = answer.get(..2) == question.get(..2)
                && answer.get(HEAD..question.len()) == question.get(HEAD..);
            if is_ours {
                return Ok(records(answer, question.len()).unwrap_or_default());
            }
        }
    }
}

/// Name servers and domains to search; of several lines of domains the last counts (resolv.conf(5)).
fn resolver(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut servers, mut domains) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
            Some("search" | "domain") => domains = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    // A single label is nobody's domain to publish in.
    domains.retain(|domain| domain.trim_matches('.').contains('.'));
    domains.truncate(DOMAINS_MAX);
    (servers, domains)
}

fn question(number: [u8; 2], name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = vec![number[0], number[1], RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes().iter().chain(&INTERNET.to_be_bytes()));
    Some(message).filter(|message| message.len() <= ANSWER_MAX)
}

/// The answer's records behind the question, sorted.
fn records(answer: &[u8], mut at: usize) -> Option<Vec<Record>> {
    let half = |at: usize| Some(u16::from_be_bytes(*answer.get(at..)?.first_chunk::<2>()?));
    let is_answer = answer.get(2)? & IS_ANSWER != 0 && answer.get(3)? & 0x0f == 0;
    let mut found = Vec::new();
    for _ in 0..half(6).filter(|_| is_answer)?.min(RECORDS_MAX) {
        at = name_at(answer, at)?.1;
        let (kind, length) = (half(at)?, usize::from(half(at + 8)?));
        let data = at + 10;
        match kind {
            ADDRESS if length == 4 => {
                found.push(Record::Address(Ipv4Addr::from(*answer.get(data..)?.first_chunk::<4>()?)));
            }
            // Priority, weight, port, target. A lone dot: there is decidedly no such service.
            SERVICE => {
                let (host, _) = name_at(answer, data + 6)?;
                let service = Record::Service(half(data)?, host, half(data + 4)?);
                found
                    .extend(Some(service).filter(
                        |service| !matches!(service, Record::Service(_, host, _) if host.is_empty()),
                    ));
            }
            _ => {}
        }
        at = data + length;
    }
    found.sort();
    Some(found)
}

/// The name at a place, and where what follows it begins. Compression points back (section 4.1.4): a bounded number of times.
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut labels, mut end) = (Vec::new(), None);
    for _ in 0..128 {
        let length = *message.get(at)?;
        match length {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            1..64 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + usize::from(length);
            }
            0xc0.. => {
                end = end.or(Some(at + 2));
                at = usize::from(length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A name server that answers one question with `records` behind it.
    fn answered(kind: u16, code: u8, count: u16, records: Vec<u8>) -> Result<Vec<Record>, Silent> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = NameServer { address: socket.local_addr().unwrap(), domains: Vec::new() };
        thread::spawn(move || {
            let mut question = [0; 512];
            let (length, from) = socket.recv_from(&mut question).unwrap();
            let mut answer = question[..length].to_vec();
            answer[2] |= 0x80;
            answer[3] = code;
            answer[6..8].copy_from_slice(&count.to_be_bytes());
            answer.extend(records);
            let forged = [0, 0];
            socket.send_to(&forged, from).unwrap();
            socket.send_to(&answer, from).unwrap();
        });
        server.ask("_ntp._udp.lab.example", kind)
    }

    fn record(priority: u8, port: u8, target: &[u8]) -> Vec<u8> {
        let mut record = vec![
            0xc0,
            12,
            0,
            33,
            0,
            1,
            0,
            0,
            0,
            60,
            0,
            u8::try_from(6 + target.len()).unwrap(),
            0,
            priority,
            0,
            0,
            0,
            port,
        ];
        record.extend(target);
        record
    }

    #[test]
    fn records_come_by_their_priority_and_names_are_uncompressed() {
        // "lab.example" stands at 12 + 5 + 5 of the question.
        let second = record(20, 123, b"\x01b\xc0\x16");
        let first = record(10, 200, b"\x01a\xc0\x16");
        let found = answered(SERVICE, 0, 2, [second, first].concat()).unwrap();
        assert_eq!(
            found,
            [
                Record::Service(10, "a.lab.example".to_owned(), 200),
                Record::Service(20, "b.lab.example".to_owned(), 123)
            ]
        );
    }

    #[test]
    fn an_address_is_read_behind_an_alias() {
        let alias = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2][..], b"\xc0\x16"].concat();
        let address = vec![0xc0, 22, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1];
        assert_eq!(
            answered(ADDRESS, 0, 2, [alias, address].concat()),
            Ok(vec![Record::Address([10, 0, 0, 1].into())])
        );
    }

    #[test]
    fn nobody_there_is_told_apart_from_no_such_name() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = NameServer { address: socket.local_addr().unwrap(), domains: Vec::new() };
        assert_eq!(server.ask("lab.example", ADDRESS), Err(Silent));
    }

    #[test]
    fn no_such_name_and_no_such_service_are_no_servers() {
        assert_eq!(answered(SERVICE, 3, 0, Vec::new()), Ok(Vec::new()));
        assert_eq!(answered(SERVICE, 0, 1, record(0, 0, b"\0")), Ok(Vec::new()));
    }

    #[test]
    fn a_name_that_points_at_itself_ends() {
        assert_eq!(answered(SERVICE, 0, 1, record(0, 123, b"\xc0\x39")), Ok(Vec::new()));
        assert_eq!(answered(SERVICE, 0, 30_000, vec![0xff; 40]), Ok(Vec::new()));
        for length in 0..40 {
            let _ = records(&vec![0x80; length], 12);
        }
    }

    #[test]
    fn only_domains_are_searched_and_only_the_last_list_of_them() {
        let text = "nameserver 8.8.8.8\nsearch old.example\nnameserver 10.0.0.3\nsearch lan lab.example more.example third.example\n";
        let (servers, domains) = resolver(text);
        assert_eq!(servers, ["8.8.8.8".parse::<IpAddr>().unwrap(), "10.0.0.3".parse().unwrap()]);
        assert_eq!(domains, ["lab.example", "more.example"]);
        assert_eq!(question([0; 2], "a..b", ADDRESS), None);
    }
}
