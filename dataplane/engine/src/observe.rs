//! Watching the pipeline decide, without a cost to those who do not.
//!
//! The pipeline is monomorphised over its observer; workers use `()`, whose methods are empty.

use packet::tuple::Tuple;

use crate::reason::Reason;
use crate::service::Decision;

/// What can be seen of a frame's way.
pub trait Observe {
    /// Whether anything is watched at all: what has to be worked out for watching alone is left out
    /// otherwise.
    const WATCHES: bool = true;

    /// A frame that belongs to no flow was decided about.
    fn decided(&mut self, _tuple: &Tuple, _decision: &Decision<'_>) {}

    /// A frame of `from` is sent on as `to`; `first` if its flow was made for it.
    fn translated(&mut self, _from: &Tuple, _to: &Tuple, _first: bool) {}

    /// A frame was turned into an answer to its sender.
    fn answered(&mut self) {}

    /// A frame was dropped.
    fn dropped(&mut self, _reason: Reason) {}
}

impl Observe for () {
    const WATCHES: bool = false;
}
