//! Which endpoints left which services, and when their flows are to be reset. On the main core.

use std::collections::{HashMap, HashSet, VecDeque};

use hugepages::object::{Backend, OnEndpointGone};

use crate::family::{Family, V4, V6};
use crate::flow::{FlowTable, FlowView, State};
use crate::install::{Departed, Installed};
use crate::orders::Order;
use crate::shared::{Shared, backend_of};

/// When the sides of a flow are asked for a segment, milliseconds after its mark. More than once, because what is
/// sent may be lost; Linux answers one segment outside the window in 500 ms (`tcp_invalid_ratelimit`).
const TRIES: [u64; 5] = [0, 40, 600, 1_500, 4_000];

/// Endpoints whose time has not come, and flows that were marked. Times are milliseconds of any clock that does not
/// go back.
#[derive(Debug, Default)]
pub struct Departures {
    /// When each endpoint's flows are to be reset.
    due: HashMap<(u32, Option<Backend>), u64>,
    /// Marked flows by the time of their mark, and the number of the try that comes next.
    rounds: VecDeque<Round>,
}

#[derive(Debug)]
struct Round {
    marked: u64,
    next: usize,
    orders: Vec<Order>,
    /// Orders of this try that the workers have.
    given: usize,
}

/// What a look at the tables did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marked {
    /// Flows that will be reset.
    pub marked: u64,
    /// Flows removed, because they were no connections yet or no longer.
    pub removed: u64,
}

impl Departures {
    /// Notes endpoints that left. One that left before keeps its time.
    pub fn note(&mut self, departed: &[Departed], now: u64) {
        for one in departed {
            let delay = match one.policy {
                OnEndpointGone::Keep => continue,
                OnEndpointGone::Reset => 0,
                OnEndpointGone::Drain(seconds) => u64::from(seconds) * 1_000,
            };
            self.due
                .entry((one.slot, one.backend))
                .or_insert(now.saturating_add(delay));
        }
    }

    /// Whether the time of an endpoint has come: then [`Departures::mark`] is to be called, when no worker uses
    /// an older snapshot.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.due.values().any(|at| *at <= now)
    }

    /// Marks the flows of all endpoints whose time has come and that have not come back. The workers are
    /// told by [`Departures::give`].
    pub fn mark(&mut self, shared: &Shared, installed: &Installed, now: u64) -> Marked {
        let mut leaving = Leaving {
            installed,
            slots: HashSet::new(),
            endpoints: HashSet::new(),
            later: HashSet::new(),
            orders: Vec::new(),
            result: Marked::default(),
        };
        self.due.retain(|(slot, backend), at| {
            let is_due = *at <= now;
            if is_due {
                leaving.slots.insert(*slot);
                leaving.endpoints.insert((*slot, *backend));
            }
            !is_due
        });
        leaving.later = self.due.keys().copied().collect();
        leaving.mark_in::<V4>(shared, &shared.v4, false);
        leaving.mark_in::<V6>(shared, &shared.v6, true);
        let Leaving { orders, result, .. } = leaving;
        if !orders.is_empty() {
            self.rounds.push_back(Round {
                marked: now,
                next: 0,
                orders,
                given: 0,
            });
        }
        result
    }

    /// Hands flows to the workers whose sides are to be asked now; to be called often.
    pub fn give(&mut self, shared: &Shared, now: u64) {
        self.rounds.retain_mut(|round| {
            while let Some(after) = TRIES.get(round.next) {
                if round.marked + after > now {
                    return true;
                }
                while let Some(order) = round.orders.get(round.given) {
                    if !shared.orders.put(*order) {
                        return true;
                    }
                    round.given += 1;
                }
                round.next += 1;
                round.given = 0;
                round.orders.retain(|order| !is_over(shared, order));
            }
            false
        });
    }
}

/// Whether nothing is left to be done for a flow.
fn is_over(shared: &Shared, order: &Order) -> bool {
    if order.v6 {
        shared.v6.are_both_told(order.index, order.life)
    } else {
        shared.v4.are_both_told(order.index, order.life)
    }
}

/// A look at the tables for flows to endpoints that left.
struct Leaving<'a> {
    installed: &'a Installed,
    slots: HashSet<u32>,
    endpoints: HashSet<(u32, Option<Backend>)>,
    /// Endpoints that have time left, even where any is due.
    later: HashSet<(u32, Option<Backend>)>,
    orders: Vec<Order>,
    result: Marked,
}

impl Leaving<'_> {
    fn mark_in<F: Family>(&mut self, shared: &Shared, table: &FlowTable<F>, v6: bool) {
        if self.slots.is_empty() {
            return;
        }
        for bucket in 0..table.bucket_count() {
            table.visit_bucket(bucket, |index| {
                // Most are other services': one word tells.
                if !self
                    .slots
                    .contains(&shared.endpoints.service(table.slot_of(index)))
                {
                    return;
                }
                if let Some(flow) = table.view(index)
                    && self.leaves(shared, &flow)
                {
                    self.end(shared, table, &flow, v6);
                }
            });
        }
    }

    fn leaves<F: Family>(&self, shared: &Shared, flow: &FlowView<F>) -> bool {
        let (_, _, protocol) = F::split(&flow.forward);
        let backend = backend_of(flow);
        let service = shared.endpoints.service(flow.slot);
        let (this, any) = ((service, Some(backend)), (service, None));
        let left = self.endpoints.contains(&this)
            || self.endpoints.contains(&any) && !self.later.contains(&this);
        left && protocol == packet::parse::TCP && self.installed.is_stale(service, &backend)
    }

    fn end<F: Family>(
        &mut self,
        shared: &Shared,
        table: &FlowTable<F>,
        flow: &FlowView<F>,
        v6: bool,
    ) {
        match flow.state {
            State::Established | State::Closing => {
                if let Some(life) = table.mark_gone(flow) {
                    self.orders.push(Order {
                        v6,
                        index: flow.index,
                        life,
                    });
                    self.result.marked += 1;
                }
            }
            // The client sends its SYN again, and gets another endpoint.
            State::HalfOpen => {
                if table.remove(flow) {
                    shared.open_flows.close_flow(flow);
                    self.result.removed += 1;
                }
            }
            State::Closed => {}
        }
    }
}
