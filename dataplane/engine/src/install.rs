//! The installed state on the main core: commands in, snapshots out.
//!
//! An update is staged until its Commit and then installed whole or not at all. What is
//! installed is compared with what was there, object by object, so that a full replay that changes
//! nothing changes nothing: no snapshot, no flow, no journal record.

mod apply;
mod losing;

use std::collections::HashMap;
use std::sync::Arc;

use hugepages::digest::Digest;
use hugepages::message::{Message, Reason};
use hugepages::object::{Backend, Key, Kind, Object, ObjectId, OnEndpointGone, Prefix};

use self::apply::references;
use crate::slots::ServiceSlots;
use crate::snapshot::{ResolvedSet, ServiceEntry, Snapshot};
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
}

impl Staged {
    fn put(&mut self, id: ObjectId, object: Option<Object>) {
        self.count += 1;
        if self.changes.insert(id, object).is_none() {
            self.order.push(id);
        }
    }
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
