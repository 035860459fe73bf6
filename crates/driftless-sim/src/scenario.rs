//! A scenario: what the world is like, what happens in it, and what must come of it. Data, with a default for everything.

use driftless_core::engine::{Config, FrequencyPrior, Leave, Method, OtherWriter, Policy, StepPolicy};
use driftless_core::estimator::dntpd::Settings;
use driftless_core::source::{Endpoint, PollExponent, SourceClass, SourceConfig};
use driftless_core::time::Frequency;
use serde::Deserialize;

use crate::device::DeviceConfig;
use crate::hypervisor::Event;
use crate::limits::Limits;
use crate::link::LinkConfig;
use crate::oscillator::OscillatorConfig;
use crate::reference::ReferenceConfig;
use crate::server::WordsConfig;

/// Everything about one world but the seed. Times are seconds, offsets reference − local.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Number and noun, as in `201-exponential`.
    pub name: String,
    /// What it shows, in a line.
    pub about: String,
    /// How long it runs.
    pub duration: f64,
    /// From when on errors count: what comes before is finding one's feet.
    pub settle: f64,
    /// How often the true error is looked at.
    pub look: f64,
    /// How far the guest's clock is behind at the beginning.
    pub start_offset: f64,
    /// Whose clock errors are measured against, by its number; the truth's when absent.
    pub against: Option<usize>,
    /// The guest's counter.
    pub oscillator: OscillatorConfig,
    /// The guest itself.
    pub guest: GuestConfig,
    /// Who can be asked.
    #[serde(rename = "server")]
    pub servers: Vec<ServerConfig>,
    /// What can be read; sources are numbered servers first.
    #[serde(rename = "device")]
    pub devices: Vec<DeviceConfig>,
    /// What happens.
    #[serde(rename = "event")]
    pub events: Vec<Event>,
    /// What must come of it.
    pub limits: Limits,
}

/// The guest: how its daemon is configured, and how quickly it gets a processor.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestConfig {
    /// When the daemon starts, s: until then the clock runs free.
    pub starts_at: f64,
    /// Whom to believe.
    pub policy: Policy,
    /// When the clock may be stepped.
    pub step: StepPolicy,
    /// What to do about others who steer.
    pub other_writer: OtherWriter,
    /// What to leave behind.
    pub leave: Leave,
    /// How offset and frequency are estimated.
    pub method: Method,
    /// What dntpd's method polls and sets by.
    #[serde(skip)]
    pub dntpd: Settings,
    /// Only look.
    pub observe: bool,
    /// A frequency from an earlier run, ppm.
    pub prior_ppm: Option<f64>,
    /// Its standard deviation, ppm.
    pub prior_error_ppm: f64,
    /// From a timer's due time to the daemon's running: mean of an exponential, s.
    pub wake_latency: f64,
    /// From a packet's stamp to the daemon's reading it: mean of an exponential, s.
    pub read_latency: f64,
    /// The daemon looks each second whether the RTC has moved.
    pub watches_rtc: bool,
    /// The kernel gives no receive stamps.
    pub no_stamps: bool,
    /// Host's other guests take the processor away: in which part of the wake-ups and arrivals...
    pub steal_chance: f64,
    /// ... and for how long, mean of an exponential, s. An arriving packet is stamped only afterwards.
    pub steal: f64,
    /// The kernel refuses to have its clock set.
    pub unprivileged: bool,
}

/// A server and the way to it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// How near it is: polls and bursts depend on it.
    pub class: SourceClass,
    /// Shortest poll, log2 s; the class's when absent.
    pub minpoll: Option<i8>,
    /// Longest poll, log2 s; the class's when absent.
    pub maxpoll: Option<i8>,
    /// The way there and back.
    pub path: LinkConfig,
    /// What is wrong with its clock.
    pub clock: ReferenceConfig,
    /// What it says about itself.
    pub says: WordsConfig,
    /// Whose chance it has; its number's when absent. So servers can be put in another order and stay what they are.
    pub chance: Option<String>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            duration: 40_000.0,
            settle: 10_000.0,
            look: 1.0,
            start_offset: 0.05,
            against: None,
            oscillator: OscillatorConfig::default(),
            guest: GuestConfig::default(),
            servers: Vec::new(),
            devices: Vec::new(),
            events: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            class: SourceClass::Network,
            minpoll: None,
            maxpoll: None,
            path: LinkConfig::default(),
            clock: ReferenceConfig::default(),
            says: WordsConfig::default(),
            chance: None,
        }
    }
}

impl Scenario {
    /// What the engine is built from.
    #[must_use]
    pub fn engine_config(&self) -> Config {
        let prior = |ppm: f64| FrequencyPrior {
            frequency: Frequency::from_ppm(ppm),
            error: Frequency::from_ppm(self.guest.prior_error_ppm),
        };
        let servers = self.servers.iter().enumerate().map(|(index, server)| server.source(index));
        let devices = self.devices.iter().enumerate().map(|(index, device)| device.source(index));
        Config {
            sources: servers.chain(devices).collect(),
            policy: self.guest.policy,
            step: self.guest.step,
            other_writer: self.guest.other_writer,
            leave: self.guest.leave,
            method: self.guest.method,
            dntpd: self.guest.dntpd,
            observe: self.guest.observe,
            prior: self.guest.prior_ppm.map(prior),
            found: None,
        }
    }
}

impl ServerConfig {
    /// The longest and the shortest poll, log2 s.
    #[must_use]
    pub fn polls(&self) -> (PollExponent, PollExponent) {
        let (least, most) = self.class.poll_limits();
        let least = self.minpoll.map_or(least, PollExponent::new);
        (least, self.maxpoll.map_or(most, PollExponent::new).max(least))
    }

    fn source(&self, index: usize) -> SourceConfig {
        let (min_poll, max_poll) = self.polls();
        let host = format!("server{index}");
        let name = format!("ntp:{host}");
        let endpoint = Endpoint::Udp { host, port: 123 };
        SourceConfig { name, endpoint, class: self.class, min_poll, max_poll }
    }
}
