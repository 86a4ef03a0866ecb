//! What traffic policies mean to a gateway that is no node of the cluster.

use crate::world::{
    EDGE, OURSELVES, OUTSIDE, POD, World, ending, here_and_there, ready, service, slice,
};
use serde_json::json;

const NAMED: &str = r#"
    node_name = "node-a"
    addresses = ["203.0.113.10"]
    cluster_cidrs = ["10.244.0.0/16"]
"#;

#[test]
fn external_policy_local_keeps_the_client_address_and_uses_every_endpoint() {
    let world = World::of(&[
        service("web", json!({"externalTrafficPolicy": "Local"})),
        slice("web", &here_and_there()),
    ]);
    let edge = world.at(EDGE);
    let all = "-> 10.244.1.1:8080 10.244.2.1:8080";
    assert_eq!(edge.tcp(OUTSIDE, "203.0.113.10:30080"), all);
    assert_eq!(edge.tcp(POD, "203.0.113.10:30080"), all);
    assert_eq!(
        edge.tcp(OURSELVES, "203.0.113.10:30080"),
        format!("{all} masqueraded")
    );
    assert_eq!(
        edge.tcp(OUTSIDE, "10.96.0.1:80"),
        format!("{all} masqueraded")
    );
}

#[test]
fn external_policy_local_falls_back_to_terminating_endpoints_and_ignores_hints() {
    let mut hinted = ready("10.244.1.1", "node-a");
    hinted["hints"] = json!({"forZones": [{"name": "zone-a"}]});
    let mut other = ready("10.244.2.1", "node-b");
    other["hints"] = json!({"forZones": [{"name": "zone-b"}]});
    let local = json!({"externalTrafficPolicy": "Local"});
    let world = World::of(&[
        service("web", local.clone()),
        slice("web", &[hinted, other]),
    ]);
    let edge = world.at(&format!("{EDGE}\nzone = \"zone-a\""));
    assert_eq!(
        edge.tcp(OUTSIDE, "203.0.113.10:30080"),
        "-> 10.244.1.1:8080 10.244.2.1:8080"
    );
    assert_eq!(
        edge.tcp(POD, "10.96.0.1:80"),
        "-> 10.244.1.1:8080",
        "hints filter the others"
    );

    let world = World::of(&[
        service("web", local),
        slice(
            "web",
            &[
                ending("10.244.1.1", "node-a"),
                ending("10.244.2.1", "node-b"),
            ],
        ),
    ]);
    let edge = world.at(EDGE);
    assert_eq!(
        edge.tcp(OUTSIDE, "203.0.113.10:30080"),
        "-> 10.244.1.1:8080 10.244.2.1:8080"
    );
}

#[test]
fn internal_policy_local_is_not_served_without_a_node_name() {
    let world = World::of(&[
        service("web", json!({"internalTrafficPolicy": "Local"})),
        slice("web", &here_and_there()),
    ]);
    let edge = world.at(EDGE);
    assert_eq!(edge.tcp(POD, "10.96.0.1:80"), "drop");
    assert_eq!(edge.tcp(OUTSIDE, "10.96.0.1:80"), "drop");
    let all = "-> 10.244.1.1:8080 10.244.2.1:8080 masqueraded";
    assert_eq!(
        edge.tcp(OUTSIDE, "203.0.113.10:30080"),
        all,
        "the node port has another policy"
    );
}

#[test]
fn with_a_node_name_local_means_the_endpoints_of_that_node() {
    let world = World::of(&[
        service(
            "web",
            json!({"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}),
        ),
        slice("web", &here_and_there()),
    ]);
    let named = world.at(NAMED);
    assert_eq!(named.tcp(POD, "10.96.0.1:80"), "-> 10.244.1.1:8080");
    assert_eq!(
        named.tcp(OUTSIDE, "203.0.113.10:30080"),
        "-> 10.244.1.1:8080"
    );
}

#[test]
fn nothing_usable_anywhere_is_refused_under_every_policy() {
    let world = World::of(&[service(
        "web",
        json!({"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}),
    )]);
    for section in [EDGE, NAMED] {
        let edge = world.at(section);
        assert_eq!(edge.tcp(POD, "10.96.0.1:80"), "reject");
        assert_eq!(edge.tcp(OUTSIDE, "203.0.113.10:30080"), "reject");
    }
}

#[test]
fn a_gateway_that_only_stands_in_for_a_node_routes_to_its_pods() {
    let node = |name: &str, cidr: &str, address: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        })
    };
    let world = World::of(&[
        node("node-a", "10.244.1.0/24", "192.0.2.11"),
        node("node-b", "10.244.2.0/24", "192.0.2.12"),
    ]);
    let routes = |section: &str| {
        let outcome = world.at(section);
        let is_route = |object: &&_| matches!(object, hugepages::object::Object::Route(_));
        outcome.objects.iter().filter(is_route).count()
    };
    assert_eq!(routes(NAMED), 2);
    assert_eq!(routes(EDGE), 2);
    assert_eq!(routes(&format!("mode = \"node\"{NAMED}")), 1);
}
