//! `driftless serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use driftless_core::server::{Prefix, Rate};
use driftless_daemon::config::DEFAULT_CONTROL as DAEMON_CONTROL;
use driftless_daemon::control::{ControlError, Request, ask};
use driftless_daemon::serve::{DEFAULT_CONTROL, Options, ServeError, serve};

use crate::server_status::screen;
use crate::{Outcome, say};

/// Arguments of `driftless serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  driftless serve --as-is --listen 127.0.0.1:11123            for guests in QEMU's user network, as 10.0.2.2:11123
  driftless serve --as-is --listen 192.168.122.1:123          for guests on libvirt's bridge, who may ask without --allow
  driftless serve --as-is --listen 192.168.5.2:123 --allow 192.168.5.0/24
  driftless serve --as-is --vsock 123                         for guests that ask ntp+vsock:host, without a network
  driftless serve --as-is --uds-dir /srv/vm                   the same for Firecracker and cloud-hypervisor, hundreds at once
  driftless serve --listen [::]:123 --allow fd00::/8          a network's server: says when it is unsynchronised
  driftless serve --status                                    how the running server is doing

Loopback and link-local clients, and private networks of this host's bridges and taps may always ask unless --deny says otherwise;
everybody else needs --allow. The longest prefix decides. The clock is only read, never set. Exit status 1 where it cannot be served.")]
pub(crate) struct Args {
    /// Where to listen; may be given several times [default: 127.0.0.1:123, unless another place is given]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// A vsock port to listen on; may be given several times
    #[arg(long, value_name = "PORT")]
    vsock: Vec<u32>,
    /// A Unix socket to listen on; may be given several times
    #[arg(long, value_name = "PATH")]
    uds: Vec<PathBuf>,
    /// A folder with hypervisors' vsock sockets: for each there is, or will be, `PATH_PORT` is listened on
    #[arg(long, value_name = "FOLDER")]
    uds_dir: Vec<PathBuf>,
    /// The vsock port that guests below --uds-dir connect to
    #[arg(long, value_name = "PORT", default_value_t = 123)]
    uds_port: u32,
    /// This host's clock, right or wrong, for the guests of this host
    #[arg(long)]
    as_is: bool,
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
    /// Loops that answer over UDP, for more than some hundred thousand requests a second
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: u16,
    /// Where the server is asked for its status, and answers
    #[arg(long, value_name = "PATH", default_value = DEFAULT_CONTROL)]
    control: PathBuf,
    /// The control socket of the daemon that keeps this host's clock, if one does
    #[arg(long, value_name = "PATH", default_value = DAEMON_CONTROL)]
    daemon: PathBuf,
    /// One packet a call, poll(2), one thread; also `DRIFTLESS_PLAIN_IO=1`
    #[arg(long)]
    plain_io: bool,
    /// Ask the running server how it is doing
    #[arg(long)]
    status: bool,
    /// With --status: everything as one line of JSON
    #[arg(long, requires = "status")]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    if args.status {
        return tell_status(&args);
    }
    driftless_daemon::log::start(false);
    let options = Options {
        listen: args.listen,
        vsock: args.vsock,
        uds: args.uds,
        uds_dir: args.uds_dir,
        uds_port: args.uds_port,
        as_is: args.as_is,
        allow: args.allow,
        deny: args.deny,
        rate: Rate { per_second: args.rate_limit, burst: args.burst },
        threads: args.threads,
        control: Some(args.control),
        daemon: args.daemon,
        plain_io: args.plain_io || std::env::var_os("DRIFTLESS_PLAIN_IO").is_some_and(|value| value == "1"),
    };
    match serve(&options) {
        Ok(_) => Outcome::Done,
        Err(error) => match &error {
            ServeError::Bind { error: cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                Outcome::NotPermitted.told(&error)
            }
            ServeError::Nowhere => Outcome::Wrong.told(&error),
            _ => Outcome::NotYet.told(&error),
        },
    }
}

fn tell_status(args: &Args) -> Outcome {
    match ask(&args.control, Request::Status) {
        Ok(status) => {
            say(&if args.json { status.to_string() } else { screen(&status) });
            if status["synchronised"] == true { Outcome::Done } else { Outcome::NotYet }
        }
        Err(ControlError::NoDaemon { path, error }) => {
            let told = format!(
                "no time server answers at {}: {error}; start one with `driftless serve`",
                path.display()
            );
            Outcome::NotYet.told(&told)
        }
        Err(error) => Outcome::NotYet.told(&error),
    }
}
