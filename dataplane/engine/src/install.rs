//! The installed state on the main core: commands in, snapshots out.
//!
//! An update is staged until its Commit and then installed whole or not at all. What is
//! installed is compared with what was there, object by object, so that a full replay that changes
//! nothing changes nothing: no snapshot, no flow, no journal record.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use hugepages::digest::Digest;
use hugepages::message::{Message, Reason};
use hugepages::object::{
    Action as WireAction, Backend, Frontend as WireFrontend, Key, Kind, NO_KEY, NetworkRole,
    Object, ObjectId, OnEndpointGone, Prefix, Protocol, Service,
};

use crate::flow::ROUTE_GENERATIONS;
use crate::maglev::Maglev;
use crate::slots::ServiceSlots;
use crate::snapshot::{Action, Frontend, Networks, ResolvedSet, ServiceEntry, Snapshot};
use crate::topology::Topology;

/// Most changes in one update: a control plane that never commits must not use up all memory.
const MAX_CHANGES: u64 = 1 << 22;

/// Installed objects and the snapshot that follows from them.
#[derive(Debug)]
pub struct Installed {
    objects: HashMap<ObjectId, Object>,
    digest: Digest,
    snapshot: Snapshot,
    /// How often each object is referred to by others.
    references: HashMap<ObjectId, u32>,
    sets: HashMap<Key, Arc<ResolvedSet>>,
    ranges: HashMap<Key, Arc<Vec<Prefix>>>,
    services: HashMap<Key, Arc<ServiceEntry>>,
    slots: ServiceSlots,
    topology: Arc<Topology>,
    maglev_seed: u64,
    staged: Option<Staged>,
}

#[derive(Debug)]
struct Staged {
    boot: u64,
    generation: u64,
    full: bool,
    count: u64,
    changes: HashMap<ObjectId, Option<Object>>,
    /// Order of first mention, so that what is installed does not depend on a hash map's.
    order: Vec<ObjectId>,
}

/// An installed update.
#[derive(Debug)]
pub struct Installation {
    /// Its generation.
    pub generation: u64,
    /// Digest of the whole state now.
    pub digest: Digest,
    /// What really changed: puts and deletes, in an order that may be replayed.
    pub changes: Vec<Message>,
    /// Whether a UDP flow may have lost its endpoint: [`Installed::is_stale`] tells which.
    pub udp_endpoints_left: bool,
    /// Endpoints that TCP services lost which do not keep the flows to them.
    pub departed: Vec<Departed>,
}

/// An endpoint that left a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// Slot of the service's counters.
    pub slot: u32,
    /// The endpoint; `None` = any that does not serve.
    pub backend: Option<Backend>,
    /// What is to become of its flows.
    pub policy: OnEndpointGone,
}

impl Installed {
    /// Nothing installed but the links' own addresses and routes.
    #[must_use]
    pub fn new(topology: Arc<Topology>, slots: ServiceSlots, maglev_seed: u64) -> Self {
        let mut installed = Self {
            objects: HashMap::new(),
            digest: Digest::default(),
            snapshot: Snapshot::default(),
            references: HashMap::new(),
            sets: HashMap::new(),
            ranges: HashMap::new(),
            services: HashMap::new(),
            slots,
            topology,
            maglev_seed,
            staged: None,
        };
        installed.rebuild_networks();
        installed.rebuild_routes();
        installed
    }

