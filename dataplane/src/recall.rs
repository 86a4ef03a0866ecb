//! Links that the main core takes out of the workers' hands.
//!
//! For good, if the device leaves: the machine waits with taking a NIC away until it is closed, and it can be closed when no worker
//! has a queue of it any more. For a moment, if the device has to be started anew: then workers lend their queues, and get them back.
//!
//! Workers see within some hundred turns what is asked of them, and the main core goes on when it has all the queues. What is sent
//! there meanwhile counts as refused by a full device.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use engine::counters::MAX_LINKS;

use crate::handover::Side;

/// Said by the main core, heard by all workers.
#[derive(Debug)]
pub(crate) struct Recall<Q = dpdk::Queue> {
    /// A bit for each link: to be given up.
    links: AtomicU32,
    /// A bit for each link: to be lent.
    borrowed: AtomicU32,
    /// For each link, the queues that lie between a worker and the main core.
    desks: [Mutex<Vec<Lent<Q>>>; MAX_LINKS],
}

/// A queue on its way to the main core or back.
#[derive(Debug)]
pub(crate) struct Lent<Q = dpdk::Queue> {
    /// Whose it is.
    pub(crate) worker: usize,
    pub(crate) queue: Q,
}

const _: () = assert!(MAX_LINKS <= 32);

impl<Q> Default for Recall<Q> {
    fn default() -> Self {
        Self {
            links: AtomicU32::default(),
            borrowed: AtomicU32::default(),
            desks: [const { Mutex::new(Vec::new()) }; MAX_LINKS],
        }
    }
}

impl Recall {
    /// Does what is asked of a worker. `lent` is what it keeps of this: a bit for each link whose queue it has lent.
    pub(crate) fn obey(&self, worker: usize, sides: &mut [Side], lent: &mut u32) {
        let links = self.links.load(Ordering::Relaxed);
        let borrowed = self.borrowed.load(Ordering::Relaxed);
        if links | borrowed | *lent == 0 {
            return;
        }
        for side in sides {
            let bit = 1 << side.link;
            if links & bit != 0 {
                side.queue = None;
            } else if (borrowed | *lent) & bit != 0 {
                self.lend_or_take_back(worker, side.link, &mut side.queue, lent);
            }
        }
    }
}

impl<Q> Recall<Q> {
    /// Has every worker give up its queue of this link, for good.
    pub(crate) fn link(&self, link: usize) {
        // Relaxed, here and below: the bits stand alone. What a worker did to a queue is seen by whoever closes the port
        // because the queue's end is ordered before it, and what happens to a lent one is ordered by the desk's lock.
        self.links.fetch_or(1 << link, Ordering::Relaxed);
    }

    /// Has every worker lend its queue of this link, and takes them if they are `count`.
    pub(crate) fn borrow(&self, link: usize, count: usize) -> Option<Vec<Lent<Q>>> {
        self.borrowed.fetch_or(1 << link, Ordering::Relaxed);
        let mut desk = self.desk(link);
        (desk.len() == count).then(|| std::mem::take(&mut *desk))
    }

    /// Lets the workers have their queues again.
    pub(crate) fn give_back(&self, link: usize, lent: Vec<Lent<Q>>) {
        *self.desk(link) = lent;
        self.borrowed.fetch_and(!(1 << link), Ordering::Relaxed);
    }

    fn desk(&self, link: usize) -> std::sync::MutexGuard<'_, Vec<Lent<Q>>> {
        self.desks[link]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's part. It never waits: who finds the desk busy comes again.
    fn lend_or_take_back(&self, worker: usize, link: usize, queue: &mut Option<Q>, lent: &mut u32) {
        let Ok(mut desk) = self.desks[link].try_lock() else {
            return;
        };
        // Asked again under the lock: queues that came back lie there before the bit is cleared, and no earlier.
        let is_borrowed = self.borrowed.load(Ordering::Relaxed) >> link & 1 == 1;
        if is_borrowed {
            if let Some(queue) = queue.take() {
                desk.push(Lent { worker, queue });
                *lent |= 1 << link;
            }
        } else if let Some(at) = desk.iter().position(|each| each.worker == worker) {
            *queue = Some(desk.swap_remove(at).queue);
            *lent &= !(1 << link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_that_are_recalled_are_given_up_and_stay_so() {
        let recall = Recall::<u8>::default();
        let bits = || recall.links.load(Ordering::Relaxed);
        recall.link(3);
        recall.link(0);
        recall.link(3);
        assert_eq!(bits(), 0b1001);
    }

    #[test]
    fn queues_are_lent_when_all_of_them_are_there_and_each_comes_back_to_its_worker() {
        let recall = Recall::default();
        let (mut first, mut second) = (Some('a'), Some('b'));
        let (mut by_first, mut by_second) = (0, 0);
        assert!(recall.borrow(2, 2).is_none());
        recall.lend_or_take_back(0, 2, &mut first, &mut by_first);
        assert_eq!((first, by_first), (None, 0b100));
        assert!(recall.borrow(2, 2).is_none(), "one is still in use");
        recall.lend_or_take_back(1, 2, &mut second, &mut by_second);
        // Nobody takes a queue back that is borrowed.
        recall.lend_or_take_back(0, 2, &mut first, &mut by_first);
        let lent = recall.borrow(2, 2).unwrap();
        recall.lend_or_take_back(1, 2, &mut second, &mut by_second);
        assert_eq!((first, second), (None, None));
        recall.give_back(2, lent);
        recall.lend_or_take_back(1, 2, &mut second, &mut by_second);
        recall.lend_or_take_back(0, 2, &mut first, &mut by_first);
        assert_eq!((first, second), (Some('a'), Some('b')));
        assert_eq!((by_first, by_second), (0, 0));
    }

    #[test]
    fn workers_on_threads_of_their_own_never_have_a_queue_while_it_is_borrowed() {
        let recall = Recall::default();
        let stop = std::sync::atomic::AtomicBool::new(false);
        // A queue is a number that whoever has it raises without a lock: what is lost in between shows in the sum.
        let ends = std::thread::scope(|scope| {
            let run = |worker: usize| {
                let (recall, stop) = (&recall, &stop);
                scope.spawn(move || {
                    let (mut queue, mut lent, mut raised) = (Some(0u64), 0, 0u64);
                    while !stop.load(Ordering::Relaxed) || queue.is_none() {
                        recall.lend_or_take_back(worker, 0, &mut queue, &mut lent);
                        if let Some(number) = &mut queue {
                            (*number, raised) = (*number + 1, raised + 1);
                        }
                        std::thread::yield_now();
                    }
                    (queue.unwrap(), raised)
                })
            };
            let workers = [run(0), run(1)];
            for _ in 0..200 {
                let mut all = loop {
                    match recall.borrow(0, 2) {
                        Some(all) => break all,
                        None => std::thread::yield_now(),
                    }
                };
                all.iter_mut().for_each(|lent| lent.queue += 1000);
                recall.give_back(0, all);
            }
            stop.store(true, Ordering::Relaxed);
            workers.map(|worker| worker.join().unwrap())
        });
        for (number, raised) in ends {
            assert_eq!(number, raised + 200 * 1000);
        }
    }
}
