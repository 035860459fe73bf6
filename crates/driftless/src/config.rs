//! `driftless config show` and `driftless config check`.

use std::path::PathBuf;

use driftless_daemon::config::{Config, ConfigError, Flags};

use crate::{Outcome, say};

/// What to do with the configuration.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print every setting in force, as a configuration file, with where each came from
    Show {
        /// Configuration file [default: /etc/driftless/driftless.toml, if it exists]
        file: Option<PathBuf>,
    },
    /// Say whether a configuration file can be used
    Check {
        /// Configuration file
        file: PathBuf,
    },
}

pub(crate) fn run(command: Command) -> Outcome {
    let (file, is_check) = match command {
        Command::Show { file } => (file, false),
        Command::Check { file } => (Some(file), true),
    };
    let flags = Flags { file, ..Flags::default() };
    let config = Config::load(&flags).and_then(|config| {
        config.source_configs().map_err(ConfigError::Spec)?;
        Ok(config)
    });
    match config {
        Ok(_) if is_check => say("the configuration is good"),
        Ok(config) => say(config.show().trim_end()),
        Err(error) => return Outcome::Wrong.told(&error),
    }
    Outcome::Done
}
