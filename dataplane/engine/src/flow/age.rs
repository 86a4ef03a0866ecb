//! Forgetting flows: a few buckets at a time, whenever a worker has nothing better to do.

use std::ops::Range;

use super::entry::{Content, Direction, Life, activity_parts};
use super::insert::{Blocked, InsertError, Inserted, NewFlow};
use super::state::{State, Timeouts};
use super::table::FlowTable;
use crate::family::Family;

/// Candidates that are asked for politely before a half-open flow has to give one up.
const POLITE_TRIES: u32 = 30;

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
    /// Slot of the counters: an endpoint's, or its service's ([`crate::endpoints`]).
    pub slot: u32,
    /// Second of the first frame.
    pub made: u32,
    /// The life of the forward entry that all this was read from.
    life: Life,
}

impl<F: Family> FlowView<F> {
    /// The life of the forward entry that this was read from.
    pub(crate) fn life(&self) -> Life {
        self.life
    }
}

impl<F: Family> FlowTable<F> {
    /// The flow whose forward entry is at `index`; `None` for anything else.
    #[must_use]
    pub fn view(&self, index: u32) -> Option<FlowView<F>> {
        let (content, life) = self.content(index)?;
        self.view_from(index, &content, life)
    }

    fn view_from(&self, index: u32, content: &Content<F>, life: Life) -> Option<FlowView<F>> {
        if content.peer.direction != Direction::Forward || !self.in_range(content.peer.index) {
            return None;
        }
        let (addresses, ports) = F::parts(&content.translation);
        let (_, _, protocol) = F::split(&content.key);
        let (forward_second, forward_flags) = activity_parts(content.activity);
        // Should the reply entry have been reused since, the forward one has died too, and a
        // removal by its life fails.
        let (reply_second, reply_flags) = self.activity(content.peer.index);
        Some(FlowView {
            index,
            forward: content.key,
            translated: F::join(addresses, ports, protocol),
            state: State::of(protocol, forward_flags, reply_flags),
            last_seen: forward_second.max(reply_second),
            slot: content.hop.slot(),
            made: life.made(),
            life,
        })
    }

    /// Removes a flow as it was seen. True if this call removed it; false if it was gone or going, or
    /// its slot is another flow's by now.
    pub fn remove(&self, flow: &FlowView<F>) -> bool {
        self.remove_life(flow.index, flow.life)
    }

    /// Removes the flow of these entries, forward and reply, if it still lives the life that was seen and is
    /// half-open: its handshake is not complete, or, of UDP, its client has not sent again after second
    /// `made`. An answer makes no difference for UDP: a pod answers everybody.
    pub(crate) fn remove_if_half_open(
        &self,
        (forward, reply): (u32, u32),
        life: Life,
        made: u32,
    ) -> Option<FlowView<F>> {
        let entries = self.entries();
        if !entries.lives(forward, life) {
            return None;
        }
        // Should the entries be another flow's by now, the removal by the life fails.
        let protocol = entries.protocol(forward);
        let (heard, sent) = self.activity(forward);
        let (_, answered) = self.activity(reply);
        let half_open = if protocol == packet::parse::UDP {
            heard <= made
        } else {
            State::of(protocol, sent, answered) == State::HalfOpen
        };
        if !half_open {
            return None;
        }
        let flow = self.view(forward).filter(|flow| flow.life == life)?;
        self.remove(&flow).then_some(flow)
    }

    /// State of the flow that the entry at `index` (of either direction) belongs to.
    #[must_use]
    pub fn state(&self, index: u32) -> Option<State> {
        self.view_of(index).map(|flow| flow.state)
    }

    /// The flow that the entry at `index` (of either direction) belongs to.
    #[must_use]
    pub fn view_of(&self, index: u32) -> Option<FlowView<F>> {
        let (content, life) = self.content(index)?;
        match content.peer.direction {
            Direction::Forward => self.view_from(index, &content, life),
            Direction::Reply if self.belong(content.peer.index, index) => {
                self.view(content.peer.index)
            }
            Direction::Reply => None,
        }
    }

