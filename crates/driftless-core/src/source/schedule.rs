//! When a source is looked at: a poll interval within limits, and bursts of looks in quick order.

use crate::time::{RawTime, Seconds, Span};

use super::{PollExponent, SourceClass};

/// When to look at one source next.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    class: SourceClass,
    poll: PollExponent,
    /// Never below this: raised when a server asks for less, and lowered again when it bears it.
    poll_min: PollExponent,
    /// Shortest and longest as configured.
    configured: (PollExponent, PollExponent),
    /// Answers until a server that asked for less is asked a little more often again.
    patience_left: u8,
    poll_max: PollExponent,
    next: RawTime,
    burst_left: u8,
    /// Looks that bursts may still take: one more each shortest interval, so that no doubt lasts at somebody else's expense.
    credit: f64,
    /// An interval that is no power of two, where the estimator's method sets its own.
    interval: Option<Span>,
    /// When the last look began.
    last: RawTime,
    /// Looks of the present burst that are done: a clock that is near is looked at after ever longer waits.
    burst_done: u8,
    /// The present burst is about a moment, not about a rate: the host is looked at as closely as a clock that is read.
    is_pressed: bool,
    /// Waits for something that has no deadline: a lookup, or an order to go on.
    pub(crate) is_held: bool,
}

/// However often a server says RATE, it is asked every 68 minutes.
const BACK_OFF_MAX: PollExponent = PollExponent::new(12);
/// Answers without a complaint after which a server is asked twice as often again.
const RELAX_AFTER: u8 = 16;
/// Wait for a reply in a burst before the next request.
const BURST_PATIENCE: Span = Span::from_secs(1);

impl Schedule {
    /// Begins with a burst at once.
    pub(crate) fn new(
        class: SourceClass,
        (poll, poll_max): (PollExponent, PollExponent),
        now: RawTime,
    ) -> Self {
        Self {
            class,
            poll,
            poll_min: poll,
            configured: (poll, poll_max.max(poll)),
            patience_left: 0,
            poll_max: poll_max.max(poll),
            next: now,
            burst_left: Self::first_burst(class),
            credit: Self::credit_max(class),
            interval: None,
            last: now,
            burst_done: 0,
            is_pressed: true,
            is_held: false,
        }
    }

    /// Whether it is time.
    pub(crate) fn is_due(&self, now: RawTime) -> bool {
        !self.is_held && now >= self.next
    }

    /// A look has begun: the next comes after the poll interval, in a burst after the wait for an answer.
    pub(crate) fn looked(&mut self, now: RawTime) {
        self.credit = self.credit_at(now) - 1.0;
        let in_burst = self.burst_left > 0;
        self.burst_left = self.burst_left.saturating_sub(1);
        let patience = match self.class {
            SourceClass::Hypervisor | SourceClass::Rtc => self.burst_interval(),
            _ => BURST_PATIENCE.max(self.burst_interval()),
        };
        self.burst_done = if in_burst { self.burst_done.saturating_add(1) } else { 0 };
        self.last = now;
        self.next = now + if in_burst { patience } else { self.interval() };
    }

    /// The look that began at `asked` was answered: within a burst the next follows soon.
    pub(crate) fn answered(&mut self, now: RawTime, asked: RawTime) {
        if self.poll_min > self.configured.0 {
            self.patience_left = self.patience_left.saturating_sub(1);
            if self.patience_left == 0 {
                self.poll_min = self.poll_min.shorter().max(self.configured.0);
                self.poll_max = self.configured.1.max(self.poll_min);
                self.set_poll(self.poll);
                self.patience_left = RELAX_AFTER;
            }
        }
        if self.burst_left > 0 {
            self.next = now.max(asked + self.burst_interval());
        }
    }

    /// Looks `count` times in quick order, beginning soon.
    pub(crate) fn burst(&mut self, now: RawTime, count: u8) {
        let count = self.affordable(now, count);
        if self.burst_left == 0 && self.interval.is_none() && count > 0 {
            self.burst_left = count;
            self.burst_done = 0;
            self.is_pressed = false;
            self.next = self.next.min(now + self.burst_interval());
        }
    }

    /// Looks `count` times, the host after milliseconds at first: something is at stake that no rate explains.
    pub(crate) fn press(&mut self, now: RawTime, count: u8) {
        let count = self.affordable(now, count);
        if !(self.is_pressed && self.burst_left > 0) && self.interval.is_none() && count > 0 {
            self.burst_left = self.burst_left.max(count);
            self.burst_done = 0;
            self.is_pressed = true;
            self.next = self.next.min(now + self.burst_interval());
        }
    }

    /// Looks `count` times in quick order, beginning at once.
    pub(crate) fn hurry(&mut self, now: RawTime, count: u8) {
        let count = self.affordable(now, count);
        if self.interval.is_none() && count > 0 {
            self.burst_left = self.burst_left.max(count);
            self.burst_done = 0;
            self.is_pressed = false;
            self.next = self.next.min(now);
        }
    }

