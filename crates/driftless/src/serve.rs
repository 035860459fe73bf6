//! `driftless serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use driftless_core::server::Prefix;
use driftless_daemon::serve::{Options, ServeError, serve};

use crate::Outcome;

/// Arguments of `driftless serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless serve --as-is --listen 127.0.0.1:11123            for guests in QEMU's user network, as 10.0.2.2:11123
  driftless serve --as-is --listen 192.168.5.2:123 --allow 192.168.5.0/24
  driftless serve --as-is --vsock 123                         for guests that ask ntp+vsock:host, without a network
  driftless serve --as-is --uds /run/vm/v.sock_123            the same for Firecracker and cloud-hypervisor
  driftless serve --listen [::]:123 --allow fd00::/8          a network's server: says when it is unsynchronised

Loopback and link-local clients may always ask; everybody else needs --allow. The clock is only read, never set.")]
pub(crate) struct Args {
    /// Where to listen; may be given several times [default: 127.0.0.1:123, unless --vsock or --uds is given]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// A vsock port to listen on; may be given several times
    #[arg(long, value_name = "PORT")]
    vsock: Vec<u32>,
    /// A Unix socket to listen on; may be given several times
    #[arg(long, value_name = "PATH")]
    uds: Vec<PathBuf>,
    /// This host's clock, right or wrong, for the guests of this host
    #[arg(long)]
    as_is: bool,
    /// Clients that may ask; may be given several times
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Prefix>,
}

pub(crate) fn run(args: Args) -> Outcome {
    driftless_daemon::log::start(false);
    let mut listen = args.listen;
    if listen.is_empty() && args.vsock.is_empty() && args.uds.is_empty() {
        listen.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 123)));
    }
    match serve(&Options { listen, vsock: args.vsock, uds: args.uds, as_is: args.as_is, allow: args.allow }) {
        Ok(_) => Outcome::Done,
        Err(error) => match &error {
            ServeError::Bind { error: cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                Outcome::NotPermitted.told(&error)
            }
            _ => Outcome::NotYet.told(&error),
        },
    }
}