    /// Every flow, bucket by bucket; flows that come or go meanwhile may or may not be among them.
    pub fn flows(&self) -> impl Iterator<Item = FlowView<F>> + '_ {
        self.flows_in(0..self.bucket_count())
    }

    /// The flows whose forward entry lies in one of these buckets; buckets that are not there hold none.
    pub fn flows_in(&self, buckets: Range<usize>) -> impl Iterator<Item = FlowView<F>> + '_ {
        let end = buckets.end.min(self.bucket_count());
        (buckets.start..end).flat_map(move |bucket| {
            let mut found = arrayvec::ArrayVec::<_, { super::table::SLOTS }>::new();
            self.visit_bucket(bucket, |index| found.extend(self.view(index)));
            found
        })
    }

    /// Forgets what has timed out in `count` buckets from `cursor` on, which moves along and wraps.
    /// Calls `gone` with each flow removed.
    pub fn age(
        &self,
        cursor: &mut usize,
        count: usize,
        second: u32,
        timeouts: &Timeouts,
        mut gone: impl FnMut(&FlowView<F>),
    ) {
        for _ in 0..count {
            *cursor = if *cursor >= self.bucket_count() {
                0
            } else {
                *cursor
            };
            self.visit_bucket(*cursor, |index| {
                match self.expired(index, second, timeouts) {
                    Some(Expired::Flow(flow)) if self.remove(&flow) => gone(&flow),
                    Some(Expired::Orphan(life)) => {
                        self.remove_one(index, life);
                    }
                    Some(Expired::Flow(_)) | None => {}
                }
            });
            *cursor += 1;
        }
    }

    /// [`FlowTable::insert`], making room where it is needed: where a candidate's reply tuple is held by a
    /// closed or timed-out flow, that one goes; after [`POLITE_TRIES`] a half-open one does, too. When the
    /// buckets are full, timed-out flows go first, else the oldest half-open one. Established flows
    /// never go. Calls `gone` with each flow that made room.
    /// Looks for flows that may go only if `may_search`: it reads up to 64 entries and their peers.
    ///
    /// # Errors
    ///
    /// As [`FlowTable::insert`]; `Full` when nothing could be evicted.
    pub fn insert_or_evict(
        &self,
        flow: &NewFlow<F>,
        timeouts: &Timeouts,
        may_search: bool,
        mut candidates: impl FnMut() -> Option<F::Key>,
        mut gone: impl FnMut(&FlowView<F>),
    ) -> Result<Inserted<F>, InsertError> {
        let mut last = candidates().ok_or(InsertError::NoCandidate)?;
        let outcome = match self.insert_one(flow, &last) {
            Ok(inserted) => return Ok(inserted),
            Err(Blocked::Reply(InsertError::Exists(_) | InsertError::Busy)) => {
                let mut first = Some(last);
                let next = || {
                    last = first.take().or_else(&mut candidates)?;
                    Some(last)
                };
                self.insert_over_old(flow, timeouts, next, &mut gone)
            }
            Err(Blocked::Forward(error) | Blocked::Reply(error)) => Err(error),
        };
        if !may_search || !matches!(outcome, Err(InsertError::Full)) {
            return outcome;
        }
        self.make_room(flow, timeouts, &last, &mut gone);
        // The last candidate first: it was not refused for being taken, only for want of a slot.
        let mut last = Some(last);
        self.insert(flow, || last.take().or_else(&mut candidates))
    }

    /// Inserts a flow, taking candidates from flows that are over, and after [`POLITE_TRIES`] from half-open ones.
    #[cold]
    fn insert_over_old(
        &self,
        flow: &NewFlow<F>,
        timeouts: &Timeouts,
        candidates: impl FnMut() -> Option<F::Key>,
        gone: &mut impl FnMut(&FlowView<F>),
    ) -> Result<Inserted<F>, InsertError> {
        let mut tries = 0;
        self.insert_over(flow, candidates, |holder| {
            tries += 1;
            let Some(held) = self.view_of(holder) else {
                return false;
            };
            let may_go = is_over(&held, flow.second, timeouts)
                || tries > POLITE_TRIES && held.state == State::HalfOpen;
            let removed = may_go && self.remove(&held);
            if removed {
                gone(&held);
            }
            removed
        })
    }

    /// Removes what may go from those buckets of a flow to be that are full.
    #[cold]
    fn make_room(
        &self,
        flow: &NewFlow<F>,
        timeouts: &Timeouts,
        translated: &F::Key,
        gone: &mut impl FnMut(&FlowView<F>),
    ) {
        for key in [&flow.forward, &F::reverse(translated)] {
            if self.has_room_for(key) {
                continue;
            }
            if let Some(victim) = self.victim(&self.buckets_of(key), flow.second, timeouts)
                && self.remove(&victim)
            {
                gone(&victim);
            }
        }
    }

    /// The flow that may go if one of these buckets has to make room.
    fn victim(&self, buckets: &[usize], second: u32, timeouts: &Timeouts) -> Option<FlowView<F>> {
        let mut best: Option<FlowView<F>> = None;
        for &bucket in buckets {
            self.visit_bucket(bucket, |index| {
                let Some(flow) = self.view_of(index) else {
                    return;
                };
                let evictable = flow.state == State::HalfOpen || is_over(&flow, second, timeouts);
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

    /// What the entry at `index` is if it may be forgotten.
    fn expired(&self, index: u32, second: u32, timeouts: &Timeouts) -> Option<Expired<F>> {
        let (content, life) = self.content(index)?;
        if content.peer.direction == Direction::Reply {
            let (last, _) = activity_parts(content.activity);
            let orphan = !self.belong(content.peer.index, index)
                && second.saturating_sub(last) > ORPHAN_SECONDS;
            return orphan.then_some(Expired::Orphan(life));
        }
        let flow = self.view_from(index, &content, life)?;
        has_timed_out(&flow, second, timeouts).then_some(Expired::Flow(flow))
    }
}

/// What may be forgotten.
enum Expired<F: Family> {
    Flow(FlowView<F>),
    /// A reply entry without its forward entry.
    Orphan(Life),
}

/// Whether nobody misses the flow: closed, or timed out.
fn is_over<F: Family>(flow: &FlowView<F>, second: u32, timeouts: &Timeouts) -> bool {
    flow.state == State::Closed || has_timed_out(flow, second, timeouts)
}

fn has_timed_out<F: Family>(flow: &FlowView<F>, second: u32, timeouts: &Timeouts) -> bool {
    let (_, _, protocol) = F::split(&flow.forward);
    second.saturating_sub(flow.last_seen) > timeouts.of(protocol, flow.state)
}
