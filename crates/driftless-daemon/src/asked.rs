//! What people and programs ask of the running daemon: over the control socket, and by chronyc.

use driftless_core::engine::Input;
use driftless_core::report::Report;
use serde_json::Value;

use crate::chronyc::{Desk, Ordered};
use crate::civil;
use crate::control::Request;
use crate::run::Daemon;
use crate::state;

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
        let chronyc = std::mem::take(&mut self.chronyc);
        let mut ordered = Vec::new();
        chronyc.serve(desk, || (self.report(), self.clock.now().wall), |order| ordered.push(order));
        self.chronyc = chronyc;
        ordered.into_iter().for_each(|order| self.obey(order));
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

    /// The report, with what only this side knows.
    fn report(&mut self) -> Report {
        let now = self.clock.now();
        let mut report = self.engine.report(now);
        report.clocksource = Some(state::clocksource());
        report.other_writers = self.consequences.other_writers(now.raw);
        report
    }

    /// The report as JSON.
    pub(crate) fn status(&mut self) -> Value {
        let report = self.report();
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        value["last_update"] = report.last_update.map_or(Value::Null, |time| civil::rfc3339(time).into());
        if let Some(last) = &report.last_interruption {
            value["last_interruption"]["time"] = civil::rfc3339(last.at).into();
        }
        value["time"] = civil::rfc3339(self.clock.now().wall).into();
        value["found"] = self.config.found.clone().into();
        value
    }
}
