//! The counters of all workers, to read.

use engine::counters::{Counters, LinkCounter, ServiceCounter, Total};
use engine::reason::Reason;
use hugepages::Region;

/// The counters of a region: one block for each worker, and the last one for the main core.
#[derive(Debug)]
pub struct AllCounters {
    blocks: Vec<Counters>,
}

impl AllCounters {
    /// The counters of this region.
    #[must_use]
    pub fn of(region: &Region) -> Self {
        let block = |at| Counters::new(region.worker_counters(at), region.service_counters(at));
        Self {
            blocks: (0..region.geometry().workers).map(block).collect(),
        }
    }

    /// Those of the workers.
    #[must_use]
    pub fn workers(&self) -> &[Counters] {
        let count = self.blocks.len().saturating_sub(1);
        &self.blocks[..count]
    }

    /// Those of the workers and of the main core.
    #[must_use]
    pub fn blocks(&self) -> &[Counters] {
        &self.blocks
    }

    /// The same with names: a worker's number, or `main`.
    pub fn named(&self) -> impl Iterator<Item = (String, &Counters)> {
        let main = self.workers().len();
        self.blocks.iter().enumerate().map(move |(at, block)| {
            let name = if at == main {
                "main".to_owned()
            } else {
                at.to_string()
            };
            (name, block)
        })
    }

    /// A service's counter over all workers.
    #[must_use]
    pub fn service(&self, slot: u32, counter: ServiceCounter) -> u64 {
        sum(&self.blocks, |block| block.service(slot, counter))
    }

    /// A link's counter over all workers.
    #[must_use]
    pub fn link(&self, link: usize, counter: LinkCounter) -> u64 {
        sum(&self.blocks, |block| block.link(link, counter))
    }
}

/// A total over these blocks.
#[must_use]
pub fn total(blocks: &[Counters], total: Total) -> u64 {
    sum(blocks, |block| block.total(total))
}

/// Frames dropped for a reason, over these blocks.
#[must_use]
pub fn drops(blocks: &[Counters], reason: Reason) -> u64 {
    sum(blocks, |block| block.drops(reason))
}

fn sum(blocks: &[Counters], count: impl Fn(&Counters) -> u64) -> u64 {
    blocks.iter().map(count).fold(0, u64::wrapping_add)
}
