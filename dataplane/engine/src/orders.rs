//! Flows to be reset, on their way from the main core to the workers: a queue with one writer and any number of
//! readers, of fixed size, where nobody waits.

use hugepages::sync::{AtomicU64, Ordering};
use hugepages::{Line, Slab};

use crate::flow::Life;

/// Orders under way at a time; the main core keeps the rest.
const ROOM: usize = if cfg!(loom) { 2 } else { 4096 };

/// A flow to be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Its table: IPv6's or IPv4's.
    pub v6: bool,
    /// Its forward entry.
    pub index: u32,
    /// The life that it lived when it was marked.
    pub life: Life,
}

/// The queue.
#[derive(Debug)]
pub struct Orders {
    /// Four orders a line, two words each: entry and family, life.
    lines: Slab<Line>,
    /// Orders ever put in.
    head: AtomicU64,
    /// Orders ever taken out.
    tail: AtomicU64,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            lines: Slab::heap(ROOM.div_ceil(4)),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
        }
    }
}

impl Orders {
    /// Puts an order in; false if there is no room. By the main core alone.
    pub fn put(&self, order: Order) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        // Acquire meets the Release in `take`: who took an order has read it.
        if head - self.tail.load(Ordering::Acquire) >= ROOM as u64 {
            return false;
        }
        let [first, second] = self.words(head);
        first.store(
            u64::from(order.v6) << 32 | u64::from(order.index),
            Ordering::Relaxed,
        );
        second.store(order.life.word(), Ordering::Relaxed);
        // Release meets the Acquire in `take`: the words come before.
        self.head.store(head + 1, Ordering::Release);
        true
    }

    /// The next order; `None` if there is none, or another worker was faster.
    pub(crate) fn take(&self) -> Option<Order> {
        let tail = self.tail.load(Ordering::Relaxed);
        // Acquire meets the Release in `put`.
        if tail == self.head.load(Ordering::Acquire) {
            return None;
        }
        // While `tail` stays, nobody writes here: the exchange below tells whether it has stayed.
        let [first, second] = self.words(tail);
        let (word, life) = (
            first.load(Ordering::Relaxed),
            second.load(Ordering::Relaxed),
        );
        // Release meets the Acquire in `put`: the words were read before.
        self.tail
            .compare_exchange(tail, tail + 1, Ordering::Release, Ordering::Relaxed)
            .ok()?;
        Some(Order {
            v6: word >> 32 != 0,
            index: word as u32,
            life: Life::of_word(life),
        })
    }

    fn words(&self, at: u64) -> [&AtomicU64; 2] {
        let at = at as usize % ROOM;
        let line = &self.lines[at / 4].0;
        [&line[at % 4 * 2], &line[at % 4 * 2 + 1]]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn order(index: u32) -> Order {
        Order {
            v6: index.is_multiple_of(3),
            index,
            life: Life::of_word(u64::from(index) << 2 | 2),
        }
    }

    #[test]
    fn orders_come_out_as_they_went_in_and_a_full_queue_says_so() {
        let orders = Orders::default();
        assert_eq!(orders.take(), None);
        for round in 0..3 {
            let first = round * ROOM as u32;
            assert!((first..first + ROOM as u32).all(|index| orders.put(order(index))));
            assert!(!orders.put(order(0)));
            for index in first..first + ROOM as u32 {
                assert_eq!(orders.take(), Some(order(index)));
            }
            assert_eq!(orders.take(), None);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    fn order(index: u32) -> Order {
        Order {
            v6: false,
            index,
            life: Life::of_word(u64::from(index) << 2 | 2),
        }
    }

    /// Two workers take while the main core puts more than there is room for. Seen to fail with `head` stored
    /// Relaxed or loaded Relaxed. What the orderings of `tail` forbid no model can show: that words are read after
    /// they were given back, and so from the next order.
    #[test]
    fn loom_every_order_is_taken_once_and_whole() {
        loom::model(|| {
            let orders = Arc::new(Orders::default());
            assert!(orders.put(order(1)));
            let other = orders.clone();
            let worker = loom::thread::spawn(move || [other.take(), other.take()]);
            let mut put = vec![1];
            put.extend((2..=4).filter(|index| orders.put(order(*index))));
            let theirs = worker.join().unwrap();
            let ours = std::iter::from_fn(|| orders.take());
            let mut taken: Vec<u32> = theirs
                .into_iter()
                .flatten()
                .chain(ours)
                .inspect(|one| assert_eq!(*one, order(one.index), "of two halves"))
                .map(|one| one.index)
                .collect();
            taken.sort_unstable();
            assert_eq!(taken, put);
        });
    }
}
