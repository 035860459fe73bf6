//! Real clients: chronyd with and without interleaved mode, OpenNTPD. (`tests/peers.rs` has those that only need a reply.)

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use driftless_lab_stand::{Running, harmless, is_root, peer};

use super::{Server, soon};

/// Far from what two readings of one clock over loopback differ by, and far from what a wrong reading of a packet gives.
const GOOD_S: f64 = 0.01;

/// chronyd as a client that never touches the clock, asking four times a second.
fn chronyd(chronyd: &Path, server: &Server, options: &str, folder: &Path) -> Running {
    let text = format!(
        "server 127.0.0.1 port {} iburst minpoll -2 maxpoll -2 {options}\ncmdport 0\nbindcmdaddress {}\npidfile {}\n",
        server.port,
        folder.join("chronyd.sock").display(),
        folder.join("pid").display()
    );
    // It makes its socket only where nobody else may look in.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o770)).unwrap();
    let config = folder.join("chrony.conf");
    fs::write(&config, text).unwrap();
    let mut command = harmless(chronyd);
    command.args(["-x", "-d", "-u", "root", "-f"]).arg(&config);
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// What chronyc says of its one source.
fn ntpdata(chronyc: &Path, folder: &Path) -> String {
    let mut command = Command::new(chronyc);
    command.arg("-h").arg(folder.join("chronyd.sock")).args(["ntpdata", "127.0.0.1"]);
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split(':').nth(1).map(str::trim)
}

fn synchronises(options: &str, is_interleaved: &str) {
    let (Some(daemon), Some(chronyc)) = (peer("chronyd"), peer("chronyc")) else { return };
    if !is_root() {
        eprintln!("skipped: chronyd wants to be started by root");
        return;
    }
    let (server, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let _client = chronyd(&daemon, &server, options, folder.path());
    let text = soon("chronyd has exchanged a dozen packets", || {
        let text = ntpdata(&chronyc, folder.path());
        let valid = field(&text, "Total valid RX")?.parse::<u32>().ok()?;
        (valid >= 12 && field(&text, "Interleaved") == Some(is_interleaved)).then_some(text)
    });
    let offset = field(&text, "Offset").and_then(|text| text.split(' ').next()?.parse::<f64>().ok()).unwrap();
    assert!(offset.abs() < GOOD_S, "{text}");
    assert_eq!(field(&text, "Leap status"), Some("Normal"), "{text}");
    let interleaved = server.counter("interleaved");
    assert_eq!(interleaved > 5, is_interleaved == "Yes", "{interleaved}");
}

#[test]
fn chronyd_keeps_to_our_server() {
    synchronises("", "No");
}

#[test]
fn chronyd_keeps_to_our_server_in_interleaved_mode() {
    synchronises("xleave", "Yes");
}

/// OpenNTPD asks port 123 only, wants a user and folders of its own, and would steer: all of it in namespaces of its own, without the power to.
#[test]
fn openntpd_takes_our_replies() {
    let Some(daemon) = peer("openntpd") else { return };
    if !is_root() {
        eprintln!("skipped: openntpd wants to be started by root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(place("empty")).unwrap();
    fs::write(place("ntpd.conf"), "server 127.0.0.1\n").unwrap();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let own = ["_ntp", "ntpd", "openntpd"]
        .map(|name| format!("{name}:x:65533:65533::{}:/bin/false\n", place("empty")));
    fs::write(place("passwd"), users + &own.concat()).unwrap();
    let script = "ip link set lo up && mount --bind \"$2/passwd\" /etc/passwd && mount -t tmpfs none /run && mount -t tmpfs none /var/lib \
        && mkdir -p /var/lib/openntpd/run /var/lib/openntpd/db || exit 9
        \"$0\" serve --as-is --listen 127.0.0.1:123 --control /run/control &
        sleep 1; exec timeout 12 \"$1\" -d -v -f \"$2/ntpd.conf\"";
    let output = harmless("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
        .args([env!("CARGO_BIN_EXE_driftless").as_ref(), daemon.as_os_str(), folder.path().as_os_str()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(9) || text.contains("unshare failed") {
        eprintln!("skipped: no namespaces of our own here: {text}");
        return;
    }
    let offset = text
        .split("reply from 127.0.0.1: offset ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(offset.unwrap_or_else(|| panic!("{text}")).abs() < GOOD_S, "{text}");
}
