//! A cluster's Services, EndpointSlices and Nodes as the API server writes them: with owners, managed fields,
//! pods' names, and all else that a gateway has to read past.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use hugepages::object::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::cluster::Cluster;

/// Items of a page of a list: what the source asks the API server for at a time.
const PAGE: usize = 500;

/// Endpoints of a slice: the endpoint-slice controller's default for its flag `--max-endpoints-per-slice`.
const SLICE: usize = 100;

/// One service in so many is of type LoadBalancer, with a NodePort and an ingress address.
const LOAD_BALANCER: usize = 10;

/// Nodes, as [`Cluster`] has them.
const NODES: usize = 16;

/// Files of lists, a page a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Lists {
    pub(super) nodes: PathBuf,
    pub(super) services: PathBuf,
    pub(super) slices: PathBuf,
}

/// What is in the cluster, and how often it has changed.
#[derive(Debug)]
pub(super) struct Population {
    cluster: Cluster,
    /// Number of the pod behind each endpoint, those of service s from s × endpoints on.
    pods: Vec<usize>,
    changes: usize,
}

impl Population {
    /// As many services as `cluster` has, with as many endpoints each.
    pub(super) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            pods: (0..cluster.services * cluster.endpoints).collect(),
            changes: 0,
        }
    }

    /// Writes the lists into a folder.
    pub(super) fn write(&self, folder: &Path) -> io::Result<Lists> {
        let Cluster {
            services,
            endpoints,
            ..
        } = self.cluster;
        let slices = endpoints.div_ceil(SLICE);
        let lists = Lists {
            nodes: folder.join("nodes"),
            services: folder.join("services"),
            slices: folder.join("slices"),
        };
        write_list(&lists.nodes, "NodeList", NODES, |at| self.node(at))?;
        write_list(&lists.services, "ServiceList", services, |at| {
            self.service(at)
        })?;
        write_list(
            &lists.slices,
            "EndpointSliceList",
            services * slices,
            |at| self.slice(at / slices, at % slices),
        )?;
        Ok(lists)
    }

    /// Replaces the pod behind an endpoint of a service by a new one. Returns the changed slice, as
    /// text, and the new backend.
    pub(super) fn change(&mut self, service: usize, endpoint: usize) -> (String, Backend) {
        let pod = self.pods.len() + self.changes;
        self.changes += 1;
        self.pods[service * self.cluster.endpoints + endpoint] = pod;
        let slice = self.slice(service, endpoint / SLICE);
        (slice.to_string(), self.cluster.backend(pod))
    }

    fn slice(&self, service: usize, slice: usize) -> Value {
        let endpoints = self.cluster.endpoints;
        let first = service * endpoints + slice * SLICE;
        let last = service * endpoints + endpoints.min((slice + 1) * SLICE);
        let owner = service_name(service);
        let pods: Vec<Value> = self.pods[first..last]
            .iter()
            .map(|pod| {
                json!({
                    "addresses": [self.cluster.backend(*pod).address.to_string()],
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "nodeName": node_name(pod % NODES),
                    "targetRef": {
                        "kind": "Pod",
                        "name": format!("{owner}-6d4cf56db6-{pod:05x}"),
                        "namespace": "perf",
                        "uid": uid(0x90d, *pod),
                    },
                    "zone": zone(pod % NODES),
                })
            })
            .collect();
        let mut metadata = self.metadata(&format!("{owner}-{slice:05}"), 0x51, first);
        metadata["generateName"] = format!("{owner}-").into();
        metadata["labels"] = json!({
            "app": owner,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": owner,
        });
        metadata["annotations"] = json!({
            "endpoints.kubernetes.io/last-change-trigger-time":
                format!("2026-01-01T{:02}:{:02}:{:02}Z", self.changes / 3600 % 24, self.changes / 60 % 60, self.changes % 60),
        });
        metadata["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "Service", "name": owner, "uid": uid(0x5e, service),
            "controller": true, "blockOwnerDeletion": true,
        }]);
        json!({
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": pods,
            "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
        })
    }

    fn service(&self, service: usize) -> Value {
        let name = service_name(service);
        let mut metadata = self.metadata(&name, 0x5e, service);
        metadata["labels"] = json!({"app": name});
        let address = self.cluster.frontend(service).to_string();
        let is_balanced = service.is_multiple_of(LOAD_BALANCER);
        let number = service / LOAD_BALANCER;
        let mut port = json!({"protocol": "TCP", "port": 80, "targetPort": 8080});
        let mut status = json!({"loadBalancer": {}});
        // There are 2,768 NodePorts; more services of the type go without.
        if is_balanced && number < 2_768 {
            port["nodePort"] = (30_000 + number).into();
            status = json!({"loadBalancer": {"ingress": [{"ip": ingress(number).to_string(), "ipMode": "VIP"}]}});
        }
        json!({
            "metadata": metadata,
            "spec": {
                "type": if is_balanced { "LoadBalancer" } else { "ClusterIP" },
                "clusterIP": address, "clusterIPs": [address],
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                "selector": {"app": name},
                "ports": [port],
            },
            "status": status,
        })
    }

    fn node(&self, node: usize) -> Value {
        let mut metadata = self.metadata(&node_name(node), 0x40de, node);
        metadata["labels"] = json!({"topology.kubernetes.io/zone": zone(node)});
        // The cluster's addresses: pod `node` is the first one on this node.
        let pods = match self.cluster.backend(node).address {
            IpAddr::V4(v4) => Ipv4Addr::from(v4.to_bits() & 0xfff0_0000).to_string(),
            IpAddr::V6(v6) => v6.to_string(),
        };
        let pods = format!("{pods}/12");
        json!({
            "metadata": metadata,
            "spec": {"podCIDR": pods, "podCIDRs": [pods]},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("100.64.0.{}", 10 + node)}]},
        })
    }

    fn metadata(&self, name: &str, kind: usize, number: usize) -> Value {
        json!({
            "name": name,
            "namespace": "perf",
            "uid": uid(kind, number),
            "resourceVersion": (1_000 + self.changes).to_string(),
            "generation": 1 + self.changes,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{
                "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:ownerReferences": {".": {}}},
                             "f:spec": {}, "f:status": {}},
            }],
        })
    }
}

