//! Forgetting flows: a few buckets at a time, whenever a worker has nothing better to do.

use super::entry::{Direction, activity_parts};
use super::state::{State, Timeouts};
use super::table::{FlowTable, InsertError, Inserted, NewFlow};
use crate::family::Family;

/// Seconds after which a reply entry without its forward entry is taken for what a killed process
/// left behind (an insert takes microseconds).
const ORPHAN_SECONDS: u32 = 10;

/// A flow as listed: both directions' words put together.
#[derive(Debug, Clone, Copy)]
pub struct FlowView<F: Family> {
    /// Index of its forward entry.
    pub index: u32,
    /// Tuple of the client's frames.
    pub forward: F::Key,
    /// Tuple of what they become.
    pub translated: F::Key,
    /// State.
    pub state: State,
    /// Second of the last frame of either direction.
    pub last_seen: u32,
    /// Slot of the service's counters.
    pub service: u32,
}

impl<F: Family> FlowTable<F> {
    /// The flow whose forward entry is at `index`; `None` for anything else.
    #[must_use]
    pub fn view(&self, index: u32) -> Option<FlowView<F>> {
        let content = self.content(index)?;
        if content.peer.direction != Direction::Forward || !self.in_range(content.peer.index) {
            return None;
        }
        let (addresses, ports_word) = F::store(&content.translation);
        let (_, _, protocol) = F::split(&content.key);
        let (forward_second, forward_flags) = activity_parts(content.activity);
        let (reply_second, reply_flags) = self.activity(content.peer.index);
        Some(FlowView {
            index,
            forward: content.key,
            translated: F::join(addresses, (ports_word >> 32) as u32, protocol),
            state: State::of(protocol, forward_flags, reply_flags),
            // A reply entry reused since `content` was read may be from the future; harmless.
            last_seen: forward_second.max(reply_second),
            service: content.hop.service(),
        })
    }

    /// State of the flow that the entry at `index` (of either direction) belongs to.
    #[must_use]
    pub fn state(&self, index: u32) -> Option<State> {
        self.view_of(index).map(|flow| flow.state)
    }

    /// The flow that the entry at `index` (of either direction) belongs to.
    #[must_use]
    pub fn view_of(&self, index: u32) -> Option<FlowView<F>> {
        let content = self.content(index)?;
        match content.peer.direction {
            Direction::Forward => self.view(index),
            Direction::Reply if self.belong(content.peer.index, index) => {
                self.view(content.peer.index)
            }
            Direction::Reply => None,
        }
    }

    /// Every flow, bucket by bucket; flows that come or go meanwhile may or may not be among them.
    pub fn flows(&self) -> impl Iterator<Item = FlowView<F>> + '_ {
        (0..self.bucket_count()).flat_map(move |bucket| {
            let mut found = arrayvec::ArrayVec::<_, { super::table::SLOTS }>::new();
            self.visit_bucket(bucket, |index| found.extend(self.view(index)));
            found
        })
    }

    /// Forgets what has timed out in `count` buckets from `cursor` on, which moves along and wraps.
    /// Calls `gone` with each flow removed; returns how many.
    pub fn age(
        &self,
        cursor: &mut usize,
        count: usize,
        second: u32,
        timeouts: &Timeouts,
        mut gone: impl FnMut(&FlowView<F>),
    ) -> usize {
        let mut removed = 0;
        for _ in 0..count {
            *cursor = if *cursor >= self.bucket_count() {
                0
            } else {
                *cursor
            };
            self.visit_bucket(*cursor, |index| {
                if let Some(flow) = self.expired(index, second, timeouts)
                    && self.remove(flow.map_or(index, |flow| flow.index))
                {
                    if let Some(flow) = flow {
                        gone(&flow);
                    }
                    removed += 1;
                }
            });
            *cursor += 1;
        }
        removed
    }

    /// [`FlowTable::insert`], and when the buckets are full once more after making room: timed-out
    /// flows go first, else the oldest half-open one; established flows never. Calls `gone` with the flow
    /// that made room.
    ///
    /// # Errors
    ///
    /// As [`FlowTable::insert`]; `Full` when nothing could be evicted.
    pub fn insert_or_evict(
        &self,
        flow: &NewFlow<F>,
        timeouts: &Timeouts,
        mut candidates: impl FnMut() -> Option<F::Key>,
        mut gone: impl FnMut(&FlowView<F>),
    ) -> Result<Inserted<F>, InsertError> {
        let mut last = None;
        let first = self.insert(flow, || {
            last = candidates();
            last
        });
        let Err(InsertError::Full) = first else {
            return first;
        };
        let mut buckets = self.buckets_of(&flow.forward).to_vec();
        if let Some(translated) = last {
            buckets.extend(self.buckets_of(&F::reverse(&translated)));
        }
        for pair in buckets.chunks(2) {
            if let Some(victim) = self.victim(pair, flow.second, timeouts)
                && self.remove(victim.index)
            {
                gone(&victim);
            }
        }
        // The last candidate first: it was not refused for being taken, only for want of a slot.
        self.insert(flow, || last.take().or_else(&mut candidates))
    }

    /// The flow that may go if one of these buckets has to make room.
    fn victim(&self, buckets: &[usize], second: u32, timeouts: &Timeouts) -> Option<FlowView<F>> {
        let mut best: Option<FlowView<F>> = None;
        for &bucket in buckets {
            self.visit_bucket(bucket, |index| {
                let Some(flow) = self.view_of(index) else {
                    return;
                };
                let idle = second.saturating_sub(flow.last_seen);
                let (_, _, protocol) = F::split(&flow.forward);
                let evictable = flow.state == State::HalfOpen
                    || flow.state == State::Closed
                    || idle > timeouts.of(protocol, flow.state);
                if evictable
                    && best
                        .as_ref()
                        .is_none_or(|best| flow.last_seen < best.last_seen)
                {
                    best = Some(flow);
                }
            });
        }
        best
    }

    /// `Some(Some(flow))`: the forward entry at `index` has timed out. `Some(None)`: it is an orphan.
    fn expired(&self, index: u32, second: u32, timeouts: &Timeouts) -> Option<Option<FlowView<F>>> {
        let content = self.content(index)?;
        if content.peer.direction == Direction::Reply {
            let (last, _) = activity_parts(content.activity);
            let orphan = !self.belong(content.peer.index, index)
                && second.saturating_sub(last) > ORPHAN_SECONDS;
            return orphan.then_some(None);
        }
        let flow = self.view(index)?;
        let (_, _, protocol) = F::split(&flow.forward);
        let idle = second.saturating_sub(flow.last_seen);
        (idle > timeouts.of(protocol, flow.state)).then_some(Some(flow))
    }
}
