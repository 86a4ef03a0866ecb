//! `portgate explain` on manifests in a temporary folder.
#![allow(clippy::unwrap_used)] // a helper that fails is a failed test

mod common;

use common::*;
use serde_json::{Value, json};

const GATEWAY: &str = r#"
[gateway]
mode = "node"
node_name = "node-a"
addresses = ["203.0.113.10", "2001:db8:1::10"]
cluster_cidrs = ["10.244.0.0/16", "fd00:10:244::/56"]
service_cidrs = ["10.96.0.0/12"]
"#;

/// A Service and its slice; the endpoints are on node-b.
fn service(name: &str, spec: &str, endpoints: &[&str]) -> String {
    let endpoints = endpoints.iter().map(|address| {
        format!(r#"{{"addresses": ["{address}"], "nodeName": "node-b", "conditions": {{"ready": true}}}}"#)
    });
    let endpoints = endpoints.collect::<Vec<_>>().join(",");
    format!(
        r#"{{"apiVersion": "v1", "kind": "List", "items": [
        {{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "{name}", "namespace": "shop"}},
          "spec": {{"ports": [{{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}}],
                    {spec}}},
          "status": {{"loadBalancer": {{"ingress": [{{"ip": "192.0.2.80"}}]}}}}}},
        {{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
          "metadata": {{"name": "{name}-1", "namespace": "shop",
                        "labels": {{"kubernetes.io/service-name": "{name}"}}}},
          "ports": [{{"name": "http", "port": 8080, "protocol": "TCP"}}],
          "endpoints": [{endpoints}]}}]}}"#
    )
}

/// A load balancer `shop/web` with two endpoints, for clients of 198.51.100.0/24.
fn shop() -> Folder {
    let folder = Folder::new(GATEWAY);
    let spec = r#""type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                  "loadBalancerSourceRanges": ["198.51.100.0/24"]"#;
    folder.write(
        "m/web.json",
        &service("web", spec, &["10.244.2.2", "10.244.2.3"]),
    );
    folder
}

fn ask(folder: &Folder, protocol: &str, from: &str, to: &str, more: &[&str]) -> String {
    let manifests = folder.path("m");
    let arguments = [
        "explain",
        "--manifests",
        text(&manifests),
        "--protocol",
        protocol,
        "--from",
        from,
        "--to",
        to,
    ];
    said(&folder.run(&[&arguments, more].concat()))
}

