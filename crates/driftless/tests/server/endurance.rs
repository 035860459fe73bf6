//! Restarts under load, and what hundreds of thousands of requests leave behind.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::{Server, client, request, soon};

/// Asks with a window, so that nothing is lost, until `count` are answered.
fn ask(server: &Server, count: u32) {
    const WINDOW: u32 = 64;
    let socket = client(server.address());
    let mut answered = 0;
    while answered < count {
        for _ in 0..WINDOW {
            socket.send(&request(4, 3)).unwrap();
        }
        for _ in 0..WINDOW {
            assert_eq!(socket.recv(&mut [0; 48]).unwrap(), 48);
            answered += 1;
        }
    }
}

#[test]
fn requests_leave_neither_memory_nor_descriptors_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("time");
    let server = Server::start(&["--uds", path.to_str().unwrap()]);
    let streams = || (0..200).map(|_| UnixStream::connect(&path).unwrap()).collect::<Vec<_>>();
    // The first ones touch what there is to touch.
    ask(&server, 20_000);
    drop(streams());
    soon("they are gone", || (server.status()["streams"]["open"] == 0).then_some(()));
    let before = (server.descriptors(), server.private_kb());
    ask(&server, 200_000);
    for _ in 0..5 {
        drop(streams());
    }
    soon("they are gone", || (server.status()["streams"]["open"] == 0).then_some(()));
    let after = (server.descriptors(), server.private_kb());
    assert_eq!(after.0, before.0);
    assert!(after.1 <= before.1 + 64, "{} kB, and {} kB before", after.1, before.1);
    assert!(after.1 < 8_000, "{} kB", after.1);
}

#[test]
fn clients_of_a_server_that_is_killed_under_load_go_on_with_the_next() {
    let mut server = Server::start(&[]);
    let (address, port) = (server.address(), server.port);
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let socket = client(address);
                socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    // Refused while nobody is there: a client asks on.
                    if socket.send(&request(4, 3)).is_ok() && socket.recv(&mut [0; 48]).is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        for _ in 0..5 {
            let reached = answered.load(Ordering::Relaxed) + 2_000;
            soon("it answers", || (answered.load(Ordering::Relaxed) > reached).then_some(()));
            server.process.0.kill().unwrap();
            server.process.0.wait().unwrap();
            let start = Instant::now();
            server = Server::start_at(port, &[]);
            let reached = answered.load(Ordering::Relaxed) + 100;
            soon("it answers again", || (answered.load(Ordering::Relaxed) > reached).then_some(()));
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
