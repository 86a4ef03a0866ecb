//! What is timed: see [`Work`].

use std::time::{Duration, Instant};

use capsule::batch::{Batch, PacketRx, PacketTx, Pipeline, Poll};
use capsule::{Mbuf, PortQueue};
use capsule_ffi::{_rte_eth_rx_burst, _rte_eth_tx_burst, rte_mbuf};

use super::{Bursts, SetAside};
use crate::nat::{self, Task};

/// Frames of a burst at most.
const BURST: usize = 32;

/// Port and queue of the one device.
const PORT: u16 = 0;
const QUEUE: u16 = 0;

/// Works through so many bursts; returns the time that took.
pub type Timed = Box<dyn FnMut(usize) -> Duration>;

/// The same work in three ways.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// As capsule's examples are written: a chain of parsing steps, packet types, `reconcile_all`, `send`.
    Combinators,
    /// A loop over what capsule's queue receives; the gateway's own rewrite on the buffers' bytes.
    Custom,
    /// That loop over DPDK's functions and buffers: what the frame costs without capsule.
    Raw,
}

/// Sends a prepared burst and receives it again: in place of a device that has frames.
#[derive(Clone)]
pub struct Feed {
    queue: PortQueue,
    bursts: Bursts,
}

impl Feed {
    pub fn new(queue: PortQueue, bursts: Bursts) -> Self {
        Self { queue, bursts }
    }
}

impl PacketRx for Feed {
    fn receive(&mut self) -> Vec<Mbuf> {
        let prepared = self.bursts.borrow_mut().pop_front();
        PacketTx::transmit(&mut self.queue, prepared.unwrap_or_default());
        PacketRx::receive(&mut self.queue)
    }
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Combinators => "combinators",
            Self::Custom => "custom",
            Self::Raw => "raw",
        }
    }

    /// Works through as many bursts as it is told, and returns the time that took.
    pub fn pipeline(self, feed: &Feed, task: &Task) -> Timed {
        let mut feed = feed.clone();
        let mut aside = SetAside(feed.bursts.clone());
        let task = task.clone();
        match self {
            Self::Combinators => {
                let mut pipeline = Poll::new(feed)
                    .map(nat::ethernet)
                    .map(nat::ipv4)
                    .map(nat::tcp)
                    .map(nat::translate)
                    .send(aside);
                timed(move || pipeline.run_once())
            }
            Self::Custom => timed(move || {
                let mut mbufs = feed.receive();
                for mbuf in &mut mbufs {
                    // One that is too short is left as it is, and found by the check.
                    let _ = task.rewrite_mbuf(mbuf);
                }
                aside.transmit(mbufs);
            }),
            Self::Raw => Box::new(move |count| {
                let mut bursts: Vec<RawBurst> =
                    (0..count).map(|_| RawBurst::take(&mut feed)).collect();
                let start = Instant::now();
                for burst in &mut bursts {
                    burst.send();
                    burst.receive();
                    burst.rewrite(&task);
                }
                let elapsed = start.elapsed();
                for mut burst in bursts {
                    burst.send();
                    aside.transmit(PacketRx::receive(&mut feed.queue));
                }
                elapsed
            }),
        }
    }
}

fn timed(mut burst: impl FnMut() + 'static) -> Timed {
    Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            burst();
        }
        start.elapsed()
    })
}

/// DPDK's buffers. On a ring what capsule sends can be received without it, and the other way round.
struct RawBurst {
    mbufs: [*mut rte_mbuf; BURST],
    count: u16,
}

impl RawBurst {
    /// The next prepared burst.
    fn take(feed: &mut Feed) -> Self {
        let prepared = feed.bursts.borrow_mut().pop_front();
        PacketTx::transmit(&mut feed.queue, prepared.unwrap_or_default());
        let mut burst = Self {
            mbufs: [std::ptr::null_mut(); BURST],
            count: 0,
        };
        burst.receive();
        burst
    }

    #[inline(always)]
    fn receive(&mut self) {
        // SAFETY: the port is started and this is the one thread; the array has room for so many.
        self.count =
            unsafe { _rte_eth_rx_burst(PORT, QUEUE, self.mbufs.as_mut_ptr(), BURST as u16) };
    }

    /// The ring has room for more than a burst.
    #[inline(always)]
    fn send(&mut self) {
        // SAFETY: as in `receive`; the first `count` pointers are mbufs that were received.
        self.count = unsafe { _rte_eth_tx_burst(PORT, QUEUE, self.mbufs.as_mut_ptr(), self.count) };
    }

    #[inline(always)]
    fn rewrite(&mut self, task: &Task) {
        let mbufs = &self.mbufs[..usize::from(self.count)];
        for mbuf in mbufs {
            // SAFETY: see `bytes`.
            intrinsics::prefetch(unsafe { bytes(*mbuf) });
        }
        for mbuf in mbufs {
            // SAFETY: see `bytes`.
            task.rewrite(unsafe { bytes(*mbuf) });
        }
    }
}

/// The frame in a received mbuf.
///
/// # Safety
///
/// The mbuf is the caller's alone, and so is the slice while it is used.
#[inline(always)]
unsafe fn bytes<'a>(mbuf: *mut rte_mbuf) -> &'a mut [u8] {
    // SAFETY: DPDK's own arithmetic: `data_len` bytes at `data_off` of the storage.
    unsafe {
        let start = (*mbuf)
            .buf_addr
            .cast::<u8>()
            .add(usize::from((*mbuf).data_off));
        std::slice::from_raw_parts_mut(start, usize::from((*mbuf).data_len))
    }
}
