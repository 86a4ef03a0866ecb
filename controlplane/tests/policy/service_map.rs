//! The service map and what EndpointSlices make of it: the cases K01–K12, L01–L17, P01 and P02 of the
//! Service semantics, by what changes of the cluster lead to. Every test is named after its cases;
//! `docs/semantics.md` says where the others are.

use std::collections::BTreeMap;
use std::time::Instant;

use hugepages::object::{Key, NetworkRole, Object, Protocol};
use portgate_controlplane::convert;
use portgate_controlplane::index::Index;
use portgate_controlplane::metrics::Metrics;
use portgate_controlplane::model::{ObjectKind, ObjectName};
use portgate_controlplane::policy::{Desired, HealthCheck, Unproxied};
use serde_json::{Value, json};

use crate::world::{NODE, OUTSIDE, POD, World, here_and_there, ready, show};

/// A cluster that changes, and what a gateway at it is to have.
struct Cluster {
    index: Index,
    desired: Desired,
    checks: BTreeMap<ObjectName, HealthCheck>,
}

impl Cluster {
    fn new() -> Self {
        Self::at(NODE)
    }

    /// Of a gateway with this section `[gateway]`, which has been told of its own networks.
    fn at(section: &str) -> Self {
        let settings = settings::load_str(&format!("[gateway]\n{section}")).unwrap();
        let mut desired = Desired::new(settings.gateway);
        desired.take_changes();
        Self {
            index: Index::new(),
            desired,
            checks: BTreeMap::new(),
        }
    }

    /// Applies objects; returns whether that changes anything for the data plane.
    fn apply(&mut self, documents: &[Value]) -> bool {
        let (mut objects, mut warnings) = (Vec::new(), Vec::new());
        for document in documents {
            convert::document(document, &mut objects, &mut warnings);
        }
        assert_eq!(warnings, []);
        for object in objects {
            self.index.apply(object);
        }
        self.follow()
    }

    fn delete(&mut self, kind: ObjectKind, names: &[&str]) -> bool {
        for name in names {
            let namespace = if kind.is_cluster_wide() { "" } else { "test" };
            self.index.delete(kind, &ObjectName::new(namespace, *name));
        }
        self.follow()
    }

    /// Takes in what has changed.
    fn follow(&mut self) -> bool {
        let warnings = self.desired.refresh(&mut self.index);
        assert_eq!(warnings, []);
        for (name, check) in self.desired.take_health_changes() {
            match check {
                Some(check) => self.checks.insert(name, check),
                None => self.checks.remove(&name),
            };
        }
        !self.desired.take_changes().is_empty()
    }

    /// Entries of the service map, and health-check ports.
    fn size(&self) -> (usize, usize) {
        let entries = self.desired.tally().service_ports;
        (entries, self.checks.len())
    }

    /// Distinct ready local addresses of each service, where there are any.
    fn local(&self) -> BTreeMap<String, usize> {
        self.checks
            .iter()
            .filter(|(_, check)| check.local_endpoints > 0)
            .map(|(name, check)| (name.name.clone(), check.local_endpoints))
            .collect()
    }

    /// The serving endpoints of each service port that has some: `ep1:p11 -> 10.244.1.1:11`.
    fn map(&self) -> Vec<String> {
        let objects = || self.desired.objects();
        let sets: BTreeMap<Key, String> = objects()
            .filter_map(|object| match object {
                Object::BackendSet(set) => {
                    let members: Vec<String> = set.members.iter().map(show).collect();
                    Some((set.key, members.join(" ")))
                }
                _ => None,
            })
            .collect();
        let mut map: Vec<String> = objects()
            .filter_map(|object| match object {
                Object::Service(service) => {
                    let members = sets.get(&service.serving)?;
                    let name = service.name.trim_start_matches("test/");
                    Some(format!("{name}:{} -> {members}", service.port_name))
                }
                _ => None,
            })
            .collect();
        map.sort();
        map
    }

