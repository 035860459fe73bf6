//! What guests are prepared with for the doctor to find: faults as they happen, made with the programs and files that make them elsewhere.

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Shell lines that bring it about, and that take it away again.
    pub(crate) prepare: &'static str,
    pub(crate) undo: &'static str,
    /// How the doctor is called.
    pub(crate) doctor: &'static str,
    /// What it is to find: ids of findings. Nothing where all is well.
    pub(crate) expects: &'static [&'static str],
}

/// A guest that has several faults, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patient {
    pub(crate) name: &'static str,
    /// Words on the kernel's command line that decide by what it counts.
    pub(crate) counters: &'static str,
    /// A network card with a PTP clock that is none, and so the release's own QEMU.
    pub(crate) card: Option<&'static str>,
    /// Whether it has a folder of its host's.
    pub(crate) shares: bool,
    pub(crate) faults: &'static [Fault],
}

const DOCTOR: &str = "/bin/driftless doctor";
const POWERLESS: &str = "/bin/setpriv --bounding-set -sys_time --inh-caps -sys_time /bin/driftless doctor";

const fn fault(
    name: &'static str,
    (prepare, undo): (&'static str, &'static str),
    expects: &'static [&'static str],
) -> Fault {
    Fault { name, prepare, undo, doctor: DOCTOR, expects }
}

/// All is well, at first and at the end.
const HEALTHY: &str = "healthy";

/// Both guests. The second boots with what only a boot can bring about.
pub(crate) const PATIENTS: [Patient; 2] = [
    Patient { name: "guest", counters: "tsc=reliable", card: None, shares: true, faults: &FAULTS },
    Patient {
        name: "guest-unstable",
        counters: "tsc=unstable",
        card: Some("e1000e"),
        shares: false,
        faults: &OF_THE_BOOT,
    },
];

