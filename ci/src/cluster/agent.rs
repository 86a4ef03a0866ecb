//! Scheduler and kubelet of a cluster whose pods are nginx in the namespaces of a topology.
//!
//! Pods come from Kubernetes (a Deployment, say); the agent binds them to its node, starts what they
//! run, tells their status, and lets them go when Kubernetes has them terminate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Api, Request};
use super::refused;
use crate::process::Process;
use crate::topology::Topology;

/// Where the pods of the agent are.
pub const NAMESPACE: &str = "default";

/// How often the agent looks what is to be done.
const GLANCE: Duration = Duration::from_millis(100);

/// The agent of one node.
#[derive(Debug)]
pub struct Agent<'a> {
    /// The API server.
    pub api: Api<'a>,
    /// Name of the node.
    pub node: &'a str,
    /// Its namespaces are the places that pods can have.
    pub net: &'a Topology,
    /// Places.
    pub places: usize,
    /// How long a terminating pod goes on serving.
    pub drain: Duration,
    pods: BTreeMap<String, Pod>,
}

#[derive(Debug)]
struct Pod {
    place: usize,
    _nginx: Process,
    leaving: Option<Instant>,
}

impl<'a> Agent<'a> {
    /// An agent for the first `places` pods of `net`.
    pub fn new(api: Api<'a>, node: &'a str, net: &'a Topology, places: usize) -> Self {
        Self {
            api,
            node,
            net,
            places,
            drain: Duration::from_secs(1),
            pods: BTreeMap::new(),
        }
    }

    /// Works until `stop`; the pods end with it.
    ///
    /// # Panics
    /// If the API server refuses what a kubelet may do.
    pub fn run(mut self, stop: &AtomicBool) {
        // Relaxed: the flag carries no data.
        while !stop.load(Ordering::Relaxed) {
            self.turn();
            thread::sleep(GLANCE);
        }
    }

    /// Does what is to be done now. An API server that cannot be reached is asked again next time.
    pub fn turn(&mut self) {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let Ok(list) = self.api.get(&path) else {
            return;
        };
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let mut seen = BTreeSet::new();
        for pod in &items {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let node = pod["spec"]["nodeName"].as_str();
            if node.is_none() {
                self.bind(name);
            }
            if node.is_some_and(|node| node != self.node) {
                continue;
            }
            seen.insert(name.to_owned());
            if pod["metadata"]["deletionTimestamp"].is_string() {
                self.leave(name);
            } else if !self.pods.contains_key(name) {
                self.start(name);
            }
        }
        self.pods.retain(|name, _| seen.contains(name));
    }

    fn bind(&self, name: &str) {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.node},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding");
        self.change(&Request::post(path, binding));
    }

    /// Starts a pod if there is a place for it; waits for one otherwise.
    fn start(&mut self, name: &str) {
        let taken: BTreeSet<_> = self.pods.values().map(|pod| pod.place).collect();
        let Some(place) = (0..self.places).find(|place| !taken.contains(place)) else {
            return;
        };
        let pod = Pod {
            place,
            _nginx: self.net.start_nginx(place),
            leaving: None,
        };
        self.pods.insert(name.to_owned(), pod);
        let addresses = self.net.pod_addresses(place).map(|ip| ip.to_string());
        self.change(&status(name, &addresses, true));
    }

    /// A terminating pod serves on for a while, then goes away.
    fn leave(&mut self, name: &str) {
        let now = Instant::now();
        if let Some(pod) = self.pods.get_mut(name) {
            if now < *pod.leaving.get_or_insert(now) + self.drain {
                return;
            }
            self.pods.remove(name);
        }
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}");
        self.change(&Request::delete(path, 0));
    }

    /// A pod that went away in the meantime, and a server that is gone, are no faults of ours.
    fn change(&self, request: &Request) {
        if let Err(said) = self.api.send(request) {
            let expected = said.contains(" 404") || said.contains(" 409");
            let unreachable = said.contains("curl: (7)") || said.contains("curl: (35)");
            let broken = said.contains("curl: (5");
            if !expected && !unreachable && !broken {
                refused(said)
            }
        }
    }
}

/// What a kubelet says of a pod that runs at these addresses, and is ready or not.
pub fn status(name: &str, addresses: &[String], ready: bool) -> Request {
    let truth = if ready { "True" } else { "False" };
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let condition = |kind: &str| json!({"type": kind, "status": truth});
    let status = json!({"status": {
        "phase": "Running",
        "podIP": addresses[0]["ip"],
        "podIPs": addresses,
        "conditions": [condition("ContainersReady"), condition("Ready")],
    }});
    Request::patch(
        format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/status"),
        status,
    )
}

/// A pod on `node` that nothing runs: for Services that only have to have endpoints.
pub fn pod(name: &str, app: &str, node: &str) -> Request {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1,
                 "containers": [{"name": "app", "image": "none.invalid/app"}]},
    });
    Request::post(format!("/api/v1/namespaces/{NAMESPACE}/pods"), pod)
}
