//! `cargo xtask bench`: what the project promises in figures, measured.

mod accuracy;
mod engine;
mod server;
mod soak;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::workspace;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Scenarios × accuracy, with chrony's figures where the scenario is the same (about half a minute)
    Accuracy(accuracy::Args),
    /// A thousand simulated weeks with random mishaps (ten minutes at most)
    Soak(soak::Args),
    /// What one sample costs the engine, in time and in instructions
    Engine,
    /// What a reply costs the server, beside a bare echo and other servers, and what it makes of too many requests
    Server(server::Args),
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    match &args.what {
        What::Accuracy(args) => accuracy::run(args),
        What::Soak(args) => soak::run(args),
        What::Engine => engine::run(),
        What::Server(args) => server::run(args),
    }
}

/// The binary as the lab boots it: built as for release.
struct Simulator(PathBuf);

impl Simulator {
    fn build() -> Result<Self> {
        eprintln!("xtask: building driftless");
        let root = workspace()?;
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--profile", "lab", "-p", "driftless"])
            .current_dir(&root)
            .env_remove("CARGO_TARGET_DIR")
            .status()
            .context("cargo")?;
        if !built.success() {
            bail!("cargo build failed");
        }
        Ok(Self(root.join("target/lab/driftless")))
    }

    /// `driftless simulate` with these arguments.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        command.arg("simulate").args(arguments).arg("--json").env("DRIFTLESS_OBSERVE", "1");
        command
    }

    /// Its result. A broken limit is part of it; a usage error is not.
    fn run(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.command(arguments).output().context("driftless simulate")?;
        if !matches!(output.status.code(), Some(0 | 1)) {
            bail!("driftless simulate {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("driftless simulate prints JSON")
    }
}
