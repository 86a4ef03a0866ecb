//! The worker: carries frames of established flows all the time, and notices what the main core publishes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use engine::counters::{Counters, Total};
use engine::family::{Family, V4};
use engine::observe::Observe;
use engine::publish::Subscriber;
use engine::snapshot::{Action, Snapshot};
use engine::{Now, Pipeline, Shared};
use hugepages::object::Backend;
use packet::memory::{HeapBuffer, HeapPool};
use packet::parse::TCP;
use packet::tcp::{ACK, SYN};
use packet::tuple::Tuple;
use packet::{BURST, Burst};

use super::talk::{Expected, GatewayNews, GatewayOrder, Window, now};
use crate::Error;
use crate::bench::crew::{cpus_for, pin};
use crate::bench::{Random, Stamp};
use crate::engine::cluster::{Cluster, LINK_MACS, NODE_MAC, NODES, OUTSIDE, ROUTER_MAC};
use crate::engine::flows::FlowSet;
use crate::engine::gateway::introduce;

/// Bursts that are written, then timed together. Between two of these rounds the worker looks for orders and a new
/// snapshot, so a change is noticed some ten microseconds late.
const BURSTS: usize = 8;

/// Rounds between two looks at the tables' upkeep.
const UPKEEP_EVERY: u32 = 32;

/// Buckets looked at then: as in the data plane's worker.
const UPKEEP_BUCKETS: usize = 8;

/// First frames of new flows that may miss the endpoint that they are to meet.
const TRIES: usize = 1 << 16;

/// Bytes of a frame without FCS.
const FRAME: usize = 60;

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) cluster: Cluster,
    pub(super) shared: Arc<Shared>,
    pub(super) snapshots: Subscriber<Snapshot>,
    /// For the pipeline by which flows are opened, and to look at.
    pub(super) more_snapshots: [Subscriber<Snapshot>; 2],
    pub(super) counters: Counters,
    pub(super) seed: u64,
    pub(super) orders: Receiver<GatewayOrder>,
    pub(super) news: Sender<GatewayNews>,
    pub(super) stop: Arc<AtomicBool>,
}

/// See the module.
pub(super) struct Worker {
    cluster: Cluster,
    shared: Arc<Shared>,
    pipeline: Pipeline<HeapBuffer>,
    opener: Option<Pipeline<HeapBuffer>>,
    watched: Subscriber<Snapshot>,
    pool: HeapPool,
    flows: Option<FlowSet<V4>>,
    bursts: Vec<Burst<HeapBuffer>>,
    spare: Vec<HeapBuffer>,
    syn: Stamp,
    forward: Stamp,
    reply: Stamp,
    random: Random,
    /// New flows begun so far, of each service as many.
    begun: u64,
    expected: Option<Expected>,
    window: Window,
    orders: Receiver<GatewayOrder>,
    news: Sender<GatewayNews>,
    stop: Arc<AtomicBool>,
    start: Instant,
    second: u32,
}

impl Worker {
    pub(super) fn new(parts: Parts) -> Result<Self, Error> {
        let [outside, nodes] = LINK_MACS;
        let Parts {
            cluster,
            shared,
            snapshots,
            more_snapshots: [opener_snapshots, watched],
            counters,
            seed,
            orders,
            news,
            stop,
        } = parts;
        let opener = Pipeline::new(
            shared.clone(),
            opener_snapshots,
            Counters::heap(shared.endpoints.services() as usize),
            1,
            seed ^ 1,
        );
        Ok(Self {
            pipeline: Pipeline::new(shared.clone(), snapshots, counters, 0, seed),
            opener: Some(opener),
            watched,
            pool: HeapPool::default(),
            flows: None,
            bursts: (0..BURSTS).map(|_| Burst::new()).collect(),
            spare: Vec::new(),
            syn: Stamp::tcp::<V4>(SYN, FRAME, ROUTER_MAC, outside)?,
            forward: Stamp::tcp::<V4>(ACK, FRAME, ROUTER_MAC, outside)?,
            reply: Stamp::tcp::<V4>(ACK, FRAME, NODE_MAC, nodes)?,
            random: Random::new(seed, 0),
            begun: 0,
            expected: None,
            window: Window::default(),
            start: Instant::now(),
            second: 0,
            cluster,
            shared,
            orders,
            news,
            stop,
        })
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) -> Result<(), Error> {
        pin(cpus_for(1)[0]);
        let mut generation = self.pipeline.generation();
        let mut rounds = 0_u32;
        // Relaxed: the flag stands alone.
        while !self.stop.load(Ordering::Relaxed) {
            while let Ok(order) = self.orders.try_recv() {
                self.take(order)?;
            }
            self.look_at_the_clock();
            rounds = rounds.wrapping_add(1);
            let is_idle = self.flows.is_none() && generation > 0;
            if is_idle || rounds.is_multiple_of(UPKEEP_EVERY) {
                let now = self.now();
                self.pipeline
                    .upkeep(now, UPKEEP_BUCKETS, &mut self.pool, &mut ());
            }
            if !is_idle {
                self.round();
            }
            if self.pipeline.generation() != generation {
                generation = self.pipeline.generation();
                self.notice(generation);
            }
        }
        self.pipeline.finish();
        Ok(())
    }

    /// Tells of a new generation, unless something else is waited for.
    fn notice(&mut self, generation: u64) {
        let at = now();
        self.watched.refresh();
        let expected = self.expected;
        if expected.is_some_and(|expected| !self.has(&expected)) {
            return;
        }
        self.expected = None;
        let met = expected
            .filter(|expected| expected.is_looked_for)
            .and_then(|expected| self.look_for(expected));
        let _ = self.news.send(GatewayNews::Seen {
            generation,
            at,
            met,
        });
    }

