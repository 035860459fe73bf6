//! What people and programs ask of the running daemon: over the control socket, and by chronyc.

use driftless_core::engine::Input;
use serde_json::Value;

use crate::chronyc::{Desk, Ordered};
use crate::civil;
use crate::control::Request;
use crate::run::Daemon;
use crate::state;

/// chronyc's requests that are taken before the rest of the daemon has its turn.
const TURN_MAX: usize = 32;

impl Daemon {
    pub(crate) fn serve_control(&mut self) {
        let Some(control) = self.control.take() else { return };
        control.serve(|request: Request| {
            if let Some(order) = request.order() {
                self.obey((order, None));
            }
            Ok(self.status())
        });
        self.control = Some(control);
    }

    pub(crate) fn serve_chronyc(&mut self, desk: Desk) {
        for _ in 0..TURN_MAX {
            let now = self.clock.now();
            let served = self.chronyc.serve(desk, || (self.engine.report(now), now.wall));
            let Some(order) = served else { return };
            // Before the next question, which may be about what came of it.
            order.into_iter().for_each(|order| self.obey(order));
        }
    }

    /// Carries an order out, whole: what is asked next sees what came of it.
    fn obey(&mut self, (order, source): Ordered) {
        self.tell(match source {
            Some(source) => Input::OrderOf { source, order },
            None => Input::Order(order),
        });
        while let Some(output) = self.engine.poll_output() {
            self.carry_out(output);
        }
    }

    /// The report as JSON, with what only this side knows.
    pub(crate) fn status(&mut self) -> Value {
        let now = self.clock.now();
        let mut report = self.engine.report(now);
        report.clocksource = Some(state::clocksource());
        report.other_writers = self.consequences.other_writers(now.raw);
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        value["last_update"] = report.last_update.map_or(Value::Null, |time| civil::rfc3339(time).into());
        if let Some(last) = &report.last_interruption {
            value["last_interruption"]["time"] = civil::rfc3339(last.at).into();
        }
        value["time"] = civil::rfc3339(now.wall).into();
        value["found"] = self.config.found.clone().into();
        value
    }
}
