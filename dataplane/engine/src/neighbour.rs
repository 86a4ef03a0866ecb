//! Next hops and their MAC addresses, shared by all workers.
//!
//! A neighbour is one cache line. The first word is all that an established frame reads:
//!
//! | bits | content |
//! |---|---|
//! | 16–63 | MAC address |
//! | 12–15 | link |
//! | 4–11 | generation of the slot: counts its uses for different neighbours |
//! | 0–3 | state |
//!
//! Word 1 and 2 hold the IP address (IPv4 in the low 32 bits of word 2, word 3 tells the family),
//! word 4 the second of the last confirmation and of the last solicitation.
//!
//! | from | to | by |
//! |---|---|---|
//! | FREE, or a slot long unresolved | CLAIMED | compare-and-swap, with the next generation |
//! | CLAIMED | INCOMPLETE | the claimer, when the address is written |
//! | INCOMPLETE, REACHABLE | REACHABLE | whoever hears an answer |
//! | REACHABLE | INCOMPLETE | maintenance, after unanswered probes |
//!
//! Two workers may claim two slots for one neighbour at the same time; answers fill both, so that
//! costs a slot and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hugepages::sync::{AtomicU64, Ordering};
use hugepages::{Line, Slab};

use crate::family::SPREAD;

const STATE: u64 = 0xf;
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const INCOMPLETE: u64 = 2;
const REACHABLE: u64 = 3;

/// Slots looked at from a neighbour's home on.
const PROBES: usize = 64;

/// Most neighbours a table can have: the index has 12 bits in a flow entry.
pub const MAX_NEIGHBOURS: usize = if cfg!(loom) { 4 } else { 4096 };

/// Seconds after which a confirmed neighbour is asked again.
const REPROBE_AFTER: u32 = 30;

/// Seconds for which it is asked at the address that it had; then everybody is (RFC 1122 section
/// 2.3.2.1).
const UNICAST_PROBES: u32 = 2;

/// Seconds after which an unanswering neighbour's MAC address is no longer used.
const FORGET_AFTER: u32 = 40;

/// Seconds after which an unresolved neighbour's slot may be another's.
const REUSE_AFTER: u32 = 30;

/// The table.
#[derive(Debug, Clone)]
pub struct Neighbours {
    lines: Slab<Line>,
    /// Counts the MAC addresses that were replaced or given up; see [`Neighbours::changes`].
    changes: Arc<AtomicU64>,
}

/// What an established frame needs of its next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word(u64);

impl Word {
    /// MAC address, if the neighbour is resolved.
    #[must_use]
    #[inline(always)]
    pub const fn mac(self) -> Option<[u8; 6]> {
        let [a, b, c, d, e, f, _, _] = self.0.to_be_bytes();
        if self.0 & STATE == REACHABLE {
            Some([a, b, c, d, e, f])
        } else {
            None
        }
    }

    /// Egress link.
    #[must_use]
    #[inline(always)]
    pub const fn link(self) -> u8 {
        (self.0 >> 12) as u8 & 0xf
    }

    /// Generation of the slot.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u8 {
        (self.0 >> 4) as u8
    }
}

/// A neighbour to be asked for its MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// Link to ask on.
    pub link: u8,
    /// Whom to ask.
    pub address: IpAddr,
    /// MAC address it had, to ask it alone; `None` = everybody.
    pub known: Option<[u8; 6]>,
}

impl Neighbours {
    /// A table in these lines (zero, or taken over).
    #[must_use]
    pub fn new(lines: Slab<Line>) -> Self {
        Self {
            lines,
            changes: Arc::default(),
        }
    }

    /// Counts how often a MAC address that had been told was replaced or given up. While it stays the
    /// same, every resolved [`Word`] read since holds: what workers may keep of neighbours.
    #[must_use]
    #[inline(always)]
    pub fn changes(&self) -> u64 {
        // Acquire meets the Release in `changed`: a word read from now on is at least as new.
        self.changes.load(Ordering::Acquire)
    }

    /// Release meets the Acquire in `changes`: the new word comes before.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The first word of neighbour `index`.
    #[must_use]
    #[inline(always)]
    pub fn word(&self, index: u16) -> Word {
        // Acquire meets the Release in `store_state`: a REACHABLE word's address is written.
        self.lines
            .get(usize::from(index))
            .map_or(Word(FREE), |line| Word(line.0[0].load(Ordering::Acquire)))
    }

