//! A hypervisor's host: whether its guests can have its clock, and what its virtual machines' settings do to theirs.

use driftless_core::time::{Seconds, Span};
use driftless_daemon::tree::Tree;

use super::evidence::{Evidence, Live};
use super::finding::{Finding, Kind, Severity};

pub(super) static KINDS: [&Kind; 7] =
    [&CLOCKSOURCE, &NO_KVM, &GUEST_RTC, &GUEST_TIMER, &NO_RESUME, &SLEPT, &SERVES];

static CLOCKSOURCE: Kind = Kind {
    id: "host-clocksource",
    severity: Severity::Warning,
    title: "this host's clock source keeps its guests from having its clock",
    consequence: "KVM's hypercall answers only where the host counts by tsc: in the guests there is no /dev/ptp0, whatever they load",
    cure: "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource (until the next boot; clocksource=tsc on the kernel's command line for good); a nested host on kvm-clock: the same, if tsc is available there",
};
static NO_KVM: Kind = Kind {
    id: "host-without-kvm",
    severity: Severity::Note,
    title: "this host has no KVM, or may not use it",
    consequence: "its guests are translated (TCG), where no hypercall gives the host's time",
    cure: "modprobe kvm_intel or kvm_amd; nested: switch it on at the outer host; give the user the group kvm",
};
static GUEST_RTC: Kind = Kind {
    id: "host-guest-rtc",
    severity: Severity::Warning,
    title: "a guest's real-time clock is not the host's in UTC",
    consequence: "the guest boots wrong by a time zone, or its clock stands still with it when it is paused",
    cure: "libvirt: <clock offset='utc'/>; QEMU: -rtc base=utc,clock=host",
};
static GUEST_TIMER: Kind = Kind {
    id: "host-guest-timer",
    severity: Severity::Warning,
    title: "a guest has its hypervisor's clock switched off",
    consequence: "it counts by tsc with a rate that it measures itself at each boot, and finds no other clock when it loses that one",
    cure: "libvirt: no <timer name='kvmclock' present='no'/>; QEMU: no -kvmclock in -cpu",
};
static NO_RESUME: Kind = Kind {
    id: "host-no-time-after-resume",
    severity: Severity::Note,
    title: "guests that are resumed are not told the time",
    consequence: "a guest without driftless stays behind by as long as it was stopped",
    cure: "SYNC_TIME=1 in libvirt-guests' settings (needs the guest agent), virsh domtime --sync; or driftless run in the guests, which needs neither",
};
static SLEPT: Kind = Kind {
    id: "host-slept",
    severity: Severity::Note,
    title: "this host has slept",
    consequence: "each of its guests stood still as long, and was not told",
    cure: "driftless serve here tells its guests to look at each resume; driftless run in the guests finds out by itself",
};
static SERVES: Kind = Kind {
    id: "host-serves-nobody",
    severity: Severity::Note,
    title: "nobody serves the time on this host",
    consequence: "guests without a hypervisor's clock have to ask the internet, and then disagree with this host",
    cure: "driftless serve --as-is --listen ADDRESS:123 --allow NETWORK, or --vsock 123",
};

/// NTP's port as /proc/net/udp writes it.
const NTP: &str = ":007B ";
const SLEPT_FROM: Span = Span::from_secs(1);

pub(super) fn find(evidence: &Evidence) -> Vec<Finding> {
    let tree = &evidence.tree;
    let mut found = Vec::new();
    let source = tree.line("sys/devices/system/clocksource/clocksource0/current_clocksource");
    // On Arm every host counts by the same counter as its guests.
    if cfg!(target_arch = "x86_64") && source != "tsc" && !source.is_empty() {
        let nested =
            evidence.place.hypervisor.as_ref().map_or("", |_| "; this host is a virtual machine itself");
        found.push(CLOCKSOURCE.seen(format!("current_clocksource is {source}{nested}")));
    }
    if !tree.exists("dev/kvm") {
        found.push(NO_KVM.seen("there is no /dev/kvm"));
    }
    for (path, text) in tree.files("etc/libvirt/qemu", ".xml") {
        found.extend(libvirt(&path, &text));
    }
    for (process, command) in machines(tree) {
        found.extend(qemu(&process, &command));
    }
    let settings = ["etc/default/libvirt-guests", "etc/sysconfig/libvirt-guests"]
        .iter()
        .find_map(|path| Some((path, tree.text(path)?)));
    if let Some((path, text)) = settings {
        if !text.lines().any(|line| line.trim() == "SYNC_TIME=1") {
            found.push(NO_RESUME.seen(format!("/{path} has no SYNC_TIME=1")));
        }
    }
    let listens =
        |table: &str| tree.text(table).is_some_and(|text| text.lines().any(|line| line.contains(NTP)));
    let serves_streams = evidence.live.as_ref().is_some_and(|live| {
        live.programs.iter().any(|program| program.name == "driftless" && program.only_watches)
    });
    if !listens("proc/net/udp") && !listens("proc/net/udp6") && !serves_streams {
        found.push(SERVES.seen("no socket is bound to UDP port 123"));
    }
    found.extend(evidence.live.as_ref().and_then(slept));
    found
}

