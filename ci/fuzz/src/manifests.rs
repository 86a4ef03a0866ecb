//! Kubernetes objects, from text or from values, through conversion and policy to records.
//!
//! By its first byte an input is a file (YAML, JSON) as the directory of manifests reads it, or a list of
//! objects made of the words that Kubernetes uses: free text seldom hits them.

use std::cell::OnceCell;
use std::fs;

use hugepages::codec::{Assembler, encode_object, validate};
use hugepages::{Digest, Message};
use portgate_controlplane::index::Index;
use portgate_controlplane::model::ClusterObject;
use portgate_controlplane::policy::Desired;
use portgate_controlplane::{Warning, convert, load_dir};
use serde_json::{Map, Value};
use settings::Gateway;

use crate::input::Input;

const GATEWAYS: [&str; 2] = [
    r#"
    mode = "node"
    node_name = "node-a"
    addresses = ["203.0.113.10", "2001:db8:1::10"]
    cluster_cidrs = ["10.244.0.0/16", "fd00:10:244::/56"]
    service_cidrs = ["10.96.0.0/12", "fd00:10:96::/112"]
    "#,
    r#"
    addresses = ["203.0.113.10"]
    service_cidrs = ["10.96.0.0/12"]
    masquerade_all = true
    "#,
];

/// Objects of an input, and fields of an object, at most.
const OBJECTS: usize = 12;
const FIELDS: usize = 24;

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let how = input.byte();
    let (mut objects, mut warnings) = (Vec::new(), Vec::new());
    match how & 3 {
        0 => file("m.yaml", input.0, &mut objects, &mut warnings),
        1 => file("m.json", input.0, &mut objects, &mut warnings),
        _ => {
            for _ in 0..OBJECTS {
                if input.is_empty() {
                    break;
                }
                let value = object(&mut input);
                convert::document(&value, &mut objects, &mut warnings);
            }
        }
    }
    for warning in warnings {
        assert!(!warning.to_string().contains('\n'), "one line: {warning}");
    }
    judge(&gateway(usize::from(how >> 2 & 1)), objects);
}

fn gateway(which: usize) -> Gateway {
    thread_local! {
        static BOTH: [OnceCell<Gateway>; 2] = const { [OnceCell::new(), OnceCell::new()] };
    }
    let make = || {
        let text = format!("[gateway]\n{}", GATEWAYS[which]);
        settings::load_str(&text)
            .expect("settings that are right")
            .gateway
    };
    BOTH.with(|both| both[which].get_or_init(make).clone())
}

/// What is wanted is valid, survives the ring, and depends on the objects alone, not on the order or the
/// steps in which they came.
fn judge(gateway: &Gateway, objects: Vec<ClusterObject>) {
    let mut index = Index::new();
    let mut desired = Desired::new(gateway.clone());
    for object in &objects {
        index.apply(object.clone());
        desired.refresh(&mut index);
    }
    let mut assembler = Assembler::new();
    for object in desired.objects() {
        assert_eq!(validate(object), Ok(()), "{object:?}");
        let mut records = Vec::new();
        encode_object(object, &mut records);
        let mut message = None;
        for record in &records {
            message = assembler.push(record).expect("our own record");
        }
        assert_eq!(message, Some(Message::Put(object.clone())));
    }
    let by_steps = desired.objects().collect::<Digest>();
    let mut index = Index::new();
    objects.into_iter().for_each(|object| index.apply(object));
    let mut at_once = Desired::new(gateway.clone());
    at_once.refresh(&mut index);
    assert_eq!(by_steps, at_once.objects().collect::<Digest>());
}

fn file(name: &str, text: &[u8], objects: &mut Vec<ClusterObject>, warnings: &mut Vec<Warning>) {
    let folder = crate::scratch();
    let path = folder.join(name);
    fs::write(&path, text).expect("the folder is writable");
    let read = load_dir(&folder).expect("the folder is readable");
    fs::remove_dir_all(&folder).expect("the folder is ours");
    objects.extend(read.objects);
    warnings.extend(read.warnings);
}

