//! Index arithmetic of a ring, without the ring.
//!
//! Positions count records from the ring's creation and wrap at 2^64; the slot of a position is
//! its remainder by the capacity, a power of two, so wrapping needs no special case. The positions
//! of the two sides come from two processes: the distance between them is checked, never trusted.

/// The two positions cannot both be right: more records than the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring's positions claim {used} records in {capacity} slots")]
pub struct Overrun {
    /// Records between the two positions.
    pub used: u64,
    /// Slots of the ring.
    pub capacity: u64,
}

/// Arithmetic for a ring of this many slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    capacity: u64,
}

impl Cursor {
    /// A ring of `capacity` slots; `None` unless it is a power of two.
    #[must_use]
    pub const fn new(capacity: u64) -> Option<Self> {
        if capacity.is_power_of_two() {
            Some(Self { capacity })
        } else {
            None
        }
    }

    /// Slots of the ring.
    #[must_use]
    pub const fn capacity(self) -> u64 {
        self.capacity
    }

    /// Records published (up to `tail`) and not yet consumed (from `head`).
    ///
    /// # Errors
    ///
    /// [`Overrun`] when there cannot be so many.
    pub const fn used(self, head: u64, tail: u64) -> Result<u64, Overrun> {
        let used = tail.wrapping_sub(head);
        if used <= self.capacity {
            Ok(used)
        } else {
            Err(Overrun {
                used,
                capacity: self.capacity,
            })
        }
    }

    /// Slots free for the producer.
    ///
    /// # Errors
    ///
    /// As [`Cursor::used`].
    pub const fn free(self, head: u64, tail: u64) -> Result<u64, Overrun> {
        match self.used(head, tail) {
            Ok(used) => Ok(self.capacity - used),
            Err(overrun) => Err(overrun),
        }
    }

    /// Slot of a position.
    #[must_use]
    pub const fn slot(self, position: u64) -> usize {
        (position & (self.capacity - 1)) as usize
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Push,
        Pop,
    }

    proptest! {
        /// The oracle is a queue of slot numbers, handed out in turn.
        #[test]
        fn agrees_with_a_queue_across_the_wrap(
            power in 0u32..6,
            before_wrap in 0u64..80,
            steps in prop::collection::vec(
                prop_oneof![Just(Step::Push), Just(Step::Pop)], 0..300),
        ) {
            let capacity = 1u64 << power;
            let cursor = Cursor::new(capacity).unwrap();
            let mut head = 0u64.wrapping_sub(before_wrap);
            let mut tail = head;
            let mut queue = VecDeque::new();
            let mut next = cursor.slot(tail);
            for step in steps {
                match step {
                    Step::Push if cursor.free(head, tail).unwrap() > 0 => {
                        prop_assert_eq!(cursor.slot(tail), next);
                        queue.push_back(next);
                        next = (next + 1) % capacity as usize;
                        tail = tail.wrapping_add(1);
                    }
                    Step::Push => prop_assert_eq!(queue.len() as u64, capacity),
                    Step::Pop if cursor.used(head, tail).unwrap() > 0 => {
                        prop_assert_eq!(Some(cursor.slot(head)), queue.pop_front());
                        head = head.wrapping_add(1);
                    }
                    Step::Pop => prop_assert!(queue.is_empty()),
                }
                prop_assert_eq!(cursor.used(head, tail), Ok(queue.len() as u64));
            }
        }

        #[test]
        fn a_head_in_front_of_the_tail_is_an_overrun(head: u64, ahead in 1u64..1 << 62) {
            let cursor = Cursor::new(64).unwrap();
            let tail = head.wrapping_sub(ahead);
            prop_assert!(cursor.used(head, tail).is_err());
            prop_assert!(cursor.free(head, tail).is_err());
        }
    }

    #[test]
    fn only_powers_of_two_are_capacities() {
        assert_eq!(Cursor::new(0), None);
        assert_eq!(Cursor::new(3), None);
        assert_eq!(Cursor::new(1).map(Cursor::capacity), Some(1));
    }

    #[test]
    fn one_more_than_the_capacity_is_too_many() {
        let cursor = Cursor::new(8).unwrap();
        assert_eq!(cursor.used(10, 18), Ok(8));
        assert_eq!(
            cursor.used(10, 19),
            Err(Overrun {
                used: 9,
                capacity: 8
            })
        );
        assert_eq!(cursor.free(10, 18), Ok(0));
    }
}