#[test]
fn each_verdict_is_answered_in_order_as_json() {
    let folder = shop();
    let packets = [
        ("a", "tcp", "198.51.100.7:4000", "203.0.113.10:30080"),
        ("b", "tcp", "10.244.1.9:4000", "10.96.0.10:80"),
        ("c", "udp", "10.244.1.9:4000", "10.96.0.10:80"),
        ("d", "tcp", "192.0.2.200:4000", "192.0.2.80:80"),
        ("e", "sctp", "198.51.100.7:4000", "10.96.0.99:80"),
        ("f", "tcp", "198.51.100.7:4000", "203.0.113.10:22"),
        ("g", "tcp", "[2001:db8:aaaa::7]:4000", "[2001:db8:9::9]:80"),
        ("a", "tcp", "198.51.100.7:4000", "203.0.113.10:30080"),
    ];
    let line = |(id, protocol, from, to)| {
        json!({"id": id, "protocol": protocol, "from": from, "to": to}).to_string() + "\n\n"
    };
    let file = folder.write("packets.jsonl", &packets.map(line).concat());
    let manifests = folder.path("m");
    let output = folder.run(&[
        "explain",
        "--manifests",
        text(&manifests),
        "--packets",
        text(&file),
    ]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let answers: Vec<Value> = said(&output).lines().map(parse).collect();
    let answer = |id, verdict, service, endpoints, masquerade, reason| {
        json!({"id": id, "verdict": verdict, "service": service, "endpoints": endpoints,
               "masquerade": masquerade, "reason": reason})
    };
    let (web, none) = (json!("shop/web"), Value::Null);
    let both = json!(["10.244.2.2:8080", "10.244.2.3:8080"]);
    let nothing = json!([]);
    let node_port = answer("a", "translate", &web, &both, true, "nodeport");
    let expected = [
        node_port.clone(),
        answer("b", "translate", &web, &both, false, "clusterip"),
        answer("c", "reject", &none, &nothing, false, "no_such_port"),
        answer("d", "drop", &web, &nothing, false, "source_range"),
        answer("e", "drop", &none, &nothing, false, "no_such_service"),
        answer("f", "pass", &none, &nothing, false, "not_served"),
        answer("g", "pass", &none, &nothing, false, "not_ours"),
        node_port,
    ];
    assert_eq!(answers, expected);
}

#[test]
fn an_only_endpoint_that_is_the_client_is_masqueraded() {
    let folder = Folder::new(GATEWAY);
    let spec = r#""clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"]"#;
    folder.write("m/web.json", &service("web", spec, &["10.244.2.2"]));
    let masquerade = |from: &str| -> Value {
        let answer = ask(&folder, "tcp", from, "10.96.0.10:80", &["--json"]);
        serde_json::from_str::<Value>(&answer).unwrap()["masquerade"].clone()
    };
    assert_eq!(masquerade("10.244.2.2:999"), true);
    assert_eq!(masquerade("10.244.2.3:999"), false);
    let prose = ask(&folder, "tcp", "10.244.2.2:999", "10.96.0.10:80", &[]).replace('\n', " ");
    assert!(
        prose.contains("the endpoint is the client itself"),
        "{prose}"
    );
}

#[test]
fn prose_shows_the_chain_from_the_client_to_the_endpoints() {
    let folder = shop();
    let prose = ask(
        &folder,
        "tcp",
        "198.51.100.7:4000",
        "203.0.113.10:30080",
        &[],
    );
    let expected = "\
tcp 198.51.100.7:4000 → 203.0.113.10:30080: translated

  198.51.100.7:4000       client: outside, in no pod network (gateway.cluster_cidrs) and not the gateway
    ↓
  203.0.113.10:30080/tcp  NodePort of service shop/web, port http, on an address of the gateway
    ↓
  shop/web                externalTrafficPolicy Cluster: ready endpoints anywhere
    ↓
  10.244.2.2:8080         one of 2 endpoints
  10.244.2.3:8080

A first packet makes a flow, whose endpoint is chosen by a hash of its addresses and ports
(Maglev), so that every gateway with the same maglev_seed chooses the same.
The source is rewritten to the gateway's address on the link to the endpoint, because the
endpoint may be on any node and must answer by way of the gateway.
Later packets go the same way without another decision. Answers come back through the gateway,
and reach the client as if 203.0.113.10:30080 had sent them.
";
    assert_eq!(prose, expected);
}

#[test]
fn prose_says_why_the_source_is_kept_or_rewritten() {
    let folder = shop();
    let cases = [
        (
            "10.244.1.9:4000",
            "10.96.0.10:80",
            "is kept: the client is a pod.",
        ),
        (
            "10.244.2.2:4000",
            "10.96.0.10:80",
            "unless the chosen endpoint is the client itself",
        ),
        (
            "198.51.100.7:4000",
            "10.96.0.10:80",
            "because the client is not a pod",
        ),
        (
            "203.0.113.10:4000",
            "203.0.113.10:30080",
            "because the client is the gateway",
        ),
    ];
    for (from, to, words) in cases {
        let prose = ask(&folder, "tcp", from, to, &[]).replace('\n', " ");
        assert!(prose.contains(words), "{words}: {prose}");
    }
    let local = Folder::new(GATEWAY.replace("node-a", "node-b").as_str());
    let spec = r#""type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                  "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP""#;
    local.write("m/web.json", &service("web", spec, &["10.244.2.2"]));
    let prose = ask(&local, "tcp", "198.51.100.7:4000", "192.0.2.80:80", &[]).replace('\n', " ");
    for words in [
        "LoadBalancer of service shop/web",
        "externalTrafficPolicy Local: ready endpoints on this node",
        "The source is kept: externalTrafficPolicy Local keeps the client's address",
        "sessionAffinity ClientIP: new flows of this client go where its last one went, for 10800 s",
    ] {
        assert!(prose.contains(words), "{words}: {prose}");
    }
}

#[test]
fn prose_says_why_a_packet_is_refused_dropped_or_passed() {
    let folder = shop();
    let empty = r#""clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"]"#;
    let empty = service("empty", empty, &[]).replace("192.0.2.80", "192.0.2.81");
    folder.write("m/empty.json", &empty.replace("30080", "30081"));
    let local = r#""type": "NodePort", "clusterIP": "10.96.0.30", "clusterIPs": ["10.96.0.30"],
                   "externalTrafficPolicy": "Local""#;
    let local = service("local", local, &["10.244.2.4"]).replace("192.0.2.80", "192.0.2.82");
    folder.write("m/local.json", &local.replace("30080", "30082"));
    let from = "192.0.2.200:4000";
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            "tcp",
            "10.96.0.20:80",
            &[
                "refused (no_endpoint)",
                "a TCP reset",
                "No endpoint of",
                "its connection is refused",
            ],
        ),
        (
            "udp",
            "10.96.0.10:80",
            &["refused (no_such_port)", "ICMP port unreachable", "80/tcp"],
        ),
        (
            "tcp",
            "192.0.2.80:80",
            &[
                "dropped (source_range)",
                "no answer",
                "loadBalancerSourceRanges: 198.51.100.0/24",
                "192.0.2.200 is in none",
            ],
        ),
        (
            "tcp",
            "203.0.113.10:30082",
            &[
                "dropped (no_local_endpoint)",
                "none on this node",
                "hears nothing",
            ],
        ),
        (
            "tcp",
            "10.96.0.99:80",
            &["dropped (no_such_service)", "10.96.0.0/12"],
        ),
        (
            "tcp",
            "203.0.113.10:22",
            &["not a service's (not_served)", "No service has NodePort 22"],
        ),
        (
            "tcp",
            "9.9.9.9:22",
            &["not a service's (not_ours)", "does not route for others"],
        ),
    ];
    for (protocol, to, words) in cases {
        let prose = ask(&folder, protocol, from, to, &[]);
        for word in words {
            assert!(prose.contains(word), "{to}: {word}: {prose}");
        }
        assert!(prose.contains("`portgate counters`"), "{prose}");
    }
}

