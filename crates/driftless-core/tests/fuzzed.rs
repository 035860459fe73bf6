//! The fuzz targets' exercises without a fuzzer: any compiler runs them, and each run is the same.
#![forbid(unsafe_code)]

#[path = "../../../fuzz/exercises/server.rs"]
mod server;

/// xorshift64, by Marsaglia: enough to mutate with.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.throw() >> 16).unwrap_or(0) % limit.max(1)
    }

    fn octet(&mut self) -> u8 {
        self.throw().to_be_bytes()[0]
    }
}

/// A play in which most packets are good requests from near clients: mutations of that reach deeper than noise.
fn seed(dice: &mut Dice) -> Vec<u8> {
    let mut play = vec![10, 0, 0, 0, 8];
    play.extend([0; 17]);
    play.extend([8, 4]);
    for _ in 0..1 + dice.below(12) {
        // Time goes on a little; a request; from a near client's port; of 48 octets.
        play.extend([0, 0, dice.octet(), 0, 8, 7, 0x10, 1, 3, dice.octet(), 2]);
        let mut packet = [0; 48];
        packet[0] = [0x23, 0x1b, 0x21, 0x08][dice.below(4)];
        packet[24..].iter_mut().for_each(|octet| *octet = dice.octet());
        play.extend(packet);
    }
    play
}

fn mutate(play: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..dice.below(6) {
        let at = dice.below(play.len());
        match dice.below(5) {
            0 => play[at] = dice.octet(),
            1 => play[at] ^= 1 << dice.below(8),
            2 => drop(play.drain(at..(at + dice.below(60)).min(play.len()))),
            3 => play.insert(at, [0, 1, 0x7f, 0xff][dice.below(4)]),
            _ => {
                let copy = play[at..(at + 59).min(play.len())].to_vec();
                play.extend(copy);
            }
        }
        if play.is_empty() {
            play.push(dice.octet());
        }
    }
}

#[test]
fn whatever_is_played_to_the_server_a_reply_is_a_reply() {
    let mut dice = Dice(0x5eed);
    for _ in 0..4_000 {
        let mut play = seed(&mut dice);
        mutate(&mut play, &mut dice);
        server::exercise(&play);
    }
}
