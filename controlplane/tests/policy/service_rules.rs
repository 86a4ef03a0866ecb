//! Rules of the service map and of packets that the conformance vectors leave out.

use crate::world::{
    NODE, OURSELVES, OUTSIDE, Outcome, POD, World, ending, here_and_there, ready, service, show,
    slice,
};
use hugepages::object::{Backend, NO_KEY, Object, OnEndpointGone, Protocol, Service};
use serde_json::{Value, json};

fn services(outcome: &Outcome) -> Vec<&Service> {
    outcome
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Service(service) => Some(service),
            _ => None,
        })
        .collect()
}

fn serving(outcome: &Outcome, service: &Service) -> Vec<String> {
    let members = |object: &Object| match object {
        Object::BackendSet(set) if set.key == service.serving => Some(set.members.clone()),
        _ => None,
    };
    let found: Vec<Backend> = outcome.objects.iter().find_map(members).unwrap_or_default();
    found.iter().map(show).collect()
}

#[test]
fn pods_are_told_from_others_family_by_family() {
    let six = json!({
        "clusterIPs": ["10.96.0.1", "fd00:10:96::1"],
    });
    let mut slice_v6 = slice("web", &[ready("fd00:10:244:2::1", "node-b")]);
    slice_v6["addressType"] = "IPv6".into();
    slice_v6["metadata"]["name"] = "web-x6".into();
    let world = World::of(&[
        service("web", six),
        slice("web", &here_and_there()),
        slice_v6,
    ]);
    let only_v4 = NODE.replace(", \"fd00:10:244::/56\"", "");
    let outcome = world.at(&only_v4);
    let plain = "-> [fd00:10:244:2::1]:8080";
    assert_eq!(outcome.tcp("[2001:db8::7]:1", "[fd00:10:96::1]:80"), plain);
    assert!(
        outcome
            .tcp(OUTSIDE, "10.96.0.1:80")
            .ends_with("masqueraded")
    );
}

#[test]
fn external_ips_can_be_switched_off() {
    let world = World::of(&[
        service("web", json!({"externalIPs": ["198.51.100.9"]})),
        slice("web", &here_and_there()),
    ]);
    assert!(
        world
            .at(NODE)
            .tcp(OUTSIDE, "198.51.100.9:80")
            .starts_with("->")
    );
    let off = world.at(&format!("{NODE}\nexternal_ips = false"));
    assert_eq!(off.tcp(OUTSIDE, "198.51.100.9:80"), "pass");
    assert!(off.tcp(OUTSIDE, "203.0.113.10:30080").starts_with("->"));
}

#[test]
fn node_ports_are_served_on_own_addresses_inside_the_given_networks_alone() {
    let world = World::of(&[service("web", json!({})), slice("web", &here_and_there())]);
    let all = "-> 10.244.1.1:8080 10.244.2.1:8080 masqueraded";
    let second = world.at(&format!(
        "{NODE}\nnodeport_addresses = [\"203.0.113.11/32\"]"
    ));
    assert_eq!(second.tcp(OUTSIDE, "203.0.113.11:30080"), all);
    assert_eq!(second.tcp(OUTSIDE, "203.0.113.10:30080"), "pass");
    let nowhere = world.at(&format!("{NODE}\nnodeport_addresses = [\"192.0.2.0/24\"]"));
    assert_eq!(nowhere.tcp(OUTSIDE, "203.0.113.10:30080"), "pass");
    let empty = world.at(&format!("{NODE}\nnodeport_addresses = []"));
    assert_eq!(
        empty.tcp(OUTSIDE, "203.0.113.10:30080"),
        all,
        "none given: the primary address"
    );
}

