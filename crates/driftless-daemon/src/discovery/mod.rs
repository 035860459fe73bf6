//! Which sources to use when nobody configured any: every place where one may be found is a file here, each found source a [`Candidate`] with its rank and evidence.
//!
//! Who is named for this machine outranks who is guessed (docs/discovery.md). A server is asked once before it is relied on; a stranger on the internet is asked
//! only where somebody in charge of this machine named it; whoever smears leap seconds is never combined with those who do not.

mod candidate;
mod changes;
mod cloud;
mod cloud_init;
mod dns;
mod guess;
mod http;
mod hypervisor;
mod iso9660;
mod leases;
mod machine;
mod openstack;
mod search;
mod srv;
mod told;
mod vendor_data;

use std::net::{IpAddr, ToSocketAddrs as _};

use driftless_core::source::SourceClass;
use driftless_core::time::Span;

pub use candidate::{Asked, Candidate, RANKS, Rank, smears};
pub use leases::{Offer, offers};
pub use machine::Machine;
pub(crate) use search::Search;

use crate::query::{self, Query};
use crate::spec;

/// What was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// SPECs to use.
    pub sources: Vec<String>,
    /// Why these and no others, a line each.
    pub why: Vec<String>,
}

/// All that was found, the best first, and what of it was refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// The sources.
    pub candidates: Vec<Candidate>,
    /// What could not be understood or had, a line each.
    pub refused: Vec<String>,
}

/// How long an answer is waited for.
const PATIENCE: Span = Span::from_secs(1);
/// More servers are not asked at once, nor used together.
const ASKED_MAX: usize = 32;
const USED_MAX: usize = 8;

impl Survey {
    /// What this machine's own files and devices say: nobody is asked, and it takes no time.
    #[must_use]
    pub fn glance(machine: &Machine) -> Self {
        let mut survey = Self::default();
        let (told, refused) = told::sources(machine);
        survey.refused.extend(refused);
        survey.add(told);
        survey.add(hypervisor::clocks(machine));
        survey.add(hypervisor::host_channel(machine));
        survey.add(leases::servers(machine));
        let drive = openstack::config_drive(machine, &mut survey.refused);
        survey.add(drive);
        survey.add(cloud_init::servers(machine));
        survey.add(cloud::servers(machine));
        survey.add(guess::gateways(machine));
        survey.add(hypervisor::real_time_clock(machine));
        survey
    }

    /// As [`Self::glance`], then asks: it takes seconds, so it is an errand. Unless `is_thorough`, no more is asked than the choice needs.
    #[must_use]
    pub fn look(machine: &Machine, is_thorough: bool) -> Self {
        let mut survey = Self::glance(machine);
        let is_settled = survey.has_usable(Rank::Hypervisor);
        if !machine.is_here() || (is_settled && !is_thorough) {
            return survey;
        }
        let handed = openstack::metadata(machine, &mut survey.refused);
        survey.add(handed);
        // Whoever is told by an address does not wait for names to be looked up.
        survey.ask(|one| !one.has_name());
        if is_thorough || !survey.has_usable(Rank::Provider) {
            survey.ask(|_| true);
            survey.add(srv::servers(machine));
            survey.ask(|_| true);
        }
        if is_thorough || !survey.has_usable(Rank::Guess) {
            survey.add(guess::host_names(machine));
            survey.ask(|_| true);
        }
        survey
    }

    /// Whether something of that rank or a better one can be relied on.
    fn has_usable(&self, rank: Rank) -> bool {
        self.candidates.iter().any(|one| one.rank <= rank && one.is_usable())
    }

    /// Whether somebody named sources for this machine where nothing can change: no search finds better.
    fn is_told(&self) -> bool {
        self.candidates.first().is_some_and(|one| one.rank == Rank::Told)
    }

    /// Takes in what was found, unless it was found at a better place; a list keeps its order.
    fn add(&mut self, found: impl IntoIterator<Item = Candidate>) {
        for one in found {
            match self.candidates.iter_mut().find(|other| other.spec == one.spec) {
                Some(other) => {
                    let smears = one.smears || other.smears;
                    if one.rank < other.rank {
                        *other = one;
                    }
                    other.smears = smears;
                }
                None => self.candidates.push(one),
            }
        }
        self.candidates.sort_by_key(|one| one.rank);
    }

    /// Asks every server that is wanted and was not asked yet, once, all at the same time.
    fn ask(&mut self, is_wanted: impl Fn(&Candidate) -> bool) {
        let is_open = |one: &&mut Candidate| one.is_server() && one.asked == Asked::NotYet && is_wanted(one);
        let mut open: Vec<(&mut Candidate, Query)> = Vec::new();
        for one in self.candidates.iter_mut().filter(is_open).take(ASKED_MAX) {
            match one.query() {
                Ok(query) => open.push((one, query)),
                Err(why) => one.asked = why,
            }
        }
        let (candidates, queries): (Vec<&mut Candidate>, Vec<Query>) = open.into_iter().unzip();
        for (one, result) in candidates.into_iter().zip(query::ask_all(&queries, PATIENCE)) {
            one.asked = match result {
                Ok(answer) => Asked::Answered(Box::new(answer)),
                Err(error) => Asked::Silent(error.to_string()),
            };
        }
    }

