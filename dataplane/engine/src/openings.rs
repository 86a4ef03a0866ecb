//! Flows whose handshake is not complete, in the order in which a worker made them: what keeps a flood from
//! taking the table.
//!
//! Each service has a queue of the flows last made for it. The queue has a quota, and so have all queues
//! together; a flow that would be one too many takes the place of the oldest one, which is removed from
//! the table if it still is half-open. So at no time are there more half-open flows than the quota, the
//! oldest go first, and a flood of one service's takes nothing from another. What a flow is by
//! now is asked only when it is the oldest: the frames that complete a handshake pay nothing.
//!
//! A worker's queues are its own, plain memory of fixed size; each worker has its share of the quotas. A new
//! flow costs a place at the tail, and a look at the head where the queue is full.
//!
//! Of UDP, a flow that was answered once is as cheap to make as one that was not (the pod answers whoever
//! asks), so it counts as half-open until its client has sent in a later second than its first; answered or
//! not, it has its place then.

use crate::flow::{FlowTable, FlowView, Inserted, Life};
use crate::lane::{Lane, Tabled};
use crate::limits::Limits;
use crate::shared::Shared;

/// No node.
const NONE: u32 = u32::MAX;

/// A worker's queues, one set for each family.
#[derive(Debug)]
pub(crate) struct Openings {
    v4: Queues,
    v6: Queues,
}

/// Queues of one family.
#[derive(Debug)]
struct Queues {
    /// Filled up to its capacity, which is what all queues may hold; then nodes are used again.
    nodes: Vec<Node>,
    services: Box<[Queue]>,
    /// Nodes that a service may have.
    quota: u32,
    /// A service with (about) the longest queue: gives a node when there is none left.
    longest: u32,
}

/// The flows of one service, oldest first.
#[derive(Debug, Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

/// A flow as it was made.
#[derive(Debug, Clone, Copy)]
struct Node {
    flow: Opened,
    next: u32,
}

/// What is kept of a flow: which one it is, and when it was made.
#[derive(Debug, Clone, Copy)]
struct Opened {
    index: u32,
    reply: u32,
    life: Life,
    second: u32,
}

impl Openings {
    /// A worker's, with queues for so many service slots.
    pub(crate) fn new(shared: &Shared, services: usize) -> Self {
        let limits = &shared.options.limits;
        Self {
            v4: Queues::new(limits, services, shared.v4.slots()),
            v6: Queues::new(limits, services, shared.v6.slots()),
        }
    }

    /// Notes a flow made for service `slot`. Where that makes one too many, the oldest is removed if it still
    /// is half-open, and returned. `most` bounds the service's queue further.
    #[inline(never)]
    pub(crate) fn opened<F: Tabled>(
        &mut self,
        table: &FlowTable<F>,
        slot: u32,
        most: u32,
        flow: &Inserted<F>,
        second: u32,
    ) -> Option<FlowView<F>> {
        let queues = if F::PLAIN == Lane::Plain4 {
            &mut self.v4
        } else {
            &mut self.v6
        };
        let opened = Opened {
            index: flow.index,
            reply: flow.reply,
            life: flow.life,
            second,
        };
        let (oldest, next) = queues.push(slot, most, opened);
        if let Some(next) = next {
            // The next one's turn comes with the next flow: its lines are on their way until then.
            table.prefetch_entry(next.index);
            table.prefetch_entry(next.reply);
        }
        let Opened {
            index,
            reply,
            life,
            second,
        } = oldest?;
        table.remove_if_half_open((index, reply), life, second)
    }
}

impl Queues {
    fn new(limits: &Limits, services: usize, slots: usize) -> Self {
        let flows = slots / hugepages::layout::SLOTS_PER_FLOW;
        let share = |percent: u8| {
            let all = flows as u64 * u64::from(percent) / 100;
            (all / u64::from(limits.workers.max(1))).clamp(1, u64::from(NONE - 1)) as u32
        };
        let queue = Queue {
            head: NONE,
            tail: NONE,
            len: 0,
        };
        Self {
            nodes: Vec::with_capacity(share(limits.half_open_percent) as usize),
            services: vec![queue; services.max(1)].into_boxed_slice(),
            quota: share(limits.half_open_per_service_percent),
            longest: 0,
        }
    }

    /// Appends a flow to the queue of a service. Returns the flow whose place it took, and the one that is
    /// the service's oldest now if the next flow will take its place.
    fn push(&mut self, slot: u32, most: u32, flow: Opened) -> (Option<Opened>, Option<Opened>) {
        // Services without a slot of their own share one.
        let slot = if (slot as usize) < self.services.len() {
            slot
        } else {
            crate::slots::SHARED_SLOT
        };
        let most = self.quota.min(most).max(1);
        let len = self.services[slot as usize].len;
        let (at, oldest) = if len >= most {
            self.pop(slot)
        } else if self.nodes.len() < self.nodes.capacity() {
            self.nodes.push(Node { flow, next: NONE });
            (self.nodes.len() as u32 - 1, None)
        } else {
            // Not empty: whoever pushes more than it has becomes the longest.
            self.pop(self.longest)
        };
        self.nodes[at as usize] = Node { flow, next: NONE };
        let queue = &mut self.services[slot as usize];
        if queue.len == 0 {
            queue.head = at;
        } else {
            self.nodes[queue.tail as usize].next = at;
        }
        let queue = &mut self.services[slot as usize];
        queue.tail = at;
        queue.len += 1;
        let (len, head) = (queue.len, queue.head);
        if len > self.services[self.longest as usize].len {
            self.longest = slot;
        }
        let next = (len >= most).then(|| self.nodes[head as usize].flow);
        (oldest, next)
    }

    /// Takes the oldest node from a queue that is not empty.
    fn pop(&mut self, slot: u32) -> (u32, Option<Opened>) {
        let queue = &mut self.services[slot as usize];
        let at = queue.head;
        let node = self.nodes[at as usize];
        queue.head = node.next;
        queue.len -= 1;
        (at, Some(node.flow))
    }
}