    /// Whether the snapshot has what is expected.
    fn has(&self, expected: &Expected) -> bool {
        let address = V4::number(self.cluster.frontend(expected.service));
        let snapshot = self.watched.get();
        let frontend = address.and_then(|address| snapshot.frontend::<V4>(address, TCP, 80));
        frontend.is_some_and(|frontend| {
            frontend.actions.iter().any(|action| match action {
                Action::Translate { set, .. } => expected.backend.is_none_or(|(address, port)| {
                    let backend = Backend { address, port };
                    set.members.binary_search(&backend).is_ok()
                }),
                Action::Reject(_) | Action::Drop(_) => false,
            })
        })
    }

    fn take(&mut self, order: GatewayOrder) -> Result<(), Error> {
        match order {
            GatewayOrder::Establish(count) => {
                if let Some(opener) = self.opener.take() {
                    let flows = FlowSet::establish(self.cluster, opener, count, |_| {})?;
                    // Flows that are begun from now on are none of these, nor those begun before.
                    self.begun += flows.next.div_ceil(self.cluster.services as u64);
                    let _ = self.news.send(GatewayNews::Established(flows.len()));
                    self.flows = Some(flows);
                }
            }
            GatewayOrder::Expect(expected) => {
                self.expected = Some(expected);
                let _ = self.news.send(GatewayNews::Expecting);
            }
            GatewayOrder::Window => {
                let window = std::mem::take(&mut self.window);
                let _ = self.news.send(GatewayNews::Window(window));
            }
            GatewayOrder::Memory => {}
        }
        Ok(())
    }

    /// Writes bursts and takes them through the pipeline, timed: of established flows if there are any, else of
    /// clients whose service is not there yet.
    fn round(&mut self) {
        let mut bursts = std::mem::take(&mut self.bursts);
        for (number, burst) in bursts.iter_mut().enumerate() {
            while !burst.is_full() {
                let mut frame = self.frame();
                self.write(number, &mut frame);
                burst.push(frame);
            }
        }
        let now = self.now();
        let before = self.pipeline.counters().total(Total::Hits);
        let start = Instant::now();
        for (number, burst) in bursts.iter_mut().enumerate() {
            let (pipeline, pool) = (&mut self.pipeline, &mut self.pool);
            pipeline.process(now, link(number), burst, pool, &mut ());
            self.collect();
        }
        let nanos = start.elapsed().as_nanos() as u64;
        self.bursts = bursts;
        if self.flows.is_some() {
            self.window.frames += (BURSTS * BURST) as u64;
            self.window.hits += self.pipeline.counters().total(Total::Hits) - before;
            self.window.nanos += nanos;
        }
    }

    fn write(&mut self, number: usize, frame: &mut HeapBuffer) {
        let Some(flows) = &self.flows else {
            let key = self.cluster.tuple::<V4>(self.random.below(1 << 20) as u64);
            self.syn.write::<V4, _>(frame, &key);
            return;
        };
        let flow = self.random.below(flows.len());
        if link(number) == NODES {
            self.reply.write::<V4, _>(frame, &flows.replies[flow]);
        } else {
            let key = self.cluster.tuple::<V4>(flows.numbers[flow].into());
            self.forward.write::<V4, _>(frame, &key);
        }
    }

    /// Begins flows to a service until one meets what is expected; returns when it had.
    fn look_for(&mut self, expected: Expected) -> Option<u64> {
        let mut seen = Met {
            expected: expected.backend,
            is_met: false,
        };
        let services = self.cluster.services as u64;
        let syn = self.syn.clone();
        for _ in 0..TRIES / BURST {
            let mut burst = Burst::new();
            while !burst.is_full() {
                let mut frame = self.frame();
                let flow = self.begun * services + expected.service as u64;
                self.begun += 1;
                syn.write::<V4, _>(&mut frame, &self.cluster.tuple::<V4>(flow));
                burst.push(frame);
            }
            let now_second = self.now();
            let (pipeline, pool) = (&mut self.pipeline, &mut self.pool);
            pipeline.process(now_second, OUTSIDE, &mut burst, pool, &mut seen);
            self.collect();
            if seen.is_met {
                return Some(now());
            }
        }
        None
    }

    /// Takes what is to be sent off the links.
    fn collect(&mut self) {
        for at in [OUTSIDE, NODES] {
            let bytes = self.pipeline.take_bytes(at);
            let Some(output) = self.pipeline.output(at) else {
                continue;
            };
            let frames = output.len() as u64;
            if frames > 0 {
                self.spare.extend(output.drain(..));
                self.pipeline.sent(at, frames, bytes, 0);
            }
        }
    }

    fn frame(&mut self) -> HeapBuffer {
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| HeapBuffer::with_capacity(2048))
    }

    fn now(&self) -> Now {
        Now {
            second: self.second,
        }
    }

    /// Seconds since the start; next hops answer anew in each.
    fn look_at_the_clock(&mut self) {
        let second = 1 + self.start.elapsed().as_secs() as u32;
        if second != self.second {
            self.second = second;
            introduce(&self.shared, &self.cluster, second);
        }
    }
}

/// The link that a burst comes from.
const fn link(burst: usize) -> usize {
    if burst.is_multiple_of(2) {
        OUTSIDE
    } else {
        NODES
    }
}

/// Whether a new flow has gone where it was to go.
struct Met {
    expected: Option<(IpAddr, u16)>,
    is_met: bool,
}

impl Observe for Met {
    fn translated(&mut self, _from: &Tuple, to: &Tuple) {
        let met = (to.destination, to.destination_port);
        self.is_met |= self.expected.is_none_or(|expected| expected == met);
    }
}