    /// Networks of Services that the gateway knows.
    fn service_networks(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.desired
                .objects()
                .filter_map(|object| match object {
                    Object::Network(network) if network.role == NetworkRole::Services => Some(
                        format!("{}/{}", network.prefix.address, network.prefix.length),
                    ),
                    _ => None,
                })
                .collect();
        found.sort();
        found
    }

    fn metrics(&self) -> String {
        let metrics = Metrics::new();
        metrics.count_objects(&self.index, self.desired.tally());
        metrics.render(Instant::now()).unwrap()
    }
}

fn service(name: &str, address: &str, spec: Value) -> Value {
    let mut document = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "test"},
        "spec": {"clusterIP": address},
    });
    for (key, value) in spec.as_object().unwrap() {
        document["spec"][key] = value.clone();
    }
    document
}

fn port(name: &str, protocol: &str, number: u16) -> Value {
    json!({"name": name, "protocol": protocol, "port": number})
}

/// The four services of K01.
fn four_services() -> [Value; 4] {
    let balancer = |address, extra: Value| {
        let mut spec = json!({
            "type": "LoadBalancer",
            "ports": [port("a", "UDP", 8675), port("b", "UDP", 8676)],
        });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let name = if extra == json!({}) { "lb" } else { "lb-local" };
        let mut document = service(name, address, spec);
        document["status"] = json!({"loadBalancer": {"ingress": [{"ip": format!("198.51.100.{}", &address[address.len() - 1..])}]}});
        document
    };
    [
        service(
            "cluster",
            "10.96.4.1",
            json!({"ports": [port("u", "UDP", 1234), port("v", "UDP", 1235), port("s", "SCTP", 1236)]}),
        ),
        service(
            "node",
            "10.96.4.2",
            json!({"type": "NodePort", "ports": [
                port("u", "UDP", 345), port("t", "TCP", 345), port("s", "SCTP", 345)]}),
        ),
        balancer("10.96.4.3", json!({})),
        balancer(
            "10.96.4.4",
            json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31_345}),
        ),
    ]
}

#[test]
fn k01_every_service_port_is_an_entry_and_local_balancers_have_a_health_check() {
    let mut cluster = Cluster::new();
    cluster.apply(&four_services());
    assert_eq!(cluster.size(), (10, 1));
}

#[test]
fn k02_ports_and_services_that_go_take_their_entries_along() {
    let mut cluster = Cluster::new();
    cluster.apply(&four_services());
    let [mut first, ..] = four_services();
    first["spec"]["ports"] = json!([port("u", "UDP", 1234)]);
    cluster.apply(&[first]);
    cluster.delete(ObjectKind::Service, &["node", "lb", "lb-local"]);
    assert_eq!(cluster.size(), (1, 0));
}

#[test]
fn k03_headless_services_have_no_entry_with_or_without_a_port() {
    let mut cluster = Cluster::new();
    let changed = cluster.apply(&[
        service("with", "None", json!({"ports": [port("a", "TCP", 80)]})),
        service("without", "None", json!({})),
    ]);
    assert!(!changed);
    assert_eq!(cluster.size(), (0, 0));
    let listed = cluster.desired.unproxied();
    assert_eq!(listed.len(), 2);
    assert!(listed.values().all(|why| *why == Unproxied::Headless));
}

#[test]
fn k04_external_names_have_no_entry_whatever_address_and_ports_they_carry() {
    let mut cluster = Cluster::new();
    let changed = cluster.apply(&[service(
        "alias",
        "10.96.4.9",
        json!({"type": "ExternalName", "externalName": "www.example.org",
               "ports": [port("a", "TCP", 80)]}),
    )]);
    assert!(!changed);
    assert_eq!(cluster.size(), (0, 0));
    let alias = Unproxied::ExternalName("www.example.org".into());
    let name = ObjectName::new("test", "alias");
    assert_eq!(
        *cluster.desired.unproxied(),
        BTreeMap::from([(name, alias)])
    );
    cluster.apply(&[service(
        "alias",
        "10.96.4.9",
        json!({"ports": [port("a", "TCP", 80)]}),
    )]);
    assert!(cluster.desired.unproxied().is_empty());
    assert_eq!(cluster.size(), (1, 0));
}

