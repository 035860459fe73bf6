//! `driftless makestep`, `burst`, `online`, `offline`: orders to the running daemon.

use driftless_daemon::control::{Request, ask};

use crate::{ControlSocket, Outcome, say};

/// Arguments of an order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  driftless makestep")]
pub(crate) struct Args {
    #[command(flatten)]
    socket: ControlSocket,
}

pub(crate) fn makestep(args: &Args) -> Outcome {
    order(args, Request::Makestep, "done: the offset is corrected as soon as it is known")
}

pub(crate) fn burst(args: &Args) -> Outcome {
    order(args, Request::Burst, "done: every source is asked several times now")
}

pub(crate) fn online(args: &Args) -> Outcome {
    order(args, Request::Online, "done: the sources are asked again")
}

pub(crate) fn offline(args: &Args) -> Outcome {
    order(args, Request::Offline, "done: nobody is asked; the learnt frequency is kept")
}

fn order(args: &Args, request: Request, done: &str) -> Outcome {
    match ask(&args.socket.control, request) {
        Ok(report) if request == Request::Makestep && report["observe"] == true => {
            Outcome::NotPermitted.told(&"the daemon only observes: it will not set the clock")
        }
        Ok(_) => {
            say(done);
            Outcome::Done
        }
        Err(error) => Outcome::NotYet.told(&error),
    }
}
