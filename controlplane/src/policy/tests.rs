//! The state as a whole: however the cluster came to be what it is, the objects are the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hugepages::Digest;
use hugepages::object::{Object, ObjectId, OnEndpointGone, Protocol, Route};
use proptest::prelude::*;

use super::fixtures::{endpoint, gateway, service, slice};
use super::{Desired, HealthCheck, desired_state};
use crate::index::Index;
use crate::model::{
    ClusterObject, NodeObject, ObjectKind, ObjectName, ProxyLabels, ServiceCidrObject, ServicePort,
    ServiceType, SlicePort, SourceRanges, TrafficPolicy,
};

fn node(name: &str, zone: Option<&str>) -> NodeObject {
    let last = name.bytes().last().unwrap_or(0);
    NodeObject {
        name: ObjectName::new("", name),
        zone: zone.map(Into::into),
        internal_ips: vec![IpAddr::from([192, 0, 2, last])],
        pod_cidrs: vec![crate::convert::parse_prefix(&format!("10.244.{last}.0/24")).unwrap()],
        leaving: false,
    }
}

/// What a cluster may do next. Few names and addresses, so that they collide.
#[allow(clippy::large_enum_variant)] // Few and short-lived.
#[derive(Debug, Clone)]
enum Step {
    Apply(ClusterObject),
    Delete(ObjectKind, ObjectName),
    Replace(ObjectKind, Vec<ClusterObject>),
}

/// A service of which every field may be anything. Addresses and ports collide with those of others.
fn any_service() -> impl Strategy<Value = ClusterObject> {
    let addresses = (0..3u8, 0..3u8, 0..3u8, any::<bool>());
    let ports = prop::collection::vec((0..3u16, 0..3u16), 0..3);
    let policies = (any::<bool>(), any::<bool>(), 0..3u32, 0..4u8, 0..3u8);
    (0..4u8, 0..6u8, 0..4u8, addresses, ports, policies).prop_map(
        |(name, kind, labels, (cluster, external, ingress, dual), ports, policies)| {
            let (local, inside, affinity, ranges, gone) = policies;
            let mut made = service(&format!("s{name}"));
            made.uid = Some(format!("uid-{gone}"));
            made.labels = self::labels(labels);
            made.service_type = match kind {
                0 => ServiceType::ClusterIp,
                1 => ServiceType::NodePort,
                2 => ServiceType::ExternalName("www.example.org".into()),
                _ => ServiceType::LoadBalancer,
            };
            made.cluster_ips = vec![IpAddr::from([10, 96, 0, cluster])];
            if dual {
                let six = format!("fd00:10:96::{cluster}").parse().unwrap();
                made.cluster_ips.insert(usize::from(kind % 2), six);
            }
            if kind == 5 {
                // Headless.
                made.cluster_ips.clear();
            }
            made.external_ips = vec![IpAddr::from([198, 51, 100, external])];
            made.external_ips.truncate(usize::from(external));
            made.ingress_ips = vec![IpAddr::from([198, 51, 100, ingress])];
            made.ingress_ips.truncate(usize::from(ingress));
            made.ports = ports
                .into_iter()
                .map(|(name, node_port)| ServicePort {
                    name: format!("p{name}"),
                    protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(name)],
                    port: 80 + name,
                    node_port: (node_port > 0).then_some(30_000 + node_port),
                })
                .collect();
            made.ports.sort_by_key(|port| port.port);
            made.ports.dedup_by_key(|port| port.port);
            if local {
                made.external_policy = TrafficPolicy::Local;
                made.health_check_node_port = (ingress > 0).then_some(31_000 + u16::from(name));
            }
            if inside {
                made.internal_policy = TrafficPolicy::Local;
            }
            made.affinity_timeout = affinity * 100;
            let prefix = |text| crate::convert::parse_prefix(text).into_iter().collect();
            made.source_ranges = SourceRanges {
                v4: (ranges & 1 > 0).then(|| prefix("203.0.113.0/24")),
                v6: (ranges & 2 > 0).then(|| prefix("2001:db8:1::/64")),
            };
            made.on_endpoint_gone = [
                OnEndpointGone::Keep,
                OnEndpointGone::Reset,
                OnEndpointGone::Drain(7),
            ][usize::from(gone)];
            ClusterObject::Service(made)
        },
    )
}

/// Mostly none.
fn labels(number: u8) -> ProxyLabels {
    ProxyLabels {
        headless: number == 1,
        proxy_name: (number == 2).then(|| "another".into()),
    }
}