/// An object with a kind, a name, and fields of the kinds that are known, or not.
fn object(input: &mut Input<'_>) -> Value {
    let kind = input.below(4);
    let mut top = Map::new();
    let (name, version) = [
        ("Service", "v1"),
        ("EndpointSlice", "discovery.k8s.io/v1"),
        ("Node", "v1"),
        ("List", "v1"),
    ][kind];
    top.insert("kind".into(), name.into());
    top.insert("apiVersion".into(), version.into());
    if kind == 3 {
        let count = input.below(4);
        let items = (0..count).map(|_| object(input)).collect();
        top.insert("items".into(), Value::Array(items));
        return Value::Object(top);
    }
    top.insert("metadata".into(), metadata(input, kind));
    match kind {
        0 => {
            let mut spec = fields(input, SPEC);
            if input.byte() & 1 == 0 {
                let ports = list(input, |input| fields(input, PORT));
                spec.insert("ports".into(), ports);
            }
            top.insert("spec".into(), Value::Object(spec));
            if input.byte() & 1 == 0 {
                top.insert("status".into(), status(input));
            }
        }
        1 => {
            top.extend(fields(input, SLICE));
            top.insert("ports".into(), list(input, |input| fields(input, PORT)));
            let endpoints = list(input, endpoint);
            top.insert("endpoints".into(), endpoints);
        }
        _ => {
            top.insert("spec".into(), Value::Object(fields(input, NODE)));
            top.insert("status".into(), Value::Object(fields(input, NODE)));
        }
    }
    if input.byte() == 0xff {
        // Anything at all in place of a field.
        let key = input.one_of(&["metadata", "spec", "status", "ports", "endpoints", "kind"]);
        top.insert(key.into(), value(input, 2));
    }
    Value::Object(top)
}

fn metadata(input: &mut Input<'_>, kind: usize) -> Value {
    let mut metadata = fields(input, &["namespace", "name", "creationTimestamp"]);
    let name = input.one_of(&["a", "b", "node-a", "node-b"]);
    metadata.insert("name".into(), name.into());
    let mut labels = fields(input, LABELS);
    if kind == 1 {
        let service = input.one_of(&["a", "b", ""]);
        labels.insert("kubernetes.io/service-name".into(), service.into());
    }
    metadata.insert("labels".into(), Value::Object(labels));
    metadata.insert("annotations".into(), Value::Object(fields(input, LABELS)));
    Value::Object(metadata)
}

fn status(input: &mut Input<'_>) -> Value {
    let ingress = list(input, |input| {
        fields(input, &["ip", "ipMode", "hostname", "ports"])
    });
    serde_json::json!({ "loadBalancer": { "ingress": ingress } })
}

fn endpoint(input: &mut Input<'_>) -> Map<String, Value> {
    let mut endpoint = fields(input, ENDPOINT);
    let conditions = fields(input, &["ready", "serving", "terminating"]);
    endpoint.insert("conditions".into(), Value::Object(conditions));
    if input.byte() & 3 == 0 {
        let zones = list(input, |input| fields(input, &["name"]));
        let nodes = list(input, |input| fields(input, &["name"]));
        let hints = serde_json::json!({ "forZones": zones, "forNodes": nodes });
        endpoint.insert("hints".into(), hints);
    }
    endpoint
}

