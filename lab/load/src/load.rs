//! The loads: closed loops, in which a reply lets the next request go, and open ones, that wait for nothing.
//!
//! The client never sleeps: it has a core of its own, and waking it is nothing that a server of clients elsewhere would pay for.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use driftless_lab_load::Measured;
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::client::{BATCH, Client, Tally};

/// What is asked, when.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(crate) enum Load {
    /// So many requests are under way at any time
    Closed {
        /// How many, over all client sockets
        #[arg(long, default_value_t = 32)]
        window: usize,
    },
    /// Requests leave at a fixed rate, whatever comes back
    Open {
        /// Requests a second
        #[arg(long)]
        rate: f64,
        /// Requests that leave together
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
        burst: u32,
        /// Each burst from another address, until there are so many replies
        #[arg(long)]
        addresses: Option<u64>,
    },
}

/// How long a first reply is waited for, and how long a silence in a closed loop means that all that was under way is lost.
const READY_MAX: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_millis(100);
/// Not measured: the server's pages and caches get warm.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long replies are waited for after the last request.
const LAST_REPLIES: Duration = Duration::from_millis(50);
/// 127.1.0.0 and 127.255.255.255: many clients come from between. All of 127.0.0.0/8 is this machine's own.
const FIRST_ADDRESS: u32 = 0x7f01_0000;
const LAST_ADDRESS: u32 = 0x7fff_ffff;

impl Load {
    /// How many client sockets it needs of those that it may have.
    pub(crate) fn sockets(self, most: usize) -> usize {
        match self {
            Self::Closed { window } => window.min(most),
            Self::Open { addresses: Some(_), .. } => 1,
            Self::Open { .. } => most,
        }
    }

    /// Puts the load on the server and measures what it makes of it.
    pub(crate) fn measure(self, clients: &mut [Client], server: Pid, length: Duration) -> Result<Measured> {
        wait_until_ready(clients)?;
        closed(clients, clients.len(), WARM_UP, &mut Tally::default())?;
        last_replies(clients, &mut Tally::default())?;
        let mut tally = Tally::default();
        let clock = ClockId::pid_cpu_clock_id(server)?;
        let (before, waited_before) = (Duration::from(clock.now()?), waited(server)?);
        let start = Instant::now();
        match self {
            Self::Closed { window } => closed(clients, window, length, &mut tally)?,
            Self::Open { rate, burst, addresses } => {
                open(clients, (rate, burst), addresses, length, &mut tally)?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let in_time = tally.replies;
        last_replies(clients, &mut tally)?;
        let processor = Duration::from(clock.now()?) - before;
        tally.latencies_ns.sort_unstable();
        Ok(Measured {
            seconds,
            asked: tally.asked,
            replies: tally.replies,
            wrong: tally.wrong,
            stray: tally.stray,
            in_time,
            processor_s: processor.as_secs_f64(),
            waited_s: (waited(server)? - waited_before).as_secs_f64(),
            latency_s: [500, 990, 999].map(|thousandths| quantile(&tally.latencies_ns, thousandths)),
        })
    }
}

/// For how long the threads of a process had work but no core, so far (proc(5), schedstat).
fn waited(process: Pid) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let told = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += told.split_whitespace().nth(1).context("schedstat has three numbers")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn quantile(sorted_ns: &[u32], thousandths: usize) -> f64 {
    let last = sorted_ns.len().saturating_sub(1);
    sorted_ns.get(last * thousandths / 1_000).map_or(f64::NAN, |ns| f64::from(*ns) * 1e-9)
}

fn wait_until_ready(clients: &mut [Client]) -> Result<()> {
    let start = Instant::now();
    let mut tally = Tally::default();
    while tally.replies == 0 {
        if start.elapsed() > READY_MAX {
            bail!("no good reply within {READY_MAX:?} ({} wrong ones)", tally.wrong);
        }
        for client in clients.iter_mut() {
            client.ask(1, None, &mut tally)?;
        }
        last_replies(clients, &mut tally)?;
    }
    Ok(())
}

fn closed(clients: &mut [Client], window: usize, length: Duration, tally: &mut Tally) -> Result<()> {
    let each = (window / clients.len()).clamp(1, BATCH);
    let start = Instant::now();
    let mut heard = start;
    for client in clients.iter_mut() {
        client.ask(each, None, tally)?;
    }
    while start.elapsed() < length {
        for client in clients.iter_mut() {
            let replies = client.collect(tally)?;
            if replies > 0 {
                heard = Instant::now();
                client.ask(replies, None, tally)?;
            }
        }
        if heard.elapsed() > SILENCE_MAX {
            heard = Instant::now();
            for client in clients.iter_mut() {
                client.ask(each, None, tally)?;
            }
        }
    }
    Ok(())
}

fn open(
    clients: &mut [Client],
    (rate, burst): (f64, u32),
    addresses: Option<u64>,
    length: Duration,
    tally: &mut Tally,
) -> Result<()> {
    let between = Duration::try_from_secs_f64(f64::from(burst) / rate)?;
    let burst = usize::try_from(burst)?;
    let mut sources = (FIRST_ADDRESS..LAST_ADDRESS).map(Ipv4Addr::from_bits);
    let start = Instant::now();
    let (mut due, mut turn) = (start, 0);
    while start.elapsed() < length && addresses.is_none_or(|goal| tally.replies < goal) {
        let now = Instant::now();
        if due <= now {
            // Who is too slow for the rate does not make up for it by a flood.
            due = (due + between).max(now);
            let source = addresses.and_then(|_| sources.next());
            turn = (turn + 1) % clients.len();
            if let Some(client) = clients.get_mut(turn) {
                client.ask(burst, source, tally)?;
            }
        }
        for client in clients.iter_mut() {
            client.collect(tally)?;
        }
    }
    Ok(())
}

fn last_replies(clients: &mut [Client], tally: &mut Tally) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < LAST_REPLIES {
        for client in clients.iter_mut() {
            client.collect(tally)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
    use std::thread;

    use super::*;
    use crate::echo;
    use crate::exchange::Kind;

    fn bound() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("asked for v4") };
        (socket, address)
    }

    fn clients(to: SocketAddrV4, count: usize) -> Vec<Client> {
        (0..count).map(|_| Client::new(to, Kind::Echo).unwrap()).collect()
    }

    #[test]
    fn a_closed_loop_with_an_echo_loses_nothing() {
        let (socket, address) = bound();
        thread::spawn(move || echo::run(&socket));
        let load = Load::Closed { window: 8 };
        let measured =
            load.measure(&mut clients(address, 2), Pid::this(), Duration::from_millis(100)).unwrap();
        assert!(measured.replies >= 8 && measured.processor_s > 0.0, "{measured:?}");
        assert_eq!((measured.replies, measured.wrong, measured.stray), (measured.asked, 0, 0));
    }

    #[test]
    fn everybody_in_a_crowd_has_an_address_of_its_own() {
        const GOAL: u64 = 200;
        let (socket, address) = bound();
        let server = thread::spawn(move || {
            let mut seen = HashSet::new();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut packet = [0; 48];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                socket.send_to(&packet[..length], from).unwrap();
                seen.insert(from.ip());
            }
            seen.len()
        });
        let mut tally = Tally::default();
        let crowd = Some(GOAL);
        open(&mut clients(address, 1), (20_000.0, 1), crowd, Duration::from_secs(5), &mut tally).unwrap();
        assert_eq!((tally.replies >= GOAL, tally.wrong), (true, 0), "{tally:?}");
        let asked = usize::try_from(tally.asked).unwrap();
        assert_eq!(server.join().unwrap(), asked);
    }
}
