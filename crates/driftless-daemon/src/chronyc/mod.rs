//! chronyc's questions and orders, so that what people know, and the scripts and exporters they have, work unchanged.
//!
//! chrony's command protocol is one datagram each way: on a Unix socket, where orders are taken too, and on a UDP port of loopback, where
//! questions alone are answered. Both are off unless configured.

mod packet;
mod reports;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use driftless_core::engine::Order;
use driftless_core::report::{Report, SourceReport};
use driftless_core::source::SourceId;
use driftless_core::time::WallTime;

use packet::{Address, REQUEST_MAX, Reply, Request, Status};

/// The sockets that chronyc comes to.
#[derive(Debug, Default)]
pub(crate) struct Chronyc {
    unix: Option<(UnixDatagram, PathBuf)>,
    udp: Vec<UdpSocket>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Desk {
    Unix,
    Udp(usize),
}

/// An order, and whom it is about; the whole clock or every source where nobody is named.
pub(crate) type Ordered = (Order, Option<SourceId>);

impl Chronyc {
    /// Listens as configured; what cannot be had is told once.
    pub(crate) fn listen(socket: &Path, port: u16) -> Self {
        let mut chronyc = Self::default();
        if !socket.as_os_str().is_empty() {
            match bind_unix(socket) {
                Ok(bound) => chronyc.unix = Some((bound, socket.to_owned())),
                Err(error) => log::warn!("{}: not open to chronyc: {error}", socket.display()),
            }
        }
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for ip in loopback.iter().filter(|_| port != 0) {
            match UdpSocket::bind((*ip, port)).and_then(|udp| udp.set_nonblocking(true).map(|()| udp)) {
                Ok(udp) => chronyc.udp.push(udp),
                Err(error) => log::warn!("{ip} port {port}: not open to chronyc: {error}"),
            }
        }
        chronyc
    }

    /// What to wait on.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Desk, BorrowedFd<'_>)> {
        let unix = self.unix.iter().map(|(socket, _)| (Desk::Unix, socket.as_fd()));
        unix.chain(self.udp.iter().enumerate().map(|(index, udp)| (Desk::Udp(index), udp.as_fd())))
    }

    /// Answers the next who waits at `desk`, and says what he ordered; None where nobody waits.
    pub(crate) fn serve(
        &self,
        desk: Desk,
        report: impl FnOnce() -> (Report, WallTime),
    ) -> Option<Option<Ordered>> {
        let mut buffer = [0; REQUEST_MAX];
        match desk {
            Desk::Unix => {
                let (socket, _) = self.unix.as_ref()?;
                let (length, from) = socket.recv_from(&mut buffer).ok()?;
                let (reply, order) = answer(buffer.get(..length)?, true, report);
                if let Some((reply, path)) = reply.zip(from.as_pathname()) {
                    // Whoever left before his answer has his reason.
                    let _ = socket.send_to(&reply, path);
                }
                Some(order)
            }
            Desk::Udp(index) => {
                let socket = self.udp.get(index)?;
                let (length, from) = socket.recv_from(&mut buffer).ok()?;
                let (reply, _) = answer(buffer.get(..length)?, false, report);
                if let Some(reply) = reply.filter(|reply| reply.len() <= length) {
                    let _ = socket.send_to(&reply, from);
                }
                Some(None)
            }
        }
    }
}

impl Drop for Chronyc {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.unix {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }
}

/// Takes the place of a socket that nobody serves any more, never that of a chronyd that runs.
fn bind_unix(path: &Path) -> io::Result<UnixDatagram> {
    const FOLDER_MODE: u32 = 0o750;
    const SOCKET_MODE: u32 = 0o660;
    if UnixDatagram::unbound()?.connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "chronyd, or another driftless, is there"));
    }
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The answer to a packet, and what it orders.
fn answer(
    packet: &[u8],
    may_order: bool,
    report: impl FnOnce() -> (Report, WallTime),
) -> (Option<Vec<u8>>, Option<Ordered>) {
    let request = match Request::parse(packet) {
        Ok(request) => request,
        Err(reply) => return (reply, None),
    };
    let (report, now) = report();
    if let Some(reply) = question(&request, &report, now) {
        return (Some(request.encode(&reply)), None);
    }
    let (status, order) = match command(&request, &report) {
        Err(Status::Invalid) => (Status::Invalid, None),
        _ if !may_order => (Status::Unauthorised, None),
        Ok(order) => (Status::Success, order),
        Err(status) => (status, None),
    };
    (Some(request.encode(&Reply::status(status))), order)
}