fn any_slice() -> impl Strategy<Value = ClusterObject> {
    let one = (0..6u8, 0..4u8, 0..4u8, 0..3u8, 0..3u8);
    let endpoints = prop::collection::vec(one, 0..5);
    let ports = prop::collection::vec((0..3u16, 0..2u16), 0..3);
    (0..5u8, 0..3u8, 0..12u8, any::<bool>(), ports, endpoints).prop_map(
        |(of, name, labels, is_v6, ports, endpoints)| {
            let mut made = slice(&format!("s{of}"), []);
            made.name.name = format!("x{name}");
            made.labels = self::labels(labels);
            if of == 4 {
                made.service = None;
            }
            made.ports = ports
                .into_iter()
                .map(|(name, number)| SlicePort {
                    name: format!("p{name}"),
                    protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(name)],
                    port: 8080 + number,
                })
                .collect();
            for (last, node, conditions, zone, hint) in endpoints {
                let address = if is_v6 {
                    format!("fd00:10:244::{last}").parse().unwrap()
                } else {
                    IpAddr::from([10, 244, 0, last + 1])
                };
                let mut endpoint = endpoint(address);
                endpoint.node = (node < 3).then(|| format!("node-{}", char::from(b'a' + node)));
                endpoint.ready = conditions < 2;
                endpoint.serving = conditions < 3;
                endpoint.terminating = conditions >= 2;
                if zone > 0 {
                    endpoint.zone_hints = vec![format!("zone-{zone}")];
                }
                if hint > 0 {
                    endpoint.node_hints = vec![format!("node-{}", char::from(b'`' + hint))];
                }
                made.endpoints.push(endpoint);
            }
            ClusterObject::Slice(made)
        },
    )
}

fn any_node() -> impl Strategy<Value = ClusterObject> {
    (0..3u8, 0..3u8, 0..3u8, any::<bool>()).prop_map(|(name, zone, network, leaving)| {
        let zone = (zone > 0).then(|| format!("zone-{zone}"));
        let mut made = node(
            &format!("node-{}", char::from(b'a' + name)),
            zone.as_deref(),
        );
        if network == 2 {
            made.internal_ips.clear();
        } else {
            // The networks of two nodes may be the same one.
            let last = b'a' + network;
            made.pod_cidrs
                .extend(crate::convert::parse_prefix(&format!("10.244.{last}.0/24")));
        }
        made.leaving = leaving;
        ClusterObject::Node(made)
    })
}

fn any_service_cidr() -> impl Strategy<Value = ClusterObject> {
    (0..3u8, prop::collection::vec(0..3u8, 0..3)).prop_map(|(name, networks)| {
        let network = |number| crate::convert::parse_prefix(&format!("10.{number}.0.0/16"));
        ClusterObject::ServiceCidr(ServiceCidrObject {
            name: ObjectName::new("", format!("cidr-{name}")),
            cidrs: networks.into_iter().filter_map(network).collect(),
        })
    })
}