#[test]
fn k05_k06_k07_a_service_becomes_a_local_balancer_stays_and_goes_back() {
    let ports = json!([port("a", "TCP", 80), port("b", "UDP", 81)]);
    let plain = service("web", "10.96.4.1", json!({"ports": ports}));
    let mut balancer = service(
        "web",
        "10.96.4.1",
        json!({"type": "LoadBalancer", "ports": ports, "externalTrafficPolicy": "Local",
               "healthCheckNodePort": 31_345}),
    );
    balancer["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}});
    let mut cluster = Cluster::new();
    cluster.apply(std::slice::from_ref(&plain));
    assert_eq!(cluster.size(), (2, 0));
    assert!(cluster.apply(&[balancer.clone()]));
    assert_eq!(cluster.size(), (2, 1));
    assert!(!cluster.apply(&[balancer]), "the same again");
    assert_eq!(cluster.size(), (2, 1));
    assert!(cluster.apply(&[plain]));
    assert_eq!(cluster.size(), (2, 0));
}

#[test]
fn k08_k09_leading_zeros_are_decimal_and_blanks_do_not_count() {
    let mut document = service(
        "web",
        "010.096.000.041",
        json!({"type": "LoadBalancer", "ports": [port("", "TCP", 80)],
               "externalIPs": ["192.000.002.009"],
               "loadBalancerSourceRanges": [" 203.0.113.000/025"]}),
    );
    document["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.051.100.007"}]}});
    let endpoints = [ready("010.244.001.009", "node-a")];
    let world = World::of(&[document, crate::world::slice("web", &endpoints)]);
    assert_eq!(world.warned(), [""; 0]);
    let outcome = world.at(NODE);
    let served = "-> 10.244.1.9:8080 masqueraded";
    assert_eq!(outcome.tcp(POD, "10.96.0.41:80"), "-> 10.244.1.9:8080");
    assert_eq!(outcome.tcp(OUTSIDE, "192.0.2.9:80"), served);
    assert_eq!(outcome.tcp("203.0.113.9:1", "198.51.100.7:80"), served);
    assert_eq!(outcome.tcp("203.0.113.200:1", "198.51.100.7:80"), "drop");
}

#[test]
fn k10_addresses_and_ranges_of_the_other_family_are_left_out_in_silence() {
    let mut document = service(
        "web",
        "10.96.0.1",
        json!({"type": "LoadBalancer", "ports": [port("", "TCP", 80)],
               "clusterIPs": ["10.96.0.1"],
               "externalIPs": ["198.51.100.9", "2001:db8:e::9"],
               "loadBalancerSourceRanges": ["203.0.113.0/25", "2001:db8:ffff::/48"]}),
    );
    document["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "198.51.100.8"}, {"ip": "2001:db8:e::8"}]}});
    let world = World::of(&[document, crate::world::slice("web", &here_and_there())]);
    assert_eq!(world.warned(), [""; 0]);
    let outcome = world.at(NODE);
    assert_eq!(outcome.warnings, [""; 0]);
    let both = "-> 10.244.1.1:8080 10.244.2.1:8080 masqueraded";
    assert_eq!(outcome.tcp(OUTSIDE, "198.51.100.9:80"), both);
    assert_eq!(outcome.tcp("203.0.113.9:1", "198.51.100.8:80"), both);
    for address in ["[2001:db8:e::9]:80", "[2001:db8:e::8]:80"] {
        assert_eq!(outcome.tcp("[2001:db8:ffff::7]:1", address), "pass");
    }
}

fn service_cidr(name: &str, cidrs: &[&str]) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
           "metadata": {"name": name}, "spec": {"cidrs": cidrs}})
}

