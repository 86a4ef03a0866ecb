//! Endpoint choice: which endpoints of a service port a new flow may go to.

use std::net::IpAddr;

use hugepages::object::Backend;

use crate::model::Endpoint;

use super::view::View;

/// An endpoint of one service port, and whether it is local.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) backend: Backend,
    pub(super) endpoint: &'a Endpoint,
    pub(super) local: bool,
}

/// The lists that traffic policies choose from, for one service port and family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// For policy Cluster: usable endpoints after topology hints.
    pub(super) cluster: Vec<Backend>,
    /// For policy Local: usable endpoints of this node, hints or not.
    pub(super) local: Vec<Backend>,
    /// Usable endpoints anywhere, hints or not. It is empty exactly when there is nothing to
    /// translate to under any policy.
    pub(super) anywhere: Vec<Backend>,
}

impl Lists {
    /// Sorts the candidates, each once, into lists.
    pub(super) fn of(view: &View, candidates: &[Candidate<'_>]) -> Self {
        let ready: Vec<&Candidate<'_>> = candidates.iter().filter(|c| c.endpoint.ready).collect();
        Self {
            cluster: if ready.is_empty() {
                // Hints never apply to the fallback.
                usable(candidates, |_| true)
            } else {
                hinted(view, &ready)
            },
            local: usable(candidates, |candidate| candidate.local),
            anywhere: usable(candidates, |_| true),
        }
    }
}

/// Keeps one candidate for each backend, in their order. An endpoint may stand in two slices for a while when it
/// moves from one to the other; the local and the better one counts.
pub(super) fn once_each(candidates: &mut Vec<Candidate<'_>>) {
    // As numbers, which compare quickly: a service may have 100,000 endpoints.
    let mut order: Vec<(bool, u128, u16, u8, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            let Backend { address, port } = candidate.backend;
            let bits = match address {
                IpAddr::V4(v4) => v4.to_bits().into(),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            (address.is_ipv6(), bits, port, worse(candidate), at)
        })
        .collect();
    order.sort_unstable();
    let sorted = order.into_iter().map(|(.., at)| candidates[at]);
    *candidates = sorted.collect();
    candidates.dedup_by_key(|candidate| candidate.backend);
}

/// Lower for what counts more: local, then ready, then serving though terminating, then serving.
fn worse(candidate: &Candidate<'_>) -> u8 {
    let Endpoint {
        ready,
        serving,
        terminating,
        ..
    } = *candidate.endpoint;
    let lacks = [candidate.local, ready, serving && terminating, serving];
    lacks
        .iter()
        .fold(0, |worse, has| worse << 1 | u8::from(!has))
}

/// Ready endpoints; if there are none, those that still serve while they terminate.
fn usable(candidates: &[Candidate<'_>], among: impl Fn(&Candidate<'_>) -> bool) -> Vec<Backend> {
    let of = |wanted: fn(&Endpoint) -> bool| -> Vec<Backend> {
        candidates
            .iter()
            .filter(|candidate| among(candidate) && wanted(candidate.endpoint))
            .map(|candidate| candidate.backend)
            .collect()
    };
    let ready = of(|endpoint| endpoint.ready);
    if ready.is_empty() {
        of(|endpoint| endpoint.serving && endpoint.terminating)
    } else {
        ready
    }
}

/// Topology: the endpoints meant for this node, if every ready endpoint says for which nodes it
/// is and one is for ours; else the same with zones; else all.
fn hinted(view: &View, ready: &[&Candidate<'_>]) -> Vec<Backend> {
    let meant = |ours: Option<&str>, hints: fn(&Endpoint) -> &[String]| -> Option<Vec<Backend>> {
        let ours = ours?;
        if ready
            .iter()
            .any(|candidate| hints(candidate.endpoint).is_empty())
        {
            return None;
        }
        let for_us: Vec<Backend> = ready
            .iter()
            .filter(|candidate| hints(candidate.endpoint).iter().any(|hint| hint == ours))
            .map(|candidate| candidate.backend)
            .collect();
        (!for_us.is_empty()).then_some(for_us)
    };
    meant(view.node_name(), |endpoint| &endpoint.node_hints)
        .or_else(|| meant(view.zone(), |endpoint| &endpoint.zone_hints))
        .unwrap_or_else(|| ready.iter().map(|candidate| candidate.backend).collect())
}
