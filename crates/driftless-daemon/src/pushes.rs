//! What a host says unasked: a connection that means "I woke up" (`LinuxKit`'s way), the guest agent's requests about time (QEMU's), the time in a
//! datagram (libkrun's).
//!
//! Over vsock only the host itself is listened to: its context id cannot be forged. Each way is optional: without its channel it is off.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use driftless_core::event::Event;
use driftless_core::report::State;
use driftless_core::source::guest_agent::GuestAgent;
use driftless_core::source::push::{Push, time_datagram};
use driftless_core::time::{Now, RawTime, Span};
use driftless_linux::channel::{Channel, Got};
use driftless_linux::stream::{PacketStream, StreamListener, StreamPeer};
use driftless_linux::vsock::{self, TimeDatagrams};
use log::Level;

use crate::config::{Config, Origin, Setting};
use crate::place::Place;

/// Everything that a host may reach us by.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    wake: Option<StreamListener>,
    /// Who woke us, and until when they are kept waiting: they take the end of the stream for "done".
    waking: Vec<(PacketStream, RawTime)>,
    agent: Option<StreamListener>,
    agents: Vec<Agent>,
    time: Option<TimeDatagrams>,
    /// When a port without anybody at its other end is looked at again.
    next: Option<RawTime>,
}

/// A host's tool that speaks the guest agent's protocol.
#[derive(Debug)]
struct Agent {
    channel: Channel,
    protocol: GuestAgent,
}

/// What can wake the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mail {
    Wake,
    AgentListener,
    Agent(usize),
    Time,
}

/// How long somebody who woke us waits at most.
const WAKING_MAX: Span = Span::from_secs(5);
/// Connections at once at most, of each kind.
const CONNECTIONS_MAX: usize = 8;
/// Between two looks at a port with nobody at its other end.
const PORT_EVERY: Span = Span::from_secs(1);
/// A regular time datagram that differs less from our clock says nothing new.
const TIME_NEWS_MIN: Span = Span::from_millis(100);
/// Room for a read from an agent's channel.
const READ_BYTES: usize = 4_096;
/// Reads in a row.
const READS_MAX: usize = 16;

impl Pushes {
    /// Listens wherever the configuration says, and it is possible.
    pub(crate) fn listen(config: &Config) -> Self {
        let mut pushes = Self {
            wake: listener(&config.push_wake, "wake-up calls"),
            agent: listener(&config.push_guest_agent, "the guest agent's requests"),
            ..Self::default()
        };
        if let Place::Port(path) = &config.push_guest_agent.value {
            match Channel::port(path) {
                Ok(channel) => {
                    log::debug!("listening for the guest agent's requests on {}", path.display());
                    pushes.agents.push(Agent::new(channel));
                }
                Err(error) => log::warn!("{}: {error}; no guest agent's requests", path.display()),
            }
        }
        if let (Place::Vsock(vsock::TIME_PORT), true) = (&config.push_time.value, is_guest()) {
            pushes.time = TimeDatagrams::listen()
                .inspect_err(|error| log::debug!("no time datagrams can be had over vsock: {error}"))
                .ok();
        }
        pushes
    }