#[test]
fn k11_networks_of_services_follow_the_service_cidrs_in_each_family() {
    let mut cluster = Cluster::at("addresses = [\"192.0.2.1\"]");
    assert_eq!(cluster.service_networks(), [""; 0]);
    assert!(cluster.apply(&[service_cidr("kubernetes", &["172.30.0.0/16"])]));
    assert_eq!(cluster.service_networks(), ["172.30.0.0/16"]);
    assert!(cluster.apply(&[
        service_cidr("kubernetes", &["172.30.0.0/16", "fd00:3030::/112"]),
        service_cidr("more", &["172.50.0.0/16", "fd00:5050::/112"]),
        service_cidr("twice", &["172.50.0.0/16"]),
    ]));
    let all = [
        "172.30.0.0/16",
        "172.50.0.0/16",
        "fd00:3030::/112",
        "fd00:5050::/112",
    ];
    assert_eq!(cluster.service_networks(), all);
    // Each family meets its own alone, by what its addresses are.
    let objects: Vec<Value> = vec![
        service_cidr("a", &["172.30.0.0/16"]),
        service_cidr("b", &["fd00:5050::/112"]),
    ];
    let outcome = World::of(&objects).at("addresses = [\"192.0.2.1\"]");
    assert_eq!(outcome.tcp(OUTSIDE, "172.30.9.9:80"), "drop");
    assert_eq!(outcome.tcp(OUTSIDE, "172.50.9.9:80"), "pass");
    assert_eq!(outcome.tcp("[2001:db8::7]:1", "[fd00:5050::9]:80"), "drop");
    assert_eq!(outcome.tcp("[2001:db8::7]:1", "[fd00:3030::9]:80"), "pass");
    // One of two that name a network is enough; the settings' networks stay in any case.
    assert!(!cluster.delete(ObjectKind::ServiceCidr, &["twice"]));
    assert!(cluster.delete(ObjectKind::ServiceCidr, &["more", "kubernetes"]));
    assert_eq!(cluster.service_networks(), [""; 0]);
    let mut named = Cluster::new();
    let own = ["10.96.0.0/12", "fd00:10:96::/112"];
    assert!(!named.apply(&[service_cidr("kubernetes", &["10.96.0.0/12"])]));
    assert!(!named.delete(ObjectKind::ServiceCidr, &["kubernetes"]));
    assert_eq!(named.service_networks(), own);
}

#[test]
fn k12_labels_hand_a_service_to_somebody_else_and_back() {
    let plain = service("web", "10.96.0.1", json!({"ports": [port("", "TCP", 80)]}));
    let labelled = |label: &str, value: &str| {
        let mut document = plain.clone();
        document["metadata"]["labels"] = json!({label: value});
        document
    };
    let mut cluster = Cluster::new();
    cluster.apply(std::slice::from_ref(&plain));
    for (label, value) in [
        ("service.kubernetes.io/headless", ""),
        ("service.kubernetes.io/headless", "false"),
        ("service.kubernetes.io/service-proxy-name", "another"),
        ("service.kubernetes.io/service-proxy-name", ""),
    ] {
        assert!(cluster.apply(&[labelled(label, value)]));
        assert_eq!(cluster.size(), (0, 0), "{label}={value}");
        assert!(cluster.apply(std::slice::from_ref(&plain)));
        assert_eq!(cluster.size(), (1, 0));
    }
    let mut slice = crate::world::slice("web", &here_and_there());
    slice["metadata"]["labels"]["service.kubernetes.io/headless"] = "".into();
    assert!(!cluster.apply(&[slice]), "nor are slices with the label");
}

/// Service `epN` with UDP ports, whose local endpoints are counted.
fn udp_service(number: u8) -> Value {
    let names = [
        "p11", "p11-2", "p12", "p122", "p13", "p22", "p23", "p33", "p44", "p45",
    ];
    let ports: Vec<Value> = (0u16..)
        .zip(names)
        .map(|(index, name)| port(name, "UDP", 1000 + index))
        .collect();
    let name = format!("ep{number}");
    let address = format!("10.96.7.{number}");
    service(
        &name,
        &address,
        json!({"type": "LoadBalancer", "ports": ports, "externalTrafficPolicy": "Local",
               "healthCheckNodePort": 31_000 + u16::from(number)}),
    )
}

