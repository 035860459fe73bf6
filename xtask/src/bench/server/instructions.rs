//! Instructions per reply by callgrind: of the program alone, since the kernel's are not seen, and the same on any machine.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::contestant::{Contestant, Programs};
use super::{Load, Trial};
use crate::packages::find;

/// Two runs that differ in length alone: what the start and the end cost cancels.
const SHORT_S: f64 = 1.0;
const LONG_S: f64 = 4.0;

/// Prints the instructions of a reply of each server of ours.
pub(super) fn run(programs: &Programs, place: &Path) -> Result<bool> {
    if find("valgrind").is_none() {
        println!("instructions: skipped, valgrind is not installed");
        return Ok(true);
    }
    let (few, fewer_replies) = count(programs, place, SHORT_S)?;
    let (many, more_replies) = count(programs, place, LONG_S)?;
    println!(
        "instructions per reply, without the kernel's: {:.0}",
        (many - few) / (more_replies - fewer_replies)
    );
    Ok(true)
}

/// Instructions and replies of a closed loop of that length, by the server's own count.
fn count(programs: &Programs, place: &Path, seconds: f64) -> Result<(f64, f64)> {
    let valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let contestant = Contestant::Driftless;
    let trial = Trial { programs, contestant, running: contestant.start(programs, place, &valgrind)? };
    trial.measure(Load::Closed, seconds, 0.0)?;
    let said = trial.running.end()?;
    let number = |text: Option<&str>| text.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let instructions =
        number(said.split("Collected : ").nth(1)).context("callgrind says what it collected")?;
    let replies =
        number(said.split("ending; ").nth(1)).context("the server says how many replies it sent")?;
    Ok((instructions, replies))
}
