//! The services that are installed, as the region's journal tells it, and where they are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use engine::slots::ServiceSlots;
use hugepages::Region;
use hugepages::object::{Action, Backend, Frontend, FrontendKind, Key, Protocol, Service};

use super::Contents;

/// Every service port, by name, port name and protocol.
#[derive(Debug, Default)]
pub struct Installed {
    /// Generation of the last update.
    pub generation: u64,
    /// The service ports.
    pub services: Vec<InstalledService>,
}

/// A service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledService {
    /// Its key among the installed objects.
    pub key: Key,
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Name of the port; empty when it has none.
    pub port_name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Slot of its counters; `None` if it shares them with others.
    pub slot: Option<u32>,
    /// Where clients reach it.
    pub frontends: Vec<(FrontendKind, SocketAddr)>,
    /// Its endpoints, by address.
    pub endpoints: Vec<InstalledEndpoint>,
}

/// An endpoint of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstalledEndpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether new flows go there; else it only keeps those that it has.
    pub takes_new: bool,
}

impl Installed {
    /// What is installed in this region.
    ///
    /// # Errors
    ///
    /// A sentence: the journal cannot be read.
    pub fn read(region: &Region) -> Result<Self, String> {
        let slots = ServiceSlots::new(region.service_keys());
        Ok(Self::of(&Contents::read(region)?, |key| slots.known(key)))
    }

    fn of(contents: &Contents, slot: impl Fn(Key) -> Option<u32>) -> Self {
        let frontends = contents.frontends();
        let services = contents.services().into_iter().map(|service| {
            let frontends = frontends.get(&service.key).map_or(&[][..], Vec::as_slice);
            describe(service, frontends, contents, slot(service.key))
        });
        Self {
            generation: contents.generation,
            services: services.collect(),
        }
    }
}

fn describe(
    service: &Service,
    frontends: &[&Frontend],
    contents: &Contents,
    slot: Option<u32>,
) -> InstalledService {
    let sets: BTreeSet<Key> = frontends
        .iter()
        .flat_map(|frontend| &frontend.actions)
        .filter_map(|action| match action {
            Action::Translate { set, .. } => Some(*set),
            Action::Reject(_) | Action::Drop(_) => None,
        })
        .collect();
    let kept = contents.backends(service.serving).iter();
    let mut takes_new: BTreeMap<Backend, bool> = kept.map(|backend| (*backend, false)).collect();
    for set in sets {
        let members = contents.backends(set).iter();
        takes_new.extend(members.map(|backend| (*backend, true)));
    }
    let (namespace, name) = service.name.split_once('/').unwrap_or(("", &service.name));
    let frontends = frontends.iter().map(|frontend| {
        let address = SocketAddr::new(frontend.address, frontend.port);
        (frontend.kind, address)
    });
    let endpoints = takes_new
        .into_iter()
        .map(|(backend, takes_new)| InstalledEndpoint {
            address: SocketAddr::new(backend.address, backend.port),
            takes_new,
        });
    InstalledService {
        key: service.key,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port_name: service.port_name.clone(),
        protocol: service.protocol,
        slot,
        frontends: frontends.collect(),
        endpoints: endpoints.collect(),
    }
}

#[cfg(test)]
mod tests {
    use hugepages::object::{
        BackendSet, NO_KEY, Object, OnEndpointGone, SourceClass, Why, service_key,
    };

    use super::*;

    fn backend(last: u8) -> Backend {
        Backend {
            address: [10, 0, 0, last].into(),
            port: 80,
        }
    }

    #[test]
    fn a_service_has_the_endpoints_of_its_frontends_and_those_that_only_keep_flows() {
        let key = service_key("shop/web", "http", Protocol::Tcp);
        let serving = BackendSet::new(vec![backend(1), backend(2), backend(3)]);
        let chosen = BackendSet::new(vec![backend(2)]);
        let mut actions = [Action::Drop(Why::NoEndpoint); 3];
        actions[SourceClass::Outside as usize] = Action::Translate {
            set: chosen.key,
            masquerade: true,
        };
        let frontend = Frontend {
            address: [203, 0, 113, 1].into(),
            protocol: Protocol::Tcp,
            port: 443,
            service: key,
            kind: FrontendKind::LoadBalancer,
            affinity_timeout: 0,
            ranges: NO_KEY,
            actions,
        };
        let service = Service {
            key,
            name: "shop/web".to_owned(),
            port_name: "http".to_owned(),
            protocol: Protocol::Tcp,
            serving: serving.key,
            on_endpoint_gone: OnEndpointGone::Keep,
        };
        let objects = [
            Object::BackendSet(serving),
            Object::BackendSet(chosen),
            Object::Service(service),
            Object::Frontend(frontend),
        ];
        let mut contents: Contents = objects.into_iter().collect();
        contents.generation = 3;
        let installed = Installed::of(&contents, |_| Some(7));
        assert_eq!(installed.generation, 3);
        let [service] = installed.services.as_slice() else {
            panic!("{installed:?}")
        };
        assert_eq!((&*service.namespace, &*service.name), ("shop", "web"));
        assert_eq!(service.slot, Some(7));
        let address = "203.0.113.1:443".parse().unwrap();
        assert_eq!(service.frontends, [(FrontendKind::LoadBalancer, address)]);
        let endpoints = service.endpoints.iter();
        let shown: Vec<_> = endpoints
            .map(|endpoint| (endpoint.address.to_string(), endpoint.takes_new))
            .collect();
        let expected = [("1", false), ("2", true), ("3", false)];
        assert_eq!(
            shown,
            expected.map(|(last, new)| (format!("10.0.0.{last}:80"), new))
        );
    }
}
