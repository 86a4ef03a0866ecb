//! The state that the data plane is to have, kept up to date one service at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hugepages::Digest;
use hugepages::object::{Frontend, Key, Kind, Object, ObjectId, Protocol};
use settings::Gateway;

use crate::index::Index;
use crate::model::ObjectName;
use crate::warning::Warning;

use super::networks::{networks, routes};
use super::resolve::resolve;
use super::resolved::{Claim, HealthCheck, Rank, Resolved, Tally, Unproxied};
use super::view::View;

/// Every object that the data plane is to have, by id, and what has changed since the last update.
///
/// Sets and ranges are named by their content and shared by services, so they are counted; a
/// frontend may be claimed by several services, so the claims are ranked.
#[derive(Debug)]
pub struct Desired {
    view: View,
    objects: BTreeMap<ObjectId, Object>,
    digest: Digest,
    /// Users of each set and list of ranges.
    users: HashMap<ObjectId, usize>,
    /// Claims to each frontend, best first; never empty.
    claims: HashMap<Key, Vec<(Rank, Frontend)>>,
    services: BTreeMap<ObjectName, Contribution>,
    /// Shared with those who show it, so that it costs nothing while it stays.
    unproxied: Arc<BTreeMap<ObjectName, Unproxied>>,
    tally: Tally,
    /// Services whose health check changed since [`Self::take_health_changes`].
    health_touched: BTreeSet<ObjectName>,
    /// Objects touched since the last update, as they were then.
    touched: BTreeMap<ObjectId, Option<Object>>,
}

/// What a service has added to the state.
#[derive(Debug, Default)]
struct Contribution {
    objects: Vec<ObjectId>,
    claims: Vec<(Key, Rank)>,
    health: Option<HealthCheck>,
    tally: Tally,
}

/// The difference between two states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects that are new or different, by id.
    pub puts: Vec<Object>,
    /// Objects that are no longer there.
    pub deletes: Vec<ObjectId>,
}

impl Changes {
    /// Whether there is no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }
}