/// The reply to a question; `None` for what is none.
fn question(request: &Request<'_>, report: &Report, now: WallTime) -> Option<Reply> {
    const NULL: u16 = 0;
    let has_room_for = |data| request.has_room_for(data);
    Some(match request.command {
        NULL => Reply::status(Status::Success),
        14 => Reply::new(2).count(report.sources.len() as u64),
        15 => by_index(request, report, |source, index| reports::source_data(report, source, index)),
        33 => reports::tracking(report, now),
        34 => by_index(request, report, |source, index| reports::sourcestats(report, source, index)),
        44 => reports::activity(report),
        54 => reports::server_stats(has_room_for),
        57 => by_address(request, report, |source| reports::ntp_data(source, has_room_for)),
        65 => by_address(request, report, reports::source_name),
        69 => by_index(request, report, |source, index| reports::select_data(report, source, index)),
        // RTC, smoothing, manual input: reports of what is not had here.
        35 => Reply::status(Status::NoRtc),
        41 | 51 => Reply::status(Status::NotEnabled),
        _ => return None,
    })
}

/// What a command orders, if it is one that can be obeyed; some have nothing to do here, as there is nothing that they would write out.
fn command(request: &Request<'_>, report: &Report) -> Result<Option<Ordered>, Status> {
    const MASK: usize = 0;
    const ADDRESS: usize = 20;
    let about = |order| {
        let mask = request.address(MASK).ok_or(Status::BadLength)?;
        match request.address(ADDRESS).ok_or(Status::BadLength)? {
            Address::None => Ok(Some((order, None))),
            // A whole network's sources, which nobody has here.
            _ if !matches!(mask, Address::None | Address::Ip(_)) => Err(Status::Invalid),
            address => Ok(Some((order, Some(source_at(report, address)?)))),
        }
    };
    match request.command {
        1 => about(Order::Online),
        2 => about(Order::Offline),
        3 => about(Order::Burst),
        43 => Ok(Some((Order::MakeStep, None))),
        63 => Ok(Some((Order::Online, None))),
        // Dump, cyclelogs, reselect, refresh, reload sources: done all the time, or nothing to be done.
        6 | 37 | 48 | 53 | 70 => Ok(None),
        30 | 36 => Err(Status::NoRtc),
        4..=74 => Err(Status::Failed),
        _ => Err(Status::Invalid),
    }
}

fn by_index(request: &Request<'_>, report: &Report, of: impl FnOnce(&SourceReport, u32) -> Reply) -> Reply {
    let Some(index) = request.word(0) else { return Reply::status(Status::BadLength) };
    let source = usize::try_from(index).ok().and_then(|index| report.sources.get(index));
    source.map_or_else(|| Reply::status(Status::NoSuchSource), |source| of(source, index))
}

fn by_address(request: &Request<'_>, report: &Report, of: impl FnOnce(&SourceReport) -> Reply) -> Reply {
    let Some(address) = request.address(0) else { return Reply::status(Status::BadLength) };
    let found = source_at(report, address).ok().and_then(|id| report.sources.get(usize::from(id.0)));
    found.map_or_else(|| Reply::status(Status::NoSuchSource), of)
}

fn source_at(report: &Report, address: Address) -> Result<SourceId, Status> {
    let index = match address {
        Address::Unresolved(index) => usize::try_from(index).ok(),
        _ => report.sources.iter().position(|source| reports::network_address(source) == address),
    };
    let known = index.filter(|index| *index < report.sources.len());
    known.and_then(|index| u16::try_from(index).ok()).map(SourceId).ok_or(Status::NoSuchSource)
}