fn any_object() -> impl Strategy<Value = ClusterObject> {
    prop_oneof![
        4 => any_service(),
        4 => any_slice(),
        2 => any_node(),
        1 => any_service_cidr(),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let kept = |kind| move |object: &ClusterObject| object.kind() == kind;
    prop_oneof![
        6 => any_object().prop_map(Step::Apply),
        3 => any_object().prop_map(|object| Step::Delete(object.kind(), object.name().clone())),
        1 => (prop::sample::select(&ObjectKind::ALL[..]), prop::collection::vec(any_object(), 0..6))
            .prop_map(move |(kind, mut objects)| {
                objects.retain(kept(kind));
                Step::Replace(kind, objects)
            }),
    ]
}

proptest! {
    #[test]
    fn changes_lead_to_the_state_that_a_fresh_start_would_find(
        steps in prop::collection::vec((any_step(), any::<bool>()), 1..40),
    ) {
        let mut index = Index::new();
        let mut desired = Desired::new(gateway());
        let mut replica: BTreeMap<ObjectId, Object> = BTreeMap::new();
        let mut cluster: BTreeMap<(ObjectKind, ObjectName), ClusterObject> = BTreeMap::new();
        let key = |object: &ClusterObject| (object.kind(), object.name().clone());
        for (step, look) in steps {
            match step {
                Step::Apply(object) => {
                    cluster.insert(key(&object), object.clone());
                    index.apply(object);
                }
                Step::Delete(kind, name) => {
                    index.delete(kind, &name);
                    cluster.remove(&(kind, name));
                }
                Step::Replace(kind, objects) => {
                    cluster.retain(|(other, _), _| *other != kind);
                    cluster.extend(objects.iter().map(|object| (key(object), object.clone())));
                    index.replace(kind, objects);
                }
            }
            if look {
                desired.refresh(&mut index);
                let changes = desired.take_changes();
                for id in changes.deletes {
                    prop_assert!(replica.remove(&id).is_some());
                }
                for object in changes.puts {
                    let before = replica.insert(object.id(), object.clone());
                    prop_assert_ne!(before, Some(object));
                }
            }
        }
        desired.refresh(&mut index);
        let changes = desired.take_changes();
        for id in changes.deletes {
            replica.remove(&id);
        }
        replica.extend(changes.puts.into_iter().map(|object| (object.id(), object)));
        let fresh = desired_state(&gateway(), cluster.values().cloned());
        let now: Vec<Object> = desired.objects().cloned().collect();
        prop_assert_eq!(&now, &fresh);
        prop_assert_eq!(replica.into_values().collect::<Vec<_>>(), fresh);
        prop_assert_eq!(now.iter().collect::<Digest>(), desired.digest());
        let mut other_index = Index::new();
        for object in cluster.into_values() {
            other_index.apply(object);
        }
        let mut other = Desired::new(gateway());
        other.refresh(&mut other_index);
        // Nobody has asked before, so what changed is all; some of it went again.
        let checks = |desired: &mut Desired| {
            let mut checks = desired.take_health_changes();
            checks.retain(|(_, check)| check.is_some());
            checks
        };
        prop_assert_eq!(checks(&mut other), checks(&mut desired));
        prop_assert_eq!(other.tally(), desired.tally());
    }
}

#[test]
fn the_own_nodes_zone_decides_as_soon_as_it_is_known() {
    let mut index = Index::new();
    index.apply(ClusterObject::Service(service("web")));
    let mut of_web = slice(
        "web",
        [IpAddr::from([10, 244, 0, 1]), IpAddr::from([10, 244, 0, 2])],
    );
    of_web.endpoints[0].zone_hints = vec!["zone-1".into()];
    of_web.endpoints[1].zone_hints = vec!["zone-2".into()];
    index.apply(ClusterObject::Slice(of_web));
    let mut desired = Desired::new(gateway());
    let sizes = |desired: &Desired| -> Vec<usize> {
        let size = |object: &Object| match object {
            Object::BackendSet(set) => Some(set.members.len()),
            _ => None,
        };
        desired.objects().filter_map(size).collect()
    };
    desired.refresh(&mut index);
    assert_eq!(sizes(&desired), [2]);
    index.apply(ClusterObject::Node(node("node-a", Some("zone-2"))));
    desired.refresh(&mut index);
    let mut found = sizes(&desired);
    found.sort_unstable();
    assert_eq!(found, [1, 2], "one chosen; both may keep their flows");
    index.apply(ClusterObject::Node(node("node-a", None)));
    desired.refresh(&mut index);
    assert_eq!(sizes(&desired), [2]);
}

#[test]
fn nodes_are_routed_to_by_their_internal_address_of_the_same_family() {
    let mut odd = node("node-d", None);
    odd.pod_cidrs
        .push(crate::convert::parse_prefix("fd00:10:244:d::/64").unwrap());
    let mut twin = node("node-e", None);
    twin.pod_cidrs = node("node-c", None).pod_cidrs;
    let mut index = Index::new();
    for node in [node("node-a", None), node("node-c", None), odd, twin] {
        index.apply(ClusterObject::Node(node));
    }
    let mut desired = Desired::new(gateway());
    let warnings = desired.refresh(&mut index);
    let routes = |desired: &Desired| -> Vec<String> {
        let mut shown: Vec<String> = desired
            .objects()
            .filter_map(|object| match object {
                Object::Route(Route { to, via }) => {
                    Some(format!("{}/{} {via}", to.address, to.length))
                }
                _ => None,
            })
            .collect();
        shown.sort();
        shown
    };
    assert_eq!(
        routes(&desired),
        ["10.244.100.0/24 192.0.2.100", "10.244.99.0/24 192.0.2.99"]
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    index.delete(ObjectKind::Node, &ObjectName::new("", "node-c"));
    desired.refresh(&mut index);
    assert_eq!(
        routes(&desired),
        ["10.244.100.0/24 192.0.2.100", "10.244.99.0/24 192.0.2.101"]
    );
}

#[test]
fn health_checks_count_distinct_ready_local_addresses() {
    let mut web = service("web");
    web.service_type = ServiceType::LoadBalancer;
    web.external_policy = TrafficPolicy::Local;
    web.health_check_node_port = Some(31_000);
    let mut of_web = slice("web", (1..=4).map(|last| IpAddr::from([10, 244, 0, last])));
    for endpoint in &mut of_web.endpoints[..3] {
        endpoint.node = Some("node-a".into());
    }
    (of_web.endpoints[2].ready, of_web.endpoints[2].terminating) = (false, true);
    let mut again = of_web.clone();
    again.name.name = "web-again".into();
    let mut index = Index::new();
    index.apply(ClusterObject::Service(web.clone()));
    index.apply(ClusterObject::Slice(of_web));
    index.apply(ClusterObject::Slice(again));
    let mut desired = Desired::new(gateway());
    desired.refresh(&mut index);
    let name = web.name.clone();
    let check = HealthCheck {
        port: 31_000,
        local_endpoints: 2,
        uid: web.uid.clone(),
    };
    assert_eq!(
        desired.take_health_changes(),
        [(name.clone(), Some(check.clone()))]
    );
    // Something that the check does not depend on, then something that it does.
    web.affinity_timeout = 10;
    index.apply(ClusterObject::Service(web.clone()));
    desired.refresh(&mut index);
    assert_eq!(desired.take_health_changes(), []);
    web.external_policy = TrafficPolicy::Cluster;
    index.apply(ClusterObject::Service(web));
    desired.refresh(&mut index);
    assert_eq!(desired.take_health_changes(), [(name, None)]);
}

#[test]
fn ports_with_endpoints_elsewhere_only_are_counted() {
    let mut web = service("web");
    web.internal_policy = TrafficPolicy::Local;
    web.external_policy = TrafficPolicy::Local;
    web.ports[0].node_port = Some(30_080);
    let mut index = Index::new();
    index.apply(ClusterObject::Service(web));
    let mut desired = Desired::new(gateway());
    desired.refresh(&mut index);
    let counted = |desired: &Desired| {
        let tally = desired.tally();
        (tally.no_local_internal, tally.no_local_external)
    };
    assert_eq!(counted(&desired), (0, 0), "nothing to be local");
    index.apply(ClusterObject::Slice(slice(
        "web",
        [IpAddr::from([10, 244, 0, 1])],
    )));
    desired.refresh(&mut index);
    assert_eq!(counted(&desired), (1, 1));
}

#[test]
fn entries_are_counted_by_service_port() {
    let mut index = Index::new();
    let mut many = service("many");
    let port = many.ports[0].clone();
    many.ports = (0..3u16)
        .map(|number| {
            let mut port = port.clone();
            (port.name, port.port) = (format!("p{number}"), 80 + number);
            port
        })
        .collect();
    index.apply(ClusterObject::Service(many.clone()));
    let mut headless = service("headless");
    headless.cluster_ips.clear();
    index.apply(ClusterObject::Service(headless));
    let mut alias = service("alias");
    alias.service_type = ServiceType::ExternalName("www.example.org".into());
    index.apply(ClusterObject::Service(alias));
    let mut desired = Desired::new(gateway());
    desired.refresh(&mut index);
    assert_eq!(desired.tally().service_ports, 3);
    many.ports.truncate(1);
    index.apply(ClusterObject::Service(many));
    desired.refresh(&mut index);
    assert_eq!(desired.tally().service_ports, 1);
}

#[test]
fn node_ports_are_never_served_on_loopback_addresses() {
    let mut gateway = gateway();
    gateway.addresses.insert(0, "127.0.0.1".parse().unwrap());
    gateway.addresses.push("::1".parse().unwrap());
    let mut web = service("web");
    web.ports[0].node_port = Some(30_080);
    let node_ports = |gateway: &settings::Gateway| -> Vec<String> {
        desired_state(gateway, [ClusterObject::Service(web.clone())])
            .iter()
            .filter_map(|object| match object {
                Object::Frontend(frontend) if frontend.port == 30_080 => {
                    Some(frontend.address.to_string())
                }
                _ => None,
            })
            .collect()
    };
    assert_eq!(
        node_ports(&gateway),
        ["203.0.113.10"],
        "the primary address is another"
    );
    let everywhere = ["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap());
    gateway.nodeport_addresses = Some(everywhere.to_vec());
    let mut found = node_ports(&gateway);
    found.sort();
    assert_eq!(found, ["203.0.113.10", "203.0.113.11"]);
}
