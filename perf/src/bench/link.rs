//! What a worker has to do with: a link whose frames come back, and a pool.

use std::collections::VecDeque;

use packet::memory::{HeapBuffer, HeapPool};
use packet::{Buffer, Burst, Link, Pool};

/// A worker's own link and pool.
#[derive(Debug)]
pub struct Seat<L, P> {
    /// What is sent on it is received from it.
    pub link: L,
    /// Fresh buffers.
    pub pool: P,
}

impl<L: Link, P: Pool<Buffer = L::Buffer>> Seat<L, P> {
    /// Makes each of the bursts as long as `burst`; false when the pool has no more.
    pub fn fill(&mut self, bursts: &mut [Burst<L::Buffer>], burst: usize) -> bool {
        for frames in bursts {
            frames.truncate(burst);
            while frames.len() < burst {
                match self.pool.alloc() {
                    Some(frame) => frames.push(frame),
                    None => return false,
                }
            }
        }
        true
    }
}

/// A link in memory: sent frames are received in order. For runs without DPDK.
#[derive(Debug)]
pub struct LoopLink<B> {
    queue: VecDeque<B>,
}

impl<B> Default for LoopLink<B> {
    fn default() -> Self {
        Self {
            queue: VecDeque::with_capacity(1024),
        }
    }
}

impl<B: Buffer> Link for LoopLink<B> {
    type Buffer = B;

    fn rx_burst(&mut self, frames: &mut Burst<B>) -> usize {
        let count = self.queue.len().min(frames.remaining_capacity());
        frames.extend(self.queue.drain(..count));
        count
    }

    fn tx_burst(&mut self, frames: &mut Burst<B>) -> usize {
        let count = frames.len();
        self.queue.extend(frames.drain(..));
        count
    }
}

/// A seat in memory.
#[must_use]
pub fn memory_seat() -> Seat<LoopLink<HeapBuffer>, HeapPool> {
    Seat {
        link: LoopLink::default(),
        pool: HeapPool::default(),
    }
}
