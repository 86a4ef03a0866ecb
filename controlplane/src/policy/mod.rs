//! What the cluster's objects mean for this gateway: model in, objects of the region out.
//!
//! Pure: no clock, no I/O, no Kubernetes types. Everything that depends on policies, topology,
//! readiness, address families, own addresses and masquerading is decided here, so that the data
//! plane only looks things up.
//!
//! `view` knows what the gateway is, `lists` chooses endpoints, `resolve` turns one service into
//! objects, `networks` does the rest, and [`Desired`] keeps the sum of it all.

mod desired;
mod lists;
mod networks;
mod resolve;
mod resolved;
mod view;

use hugepages::object::Object;
use settings::Gateway;

use crate::index::Index;
use crate::model::ClusterObject;
use crate::warning::Warning;

pub use desired::{Changes, Desired};
pub use resolved::{HealthCheck, Tally, Unproxied};

/// The objects that a gateway with these settings is to have when `objects` is all there is.
#[must_use]
pub fn desired_state(
    gateway: &Gateway,
    objects: impl IntoIterator<Item = ClusterObject>,
) -> Vec<Object> {
    judge(gateway, objects).0
}

/// As [`desired_state`], with what is not served as written.
#[must_use]
pub fn judge(
    gateway: &Gateway,
    objects: impl IntoIterator<Item = ClusterObject>,
) -> (Vec<Object>, Vec<Warning>) {
    let mut index = Index::new();
    for object in objects {
        index.apply(object);
    }
    let mut desired = Desired::new(gateway.clone());
    let warnings = desired.refresh(&mut index);
    (desired.take_all().puts, warnings)
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
