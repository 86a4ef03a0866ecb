//! The host's share of the links: a tap interface each, and frames between them.
//!
//! Workers give frames away through a queue, and the main core writes them to the tap; what the kernel
//! sends there the main core gives to the worker that sends for others on that link ([`crate::handover`]). So no
//! worker makes a system call, and the host gets what the main core has time for.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use dpdk::{LocalPool, Mbuf, Mempool};
use engine::Reason;
use engine::counters::{Counters, Total};
use engine::observe::{Observe, Own};
use packet::{Buffer, Pool};
use settings::Settings;

use crate::Error;
use crate::handover::ToSender;
use crate::trace::Tap;

/// Frames that may wait for the main core, per link.
const CAPACITY: usize = 1024;

/// Frames of each direction that one look carries, per link: the main core has other things to do.
const AT_ONCE: usize = 256;

/// Longest frame that a tap can have: the largest MTU of a link, and the Ethernet header with a tag.
const LONGEST: usize = 9_018;

/// The open taps, by link.
pub(crate) type Taps = Vec<Option<dpdk::Tap>>;

/// Opens the taps that the links want; each is given its link's MAC address.
pub(crate) fn open(settings: &Settings, macs: &[[u8; 6]]) -> Result<Taps, Error> {
    let links = settings.links.iter().zip(macs);
    let open = |(link, mac): (&settings::Link, &[u8; 6])| {
        let Some(name) = &link.kernel_interface else {
            return Ok(None);
        };
        match dpdk::Tap::open(name, *mac) {
            Ok(tap) => Ok(Some(tap)),
            Err(error) => Err(Error::Tap {
                link: link.name.clone(),
                interface: name.clone(),
                error,
            }),
        }
    };
    links.map(open).collect()
}

/// A worker's way to the host: a queue for each link that the host shares.
#[derive(Debug, Clone)]
pub(crate) struct ToHost {
    queues: Vec<Option<Arc<ArrayQueue<Mbuf>>>>,
}

impl engine::Host<Mbuf> for ToHost {
    fn take(&mut self, link: usize, frame: Mbuf) -> Result<(), Mbuf> {
        match self.queues.get(link) {
            Some(Some(queue)) => queue.push(frame),
            _ => Err(frame),
        }
    }

    fn wants(&self, link: usize) -> bool {
        matches!(self.queues.get(link), Some(Some(_)))
    }
}

/// The main core's side.
pub(crate) struct Host {
    links: Vec<Shared>,
    pool: LocalPool,
    counters: Counters,
    buffer: Box<[u8; LONGEST]>,
    trace: Tap,
}

struct Shared {
    link: usize,
    tap: dpdk::Tap,
    from_workers: Arc<ArrayQueue<Mbuf>>,
    to_link: ToSender,
}

impl Host {
    /// Between these taps and the links' workers; `to_links` as [`crate::handover::assign`] made them.
    pub(crate) fn new(
        taps: Taps,
        to_links: &[Option<ToSender>],
        pool: &Mempool,
        counters: Counters,
        trace: Tap,
    ) -> Self {
        let links = taps.into_iter().zip(to_links).enumerate();
        let links = links.filter_map(|(link, (tap, to_link))| {
            Some(Shared {
                link,
                tap: tap?,
                from_workers: Arc::new(ArrayQueue::new(CAPACITY)),
                to_link: to_link.clone()?,
            })
        });
        Self {
            links: links.collect(),
            pool: pool.local(),
            counters,
            buffer: Box::new([0; LONGEST]),
            trace,
        }
    }

    /// The way here, for a worker; `None` if no link is shared.
    pub(crate) fn way(&self) -> Option<ToHost> {
        let last = self.links.last()?.link;
        let mut queues = vec![None; last + 1];
        for shared in &self.links {
            queues[shared.link] = Some(shared.from_workers.clone());
        }
        Some(ToHost { queues })
    }

    /// Carries what there is, within bounds; whether there was any.
    pub(crate) fn poll(&mut self) -> bool {
        if self.trace.is_on() {
            self.trace.look();
        }
        let mut carried = 0;
        for at in 0..self.links.len() {
            carried += self.give_kernel(at) + self.hear_kernel(at);
        }
        carried > 0
    }

    /// Accounts for what workers had given away. Only when no worker runs.
    pub(crate) fn end(self) {
        for shared in self.links {
            while shared.from_workers.pop().is_some() {
                self.counters.add(Total::TakenOver, 1);
                self.counters.drop_on(shared.link, Reason::TxFull, 1);
            }
        }
    }

    fn give_kernel(&mut self, at: usize) -> usize {
        let shared = &mut self.links[at];
        for done in 0..AT_ONCE {
            let Some(frame) = shared.from_workers.pop() else {
                return done;
            };
            self.counters.add(Total::TakenOver, 1);
            if shared.tap.send(frame.bytes()) {
                self.counters.add(Total::Sent, 1);
            } else {
                self.counters.drop_on(shared.link, Reason::HostLimit, 1);
                if self.trace.is_on() {
                    self.trace.tell(|tracer| {
                        tracer.own_begins(shared.link, Own::ForHost, frame.bytes());
                        tracer.dropped(Reason::HostLimit);
                        tracer.own_ends();
                    });
                }
            }
        }
        AT_ONCE
    }

    fn hear_kernel(&mut self, at: usize) -> usize {
        let shared = &mut self.links[at];
        for done in 0..AT_ONCE {
            // The kernel keeps what there is no room for, and drops by its own rules.
            if shared.to_link.is_full() {
                return done;
            }
            let Some(len) = shared.tap.receive(&mut self.buffer[..]) else {
                return done;
            };
            let Some(mut frame) = self.pool.alloc() else {
                return done;
            };
            if !frame.set_len(len) {
                continue; // longer than the link's MTU allows
            }
            frame.bytes_mut().copy_from_slice(&self.buffer[..len]);
            self.counters.add(Total::Originated, 1);
            if self.trace.is_on() {
                self.trace.tell(|tracer| {
                    tracer.own_begins(shared.link, Own::OfHost, frame.bytes());
                    tracer.queued(shared.link, frame.bytes());
                    tracer.own_ends();
                    tracer.handed_over(shared.link);
                });
            }
            // There was room, and nobody else puts frames in but workers that have no queue.
            let mut frames = ArrayVec::<Mbuf, 1>::from([frame]);
            shared.to_link.put(&mut frames);
            if frames.is_empty() {
                self.counters.add(Total::HandedOver, 1);
            } else {
                self.counters.drop_on(shared.link, Reason::TxFull, 1);
            }
        }
        AT_ONCE
    }
}
