//! What is installed, and where its services are counted.

use std::collections::HashMap;

use engine::endpoints::EndpointSlots;
use engine::slots::ServiceSlots;
use hugepages::Region;
use hugepages::object::{Key, Service};
use portgate_controlplane::observe::Contents;

use crate::failure::Failure;

/// The installed objects, and where their services are counted.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// The objects.
    pub(crate) contents: Contents,
    slots: HashMap<Key, u32>,
    keys: HashMap<u32, Key>,
    endpoints: EndpointSlots,
}

impl Installed {
    /// What is installed in this region.
    pub(crate) fn of(region: &Region) -> Result<Self, Failure> {
        let mut installed = Self {
            contents: Contents::read(region).map_err(Failure::Failed)?,
            endpoints: EndpointSlots::of(region),
            ..Self::default()
        };
        let slots = ServiceSlots::new(region.service_keys());
        for slot in 1.. {
            let Some(key) = slots.key(slot) else { break };
            installed.slots.insert(key, slot);
            installed.keys.insert(slot, key);
        }
        Ok(installed)
    }

    /// Slot of a service's own counters; `None` if it shares them with others.
    pub(crate) fn slot(&self, service: Key) -> Option<u32> {
        self.slots.get(&service).copied()
    }

    /// The service that is counted in this slot, itself or by an endpoint, if it still is installed.
    pub(crate) fn service_at(&self, slot: u32) -> Option<&Service> {
        let slot = self.endpoints.service(slot);
        self.contents.service(*self.keys.get(&slot)?)
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
    use super::*;

    #[test]
    fn a_service_answers_to_its_name_with_and_without_namespace() {
        let name = "default/web";
        assert!(is_called(name, "web") && is_called(name, "default/web"));
        assert!(!is_called(name, "default") && !is_called(name, "other/web"));
    }
}