fn list(
    input: &mut Input<'_>,
    mut item: impl FnMut(&mut Input<'_>) -> Map<String, Value>,
) -> Value {
    let count = input.below(5);
    (0..count).map(|_| Value::Object(item(input))).collect()
}

fn fields(input: &mut Input<'_>, keys: &[&str]) -> Map<String, Value> {
    let count = input.below(FIELDS);
    (0..count)
        .map(|_| (input.one_of(keys).to_owned(), value(input, 2)))
        .collect()
}

fn value(input: &mut Input<'_>, depth: u8) -> Value {
    match input.byte() {
        0 => Value::Null,
        1 => true.into(),
        2 => false.into(),
        3 => input.word().into(),
        4 => (-i64::from(input.byte())).into(),
        5 => f64::from(input.word()).into(),
        6 => {
            let length = input.below(64);
            String::from_utf8_lossy(input.take(length)).into()
        }
        7 if depth > 0 => Value::Object(Map::from_iter([(
            input.one_of(WORDS).to_owned(),
            value(input, depth - 1),
        )])),
        8 => u64::MAX.into(),
        9 => "x".repeat(input.below(256) * 2).into(),
        how if how & 0x80 != 0 && depth > 0 => {
            let count = usize::from(how & 3) + 1;
            (0..count).map(|_| value(input, depth - 1)).collect()
        }
        how if how & 1 == 0 => input.one_of(WORDS).into(),
        how if how & 2 == 0 => u16::from(how >> 1).into(),
        how => how.is_multiple_of(3).into(),
    }
}

const SPEC: &[&str] = &[
    "type",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "loadBalancerIP",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "sessionAffinity",
    "sessionAffinityConfig",
    "externalTrafficPolicy",
    "internalTrafficPolicy",
    "trafficDistribution",
    "healthCheckNodePort",
    "ipFamilies",
    "ipFamilyPolicy",
    "allocateLoadBalancerNodePorts",
    "externalName",
];
const PORT: &[&str] = &[
    "name",
    "protocol",
    "port",
    "targetPort",
    "nodePort",
    "appProtocol",
];
const SLICE: &[&str] = &["addressType", "addressType", "metadata2"];
const ENDPOINT: &[&str] = &["addresses", "addresses", "nodeName", "zone", "targetRef"];
const NODE: &[&str] = &[
    "podCIDR",
    "podCIDRs",
    "addresses",
    "conditions",
    "unschedulable",
];
const LABELS: &[&str] = &[
    "topology.kubernetes.io/zone",
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
    "service.kubernetes.io/topology-mode",
    "service.kubernetes.io/load-balancer-source-ranges",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "portgate.dev/on-endpoint-gone",
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "other",
];
const WORDS: &[&str] = &[
    "",
    "None",
    "TCP",
    "UDP",
    "SCTP",
    "tcp",
    "ClusterIP",
    "NodePort",
    "LoadBalancer",
    "ExternalName",
    "Cluster",
    "Local",
    "ClientIP",
    "PreferClose",
    "PreferSameZone",
    "PreferSameNode",
    "Auto",
    "VIP",
    "Proxy",
    "IPv4",
    "IPv6",
    "FQDN",
    "InternalIP",
    "ExternalIP",
    "Hostname",
    "http",
    "https",
    "zone-a",
    "node-a",
    "default",
    "10.96.0.10",
    "10.96.0.11",
    "10.244.1.5",
    "10.244.2.6",
    "203.0.113.10",
    "203.0.113.80",
    "198.51.100.7",
    "fd00:10:96::10",
    "fd00:10:244:1::5",
    "2001:db8:1::80",
    "127.0.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "::",
    "::1",
    "010.096.000.010",
    "::ffff:10.0.0.1",
    "fe80::1",
    "10.244.1.0/24",
    "10.244.1.7/24",
    "0.0.0.0/0",
    "::/0",
    "203.0.113.0/24",
    "fd00:10:244:1::/64",
    "300.1.1.1",
    "10.0.0.0/33",
    "keep",
    "reset",
    "drain=30",
    "drain=",
    "2024-01-02T03:04:05Z",
    "2024-13-02T03:04:05Z",
    "true",
    "1,2,3",
    "example.org",
    "clientIP",
    "timeoutSeconds",
    "type",
    "address",
    "name",
    "ip",
];
