//! Links whose devices leave while workers poll them.
//!
//! The machine waits with taking a NIC away until it is closed, and it can be closed when no worker has a queue of it any
//! more. So the main core recalls the link, workers see it within some hundred turns and give their queues up, and the main
//! core closes what it then has alone. What is still sent there counts as refused by a full device.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::handover::Side;

/// Said by the main core, heard by all workers.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    /// A bit for each link.
    links: AtomicU32,
}

const _: () = assert!(engine::counters::MAX_LINKS <= 32);

impl Recall {
    /// Has every worker give up its queue of this link, for good.
    pub(crate) fn link(&self, link: usize) {
        // Relaxed, here and below: the bits stand alone. What a worker did to a queue is seen by whoever closes the port
        // because the queue's end is ordered before it.
        self.links.fetch_or(1 << link, Ordering::Relaxed);
    }

    /// Gives up what is recalled of a worker's links.
    pub(crate) fn obey(&self, sides: &mut [Side]) {
        let links = self.links.load(Ordering::Relaxed);
        if links == 0 {
            return;
        }
        for side in sides.iter_mut().filter(|side| links >> side.link & 1 == 1) {
            side.queue = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_that_are_recalled_are_given_up_and_stay_so() {
        let recall = Recall::default();
        let bits = || recall.links.load(Ordering::Relaxed);
        recall.link(3);
        recall.link(0);
        recall.link(3);
        assert_eq!(bits(), 0b1001);
    }
}
