//! The decision about a new flow: from the snapshot alone, without side effects.
//!
//! `portgate explain` and the workers call the same [`decide`].

use std::net::IpAddr;
use std::sync::Arc;

use hugepages::object::{SourceClass, Why};
use packet::tuple::Tuple;

use crate::reason::Reason;
use crate::route::contains;
use crate::snapshot::{Action, Frontend, ResolvedSet, Snapshot};

/// What becomes of a new flow.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// The outcome.
    pub outcome: Outcome<'a>,
    /// The frontend that decided; `None` if no frontend has this address.
    pub frontend: Option<&'a Arc<Frontend>>,
    /// What kind of source the client is.
    pub class: SourceClass,
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

/// Decides about a new flow (rules 20–29 of the Service semantics).
#[must_use]
pub fn decide<'a>(snapshot: &'a Snapshot, tuple: &Tuple) -> Decision<'a> {
    let networks = &*snapshot.networks;
    let class = networks.class(tuple.source);
    let to = tuple.destination;
    let Some(frontend) = snapshot.frontend(to, tuple.protocol, tuple.destination_port) else {
        let outcome = if networks.own.contains(&to) {
            Outcome::Pass(Reason::NotServed)
        } else if networks.is_service(to) {
            Outcome::Drop(Reason::NoSuchService)
        } else {
            Outcome::Pass(Reason::NotOurs)
        };
        return Decision {
            outcome,
            frontend: None,
            class,
        };
    };
    let outcome = if is_allowed(frontend, tuple.source) {
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
    }
}

fn is_allowed(frontend: &Frontend, source: IpAddr) -> bool {
    frontend
        .ranges
        .as_ref()
        .is_none_or(|ranges| ranges.iter().any(|prefix| contains(prefix, source)))
}

const fn reason(why: Why) -> Reason {
    match why {
        Why::NoEndpoint => Reason::NoEndpoint,
        Why::NoLocalEndpoint => Reason::NoLocalEndpoint,
        Why::NoSuchPort => Reason::NoSuchPort,
        Why::NotServedHere => Reason::NotServedHere,
    }
}