#[test]
fn a_broken_line_is_named_and_nothing_is_answered() {
    let folder = shop();
    let good = r#"{"id": "a", "protocol": "tcp", "from": "192.0.2.1:1", "to": "192.0.2.2:80"}"#;
    let cases = [
        (
            good.replace("192.0.2.2:80", "192.0.2.2"),
            "`to` is \"192.0.2.2\"",
        ),
        (good.replace("\"from\"", "\"form\""), "`from` is missing"),
        (good.replace("tcp", "icmp"), "`protocol` is \"icmp\""),
        ("{".to_owned(), "not JSON"),
    ];
    let manifests = folder.path("m");
    for (line, words) in cases {
        let file = folder.write("packets.jsonl", &format!("{good}\n\n{line}\n"));
        let arguments = [
            "explain",
            "--manifests",
            text(&manifests),
            "--packets",
            text(&file),
        ];
        let said = complaint(&folder.run(&arguments), 2);
        assert!(said.contains(words), "{said}");
        assert!(said.contains("packets.jsonl:3: "), "{said}");
    }
    let missing = [
        "explain",
        "--manifests",
        text(&manifests),
        "--packets",
        "/nonexistent.jsonl",
    ];
    assert!(complaint(&folder.run(&missing), 2).contains("/nonexistent.jsonl"));
}

#[test]
fn mixed_families_and_missing_manifests_are_wrong_use() {
    let folder = shop();
    let question = [
        "explain",
        "--from",
        "192.0.2.1:1",
        "--to",
        "[2001:db8::1]:80",
    ];
    assert!(complaint(&folder.run(&question), 2).contains("same address family"));
    let question = ["explain", "--from", "192.0.2.1:1", "--to", "192.0.2.2:80"];
    let missing = [&question[..], &["--manifests", "/nonexistent/m"]].concat();
    assert!(complaint(&folder.run(&missing), 2).contains("/nonexistent/m"));
    let cluster = Folder::new("[source]\nkind = \"kubernetes\"\n");
    assert!(complaint(&cluster.run(&question), 2).contains("--manifests"));
}

#[test]
fn manifests_come_from_the_configuration_and_their_warnings_go_to_standard_error() {
    let other = shop();
    let path = other.path("m");
    other.write("m/broken.yaml", "}{");
    let source = format!("{GATEWAY}\n[source]\nkind = \"manifests\"\npath = {path:?}\n");
    let folder = Folder::new(&source);
    let output = folder.run(&["explain", "--from", "10.244.1.9:1", "--to", "10.96.0.10:80"]);
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(
        warnings.contains("warning: ") && warnings.contains("broken.yaml"),
        "{warnings}"
    );
    assert!(said(&output).contains("shop/web"));
}

#[test]
fn a_gateway_without_addresses_still_explains() {
    let folder = Folder::new("");
    let spec =
        r#""clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "externalIPs": ["192.0.2.1"]"#;
    folder.write("m/web.json", &service("web", spec, &["10.244.2.2"]));
    let prose = ask(&folder, "tcp", "198.51.100.7:4000", "192.0.2.1:80", &[]);
    assert!(prose.contains("ExternalIP of service shop/web"), "{prose}");
    assert!(
        prose.contains("gateway.cluster_cidrs names no pod network"),
        "{prose}"
    );
    let prose = ask(&folder, "tcp", "198.51.100.7:4000", "10.96.0.10:80", &[]).replace('\n', " ");
    assert!(
        prose.contains("is kept: without gateway.cluster_cidrs"),
        "{prose}"
    );
}