    /// The neighbour with this address on this link, made if it is not there: its index, and its first word
    /// as of that. `None` when there is no room.
    pub fn index(&self, link: u8, address: IpAddr, second: u32) -> Option<(u16, Word)> {
        if let Some(found) = self.matching(link, address).next() {
            return Some(found);
        }
        let (free, claimed) = self
            .slots(address)
            .find_map(|index| self.claim(index, second))?;
        let line = &self.lines[usize::from(free)];
        let words = address_words(address);
        for (at, word) in words.iter().enumerate() {
            // Relaxed: published by the state below.
            line.0[1 + at].store(*word, Ordering::Relaxed);
        }
        // Not yet asked in this second, and nobody else's for a while.
        let asked = second.wrapping_sub(1);
        line.0[4].store(
            u64::from(second) << 32 | u64::from(asked),
            Ordering::Relaxed,
        );
        let word = claimed & !STATE | (u64::from(link) << 12) | INCOMPLETE;
        store_state(&line.0[0], word);
        Some((free, Word(word)))
    }

    /// Notes that `address` on `link` has this MAC address; false if nobody cares.
    pub fn learn(&self, link: u8, address: IpAddr, mac: [u8; 6], second: u32) -> bool {
        let mut cared = false;
        for (index, Word(old)) in self.matching(link, address) {
            let line = &self.lines[usize::from(index)];
            let [a, b, c, d, e, f] = mac.map(u64::from);
            let mac = a << 56 | b << 48 | c << 40 | d << 32 | e << 24 | f << 16;
            let new = mac | old & 0xfff0 | REACHABLE;
            // From the word that was matched: the slot may be another neighbour's by now. Release meets
            // the Acquire in `word`.
            let learned = new == old
                || line.0[0]
                    .compare_exchange(old, new, Ordering::Release, Ordering::Relaxed)
                    .is_ok();
            if learned && old & STATE == REACHABLE && new != old {
                self.changed();
            }
            if learned {
                line.0[4].store(
                    u64::from(second) << 32 | u64::from(second.wrapping_sub(1)),
                    Ordering::Relaxed,
                );
                cared = true;
            }
        }
        cared
    }

    /// Whether neighbour `index`, unresolved, should be asked now: at most once a second, by one
    /// worker (RFC 4861 section 10: RETRANS_TIMER; RFC 1122 section 2.3.2.1 for ARP).
    #[must_use]
    pub fn solicit(&self, index: u16, second: u32) -> Option<Solicitation> {
        let line = self.lines.get(usize::from(index))?;
        let times = line.0[4].load(Ordering::Relaxed);
        if times as u32 == second {
            return None;
        }
        let now = times & !0xffff_ffff | u64::from(second);
        line.0[4]
            .compare_exchange(times, now, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        let (link, address) = self.identity(index)?;
        Some(Solicitation {
            link,
            address,
            known: self.word(index).mac(),
        })
    }

    /// Looks after `count` slots from `cursor` on, which moves along and wraps: neighbours not
    /// confirmed for a while are asked again, and given up when they do not answer.
    pub fn maintain(
        &self,
        cursor: &mut usize,
        count: usize,
        second: u32,
        mut ask: impl FnMut(Solicitation),
    ) {
        for _ in 0..count.min(self.lines.len()) {
            *cursor = if *cursor >= self.lines.len() {
                0
            } else {
                *cursor
            };
            let index = *cursor as u16;
            *cursor += 1;
            let line = &self.lines[usize::from(index)];
            let word = line.0[0].load(Ordering::Relaxed);
            if word & STATE != REACHABLE {
                continue;
            }
            let confirmed = (line.0[4].load(Ordering::Relaxed) >> 32) as u32;
            let idle = second.saturating_sub(confirmed);
            if idle > FORGET_AFTER {
                // A failed exchange means somebody has just heard of it: then it stays.
                let given_up = line.0[0].compare_exchange(
                    word,
                    word & !STATE | INCOMPLETE,
                    Ordering::Release,
                    Ordering::Relaxed,
                );
                if given_up.is_ok() {
                    self.changed();
                }
            } else if idle > REPROBE_AFTER
                && let Some(mut solicitation) = self.solicit(index, second)
            {
                if idle > REPROBE_AFTER + UNICAST_PROBES {
                    solicitation.known = None;
                }
                ask(solicitation);
            }
        }
    }

    /// Link and address of a neighbour in use.
    #[must_use]
    pub fn identity(&self, index: u16) -> Option<(u8, IpAddr)> {
        self.identity_with_word(index)
            .map(|(link, address, _)| (link, address))
    }

    fn identity_with_word(&self, index: u16) -> Option<(u8, IpAddr, Word)> {
        let word = self.word(index);
        let line = self.lines.get(usize::from(index))?;
        if word.0 & STATE < INCOMPLETE {
            return None;
        }
        let words = [1, 2, 3].map(|at| line.0[at].load(Ordering::Relaxed));
        Some((word.link(), address_of(words), word))
    }

    /// After a crash: frees what was claimed and not finished. Only while no worker runs.
    pub fn recover(&self) {
        for line in self.lines.iter() {
            let word = line.0[0].load(Ordering::Relaxed);
            if word & STATE == CLAIMED {
                let generation = (word >> 4).wrapping_add(1) & 0xff;
                store_state(&line.0[0], generation << 4 | FREE);
            }
        }
    }

    /// Forgets everything, in a way that flows notice. Only while no worker runs.
    pub fn clear(&self) {
        for line in self.lines.iter() {
            let generation = (line.0[0].load(Ordering::Relaxed) >> 4).wrapping_add(1) & 0xff;
            store_state(&line.0[0], generation << 4 | FREE);
            line.0[4].store(0, Ordering::Relaxed);
        }
        self.changed();
    }

    /// Number of slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.lines.len()
    }

