//! Watching the pipeline decide, without a cost to those who do not.
//!
//! The pipeline is monomorphised over its observer; workers use `()`, whose methods are empty. What is told is
//! told in the order in which it happens, stage by stage for a whole burst: who wants to know which frame it is about
//! sends bursts of one.

use packet::tuple::Tuple;

use crate::reason::Reason;
use crate::service::Decision;

/// What can be seen of a frame's way.
pub trait Observe {
    /// Whether anything is watched at all: what has to be worked out for watching alone is left out
    /// otherwise.
    const WATCHES: bool = true;

    /// A frame was parsed, and is of this kind.
    fn parsed(&mut self, _kind: &'static str) {}

    /// A frame with this tuple belongs to a flow that counts in `slot`, an endpoint's or a service's.
    fn found(&mut self, _tuple: &Tuple, _slot: u32) {}

    /// A frame that belongs to no flow was decided about.
    fn decided(&mut self, _tuple: &Tuple, _decision: &Decision<'_>) {}

    /// A frame of `from` is sent on as `to`.
    fn translated(&mut self, _from: &Tuple, _to: &Tuple) {}

    /// The next hop of a frame: its number among the neighbours.
    fn next_hop(&mut self, _neighbour: u16) {}

    /// A frame was put aside until this is known.
    fn waits(&mut self, _what: Waits) {}

    /// A frame that had been put aside is taken up again: what follows is about it.
    fn resumed(&mut self, _bytes: &[u8]) {}

    /// A frame is complete and was put into the output of a link.
    fn queued(&mut self, _link: usize, _bytes: &[u8]) {}

    /// A frame was turned into an answer to its sender.
    fn answered(&mut self) {}

    /// A frame was given to the host's kernel.
    fn given_to_host(&mut self) {}

    /// A frame that nobody sent here begins, for `link`: what follows is about it, until [`Observe::own_ends`].
    fn own_begins(&mut self, _link: usize, _what: Own, _bytes: &[u8]) {}

    /// What follows is about the frame again that was observed before.
    fn own_ends(&mut self) {}

    /// A frame was dropped.
    fn dropped(&mut self, _reason: Reason) {}
}

/// What a frame is put aside for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The MAC address of its next hop.
    Neighbour,
    /// The first fragment of its datagram.
    FirstFragment,
}

/// A frame that did not come in by a link, and begins its way here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// The question after a neighbour's MAC address.
    Question,
    /// A reset to the other side of a connection whose endpoint is gone.
    Reset,
    /// A segment that makes a side of such a connection answer.
    Probe,
    /// What the host's kernel sends.
    OfHost,
    /// What the host's kernel is to have, at its interface.
    ForHost,
}

impl Own {
    /// Name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Question => "neighbour_question",
            Self::Reset => "endpoint_reset",
            Self::Probe => "endpoint_probe",
            Self::OfHost => "of_host",
            Self::ForHost => "for_host",
        }
    }
}

impl Observe for () {
    const WATCHES: bool = false;
}