    /// What to use. `takes_rtc`: the real-time clock is taken although there are servers to hope for.
    #[must_use]
    pub fn choose(&self, takes_rtc: bool) -> Found {
        let hopes = self.candidates.iter().any(Candidate::is_server);
        let is_allowed =
            |one: &&Candidate| one.is_usable() && (one.rank != Rank::LastResort || takes_rtc || !hopes);
        let best = self.candidates.iter().find(is_allowed);
        let sources: Vec<String> = best.map_or_else(Vec::new, |best| {
            let alike = |one: &&Candidate| one.rank == best.rank && one.smears == best.smears;
            let count = if best.rank.is_list() { USED_MAX } else { 1 };
            let used = self.candidates.iter().filter(is_allowed).filter(alike).take(count);
            used.map(|one| one.spec.clone()).collect()
        });
        let mut why: Vec<String> = self.explain(&sources).into_iter().map(|(_, line)| line).collect();
        why.extend(self.refused.iter().map(|line| format!("refused: {line}")));
        if sources.is_empty() {
            why.push("no source gives the time yet; looking again".into());
        }
        Found { sources, why }
    }

    /// For each candidate whether it is among `used`, and why, in a line.
    #[must_use]
    pub fn explain(&self, used: &[String]) -> Vec<(bool, String)> {
        let best = self.candidates.iter().find(|one| used.contains(&one.spec));
        let explain = |one: &Candidate| {
            let is_used = used.contains(&one.spec);
            let why = self.why(one, best, is_used);
            (is_used, format!("found {}: {}; {why}", one.spec, one.evidence))
        };
        self.candidates.iter().map(explain).collect()
    }

    /// Why a candidate is used or not, `best` being the first that is.
    #[must_use]
    pub fn why(&self, one: &Candidate, best: Option<&Candidate>, is_used: bool) -> String {
        match best {
            _ if is_used && one.asked == Asked::NotYet => "used: named for this machine".to_owned(),
            _ if is_used => format!("used: {}", one.asked),
            _ if !one.is_usable() => format!("not used: {}", one.asked),
            Some(best) if one.rank == best.rank && one.smears != best.smears => {
                let (does, other) =
                    if one.smears { ("smears", "does not") } else { ("does not smear", "does") };
                format!(
                    "not used: it {does} leap seconds, {} {other}, and the two are never mixed",
                    best.spec
                )
            }
            Some(best) => format!("not used: {} is better", best.spec),
            None => "not used: kept for when nothing else gives the time".to_owned(),
        }
    }
}

