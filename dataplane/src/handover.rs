//! Frames of a link whose device has fewer queues than there are workers.
//!
//! Each link has, for each worker, either a tx queue of its own or a way to hand frames to
//! the worker that has one. The handover is a bounded lock-free queue; a full one counts as a full
//! device.
//!
//! Of a link with fewer rx queues the workers that have one deal frames out to those that have none, if the settings let
//! them: see [`engine::fan_out`].

mod queue;

use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk::Mbuf;
use engine::counters::Counters;
use engine::fan_out::{Dealer, Inlet, Mode, Pressures, ring};
use engine::settle::lose;
use hugepages::worker_of_queue;
use packet::Buffer;

use crate::wiring::OpenLink;

use queue::Handover;

/// The way to the worker that sends a link's frames for those without a tx queue.
pub(crate) type ToSender = Arc<Handover<Mbuf>>;

/// Frames that may be on their way from one worker to another, per link.
const CAPACITY: usize = 1024;

/// Bursts that are sent for others in one turn, at most.
const BURSTS_FOR_OTHERS: usize = 8;

/// One link as one worker uses it.
pub(crate) struct Side {
    /// Index of the link.
    pub(crate) link: usize,
    /// Its queue pair; either half may be missing.
    pub(crate) queue: Option<dpdk::Queue>,
    /// To the worker that sends for those without a queue of their own; the sender itself takes
    /// from it.
    pub(crate) handover: Option<ToSender>,
    /// Whether this worker takes from `handover`.
    pub(crate) is_sender: bool,
    /// Deals what is received to workers without an rx queue.
    pub(crate) dealer: Option<Box<Dealer<Mbuf>>>,
    /// Full bursts received since the last look; counted only where frames are dealt.
    pub(crate) full_bursts: u32,
}

/// What one worker works with.
#[derive(Default)]
pub(crate) struct Seat {
    /// Its part of each link, in the links' order.
    pub(crate) sides: Vec<Side>,
    /// Where frames come in that others deal to it.
    pub(crate) inlets: Vec<Inlet<Mbuf>>,
}

/// How frames get from one worker to another.
pub(crate) struct Ways<'a> {
    /// Whether the host shares a link, by its number.
    pub(crate) is_shared: &'a dyn Fn(usize) -> bool,
    /// How a link's frames are dealt out, by its number; `None` = not at all.
    pub(crate) mode: &'a dyn Fn(usize) -> Option<Mode>,
    /// For those who deal.
    pub(crate) pressures: &'a Pressures,
    /// Unknown outside.
    pub(crate) seed: u64,
}

/// Gives the queues of every link to the workers. Where a device has fewer queues than
/// workers, they begin at another worker for each link, so that work is spread. Links that the host shares have
/// a way to hand frames over in any case: the second part of what is returned, by link.
pub(crate) fn assign(
    links: Vec<OpenLink>,
    workers: usize,
    ways: &Ways<'_>,
) -> (Vec<Seat>, Vec<Option<ToSender>>) {
    let mut handovers = Vec::new();
    let mut seats: Vec<Seat> = (0..workers).map(|_| Seat::default()).collect();
    for (link, open) in links.into_iter().enumerate() {
        let all_send = open.queues.iter().filter(|queue| queue.has_tx()).count() >= workers;
        let needs_handover = !all_send || (ways.is_shared)(link);
        let handover = needs_handover.then(|| Arc::new(Handover::new(CAPACITY)));
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
                dealer: None,
                full_bursts: 0,
            };
            seats[worker_of_queue(link, at, workers)].sides.push(side);
        }
        if let Some(mode) = (ways.mode)(link) {
            join(&mut seats, link, mode, ways);
        }
    }
    (seats, handovers)
}

/// Lays rings from the workers that receive a link's frames to those that do not.
fn join(seats: &mut [Seat], link: usize, mode: Mode, ways: &Ways<'_>) {
    let receives = |seat: &Seat| {
        let queue = seat.sides[link].queue.as_ref();
        queue.is_some_and(dpdk::Queue::has_rx)
    };
    let (dealers, takers): (Vec<_>, Vec<_>) =
        (0..seats.len()).partition(|worker| receives(&seats[*worker]));
    if dealers.is_empty() || takers.is_empty() {
        return;
    }
    let capacity = ring_capacity(dealers.len());
    for dealer in dealers {
        let outlets = takers.iter().map(|taker| {
            let (outlet, inlet) = ring(link, *taker, capacity);
            seats[*taker].inlets.push(inlet);
            outlet
        });
        let outlets = outlets.collect();
        let dealing = Dealer::new(mode, outlets, ways.pressures.clone(), ways.seed);
        seats[dealer].sides[link].dealer = Some(Box::new(dealing));
    }
}

/// Places of the ring from each of so many dealers to a taker: together about as many as a receive queue of its own would have,
/// which is what the pool of buffers is made for.
fn ring_capacity(dealers: usize) -> usize {
    (CAPACITY / dealers).max(2 * packet::BURST)
}

/// Accounts for what is still on its way between workers when all of them have ended.
pub(crate) fn account(seats: &mut [Seat], counters: &Counters) {
    for seat in seats {
        let discarded: u64 = seat.inlets.iter_mut().map(Inlet::discard).sum();
        let left = seat.sides.iter_mut().map(Side::drop_handed_over);
        lose(counters, discarded + left.sum::<u64>());
    }
}

/// The reverse of [`assign`]: each link's queues, in their order, from the workers' seats.
pub(crate) fn collect(seats: Vec<Seat>, links: usize) -> Vec<Vec<dpdk::Queue>> {
    let workers = seats.len();
    let mut found: Vec<Vec<(usize, dpdk::Queue)>> = (0..links).map(|_| Vec::new()).collect();
    for (worker, seat) in seats.into_iter().enumerate() {
        for side in seat.sides {
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
                    handover.put(frames);
                }
            }
        }
        before - frames.len()
    }

    /// Whether no frame for this link is on its way from one worker to another, and none is in the hand of who sends it.
    pub(crate) fn is_all_sent(&self) -> bool {
        let handover = self.handover.as_ref();
        handover.is_none_or(|handover| handover.is_all_sent())
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
                && let Some(frame) = handover.take()
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
            handover.done(taken);
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
        while handover.take().is_some() {
            count += 1;
        }
        handover.done(count);
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
