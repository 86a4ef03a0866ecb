//! What is installed, and where its services are counted.

use std::collections::{BTreeMap, HashMap};

use engine::endpoints::EndpointSlots;
use engine::slots::ServiceSlots;
use hugepages::Region;
use hugepages::object::{
    Backend, Frontend, Key, Kind, NO_KEY, Object, ObjectId, Prefix, Protocol, Service,
};
use portgate_controlplane::observe::Contents;

use crate::failure::Failure;

/// The installed objects, and where their services are counted.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    objects: BTreeMap<ObjectId, Object>,
    slots: HashMap<Key, u32>,
    keys: HashMap<u32, Key>,
    endpoints: EndpointSlots,
    /// Generation of the last update.
    pub(crate) generation: u64,
}

impl Installed {
    /// What is installed in this region.
    pub(crate) fn of(region: &Region) -> Result<Self, Failure> {
        let mut installed = Self::from(Contents::read(region).map_err(Failure::Failed)?);
        let slots = ServiceSlots::new(region.service_keys());
        installed.endpoints = EndpointSlots::new(region.endpoint_index(), region.endpoint_keys());
        for slot in 1.. {
            let Some(key) = slots.key(slot) else { break };
            installed.slots.insert(key, slot);
            installed.keys.insert(slot, key);
        }
        Ok(installed)
    }

    /// Every service port, by name, port name and protocol.
    pub(crate) fn services(&self) -> Vec<&Service> {
        let mut found: Vec<_> = self
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Service(service) => Some(service),
                _ => None,
            })
            .collect();
        found.sort_by_key(|service| (&service.name, &service.port_name, service.protocol));
        found
    }

    /// The frontends of each service, by kind and address; those that stand for all other ports of
    /// an address are nobody's.
    pub(crate) fn frontends(&self) -> HashMap<Key, Vec<&Frontend>> {
        let mut found: HashMap<Key, Vec<&Frontend>> = HashMap::new();
        for object in self.objects.values() {
            if let Object::Frontend(frontend) = object
                && frontend.protocol != Protocol::Any
            {
                found.entry(frontend.service).or_default().push(frontend);
            }
        }
        for frontends in found.values_mut() {
            frontends.sort_by_key(|f| (f.kind as u8, f.address, f.port));
        }
        found
    }

    /// Members of a backend set; none if there is no such set.
    pub(crate) fn backends(&self, key: Key) -> &[Backend] {
        match self.get(Kind::BackendSet, key) {
            Some(Object::BackendSet(set)) => &set.members,
            _ => &[],
        }
    }

    /// The prefixes of a frontend's ranges; `None` = everyone.
    pub(crate) fn ranges(&self, key: Key) -> Option<&[Prefix]> {
        match self.get(Kind::Ranges, key) {
            Some(Object::Ranges(ranges)) => Some(&ranges.prefixes),
            _ if key == NO_KEY => None,
            _ => Some(&[]),
        }
    }

    /// Slot of a service's own counters; `None` if it shares them with others.
    pub(crate) fn slot(&self, service: Key) -> Option<u32> {
        self.slots.get(&service).copied()
    }

    /// The service that is counted in this slot, itself or by an endpoint, if it still is installed.
    pub(crate) fn service_at(&self, slot: u32) -> Option<&Service> {
        let slot = self.endpoints.service(slot);
        match self.get(Kind::Service, *self.keys.get(&slot)?) {
            Some(Object::Service(service)) => Some(service),
            _ => None,
        }
    }

    fn get(&self, kind: Kind, key: Key) -> Option<&Object> {
        self.objects.get(&ObjectId { kind, key })
    }
}

impl From<Contents> for Installed {
    fn from(contents: Contents) -> Self {
        Self {
            objects: contents.objects,
            generation: contents.generation,
            ..Self::default()
        }
    }
}

/// Whether a service is meant by this name: `namespace/name`, or the name alone.
pub(crate) fn is_named(service: &Service, wanted: &str) -> bool {
    is_called(&service.name, wanted)
}

/// The same for a service of which `full`, `namespace/name`, is all that is known.
pub(crate) fn is_called(full: &str, wanted: &str) -> bool {
    let name = full.split_once('/').map_or("", |(_, name)| name);
    full == wanted || name == wanted
}

#[cfg(test)]
mod tests {
    use hugepages::codec::encode;
    use hugepages::object::{BackendSet, OnEndpointGone, service_key};
    use hugepages::{Message, Record};

    use super::*;

    fn service(name: &str) -> Service {
        Service {
            key: service_key(name, "", Protocol::Tcp),
            name: name.to_owned(),
            port_name: String::new(),
            protocol: Protocol::Tcp,
            serving: NO_KEY,
            on_endpoint_gone: OnEndpointGone::Keep,
        }
    }

    fn journal(messages: &[Message]) -> Vec<Record> {
        let mut records = Vec::new();
        messages
            .iter()
            .for_each(|message| encode(message, &mut records));
        records
    }

    #[test]
    fn what_was_put_and_not_deleted_is_installed() {
        let (a, b) = (
            Object::Service(service("x/a")),
            Object::Service(service("x/b")),
        );
        let backend = |last| Backend {
            address: [10, 0, 0, last].into(),
            port: 80,
        };
        let set = BackendSet::new((1..20).map(backend).collect());
        let key = set.key;
        let commit = Message::Commit {
            boot: 1,
            generation: 9,
            changes: 0,
            digest: hugepages::Digest::default(),
        };
        let records = journal(&[
            Message::Put(b),
            Message::Put(Object::BackendSet(set)),
            Message::Put(a.clone()),
            Message::Delete(a.id()),
            Message::Put(a),
            Message::Delete(Object::Service(service("x/b")).id()),
            commit,
        ]);
        let installed = Installed::from(Contents::replay(&records).unwrap());
        let names: Vec<_> = installed
            .services()
            .iter()
            .map(|s| s.name.clone())
            .collect();
        assert_eq!(names, ["x/a"]);
        assert_eq!(installed.backends(key).len(), 19);
        assert_eq!(installed.backends(key + 1), []);
        assert_eq!(installed.generation, 9);
    }

    #[test]
    fn a_service_answers_to_its_name_with_and_without_namespace() {
        let service = service("default/web");
        assert!(is_named(&service, "web") && is_named(&service, "default/web"));
        assert!(!is_named(&service, "default") && !is_named(&service, "other/web"));
    }
}
