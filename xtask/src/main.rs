//! Developers' commands. The first thing that any of them does is to give up the power over this machine's clock.
#![forbid(unsafe_code)]

mod bench;
mod demo;
mod lab;
mod leases;
mod packages;
mod picture;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developers' commands of driftless.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a real guest with a bad clock being put right (about two minutes)
    Demo(demo::Args),
    /// Everything that must hold before a commit lands
    Test(test::Args),
    /// Boot a guest with a chosen drift and measure what a client makes of it
    Lab(lab::Args),
    /// Let real DHCP clients take leases, and see that their servers are discovered (as root)
    Leases(leases::Args),
    /// Measure what is promised in figures
    Bench(bench::Args),
    /// Check the shape of the tree
    Tidy,
}

fn main() -> ExitCode {
    if let Err(error) = driftless_linux::capability::drop_sys_time() {
        eprintln!("xtask: cannot give up CAP_SYS_TIME, so nothing is run: {error}");
        return ExitCode::FAILURE;
    }
    let done = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Lab(args) => lab::run(&args),
        Command::Leases(args) => leases::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Tidy => tidy::run(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
