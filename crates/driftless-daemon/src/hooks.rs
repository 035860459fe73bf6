//! Commands that run when this guest was interrupted and when its clock is right again, for those who must know.
//!
//! A command is a program and its arguments, no shell. It learns by its environment what happened, runs beside the loop, and is ended after
//! 10 s. With only the plainest system calls it is waited for in place, as names are looked up in place.

use std::process::{Child, Command, ExitStatus, Stdio};

use driftless_core::event::Event;
use driftless_core::report::State;
use driftless_core::time::{RawTime, Span};

/// The commands, and those that are running.
#[derive(Debug)]
pub(crate) struct Hooks {
    on_interruption: Vec<String>,
    on_synchronised: Vec<String>,
    observe: bool,
    in_place: bool,
    running: Vec<Running>,
    /// The clock was not right since the last time that this was told.
    is_news: bool,
}

#[derive(Debug)]
struct Running {
    child: Child,
    name: &'static str,
    ends: RawTime,
}

/// How long a command may take.
const PATIENCE: Span = Span::from_secs(10);
/// Commands at once at most: a guest that is interrupted again and again does not drown in them.
const RUNNING_MAX: usize = 8;

impl Hooks {
    /// With `observe` the commands are told to set nothing either; with `in_place` each is waited for.
    pub(crate) fn new(
        on_interruption: &[String],
        on_synchronised: &[String],
        observe: bool,
        in_place: bool,
    ) -> Self {
        let (on_interruption, on_synchronised) = (on_interruption.to_vec(), on_synchronised.to_vec());
        Self { on_interruption, on_synchronised, observe, in_place, running: Vec::new(), is_news: true }
    }

    /// Starts what an event calls for. `offset` is how far the clock is off now.
    pub(crate) fn heard(&mut self, now: RawTime, event: &Event, offset: impl FnOnce() -> Option<f64>) {
        match event {
            Event::Interrupted(interruption) => {
                self.is_news = true;
                let signs: Vec<String> = interruption.signs.iter().map(named).collect();
                let told = [
                    ("DRIFTLESS_OFFSET", interruption.offset.to_string()),
                    ("DRIFTLESS_JUMP", interruption.jump.to_string()),
                    ("DRIFTLESS_SIGNS", signs.join(",")),
                ];
                let command = self.on_interruption.clone();
                self.start(now, "on_interruption", &command, "interruption", &told);
            }
            // What was only a false alarm is no news.
            Event::StateChanged { state: State::Synchronised } if std::mem::take(&mut self.is_news) => {
                let told = [("DRIFTLESS_OFFSET", offset().unwrap_or(0.0).to_string())];
                let command = self.on_synchronised.clone();
                self.start(now, "on_synchronised", &command, "synchronised", &told);
            }
            Event::StateChanged { state: State::Unsynchronised | State::Holdover } => self.is_news = true,
            _ => {}
        }
    }

    /// Takes leave of those that have ended, and ends those that take too long.
    pub(crate) fn turn(&mut self, now: RawTime) {
        self.running.retain_mut(|running| match running.child.try_wait() {
            Ok(None) if now < running.ends => true,
            Ok(None) => {
                log::warn!("{}: the command takes longer than {PATIENCE} and is ended", running.name);
                // Both fail only where it ended meanwhile.
                let _ = running.child.kill();
                let _ = running.child.wait();
                false
            }
            Ok(Some(status)) => {
                told(running.name, status);
                false
            }
            Err(_) => false,
        });
    }

    /// When to come back for those that take too long.
    pub(crate) fn deadline(&self) -> Option<RawTime> {
        self.running.iter().map(|running| running.ends).min()
    }

