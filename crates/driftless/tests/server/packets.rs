//! Good packets and bad ones.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use driftless_lab_stand::{Running, free_port, harmless};

use super::{Server, client, driftless, request, soon};

/// What each bad packet is counted as, and the packet.
fn bad_packets() -> Vec<(&'static str, Vec<u8>)> {
    let good = request(4, 3);
    let with = |more: &[u8]| [&good[..], more].concat();
    let mut bad: Vec<(&str, Vec<u8>)> =
        vec![("short", Vec::new()), ("short", vec![0x23]), ("short", good[..47].to_vec())];
    bad.extend([("long", with(&[0; 977])), ("long", with(&[0; 8_000]))]);
    bad.extend([0, 5, 6, 7].map(|version| ("version", request(version, 3).to_vec())));
    // Replies and broadcasts, as reflected or from somebody who pretends to be a server; and no mode.
    bad.extend([0, 2, 4, 5].map(|mode| ("no_request", request(4, mode).to_vec())));
    bad.extend([6, 7].map(|mode| ("control", request(2, mode).to_vec())));
    // The classic of amplification: a list of the last clients, asked for in eight octets; and a control packet of twelve.
    bad.extend([
        ("short", vec![0x17, 0, 3, 0x2a, 0, 0, 0, 0]),
        ("short", vec![0x16, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ]);
    // A field whose length is no length, one that is longer than the packet, and what is no field.
    let field = |length: u16| with(&[&[1, 4][..], &length.to_be_bytes(), &[0; 24]].concat());
    bad.extend([("extension", field(15)), ("extension", field(0xfffc)), ("extension", with(&[0; 5]))]);
    bad
}

#[test]
fn bad_packets_are_dropped_and_counted_by_reason_and_good_ones_answered_meanwhile() {
    let server = Server::start(&[]);
    let before = server.status();
    let bad = bad_packets();
    let socket = client(server.address());
    for (_, packet) in &bad {
        socket.send(packet).unwrap();
    }
    socket.send(&request(4, 3)).unwrap();
    let mut reply = [0; 100];
    assert_eq!(socket.recv(&mut reply).unwrap(), 48, "the one reply is to the one request");
    assert_eq!((reply[0], &reply[24..32]), (0x24, &b"transmit"[..]));
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(socket.recv(&mut reply).is_err());
    let after = server.status();
    for reason in ["short", "long", "version", "no_request", "control", "extension", "denied", "source"] {
        let count = |status: &serde_json::Value| status["counters"]["dropped"][reason].as_u64().unwrap();
        let expected = bad.iter().filter(|(counted_as, _)| *counted_as == reason).count();
        assert_eq!(count(&after) - count(&before), u64::try_from(expected).unwrap(), "{reason}");
    }
}

#[test]
fn each_version_is_answered_in_its_own_and_no_reply_is_longer_than_its_request() {
    let server = Server::start(&[]);
    let socket = client(server.address());
    let mut reply = [0; 1_500];
    for (first, expected) in
        [(0x08, 0x0c), (0x0b, 0x0c), (0x13, 0x14), (0x1b, 0x1c), (0x23, 0x24), (0x21, 0x22)]
    {
        let mut packet = request(4, 3);
        packet[0] = first;
        packet[2] = 9;
        socket.send(&packet).unwrap();
        assert_eq!(socket.recv(&mut reply).unwrap(), 48);
        assert_eq!(
            (reply[0], reply[1], reply[2], &reply[12..16]),
            (expected, 10, 9, &b"HOST"[..]),
            "{first:#x}"
        );
    }
    // With an authenticator, whose key nobody shares with us: a plain reply, that such a client discards.
    socket.send(&[&request(4, 3)[..], &[7; 20]].concat()).unwrap();
    assert_eq!(socket.recv(&mut reply).unwrap(), 48);
}

#[test]
fn who_is_denied_gets_nothing_and_the_longest_prefix_decides() {
    let server = Server::start(&["--deny", "127.0.0.64/26", "--allow", "127.0.0.77"]);
    for (address, expected) in [("127.0.0.1:0", true), ("127.0.0.70:0", false), ("127.0.0.77:0", true)] {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(&request(4, 3), server.address()).unwrap();
        assert_eq!(socket.recv(&mut [0; 48]).is_ok(), expected, "{address}");
    }
    assert_eq!(server.counter("dropped/denied"), 1);
}

#[test]
fn one_that_asks_too_often_is_answered_seldom_and_a_neighbour_as_always() {
    let server = Server::start(&["--rate-limit", "1", "--burst", "8"]);
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut replies = 0;
    for _ in 0..400 {
        socket.send_to(&request(4, 3), server.address()).unwrap();
    }
    while socket.recv(&mut [0; 48]).is_ok() {
        replies += 1;
    }
    assert!((8..100).contains(&replies), "{replies}");
    let neighbour = UdpSocket::bind("127.0.0.3:0").unwrap();
    neighbour.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    neighbour.send_to(&request(4, 3), server.address()).unwrap();
    assert!(neighbour.recv(&mut [0; 48]).is_ok());
    assert!(server.counter("dropped/limited") > 200);
}

#[test]
fn several_loops_share_the_addresses_and_end_together() {
    let mut server = Server::start(&["--threads", "3", "--listen", "[::1]:0"]);
    for _ in 0..100 {
        let socket = client(server.address());
        socket.send(&request(4, 3)).unwrap();
        assert!(socket.recv(&mut [0; 48]).is_ok());
    }
    let status = server.status();
    assert_eq!(
        (status["threads"].as_u64(), status["listeners"].as_array().unwrap().len()),
        (Some(3), 6),
        "{status}"
    );
    let pid = server.process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(soon("it ends", || server.process.0.try_wait().unwrap()).success());
}

#[test]
fn one_packet_a_call_serves_as_well() {
    let mut command = driftless();
    let port = free_port();
    command
        .args(["serve", "--as-is", "--listen", &format!("127.0.0.1:{port}")])
        .env("DRIFTLESS_PLAIN_IO", "1");
    let server = Server::of(command, port);
    let socket = client(server.address());
    for _ in 0..20 {
        socket.send(&request(4, 3)).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 48);
    }
}

#[test]
fn sockets_that_were_opened_for_it_are_served() {
    let handed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = handed.local_addr().unwrap().port();
    let mut command = harmless("sh");
    // By sd_listen_fds(3): the first is descriptor 3, and the process that they are for is named.
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --as-is \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_driftless")]).stdin(Stdio::from(OwnedFd::from(handed)));
    let server = Server::of(command, port);
    let places: Vec<String> = server.status()["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| listener["place"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(places, [format!("127.0.0.1:{port}")]);
}

/// A daemon that only observes keeps its own record of how far this clock is off: a server above it passes that on, so that a client's bound holds.
#[test]
fn a_networks_server_tells_what_the_daemon_on_its_host_knows() {
    let root = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("daemon.sock");
    let mut daemon = driftless();
    daemon
        .args(["run", "--observe", "--source", &format!("ntp:{}", root.address()), "--control"])
        .arg(&control);
    daemon.arg("--state-dir").arg(folder.path()).stderr(Stdio::null());
    let daemon = Running(daemon.spawn().unwrap());
    let mut command = driftless();
    let port = free_port();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--daemon"]).arg(&control);
    let server = Server::of(command, port);
    let status = soon("the daemon is synchronised", || {
        Some(server.status()).filter(|status| status["reference_id"] == "\\x7f\\x00\\x00\\x01")
    });
    assert_eq!((&status["stratum"], &status["mode"]), (&11.into(), &"network".into()), "{status}");
    let output = driftless().args(["query", "--json", &server.address().to_string()]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| answer[0][key].as_f64().unwrap();
    // Both are the same clock: all that is measured is error, and the bound must hold it.
    assert!(number("offset").abs() < number("root_distance"), "{answer}");
    assert!(number("root_distance") < 0.05, "{answer}");
    drop(daemon);
    soon("without its daemon the kernel is asked", || {
        Some(server.status()).filter(|status| status["reference_id"] != "\\x7f\\x00\\x00\\x01")
    });
}
