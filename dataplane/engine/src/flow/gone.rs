//! Marks of flows whose endpoint is gone.

use super::age::FlowView;
use super::entry::{Life, Peer};
use super::state::RST;
use super::table::FlowTable;
use crate::family::Family;

impl<F: Family> FlowTable<F> {
    /// Marks both entries of a flow as seen; see [`super::Hop::gone`]. Returns its life; `None` if it is gone
    /// by now.
    pub(crate) fn mark_gone(&self, flow: &FlowView<F>) -> Option<Life> {
        let entries = self.entries();
        let reply = entries.peer(flow.index).index;
        if !self.in_range(reply) || !entries.lives(flow.index, flow.life()) {
            return None;
        }
        let marked = [flow.index, reply].map(|index| (index, entries.mark_gone(index)));
        if entries.lives(flow.index, flow.life()) {
            return Some(flow.life());
        }
        // An entry may have become another flow's in between: the mark is taken back.
        for (index, hop) in marked {
            entries.set_hop(index, hop.gone(), hop);
        }
        None
    }

    /// Slot in which an entry in use counts.
    pub(crate) fn slot_of(&self, index: u32) -> u32 {
        self.entries().hop(index).slot()
    }

    /// The other direction's entry.
    pub(crate) fn peer(&self, index: u32) -> Peer {
        self.entries().peer(index)
    }

    /// Whether both sides of the flow of a forward entry have been sent a reset or sent one, or it is gone.
    pub(crate) fn are_both_told(&self, forward: u32, life: Life) -> bool {
        let is_told = |index| self.activity(index).1 & RST != 0;
        !self.entries().lives(forward, life)
            || is_told(forward) && is_told(self.peer(forward).index)
    }
}
