//! A real Kubernetes API server with its endpoint controllers, in a namespace of its own.
//!
//! ```text
//!   cluster                                    a node or gateway
//!   etcd            127.0.0.1:2379             mgmt 192.168.255.(4n+2)
//!   API server      192.168.254.1:6443 (lo) ── mgmt<n> 192.168.255.(4n+1)
//!   controllers
//! ```
//!
//! The programs are those of the published Kubernetes, provided by `ci/cluster/build.sh`. What they
//! do not run here is a scheduler and a kubelet: pods are placed and made ready by
//! [`agent`], through the pod's binding and status as a kubelet would. EndpointSlices are made by
//! Kubernetes.

pub mod agent;
pub mod api;
pub mod generate;
pub mod pair;
mod pki;
pub mod probe;
pub mod programs;
mod sctp;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::netns::{Namespace, Offloads, connect, finish};
use crate::process::Process;
use crate::wait;
use api::Api;
use pki::Pki;
use programs::program;

/// Address of the API server, on the loopback device of its namespace.
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 254, 1));
/// Port of the API server.
const PORT: u16 = 6443;
/// Where the controllers and the test itself reach it.
const LOCAL: &str = "https://127.0.0.1:6443";
/// Where etcd answers.
const ETCD: &str = "http://127.0.0.1:2379";
/// Where Services get their ClusterIPs from. Small on purpose: the server rewrites a bitmap of the
/// whole range for each Service.
pub const SERVICE_CIDRS: [&str; 2] = ["100.68.0.0/18", "fd00:100:68::/112"];
/// What the gateway is allowed; applied to every cluster.
const RBAC: &str = include_str!("../../cluster/rbac.yaml");
/// The controllers that make EndpointSlices, and those that a rolling update needs.
const CONTROLLERS: &str = "endpointslice-controller,endpointslice-mirroring-controller,\
                           endpoints-controller,deployment-controller,replicaset-controller";
/// How long the programs may take to be ready on a busy machine.
const READY: Duration = Duration::from_secs(90);

/// A running cluster; its processes and its namespace go away on drop.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order: programs, then what they stand on.
    controllers: Process,
    server: Option<Process>,
    etcd: Process,
    pki: Pki,
    attached: AtomicU8,
    namespace: Namespace,
    directory: TempDir,
}

impl Cluster {
    /// Starts a cluster and waits until it serves, with the gateway's service account in it.
    ///
    /// # Panics
    /// If a program is missing or does not become ready.
    pub fn start() -> Self {
        let directory =
            tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let home = directory.path();
        let namespace = Namespace::new("cluster");
        namespace.add_address("lo", SERVER, 32);
        let pki = Pki::make(home, SERVER);
        pki.write_kubeconfig(&home.join("admin.kubeconfig"), LOCAL, pki::ADMIN_TOKEN);

        let etcd = start_etcd(&namespace, home);
        let server = start_server(&namespace, &pki, home);
        let controllers = start_controllers(&namespace, &pki, home);
        let cluster = Self {
            controllers,
            server: Some(server),
            etcd,
            pki,
            attached: AtomicU8::new(0),
            namespace,
            directory,
        };
        cluster.wait_until_ready();
        cluster.kubectl_with(&["apply", "-f", "-"], RBAC);
        cluster
    }

