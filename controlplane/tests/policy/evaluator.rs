//! What a set of objects does to the first packet of a flow, by the meaning of the objects alone.
//!
//! It is the data plane's service lookup in its plainest form, for tests of the policy layer: find
//! the frontend, check the source ranges, take the action of the source's class.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use hugepages::object::{
    Action, Backend, Frontend, Key, NO_KEY, NetworkRole, Object, Prefix, Protocol, SourceClass,
};
use ipnet::IpNet;

/// The first packet of a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) protocol: Protocol,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Translate {
        service: String,
        endpoints: Vec<Backend>,
        masquerade: bool,
    },
    Reject(Option<String>),
    Drop(Option<String>),
    Pass,
}

/// Objects, ready for lookups.
#[derive(Debug, Default)]
pub(crate) struct Evaluator {
    frontends: HashMap<(IpAddr, Protocol, u16), Frontend>,
    sets: HashMap<Key, Vec<Backend>>,
    ranges: HashMap<Key, Vec<Prefix>>,
    services: HashMap<Key, String>,
    networks: Vec<(NetworkRole, IpNet)>,
}

impl Evaluator {
    pub(crate) fn new(objects: Vec<Object>) -> Self {
        let mut evaluator = Self::default();
        for object in objects {
            match object {
                Object::Service(service) => {
                    evaluator.services.insert(service.key, service.name);
                }
                Object::BackendSet(set) => {
                    evaluator.sets.insert(set.key, set.members);
                }
                Object::Ranges(ranges) => {
                    evaluator.ranges.insert(ranges.key, ranges.prefixes);
                }
                Object::Frontend(frontend) => {
                    let key = (frontend.address, frontend.protocol, frontend.port);
                    evaluator.frontends.insert(key, frontend);
                }
                Object::Network(network) => {
                    evaluator.networks.push((network.role, net(network.prefix)));
                }
                Object::Route(_) => {}
            }
        }
        evaluator
    }

    pub(crate) fn judge(&self, packet: Packet) -> Verdict {
        let Some(frontend) = self.frontend(packet) else {
            return if self.is_in(NetworkRole::Services, packet.to.ip()) {
                Verdict::Drop(None)
            } else {
                Verdict::Pass
            };
        };
        let service = self.services.get(&frontend.service).cloned();
        let from = packet.from.ip();
        if frontend.ranges != NO_KEY {
            let allowed = &self.ranges[&frontend.ranges];
            if !allowed.iter().any(|prefix| net(*prefix).contains(&from)) {
                return Verdict::Drop(service);
            }
        }
        match frontend.actions[self.class(from) as usize] {
            Action::Reject(_) => Verdict::Reject(service),
            Action::Drop(_) => Verdict::Drop(service),
            Action::Translate { set, masquerade } => {
                let endpoints = self.sets[&set].clone();
                let hairpin = endpoints.iter().all(|backend| backend.address == from);
                Verdict::Translate {
                    service: service.expect("a frontend that translates has a service"),
                    endpoints,
                    masquerade: masquerade || hairpin,
                }
            }
        }
    }

    fn frontend(&self, packet: Packet) -> Option<&Frontend> {
        let (to, port) = (packet.to.ip(), packet.to.port());
        let exact = self.frontends.get(&(to, packet.protocol, port));
        exact.or_else(|| self.frontends.get(&(to, Protocol::Any, 0)))
    }

    fn class(&self, from: IpAddr) -> SourceClass {
        if self.is_in(NetworkRole::Own, from) {
            SourceClass::Node
        } else if self.is_in(NetworkRole::Pods, from) {
            SourceClass::Pod
        } else {
            SourceClass::Outside
        }
    }

    fn is_in(&self, role: NetworkRole, address: IpAddr) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|(of, network)| *of == role && network.contains(&address))
    }
}

fn net(prefix: Prefix) -> IpNet {
    IpNet::new(prefix.address, prefix.length).expect("prefixes of objects are valid")
}