#[test]
fn a_service_for_another_proxy_is_served_by_that_proxy_alone() {
    let mut theirs = service("web", json!({}));
    theirs["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "edge"});
    let mut slice = slice("web", &here_and_there());
    slice["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"] = "edge".into();
    let world = World::of(&[theirs, slice]);
    assert_eq!(
        world.at(NODE).tcp(POD, "10.96.0.1:80"),
        "drop",
        "an unallocated address"
    );
    let edge = world.at(&format!("{NODE}\nservice_proxy_name = \"edge\""));
    assert!(edge.tcp(POD, "10.96.0.1:80").starts_with("->"));
    let other = world.at(&format!("{NODE}\nservice_proxy_name = \"other\""));
    assert_eq!(other.tcp(POD, "10.96.0.1:80"), "drop");
}

#[test]
fn an_address_and_port_belong_to_the_cluster_ip_owner_and_else_to_the_first_by_name() {
    let owner = service(
        "owner",
        json!({"type": "ClusterIP", "ports": [{"port": 80}]}),
    );
    let thief = service(
        "a-thief",
        json!({"clusterIP": "10.96.0.2", "ports": [{"port": 80}], "externalIPs": ["10.96.0.1"]}),
    );
    let rival = |name: &str, ip: &str| {
        service(
            name,
            json!({"clusterIP": ip, "ports": [{"port": 443}], "externalIPs": ["198.51.100.9"]}),
        )
    };
    let documents = [
        thief,
        owner,
        rival("second", "10.96.0.4"),
        rival("first", "10.96.0.3"),
        slice("owner", &[ready("10.244.1.1", "node-a")]),
        slice("a-thief", &[ready("10.244.6.6", "node-a")]),
        slice("first", &[ready("10.244.1.3", "node-a")]),
    ];
    let outcome = World::of(&documents).at(NODE);
    assert_eq!(outcome.tcp(POD, "10.96.0.1:80"), "-> 10.244.1.1:8080");
    assert!(
        outcome
            .tcp(OUTSIDE, "198.51.100.9:443")
            .starts_with("-> 10.244.1.3:8080")
    );
    assert_eq!(outcome.warnings.len(), 2, "{:?}", outcome.warnings);
    assert!(outcome.warnings.iter().any(|warning| {
        warning.starts_with(
            "Service test/a-thief: 10.96.0.1 tcp port 80 belongs to Service test/owner",
        )
    }));
}

#[test]
fn an_external_ip_that_is_also_a_load_balancer_address_keeps_the_source_ranges() {
    let mut both = service(
        "web",
        json!({
            "type": "LoadBalancer",
            "externalIPs": ["192.0.2.9"],
            "loadBalancerSourceRanges": ["198.51.100.0/24"],
        }),
    );
    both["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
    let outcome = World::of(&[both, slice("web", &here_and_there())]).at(NODE);
    assert!(outcome.tcp(OUTSIDE, "192.0.2.9:80").starts_with("->"));
    assert_eq!(outcome.tcp("192.0.2.200:1", "192.0.2.9:80"), "drop");
    assert_eq!(outcome.warnings, [""; 0], "it is the same service");
}

fn balanced(ranges: &Value, ingress: &Value) -> Value {
    let mut balanced = service(
        "web",
        json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.1", "fd00:10:96::1"],
               "loadBalancerSourceRanges": ranges}),
    );
    balanced["status"] = json!({"loadBalancer": {"ingress": ingress}});
    balanced
}

#[test]
fn ranges_that_nobody_can_read_admit_nobody() {
    let ingress = json!([{"ip": "192.0.2.9"}, {"ip": "2001:db8:5::9"}]);
    let world = World::of(&[
        balanced(&json!(["198.51.100.0/40", "everyone"]), &ingress),
        slice("web", &here_and_there()),
    ]);
    assert_eq!(world.warnings.len(), 2);
    let outcome = world.at(NODE);
    assert_eq!(outcome.tcp(OUTSIDE, "192.0.2.9:80"), "drop");
    assert_eq!(
        outcome.tcp("[2001:db8::7]:1", "[2001:db8:5::9]:80"),
        "reject",
        "not restricted"
    );
}

#[test]
fn a_source_outside_the_ranges_is_dropped_even_when_there_is_no_endpoint() {
    let outcome = World::of(&[balanced(
        &json!(["198.51.100.0/24"]),
        &json!([{"ip": "192.0.2.9"}]),
    )])
    .at(NODE);
    assert_eq!(outcome.tcp(OUTSIDE, "192.0.2.9:80"), "reject");
    assert_eq!(outcome.tcp("192.0.2.200:1", "192.0.2.9:80"), "drop");
}

#[test]
fn the_load_balancer_address_is_a_source_only_if_the_primary_own_address_is() {
    let ingress = json!([{"ip": "192.0.2.9"}]);
    let from_itself = |range: &str| {
        let world = World::of(&[
            balanced(&json!([range]), &ingress),
            slice("web", &here_and_there()),
        ]);
        world.at(NODE).tcp("192.0.2.9:1", "192.0.2.9:80")
    };
    assert!(from_itself("203.0.113.10/32").starts_with("->"));
    assert_eq!(from_itself("203.0.113.11/32"), "drop");
}

#[test]
fn flows_may_stay_with_every_endpoint_that_serves_whether_chosen_or_not() {
    let mut unready = ready("10.244.3.1", "node-c");
    unready["conditions"] = json!({"ready": false, "serving": false});
    let mut slice_v6 = slice("web", &[ready("fd00:10:244:2::1", "node-b")]);
    slice_v6["addressType"] = "IPv6".into();
    slice_v6["metadata"]["name"] = "web-x6".into();
    let world = World::of(&[
        service(
            "web",
            json!({"internalTrafficPolicy": "Local", "clusterIPs": ["10.96.0.1", "fd00:10:96::1"]}),
        ),
        slice(
            "web",
            &[
                ready("10.244.1.1", "node-a"),
                ending("10.244.2.1", "node-b"),
                unready,
            ],
        ),
        slice_v6,
    ]);
    let outcome = world.at(NODE);
    let [service] = services(&outcome)[..] else {
        panic!("one service port")
    };
    assert_eq!(
        serving(&outcome, service),
        [
            "10.244.1.1:8080",
            "10.244.2.1:8080",
            "[fd00:10:244:2::1]:8080"
        ]
    );
}

#[test]
fn a_service_without_serving_endpoints_lets_no_flow_stay() {
    let outcome = World::of(&[service("web", json!({}))]).at(NODE);
    assert_eq!(services(&outcome)[0].serving, NO_KEY);
}