    /// The API as the administrator sees it.
    pub fn api(&self) -> Api<'_> {
        Api::new(
            &self.namespace,
            LOCAL,
            self.pki.authority(),
            pki::ADMIN_TOKEN,
        )
    }

    /// Runs `kubectl` as the administrator and returns what it prints.
    ///
    /// # Panics
    /// With kubectl's own words if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    /// `kubectl apply` of one or more objects, as YAML or JSON.
    pub fn apply(&self, objects: &str) {
        self.kubectl_with(&["apply", "-f", "-"], objects);
    }

    /// What kubectl and the API server would make of these objects, as a list in JSON, without keeping them.
    ///
    /// # Errors
    /// Their words, if they refuse any, or know a field not.
    pub fn validate(&self, objects: &str) -> Result<String, String> {
        let arguments = [
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "--output=json",
            "--filename=-",
        ];
        self.try_kubectl(&arguments, objects)
    }

    /// Writes what a node's kubelet writes: the Node itself, its pod networks, its zone and its
    /// addresses.
    pub fn add_node(&self, name: &str, zone: &str, addresses: &[&str], pod_cidrs: &[&str]) {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name,
                "topology.kubernetes.io/zone": zone,
            }},
            "spec": {"podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs},
        });
        let internal = |address: &&str| json!({"type": "InternalIP", "address": address});
        let status = json!({"status": {
            "addresses": addresses.iter().map(internal).collect::<Vec<_>>(),
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                            "message": "ready", "lastHeartbeatTime": null,
                            "lastTransitionTime": null}],
        }});
        let api = self.api();
        api.post("/api/v1/nodes", &node).unwrap_or_else(refused);
        let path = format!("/api/v1/nodes/{name}/status");
        api.patch(&path, &status).unwrap_or_else(refused);
    }

    /// Joins another namespace to the cluster: a veth pair, and a route to the API server.
    /// Returns the name of the cluster's end, for [`set_link`](Self::set_link), and the address of
    /// the other one, whose name is `mgmt`.
    pub fn attach(&self, namespace: &Namespace) -> (String, IpAddr) {
        // Relaxed: the number only has to differ from all others.
        let number = self.attached.fetch_add(1, Ordering::Relaxed);
        let device = format!("mgmt{number}");
        let address = |last| IpAddr::V4(Ipv4Addr::new(192, 168, 255, 4 * number + last));
        connect(
            (&self.namespace, &device),
            (namespace, "mgmt"),
            Offloads::Kernel,
        );
        self.namespace.add_address(&device, address(1), 30);
        namespace.add_address("mgmt", address(2), 30);
        namespace.ip(&format!("route add {SERVER} via {}", address(1)));
        (device, address(2))
    }

    /// Takes the cluster's end of a link down or up again: the other side hears nothing meanwhile,
    /// not even that its connections are dead.
    pub fn set_link(&self, device: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        self.namespace.ip(&format!("link set {device} {state}"));
    }

    /// A kubeconfig of the gateway's own service account, with a token that Kubernetes issued for
    /// it, for use in a namespace that was [attached](Self::attach).
    pub fn gateway_kubeconfig(&self) -> PathBuf {
        let token = self.kubectl(&[
            "create",
            "token",
            "portgate",
            "--namespace=portgate",
            "--duration=24h",
        ]);
        let path = self.directory.path().join("gateway.kubeconfig");
        self.pki
            .write_kubeconfig(&path, &server_url(), token.trim());
        path
    }

    /// The administrator's kubeconfig for use in a namespace that was [attached](Self::attach).
    pub fn admin_kubeconfig(&self) -> PathBuf {
        let path = self.directory.path().join("node.kubeconfig");
        self.pki
            .write_kubeconfig(&path, &server_url(), pki::ADMIN_TOKEN);
        path
    }

    /// Kills the API server without warning.
    pub fn kill_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill9();
        }
    }

    /// Starts the API server again, on the same etcd, and waits until it serves.
    pub fn start_server(&mut self) {
        self.server = Some(start_server(
            &self.namespace,
            &self.pki,
            self.directory.path(),
        ));
        self.wait_until_ready();
    }

    /// Breaks every connection to the API server that comes from outside, as a load balancer or a
    /// firewall between would: both ends see a reset.
    pub fn break_connections(&self) -> usize {
        let kill = ["-K", "-H", "state", "established", "src", "192.168.254.1"];
        let killed = finish(self.namespace.command("ss").args(kill));
        killed.lines().count()
    }

    /// Makes etcd forget its history up to now: a watch from an older version, if the API server
    /// does not have it in memory, is answered with 410 Gone.
    pub fn compact(&self) {
        let ask = |path: &str, body: Value| -> Value {
            let answer = finish(
                self.namespace
                    .command("curl")
                    .args(["-sS", "--fail", "--data", &body.to_string()])
                    .arg(format!("{ETCD}{path}")),
            );
            serde_json::from_str(&answer)
                .unwrap_or_else(|error| panic!("etcd said {answer:?}: {error}"))
        };
        // The key is of no interest: every answer holds the revision.
        let range = ask("/v3/kv/range", json!({"key": "AA=="}));
        let revision = &range["header"]["revision"];
        assert!(revision.is_string(), "no revision in {range}");
        ask(
            "/v3/kv/compaction",
            json!({"revision": revision, "physical": true}),
        );
    }

    /// Process ids of etcd, the API server and the controllers.
    pub fn processes(&self) -> Vec<u32> {
        let server = self.server.as_ref().map(Process::id);
        [Some(self.etcd.id()), server, Some(self.controllers.id())]
            .into_iter()
            .flatten()
            .collect()
    }

    fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        self.try_kubectl(arguments, input)
            .unwrap_or_else(|said| panic!("kubectl {} failed: {said}", arguments.join(" ")))
    }

    fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let file = self.directory.path().join("kubectl.input");
        fs::write(&file, input)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        let opened = fs::File::open(&file)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        let mut command = self.namespace.command(program("kubectl"));
        command
            .env("HOME", self.directory.path())
            .arg("--kubeconfig")
            .arg(self.directory.path().join("admin.kubeconfig"))
            .args(arguments)
            .stdin(Stdio::from(opened));
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run kubectl: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr).trim().to_owned())
        }
    }

    fn wait_until_ready(&self) {
        let api = self.api();
        wait::until("the API server is ready", READY, || {
            api.text("/readyz").ok().filter(|text| text == "ok")
        });
        // Made by the server itself a little later.
        wait::until("the namespace `default` is there", READY, || {
            api.get("/api/v1/namespaces/default").ok()
        });
    }
}