impl Desired {
    /// The state of a gateway in a cluster of which nothing is known yet.
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        let mut desired = Self {
            view: View::new(gateway),
            objects: BTreeMap::new(),
            digest: Digest::default(),
            users: HashMap::new(),
            claims: HashMap::new(),
            services: BTreeMap::new(),
            unproxied: Arc::default(),
            tally: Tally::default(),
            health_touched: BTreeSet::new(),
            touched: BTreeMap::new(),
        };
        desired.exchange(Kind::Network, networks(&desired.view, &Index::new()));
        desired
    }

    /// Brings the state up to date with everything that is dirty in the index.
    pub fn refresh(&mut self, index: &mut Index) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut dirty = index.take_dirty();
        if dirty.nodes {
            if self.view.look_at_own_node(index) {
                let every = index.services().map(|service| service.name.clone());
                dirty.services.extend(every);
            }
            let routes = routes(&self.view, index, &mut warnings);
            self.exchange(Kind::Route, routes.into_iter().map(Object::Route));
        }
        if dirty.service_cidrs {
            self.exchange(Kind::Network, networks(&self.view, index));
        }
        let mut contested = BTreeSet::new();
        for name in &dirty.services {
            self.refresh_service(name, index, &mut contested, &mut warnings);
        }
        self.settle(&contested, &mut warnings);
        warnings
    }

    /// Every object, by id.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = &Object> {
        self.objects.values()
    }

    /// Digest of the whole state.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the state differs from what was last taken (or may do so).
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.touched.is_empty()
    }

    /// What has changed since this or [`Self::take_all`] was last called.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (id, before) in std::mem::take(&mut self.touched) {
            match self.objects.get(&id) {
                now if now == before.as_ref() => {}
                Some(object) => changes.puts.push(object.clone()),
                None => changes.deletes.push(id),
            }
        }
        changes
    }

    /// The whole state, as changes from nothing.
    pub fn take_all(&mut self) -> Changes {
        self.touched.clear();
        Changes {
            puts: self.objects.values().cloned().collect(),
            deletes: Vec::new(),
        }
    }

    /// The health checks to answer that are other ones since this was last called, by service; `None` = none any more.
    pub fn take_health_changes(&mut self) -> Vec<(ObjectName, Option<HealthCheck>)> {
        let touched = std::mem::take(&mut self.health_touched);
        let check = |name: &ObjectName| self.services.get(name)?.health.clone();
        touched
            .into_iter()
            .map(|name| {
                let check = check(&name);
                (name, check)
            })
            .collect()
    }

    /// Services of ours that are not proxied.
    #[must_use]
    pub fn unproxied(&self) -> Arc<BTreeMap<ObjectName, Unproxied>> {
        Arc::clone(&self.unproxied)
    }

    /// Numbers over all services.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    fn refresh_service(
        &mut self,
        name: &ObjectName,
        index: &Index,
        contested: &mut BTreeSet<Key>,
        warnings: &mut Vec<Warning>,
    ) {
        let mut resolved = match index.service(name) {
            Some(service) => resolve(&self.view, service, index.slices_of(name)),
            None => Resolved::default(),
        };
        warnings.append(&mut resolved.warnings);
        self.note_unproxied(name, resolved.unproxied.take());
        let before = self.services.remove(name).unwrap_or_default();
        if before.health != resolved.health {
            self.health_touched.insert(name.clone());
        }
        let mut after = Contribution {
            health: resolved.health,
            tally: resolved.tally,
            ..Contribution::default()
        };
        // New users first, then the old ones go: what stays is never touched.
        for object in resolved.objects {
            after.objects.push(object.id());
            self.acquire(object);
        }
        for id in before.objects {
            self.release(id);
        }
        for (key, rank) in before.claims {
            self.withdraw(key, &rank);
            contested.insert(key);
        }
        for Claim { rank, frontend } in resolved.claims {
            let key = frontend.key();
            after.claims.push((key, rank.clone()));
            self.enter(key, rank, frontend);
            contested.insert(key);
        }
        self.tally = self.tally.minus(before.tally).plus(after.tally);
        let served = !after.objects.is_empty() || !after.claims.is_empty();
        if served {
            self.services.insert(name.clone(), after);
        }
    }

    fn note_unproxied(&mut self, name: &ObjectName, why: Option<Unproxied>) {
        if self.unproxied.get(name) == why.as_ref() {
            return;
        }
        let all = Arc::make_mut(&mut self.unproxied);
        match why {
            Some(why) => all.insert(name.clone(), why),
            None => all.remove(name),
        };
    }

    fn enter(&mut self, key: Key, rank: Rank, frontend: Frontend) {
        let claims = self.claims.entry(key).or_default();
        let place = claims.partition_point(|(other, _)| *other < rank);
        claims.insert(place, (rank, frontend));
    }

    fn withdraw(&mut self, key: Key, rank: &Rank) {
        if let Some(claims) = self.claims.get_mut(&key) {
            claims.retain(|(other, _)| other != rank);
            if claims.is_empty() {
                self.claims.remove(&key);
            }
        }
    }

    /// Gives each of these frontends to its best claim and tells the others.
    fn settle(&mut self, contested: &BTreeSet<Key>, warnings: &mut Vec<Warning>) {
        for key in contested {
            match self.claims.get(key).and_then(|claims| claims.split_first()) {
                Some(((winner, frontend), others)) => {
                    if frontend.protocol != Protocol::Any {
                        for (loser, _) in others {
                            if loser.service != winner.service {
                                warnings.push(conflict(frontend, winner, loser));
                            }
                        }
                    }
                    let object = Object::Frontend(frontend.clone());
                    self.put(object);
                }
                None => self.remove(ObjectId {
                    kind: Kind::Frontend,
                    key: *key,
                }),
            }
        }
    }

    /// Takes `objects` for all there is of a kind that no service has a part in.
    fn exchange(&mut self, kind: Kind, objects: impl IntoIterator<Item = Object>) {
        let wanted: BTreeMap<ObjectId, Object> = objects
            .into_iter()
            .map(|object| (object.id(), object))
            .collect();
        let gone: Vec<ObjectId> = self
            .objects
            .range(ObjectId { kind, key: 0 }..)
            .map(|(id, _)| *id)
            .take_while(|id| id.kind == kind)
            .filter(|id| !wanted.contains_key(id))
            .collect();
        for id in gone {
            self.remove(id);
        }
        for object in wanted.into_values() {
            self.put(object);
        }
    }

    fn acquire(&mut self, object: Object) {
        let users = self.users.entry(object.id()).or_default();
        *users += 1;
        // A service's own object may have changed; a set or list of ranges never does.
        if *users == 1 || object.id().kind == Kind::Service {
            self.put(object);
        }
    }

    fn release(&mut self, id: ObjectId) {
        let Some(users) = self.users.get_mut(&id) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.users.remove(&id);
            self.remove(id);
        }
    }

    fn put(&mut self, object: Object) {
        let id = object.id();
        let before = self.objects.get(&id);
        if before == Some(&object) {
            return;
        }
        if let Some(before) = before {
            self.digest.remove(before);
        }
        self.digest.add(&object);
        let before = self.objects.insert(id, object);
        self.touched.entry(id).or_insert(before);
    }

    fn remove(&mut self, id: ObjectId) {
        if let Some(before) = self.objects.remove(&id) {
            self.digest.remove(&before);
            self.touched.entry(id).or_insert(Some(before));
        }
    }
}

fn conflict(frontend: &Frontend, winner: &Rank, loser: &Rank) -> Warning {
    let Frontend {
        address,
        protocol,
        port,
        ..
    } = frontend;
    Warning {
        subject: format!("Service {}", loser.service),
        message: format!(
            "{address} {} port {port} belongs to Service {}: an address and port has one service, \
             the owner of the ClusterIP or else the first by name; it is not served for this one",
            protocol.name(),
            winner.service,
        ),
    }
}
