//! What the kernel tells of its devices (`NETLINK_KOBJECT_UEVENT`): that this machine is a copy woken from a saved state, and that a clock came or went.
//!
//! `drivers/virt/vmgenid.c` reports a new generation with `NEW_VMGENID=1`. Not every kernel does, and some log it only: see [`crate::kmsg`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::netlink;
use crate::sys::{self, Plain as _};

/// A socket on which the kernel's device events arrive.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

/// One event, as far as it matters for clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uevent {
    /// The virtual machine has another generation id than before: it was restored or copied.
    NewGeneration,
    /// A clock came: the name of its device, as in `ptp0`.
    ClockAdded(String),
    /// A clock went.
    ClockRemoved(String),
    /// Anything else.
    Other,
}

/// Where the kernel's own events are; udev's come in another group.
const KERNEL_GROUP: u32 = 1;
/// The longest event the kernel makes is 2 kB and its head.
const EVENT_MAX: usize = 4_096;

impl Uevents {
    /// Listens from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn open() -> io::Result<Self> {
        netlink::listening(libc::NETLINK_KOBJECT_UEVENT, KERNEL_GROUP).map(Self)
    }

    /// Takes one event. None where there is none more.
    ///
    /// # Errors
    /// What the system says; `ENOBUFS` where events were lost, after which it goes on.
    pub fn take(&self) -> io::Result<Option<Uevent>> {
        let mut buffer = [0; EVENT_MAX];
        match sys::recvmsg(self.as_fd(), &mut buffer) {
            Ok(received) => {
                let sender = libc::sockaddr_nl::from_storage(&received.from);
                // Only the kernel has port 0: any process may send to this group.
                let event = buffer.get(..received.length).filter(|_| sender.nl_pid == 0);
                Ok(Some(event.map_or(Uevent::Other, Uevent::parse)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Uevent {
    /// Reads `ACTION@PATH` and its fields `KEY=VALUE`, each ended by a zero byte.
    #[must_use]
    pub fn parse(event: &[u8]) -> Self {
        let fields = || event.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
        let value = |key: &str| fields().find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
        if value("NEW_VMGENID").is_some() {
            return Self::NewGeneration;
        }
        // vmclock is one of many "misc" devices; the other two have classes of their own.
        let device = value("DEVNAME").map(|name| name.trim_start_matches("/dev/").to_owned());
        let device =
            device.filter(|name| ["ptp", "rtc", "vmclock"].iter().any(|kind| name.starts_with(kind)));
        match (value("ACTION"), device) {
            (Some("add"), Some(name)) => Self::ClockAdded(name),
            (Some("remove"), Some(name)) => Self::ClockRemoved(name),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_generation_and_clocks_are_told_from_the_rest() {
        let read = |fields: &[&str]| Uevent::parse(fields.join("\0").as_bytes());
        let path = "/devices/pci0000:00/0000:00:04.0";
        assert_eq!(
            read(&["change@/x", "ACTION=change", "NEW_VMGENID=1", "SEQNUM=9", ""]),
            Uevent::NewGeneration
        );
        let ptp = ["add@/y", "ACTION=add", "DEVPATH=/y", "SUBSYSTEM=ptp", "DEVNAME=ptp1"];
        assert_eq!(read(&ptp), Uevent::ClockAdded("ptp1".to_owned()));
        let gone = ["remove@/y", "ACTION=remove", "DEVNAME=/dev/vmclock0"];
        assert_eq!(read(&gone), Uevent::ClockRemoved("vmclock0".to_owned()));
        assert_eq!(read(&[&format!("add@{path}"), "ACTION=add", "DEVNAME=sda"]), Uevent::Other);
    }

    #[test]
    fn listening_is_possible_or_refused_and_nothing_is_there_yet() {
        match Uevents::open() {
            Ok(events) => while let Ok(Some(_)) = events.take() {},
            Err(error) => eprintln!("skipped: no uevents here: {error}"),
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Uevent::parse(&bytes);
        }
    }
}
