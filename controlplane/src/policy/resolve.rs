//! One service → the objects and frontends that it asks for.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hugepages::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, Key, NO_KEY, Object, Prefix, Protocol,
    Ranges, Service, Why, service_key,
};
use hugepages::record::MAX_MEMBERS;

use crate::model::{
    ObjectName, ServiceObject, ServicePort, ServiceType, SliceObject, TrafficPolicy,
};

use crate::warning::Warning;

use super::lists::{Candidate, Lists, once_each};
use super::resolved::{Claim, HealthCheck, Resolved, Unproxied, other_ports, rank};
use super::view::{Family, View};

/// Objects of a service among which a list of endpoints is looked for before it is made anew: those of a port.
const LATEST: usize = 4;

/// Resolves a service against its slices. A service that is not ours to serve asks for nothing.
pub(super) fn resolve<'a>(
    view: &View,
    service: &ServiceObject,
    slices: impl Iterator<Item = &'a SliceObject>,
) -> Resolved {
    let mut resolved = Resolved::default();
    if !view.is_ours(&service.labels) {
        return resolved;
    }
    resolved.unproxied = match &service.service_type {
        ServiceType::ExternalName(target) => Some(Unproxied::ExternalName(target.clone())),
        _ if service.cluster_ips.is_empty() => Some(Unproxied::Headless),
        _ => None,
    };
    if resolved.unproxied.is_some() {
        return resolved;
    }
    let slices: Vec<&SliceObject> = slices.filter(|slice| view.is_ours(&slice.labels)).collect();
    let owner = Arc::new(service.name.clone());
    let mut candidates = candidates(view, service, &slices);
    for (index, port) in service.ports.iter().enumerate() {
        let of_port = candidates
            .remove(&(&*port.name, port.protocol))
            .unwrap_or_default();
        let mut resolver = PortResolver {
            view,
            service,
            owner: &owner,
            port,
            index,
            key: service_key(&service.name.to_string(), &port.name, port.protocol),
            resolved: &mut resolved,
        };
        resolver.run(&of_port);
    }
    for address in &service.cluster_ips {
        resolved.claims.push(other_ports(&owner, *address));
    }
    resolved.health = health_check(view, service, &slices);
    resolved
}

/// Endpoints by the service port that they belong to, sorted, each once.
fn candidates<'a>(
    view: &View,
    service: &'a ServiceObject,
    slices: &[&'a SliceObject],
) -> HashMap<(&'a str, Protocol), Vec<Candidate<'a>>> {
    let mut found: HashMap<(&str, Protocol), Vec<Candidate<'_>>> = HashMap::new();
    for port in &service.ports {
        found.insert((&port.name, port.protocol), Vec::new());
    }
    for slice in slices {
        for port in &slice.ports {
            // A slice port belongs to the service port of the same name and protocol.
            let Some(of_port) = found.get_mut(&(&*port.name, port.protocol)) else {
                continue;
            };
            of_port.extend(slice.endpoints.iter().map(|endpoint| Candidate {
                backend: Backend {
                    address: endpoint.address,
                    port: port.port,
                },
                endpoint,
                local: view.is_local(endpoint.node.as_deref()),
            }));
        }
    }
    for of_port in found.values_mut() {
        once_each(of_port);
    }
    found
}

struct PortResolver<'a> {
    view: &'a View,
    service: &'a ServiceObject,
    owner: &'a Arc<ObjectName>,
    port: &'a ServicePort,
    index: usize,
    key: Key,
    resolved: &'a mut Resolved,
}

