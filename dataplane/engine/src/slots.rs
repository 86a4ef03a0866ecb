//! Which service port counts where: slots of the counters, the same after a restart.
//!
//! The keys lie in the region, one word a slot, written by the main core alone. A slot once given
//! stays its service's as long as the region lives, deleted or not: flows and counters refer to it.
//! Slot 0 is everybody's when the rest is used up.

use std::collections::HashMap;

use hugepages::object::{Key, NO_KEY};
use hugepages::sync::Ordering;
use hugepages::{Line, Slab};

/// The slot of all services that have none of their own.
pub const SHARED_SLOT: u32 = 0;

/// Slots by key.
#[derive(Debug)]
pub struct ServiceSlots {
    keys: Slab<Line>,
    slots: HashMap<Key, u32>,
    next: u32,
}

impl ServiceSlots {
    /// The slots in these lines (zero, or taken over), eight to a line.
    #[must_use]
    pub fn new(keys: Slab<Line>) -> Self {
        let mut slots = HashMap::new();
        let mut next = 1;
        while let Some(key) = read(&keys, next).filter(|key| *key != NO_KEY) {
            slots.insert(key, next);
            next += 1;
        }
        Self { keys, slots, next }
    }

    /// The slot of the service with this key, given now if it has none.
    pub fn slot(&mut self, key: Key) -> u32 {
        if let Some(slot) = self.slots.get(&key) {
            return *slot;
        }
        let Some(word) = word(&self.keys, self.next) else {
            return SHARED_SLOT;
        };
        // Relaxed: readers of counters look the key up whenever they like; it never changes again.
        word.store(key, Ordering::Relaxed);
        self.slots.insert(key, self.next);
        self.next += 1;
        self.next - 1
    }

    /// The slot that the service with this key has.
    #[must_use]
    pub fn known(&self, key: Key) -> Option<u32> {
        self.slots.get(&key).copied()
    }

    /// The key of a slot's service; `None` for the shared slot and for free ones.
    #[must_use]
    pub fn key(&self, slot: u32) -> Option<Key> {
        if slot == SHARED_SLOT {
            return None;
        }
        read(&self.keys, slot).filter(|key| *key != NO_KEY)
    }
}

fn word(keys: &[Line], slot: u32) -> Option<&hugepages::sync::AtomicU64> {
    keys.get(slot as usize / 8)
        .map(|line| &line.0[slot as usize % 8])
}

fn read(keys: &[Line], slot: u32) -> Option<Key> {
    word(keys, slot).map(|word| word.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_survive_a_restart_and_run_into_the_shared_one() {
        let keys = Slab::heap(1);
        let mut slots = ServiceSlots::new(keys.clone());
        let given: Vec<_> = (100..110).map(|key| slots.slot(key)).collect();
        assert_eq!(given, [1, 2, 3, 4, 5, 6, 7, 0, 0, 0]);
        let mut again = ServiceSlots::new(keys);
        assert_eq!(again.slot(103), 4);
        assert_eq!(again.key(4), Some(103));
        assert_eq!(again.key(SHARED_SLOT), None);
    }
}