fn slept(live: &Live) -> Option<Finding> {
    let slept = live.slept.filter(|slept| *slept > SLEPT_FROM)?;
    Some(SLEPT.seen(format!("{} since it booted", Seconds::from(slept).to_string().trim_start_matches('+'))))
}

fn libvirt(path: &str, text: &str) -> Vec<Finding> {
    // XML as libvirt writes it: an element a line, single quotes.
    let line =
        |all: &[&str]| text.lines().map(str::trim).find(|line| all.iter().all(|part| line.contains(part)));
    let rtc = line(&["<clock ", "offset='localtime'"])
        .or_else(|| line(&["<timer ", "name='rtc'", "track='guest'"]));
    let timer = line(&["<timer ", "name='kvmclock'", "present='no'"]);
    let seen = |kind: &'static Kind, line: &str| kind.seen(format!("/{path}: {line}"));
    rtc.map(|line| seen(&GUEST_RTC, line))
        .into_iter()
        .chain(timer.map(|line| seen(&GUEST_TIMER, line)))
        .collect()
}

/// QEMUs that run: the process, and its command line with a blank between two words.
fn machines(tree: &Tree) -> Vec<(String, String)> {
    let processes =
        tree.names("proc").into_iter().filter(|name| name.bytes().all(|octet| octet.is_ascii_digit()));
    processes
        .filter(|process| tree.line(&format!("proc/{process}/comm")).starts_with("qemu-system"))
        .filter_map(|process| {
            let command = tree.text(&format!("proc/{process}/cmdline"))?.replace('\0', " ");
            Some((process, command))
        })
        .collect()
}

fn qemu(process: &str, command: &str) -> Vec<Finding> {
    let after = |option: &str| command.split(option).nth(1).and_then(|rest| rest.split(' ').next());
    let mut found = Vec::new();
    if let Some(rtc) = after(" -rtc ")
        .filter(|rtc| rtc.contains("base=localtime") || rtc.contains("clock=vm") || rtc.contains("clock=rt"))
    {
        found.push(GUEST_RTC.seen(format!("process {process}: -rtc {rtc}")));
    }
    if let Some(cpu) = after(" -cpu ").filter(|cpu| cpu.contains("-kvmclock") || cpu.contains("kvmclock=off"))
    {
        found.push(GUEST_TIMER.seen(format!("process {process}: -cpu {cpu}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::evidence::planted::{ids, machine};
    use super::*;

    const GOOD: [(&str, &str); 3] = [
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ("dev/kvm", ""),
        ("proc/net/udp", "  7: 00000000:007B 00000000:0000 07\n"),
    ];

    fn found(files: &[(&str, &str)]) -> Vec<&'static str> {
        ids(&find(&machine(&[&GOOD, files].concat(), Live::healthy()).1))
    }

    #[test]
    fn a_host_whose_clock_source_shuts_its_guests_out_is_told() {
        assert_eq!(found(&[]), [""; 0]);
        let nested = ("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n");
        if cfg!(target_arch = "x86_64") {
            assert_eq!(found(&[nested]), ["host-clocksource"]);
        }
    }

    #[test]
    fn what_guests_settings_do_to_their_clocks_is_told() {
        assert_eq!(
            found(&[("etc/libvirt/qemu/a.xml", "<domain>\n  <clock offset='localtime'>\n")]),
            ["host-guest-rtc"]
        );
        assert_eq!(
            found(&[(
                "etc/libvirt/qemu/a.xml",
                "<clock offset='utc'>\n<timer name='kvmclock' present='no'/>\n"
            )]),
            ["host-guest-timer"]
        );
        let qemu = |command: &str| {
            found(&[("proc/44/comm", "qemu-system-x86\n"), ("proc/44/cmdline", &command.replace(' ', "\0"))])
        };
        assert_eq!(qemu("qemu-system-x86_64 -rtc base=utc,clock=host -cpu host"), [""; 0]);
        assert_eq!(
            qemu("qemu-system-x86_64 -cpu host,-kvmclock -rtc base=utc,clock=vm"),
            ["host-guest-rtc", "host-guest-timer"]
        );
        assert_eq!(found(&[("etc/default/libvirt-guests", "#SYNC_TIME=1\n")]), ["host-no-time-after-resume"]);
    }
}
