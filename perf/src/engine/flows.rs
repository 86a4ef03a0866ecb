//! Flows that are there before anything is timed, made by real first frames and real handshakes.

use engine::flow::FlowTable;
use engine::observe::Observe;
use engine::{Now, Pipeline, Reason, Shared};
use packet::memory::{HeapBuffer, HeapPool};
use packet::tcp::{ACK, SYN};
use packet::tuple::Tuple;
use packet::{BURST, Burst};

use super::cluster::{Cluster, LINK_MACS, NODE_MAC, NODES, OUTSIDE, ROUTER_MAC};
use crate::Error;
use crate::bench::Stamp;
use engine::family::{Family, V4, V6};

/// A family whose table can be found.
pub trait Tabled: Family<Key: Send + Sync, Translation: Send> {
    /// Its table.
    fn table(shared: &Shared) -> &FlowTable<Self>;
}

impl Tabled for V4 {
    fn table(shared: &Shared) -> &FlowTable<Self> {
        &shared.v4
    }
}

impl Tabled for V6 {
    fn table(shared: &Shared) -> &FlowTable<Self> {
        &shared.v6
    }
}

/// Bursts without a single new flow after which a table is taken for full.
const FULL_AFTER: u32 = 256;

/// Flows that a table of nominal size may refuse, of a thousand: both buckets of a tuple may be full long
/// before the table is.
const REFUSED_PER_MILLE: u64 = 1;

/// Established flows.
#[derive(Debug)]
pub struct FlowSet<F: Family> {
    /// The cluster.
    pub cluster: Cluster,
    /// For each flow its number in the cluster.
    pub numbers: Vec<u32>,
    /// For each flow the tuple of its backend's frames.
    pub replies: Vec<F::Key>,
    /// First flow number that was not tried.
    pub next: u64,
}

impl<F: Tabled> FlowSet<F> {
    /// Opens `count` connections; a handshake each.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if the gateway does not translate one of the frames.
    pub fn establish(
        cluster: Cluster,
        pipeline: Pipeline<HeapBuffer>,
        count: usize,
        progress: impl Fn(usize),
    ) -> Result<Self, Error> {
        let mut opener = Opener::<F>::new(pipeline)?;
        let mut set = Self::none(cluster, count);
        let refused = (count as u64 * REFUSED_PER_MILLE).div_ceil(1000);
        // A small table is unlucky more often.
        let most = count as u64 + refused.max(BURST as u64);
        while set.len() < count {
            let missing = (count - set.len()).min(BURST) as u64;
            if set.next + missing > most {
                return Err(Error::Run(format!(
                    "of {} flows only {} were made; dropped: {:?}",
                    set.next,
                    set.len(),
                    opener.dropped.map(engine::Reason::name)
                )));
            }
            set.open(&mut opener, missing);
            if set.len() % (1 << 16) < BURST {
                progress(set.len());
            }
        }
        Ok(set)
    }

    /// Opens connections until the table takes no more.
    ///
    /// # Errors
    ///
    /// As [`FlowSet::establish`].
    pub fn fill(cluster: Cluster, pipeline: Pipeline<HeapBuffer>) -> Result<Self, Error> {
        let mut opener = Opener::<F>::new(pipeline)?;
        let mut set = Self::none(cluster, 0);
        let mut refused = 0;
        while refused < FULL_AFTER {
            let opened = set.open(&mut opener, BURST as u64);
            refused = if opened == 0 { refused + 1 } else { 0 };
        }
        Ok(set)
    }

    fn none(cluster: Cluster, count: usize) -> Self {
        Self {
            cluster,
            numbers: Vec::with_capacity(count),
            replies: Vec::with_capacity(count),
            next: 0,
        }
    }

    /// Opens the next `count` flows; returns how many were.
    fn open(&mut self, opener: &mut Opener<F>, count: u64) -> usize {
        let opened = opener.open(&self.cluster, self.next..self.next + count);
        self.next += count;
        for (number, reply) in &opened {
            self.numbers.push(*number as u32);
            self.replies.push(*reply);
        }
        opened.len()
    }

    /// Number of flows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replies.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }
}

