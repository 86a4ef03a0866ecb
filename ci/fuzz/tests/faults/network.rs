//! Two networks that lose, repeat, delay and corrupt frames.

use std::collections::BTreeMap;

/// xorshift64*: the same for the same seed on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.word()) * count as u128) >> 64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A frame on its way.
pub(crate) struct Flying {
    pub(crate) link: usize,
    pub(crate) to_gateway: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Frames on their way, by the step in which they arrive.
#[derive(Default)]
pub(crate) struct Network {
    flying: BTreeMap<(u64, u64), Flying>,
    number: u64,
    /// Nothing happens to frames any more.
    pub(crate) is_perfect: bool,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) corrupted: u64,
}

impl Network {
    /// Takes a frame; which byte of it was corrupted, if any.
    pub(crate) fn send(&mut self, random: &mut Random, step: u64, frame: Flying) -> Option<usize> {
        if self.is_perfect {
            self.fly(step + 1, frame);
            return None;
        }
        if random.one_in(20) {
            self.lost += 1;
            return None;
        }
        let Flying {
            link,
            to_gateway,
            mut bytes,
        } = frame;
        if random.one_in(20) {
            self.repeated += 1;
            let bytes = bytes.clone();
            let copy = Flying {
                link,
                to_gateway,
                bytes,
            };
            self.fly(step + 1 + random.below(30) as u64, copy);
        }
        // Behind the Ethernet header: the frame check sequence guards that as well, but what a router's memory
        // does to packets it does not. ARP has nothing else.
        let corrupts = random.one_in(40) && bytes.len() > 14 && bytes[12..14] != [8, 6];
        let mut corrupted = None;
        if corrupts {
            // A bit is cleared: two that are cleared on both sides of the gateway cannot make up for each other in a
            // checksum, as one cleared and one set can.
            let at = 14 + random.below(bytes.len() - 14);
            let bit = 1 << random.below(8);
            if bytes[at] & bit != 0 {
                bytes[at] &= !bit;
                self.corrupted += 1;
                corrupted = Some(at);
            }
        }
        let delay = if random.one_in(4) {
            random.below(20) as u64
        } else {
            0
        };
        let frame = Flying {
            link,
            to_gateway,
            bytes,
        };
        self.fly(step + 1 + delay, frame);
        corrupted
    }

    /// The next frame that arrives in this step or before.
    pub(crate) fn arrive(&mut self, step: u64) -> Option<Flying> {
        let entry = self.flying.first_entry()?;
        (entry.key().0 <= step).then(|| entry.remove())
    }

    fn fly(&mut self, due: u64, frame: Flying) {
        self.number += 1;
        self.flying.insert((due, self.number), frame);
    }
}