    /// Slots in use that hold this neighbour, with the word that said so.
    fn matching(&self, link: u8, address: IpAddr) -> impl Iterator<Item = (u16, Word)> + '_ {
        self.slots(address).filter_map(move |index| {
            let (at, on, word) = self.identity_with_word(index)?;
            ((at, on) == (link, address)).then_some((index, word))
        })
    }

    /// Where a neighbour may lie, its home first.
    fn slots(&self, address: IpAddr) -> impl Iterator<Item = u16> + use<> {
        let len = self.lines.len().min(MAX_NEIGHBOURS);
        let [high, low, _] = address_words(address);
        let home = ((high ^ low).wrapping_mul(SPREAD) >> 40) as usize;
        (0..PROBES.min(len)).map(move |step| ((home + step) % len) as u16)
    }

    /// Claims a slot that is free or long unresolved; returns its word.
    fn claim(&self, index: u16, second: u32) -> Option<(u16, u64)> {
        let line = &self.lines[usize::from(index)];
        let old = line.0[0].load(Ordering::Relaxed);
        let asked = (line.0[4].load(Ordering::Relaxed)) as u32;
        let reusable = match old & STATE {
            FREE => true,
            INCOMPLETE => second.saturating_sub(asked) > REUSE_AFTER,
            _ => false,
        };
        let claimed = ((old >> 4).wrapping_add(1) & 0xff) << 4 | CLAIMED;
        (reusable
            && line.0[0]
                .compare_exchange(old, claimed, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok())
        .then_some((index, claimed))
    }
}

/// Release meets the Acquire in `word`.
fn store_state(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

/// Words 1 to 3 of a neighbour.
fn address_words(address: IpAddr) -> [u64; 3] {
    match address {
        IpAddr::V4(v4) => [0, u64::from(v4.to_bits()), 4],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64, 6],
    }
}