#[test]
fn affinity_and_the_policy_for_dead_endpoints_are_passed_on() {
    let affinity = |spec: Value| {
        let outcome = World::of(&[service("web", spec)]).at(NODE);
        let timeouts = outcome.objects.iter().filter_map(|object| match object {
            Object::Frontend(frontend) if frontend.port != 0 => Some(frontend.affinity_timeout),
            _ => None,
        });
        let mut timeouts: Vec<u32> = timeouts.collect();
        timeouts.dedup();
        timeouts
    };
    assert_eq!(affinity(json!({})), [0]);
    assert_eq!(affinity(json!({"sessionAffinity": "ClientIP"})), [10_800]);
    let sixty = json!({"clientIP": {"timeoutSeconds": 60}});
    assert_eq!(
        affinity(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": sixty})),
        [60]
    );
    for (wish, meant) in [
        ("keep", OnEndpointGone::Keep),
        ("reset", OnEndpointGone::Reset),
        ("drain=30", OnEndpointGone::Drain(30)),
        ("explode", OnEndpointGone::Keep),
    ] {
        let mut document = service("web", json!({}));
        document["metadata"]["annotations"] = json!({"portgate.dev/on-endpoint-gone": wish});
        let world = World::of(&[document]);
        assert_eq!(
            services(&world.at(NODE))[0].on_endpoint_gone,
            meant,
            "{wish}"
        );
        assert_eq!(world.warnings.len(), usize::from(wish == "explode"));
    }
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_at_its_best() {
    let mut stale = slice("web", &[ending("10.244.1.1", "node-a")]);
    stale["metadata"]["name"] = "web-a0".into();
    let mut nowhere = slice("web", &[json!({"addresses": ["10.244.1.1"]})]);
    nowhere["metadata"]["name"] = "web-z9".into();
    let world = World::of(&[
        service("web", json!({"internalTrafficPolicy": "Local"})),
        stale,
        slice("web", &[ready("10.244.1.1", "node-a")]),
        nowhere,
    ]);
    assert_eq!(
        world.at(NODE).tcp(POD, "10.96.0.1:80"),
        "-> 10.244.1.1:8080"
    );
}

#[test]
fn only_the_first_address_of_an_endpoint_is_used() {
    let pair = json!({"addresses": ["10.244.1.1", "10.244.1.2"], "nodeName": "node-a"});
    let world = World::of(&[service("web", json!({})), slice("web", &[pair])]);
    assert_eq!(
        world.at(NODE).tcp(POD, "10.96.0.1:80"),
        "-> 10.244.1.1:8080"
    );
}

#[test]
fn every_protocol_has_ports_of_its_own() {
    let ports = json!([{"port": 53, "protocol": "UDP", "name": "u"},
                       {"port": 53, "protocol": "SCTP", "name": "s"}]);
    let mut slice = slice("web", &[ready("10.244.1.1", "node-a")]);
    slice["ports"] = json!([{"name": "u", "protocol": "UDP", "port": 5353},
                            {"name": "s", "protocol": "SCTP", "port": 5354}]);
    let outcome = World::of(&[service("web", json!({"ports": ports})), slice]).at(NODE);
    assert_eq!(
        outcome.ask(Protocol::Udp, POD, "10.96.0.1:53"),
        "-> 10.244.1.1:5353"
    );
    assert_eq!(
        outcome.ask(Protocol::Sctp, POD, "10.96.0.1:53"),
        "-> 10.244.1.1:5354"
    );
    assert_eq!(outcome.tcp(POD, "10.96.0.1:53"), "reject");
}

#[test]
fn the_own_node_is_masqueraded_wherever_pods_are_not() {
    let world = World::of(&[service("web", json!({})), slice("web", &here_and_there())]);
    let outcome = world.at(NODE);
    assert!(!outcome.tcp(POD, "10.96.0.1:80").ends_with("masqueraded"));
    assert!(
        outcome
            .tcp(OURSELVES, "10.96.0.1:80")
            .ends_with("masqueraded")
    );
    assert_eq!(
        outcome.service(POD, "10.96.0.1:80").as_deref(),
        Some("test/web")
    );
}

#[test]
fn networks_say_what_the_settings_say() {
    let section = format!("{NODE}\nsnat_addresses = [\"203.0.113.99\"]");
    let outcome = World::default().at(&section);
    let mut shown: Vec<String> = outcome
        .objects
        .iter()
        .map(|object| match object {
            Object::Network(network) => {
                format!(
                    "{:?} {}/{}",
                    network.role, network.prefix.address, network.prefix.length
                )
            }
            other => panic!("{other:?}"),
        })
        .collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "Own 2001:db8:1::10/128",
            "Own 203.0.113.10/32",
            "Own 203.0.113.11/32",
            "Pods 10.244.0.0/16",
            "Pods fd00:10:244::/56",
            "Services 10.96.0.0/12",
            "Services fd00:10:96::/112",
            "Snat 203.0.113.99/32",
        ]
    );
}