fn server_url() -> String {
    format!("https://{SERVER}:{PORT}")
}

fn refused<T>(said: String) -> T {
    panic!("the API server refused: {said}")
}

fn start_etcd(namespace: &Namespace, home: &Path) -> Process {
    let mut command = namespace.command(program("etcd"));
    command
        .arg(format!("--data-dir={}", home.join("etcd").display()))
        .args([
            "--name=one",
            // The cluster does not outlive the test.
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=one=http://127.0.0.1:2380",
        ])
        .arg(format!("--listen-client-urls={ETCD}"))
        .arg(format!("--advertise-client-urls={ETCD}"));
    Process::start("etcd", command, home)
}

fn start_server(namespace: &Namespace, pki: &Pki, home: &Path) -> Process {
    let mut command = namespace.command(program("kube-apiserver"));
    command
        .arg(format!("--etcd-servers={ETCD}"))
        // Only the test compacts.
        .arg("--etcd-compaction-interval=0")
        .arg(format!("--secure-port={PORT}"))
        .args(["--bind-address=0.0.0.0", "--endpoint-reconciler-type=none"])
        // As kubeadm has it: the chart's pods open devices.
        .arg("--allow-privileged=true")
        .arg(format!("--advertise-address={SERVER}"))
        .arg(format!(
            "--service-cluster-ip-range={}",
            SERVICE_CIDRS.join(",")
        ))
        // No controller makes service accounts for pods here.
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg("--authorization-mode=RBAC")
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .args(pki.server_arguments());
    Process::start("kube-apiserver", command, home)
}

fn start_controllers(namespace: &Namespace, pki: &Pki, home: &Path) -> Process {
    let mut command = namespace.command(program("kube-controller-manager"));
    command
        .arg(format!(
            "--kubeconfig={}",
            home.join("admin.kubeconfig").display()
        ))
        .arg(format!("--controllers={CONTROLLERS}"))
        .arg(format!("--cert-dir={}", pki.directory().display()))
        .args([
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--endpointslice-updates-batch-period=0s",
            "--endpoint-updates-batch-period=0s",
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
        ]);
    Process::start("kube-controller-manager", command, home)
}
