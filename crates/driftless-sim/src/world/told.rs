//! What the oracle is told of the world: floors and laws, what the counter did by intention, and the references' known errors.

use driftless_core::source::{LookError, Reading};
use driftless_core::time::{Seconds, Span, WallTime};
use driftless_core::wire::{Header, NtpTimestamp};

use super::{Packet, World};
use crate::link::Law;
use crate::oracle::{KnownPath, KnownSample, Oracle};
use crate::truth::TrueTime;

impl World {
    /// Lets an oracle learn from the same samples, so that the summary has the floor.
    #[must_use]
    pub fn with_oracle(mut self) -> Self {
        let servers = self.scenario.servers.iter().zip(&self.peers).map(|(config, peer)| {
            KnownPath::new(config.path.up.jitter, config.path.down.jitter, peer.server.clock.noise())
        });
        let devices = self.devices.iter().map(|device| {
            let (_, jitter) = device.law();
            // Two stamps carry a server's noise, one a device's.
            let single = device.clock.noise() * core::f64::consts::SQRT_2;
            match device.known_noise() {
                Some(noise) => KnownPath::new(Law::None, Law::None, noise * core::f64::consts::SQRT_2),
                None => KnownPath::new(jitter, jitter, single),
            }
        });
        self.oracle = Some(Oracle::new(&self.scenario.oscillator, servers.chain(devices).collect()));
        self
    }

    /// A reply came: unless its server lies, or the path is not as usual.
    pub(super) fn tell_oracle(&mut self, index: usize, packet: &Packet) {
        let (Some(oracle), Some(peer)) = (&mut self.oracle, self.peers.get(index)) else { return };
        let is_open = self.guest.socket(index) == packet.socket;
        let floors = peer.link.usual_floors(packet.served);
        let (Some(floors), Ok(reply)) = (floors, Header::parse(&packet.data)) else { return };
        if !is_open || !peer.server.clock.tells_the_truth() || reply.stratum == 0 || reply.stratum > 15 {
            return;
        }
        let error = Seconds(peer.server.clock.error(packet.served)).to_span();
        let since = |stamp: NtpTimestamp| {
            let near = packet.served.wall() + error;
            (stamp.resolve(near) - error - TrueTime::ZERO.wall()).as_nanos()
        };
        let came = self.guest.oscillator.cleared();
        let config = &peer.link.config;
        let late = [&config.up, &config.down].into_iter().filter(|way| way.late > 0.0).map(|way| way.late_by);
        // One that was held back says nothing, but which one it was is known.
        if late
            .reduce(f64::min)
            .is_some_and(|late| Seconds::from(Span::from_nanos(came - packet.left)).0 > late)
        {
            return;
        }
        let sample = KnownSample {
            counter: (packet.left, came),
            reference: (since(reply.receive), since(reply.transmit)),
        };
        oracle.learn(index, floors, &sample);
    }

    /// A device was looked at.
    pub(super) fn tell_oracle_of_look(&mut self, device: usize, result: &Result<Reading, LookError>) {
        let (Some(oracle), Ok(reading)) = (&mut self.oracle, result) else { return };
        let Some(found) = self.devices.get(device).filter(|found| found.clock.tells_the_truth()) else {
            return;
        };
        let now = self.guest.now();
        let begun =
            self.guest.oscillator.cleared() + (reading.at.raw - now.raw - reading.width.half()).as_nanos();
        let error = Seconds(found.clock.error(self.at)).to_span();
        let shown = WallTime::from_nanos(reading.device_ns) - error - found.ahead() - TrueTime::ZERO.wall();
        let sample = KnownSample {
            counter: (begun, begun + reading.width.as_nanos()),
            reference: (shown.as_nanos(), shown.as_nanos()),
        };
        let (side, _) = found.law();
        oracle.learn(self.peers.len() + device, (side, side), &sample);
    }
}