/// `perf/service-N`, without the namespace.
fn service_name(service: usize) -> String {
    format!("service-{service}")
}

fn node_name(node: usize) -> String {
    format!("node-{node}")
}

fn zone(node: usize) -> &'static str {
    ["zone-a", "zone-b", "zone-c"][node % 3]
}

fn ingress(number: usize) -> IpAddr {
    Ipv4Addr::from(0x6440_0000 + (1 << 21) + number as u32).into()
}

fn uid(kind: usize, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}

/// Writes a list, a page a line.
fn write_list(
    path: &Path,
    kind: &str,
    count: usize,
    item: impl Fn(usize) -> Value,
) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for first in (0..count).step_by(PAGE) {
        let last = count.min(first + PAGE);
        let mut next = String::new();
        if last < count {
            // Writing into a string cannot fail.
            let _ = write!(next, "from-{last}");
        }
        let metadata = json!({"resourceVersion": "1000", "continue": next});
        write!(file, r#"{{"kind":"{kind}","metadata":{metadata},"items":["#)?;
        for at in first..last {
            let comma = if at > first { "," } else { "" };
            write!(file, "{comma}{}", item(at))?;
        }
        writeln!(file, "]}}")?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use portgate_controlplane::convert;
    use portgate_controlplane::model::{ClusterObject, ObjectKind};
    use portgate_controlplane::policy::judge;

    use super::*;
    use crate::controlplane::feeder::gateway_settings;

    #[test]
    fn lists_and_changes_are_understood_and_a_change_is_of_one_endpoint() {
        let cluster = Cluster {
            family: 4,
            services: 12,
            endpoints: 130,
        };
        let mut population = Population::new(cluster);
        let folder = tempfile::tempdir().unwrap();
        let lists = population.write(folder.path()).unwrap();
        let (mut objects, mut warnings) = (Vec::new(), Vec::new());
        for (kind, path) in [
            (ObjectKind::Node, &lists.nodes),
            (ObjectKind::Service, &lists.services),
            (ObjectKind::Slice, &lists.slices),
        ] {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let page: Value = serde_json::from_str(line).unwrap();
                for item in page["items"].as_array().unwrap() {
                    let (_, object) = convert::object(kind, item, &mut warnings).unwrap();
                    objects.extend(object);
                }
            }
        }
        assert_eq!(warnings, []);
        assert_eq!(objects.len(), 16 + 12 + 24);
        let (_, warnings) = judge(&gateway_settings().unwrap(), objects.iter().cloned());
        assert_eq!(warnings, []);

        let (text, backend) = population.change(3, 129);
        let value: Value = serde_json::from_str(&text).unwrap();
        let mut warnings = Vec::new();
        let (name, object) = convert::object(ObjectKind::Slice, &value, &mut warnings).unwrap();
        let Some(ClusterObject::Slice(changed)) = object else {
            panic!("a slice");
        };
        let before = objects.iter().find_map(|object| match object {
            ClusterObject::Slice(slice) if slice.name == name => Some(slice),
            _ => None,
        });
        let before = &before.unwrap().endpoints;
        assert_eq!(changed.endpoints.len(), 30);
        let different: Vec<_> = (0..30)
            .filter(|at| before[*at] != changed.endpoints[*at])
            .collect();
        assert_eq!(different, [29]);
        assert_eq!(changed.endpoints[29].address, backend.address);
    }
}
