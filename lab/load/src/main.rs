//! Puts load on a time server and prints what it made of it as a line of JSON. `cargo xtask bench server` starts it.
#![forbid(unsafe_code)]

mod client;
mod echo;
mod exchange;
mod load;

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use nix::unistd::Pid;

use client::Client;
use exchange::Kind;
use load::Load;

/// Load on a time server.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send back what comes: what any server's time per reply is compared with
    Echo {
        /// Where to listen
        listen: SocketAddrV4,
    },
    /// Ask a server
    Ask(Ask),
}

#[derive(Debug, clap::Args)]
struct Ask {
    /// The server
    to: SocketAddrV4,
    /// Its process
    #[arg(long)]
    pid: i32,
    /// It is no time server but an echo
    #[arg(long)]
    echo: bool,
    /// For how long
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Client sockets
    #[arg(long, default_value_t = 4)]
    sockets: usize,
    #[command(subcommand)]
    load: Load,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Echo { listen } => match echo::run(&UdpSocket::bind(listen)?)? {},
        Command::Ask(args) => ask(&args),
    }
}

fn ask(args: &Ask) -> Result<()> {
    let kind = if args.echo { Kind::Echo } else { Kind::Server };
    let clients = (0..args.load.sockets(args.sockets)).map(|_| Client::new(args.to, kind));
    let mut clients = clients.collect::<Result<Vec<_>>>()?;
    let length = Duration::try_from_secs_f64(args.seconds)?;
    let measured = args.load.measure(&mut clients, Pid::from_raw(args.pid), length)?;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
