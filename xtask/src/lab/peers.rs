//! Peers for the tests: unpacked into the lab's cache, never installed, since installing would start them here.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;

use super::bench::folder;
use crate::packages::Suite;

/// A peer's folder in the cache, the packages that make it, and where its programs lie.
type Peer = (&'static str, &'static [&'static str], &'static str);

const PEERS: [Peer; 7] = [
    ("chrony", &["chrony"], "usr/sbin"),
    ("openntpd", &["openntpd"], "usr/sbin"),
    ("ntpsec-ntpdig", &["ntpsec-ntpdig", "python3-ntp"], "usr/bin"),
    ("adjtimex", &["adjtimex"], "sbin"),
    // Not in every release; `cargo install ntpd --root .lab/cache/ntpd-rs` brings it too.
    ("ntpd-rs", &["ntpd-rs"], "usr/bin"),
    // They are only asked whether they take what `driftless provision` prints.
    ("isc-dhcp-server", &["isc-dhcp-server"], "usr/sbin"),
    (
        "dnsmasq",
        &[
            "dnsmasq-base",
            "libnetfilter-conntrack3",
            "libnfnetlink0",
            "libnftables1",
            "libnftnl11",
            "libxtables12",
        ],
        "usr/sbin",
    ),
];
/// Where packages put what speaks to their daemons.
const TOOLS: &str = "usr/bin";
/// Where cargo puts what it installs.
const INSTALLED: &str = "bin";

/// The folders of all that can be had, as `DRIFTLESS_PEERS` wants them; the others are told.
pub(crate) fn peers() -> Result<OsString> {
    let cache = folder()?.join("cache");
    fs::create_dir_all(&cache)?;
    let mut folders = Vec::new();
    for (name, packages, programs) in PEERS {
        let root = cache.join(name);
        if let Err(error) = unpack(packages, &root) {
            eprintln!("xtask: peer {name}: none ({error:#})");
        }
        folders.extend(
            [programs, TOOLS, INSTALLED]
                .map(|part| root.join(part))
                .into_iter()
                .filter(|folder| folder.is_dir()),
        );
    }
    Ok(std::env::join_paths(folders)?)
}

fn unpack(packages: &[&str], root: &Path) -> Result<()> {
    if root.exists() {
        return Ok(());
    }
    Suite::own().unpack(packages, root)?;
    // ntpdig looks for its library beside its modules or where the package would have been installed.
    let library = root.join("usr/lib/x86_64-linux-gnu/ntp");
    if let Some(file) = fs::read_dir(library).ok().and_then(|mut files| files.next()?.ok()) {
        symlink(file.path(), root.join("usr/lib/python3/dist-packages/ntp/libntpc.so"))?;
    }
    Ok(())
}
