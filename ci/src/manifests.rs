//! The directory of manifests: Services and EndpointSlices as kubectl writes them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Namespace of every object.
pub const NAMESPACE: &str = "default";

/// Transport protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One port of a Service.
#[derive(Debug, Clone, Copy)]
pub struct ServicePort {
    /// Protocol.
    pub protocol: Protocol,
    /// Port of the ClusterIP.
    pub port: u16,
    /// Port of the endpoints.
    pub target: u16,
    /// NodePort, if the Service has one.
    pub node_port: Option<u16>,
}

/// A Service: everything that tests vary; the rest is what the API server fills in.
#[derive(Debug, Clone)]
pub struct Service {
    /// Name.
    pub name: String,
    /// ClusterIPs, at most one a family, the primary first.
    pub cluster_ips: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `externalTrafficPolicy: Local`.
    pub local: bool,
    /// Annotations, name and value.
    pub annotations: Vec<(&'static str, String)>,
}

/// A directory that a control plane watches.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
}

impl Manifests {
    /// Makes the directory.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes or replaces the Service.
    pub fn apply(&self, service: &Service) {
        self.write(
            &format!("{}-service.json", service.name),
            &service.object().to_string(),
        );
    }

    /// Writes or replaces the EndpointSlices of `service`, one a family: these addresses, ready.
    pub fn endpoints(&self, service: &Service, addresses: &[IpAddr]) {
        for (family, suffix) in [("IPv4", "v4"), ("IPv6", "v6")] {
            let of_family: Vec<_> = addresses
                .iter()
                .filter(|ip| ip.is_ipv6() == (suffix == "v6"))
                .collect();
            let slice = slice(service, family, suffix, &of_family);
            self.write(
                &format!("{}-{suffix}.json", service.name),
                &slice.to_string(),
            );
        }
    }

    /// Writes a file whole or not at all: under another name first, then renamed.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let draft = self.path.join(format!(".{name}.draft"));
        let done = fs::write(&draft, text).and_then(|()| fs::rename(&draft, self.path.join(name)));
        done.unwrap_or_else(|error| panic!("cannot write manifest {name}: {error}"));
    }
}

impl Service {
    /// A Service of type NodePort (ClusterIP if no port has a NodePort).
    pub fn new(name: &str, cluster_ips: &[IpAddr], ports: &[ServicePort]) -> Self {
        Self {
            name: name.to_owned(),
            cluster_ips: cluster_ips.to_vec(),
            ports: ports.to_vec(),
            local: false,
            annotations: Vec::new(),
        }
    }

    fn object(&self) -> Value {
        let kind = match self.ports.iter().any(|port| port.node_port.is_some()) {
            true => "NodePort",
            false => "ClusterIP",
        };
        let families: Vec<_> = self
            .cluster_ips
            .iter()
            .map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
            .collect();
        let policy = if families.len() > 1 {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        let mut spec = json!({
            "type": kind,
            "clusterIP": self.cluster_ips.first(),
            "clusterIPs": self.cluster_ips,
            "ipFamilies": families,
            "ipFamilyPolicy": policy,
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": { "app": self.name },
            "ports": self.ports.iter().map(ServicePort::object).collect::<Vec<_>>(),
        });
        if kind == "NodePort" {
            spec["externalTrafficPolicy"] = if self.local { "Local" } else { "Cluster" }.into();
        }
        let annotations: Map<_, _> = self
            .annotations
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "namespace": NAMESPACE, "annotations": annotations },
            "spec": spec,
        })
    }
}

impl ServicePort {
    /// Name that ties the port of a Service to the port of its EndpointSlices.
    fn name(&self) -> String {
        format!("{}-{}", self.protocol.name().to_lowercase(), self.port)
    }

    fn object(&self) -> Value {
        let mut object = json!({
            "name": self.name(),
            "protocol": self.protocol.name(),
            "port": self.port,
            "targetPort": self.target,
        });
        if let Some(port) = self.node_port {
            object["nodePort"] = port.into();
        }
        object
    }
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

fn slice(service: &Service, family: &str, suffix: &str, addresses: &[&IpAddr]) -> Value {
    let endpoint = |address: &&IpAddr| {
        json!({
            "addresses": [address],
            "conditions": { "ready": true, "serving": true, "terminating": false },
        })
    };
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| {
            json!({
                "name": port.name(), "protocol": port.protocol.name(), "port": port.target
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{suffix}", service.name),
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": service.name },
        },
        "addressType": family,
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": ports,
    })
}
