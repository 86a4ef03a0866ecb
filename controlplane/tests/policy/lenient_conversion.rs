//! What cannot be understood is left out with one warning; everything else is served.

use crate::world::{NODE, OUTSIDE, POD, World, here_and_there, ready, service, slice};
use serde_json::{Value, json};

#[test]
fn bad_ports_are_skipped_and_the_others_served() {
    let ports = json!([
        {"name": "zero", "port": 0}, {"name": "large", "port": 70000},
        {"name": "text", "port": "80"}, {"name": "none"},
        {"name": "odd", "port": 81, "protocol": "ICMP"},
        {"name": "good", "port": 80, "nodePort": 99999},
        {"name": "again", "port": 80},
    ]);
    let mut slice = slice("web", &here_and_there());
    slice["ports"] = json!([{"name": "good", "port": 8080}, {"name": "text", "port": "x"}]);
    let world = World::of(&[service("web", json!({"ports": ports})), slice]);
    let warned = world.warned();
    assert_eq!(warned.len(), 8, "{warned:#?}");
    for part in [
        "Service test/web: spec.ports[0].port is 0: must be",
        "spec.ports[1].port is 70000",
        "spec.ports[2].port is \"80\"",
        "spec.ports[3].port is null",
        "spec.ports[4].protocol is \"ICMP\": must be TCP, UDP or SCTP",
        "spec.ports[5].nodePort is 99999",
        "spec.ports[6] is",
        "EndpointSlice test/web-x1: ports[1].port is \"x\"",
    ] {
        assert!(
            warned.iter().any(|warning| warning.contains(part)),
            "{part} in {warned:#?}"
        );
    }
    let outcome = world.at(NODE);
    assert_eq!(
        outcome.tcp(POD, "10.96.0.1:80"),
        "-> 10.244.1.1:8080 10.244.2.1:8080"
    );
    assert_eq!(outcome.tcp(POD, "10.96.0.1:81"), "reject");
}

#[test]
fn bad_addresses_are_skipped_and_the_others_served() {
    let mut document = service(
        "web",
        json!({"externalIPs": ["198.51.100.9", "host.example", 7, "0.0.0.0"], "type": "LoadBalancer"}),
    );
    document["status"] = json!({"loadBalancer": {"ingress": [
        {"hostname": "lb.example"}, {"ip": "192.0.2.900"}, {"ip": "192.0.2.9", "ipMode": "Bridge"},
        {"ip": "192.0.2.8"},
    ]}});
    let endpoints = [
        ready("10.244.1.1", "node-a"),
        ready("fd00::1", "node-a"),
        ready("nonsense", "node-a"),
        json!({"nodeName": "node-a"}),
        json!("nonsense"),
    ];
    let world = World::of(&[document, slice("web", &endpoints)]);
    let warned = world.warned();
    assert_eq!(warned.len(), 9, "{warned:#?}");
    let outcome = world.at(NODE);
    for address in ["198.51.100.9:80", "192.0.2.8:80", "203.0.113.10:30080"] {
        assert_eq!(
            outcome.tcp(OUTSIDE, address),
            "-> 10.244.1.1:8080 masqueraded",
            "{address}"
        );
    }
    assert_eq!(outcome.tcp(OUTSIDE, "192.0.2.9:80"), "pass");
}

#[test]
fn values_of_the_wrong_type_count_as_absent() {
    let spec = json!({
        "type": 7, "externalIPs": "198.51.100.9", "sessionAffinity": true,
        "internalTrafficPolicy": "Sometimes", "externalTrafficPolicy": 1,
        "loadBalancerSourceRanges": {}, "healthCheckNodePort": -1,
        "sessionAffinityConfig": [],
    });
    let mut slice = slice("web", &here_and_there());
    slice["endpoints"][0]["conditions"] = json!("ready");
    slice["endpoints"][0]["hints"] = json!({"forZones": "zone-a"});
    slice["endpoints"][1]["conditions"] = json!({"ready": "yes"});
    let world = World::of(&[service("web", spec), slice]);
    assert_eq!(world.warnings.len(), 10, "{:#?}", world.warned());
    let outcome = world.at(NODE);
    assert_eq!(
        outcome.tcp(POD, "10.96.0.1:80"),
        "-> 10.244.1.1:8080 10.244.2.1:8080"
    );
}

#[test]
fn an_object_that_makes_no_sense_spoils_no_other() {
    let world = World::of(&[json!({
        "apiVersion": "v1", "kind": "List",
        "items": [
            7,
            {"apiVersion": "v1", "kind": "Service"},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "y"}, "spec": []},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "z"}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"podCIDRs": [1, "x"]}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},
            service("web", json!({})),
            slice("web", &here_and_there()),
        ],
    })]);
    assert_eq!(world.warnings.len(), 7, "{:#?}", world.warned());
    assert!(world.at(NODE).tcp(POD, "10.96.0.1:80").starts_with("->"));
}

#[test]
fn slices_of_names_are_passed_over_in_silence() {
    let mut names = slice("web", &[json!({"addresses": ["db.example.net"]})]);
    names["addressType"] = "FQDN".into();
    let world = World::of(&[service("web", json!({})), names]);
    assert_eq!(world.warned(), [""; 0]);
    assert_eq!(world.at(NODE).tcp(POD, "10.96.0.1:80"), "reject");
}