fn address_of([high, low, family]: [u64; 3]) -> IpAddr {
    if family == 4 {
        Ipv4Addr::from(low as u32).into()
    } else {
        Ipv6Addr::from((u128::from(high) << 64) | u128::from(low)).into()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_neighbour_is_asked_once_a_second_until_it_answers() {
        let table = Neighbours::new(Slab::heap(64));
        let (index, word) = table.index(3, address("10.0.0.7"), 100).unwrap();
        assert_eq!(
            table.index(3, address("10.0.0.7"), 100),
            Some((index, word))
        );
        assert_eq!(table.word(index).mac(), None);
        assert_eq!(
            table.solicit(index, 100).unwrap().address,
            address("10.0.0.7")
        );
        assert_eq!(table.solicit(index, 100), None);
        assert!(table.solicit(index, 101).is_some());
        assert!(
            !table.learn(2, address("10.0.0.7"), [1; 6], 101),
            "another link"
        );
        assert!(table.learn(3, address("10.0.0.7"), [1, 2, 3, 4, 5, 6], 101));
        assert_eq!(table.word(index).mac(), Some([1, 2, 3, 4, 5, 6]));
        assert_eq!(table.word(index).link(), 3);
    }

    #[test]
    fn a_silent_neighbour_is_asked_again_and_then_given_up() {
        let table = Neighbours::new(Slab::heap(64));
        let v6 = address("2001:db8::7");
        let (index, _) = table.index(1, v6, 0).unwrap();
        table.learn(1, v6, [2; 6], 0);
        let maintain = |second| {
            let mut asked = Vec::new();
            table.maintain(&mut 0, 64, second, |solicitation| asked.push(solicitation));
            asked
        };
        assert_eq!(maintain(30), []);
        let expected = Solicitation {
            link: 1,
            address: v6,
            known: Some([2; 6]),
        };
        assert_eq!(maintain(31), [expected]);
        let everybody = Solicitation {
            known: None,
            ..expected
        };
        assert_eq!(maintain(33), [everybody]);
        assert_eq!(maintain(41), []);
        assert_eq!(table.word(index).mac(), None);
    }

    #[test]
    fn a_full_table_gives_slots_of_the_long_unresolved_to_others_under_a_new_generation() {
        let table = Neighbours::new(Slab::heap(4));
        for last in 0..4u32 {
            let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + last));
            let (index, _) = table.index(0, address, 10).unwrap();
            assert!(table.solicit(index, 10).is_some());
        }
        assert_eq!(table.index(0, address("10.1.1.1"), 11), None);
        let (index, _) = table.index(0, address("10.1.1.1"), 41).unwrap();
        assert_eq!(table.identity(index), Some((0, address("10.1.1.1"))));
        assert_eq!(table.word(index).generation(), 2);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;

    /// Mutations that this model was seen to catch: `changed` or `changes` with Relaxed.
    #[test]
    fn loom_whoever_sees_a_change_counted_reads_the_new_address() {
        loom::model(|| {
            let table = Neighbours::new(Slab::heap(1));
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
            let (index, _) = table.index(0, address, 1).unwrap();
            assert!(table.learn(0, address, [1; 6], 1));
            let known = table.changes();
            let hearing = table.clone();
            let other = thread::spawn(move || {
                assert!(hearing.learn(0, address, [2; 6], 2));
            });
            let seen = table.changes();
            let mac = table.word(index).mac();
            assert!(seen == known || mac == Some([2; 6]));
            other.join().unwrap();
            // What was kept under the old count is found out.
            assert_ne!(table.changes(), known);
            assert_eq!(table.word(index).mac(), Some([2; 6]));
        });
    }

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8));

    /// A mutation that this model was seen to catch: `claim` that keeps the generation.
    #[test]
    fn loom_a_slot_that_is_another_neighbours_now_is_not_taken_for_the_old_ones() {
        loom::model(|| {
            let table = Neighbours::new(Slab::heap(1));
            let (index, old) = table.index(0, ONE, 1).unwrap();
            let claiming = table.clone();
            let other = thread::spawn(move || {
                claiming.index(0, OTHER, 1000).unwrap();
            });
            let (_, address, word) = match table.identity_with_word(index) {
                Some(found) => found,
                None => return other.join().unwrap(), // claimed just now
            };
            if word.generation() != old.generation() {
                assert_eq!(
                    address, OTHER,
                    "the word is the new one, and so is the rest"
                );
            }
            // Whoever found the old one finds out that it is gone, whatever it read beside the word.
            let found = table.index(0, ONE, 1000);
            other.join().unwrap();
            assert_eq!(table.identity(index), Some((0, OTHER)));
            if let Some((_, found)) = found {
                assert_ne!(found.generation(), table.word(index).generation());
            }
        });
    }

    /// Mutations that this model was seen to catch: `store_state`, or the load in `word`, with Relaxed; `learn` by
    /// a plain store instead of an exchange.
    #[test]
    fn loom_an_answer_is_never_given_to_another_neighbour() {
        loom::model(|| {
            let table = Neighbours::new(Slab::heap(1));
            let (index, _) = table.index(0, ONE, 1).unwrap();
            let hearing = table.clone();
            let other = thread::spawn(move || hearing.learn(0, ONE, [1; 6], 1000));
            let claimed = table.index(0, OTHER, 1000);
            let heard = other.join().unwrap();
            match table.identity(index) {
                Some((0, OTHER)) => {
                    assert!(claimed.is_some());
                    assert_eq!(table.word(index).mac(), None, "nobody answered for it");
                }
                identity => {
                    assert_eq!(identity, Some((0, ONE)));
                    assert!(heard && claimed.is_none());
                }
            }
        });
    }
}
