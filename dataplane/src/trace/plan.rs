//! What one trace shares between the main core and the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use engine::trace::{Record, Request, Sheets};

/// Records that may be on their way at a time.
pub(super) const DEPTH: usize = 256;

/// One trace.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) request: Arc<Request>,
    /// Empty records: as many as may be told by now.
    pub(super) empty: ArrayQueue<Box<Record>>,
    /// Full ones.
    pub(super) full: ArrayQueue<Box<Record>>,
    /// Frames that workers looked at, and did not for want of effort; that they had no empty record for.
    pub(super) examined: AtomicU64,
    pub(super) unexamined: AtomicU64,
    pub(super) missed: AtomicU64,
}

impl Plan {
    pub(super) fn new(request: Request) -> Self {
        Self {
            request: Arc::new(request),
            empty: ArrayQueue::new(DEPTH),
            full: ArrayQueue::new(DEPTH),
            examined: AtomicU64::new(0),
            unexamined: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }
}

/// A worker's way to the records of a plan.
#[derive(Debug)]
pub(crate) struct PlanSheets(pub(super) Arc<Plan>);

impl Sheets for PlanSheets {
    fn take(&mut self) -> Option<Box<Record>> {
        let empty = self.0.empty.pop();
        if empty.is_none() {
            // Relaxed: the number stands alone.
            self.0.missed.fetch_add(1, Ordering::Relaxed);
        }
        empty
    }

    fn tell(&mut self, record: Box<Record>) {
        // There is room: no more records than DEPTH exist. A record that found none would be freed here.
        let _ = self.0.full.push(record);
    }

    fn put_back(&mut self, mut record: Box<Record>) {
        record.clear();
        let _ = self.0.empty.push(record);
    }
}
