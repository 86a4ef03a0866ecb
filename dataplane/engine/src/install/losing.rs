//! Which endpoints services lose by an update, and what is to become of the flows to them.

use std::collections::HashMap;
use std::sync::Arc;

use hugepages::object::{Backend, Key, Kind, Object, ObjectId, OnEndpointGone, Protocol, Service};

use super::{Departed, Installed};
use crate::snapshot::ResolvedSet;

impl Installed {
    /// Whether UDP flows may have lost an endpoint by these changes: an endpoint more ends none.
    pub(super) fn loses_udp_endpoints(&self, changes: &[(ObjectId, Option<Object>)]) -> bool {
        let put: HashMap<Key, &[Backend]> = changes
            .iter()
            .filter_map(|(_, new)| match new {
                Some(Object::BackendSet(set)) => Some((set.key, &set.members[..])),
                _ => None,
            })
            .collect();
        let installed = |key: Key| self.sets.get(&key).map(|set| &set.members[..]);
        changes.iter().any(|(id, new)| {
            let Some(Object::Service(old)) = self.objects.get(id) else {
                return false;
            };
            if old.protocol != Protocol::Udp {
                return false;
            }
            match new {
                Some(Object::Service(new)) if new.serving == old.serving => false,
                Some(Object::Service(new)) => {
                    let after = put.get(&new.serving).copied();
                    let after = after.or_else(|| installed(new.serving));
                    !is_within(
                        installed(old.serving).unwrap_or_default(),
                        after.unwrap_or_default(),
                    )
                }
                _ => true,
            }
        })
    }

    /// TCP services whose serving endpoints change, with those that they have.
    pub(super) fn losing(
        &self,
        changes: &[(ObjectId, Option<Object>)],
    ) -> Vec<(Service, Arc<ResolvedSet>)> {
        let lost = |(id, new): &(ObjectId, Option<Object>)| {
            let Some(Object::Service(old)) = self.objects.get(id) else {
                return None;
            };
            let stays = matches!(new, Some(Object::Service(new)) if new.serving == old.serving);
            if stays || old.protocol != Protocol::Tcp {
                return None;
            }
            Some((old.clone(), self.sets.get(&old.serving)?.clone()))
        };
        changes.iter().filter_map(lost).collect()
    }

    /// Endpoints that these services had and have no more. Of a service that was deleted the last
    /// policy holds.
    pub(super) fn departed(&self, losing: &[(Service, Arc<ResolvedSet>)]) -> Vec<Departed> {
        let mut departed = Vec::new();
        for (old, had) in losing {
            let id = ObjectId {
                kind: Kind::Service,
                key: old.key,
            };
            let policy = match self.objects.get(&id) {
                Some(Object::Service(new)) => new.on_endpoint_gone,
                _ => old.on_endpoint_gone,
            };
            let Some(slot) = self.slots.known(old.key) else {
                continue;
            };
            if policy == OnEndpointGone::Keep {
                continue;
            }
            let left = had.members.iter().filter(|one| self.is_stale(slot, one));
            departed.extend(left.map(|backend| Departed {
                slot,
                backend: Some(*backend),
                policy,
            }));
        }
        departed
    }

    /// For a start with flows from before: any endpoint may have left the services that do not keep
    /// the flows to it.
    #[must_use]
    pub fn may_have_departed(&self) -> Vec<Departed> {
        let services = self.objects.values().filter_map(|object| match object {
            Object::Service(service) if service.protocol == Protocol::Tcp => Some(service),
            _ => None,
        });
        services
            .filter(|service| service.on_endpoint_gone != OnEndpointGone::Keep)
            .filter_map(|service| {
                Some(Departed {
                    slot: self.slots.known(service.key)?,
                    backend: None,
                    policy: service.on_endpoint_gone,
                })
            })
            .collect()
    }
}

/// Whether every one of these is among `all`; both are sorted.
fn is_within(some: &[Backend], all: &[Backend]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| other == one))
}
