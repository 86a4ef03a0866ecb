//! Changes that have been checked, applied: objects, what they refer to, and the snapshot that follows.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use hugepages::object::{
    Action as WireAction, Frontend as WireFrontend, Key, Kind, NO_KEY, NetworkRole, Object,
    ObjectId, Service, Why,
};

use super::Installed;
use crate::flow::ROUTE_GENERATIONS;
use crate::maglev::Maglev;
use crate::snapshot::{Action, Frontend, Networks, ResolvedSet, ServiceEntry};

impl Installed {
    /// Installs what [`effective`](Installed::effective) found, and brings the snapshot up to it.
    pub(super) fn apply(&mut self, changes: Vec<(ObjectId, Option<Object>)>) {
        let mut changed_services = HashSet::new();
        let (mut networks, mut routes) = (false, false);
        for (id, new) in changes {
            networks |= id.kind == Kind::Network;
            routes |= id.kind == Kind::Route;
            match &new {
                Some(object) => self.put(object, &mut changed_services),
                None => self.delete(id),
            }
            let old = match new {
                Some(object) => {
                    for reference in references(&object) {
                        *self.references.entry(reference).or_default() += 1;
                    }
                    self.objects.insert(id, object)
                }
                None => self.objects.remove(&id),
            };
            for reference in old.iter().flat_map(references) {
                if let Some(count) = self.references.get_mut(&reference) {
                    *count -= 1;
                    if *count == 0 {
                        self.references.remove(&reference);
                    }
                }
            }
        }
        if !changed_services.is_empty() {
            self.resolve_frontends_of(&changed_services);
        }
        if networks {
            self.rebuild_networks();
        }
        if routes {
            self.rebuild_routes();
        }
    }

    fn put(&mut self, object: &Object, changed_services: &mut HashSet<Key>) {
        match object {
            Object::BackendSet(set) => {
                let maglev = Maglev::new(&set.members, self.maglev_seed);
                let resolved = ResolvedSet {
                    members: set.members.clone(),
                    maglev,
                };
                self.sets.insert(set.key, Arc::new(resolved));
            }
            Object::Ranges(ranges) => {
                self.ranges
                    .insert(ranges.key, Arc::new(ranges.prefixes.clone()));
            }
            Object::Service(service) => {
                let entry = self.service_entry(service);
                let old = self.services.insert(service.key, Arc::new(entry));
                if old.is_some_and(|old| *old != *self.services[&service.key]) {
                    changed_services.insert(service.key);
                }
            }
            Object::Frontend(frontend) => {
                let resolved = self.resolve(frontend);
                self.snapshot.put(Arc::new(resolved));
            }
            Object::Network(_) | Object::Route(_) => {}
        }
    }

    fn delete(&mut self, id: ObjectId) {
        match id.kind {
            Kind::BackendSet => drop(self.sets.remove(&id.key)),
            Kind::Ranges => drop(self.ranges.remove(&id.key)),
            Kind::Service => drop(self.services.remove(&id.key)),
            Kind::Frontend => {
                if let Some(Object::Frontend(old)) = self.objects.get(&id) {
                    self.snapshot.remove(old.address, old.protocol, old.port);
                }
            }
            Kind::Network | Kind::Route => {}
        }
    }

    fn service_entry(&mut self, service: &Service) -> ServiceEntry {
        ServiceEntry {
            key: service.key,
            slot: self.slots.slot(service.key),
            name: service.name.clone(),
            port_name: service.port_name.clone(),
            protocol: service.protocol,
            on_endpoint_gone: service.on_endpoint_gone,
        }
    }

    fn resolve(&self, frontend: &WireFrontend) -> Frontend {
        let action = |action: &WireAction| match action {
            WireAction::Translate { set, masquerade } => match self.sets.get(set) {
                Some(set) => Action::Translate {
                    set: set.clone(),
                    masquerade: *masquerade,
                },
                // `check_references` has seen the set; were it not so, nothing may be sent anywhere.
                None => Action::Drop(Why::NoEndpoint),
            },
            WireAction::Reject(why) => Action::Reject(*why),
            WireAction::Drop(why) => Action::Drop(*why),
        };
        let [pod, node, outside] = &frontend.actions;
        Frontend {
            address: frontend.address,
            protocol: frontend.protocol,
            port: frontend.port,
            kind: frontend.kind,
            service: self.services.get(&frontend.service).cloned(),
            affinity_timeout: frontend.affinity_timeout,
            ranges: self.ranges.get(&frontend.ranges).cloned(),
            actions: [action(pod), action(node), action(outside)],
        }
    }

    /// Rare (a service's own attributes changed), so it may look at every frontend.
    fn resolve_frontends_of(&mut self, services: &HashSet<Key>) {
        let affected: Vec<Frontend> = self
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Frontend(frontend) if services.contains(&frontend.service) => {
                    Some(self.resolve(frontend))
                }
                _ => None,
            })
            .collect();
        for frontend in affected {
            self.snapshot.put(Arc::new(frontend));
        }
    }

    pub(super) fn rebuild_networks(&mut self) {
        let links: Vec<IpAddr> = self.topology.addresses().collect();
        let (mut pods, mut services) = (Vec::new(), Vec::new());
        let (mut own, mut snat) = (Vec::new(), Vec::new());
        for object in self.objects.values() {
            let Object::Network(network) = object else {
                continue;
            };
            match network.role {
                NetworkRole::Pods => pods.push(network.prefix),
                NetworkRole::Services => services.push(network.prefix),
                NetworkRole::Own => own.push(network.prefix.address),
                NetworkRole::Snat => snat.push(network.prefix.address),
            }
        }
        let networks = Networks::new([pods, services], &links, own, snat);
        self.snapshot.networks = Arc::new(networks);
    }

    pub(super) fn rebuild_routes(&mut self) {
        let learned = self.objects.values().filter_map(|object| match object {
            Object::Route(route) => Some(*route),
            _ => None,
        });
        self.snapshot.routes = Arc::new(self.topology.routes(learned));
        // From 1 on: 0 is no generation (`NO_ROUTES`).
        self.snapshot.route_generation = self.snapshot.route_generation % ROUTE_GENERATIONS + 1;
    }
}

/// The objects that `object` refers to.
pub(super) fn references(object: &Object) -> Vec<ObjectId> {
    let id = |kind, key: Key| (key != NO_KEY).then_some(ObjectId { kind, key });
    match object {
        Object::Service(service) => id(Kind::BackendSet, service.serving).into_iter().collect(),
        Object::Frontend(frontend) => {
            let sets = frontend.actions.iter().filter_map(|action| match action {
                WireAction::Translate { set, .. } => Some(ObjectId {
                    kind: Kind::BackendSet,
                    key: *set,
                }),
                WireAction::Reject(_) | WireAction::Drop(_) => None,
            });
            id(Kind::Service, frontend.service)
                .into_iter()
                .chain(id(Kind::Ranges, frontend.ranges))
                .chain(sets)
                .collect()
        }
        _ => Vec::new(),
    }
}