impl PortResolver<'_> {
    fn run(&mut self, candidates: &[Candidate<'_>]) {
        self.put_service(candidates);
        let (mut internal, mut external) = (false, false);
        for cluster_ip in &self.service.cluster_ips {
            let family = Family::of(*cluster_ip);
            let start = candidates.partition_point(|c| c.backend.address.is_ipv4());
            let of_family = match family {
                Family::V4 => &candidates[..start],
                Family::V6 => &candidates[start..],
            };
            let lists = Lists::of(self.view, of_family);
            self.put_frontends(*cluster_ip, &lists);
            let elsewhere = lists.local.is_empty() && !lists.anywhere.is_empty();
            internal |= elsewhere;
            external |= elsewhere && !self.view.is_outside_the_cluster();
        }
        let tally = &mut self.resolved.tally;
        tally.service_ports += 1;
        let local = TrafficPolicy::Local;
        tally.no_local_internal += usize::from(internal && self.service.internal_policy == local);
        let exposed = self.port.node_port.is_some() || is_external(self.service);
        tally.no_local_external +=
            usize::from(external && exposed && self.service.external_policy == local);
    }

    fn put_service(&mut self, candidates: &[Candidate<'_>]) {
        let serving: Vec<Backend> = candidates
            .iter()
            .filter(|candidate| candidate.endpoint.serving || candidate.endpoint.ready)
            .map(|candidate| candidate.backend)
            .collect();
        self.resolved.tally.endpoints += serving.len();
        let serving = self.put_set(&serving).unwrap_or(NO_KEY);
        self.resolved.objects.push(Object::Service(Service {
            key: self.key,
            name: self.service.name.to_string(),
            port_name: self.port.name.clone(),
            protocol: self.port.protocol,
            serving,
            on_endpoint_gone: self.service.on_endpoint_gone,
        }));
    }

    fn put_frontends(&mut self, cluster_ip: IpAddr, lists: &Lists) {
        let family = Family::of(cluster_ip);
        let port = self.port.port;
        let actions = self.internal_actions(family, lists);
        self.claim(FrontendKind::ClusterIp, cluster_ip, port, NO_KEY, actions);
        if self.port.node_port.is_none() && !is_external(self.service) {
            return;
        }
        let actions = self.external_actions(lists);
        if let Some(node_port) = self.port.node_port {
            for address in self.view.node_port_addresses(family) {
                self.claim(FrontendKind::NodePort, address, node_port, NO_KEY, actions);
            }
        }
        let service = self.service;
        for address in in_family(&service.ingress_ips, family) {
            let ranges = self.put_ranges(address);
            self.claim(FrontendKind::LoadBalancer, address, port, ranges, actions);
        }
        if self.view.gateway.external_ips {
            for address in in_family(&service.external_ips, family) {
                self.claim(FrontendKind::ExternalIp, address, port, NO_KEY, actions);
            }
        }
    }

    /// ClusterIP: internalTrafficPolicy chooses the list; whoever is not a pod is masqueraded, so
    /// that the answer comes back through us. Without a way to tell pods from others nobody is.
    fn internal_actions(&mut self, family: Family, lists: &Lists) -> [Action; 3] {
        let (list, otherwise) = match self.service.internal_policy {
            TrafficPolicy::Cluster => (&lists.cluster, Why::NoLocalEndpoint),
            TrafficPolicy::Local if self.view.is_outside_the_cluster() => {
                (&lists.local, Why::NotServedHere)
            }
            TrafficPolicy::Local => (&lists.local, Why::NoLocalEndpoint),
        };
        let action = self.action(list, lists, otherwise);
        let all = self.view.gateway.masquerade_all;
        let others = all || self.view.knows_pods(family);
        [
            masquerade(action, all),
            masquerade(action, others),
            masquerade(action, others),
        ]
    }

    /// NodePort, load balancer and external addresses, by externalTrafficPolicy. Under Local a
    /// client from outside keeps its address; pods and the node are served as at the ClusterIP of
    /// policy Cluster, for they may be anywhere in the cluster.
    fn external_actions(&mut self, lists: &Lists) -> [Action; 3] {
        let cluster = self.action(&lists.cluster, lists, Why::NoLocalEndpoint);
        match self.service.external_policy {
            TrafficPolicy::Cluster => [masquerade(cluster, true); 3],
            TrafficPolicy::Local => {
                let list = if self.view.is_outside_the_cluster() {
                    &lists.anywhere
                } else {
                    &lists.local
                };
                let outside = self.action(list, lists, Why::NoLocalEndpoint);
                [
                    masquerade(cluster, false),
                    masquerade(cluster, true),
                    masquerade(outside, false),
                ]
            }
        }
    }

    /// Translates to the list. If it is empty: refuses when no endpoint is usable anywhere, else
    /// stays silent so that the client tries again elsewhere.
    fn action(&mut self, list: &[Backend], lists: &Lists, otherwise: Why) -> Action {
        match self.put_set(list) {
            Some(set) => Action::Translate {
                set,
                masquerade: false,
            },
            None if lists.anywhere.is_empty() => Action::Reject(Why::NoEndpoint),
            None => Action::Drop(otherwise),
        }
    }

    fn put_set(&mut self, backends: &[Backend]) -> Option<Key> {
        if backends.is_empty() {
            return None;
        }
        let served = &backends[..backends.len().min(MAX_MEMBERS)];
        if served.len() < backends.len() {
            self.resolved.warnings.push(Warning {
                subject: format!("Service {}", self.service.name),
                message: format!(
                    "port {} has {} endpoints: {MAX_MEMBERS} is the most, the others are not used",
                    self.port.port,
                    backends.len(),
                ),
            });
        }
        // The lists of a port are mostly the same one, and it may be long.
        let latest = self.resolved.objects.iter().rev().take(LATEST);
        let mut same = latest.filter_map(|object| match object {
            Object::BackendSet(set) if set.members == served => Some(set.key),
            _ => None,
        });
        if let Some(key) = same.next() {
            return Some(key);
        }
        let set = BackendSet::new(served.to_vec());
        let key = set.key;
        self.resolved.objects.push(Object::BackendSet(set));
        Some(key)
    }

    /// The sources that may use a load balancer address. When the gateway itself may, so may the
    /// address: a connection that the gateway's host makes to it can carry it as its source.
    fn put_ranges(&mut self, address: IpAddr) -> Key {
        let Some(prefixes) = self.service.source_ranges.of(address) else {
            return NO_KEY;
        };
        let mut prefixes = prefixes.to_vec();
        let ours = self.view.primary_address(Family::of(address));
        if ours.is_some_and(|ours| prefixes.iter().any(|prefix| contains(*prefix, ours))) {
            let length = if address.is_ipv4() { 32 } else { 128 };
            prefixes.push(Prefix { address, length });
        }
        let ranges = Ranges::new(prefixes);
        let key = ranges.key;
        self.resolved.objects.push(Object::Ranges(ranges));
        key
    }

    fn claim(
        &mut self,
        kind: FrontendKind,
        address: IpAddr,
        port: u16,
        ranges: Key,
        actions: [Action; 3],
    ) {
        self.resolved.claims.push(Claim {
            rank: rank(self.owner, kind, self.index),
            frontend: Frontend {
                address,
                protocol: self.port.protocol,
                port,
                service: self.key,
                kind,
                affinity_timeout: self.service.affinity_timeout,
                ranges,
                actions,
            },
        });
    }
}

/// `LoadBalancer` with `externalTrafficPolicy: Local` and a `healthCheckNodePort`: the number of
/// distinct addresses that are ready and would be used for clients from outside. Terminating
/// endpoints, even those still in use as a last resort, do not count.
fn health_check(
    view: &View,
    service: &ServiceObject,
    slices: &[&SliceObject],
) -> Option<HealthCheck> {
    let local = service.external_policy == TrafficPolicy::Local;
    if !local || service.service_type != ServiceType::LoadBalancer {
        return None;
    }
    let port = service.health_check_node_port?;
    let families: Vec<Family> = service
        .cluster_ips
        .iter()
        .map(|ip| Family::of(*ip))
        .collect();
    let addresses: BTreeSet<IpAddr> = slices
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.ready && families.contains(&Family::of(endpoint.address)))
        .filter(|e| view.is_outside_the_cluster() || view.is_local(e.node.as_deref()))
        .map(|endpoint| endpoint.address)
        .collect();
    Some(HealthCheck {
        port,
        local_endpoints: addresses.len(),
        uid: service.uid.clone(),
    })
}

fn is_external(service: &ServiceObject) -> bool {
    !service.ingress_ips.is_empty() || !service.external_ips.is_empty()
}

fn in_family(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    let all = addresses.iter().copied();
    all.filter(move |address| Family::of(*address) == family)
}

const fn masquerade(action: Action, masquerade: bool) -> Action {
    match action {
        Action::Translate { set, .. } => Action::Translate { set, masquerade },
        other => other,
    }
}

fn contains(prefix: Prefix, address: IpAddr) -> bool {
    let network = ipnet::IpNet::new(prefix.address, prefix.length);
    network.is_ok_and(|network| network.contains(&address))
}