    /// What to wait on.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Mail, BorrowedFd<'_>)> {
        let agents = self.agents.iter().enumerate();
        (self.wake.as_ref().map(|listener| (Mail::Wake, listener.as_fd())).into_iter())
            .chain(self.agent.as_ref().map(|listener| (Mail::AgentListener, listener.as_fd())))
            .chain(agents.filter_map(|(index, agent)| Some((Mail::Agent(index), agent.channel.waitable()?))))
            .chain(self.time.as_ref().map(|datagrams| (Mail::Time, datagrams.as_fd())))
    }

    /// When to come back at the latest.
    pub(crate) fn deadline(&self) -> Option<RawTime> {
        self.waking.iter().map(|(_, until)| *until).chain(self.next).min()
    }

    /// Does what is due.
    pub(crate) fn turn(&mut self, now: RawTime) {
        self.waking.retain(|(_, until)| now < *until);
        let is_alone = self.agents.iter().any(|agent| agent.channel.waitable().is_none());
        self.next = is_alone.then(|| now + PORT_EVERY);
    }

    /// Who woke us is let go once the clock was looked after.
    pub(crate) fn heard(&mut self, event: &Event) {
        // Told after it was done, unlike the verdict.
        let is_right = matches!(event, Event::StateChanged { state: State::Synchronised });
        if is_right || matches!(event, Event::Unchanged | Event::Stepped { .. }) {
            self.waking.clear();
        }
    }

    /// Takes what came, from the last agent on, so that the places of the others stay when one goes.
    pub(crate) fn take(&mut self, mail: &[Mail], now: Now) -> Vec<Push> {
        let mut found = Vec::new();
        for mail in mail.iter().rev() {
            match *mail {
                Mail::Wake => {
                    if let Some(stream) = self.wake.as_ref().and_then(host) {
                        found.push(Push::Look);
                        self.waking.truncate(CONNECTIONS_MAX - 1);
                        self.waking.push((stream, now.raw + WAKING_MAX));
                    }
                }
                Mail::AgentListener => {
                    let stream = self.agent.as_ref().and_then(host);
                    let stream = stream.filter(|_| self.agents.len() < CONNECTIONS_MAX);
                    self.agents
                        .extend(stream.map(|stream| Agent::new(Channel::stream(OwnedFd::from(stream)))));
                }
                Mail::Agent(index) => {
                    let Some(agent) = self.agents.get_mut(index) else { continue };
                    if let Err(error) = agent.serve(now, &mut found) {
                        log::debug!("a guest agent's connection has ended: {error}");
                        self.agents.remove(index);
                    }
                }
                Mail::Time => found.extend(self.datagram(now)),
            }
        }
        found
    }

    fn datagram(&mut self, now: Now) -> Option<Push> {
        let mut buffer = [0; 16];
        match self.time.as_ref()?.recv(&mut buffer) {
            Ok(length) => news(time_datagram(buffer.get(..length?)?)?, now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                log::debug!("time datagrams are lost: {error}");
                self.time = None;
                None
            }
        }
    }
}

/// A regular message that says nothing new is none.
fn news(push: Push, now: Now) -> Option<Push> {
    let is_old = matches!(push, Push::Time(time) if (time - now.wall).abs() < TIME_NEWS_MIN);
    (!is_old).then_some(push)
}

impl Agent {
    fn new(channel: Channel) -> Self {
        Self { channel, protocol: GuestAgent::default() }
    }

    /// Answers what is asked. An error ends the connection; a port's only this turn.
    fn serve(&mut self, now: Now, found: &mut Vec<Push>) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            match self.channel.read(&mut buffer)? {
                Got::Nothing => break,
                Got::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                Got::Bytes(length) => {
                    let answer = self.protocol.take(buffer.get(..length).unwrap_or_default(), now.wall);
                    found.extend(answer.pushes);
                    // A host that does not read its replies does not get them.
                    let _ = self.channel.write(&answer.reply);
                }
            }
        }
        Ok(())
    }
}

/// Whether this machine is a guest with a host to be reached over vsock.
fn is_guest() -> bool {
    vsock::local_cid().is_ok_and(|cid| cid != vsock::HOST)
}

fn listener(place: &Setting<Place>, what: &str) -> Option<StreamListener> {
    // What nobody asked for is not missed.
    let level = if place.origin == Origin::Default { Level::Debug } else { Level::Warn };
    let place = &place.value;
    let listener = match place {
        Place::Vsock(port) if is_guest() => StreamListener::vsock(*port),
        Place::Unix(path) => StreamListener::unix(Path::new(path)),
        Place::Vsock(_) | Place::Port(_) | Place::Off => return None,
    };
    match listener {
        Ok(listener) => {
            log::debug!("listening for {what} on {place}");
            Some(listener)
        }
        Err(error) => {
            log::log!(level, "{place}: {error}; no {what}");
            None
        }
    }
}

