//! The decision about a new flow: from the snapshot alone, without side effects.
//!
//! `portgate explain` and the workers call the same [`decide`].

use std::sync::Arc;

use crate::family::Family;
use crate::reason::Reason;
use crate::route::contains;
use crate::snapshot::{Action, Frontend, ResolvedSet, Snapshot};
use hugepages::object::{SourceClass, Why};

/// What becomes of a new flow.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// The outcome.
    pub outcome: Outcome<'a>,
    /// The frontend that decided; `None` if no frontend has this address.
    pub frontend: Option<&'a Arc<Frontend>>,
    /// What kind of source the client is.
    pub class: SourceClass,
    /// Whether what is received can come from the client's address at all.
    pub may_send: bool,
}

/// The outcome of a decision.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// Translate to one of these; `masquerade` also when the chosen one is the client.
    Translate {
        /// The backends.
        set: &'a Arc<ResolvedSet>,
        /// Rewrite the source too.
        masquerade: bool,
    },
    /// Refuse: TCP RST or ICMP port unreachable.
    Reject(Reason),
    /// Say nothing.
    Drop(Reason),
    /// Not a service's: the host's, or nobody's.
    Pass(Reason),
}

/// Decides about a new flow (rules 20–29 of the Service semantics), by the tuple of its first frame.
#[must_use]
pub fn decide<'a, F: Family>(snapshot: &'a Snapshot, key: &F::Key) -> Decision<'a> {
    let (addresses, ports, protocol) = F::split(key);
    let (source, to) = F::ends(&addresses);
    let networks = &*snapshot.networks;
    let meaning = networks.of::<F>(source);
    let (class, may_send) = (meaning.class(), meaning.may_send());
    let Some(frontend) = snapshot.frontend::<F>(to, protocol, ports as u16) else {
        let to = networks.of::<F>(to);
        let outcome = if to.is_own() {
            Outcome::Pass(Reason::NotServed)
        } else if to.is_service() {
            Outcome::Drop(Reason::NoSuchService)
        } else {
            Outcome::Pass(Reason::NotOurs)
        };
        return Decision {
            outcome,
            frontend: None,
            class,
            may_send,
        };
    };
    let outcome = if is_allowed::<F>(frontend, source) {
        match &frontend.actions[class as usize] {
            Action::Translate { set, masquerade } => Outcome::Translate {
                set,
                masquerade: *masquerade,
            },
            Action::Reject(why) => Outcome::Reject(reason(*why)),
            Action::Drop(why) => Outcome::Drop(reason(*why)),
        }
    } else {
        Outcome::Drop(Reason::SourceRange)
    };
    Decision {
        outcome,
        frontend: Some(frontend),
        class,
        may_send,
    }
}

fn is_allowed<F: Family>(frontend: &Frontend, source: F::Address) -> bool {
    let Some(ranges) = &frontend.ranges else {
        return true;
    };
    ranges
        .iter()
        .any(|prefix| contains(prefix, F::address(source)))
}

const fn reason(why: Why) -> Reason {
    match why {
        Why::NoEndpoint => Reason::NoEndpoint,
        Why::NoLocalEndpoint => Reason::NoLocalEndpoint,
        Why::NoSuchPort => Reason::NoSuchPort,
        Why::NotServedHere => Reason::NotServedHere,
    }
}