impl Candidate {
    /// How to ask it, or why it is not to be asked. A public server is set to be asked seldom.
    fn query(&mut self) -> Result<Query, Asked> {
        let source = spec::parse(&self.spec).map_err(|error| Asked::Refused(error.to_string()))?;
        if let driftless_core::source::Endpoint::Udp { host, port } = &source.endpoint {
            let addresses: Vec<IpAddr> = match candidate::written_address(&self.spec) {
                Some(address) => vec![address],
                None => {
                    (host.as_str(), *port).to_socket_addrs().into_iter().flatten().map(|to| to.ip()).collect()
                }
            };
            if addresses.is_empty() {
                return Err(Asked::Silent("the name leads to no address".into()));
            }
            if let Some(why) = self.stranger(&addresses) {
                return Err(Asked::Refused(why));
            }
            let is_public = |ip: &IpAddr| spec::classify(*ip, None) == SourceClass::Public;
            if source.class == SourceClass::Network
                && addresses.iter().any(is_public)
                && !self.spec.contains('?')
            {
                let (min, max) = SourceClass::Public.poll_limits();
                self.spec = format!("{}?minpoll={}&maxpoll={}", self.spec, min.get(), max.get());
            }
        }
        Query::new(&self.spec).map_err(|error| Asked::Refused(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn survey(candidates: &[(&str, Rank, Asked)]) -> Survey {
        let mut survey = Survey::default();
        survey.add(candidates.iter().map(|(spec, rank, asked)| Candidate {
            asked: asked.clone(),
            ..Candidate::new(*spec, *rank, "somewhere")
        }));
        survey
    }

    pub(super) fn silent() -> Asked {
        Asked::Silent("no answer".into())
    }

    fn chosen(survey: &Survey) -> Vec<String> {
        survey.choose(false).sources
    }

    const WORKS: Asked = Asked::Works;

    #[test]
    fn the_best_rank_that_gives_the_time_is_used_and_no_other() {
        let all = [
            ("rtc:/dev/rtc0", Rank::LastResort, WORKS),
            ("ntp:10.0.0.1", Rank::Guess, WORKS),
            ("ntp:169.254.169.254", Rank::Provider, WORKS),
            ("ntp:10.0.0.3", Rank::HandedOver, WORKS),
            ("ntp:10.0.0.4", Rank::HandedOver, WORKS),
            ("ntp+vsock:host:123", Rank::HostChannel, WORKS),
            ("phc:/dev/ptp1", Rank::Hypervisor, WORKS),
            ("phc:/dev/ptp0", Rank::Hypervisor, silent()),
            ("ntp:10.0.0.9", Rank::Told, Asked::NotYet),
        ];
        let mut expected: Vec<&[&str]> = vec![
            &["ntp:10.0.0.9"],
            &["phc:/dev/ptp1"],
            &["phc:/dev/ptp1"],
            &["ntp+vsock:host:123"],
            &["ntp:10.0.0.3", "ntp:10.0.0.4"],
            &["ntp:10.0.0.3"],
            &["ntp:169.254.169.254"],
            &["ntp:10.0.0.1"],
            &["rtc:/dev/rtc0"],
        ];
        for count in (1..=all.len()).rev() {
            assert_eq!(chosen(&survey(&all[..count])), expected.remove(0), "{count}");
        }
    }

    #[test]
    fn who_was_not_heard_is_not_relied_on() {
        for asked in [silent(), Asked::NotYet] {
            let survey =
                survey(&[("ntp:10.0.0.3", Rank::HandedOver, asked), ("ntp:10.0.0.1", Rank::Guess, WORKS)]);
            assert_eq!(chosen(&survey), ["ntp:10.0.0.1"]);
        }
    }

    #[test]
    fn the_rtc_is_the_last_resort() {
        let rtc = ("rtc:/dev/rtc0", Rank::LastResort, WORKS);
        assert_eq!(chosen(&survey(std::slice::from_ref(&rtc))), ["rtc:/dev/rtc0"]);
        let survey = survey(&[rtc, ("ntp:10.0.0.1", Rank::Guess, silent())]);
        assert!(chosen(&survey).is_empty(), "the gateway may yet answer");
        assert!(
            survey
                .choose(false)
                .why
                .iter()
                .any(|line| line.contains("rtc0") && line.contains("kept for when"))
        );
        assert_eq!(survey.choose(true).sources, ["rtc:/dev/rtc0"]);
        assert!(Survey::default().choose(true).why[0].contains("no source"));
    }

    #[test]
    fn smeared_and_unsmeared_are_never_mixed_whoever_comes_first() {
        let smeared = ("ntp:169.254.169.123", Rank::HandedOver, WORKS);
        let plain = ("ntp:10.0.0.3", Rank::HandedOver, WORKS);
        let first = survey(&[smeared.clone(), plain.clone()]);
        assert_eq!(chosen(&first), ["ntp:169.254.169.123"]);
        assert!(
            first.choose(false).why[1].contains("it does not smear leap seconds, ntp:169.254.169.123 does")
        );
        assert_eq!(chosen(&survey(&[plain, smeared])), ["ntp:10.0.0.3"]);
    }

    #[test]
    fn the_same_source_found_twice_is_one_at_its_better_place() {
        let survey =
            survey(&[("ntp:10.0.0.1", Rank::Guess, WORKS), ("ntp:10.0.0.1", Rank::HandedOver, WORKS)]);
        assert_eq!((survey.candidates.len(), survey.candidates[0].rank), (1, Rank::HandedOver));
    }

    #[test]
    fn whoever_is_known_to_smear_at_one_place_smears_at_every_other() {
        let mut survey = survey(&[("ntp:169.254.169.254", Rank::HandedOver, WORKS)]);
        survey.add([Candidate { smears: true, ..Candidate::new("ntp:169.254.169.254", Rank::Provider, "") }]);
        assert_eq!((survey.candidates[0].rank, survey.candidates[0].smears), (Rank::HandedOver, true));
    }

    #[test]
    fn every_choice_says_why() {
        let survey = Survey::glance(&Machine::here());
        let found = survey.choose(true);
        assert!(found.why.len() >= survey.candidates.len().max(1), "{found:?}");
    }

    #[test]
    fn a_stranger_is_not_asked_and_a_named_one_is_set_to_be_asked_seldom() {
        let mut survey = survey(&[("ntp:203.0.113.1", Rank::Guess, Asked::NotYet)]);
        survey.ask(|_| true);
        assert!(matches!(&survey.candidates[0].asked, Asked::Refused(why) if why.contains("public address")));
        let mut named = Candidate::new("ntp:203.0.113.1", Rank::HandedOver, "");
        assert!(named.query().is_ok());
        assert_eq!(spec::parse(&named.spec).unwrap().min_poll.get(), 6);
    }
}
