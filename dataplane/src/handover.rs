//! Frames for a link whose device has fewer tx queues than there are workers.
//!
//! Each link has, for each worker, either a tx queue of its own or a way to hand frames to
//! the worker that has one. The handover is a bounded lock-free queue; a full one counts as a full
//! device.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use dpdk::Mbuf;
use packet::Buffer;

use crate::wiring::OpenLink;

/// Frames that may be on their way from one worker to another, per link.
const CAPACITY: usize = 1024;

/// Bursts that are sent for others in one turn, at most.
const BURSTS_FOR_OTHERS: usize = 8;

/// Frames for a link, on their way to the worker that sends them.
pub(crate) type Handover = Arc<ArrayQueue<Mbuf>>;

/// One link as one worker uses it.
pub(crate) struct Side {
    /// Index of the link.
    pub(crate) link: usize,
    /// Its queue pair; either half may be missing.
    pub(crate) queue: Option<dpdk::Queue>,
    /// To the worker that sends for those without a queue of their own; the sender itself takes
    /// from it.
    pub(crate) handover: Option<Handover>,
    /// Whether this worker takes from `handover`.
    pub(crate) is_sender: bool,
}

/// Deals the queues of every link out to the workers. Where a device has fewer queues than
/// workers, they begin at another worker for each link, so that work is spread. Links that the host shares have
/// a way to hand frames over in any case: the second part of what is returned, by link.
pub(crate) fn deal(
    links: Vec<OpenLink>,
    workers: usize,
    is_shared: impl Fn(usize) -> bool,
) -> (Vec<Vec<Side>>, Vec<Option<Handover>>) {
    let mut handovers = Vec::new();
    let mut sides: Vec<Vec<Side>> = (0..workers).map(|_| Vec::new()).collect();
    for (link, open) in links.into_iter().enumerate() {
        let all_send = open.queues.iter().filter(|queue| queue.has_tx()).count() >= workers;
        let needs_handover = !all_send || is_shared(link);
        let handover = needs_handover.then(|| Arc::new(ArrayQueue::new(CAPACITY)));
        handovers.push(handover.clone());
        let mut queues = open.queues.into_iter().map(Some).collect::<Vec<_>>();
        queues.resize_with(workers, || None);
        let mut has_sender = false;
        for (at, queue) in queues.into_iter().enumerate() {
            let sends = queue.as_ref().is_some_and(dpdk::Queue::has_tx);
            let is_sender = sends && !has_sender && handover.is_some();
            has_sender |= sends;
            let side = Side {
                link,
                queue,
                handover: handover.clone(),
                is_sender,
            };
            sides[(at + link) % workers].push(side);
        }
    }
    (sides, handovers)
}

/// The reverse of [`deal`]: each link's queues, in their order, from the workers' sides.
pub(crate) fn collect(sides: Vec<Vec<Side>>, links: usize) -> Vec<Vec<dpdk::Queue>> {
    let workers = sides.len();
    let mut found: Vec<Vec<(usize, dpdk::Queue)>> = (0..links).map(|_| Vec::new()).collect();
    for (worker, sides) in sides.into_iter().enumerate() {
        for side in sides {
            let link = side.link;
            let at = (worker + workers - link % workers) % workers;
            found[link].extend(side.queue.map(|queue| (at, queue)));
        }
    }
    let in_order = found.into_iter().map(|mut queues| {
        queues.sort_by_key(|(at, _)| *at);
        queues.into_iter().map(|(_, queue)| queue).collect()
    });
    in_order.collect()
}

impl Side {
    /// Sends frames by the own queue, or hands them over; returns how many were taken, and leaves the
    /// rest.
    pub(crate) fn send<const N: usize>(&mut self, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        let before = frames.len();
        match &mut self.queue {
            Some(queue) if queue.has_tx() => {
                // The device takes bursts; an output holds up to two.
                let mut burst = packet::Burst::<Mbuf>::new();
                while !frames.is_empty() {
                    let count = frames.len().min(packet::BURST);
                    burst.extend(frames.drain(..count));
                    let sent = packet::Link::tx_burst(queue, &mut burst);
                    if sent < count {
                        // What is left goes back to the front, in order.
                        let rest: ArrayVec<Mbuf, N> =
                            burst.drain(..).chain(frames.drain(..)).collect();
                        *frames = rest;
                        break;
                    }
                }
            }
            _ => {
                if let Some(handover) = &self.handover {
                    while let Some(frame) = frames.pop_at(0) {
                        if let Err(frame) = handover.push(frame) {
                            frames.insert(0, frame);
                            break;
                        }
                    }
                }
            }
        }
        before - frames.len()
    }

    /// Whether this worker sends by a queue of its own.
    pub(crate) fn sends(&self) -> bool {
        self.queue.as_ref().is_some_and(dpdk::Queue::has_tx)
    }

    /// Sends what other workers have handed over, until there is no more or the device is full, and shows
    /// what it has no room for.
    pub(crate) fn send_for_others(&mut self, mut refuse: impl FnMut(&[Mbuf])) -> TakenOver {
        let mut total = TakenOver::default();
        let (Some(handover), true) = (&self.handover, self.is_sender) else {
            return total;
        };
        if handover.is_empty() {
            return total;
        }
        let handover = handover.clone();
        for _ in 0..BURSTS_FOR_OTHERS {
            let mut burst = packet::Burst::<Mbuf>::new();
            while !burst.is_full()
                && let Some(frame) = handover.pop()
            {
                burst.push(frame);
            }
            let taken = burst.len() as u64;
            let offered = bytes_of(&burst);
            if let Some(queue) = &mut self.queue {
                packet::Link::tx_burst(queue, &mut burst);
            }
            let refused = burst.len() as u64;
            total.taken += taken;
            total.sent += taken - refused;
            total.bytes += offered - bytes_of(&burst);
            total.refused += refused;
            if refused > 0 {
                refuse(&burst);
            }
            Mbuf::free_bulk(&mut burst);
            if refused > 0 || taken < packet::BURST as u64 {
                break;
            }
        }
        total
    }

    /// Frames still handed over and not taken; to be counted when the worker ends.
    pub(crate) fn drop_handed_over(&mut self) -> u64 {
        let (Some(handover), true) = (&self.handover, self.is_sender) else {
            return 0;
        };
        let mut count = 0;
        while handover.pop().is_some() {
            count += 1;
        }
        count
    }
}

/// What became of frames that were handed over.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct TakenOver {
    pub(crate) taken: u64,
    pub(crate) sent: u64,
    pub(crate) bytes: u64,
    pub(crate) refused: u64,
}

/// Bytes of all these frames.
pub(crate) fn bytes_of(frames: &[Mbuf]) -> u64 {
    frames.iter().map(|frame| frame.bytes().len() as u64).sum()
}
