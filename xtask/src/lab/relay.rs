//! A host whose clock is off, without touching any clock: replies pass through here and their timestamps are shifted.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

/// A relay to a server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    is_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How soon it notices that it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The timestamps of a reply that the server's clock made: reference, receive, transmit (RFC 5905, 7.3).
const SHIFTED: [usize; 3] = [16, 32, 40];

impl Relay {
    /// From `listen` to `server`, both on loopback, answers shifted by `seconds`.
    pub(crate) fn start(listen: u16, server: u16, seconds: i64) -> Result<Self> {
        let near = UdpSocket::bind(("127.0.0.1", listen))?;
        let far = UdpSocket::bind(("127.0.0.1", 0))?;
        far.connect(("127.0.0.1", server))?;
        near.set_read_timeout(Some(LOOK_EVERY))?;
        far.set_read_timeout(Some(LOOK_EVERY))?;
        let is_ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_ended);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let _ = pass(&near, &far, seconds);
            }
        });
        Ok(Self { is_ended, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request and its reply.
fn pass(near: &UdpSocket, far: &UdpSocket, seconds: i64) -> std::io::Result<()> {
    let mut packet = [0; 1_024];
    let (length, client): (usize, SocketAddr) = near.recv_from(&mut packet)?;
    far.send(&packet[..length])?;
    let length = far.recv(&mut packet)?;
    shift(&mut packet[..length], seconds);
    near.send_to(&packet[..length], client).map(drop)
}

fn shift(packet: &mut [u8], seconds: i64) {
    for at in SHIFTED {
        let Some(field) = packet.get_mut(at..at + 4) else { return };
        let Ok(octets) = <[u8; 4]>::try_from(&*field) else { return };
        // Seconds of the era, which wrap (RFC 5905, 6).
        let shifted = (i64::from(u32::from_be_bytes(octets)) + seconds).rem_euclid(1 << 32);
        field.copy_from_slice(&u32::try_from(shifted).unwrap_or(0).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_timestamps_are_shifted_and_the_clients_is_not() {
        let mut packet = [0xff; 48];
        shift(&mut packet, 1_800);
        assert_eq!(packet[24..32], [0xff; 8], "origin");
        assert_eq!(packet[40..44], 1_799_u32.to_be_bytes(), "the era wraps");
        assert_eq!(packet[44..48], [0xff; 4], "its fraction");
    }
}
