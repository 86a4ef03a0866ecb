//! A cluster in a few lines, and what the gateway makes of it.

use std::net::SocketAddr;

use hugepages::object::{Backend, Object, Protocol};
use portgate_controlplane::model::ClusterObject;
use portgate_controlplane::{Warning, convert, judge};
use serde_json::{Value, json};

use crate::evaluator::{Evaluator, Packet, Verdict};

/// The gateway that most tests have: node-a of a dual-stack cluster.
pub(crate) const NODE: &str = r#"
    mode = "node"
    node_name = "node-a"
    addresses = ["203.0.113.10", "203.0.113.11", "2001:db8:1::10"]
    cluster_cidrs = ["10.244.0.0/16", "fd00:10:244::/56"]
    service_cidrs = ["10.96.0.0/12", "fd00:10:96::/112"]
"#;

/// The same beside the cluster.
pub(crate) const EDGE: &str = r#"
    addresses = ["203.0.113.10"]
    cluster_cidrs = ["10.244.0.0/16"]
    service_cidrs = ["10.96.0.0/12"]
"#;

pub(crate) const POD: &str = "10.244.1.77:40000";
pub(crate) const OURSELVES: &str = "203.0.113.10:40000";
pub(crate) const OUTSIDE: &str = "198.51.100.7:40000";

/// Objects of a cluster.
#[derive(Debug, Default, Clone)]
pub(crate) struct World {
    pub(crate) objects: Vec<ClusterObject>,
    pub(crate) warnings: Vec<Warning>,
}

impl World {
    pub(crate) fn of(documents: &[Value]) -> Self {
        let mut world = Self::default();
        for document in documents {
            convert::document(document, &mut world.objects, &mut world.warnings);
        }
        world
    }

    pub(crate) fn warned(&self) -> Vec<String> {
        self.warnings.iter().map(ToString::to_string).collect()
    }

    /// What a gateway with this section `[gateway]` makes of it.
    pub(crate) fn at(&self, section: &str) -> Outcome {
        let settings = settings::load_str(&format!("[gateway]\n{section}")).unwrap();
        let (objects, warnings) = judge(&settings.gateway, self.objects.clone());
        for object in &objects {
            hugepages::codec::validate(object).unwrap();
        }
        Outcome {
            evaluator: Evaluator::new(objects.clone()),
            objects,
            warnings: warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Objects of the region, and what they do.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) objects: Vec<Object>,
    pub(crate) warnings: Vec<String>,
    evaluator: Evaluator,
}

impl Outcome {
    /// What becomes of a TCP connection, in a few words: `-> 10.0.0.1:80 10.0.0.2:80 masqueraded`.
    pub(crate) fn tcp(&self, from: &str, to: &str) -> String {
        self.ask(Protocol::Tcp, from, to)
    }

    pub(crate) fn ask(&self, protocol: Protocol, from: &str, to: &str) -> String {
        let packet = Packet {
            protocol,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        match self.evaluator.judge(packet) {
            Verdict::Translate {
                endpoints,
                masquerade,
                ..
            } => {
                let shown: Vec<String> = endpoints.iter().map(show).collect();
                let end = if masquerade { " masqueraded" } else { "" };
                format!("-> {}{end}", shown.join(" "))
            }
            Verdict::Reject(_) => "reject".into(),
            Verdict::Drop(_) => "drop".into(),
            Verdict::Pass => "pass".into(),
        }
    }

    /// The service that a connection belongs to.
    pub(crate) fn service(&self, from: &str, to: &str) -> Option<String> {
        let packet = Packet {
            protocol: Protocol::Tcp,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        match self.evaluator.judge(packet) {
            Verdict::Translate { service, .. } => Some(service),
            Verdict::Reject(service) | Verdict::Drop(service) => service,
            Verdict::Pass => None,
        }
    }
}

pub(crate) fn show(backend: &Backend) -> String {
    SocketAddr::from((backend.address, backend.port)).to_string()
}

/// Service `test/NAME` at 10.96.0.1 with TCP port 80 and node port 30080, changed by `spec`.
pub(crate) fn service(name: &str, spec: Value) -> Value {
    let mut document = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "test"},
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.96.0.1",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        document["spec"][key] = value.clone();
    }
    document
}

/// The slice of service `test/NAME` with TCP port 8080.
pub(crate) fn slice(name: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-x1"),
            "namespace": "test",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints,
    })
}

/// A ready endpoint on a node.
pub(crate) fn ready(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}})
}

/// An endpoint that terminates and still serves.
pub(crate) fn ending(address: &str, node: &str) -> Value {
    json!({
        "addresses": [address],
        "nodeName": node,
        "conditions": {"ready": false, "serving": true, "terminating": true},
    })
}

/// One local and one remote ready endpoint.
pub(crate) fn here_and_there() -> Vec<Value> {
    vec![ready("10.244.1.1", "node-a"), ready("10.244.2.1", "node-b")]
}