    fn start(
        &mut self,
        now: RawTime,
        name: &'static str,
        command: &[String],
        event: &str,
        environment: &[(&str, String)],
    ) {
        let Some((program, arguments)) = command.split_first() else { return };
        if self.running.len() >= RUNNING_MAX {
            return log::warn!("{name}: {RUNNING_MAX} commands are still running: not started");
        }
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).env("DRIFTLESS_EVENT", event);
        command.envs(environment.iter().map(|(key, value)| (key, value)));
        if self.observe {
            command.env("DRIFTLESS_OBSERVE", "1");
        }
        if self.in_place {
            // A simulator of time is preloaded for us alone.
            command.env_remove("LD_PRELOAD");
        }
        match command.spawn() {
            Ok(mut child) if self.in_place => {
                if let Ok(status) = child.wait() {
                    told(name, status);
                }
            }
            Ok(child) => self.running.push(Running { child, name, ends: now + PATIENCE }),
            Err(error) => log::warn!("{name}: {program}: {error}"),
        }
    }
}

fn told(name: &str, status: ExitStatus) {
    if status.success() {
        log::debug!("{name}: done");
    } else {
        log::warn!("{name}: {status}");
    }
}

/// A sign's name, as in reports.
fn named(sign: &driftless_core::disruption::Sign) -> String {
    let name = serde_json::to_value(sign).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_core::disruption::{Interruption, Sign};
    use driftless_core::time::WallTime;
    use std::fs;
    use std::path::Path;

    const NOW: RawTime = RawTime::from_nanos(1_000);

    fn interrupted() -> Event {
        Event::Interrupted(Interruption {
            at: WallTime::from_nanos(0),
            offset: 5.25,
            jump: 5.0,
            signs: vec![Sign::RtcMoved, Sign::Push],
            settled_after: 0.1,
        })
    }

    fn command(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn writes(folder: &Path) -> Hooks {
        let write = format!(
            "echo $DRIFTLESS_EVENT $DRIFTLESS_OFFSET $DRIFTLESS_JUMP $DRIFTLESS_SIGNS $DRIFTLESS_OBSERVE >> {}/told",
            folder.display()
        );
        Hooks::new(&command(&write), &command(&write), true, true)
    }

    #[test]
    fn commands_learn_what_happened() {
        let folder = tempfile::tempdir().unwrap();
        let mut hooks = writes(folder.path());
        hooks.heard(NOW, &interrupted(), || None);
        hooks.heard(NOW, &Event::StateChanged { state: State::Synchronised }, || Some(2e-6));
        let told = fs::read_to_string(folder.path().join("told")).unwrap();
        assert_eq!(told, "interruption 5.25 5 rtc-moved,push 1\nsynchronised 0.000002 1\n");
    }

    #[test]
    fn being_right_is_news_at_first_and_after_an_interruption_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut hooks = writes(folder.path());
        let states = [State::Acquiring, State::Synchronised, State::Interrupted, State::Synchronised];
        for state in states.into_iter().chain([State::Holdover, State::Synchronised]) {
            hooks.heard(NOW, &Event::StateChanged { state }, || None);
        }
        let told = fs::read_to_string(folder.path().join("told")).unwrap();
        assert_eq!(told.lines().count(), 2, "{told}");
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_and_the_loop_does_not_wait() {
        let mut hooks = Hooks::new(&command("exec sleep 60"), &[], false, false);
        hooks.heard(NOW, &interrupted(), || None);
        let ends = hooks.deadline().unwrap();
        hooks.turn(NOW);
        assert_eq!((hooks.running.len(), ends), (1, NOW + PATIENCE));
        hooks.turn(ends);
        assert_eq!((hooks.running.len(), hooks.deadline()), (0, None));
    }

    #[test]
    fn what_cannot_be_started_or_is_not_configured_does_no_harm() {
        let mut hooks = Hooks::new(&["/nonexistent/driftless-hook".to_owned()], &[], false, false);
        hooks.heard(NOW, &interrupted(), || None);
        hooks.heard(NOW, &Event::StateChanged { state: State::Synchronised }, || None);
        assert!(hooks.running.is_empty());
        let mut busy = Hooks::new(&command("exec sleep 60"), &[], false, false);
        for _ in 0..RUNNING_MAX + 3 {
            busy.heard(NOW, &interrupted(), || None);
        }
        assert_eq!(busy.running.len(), RUNNING_MAX);
        busy.turn(NOW + PATIENCE);
    }
}
