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

/// Established flows: number `i` is the cluster's flow `i`.
#[derive(Debug)]
pub struct FlowSet<F: Family> {
    /// The cluster.
    pub cluster: Cluster,
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
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            let first = replies.len() as u64;
            let last = (first + BURST as u64).min(count as u64);
            let opened = opener.open(&cluster, first..last);
            if opened.len() as u64 != last - first {
                return Err(Error::Run(format!(
                    "of the flows {first}..{last}, {} were made; dropped: {:?}",
                    opened.len(),
                    opener.seen.dropped.first().map(|reason| reason.name())
                )));
            }
            replies.extend(opened.into_iter().map(|(_, reply)| reply));
            if first.is_multiple_of(1 << 16) {
                progress(replies.len());
            }
        }
        Ok(Self {
            cluster,
            next: replies.len() as u64,
            replies,
        })
    }

    /// Opens connections until the table takes no more.
    ///
    /// # Errors
    ///
    /// As [`FlowSet::establish`].
    pub fn fill(cluster: Cluster, pipeline: Pipeline<HeapBuffer>) -> Result<Self, Error> {
        let mut opener = Opener::<F>::new(pipeline)?;
        let mut set = Self {
            cluster,
            replies: Vec::new(),
            next: 0,
        };
        let mut refused = 0;
        while refused < FULL_AFTER {
            let opened = opener.open(&cluster, set.next..set.next + BURST as u64);
            set.next += BURST as u64;
            refused = if opened.is_empty() { refused + 1 } else { 0 };
            set.replies
                .extend(opened.into_iter().map(|(_, reply)| reply));
        }
        Ok(set)
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
    fn translated(&mut self, from: &Tuple, to: &Tuple, _first: bool) {
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
            spare: Vec::new(),
            syn: Stamp::tcp::<F>(SYN, 60, ROUTER_MAC, outside)?,
            syn_ack: Stamp::tcp::<F>(SYN | ACK, 60, NODE_MAC, nodes)?,
            ack: Stamp::tcp::<F>(ACK, 60, ROUTER_MAC, outside)?,
            family: std::marker::PhantomData,
        })
    }

    /// Opens these flows; returns the tuples of both directions of those that were opened.
    fn open(&mut self, cluster: &Cluster, flows: std::ops::Range<u64>) -> Vec<(F::Key, F::Key)> {
        let keys: Vec<F::Key> = flows.map(|flow| cluster.tuple::<F>(flow)).collect();
        let syn = self.syn.clone();
        let translated = self.pass(OUTSIDE, &syn, &keys);
        let opened: Vec<(F::Key, F::Key)> = translated
            .into_iter()
            .map(|(from, to)| (from, F::reverse(&to)))
            .collect();
        let (clients, replies): (Vec<_>, Vec<_>) = opened.iter().copied().unzip();
        let (syn_ack, ack) = (self.syn_ack.clone(), self.ack.clone());
        self.pass(NODES, &syn_ack, &replies);
        self.pass(OUTSIDE, &ack, &clients);
        opened
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
