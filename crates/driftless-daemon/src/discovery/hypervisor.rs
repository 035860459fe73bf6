//! Clocks that the hypervisor keeps, and its host's server over vsock: no network is needed, and nobody can stand between.

use std::path::Path;

use driftless_core::source::LookError;
use driftless_linux::phc::Phc;
use driftless_linux::phc_list;
use driftless_linux::vmclock::{self, VmClock};
use driftless_linux::{rtc, vsock};

use super::candidate::{Asked, Candidate, Rank};
use super::machine::Machine;

/// The hypervisor's clocks, the best first. Only those whose time and scale are known are taken without being asked for.
pub(super) fn clocks(machine: &Machine) -> Vec<Candidate> {
    let device = Path::new(vmclock::DEVICE);
    let page =
        machine.path(vmclock::DEVICE).exists().then(|| VmClock::open(device).and_then(|clock| clock.look()));
    let page = page.filter(|_| machine.is_here());
    let mut found = Vec::new();
    // A page that is only a marker is watched, not asked.
    if let Some(result) = page.filter(|result| result.as_ref().err() != Some(&LookError::NoTime)) {
        found.push(clock(
            format!("vmclock:{}", vmclock::DEVICE),
            "the hypervisor's page of time",
            result.map(drop),
        ));
    }
    for info in
        phc_list::list(&machine.path(phc_list::LIST)).into_iter().filter(|info| info.kind.is_trusted())
    {
        let spec = format!("phc:{}", info.path.display());
        let evidence = format!("{}, the hypervisor's clock", info.name);
        let result = if machine.is_here() { Phc::open(info).map(drop) } else { Ok(()) };
        found.push(clock(spec, &evidence, result));
    }
    found
}

fn clock(spec: String, evidence: &str, result: Result<(), LookError>) -> Candidate {
    let asked = result.map_or_else(|error| Asked::Silent(error.to_string()), |()| Asked::Works);
    Candidate { asked, ..Candidate::new(spec, Rank::Hypervisor, evidence) }
}

/// The host's server over vsock, where this is a guest that has one.
pub(super) fn host_channel(machine: &Machine) -> Option<Candidate> {
    let cid = vsock::guest_cid().filter(|_| machine.is_here())?;
    let evidence = format!("/dev/vsock: this guest is context {cid} of its host");
    Some(Candidate::new("ntp+vsock:host:123", Rank::HostChannel, evidence))
}

/// The real-time clock.
pub(super) fn real_time_clock(machine: &Machine) -> Option<Candidate> {
    machine.path(rtc::DEVICE).exists().then(|| {
        let evidence = "always there; its phase may be up to a second off";
        Candidate {
            asked: Asked::Works,
            ..Candidate::new(format!("rtc:{}", rtc::DEVICE), Rank::LastResort, evidence)
        }
    })
}
