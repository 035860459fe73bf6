//! The engine's snapshot for observers.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::clock::Rate;
use crate::report::{LastLook, Report, SourceReport, State};
use crate::sample::Sample;
use crate::source::{DeviceKind, Endpoint, Seen, SourceId, StreamAddress};
use crate::time::{Frequency, Now, Seconds, Span};

use super::{Engine, FrequencyPrior, Source};

/// A frequency is worth keeping once it is known this well.
const WORTH_KEEPING: Frequency = Frequency(20e-6);

/// How the followed sources' samples came in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Updates {
    /// When the last one was taken in.
    last: Option<Now>,
    /// Before it, s.
    interval: Option<Seconds>,
    /// By how much it moved the offset.
    moved: Option<Seconds>,
    mean_square_s2: f64,
}

impl Updates {
    /// A sample was taken in that moved the offset by `moved`.
    pub(super) fn happened(&mut self, now: Now, moved: Option<Seconds>) {
        /// What the newest weighs in the mean: the last ten count.
        const WEIGHT: f64 = 0.1;
        self.interval = self.last.map(|last| Seconds::from(now.raw - last.raw));
        if let Some(Seconds(s)) = moved {
            let weight = if self.moved.is_none() { 1.0 } else { WEIGHT };
            self.mean_square_s2 += weight * (s * s - self.mean_square_s2);
        }
        self.moved = moved;
        self.last = Some(now);
    }
}

impl Engine {
    /// What an observer may see.
    #[must_use]
    pub fn report(&self, now: Now) -> Report {
        let followed = self.followed_source();
        let estimate = self.estimate(now);
        let last = followed.and_then(|source| source.estimator.last());
        let is_right = !matches!(self.steering.state, State::Unsynchronised | State::Acquiring);
        let upstream = followed.filter(|_| is_right);
        let rate = self.steering.rate;
        Report {
            state: self.steering.state,
            observe: self.config.observe,
            source: followed.map(|source| source.inquiry.config().name.clone()),
            stratum: upstream.map_or(16, |source| (source.inquiry.seen().stratum + 1).min(16)),
            reference_id: upstream.map(reference_id),
            leap: self.leap(),
            offset: Report::number(estimate.map(|e| e.offset)),
            offset_bound: Report::number(estimate.map(|e| e.bound)),
            frequency: estimate.map(|e| e.frequency.ppm()),
            frequency_error: estimate.map(|e| e.frequency_error.ppm()),
            tick: rate.map(|rate| rate.tick),
            kernel_frequency: rate.map(|rate| rate.frequency.ppm()),
            clocksource: None,
            root_delay: Report::number(last.map(|s| s.root_delay + s.delay)),
            root_dispersion: last.zip(estimate).map(|(s, e)| {
                let is_rtc = followed.is_some_and(Source::is_rtc);
                let unseen = if is_rtc { e.root_distance } else { s.root_dispersion + s.dispersion };
                (unseen + e.offset_error).0
            }),
            last_update: self.updates.last.map(|now| now.wall),
            last_offset: Report::number(self.updates.moved),
            rms_offset: self.updates.moved.map(|_| self.updates.mean_square_s2.sqrt()),
            update_interval: Report::number(self.updates.interval),
            steps: self.steering.steps,
            interruptions: self.disruption.count,
            last_interruption: self.disruption.last.clone(),
            other_writers: Vec::new(),
            sources: self.ids().zip(&self.sources).map(|(id, s)| self.source_report(now, id, s)).collect(),
        }
    }

    /// The frequency worth keeping over a restart, once it is known.
    #[must_use]
    pub fn learnt_frequency(&self, now: Now) -> Option<FrequencyPrior> {
        let estimate = self.estimate(now)?;
        let prior = FrequencyPrior { frequency: estimate.frequency, error: estimate.frequency_error };
        (prior.error < WORTH_KEEPING).then_some(prior)
    }

    /// The rate as it was before anything was steered.
    #[must_use]
    pub const fn found_rate(&self) -> Option<Rate> {
        self.steering.found
    }

