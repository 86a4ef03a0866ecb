//! Writes down what the pipeline tells of frames.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use hugepages::object::{FrontendKind, SourceClass};
use packet::tuple::Tuple;

use crate::family::{V4, V6};
use crate::lane::Tabled;
use crate::observe::{Observe, Own, Waits};
use crate::reason::Reason;
use crate::service::{Decision, Outcome};
use crate::shared::Shared;
use crate::slots::SHARED_SLOT;

use super::ends::is_wanted;
use super::record::{Record, Step};
use super::request::Request;

/// Frames whose end is not known yet, at most: those that are taken up again come many at a time.
const OPEN: usize = 64;

/// A frame, the reset that it causes, the question after its next hop; and one more.
const NESTED: usize = 4;

/// Where a tracer gets empty records and puts full ones. Neither may wait or allocate.
pub trait Sheets {
    /// An empty record, if one more frame may be told.
    fn take(&mut self) -> Option<Box<Record>>;
    /// A full one, to be told.
    fn tell(&mut self, record: Box<Record>);
    /// One that is not to be told.
    fn put_back(&mut self, record: Box<Record>);
}

/// One worker's observer.
#[derive(Debug)]
pub struct Tracer<S> {
    shared: Arc<Shared>,
    request: Arc<Request>,
    sheets: S,
    worker: u16,
    nanos: u64,
    current: Option<Box<Record>>,
    open: ArrayVec<Box<Record>, OPEN>,
    /// What was observed before a frame of the gateway's own began.
    aside: ArrayVec<Option<Box<Record>>, NESTED>,
}

impl<S: Sheets> Tracer<S> {
    /// A tracer of worker number `worker`.
    pub const fn new(shared: Arc<Shared>, request: Arc<Request>, sheets: S, worker: u16) -> Self {
        Self {
            shared,
            request,
            sheets,
            worker,
            nanos: 0,
            current: None,
            open: ArrayVec::new_const(),
            aside: ArrayVec::new_const(),
        }
    }

    /// Where its records come from.
    pub const fn sheets(&self) -> &S {
        &self.sheets
    }

    /// Sets the time of what follows, in nanoseconds of CLOCK_MONOTONIC.
    pub const fn set_time(&mut self, nanos: u64) {
        self.nanos = nanos;
    }

    /// Whether a frame that came in by link `input` is asked for.
    #[must_use]
    pub fn wants(&self, input: usize, bytes: &[u8]) -> bool {
        is_wanted(&self.request, &self.shared, Some(input), bytes)
    }

    /// Begins with a frame; what is observed from now on is about it. False if no more may be told.
    pub fn begin(&mut self, input: usize, bytes: &[u8]) -> bool {
        self.end();
        self.current = self.sheets.take();
        if let Some(record) = &mut self.current {
            open(record, self.worker, self.nanos, Some(input as u8), bytes);
        }
        self.current.is_some()
    }

    /// What is observed from now on is about no frame.
    pub fn end(&mut self) {
        let Some(mut record) = self.current.take() else {
            return;
        };
        // What was put out may yet be refused by the device; what was not has come to its end. Frames that are taken up
        // again come many at a time, and those that are not asked for must not use up the paper.
        let is_over = record.outs().next().is_none();
        if is_over && !self.request.wants(record.dropped()) {
            self.sheets.put_back(record);
        } else if let Err(full) = self.open.try_push(record) {
            self.sheets.put_back(full.element());
        }
    }

    /// Link `link` had no room for the frame whose bytes lie here. One that is in no record, because it was
    /// begun by another worker or by nobody, has one of its own.
    pub fn refused(&mut self, link: usize, bytes: &[u8]) {
        let place = bytes.as_ptr().addr();
        let mut is_known = false;
        for record in &mut self.open {
            let mut is_ours = false;
            for out in record.outs().filter(|out| out.place == place) {
                out.refused = true;
                is_ours = true;
            }
            if is_ours {
                record.note(dropped(Reason::TxFull));
            }
            is_known |= is_ours;
        }
        if !is_known && is_wanted(&self.request, &self.shared, None, bytes) {
            self.end();
            self.current = self.sheets.take();
            self.queued(link, bytes);
            if let Some(record) = &mut self.current {
                open(record, self.worker, self.nanos, None, bytes);
            }
            self.dropped(Reason::TxFull);
            self.end();
        }
    }

    /// Frames put out on this link are sent by another worker.
    pub fn handed_over(&mut self, link: usize) {
        let outs = self.open.iter_mut().flat_map(|record| record.outs());
        outs.filter(|out| usize::from(out.link) == link)
            .for_each(|out| out.handed_over = true);
    }

    /// Tells what has ended.
    pub fn tell(&mut self) {
        self.end();
        for record in self.open.drain(..) {
            if self.request.wants(record.dropped()) {
                self.sheets.tell(record);
            } else {
                self.sheets.put_back(record);
            }
        }
    }

    fn note(&mut self, step: Step) {
        if let Some(record) = &mut self.current {
            record.note(step);
        }
    }
}

impl<S: Sheets> Observe for Tracer<S> {
    fn parsed(&mut self, kind: &'static str) {
        self.note(Step::Parsed { kind: kind.into() });
    }

