//! What tshark's dissector makes of the exchange on the wire.

use std::process::{Command, Stdio};

use driftless_lab_stand::{Running, peer};

use super::{Server, client, driftless, request, soon};

/// `PI_WARN` of Wireshark's epan/proto.h.
const WARNING: &str = "_ws.malformed || _ws.expert.severity >= 6291456";

#[test]
fn a_capture_of_requests_and_replies_dissects_without_a_warning() {
    let Some(tshark) = peer("tshark") else { return };
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exchange.pcapng");
    let mut capture = Command::new(&tshark);
    // tshark captures by a child, dumpcap, which outlives a tshark that is killed: at the worst it ends by itself.
    capture.args(["-q", "-a", "duration:60", "-i", "lo", "-f", &format!("udp port {}", server.port), "-w"]);
    capture.arg(&file);
    let mut capture = Running(capture.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let read = |filter: &str| {
        let mut read = Command::new(&tshark);
        read.args(["-d", &format!("udp.port=={},ntp", server.port), "-Y", filter, "-r"]).arg(&file);
        let output = read.stderr(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let count = |filter: &str| read(filter).lines().count();
    let socket = client(server.address());
    // Only what comes after it has begun is captured, and it writes when it likes; and it may not be allowed to.
    for _ in 0..40 {
        if count("ntp") > 0 {
            break;
        }
        if let Ok(Some(_)) = capture.0.try_wait() {
            eprintln!("skipped: tshark may not capture here");
            return;
        }
        let _ = socket.send(&request(4, 3)).and_then(|_| socket.recv(&mut [0; 48]));
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    for version in 1..=4 {
        socket.send(&request(version, 3)).unwrap();
        socket.recv(&mut [0; 48]).unwrap();
    }
    let query = ["query", &server.address().to_string(), "-n", "5", "-i", "0.05"].map(str::to_owned);
    assert!(driftless().args(query).stdout(Stdio::null()).status().unwrap().success());
    soon("all is captured", || {
        (count("ntp.flags.mode == 4 && ntp.flags.vn == 4") >= 7 && count("ntp.flags.vn < 4") >= 6)
            .then_some(())
    });
    Command::new("kill").args(["-INT", &capture.0.id().to_string()]).status().unwrap();
    capture.0.wait().unwrap();
    assert_eq!(read(WARNING), "");
    assert_eq!(count("ntp.flags.mode == 4 && ntp.stratum != 10"), 0);
    assert_eq!(count("ntp.flags.mode == 3"), count("ntp.flags.mode == 4"));
}