/// Plays clients and pods of connections being opened.
struct Opener<F: Family> {
    pipeline: Pipeline<HeapBuffer>,
    pool: HeapPool,
    seen: Seen,
    /// Why a frame was dropped, last.
    dropped: Option<Reason>,
    spare: Vec<HeapBuffer>,
    syn: Stamp,
    syn_ack: Stamp,
    ack: Stamp,
    family: std::marker::PhantomData<F>,
}

#[derive(Default)]
struct Seen {
    translated: Vec<(Tuple, Tuple)>,
    dropped: Vec<Reason>,
}

impl Observe for Seen {
    fn translated(&mut self, from: &Tuple, to: &Tuple) {
        self.translated.push((*from, *to));
    }

    fn dropped(&mut self, reason: Reason) {
        self.dropped.push(reason);
    }
}

impl<F: Tabled> Opener<F> {
    fn new(pipeline: Pipeline<HeapBuffer>) -> Result<Self, Error> {
        let [outside, nodes] = LINK_MACS;
        Ok(Self {
            pipeline,
            pool: HeapPool::default(),
            seen: Seen::default(),
            dropped: None,
            spare: Vec::new(),
            syn: Stamp::tcp::<F>(SYN, 60, ROUTER_MAC, outside)?,
            syn_ack: Stamp::tcp::<F>(SYN | ACK, 60, NODE_MAC, nodes)?,
            ack: Stamp::tcp::<F>(ACK, 60, ROUTER_MAC, outside)?,
            family: std::marker::PhantomData,
        })
    }

    /// Opens these flows; returns number and tuple of the backend's frames of those that were opened.
    fn open(&mut self, cluster: &Cluster, flows: std::ops::Range<u64>) -> Vec<(u64, F::Key)> {
        let keys: Vec<F::Key> = flows.clone().map(|flow| cluster.tuple::<F>(flow)).collect();
        let syn = self.syn.clone();
        let translated = self.pass(OUTSIDE, &syn, &keys);
        // What was translated comes in the order in which it was sent.
        let mut sent = flows.zip(keys);
        let opened: Vec<_> = translated
            .into_iter()
            .filter_map(|(from, to)| {
                let (flow, key) = sent.find(|(_, key)| *key == from)?;
                Some((flow, key, F::reverse(&to)))
            })
            .collect();
        let clients: Vec<F::Key> = opened.iter().map(|(_, client, _)| *client).collect();
        let replies: Vec<F::Key> = opened.iter().map(|(_, _, reply)| *reply).collect();
        let (syn_ack, ack) = (self.syn_ack.clone(), self.ack.clone());
        self.pass(NODES, &syn_ack, &replies);
        // One that had to make room for another of these, where the buckets of both were full, is made anew by its
        // ACK: it is not the flow that was opened.
        let acknowledged = self.pass(OUTSIDE, &ack, &clients);
        opened
            .into_iter()
            .filter(|(_, client, reply)| {
                // At most a burst, and in no order: the fast lane is ahead.
                let mut acknowledged = acknowledged.iter();
                acknowledged.any(|(from, to)| from == client && F::reverse(to) == *reply)
            })
            .map(|(flow, _, reply)| (flow, reply))
            .collect()
    }

    fn pass(&mut self, link: usize, stamp: &Stamp, keys: &[F::Key]) -> Vec<(F::Key, F::Key)> {
        let mut burst = Burst::new();
        for key in keys {
            let spare = self.spare.pop();
            let mut frame = spare.unwrap_or_else(|| HeapBuffer::with_capacity(2048));
            stamp.write::<F, _>(&mut frame, key);
            burst.push(frame);
        }
        let now = Now { second: 0 };
        self.seen = Seen::default();
        self.pipeline
            .process(now, link, &mut burst, &mut self.pool, &mut self.seen);
        self.dropped = self.seen.dropped.last().copied().or(self.dropped);
        for (_, output) in self.pipeline.outputs() {
            self.spare.extend(output.drain(..));
        }
        self.seen
            .translated
            .iter()
            .filter_map(|(from, to)| Some((F::from_tuple(from)?, F::from_tuple(to)?)))
            .collect()
    }
}