/// From the fault `nobody` to `slew` the keeper is stopped: nobody puts right what is made wrong.
const FAULTS: [Fault; 23] = [
    fault(HEALTHY, ("start", ""), &[]),
    fault(
        "two-keepers",
        (
            "/bin/chronyd -d -u root -f /etc/chrony/chrony.conf > /tmp/chronyd.log 2>&1 & other=$!; sleep 1",
            "kill $other; wait $other; stop; start",
        ),
        &["several-discipline", "keeper-stays-behind"],
    ),
    fault(
        "stepping-client",
        ("/bin/sntpc & other=$!; sleep 1", "kill $other; wait $other; stop; start"),
        &["step-prone-client"],
    ),
    fault(
        "cron-job",
        (
            "mkdir -p /etc/cron.d; echo '0 * * * * root ntpdate -s server' > /etc/cron.d/clock",
            "rm /etc/cron.d/clock",
        ),
        &["step-prone-client"],
    ),
    fault(
        "slow-clocksource",
        ("echo hpet > $counter/current_clocksource", "echo tsc > $counter/current_clocksource; settle"),
        &["clocksource-slow"],
    ),
    Fault { doctor: POWERLESS, ..fault("no-capability", ("", ""), &["cap-sys-time-missing"]) },
    fault(
        "rtc-local",
        ("printf '0.0 0 0.0\\n0\\nLOCAL\\n' > /etc/adjtime", "rm /etc/adjtime"),
        &["rtc-in-local-time"],
    ),
    fault(
        "no-device-node",
        ("mv /dev/rtc0 /dev/rtc-away", "mv /dev/rtc-away /dev/rtc0"),
        &["device-node-missing"],
    ),
    fault(
        "dhcp-unused",
        (
            "mkdir -p /var/lib/dhcp; printf 'lease {\\n  option ntp-servers 10.0.2.99;\\n}\\n' > /var/lib/dhcp/dhclient.eth0.leases",
            "rm -r /var/lib/dhcp",
        ),
        &["dhcp-servers-unused"],
    ),
    fault(
        "unit-condition",
        (
            "mkdir -p $units/multi-user.target.wants; ln -s /usr/lib/systemd/system/chrony.service $units/multi-user.target.wants; mkdir -p /usr/lib/systemd/system; printf '[Unit]\\nConditionVirtualization=no\\n' > /usr/lib/systemd/system/chrony.service",
            "rm -r $units /usr/lib/systemd/system",
        ),
        &["unit-condition-fails"],
    ),
    fault(
        "smeared-and-not",
        (
            "echo 'server 169.254.169.123' >> /etc/chrony/chrony.conf",
            "sed -i '/169.254/d' /etc/chrony/chrony.conf",
        ),
        &["smeared-and-unsmeared"],
    ),
    Fault {
        doctor: "/bin/driftless doctor --shared /tmp/share",
        ..fault(
            "shared-future",
            ("mkdir /tmp/share; touch -d @$(($(date +%s) + 3600)) /tmp/share/main.o", "rm -r /tmp/share"),
            &["shared-folder-future"],
        )
    },
    fault("nobody", ("stop", ""), &["nobody-disciplines"]),
    fault(
        "saturated",
        ("adjtimex -f 32768000 > /dev/null", "adjtimex -f 0 > /dev/null"),
        &["frequency-saturated"],
    ),
    fault("slew", ("adjtimex -o 20000000 > /dev/null", "adjtimex -o 0 > /dev/null"), &["slew-pending"]),
    fault("wrong", ("shift_clock 1234", "shift_clock -1234"), &["time-is-wrong"]),
    fault("wrong-by-zone", ("shift_clock 7200", "shift_clock -7200"), &["wrong-by-zone"]),
    Fault {
        doctor: "/bin/driftless doctor --shared /mnt",
        ..fault(
            "shared-skew",
            (
                "mkdir /mnt; mount -t 9p -o trans=virtio,version=9p2000.L,cache=none host /mnt; shift_clock 1234",
                "shift_clock -1234; umount /mnt",
            ),
            &["shared-folder-skew", "time-is-wrong"],
        )
    },
    fault("wrong-by-tai", ("shift_clock 37", "shift_clock -37"), &["wrong-by-tai"]),
    fault(
        "rtc-zone",
        ("shift_clock 7200; hwclock -w -u; shift_clock -7200", "hwclock -w -u"),
        &["rtc-off-by-zone"],
    ),
    fault(
        "user-shut-out",
        (
            "mkdir -m 777 /tmp/user; /bin/setpriv --reuid 65533 --regid 65533 --clear-groups --inh-caps +sys_time --ambient-caps +sys_time /bin/driftless run --state-dir /tmp/user --control /tmp/user/socket > /tmp/user.log 2>&1 & other=$!; sleep 1",
            "kill $other; wait $other",
        ),
        &["device-not-permitted"],
    ),
    Fault { doctor: "/bin/driftless doctor --root /", ..fault("initramfs", ("", ""), &[]) },
    fault(HEALTHY, ("start", "stop"), &[]),
];

const OF_THE_BOOT: [Fault; 2] = [
    fault("tsc-unstable", ("start", ""), &["tsc-unstable"]),
    fault("frozen-ptp-clock", ("", "stop"), &["device-implausible"]),
];

impl Patient {
    /// The shell program that has the faults, the doctor in between.
    pub(crate) fn script(&self, functions: &str) -> String {
        let mut lines = vec![
            functions.to_owned(),
            "counter=/sys/devices/system/clocksource/clocksource0".to_owned(),
            "units=/etc/systemd/system".to_owned(),
        ];
        for Fault { name, prepare, undo, doctor, .. } in self.faults {
            lines.push(format!("{prepare}\ncheck {name} {doctor}\n{undo}"));
        }
        lines.push("echo LAB-DOCTOR end\npoweroff -f\n".to_owned());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dozen_faults_and_more_are_tried_and_the_guest_is_healthy_before_and_after() {
        let all = || PATIENTS.iter().flat_map(|patient| patient.faults);
        assert!(all().filter(|fault| !fault.expects.is_empty()).count() >= 12);
        assert!([FAULTS.first(), FAULTS.last()].iter().flatten().all(|fault| fault.expects.is_empty()));
        let script = PATIENTS[0].script("");
        assert!(script.contains("check nobody /bin/driftless doctor\n"), "{script}");
    }
}