    /// No burst, and nothing before a whole interval is over.
    pub(crate) fn back_off(&mut self, now: RawTime) {
        self.poll_min = self.poll.longer().max(self.poll_min.longer()).min(BACK_OFF_MAX.max(self.poll_min));
        self.patience_left = RELAX_AFTER;
        self.poll_max = self.poll_max.max(self.poll_min);
        self.set_poll(self.poll_min);
        self.burst_left = 0;
        self.next = now + self.poll.interval();
    }

    /// Comes again `interval` after the last look, and so from then on.
    pub(crate) fn set_interval(&mut self, interval: Span) {
        self.interval = Some(interval);
        self.burst_left = 0;
        self.next = self.last + interval;
    }

    /// Between two looks.
    pub(crate) fn interval(&self) -> Span {
        self.interval.unwrap_or_else(|| self.poll.interval())
    }

    /// Comes again at `next`.
    pub(crate) const fn set_next(&mut self, next: RawTime) {
        self.next = next;
    }

    /// Sets the poll interval, within limits.
    pub(crate) fn set_poll(&mut self, poll: PollExponent) {
        self.poll = poll.clamp(self.poll_min, self.poll_max);
    }

    /// The poll interval in use.
    pub(crate) const fn poll(&self) -> PollExponent {
        self.poll
    }

    /// When it is time; `None` while held.
    pub(crate) fn deadline(&self) -> Option<RawTime> {
        (!self.is_held).then_some(self.next)
    }

    /// The credit with what was earned since the last look.
    fn credit_at(&self, now: RawTime) -> f64 {
        let earned = Seconds::from(now - self.last).0 / Seconds::from(self.poll_min.interval()).0;
        (self.credit + earned).min(Self::credit_max(self.class))
    }

    /// As many of `count` looks as the credit allows.
    fn affordable(&self, now: RawTime, count: u8) -> u8 {
        let credit = self.credit_at(now);
        (1..=count).rev().find(|looks| f64::from(*looks) <= credit).unwrap_or(0)
    }

    /// Looks in bursts that may follow each other closely.
    const fn credit_max(class: SourceClass) -> f64 {
        match class {
            SourceClass::Hypervisor | SourceClass::Rtc => 48.0,
            SourceClass::Host => 24.0,
            SourceClass::Network => 12.0,
            SourceClass::Public => 8.0,
        }
    }

    /// The host is near and ours: it is looked at quickly. Others are asked at most four times, 2 s apart
    /// (RFC 5905, section 13.1, `iburst`).
    const fn first_burst(class: SourceClass) -> u8 {
        match class {
            SourceClass::Hypervisor => 7,
            SourceClass::Host => 12,
            SourceClass::Rtc | SourceClass::Network | SourceClass::Public => 4,
        }
    }

    /// A clock that is read is looked at after 8 ms, 16 ms, …, half a second: with each look the frequency is known four times as well. The host's
    /// looks come as quickly only while a moment is in question: a quarter of a second apart they tell the rate.
    fn burst_interval(&self) -> Span {
        let doubling = Span::from_millis(8 << self.burst_done.min(6));
        match self.class {
            SourceClass::Hypervisor => doubling,
            SourceClass::Host if self.is_pressed => doubling.min(Span::from_millis(250)),
            SourceClass::Host => Span::from_millis(250),
            SourceClass::Rtc => Span::from_secs(1),
            SourceClass::Network | SourceClass::Public => Span::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> RawTime {
        RawTime::from_nanos(0) + Span::from_millis(millis)
    }

    /// When it is looked at until `until`, each look answered a millisecond later.
    fn looks(schedule: &mut Schedule, until: i64) -> Vec<i64> {
        let mut found = Vec::new();
        while let Some(due) = schedule.deadline().filter(|due| *due <= at(until)) {
            schedule.looked(due);
            schedule.answered(due + Span::from_millis(1), due);
            found.push((due - at(0)).as_nanos() / 1_000_000);
        }
        found
    }

    #[test]
    fn the_host_is_looked_at_within_milliseconds_when_a_moment_is_in_question() {
        let mut schedule =
            Schedule::new(SourceClass::Host, (PollExponent::new(4), PollExponent::new(4)), at(0));
        let start = [0, 16, 48, 112, 240, 490, 740, 990, 1_240, 1_490, 1_740, 1_990];
        assert_eq!(looks(&mut schedule, 2_000), start, "a start");
        looks(&mut schedule, 51_000);
        schedule.burst(at(51_000), 3);
        assert_eq!(looks(&mut schedule, 52_000), [51_250, 51_500, 51_750], "a doubt about the rate");
        looks(&mut schedule, 151_000);
        schedule.press(at(151_000), 3);
        assert_eq!(looks(&mut schedule, 152_000), [151_008, 151_024, 151_056], "a jump");
    }
}