/// Slice `part` of a service: `1.1@` is the local endpoint 10.244.1.1, `1.1` one elsewhere; `p11` is
/// port 11 of that name, `p11=22` port 22.
fn slice(of: &str, part: u8, endpoints: &[&str], ports: &[&str]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|short| {
            let node = if short.ends_with('@') {
                "node-a"
            } else {
                "node-b"
            };
            ready(&format!("10.244.{}", short.trim_end_matches('@')), node)
        })
        .collect();
    let ports: Vec<Value> = ports
        .iter()
        .map(|short| {
            let (name, number) = short.split_once('=').unwrap_or((short, &short[1..3]));
            port(name, "UDP", number.parse().unwrap())
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{of}-{part}"), "namespace": "test",
                     "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

/// Replaces `before` by `after` and checks the map, the local endpoints, and whether the data plane
/// hears of it: that, and nothing else, makes it look at UDP flows.
fn changed(
    before: &[Value],
    after: &[Value],
    map: &[&str],
    local: &[(&str, usize)],
    clean_up: bool,
) {
    let mut cluster = Cluster::new();
    cluster.apply(&(1..=5).map(udp_service).collect::<Vec<_>>());
    cluster.apply(before);
    let named = |slice: &Value| slice["metadata"]["name"].as_str().unwrap().to_owned();
    let kept: Vec<String> = after.iter().map(named).collect();
    let gone: Vec<String> = before
        .iter()
        .map(named)
        .filter(|n| !kept.contains(n))
        .collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    let looked = cluster.delete(ObjectKind::Slice, &gone) | cluster.apply(after);
    assert_eq!(cluster.map(), map);
    let local: BTreeMap<String, usize> = local.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect();
    assert_eq!(cluster.local(), local);
    assert_eq!(looked, clean_up);

    // However it came to be so, a fresh start finds the same.
    let mut fresh = Cluster::new();
    fresh.apply(&(1..=5).map(udp_service).collect::<Vec<_>>());
    fresh.apply(after);
    assert_eq!(fresh.desired.digest(), cluster.desired.digest());
}

/// Nothing changes between the two.
fn unchanged(slices: &[Value], map: &[&str], local: &[(&str, usize)]) {
    changed(slices, slices, map, local, false);
}

#[test]
fn l01_nothing_stays_nothing() {
    unchanged(&[], &[], &[]);
}

#[test]
fn l02_a_slice_that_stays_needs_no_clean_up() {
    let slices = [slice("ep1", 1, &["1.1@"], &["p11"])];
    unchanged(&slices, &["ep1:p11 -> 10.244.1.1:11"], &[("ep1", 1)]);
}

#[test]
fn l03_slices_with_different_ports_are_merged() {
    let slices = [
        slice("ep1", 1, &["1.1"], &["p11"]),
        slice("ep1", 2, &["1.2"], &["p12"]),
    ];
    let map = ["ep1:p11 -> 10.244.1.1:11", "ep1:p12 -> 10.244.1.2:12"];
    unchanged(&slices, &map, &[]);
}

#[test]
fn l04_an_address_with_two_ports_counts_once_as_local() {
    let slices = [
        slice("ep1", 1, &["1.1@"], &["p11", "p12"]),
        slice("ep1", 2, &["1.3"], &["p13"]),
    ];
    let map = [
        "ep1:p11 -> 10.244.1.1:11",
        "ep1:p12 -> 10.244.1.1:12",
        "ep1:p13 -> 10.244.1.3:13",
    ];
    unchanged(&slices, &map, &[("ep1", 1)]);
}

#[test]
fn l05_every_port_of_a_slice_has_every_address_of_it() {
    let slices = [
        slice("ep1", 1, &["1.1", "1.2@"], &["p11", "p12"]),
        slice("ep1", 2, &["1.3", "1.4@"], &["p13", "p122=14"]),
        slice("ep2", 1, &["2.1", "2.2@"], &["p22", "p23"]),
    ];
    let map = [
        "ep1:p11 -> 10.244.1.1:11 10.244.1.2:11",
        "ep1:p12 -> 10.244.1.1:12 10.244.1.2:12",
        "ep1:p122 -> 10.244.1.3:14 10.244.1.4:14",
        "ep1:p13 -> 10.244.1.3:13 10.244.1.4:13",
        "ep2:p22 -> 10.244.2.1:22 10.244.2.2:22",
        "ep2:p23 -> 10.244.2.1:23 10.244.2.2:23",
    ];
    unchanged(&slices, &map, &[("ep1", 2), ("ep2", 1)]);
}

#[test]
fn l06_a_first_slice_gives_the_service_its_endpoints() {
    let after = [slice("ep1", 1, &["1.1@"], &["p11"])];
    changed(
        &[],
        &after,
        &["ep1:p11 -> 10.244.1.1:11"],
        &[("ep1", 1)],
        true,
    );
}

#[test]
fn l07_a_deleted_slice_takes_its_endpoints_along() {
    let before = [slice("ep1", 1, &["1.1@"], &["p11"])];
    changed(&before, &[], &[], &[], true);
}

#[test]
fn l08_a_slice_may_get_endpoints_and_ports() {
    let before = [slice("ep1", 1, &["1.1"], &["p11"])];
    let after = [slice("ep1", 1, &["1.1", "1.2@"], &["p11", "p12"])];
    let map = [
        "ep1:p11 -> 10.244.1.1:11 10.244.1.2:11",
        "ep1:p12 -> 10.244.1.1:12 10.244.1.2:12",
    ];
    changed(&before, &after, &map, &[("ep1", 1)], true);
}

#[test]
fn l09_a_slice_may_lose_endpoints_and_ports() {
    let before = [slice("ep1", 1, &["1.1", "1.2@"], &["p11", "p12"])];
    let after = [slice("ep1", 1, &["1.1"], &["p11"])];
    changed(&before, &after, &["ep1:p11 -> 10.244.1.1:11"], &[], true);
}

#[test]
fn l10_l11_a_second_slice_comes_and_goes() {
    let one = slice("ep1", 1, &["1.1"], &["p11"]);
    let two = slice("ep1", 2, &["1.2@"], &["p12"]);
    let both = [one.clone(), two];
    let map = ["ep1:p11 -> 10.244.1.1:11", "ep1:p12 -> 10.244.1.2:12"];
    changed(std::slice::from_ref(&one), &both, &map, &[("ep1", 1)], true);
    changed(&both, &[one], &["ep1:p11 -> 10.244.1.1:11"], &[], true);
}

#[test]
fn l12_a_renamed_port_belongs_to_the_service_port_of_its_new_name() {
    let before = [slice("ep1", 1, &["1.1"], &["p11"])];
    let after = [slice("ep1", 1, &["1.1"], &["p11-2=11"])];
    changed(&before, &after, &["ep1:p11-2 -> 10.244.1.1:11"], &[], true);
}

#[test]
fn l13_a_port_may_change_its_number() {
    let before = [slice("ep1", 1, &["1.1"], &["p11"])];
    let after = [slice("ep1", 1, &["1.1"], &["p11=22"])];
    changed(&before, &after, &["ep1:p11 -> 10.244.1.1:22"], &[], true);
}

#[test]
fn l14_whatever_comes_and_goes_the_map_is_the_union_of_the_slices_present() {
    let before = [
        slice("ep1", 1, &["1.1"], &["p11"]),
        slice("ep2", 1, &["2.2@", "2.22@"], &["p22"]),
        slice("ep2", 2, &["2.3@"], &["p23"]),
        slice("ep4", 1, &["4.4@"], &["p44"]),
        slice("ep4", 2, &["4.5@"], &["p45"]),
    ];
    let after = [
        slice("ep1", 1, &["1.1", "1.11"], &["p11"]),
        slice("ep1", 2, &["1.2"], &["p12", "p122=22"]),
        slice("ep3", 1, &["3.3"], &["p33"]),
        slice("ep4", 1, &["4.4@"], &["p44"]),
    ];
    let map = [
        "ep1:p11 -> 10.244.1.1:11 10.244.1.11:11",
        "ep1:p12 -> 10.244.1.2:12",
        "ep1:p122 -> 10.244.1.2:22",
        "ep3:p33 -> 10.244.3.3:33",
        "ep4:p44 -> 10.244.4.4:44",
    ];
    changed(&before, &after, &map, &[("ep4", 1)], true);
}

#[test]
fn l15_an_empty_slice_may_get_an_endpoint() {
    let before = [slice("ep1", 1, &[], &[])];
    let after = [slice("ep1", 1, &["1.1"], &["p11"])];
    changed(&before, &after, &["ep1:p11 -> 10.244.1.1:11"], &[], true);
}

/// What remains of a local service whose endpoints are in these conditions: ready, serving, terminating.
fn local_of(conditions: &[[bool; 3]]) -> BTreeMap<String, usize> {
    let mut of_ep1 = slice("ep1", 1, &["1.1@", "1.2@", "1.3@", "1.4@"], &["p11"]);
    for (index, [ready, serving, terminating]) in conditions.iter().enumerate() {
        of_ep1["endpoints"][index]["conditions"] =
            json!({"ready": ready, "serving": serving, "terminating": terminating});
    }
    let mut cluster = Cluster::new();
    cluster.apply(&[udp_service(1), of_ep1]);
    cluster.local()
}

#[test]
fn l16_a_service_with_ready_local_endpoints_is_listed() {
    let ready = [true, true, false];
    let local = local_of(&[ready, ready, ready, [false, false, false]]);
    assert_eq!(local, BTreeMap::from([("ep1".to_owned(), 3)]));
}

#[test]
fn l17_a_service_whose_local_endpoints_all_terminate_is_not_listed() {
    let local = local_of(&[
        [false, true, false],
        [false, true, true],
        [false, true, true],
        [false, false, true],
    ]);
    assert_eq!(local, BTreeMap::new());
}

/// Both policies are Local; the endpoints are these.
fn local_policies(endpoints: &[Value]) -> String {
    let mut cluster = Cluster::new();
    let mut document = service(
        "web",
        "10.96.0.1",
        json!({"type": "LoadBalancer", "internalTrafficPolicy": "Local",
               "externalTrafficPolicy": "Local", "healthCheckNodePort": 31_000,
               "ports": [{"port": 80, "nodePort": 30_080}]}),
    );
    document["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}});
    cluster.apply(&[document, crate::world::slice("web", endpoints)]);
    cluster.metrics()
}

fn no_local(metrics: &str, internal: usize, external: usize) {
    for (policy, number) in [("internal", internal), ("external", external)] {
        let line = format!(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{{traffic_policy=\"{policy}\"}} {number}\n"
        );
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[test]
fn p01_ports_of_policy_local_with_endpoints_elsewhere_only_are_counted() {
    no_local(&local_policies(&[ready("10.244.2.1", "node-b")]), 1, 1);
    no_local(&local_policies(&here_and_there()), 0, 0);
}

#[test]
fn p02_ports_without_any_endpoint_are_not_counted() {
    no_local(&local_policies(&[]), 0, 0);
}

#[test]
fn protocols_are_told_apart_by_what_k01_counts() {
    let mut documents = four_services().to_vec();
    documents.push(crate::world::slice("node", &here_and_there()));
    documents[4]["ports"] = json!([port("t", "TCP", 9376)]);
    let outcome = World::of(&documents).at(NODE);
    assert!(
        outcome
            .ask(Protocol::Tcp, POD, "10.96.4.2:345")
            .starts_with("->")
    );
    for protocol in [Protocol::Udp, Protocol::Sctp] {
        assert_eq!(outcome.ask(protocol, POD, "10.96.4.2:345"), "reject");
    }
}
