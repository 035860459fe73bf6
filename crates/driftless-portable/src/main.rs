//! `driftless-serve`: the host's time server where the host is no Linux.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;

use clap::Parser;
use driftless_core::server::{Prefix, Rate};
use driftless_portable::PortableServer;

/// Serves this host's clock, right or wrong, to its guests. The clock is only read, never set.
///
/// On Linux `driftless serve` does more: streams for guests without a network, network mode, status.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  driftless-serve                                             127.0.0.1:123, which guests of QEMU's user network ask as 10.0.2.2
  driftless-serve --listen 192.168.64.1:123 --allow 192.168.64.0/24

Loopback and link-local clients may always ask unless --deny says otherwise; the longest prefix decides."
)]
struct Args {
    /// Where to listen; may be given several times [default: 127.0.0.1:123]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Clients that may ask; may be given several times
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Prefix>,
    /// Clients that may not; may be given several times
    #[arg(long, value_name = "CIDR")]
    deny: Vec<Prefix>,
    /// Requests a second that a client may send in the long run; 0 sets no limit
    #[arg(long, value_name = "N", default_value_t = Rate::default().per_second)]
    rate_limit: u16,
    /// Requests that it may send at once
    #[arg(long, value_name = "N", default_value_t = Rate::default().burst)]
    burst: u16,
    /// As `driftless serve` has it; there is no other way to serve here
    #[arg(long)]
    as_is: bool,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.listen.is_empty() {
        args.listen.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 123)));
    }
    let mut sockets = Vec::new();
    for address in &args.listen {
        match UdpSocket::bind(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
                eprintln!(
                    "driftless-serve: cannot listen on {address}: {error}; try another port with --listen"
                );
                return ExitCode::from(if denied { 3 } else { 1 });
            }
        }
    }
    let rate = Rate { per_second: args.rate_limit, burst: args.burst };
    let server = PortableServer::new(&args.allow, &args.deny, rate);
    std::thread::scope(|scope| {
        for (socket, address) in sockets.iter().zip(&args.listen) {
            eprintln!("driftless-serve: serving this host's clock as it is on {address}");
            scope.spawn(|| server.serve(socket, || true));
        }
    });
    // A socket that cannot be waited on is all that ends a server without signals.
    ExitCode::FAILURE
}
