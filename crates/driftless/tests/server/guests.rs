//! Guests without a network: hundreds of Unix sockets as Firecracker makes them, all at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use driftless_lab_stand::free_port;

use super::{Server, driftless, request, soon};

/// As many microVMs as a host of them has.
const GUESTS: usize = 300;

/// A microVM's folder with the hypervisor's own socket in it.
fn microvm(root: &Path, number: usize) -> (PathBuf, UnixListener) {
    let folder = root.join(format!("vm{number}"));
    fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("v.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    (folder, listener)
}

/// What the hypervisor does when its guest connects to port 123.
fn connected(folder: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(folder.join("v.sock_123")).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    Some(stream)
}

fn exchange(stream: &mut UnixStream) -> [u8; 48] {
    stream.write_all(&request(4, 3)).unwrap();
    let mut reply = [0; 48];
    stream.read_exact(&mut reply).unwrap();
    reply
}

#[test]
fn three_hundred_microvms_are_served_at_once_and_new_ones_as_they_come() {
    let root = tempfile::tempdir().unwrap();
    let mut hypervisors: BTreeMap<PathBuf, UnixListener> =
        (0..GUESTS).map(|number| microvm(root.path(), number)).collect();
    let port = free_port();
    let mut command = driftless();
    command
        .args(["serve", "--as-is", "--listen", &format!("127.0.0.1:{port}"), "--uds-dir"])
        .arg(root.path());
    let server = Server::of(command, port);
    let mut guests: Vec<UnixStream> =
        hypervisors.keys().map(|folder| soon("a microVM has its socket", || connected(folder))).collect();
    for _ in 0..2 {
        // All ask before any listens.
        guests.iter_mut().for_each(|guest| guest.write_all(&request(4, 3)).unwrap());
        for guest in &mut guests {
            let mut reply = [0; 48];
            guest.read_exact(&mut reply).unwrap();
            assert_eq!((reply[0], &reply[12..16], &reply[24..32]), (0x24, &b"HOST"[..], &b"transmit"[..]));
        }
    }
    assert_eq!(server.status()["streams"]["open"], GUESTS);
    // Fifty more start meanwhile.
    for number in GUESTS..GUESTS + 50 {
        let (folder, listener) = microvm(root.path(), number);
        let start = Instant::now();
        let mut guest = soon("a new microVM has its socket", || connected(&folder));
        exchange(&mut guest);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        hypervisors.insert(folder, listener);
    }
    // And all end: their folders go, and with them every descriptor.
    drop(guests);
    for folder in hypervisors.keys() {
        fs::remove_dir_all(folder).unwrap();
    }
    soon("nothing is left of them", || {
        let status = server.status();
        let listeners = status["listeners"].as_array().unwrap().len();
        (status["streams"]["open"] == 0 && listeners == 1 && server.descriptors() < 20).then_some(())
    });
}

#[test]
fn nonsense_on_one_stream_ends_that_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("time");
    let server = Server::start(&["--uds", path.to_str().unwrap()]);
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    };
    let (mut good, mut bad, mut slow) = (connect(), connect(), connect());
    bad.write_all(&[0xff; 48]).unwrap();
    assert_eq!(bad.read(&mut [0; 48]).unwrap(), 0, "closed");
    slow.write_all(&request(4, 3)[..20]).unwrap();
    assert_eq!(exchange(&mut good)[0], 0x24);
    slow.write_all(&request(4, 3)[20..]).unwrap();
    let mut reply = [0; 48];
    slow.read_exact(&mut reply).unwrap();
    assert_eq!(reply[0], 0x24);
    assert_eq!(server.status()["streams"]["open"], 2);
}