    fn found(&mut self, tuple: &Tuple, slot: u32) {
        if self.current.is_none() {
            return;
        }
        let shared = &self.shared;
        let flow = if tuple.source.is_ipv4() {
            flow::<V4>(shared, tuple)
        } else {
            flow::<V6>(shared, tuple)
        };
        let (state, forward) = flow.unwrap_or(("ending", true));
        let state = state.into();
        self.note(Step::Found {
            state,
            slot,
            forward,
        });
    }

    fn decided(&mut self, _tuple: &Tuple, decision: &Decision<'_>) {
        if self.current.is_none() {
            return;
        }
        let name = |reason: Reason| Some(Cow::Borrowed(reason.name()));
        let (verdict, reason) = match decision.outcome {
            Outcome::Translate { .. } => ("translate", None),
            Outcome::Reject(reason) => ("reject", name(reason)),
            Outcome::Drop(reason) => ("drop", name(reason)),
            Outcome::Pass(reason) => ("pass", name(reason)),
        };
        let (backends, masquerade) = match decision.outcome {
            Outcome::Translate { set, masquerade } => (set.members.len(), masquerade),
            _ => (0, false),
        };
        let frontend = decision.frontend;
        let service = frontend.and_then(|frontend| frontend.service.as_ref());
        self.note(Step::Decided {
            verdict: verdict.into(),
            reason,
            frontend: frontend.map(|frontend| SocketAddr::new(frontend.address, frontend.port)),
            kind: frontend.map(|frontend| kind_name(frontend.kind).into()),
            slot: service.map_or(SHARED_SLOT, |service| service.slot),
            client: class_name(decision.class).into(),
            backends,
            masquerade,
        });
    }

    fn translated(&mut self, from: &Tuple, to: &Tuple) {
        self.note(Step::Translated {
            from: from.from(),
            to: from.to(),
            new_from: to.from(),
            new_to: to.to(),
        });
    }

    fn next_hop(&mut self, neighbour: u16) {
        if let Some((link, address)) = self.shared.neighbours.identity(neighbour) {
            self.note(Step::NextHop { link, address });
        }
    }

    fn waits(&mut self, what: Waits) {
        let what = match what {
            Waits::Neighbour => "neighbour",
            Waits::FirstFragment => "first_fragment",
        };
        self.note(Step::Waits { what: what.into() });
    }

    fn resumed(&mut self, bytes: &[u8]) {
        self.end();
        if !is_wanted(&self.request, &self.shared, None, bytes) {
            return;
        }
        self.current = self.sheets.take();
        if let Some(record) = &mut self.current {
            open(record, self.worker, self.nanos, None, bytes);
            record.note(Step::Resumed);
        }
    }

    fn queued(&mut self, link: usize, bytes: &[u8]) {
        if let Some(record) = &mut self.current {
            record.add_out(link, bytes);
        }
    }

    fn answered(&mut self) {
        self.note(Step::Answered);
    }

    fn given_to_host(&mut self) {
        self.note(Step::ToHost);
    }

    fn own_begins(&mut self, link: usize, what: Own, bytes: &[u8]) {
        let before = self.current.take();
        if let Err(full) = self.aside.try_push(before)
            && let Some(record) = full.element()
        {
            self.sheets.put_back(record);
        }
        if !is_wanted(&self.request, &self.shared, Some(link), bytes) {
            return;
        }
        self.current = self.sheets.take();
        if let Some(record) = &mut self.current {
            open(record, self.worker, self.nanos, None, bytes);
            let what = what.name().into();
            record.note(Step::Own { what });
        }
    }

    fn own_ends(&mut self) {
        self.end();
        self.current = self.aside.pop().flatten();
    }

    fn dropped(&mut self, reason: Reason) {
        if let Some(record) = &mut self.current {
            // What has been put out is on its way, unless it is this frame that found no room.
            if reason == Reason::TxFull
                && let Some(last) = record.outs().next_back()
            {
                last.refused = true;
            }
            record.note(dropped(reason));
        }
    }
}

fn open(record: &mut Record, worker: u16, nanos: u64, input: Option<u8>, bytes: &[u8]) {
    record.worker = worker;
    record.nanos = nanos;
    record.input = input;
    record.frame.fill(bytes);
}

fn dropped(reason: Reason) -> Step {
    let reason = reason.name().into();
    Step::Dropped { reason }
}

/// State of the flow of this tuple, and whether it is that of its client's frames.
fn flow<F: Tabled>(shared: &Shared, tuple: &Tuple) -> Option<(&'static str, bool)> {
    let key = F::from_tuple(tuple)?;
    let table = F::table(shared);
    let hit = table.find(&key, table.place(&key))?;
    let flow = table.view_of(hit.index)?;
    Some((flow.state.name(), flow.forward == key))
}

const fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "clusterip",
        FrontendKind::NodePort => "nodeport",
        FrontendKind::LoadBalancer => "loadbalancer",
        FrontendKind::ExternalIp => "externalip",
    }
}

const fn class_name(class: SourceClass) -> &'static str {
    match class {
        SourceClass::Pod => "pod",
        SourceClass::Node => "node",
        SourceClass::Outside => "outside",
    }
}
