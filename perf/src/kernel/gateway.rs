//! The gateway's own programs between the same veths.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::network::Network;
use crate::Error;
use crate::engine::cluster::{Cluster, LINK_MACS};
use crate::lab::process::Process;

/// Flows that the gateway has room for.
const FLOWS: usize = 262_144;

/// Both processes, the data plane first to be stopped.
#[derive(Debug)]
pub(super) struct Gateway {
    dataplane: Process,
    _controlplane: Process,
}

impl Gateway {
    /// Starts the gateway in the forwarder's namespace, its worker on `cpu`, with what the cluster has.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if a program is missing or does not get ready, with what it said.
    pub(super) fn start(
        network: &Network,
        cluster: &Cluster,
        driver: &str,
        cpu: usize,
        directory: &Path,
    ) -> Result<Self, Error> {
        let binaries = binaries()?;
        let fail = |error: std::io::Error| {
            Error::Run(format!("the gateway's files cannot be written: {error}"))
        };
        let manifests = directory.join("manifests");
        fs::create_dir_all(&manifests).map_err(fail)?;
        let file = directory.join("portgate.toml");
        fs::write(&file, configuration(driver, cpu, directory, &manifests)).map_err(fail)?;
        fs::write(manifests.join("objects.json"), objects(cluster)).map_err(fail)?;
        let start = |name: &str, ready: &str| {
            let mut command = network.forwarder.command(binaries.join(name));
            command.arg("--config").arg(&file);
            Process::start(name, command, ready, directory)
        };
        Ok(Self {
            dataplane: start("portgate-dataplane", "portgate-dataplane ready")?,
            _controlplane: start("portgate-controlplane", "portgate-controlplane synced")?,
        })
    }

    /// Fails if it has ended meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] with its last words.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        self.dataplane.check()
    }
}

/// Folder of the programs: `$PORTGATE_BIN`, or beside this one.
fn binaries() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = std::env::var_os("PORTGATE_BIN")
        .map(PathBuf::from)
        .or_else(|| Some(program.parent()?.to_owned()))
        .unwrap_or_default();
    for name in ["portgate-dataplane", "portgate-controlplane"] {
        if !folder.join(name).is_file() {
            return Err(Error::Run(format!(
                "{} is missing: run `ci/run.sh build`, or name the folder of the programs in PORTGATE_BIN",
                folder.join(name).display()
            )));
        }
    }
    Ok(folder)
}

/// A List of every Service and its EndpointSlice.
fn objects(cluster: &Cluster) -> String {
    let mut items = Vec::new();
    for service in 0..cluster.services {
        let name = format!("service-{service}");
        let address = cluster.frontend(service);
        items.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": "perf" },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": address,
                "clusterIPs": [address],
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }],
            },
        }));
        let first = service * cluster.endpoints;
        let endpoints: Vec<_> = (first..first + cluster.endpoints)
            .map(|pod| {
                json!({
                    "addresses": [cluster.backend(pod).address],
                    "conditions": { "ready": true, "serving": true, "terminating": false },
                })
            })
            .collect();
        items.push(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"),
                "namespace": "perf",
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
            "endpoints": endpoints,
        }));
    }
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn configuration(driver: &str, cpu: usize, directory: &Path, manifests: &Path) -> String {
    let [outside, nodes] = LINK_MACS.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
    let mut routes = String::new();
    for node in 0..16 {
        routes += &format!(
            "[[routes]]\nto = \"10.{}.0.0/12\"\nvia = \"100.64.0.{}\"\n",
            16 * node,
            10 + node
        );
    }
    format!(
        r#"[region]
path = "{region}"
huge_pages = "off"
flows = {FLOWS}
packet_memory_mb = 64

[gateway]
cluster_cidrs = ["10.0.0.0/8"]
service_cidrs = ["172.16.0.0/16"]

[[links]]
name = "outside"
device = "{driver}:outside"
mac = "{outside}"
addresses = ["203.0.113.10/24"]

[[links]]
name = "nodes"
device = "{driver}:nodes"
mac = "{nodes}"
addresses = ["100.64.0.1/24"]

[[routes]]
to = "0.0.0.0/0"
via = "203.0.113.1"
{routes}
[workers]
cores = [{cpu}]

[source]
kind = "manifests"
path = "{manifests}"

[metrics]
listen = "127.0.0.1:9102"
"#,
        region = directory.join("region").display(),
        manifests = manifests.display(),
    )
}