#[test]
fn old_and_sparse_documents_mean_what_the_defaults_say() {
    let world = World::of(&[
        json!({"kind": "Service", "metadata": {"name": "web"},
               "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
        json!({"kind": "EndpointSlice", "metadata": {"name": "web-1",
               "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
               "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.244.1.1"]}]}),
    ]);
    assert_eq!(world.warned(), [""; 0]);
    let outcome = world.at(NODE);
    assert_eq!(outcome.tcp(POD, "10.96.0.1:80"), "-> 10.244.1.1:8080");
    assert_eq!(
        outcome.service(POD, "10.96.0.1:80").as_deref(),
        Some("default/web")
    );
}

#[test]
fn names_that_the_region_cannot_hold_are_refused() {
    let long = "x".repeat(300);
    let mut service = service("web", json!({}));
    service["metadata"]["name"] = long.as_str().into();
    let mut port = service.clone();
    port["metadata"]["name"] = "port".into();
    port["spec"]["ports"][0]["name"] = long.into();
    let world = World::of(&[service, port]);
    assert_eq!(world.warnings.len(), 2);
    assert_eq!(
        world.at(NODE).tcp(POD, "10.96.0.1:80"),
        "reject",
        "an address without ports"
    );
}

#[test]
fn the_longest_names_that_kubernetes_allows_are_served() {
    // A namespace, a Service and a port have labels' names, a slice and a node have subdomains'.
    let (label, subdomain) = ("x".repeat(63), ["y".repeat(63), "z".repeat(189)].join("."));
    let mut document = service(&label, json!({}));
    document["metadata"]["namespace"] = label.as_str().into();
    document["spec"]["ports"][0]["name"] = label.as_str().into();
    let mut of_it = slice(&label, &[ready("10.244.1.1", &subdomain)]);
    of_it["metadata"]["namespace"] = label.as_str().into();
    of_it["metadata"]["name"] = subdomain.as_str().into();
    of_it["ports"][0]["name"] = label.as_str().into();
    assert_eq!(subdomain.len(), 253);
    let world = World::of(&[document, of_it]);
    assert_eq!(world.warned(), [""; 0]);
    let outcome = world.at(NODE);
    assert_eq!(outcome.tcp(POD, "10.96.0.1:80"), "-> 10.244.1.1:8080");
    assert_eq!(
        outcome.service(POD, "10.96.0.1:80"),
        Some(format!("{label}/{label}"))
    );
}

#[test]
fn names_may_be_in_any_script() {
    let mut document = service("größe-网", json!({}));
    document["metadata"]["namespace"] = "пространство".into();
    let mut of_it = slice("größe-网", &[ready("10.244.1.1", "узел-🦀")]);
    of_it["metadata"]["namespace"] = "пространство".into();
    let mut bad = service("плохой", json!({}));
    bad["spec"]["ports"] = json!([{"port": 70_000, "name": "é"}]);
    bad["spec"]["clusterIP"] = "10.96.0.2".into();
    let world = World::of(&[document, of_it, bad]);
    let warned = world.warned();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].starts_with("Service test/плохой: "), "{warned:?}");
    let outcome = world.at(NODE);
    assert_eq!(
        outcome.service(POD, "10.96.0.1:80").as_deref(),
        Some("пространство/größe-网")
    );
}

#[test]
fn a_slice_without_a_service_is_named_and_spoils_nothing() {
    let mut lost = slice("web", &here_and_there());
    lost["metadata"]["name"] = "lost".into();
    lost["metadata"]["labels"] = json!({});
    let world = World::of(&[
        service("web", json!({})),
        slice("web", &here_and_there()),
        lost,
    ]);
    let warned = world.warned();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].starts_with("EndpointSlice test/lost: the label kubernetes.io/service-name"),
        "{warned:?}"
    );
    assert!(world.at(NODE).tcp(POD, "10.96.0.1:80").starts_with("->"));
}

#[test]
fn addresses_are_read_as_people_mean_them() {
    let world = World::of(&[
        service(
            "web",
            json!({"clusterIP": "010.096.000.001", "externalIPs": [" 198.051.100.009 "]}),
        ),
        slice("web", &[ready("010.244.001.001", "node-a")]),
    ]);
    assert_eq!(world.warned(), [""; 0]);
    let outcome = world.at(NODE);
    assert_eq!(outcome.tcp(POD, "10.96.0.1:80"), "-> 10.244.1.1:8080");
    assert_eq!(
        outcome.tcp(OUTSIDE, "198.51.100.9:80"),
        "-> 10.244.1.1:8080 masqueraded"
    );
}

#[test]
fn nothing_that_is_json_makes_the_converter_panic() {
    let odd = [
        json!(null),
        json!([]),
        json!({}),
        json!(-1),
        json!("x"),
        json!(1e300),
        json!([{}]),
    ];
    let paths = [
        "/spec",
        "/spec/ports",
        "/spec/ports/0",
        "/spec/clusterIP",
        "/spec/externalIPs",
        "/metadata",
        "/endpoints",
        "/endpoints/0",
        "/endpoints/0/conditions",
        "/ports",
        "/addressType",
        "/kind",
        "/metadata/labels",
        "/metadata/annotations",
        "/status",
        "/apiVersion",
    ];
    for document in [
        service("web", json!({"externalIPs": []})),
        slice("web", &here_and_there()),
    ] {
        for path in paths {
            for value in &odd {
                let mut changed: Value = document.clone();
                if let Some(place) = changed.pointer_mut(path) {
                    *place = value.clone();
                    let _ = World::of(&[changed]).at(NODE);
                }
            }
        }
    }
}