/// Who came, if it is the host.
fn host(listener: &StreamListener) -> Option<PacketStream> {
    let (stream, peer) = listener.accept().ok()?;
    match peer {
        StreamPeer::Vsock { cid: vsock::HOST } | StreamPeer::Unix => Some(stream),
        StreamPeer::Vsock { cid } => {
            log::debug!("a connection from context id {cid}, which is not the host, is refused");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::event::StepReason;
    use driftless_core::time::WallTime;
    use driftless_linux::poll;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    const NOW: Now =
        Now { raw: RawTime::from_nanos(5), wall: WallTime::from_nanos(1_800_000_000_000_000_000) };

    fn at(path: &Path) -> Setting<Place> {
        Setting { value: Place::Unix(path.to_owned()), origin: Origin::File }
    }

    fn pushes(folder: &tempfile::TempDir) -> (Pushes, PathBuf, PathBuf) {
        let (wake, agent) = (folder.path().join("wake"), folder.path().join("agent"));
        let pushes = Pushes {
            wake: listener(&at(&wake), "wake-up calls"),
            agent: listener(&at(&agent), "requests"),
            ..Pushes::default()
        };
        (pushes, wake, agent)
    }

    fn turn(pushes: &mut Pushes) -> Vec<Push> {
        let (mail, fds): (Vec<Mail>, Vec<BorrowedFd<'_>>) = pushes.waiting().unzip();
        let ready = poll::wait(&fds, Some(Span::from_secs(2))).unwrap();
        let mail: Vec<Mail> =
            mail.into_iter().zip(ready).filter(|(_, is)| *is).map(|(mail, _)| mail).collect();
        pushes.take(&mail, NOW)
    }

    #[test]
    fn who_wakes_us_waits_until_the_clock_was_looked_after() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pushes, wake, _) = pushes(&folder);
        let step = Event::Stepped { by: Span::from_secs(60), reason: StepReason::Interruption };
        for event in [Event::Unchanged, step, Event::StateChanged { state: State::Synchronised }] {
            let mut host = UnixStream::connect(&wake).unwrap();
            assert_eq!(turn(&mut pushes), [Push::Look]);
            host.set_nonblocking(true).unwrap();
            pushes.heard(&Event::StateChanged { state: State::Interrupted });
            pushes.heard(&Event::StateChanged { state: State::Acquiring });
            assert_eq!(host.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            pushes.heard(&event);
            assert_eq!(host.read(&mut [0; 8]).unwrap(), 0, "the end says: done");
        }
        let mut host = UnixStream::connect(&wake).unwrap();
        turn(&mut pushes);
        pushes.turn(pushes.deadline().unwrap());
        assert_eq!(host.read(&mut [0; 8]).unwrap(), 0, "nobody waits for ever");
    }

    #[test]
    fn a_guest_agents_host_is_answered_and_its_time_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pushes, _, agent) = pushes(&folder);
        let mut host = UnixStream::connect(&agent).unwrap();
        assert_eq!(turn(&mut pushes), []);
        host.write_all(br#"{"execute":"guest-set-time","arguments":{"time":1800000060000000000}}"#).unwrap();
        let time = WallTime::from_nanos(1_800_000_060_000_000_000);
        assert_eq!(turn(&mut pushes), [Push::Time(time)]);
        let mut reply = [0; 64];
        let length = host.read(&mut reply).unwrap();
        assert_eq!(&reply[..length], b"{\"return\": {}}\n");
        drop(host);
        turn(&mut pushes);
        assert!(pushes.agents.is_empty());
    }

    #[test]
    fn connections_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pushes, wake, agent) = pushes(&folder);
        let hosts: Vec<UnixStream> = (0..CONNECTIONS_MAX + 3)
            .flat_map(|_| {
                let both = [&wake, &agent].map(|path| UnixStream::connect(path).unwrap());
                turn(&mut pushes);
                both
            })
            .collect();
        assert_eq!((pushes.waking.len(), pushes.agents.len()), (CONNECTIONS_MAX, CONNECTIONS_MAX));
        drop(hosts);
    }

    #[test]
    fn a_regular_message_of_the_right_time_is_no_news() {
        assert_eq!(news(Push::Time(NOW.wall + Span::from_millis(-90)), NOW), None);
        let late = Push::Time(NOW.wall + Span::from_millis(110));
        assert_eq!(news(late, NOW), Some(late));
        assert_eq!(news(Push::Look, NOW), Some(Push::Look));
    }
}