    fn source_report(&self, now: Now, id: SourceId, source: &Source) -> SourceReport {
        let (inquiry, seen) = (&source.inquiry, source.inquiry.seen());
        let estimate = source.estimate(now);
        let phase = source.edge.and_then(|edge| edge.phase(now.raw));
        SourceReport {
            name: inquiry.config().name.clone(),
            reference_id: reference_id(source),
            address: inquiry.address().map(|to| to.to_string()),
            state: self.standing(id, source).to_owned(),
            reach: seen.reach,
            stratum: if seen.received == 0 { 16 } else { seen.stratum },
            poll: inquiry.schedule().poll().get(),
            interval: Seconds::from(inquiry.schedule().interval()).0,
            next: Report::number(
                inquiry.schedule().deadline().map(|due| Seconds::from((due - now.raw).max(Span::ZERO))),
            ),
            jitter: source.estimator.jitter().0,
            offset: Report::number(estimate.map(|e| e.offset)),
            offset_error: Report::number(estimate.map(|e| e.offset_error)),
            delay: Report::number(seen.delay),
            frequency: estimate.map(|e| e.frequency.ppm()),
            frequency_error: estimate.map(|e| e.frequency_error.ppm()),
            last: source.estimator.last().map(|sample| last_look(now, seen, sample)),
            samples: source.estimator.samples(),
            sent: seen.sent,
            received: seen.received,
            offset_bound: Report::number(estimate.map(|e| e.bound)),
            edge: source.edge.map(|edge| if edge.is_learnt() { "learnt" } else { "not-learnt" }.to_owned()),
            phase: Report::number(phase.map(|(phase, _)| phase)),
            phase_error: Report::number(phase.map(|(_, error)| error)),
        }
    }

    /// Whether a source is followed, or why not.
    fn standing(&self, id: SourceId, source: &Source) -> &'static str {
        let (inquiry, seen) = (&source.inquiry, source.inquiry.seen());
        match () {
            () if inquiry.is_offline() => "offline",
            () if seen.refused => "refused",
            () if inquiry.is_unresolved() => "unresolved",
            () if seen.unsynchronised => "unsynchronised",
            () if seen.reach == 0 => "unreachable",
            () if source.is_falseticker => "falseticker",
            () if self.followed == Some(id) => "selected",
            () if self.agreeing.contains(&id) => "combined",
            () => "candidate",
        }
    }
}

/// An IPv4 address as it is. RFC 5905 makes MD5 of an IPv6 address; a plain fold serves the only purpose, loop detection among us,
/// as well. DEPARTS: no digest for four bytes that nobody verifies.
fn reference_id(source: &Source) -> String {
    let octets = match source.inquiry.address().map(|to| to.ip()) {
        None => device_id(&source.inquiry.config().endpoint),
        Some(ip) => address_id(ip),
    };
    hexadecimal(octets)
}

fn hexadecimal(octets: [u8; 4]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02X}");
        text
    })
}

fn last_look(now: Now, seen: &Seen, sample: &Sample) -> LastLook {
    LastLook {
        age: Seconds::from(now.raw - sample.raw).0,
        offset: sample.offset.0,
        root_distance: sample.root_distance().0,
        root_delay: sample.root_delay.0,
        root_dispersion: sample.root_dispersion.0,
        leap: sample.leap,
        reference_id: (seen.reference_id != [0; 4]).then(|| hexadecimal(seen.reference_id)),
        precision: seen.precision,
        kernel_stamp: seen.kernel_stamp,
    }
}

/// Four letters that say what the clock is read from (RFC 5905, figure 12, has the same idea).
const fn device_id(endpoint: &Endpoint) -> [u8; 4] {
    match endpoint {
        Endpoint::Device { kind: DeviceKind::Phc, .. } => *b"PHC0",
        Endpoint::Device { kind: DeviceKind::VmClock, .. } => *b"VMCL",
        Endpoint::Device { kind: DeviceKind::Rtc, .. } => *b"RTC0",
        Endpoint::Stream(StreamAddress::Vsock { .. }) => *b"VSOC",
        Endpoint::Stream(StreamAddress::Unix(_)) => *b"UNIX",
        Endpoint::Udp { .. } => [0; 4],
    }
}

fn address_id(ip: IpAddr) -> [u8; 4] {
    match ip {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let mut folded = [0; 4];
            for (index, octet) in v6.octets().into_iter().enumerate() {
                folded[index % 4] ^= octet;
            }
            folded
        }
    }
}

impl Report {
    /// An optional difference as a plain number of seconds.
    fn number(seconds: Option<Seconds>) -> Option<f64> {
        seconds.map(|s| s.0)
    }
}