    /// The snapshot of what is installed now.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Digest of what is installed now.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Number of installed objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether nothing is installed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Every installed object, in an order that may be replayed: what is referred to comes first.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        // Services refer to backend sets, frontends to everything.
        const ORDER: [Kind; 6] = [
            Kind::BackendSet,
            Kind::Ranges,
            Kind::Service,
            Kind::Frontend,
            Kind::Network,
            Kind::Route,
        ];
        ORDER.into_iter().flat_map(|kind| {
            self.objects
                .iter()
                .filter(move |(id, _)| id.kind == kind)
                .map(|(_, object)| object)
        })
    }

    /// Takes the next message; a Commit installs what was staged.
    ///
    /// # Errors
    ///
    /// Why the update is refused; the installed state is what it was before.
    pub fn handle(&mut self, message: Message) -> Result<Option<Installation>, Reason> {
        match message {
            Message::Begin {
                boot,
                generation,
                full,
            } => {
                self.staged = Some(Staged {
                    boot,
                    generation,
                    full,
                    count: 0,
                    changes: HashMap::new(),
                    order: Vec::new(),
                });
                Ok(None)
            }
            Message::Put(object) => self.stage(object.id(), Some(object)),
            Message::Delete(id) => self.stage(id, None),
            Message::Commit {
                boot,
                generation,
                changes,
                digest,
            } => {
                let staged = self.staged.take().ok_or(Reason::NoBegin)?;
                if (staged.boot, staged.generation) != (boot, generation) {
                    return Err(Reason::WrongUpdate);
                }
                if staged.count != changes {
                    return Err(Reason::WrongCount);
                }
                self.commit(staged, Some(digest)).map(Some)
            }
        }
    }

    /// Installs objects that were read from the journal, as one update.
    ///
    /// # Errors
    ///
    /// As [`Installed::handle`]: a journal that refers to what it does not hold.
    pub fn restore(
        &mut self,
        generation: u64,
        objects: impl Iterator<Item = Object>,
    ) -> Result<Installation, Reason> {
        let mut staged = Staged {
            boot: 0,
            generation,
            full: true,
            count: 0,
            changes: HashMap::new(),
            order: Vec::new(),
        };
        for object in objects {
            staged.put(object.id(), Some(object));
        }
        self.commit(staged, None)
    }

    /// Whether a UDP flow of the service with counters' `slot` has lost its endpoint (rules R01–R12
    /// of the Service semantics): the service is gone, or `backend` does not serve any more.
    #[must_use]
    pub fn is_stale(&self, slot: u32, backend: &Backend) -> bool {
        let Some(key) = self.slots.key(slot) else {
            return false;
        };
        match self.objects.get(&ObjectId {
            kind: Kind::Service,
            key,
        }) {
            Some(Object::Service(service)) => match self.sets.get(&service.serving) {
                Some(set) => set.members.binary_search(backend).is_err(),
                None => true,
            },
            _ => true,
        }
    }

    fn stage(
        &mut self,
        id: ObjectId,
        object: Option<Object>,
    ) -> Result<Option<Installation>, Reason> {
        let staged = self.staged.as_mut().ok_or(Reason::NoBegin)?;
        if staged.count >= MAX_CHANGES {
            self.staged = None;
            return Err(Reason::Full);
        }
        staged.put(id, object);
        Ok(None)
    }

    fn commit(&mut self, staged: Staged, wanted: Option<Digest>) -> Result<Installation, Reason> {
        let changes = self.effective(staged.full, staged.changes, staged.order);
        let digest = self.digest_after(&changes);
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(Reason::WrongDigest);
        }
        self.check_references(&changes)?;
        let udp_endpoints_left = self.loses_udp_endpoints(&changes);
        let losing = self.losing(&changes);
        self.digest = digest;
        self.snapshot.generation = staged.generation;
        let messages = changes
            .iter()
            .map(|(id, new)| new.clone().map_or(Message::Delete(*id), Message::Put))
            .collect();
        self.apply(changes);
        let departed = self.departed(&losing);
        Ok(Installation {
            generation: staged.generation,
            digest,
            changes: messages,
            udp_endpoints_left,
            departed,
        })
    }

    /// What differs from the installed state: puts so that what is referred to comes first,
    /// then deletes the other way round.
    fn effective(
        &self,
        full: bool,
        mut staged: HashMap<ObjectId, Option<Object>>,
        order: Vec<ObjectId>,
    ) -> Vec<(ObjectId, Option<Object>)> {
        let mut changes: Vec<(ObjectId, Option<Object>)> = Vec::new();
        if full {
            let gone = self.objects.keys().filter(|id| !staged.contains_key(id));
            changes.extend(gone.map(|id| (*id, None)));
        }
        for id in order {
            let Some(object) = staged.remove(&id) else {
                continue;
            };
            if self.objects.get(&id) != object.as_ref() {
                changes.push((id, object));
            }
        }
        changes.sort_by_key(|(id, object)| match object {
            Some(_) => (0, rank(id.kind)),
            None => (1, u8::MAX - rank(id.kind)),
        });
        changes
    }

    fn digest_after(&self, changes: &[(ObjectId, Option<Object>)]) -> Digest {
        let mut digest = self.digest;
        for (id, new) in changes {
            if let Some(old) = self.objects.get(id) {
                digest.remove(old);
            }
            if let Some(new) = new {
                digest.add(new);
            }
        }
        digest
    }

    /// Every object referred to after the changes must be there after the changes.
    fn check_references(&self, changes: &[(ObjectId, Option<Object>)]) -> Result<(), Reason> {
        let mut counts: HashMap<ObjectId, i64> = HashMap::new();
        for (id, new) in changes {
            for (object, sign) in [(self.objects.get(id), -1), (new.as_ref(), 1)] {
                for reference in object.into_iter().flat_map(references) {
                    *counts.entry(reference).or_default() += sign;
                }
            }
        }
        let changed: HashMap<ObjectId, bool> = changes
            .iter()
            .map(|(id, new)| (*id, new.is_some()))
            .collect();
        let exists = |id: &ObjectId| {
            changed
                .get(id)
                .copied()
                .unwrap_or(self.objects.contains_key(id))
        };
        let count = |id: &ObjectId| {
            counts.get(id).copied().unwrap_or(0)
                + i64::from(self.references.get(id).copied().unwrap_or(0))
        };
        let touched = counts.keys().chain(changed.keys());
        if touched.into_iter().all(|id| count(id) == 0 || exists(id)) {
            Ok(())
        } else {
            Err(Reason::Dangling)
        }
    }

    /// Whether UDP flows may have lost an endpoint by these changes: an endpoint more ends none.
    fn loses_udp_endpoints(&self, changes: &[(ObjectId, Option<Object>)]) -> bool {
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
    fn losing(&self, changes: &[(ObjectId, Option<Object>)]) -> Vec<(Service, Arc<ResolvedSet>)> {
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
    fn departed(&self, losing: &[(Service, Arc<ResolvedSet>)]) -> Vec<Departed> {
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

    fn apply(&mut self, changes: Vec<(ObjectId, Option<Object>)>) {
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
                None => Action::Drop(hugepages::object::Why::NoEndpoint),
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

    fn rebuild_networks(&mut self) {
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

    fn rebuild_routes(&mut self) {
        let learned = self.objects.values().filter_map(|object| match object {
            Object::Route(route) => Some(*route),
            _ => None,
        });
        self.snapshot.routes = Arc::new(self.topology.routes(learned));
        // From 1 on: 0 is no generation (`NO_ROUTES`).
        self.snapshot.route_generation = self.snapshot.route_generation % ROUTE_GENERATIONS + 1;
    }
}

impl Staged {
    fn put(&mut self, id: ObjectId, object: Option<Object>) {
        self.count += 1;
        if self.changes.insert(id, object).is_none() {
            self.order.push(id);
        }
    }
}

/// Whether every one of these is among `all`; both are sorted.
fn is_within(some: &[Backend], all: &[Backend]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| other == one))
}

/// What is referred to has a lower rank than what refers to it.
const fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::BackendSet => 0,
        Kind::Ranges => 1,
        Kind::Service => 2,
        Kind::Frontend => 3,
        Kind::Network => 4,
        Kind::Route => 5,
    }
}

/// The objects that `object` refers to.
fn references(object: &Object) -> Vec<ObjectId> {
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
