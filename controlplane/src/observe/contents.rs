//! The objects that are installed, as the region's journal tells it.

use std::collections::BTreeMap;
use std::fmt::Display;

use hugepages::codec::Assembler;
use hugepages::object::{Object, ObjectId};
use hugepages::{Message, Record, Region};

/// What a journal comes to.
#[derive(Debug, Default)]
pub struct Contents {
    /// The objects.
    pub objects: BTreeMap<ObjectId, Object>,
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
}

fn failed(cause: impl Display) -> String {
    format!("the region's journal cannot be read: {cause}")
}

#[cfg(test)]
mod tests {
    use hugepages::codec::encode;
    use hugepages::object::{NO_KEY, OnEndpointGone, Protocol, Service, service_key};

    use super::*;

    #[test]
    fn a_broken_record_is_said_in_a_sentence() {
        let service = Service {
            key: service_key("x/a", "", Protocol::Tcp),
            name: "x/a".to_owned(),
            port_name: String::new(),
            protocol: Protocol::Tcp,
            serving: NO_KEY,
            on_endpoint_gone: OnEndpointGone::Keep,
        };
        let mut records = Vec::new();
        encode(&Message::Put(Object::Service(service)), &mut records);
        assert_eq!(Contents::replay(&records).unwrap().objects.len(), 1);
        records[0].version += 1;
        let failure = Contents::replay(&records).unwrap_err();
        assert!(failure.contains("journal"), "{failure}");
    }
}
