//! The objects that are installed, as the region's journal tells it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use hugepages::codec::Assembler;
use hugepages::object::{
    Backend, Frontend, Key, Kind, NO_KEY, Object, ObjectId, Prefix, Protocol, Service,
};
use hugepages::{Message, Record, Region};

/// What a journal comes to.
#[derive(Debug, Default)]
pub struct Contents {
    objects: BTreeMap<ObjectId, Object>,
    /// Generation of the last update.
    pub generation: u64,
}

impl Contents {
    /// What is installed in this region.
    ///
    /// # Errors
    ///
    /// A sentence: the journal cannot be read.
    pub fn read(region: &Region) -> Result<Self, String> {
        let journal = region.journal().map_err(failed)?;
        Self::replay(&journal.read_all().map_err(failed)?)
    }

    /// What these records come to.
    ///
    /// # Errors
    ///
    /// A sentence: a record cannot be read.
    pub fn replay(records: &[Record]) -> Result<Self, String> {
        let mut contents = Self::default();
        let mut assembler = Assembler::new();
        for record in records {
            match assembler.push(record).map_err(failed)? {
                Some(Message::Put(object)) => {
                    contents.objects.insert(object.id(), object);
                }
                Some(Message::Delete(id)) => {
                    contents.objects.remove(&id);
                }
                Some(Message::Commit { generation, .. }) => contents.generation = generation,
                Some(Message::Begin { .. }) | None => {}
            }
        }
        Ok(contents)
    }

    /// Every service port, by name, port name and protocol.
    #[must_use]
    pub fn services(&self) -> Vec<&Service> {
        let services = self.objects.values().filter_map(|object| match object {
            Object::Service(service) => Some(service),
            _ => None,
        });
        let mut found: Vec<_> = services.collect();
        found.sort_by_key(|service| (&service.name, &service.port_name, service.protocol));
        found
    }

    /// The service port of this key.
    #[must_use]
    pub fn service(&self, key: Key) -> Option<&Service> {
        match self.get(Kind::Service, key) {
            Some(Object::Service(service)) => Some(service),
            _ => None,
        }
    }

    /// The frontends of each service port, by kind, address and port; those that stand for all other ports of an address
    /// are nobody's.
    #[must_use]
    pub fn frontends(&self) -> HashMap<Key, Vec<&Frontend>> {
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
    #[must_use]
    pub fn backends(&self, key: Key) -> &[Backend] {
        match self.get(Kind::BackendSet, key) {
            Some(Object::BackendSet(set)) => &set.members,
            _ => &[],
        }
    }

    /// The prefixes of a frontend's ranges; `None` = everyone.
    #[must_use]
    pub fn ranges(&self, key: Key) -> Option<&[Prefix]> {
        match self.get(Kind::Ranges, key) {
            Some(Object::Ranges(ranges)) => Some(&ranges.prefixes),
            _ if key == NO_KEY => None,
            _ => Some(&[]),
        }
    }

    fn get(&self, kind: Kind, key: Key) -> Option<&Object> {
        self.objects.get(&ObjectId { kind, key })
    }
}

#[cfg(test)]
impl FromIterator<Object> for Contents {
    fn from_iter<T: IntoIterator<Item = Object>>(objects: T) -> Self {
        let objects = objects.into_iter().map(|object| (object.id(), object));
        Self {
            objects: objects.collect(),
            generation: 0,
        }
    }
}

fn failed(cause: impl Display) -> String {
    format!("the region's journal cannot be read: {cause}")
}

#[cfg(test)]
mod tests {
    use hugepages::codec::encode;
    use hugepages::object::{BackendSet, OnEndpointGone, service_key};

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
            Message::Put(a.clone()),
            Message::Delete(Object::Service(service("x/b")).id()),
            commit,
        ]);
        let contents = Contents::replay(&records).unwrap();
        assert_eq!(contents.services(), [&service("x/a")]);
        assert_eq!(contents.service(a.id().key), Some(&service("x/a")));
        assert_eq!(contents.backends(key).len(), 19);
        assert_eq!(contents.backends(key + 1), []);
        assert_eq!(contents.generation, 9);
    }

    #[test]
    fn a_broken_record_is_said_in_a_sentence() {
        let mut records = journal(&[Message::Put(Object::Service(service("x/a")))]);
        assert_eq!(Contents::replay(&records).unwrap().services().len(), 1);
        records[0].version += 1;
        let failure = Contents::replay(&records).unwrap_err();
        assert!(failure.contains("journal"), "{failure}");
    }
}
