//! The standard topology: clients outside, the gateway, and pods behind it.
//!
//! ```text
//!   client                     gateway                         pods
//!   203.0.113.50, .51          outside 203.0.113.10            switch ── pod 100.96.2.2
//!   2001:db8:1::50, ::51  ──── 2001:db8:1::10                    │    ── pod 100.96.2.6
//!                              pods 100.96.2.1        ───────────┘    ── ...
//!                              fd00:100:96:2::1
//! ```
//!
//! The gateway's devices have no addresses in the kernel: whatever answers there is the gateway.
//! A pod has its address alone (/32, /128) and reaches everything through the gateway, as behind
//! a routed pod network, so replies between two pods pass the gateway too.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::manifests::{Manifests, Protocol, Service, ServicePort};
use crate::netns::{self, Namespace, Offloads, connect};
use crate::process::Process;
use crate::{echo, nginx};

/// Addresses of the gateway on the link `outside`; NodePorts are served here.
pub const OUTSIDE: [IpAddr; 2] = [v4(203, 0, 113, 10), v6(0x2001, 0xdb8, 1, 0, 0x10)];
/// Addresses of the gateway on the link `pods`; what it masquerades with.
pub const INSIDE: [IpAddr; 2] = [v4(100, 96, 2, 1), v6(0xfd00, 0x100, 0x96, 2, 1)];
/// IPv4 addresses of the client.
pub const CLIENT_V4: [IpAddr; 2] = [v4(203, 0, 113, 50), v4(203, 0, 113, 51)];
/// IPv6 addresses of the client.
pub const CLIENT_V6: [IpAddr; 2] = [v6(0x2001, 0xdb8, 1, 0, 0x50), v6(0x2001, 0xdb8, 1, 0, 0x51)];
/// ClusterIPs of the Service `mynginx`.
pub const CLUSTER: [IpAddr; 2] = [v4(100, 68, 181, 31), v6(0xfd00, 0x100, 0x68, 0, 0x31)];
/// NodePort of HTTP of the Service `mynginx`.
pub const HTTP_NODE_PORT: u16 = 30379;
/// ClusterIP port and target port of HTTP.
pub const HTTP: u16 = 80;
/// NodePort of the echo servers, TCP and UDP.
pub const ECHO_NODE_PORT: u16 = 30007;
/// ClusterIP port and target port of the echo servers, TCP and UDP.
pub const ECHO: u16 = 7;

/// What tests vary.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Last part of each pod's addresses.
    pub pods: &'static [u8],
    /// Workers of the data plane.
    pub workers: u16,
    /// Driver of both links: `af_packet` or `af_xdp`.
    pub driver: &'static str,
    /// One queue for each link instead, over AF_PACKET, and this `fan_out`.
    pub fan_out: Option<&'static str>,
    /// Offloads of the client's and the pods' devices.
    pub offloads: Offloads,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            pods: &[2, 6],
            workers: 1,
            driver: "af_packet",
            fan_out: None,
            offloads: Offloads::Off,
        }
    }
}

/// The namespaces, without any program in them yet.
#[derive(Debug)]
pub struct Topology {
    /// Where the clients are; device `eth0`.
    pub client: Namespace,
    /// Where the gateway's processes run; devices `outside` and `pods`.
    pub gateway: Namespace,
    /// The manifests that the control plane watches.
    pub manifests: Manifests,
    pods: Vec<Namespace>,
    switch: Namespace,
    plan: Plan,
    region: Region,
    directory: TempDir,
}

impl Topology {
    /// Builds the network of `plan`.
    ///
    /// # Panics
    /// Without root, or if the kernel lacks what is needed.
    pub fn new(plan: Plan) -> Self {
        let client = Namespace::new("client");
        let gateway = Namespace::new("gateway");
        let switch = Namespace::new("switch");
        for namespace in [&gateway, &switch] {
            // The kernel must not speak on devices that are the gateway's or a mere wire.
            namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        }
        connect((&client, "eth0"), (&gateway, "outside"), plan.offloads);
        connect((&switch, "uplink"), (&gateway, "pods"), plan.offloads);
        switch.ip("link add br0 type bridge mcast_snooping 0");
        switch.ip("link set uplink master br0");
        switch.ip("link set br0 up");

        dress_client(&client);
        let pods = plan
            .pods
            .iter()
            .map(|number| pod(&switch, *number, plan.offloads))
            .collect();

        let directory =
            tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"));
        let manifests = Manifests::new(directory.path().join("manifests"));
        Self {
            client,
            gateway,
            manifests,
            pods,
            switch,
            plan,
            region: Region::new(),
            directory,
        }
    }

    /// Namespace of the `index`th pod of the plan; its device is `eth0`.
    pub fn pod(&self, index: usize) -> &Namespace {
        &self.pods[index]
    }

    /// IPv4 and IPv6 address of the `index`th pod of the plan.
    pub fn pod_addresses(&self, index: usize) -> [IpAddr; 2] {
        pod_addresses(self.plan.pods[index])
    }

    /// The namespace whose bridge joins the pods to the gateway.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Where logs and configuration are kept until the end of the test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Lets TCP of the client and of the pods try again at least every second, if the kernel can be told so (from 6.15
    /// on), and never give up. It else waits twice as long after each loss, and a connection whose
    /// tries fall into several pauses in a row looks like a lost one.
    pub fn try_tcp_often(&self) {
        for namespace in self.pods.iter().chain([&self.client]) {
            if namespace.has_sysctl("net.ipv4.tcp_rto_max_ms") {
                namespace.sysctl("net.ipv4.tcp_rto_max_ms", "1000");
                for retries in ["tcp_retries2", "tcp_syn_retries", "tcp_synack_retries"] {
                    namespace.sysctl(&format!("net.ipv4.{retries}"), "120");
                }
            }
        }
    }

    /// Longest packet, in bytes, that every device from the client to the pods carries.
    pub fn set_mtu(&self, mtu: u16) {
        let ends = self.pods.iter().chain([&self.client]);
        let ends = ends.map(|namespace| (namespace, "eth0".to_owned()));
        let gateway = ["outside", "pods"].map(|device| (&self.gateway, device.to_owned()));
        let ports = self.plan.pods.iter().map(|number| format!("pod{number}"));
        let ports = ports.chain(["uplink".to_owned()]);
        let ports = ports.map(|port| (&self.switch, port));
        for (namespace, device) in ends.chain(gateway).chain(ports) {
            namespace.ip(&format!("link set {device} mtu {mtu}"));
        }
    }

    /// The region's file.
    pub fn region_file(&self) -> PathBuf {
        self.region.file()
    }

    /// Starts both processes of the gateway and waits until they serve.
    pub fn start_gateway(&self) -> Gateway<'_> {
        Gateway::start(&self.gateway, &self.configuration(), self.directory())
    }

    /// Starts nginx in the `index`th pod; it answers `pod-<index>` and a newline.
    pub fn start_nginx(&self, index: usize) -> Process {
        nginx::start(self.pod(index), &format!("pod-{index}"), self.directory())
    }

    /// Starts the echo servers, TCP and UDP, in the `index`th pod; datagrams come back with
    /// `pod-<index>`, the sender's address and spaces in front.
    pub fn start_echo(&self, index: usize) -> [echo::Server; 2] {
        let pod = self.pod(index);
        [
            echo::tcp(pod, ECHO),
            echo::udp(pod, ECHO, &format!("pod-{index}")),
        ]
    }

    /// The Service `mynginx` with HTTP and with echo over TCP and UDP.
    pub fn service(&self) -> Service {
        let port = |protocol, port, node_port| ServicePort {
            protocol,
            port,
            target: port,
            node_port: Some(node_port),
        };
        let ports = [
            port(Protocol::Tcp, HTTP, HTTP_NODE_PORT),
            port(Protocol::Tcp, ECHO, ECHO_NODE_PORT),
            port(Protocol::Udp, ECHO, ECHO_NODE_PORT),
        ];
        Service::new("mynginx", &CLUSTER, &ports)
    }

    /// Applies the Service `mynginx` with the pods of these indexes as its endpoints.
    pub fn apply(&self, pods: &[usize]) {
        self.apply_as(&self.service(), pods);
    }

    /// Applies a Service with the pods of these indexes as its endpoints.
    pub fn apply_as(&self, service: &Service, pods: &[usize]) {
        let addresses: Vec<_> = pods
            .iter()
            .flat_map(|index| self.pod_addresses(*index))
            .collect();
        self.manifests.apply(service);
        self.manifests.endpoints(service, &addresses);
    }

    /// A link's device on this interface, and what else it is told.
    fn device(&self, interface: &str) -> String {
        let Some(fan_out) = self.plan.fan_out else {
            return format!("\"{}:{interface}\"", self.plan.driver);
        };
        let slots = "framesz=2048,blocksz=4096,framecnt=1024";
        let device = format!("vdev:net_af_packet_{interface},iface={interface},qpairs=1,{slots}");
        format!("\"{device}\"\nfan_out = \"{fan_out}\"")
    }

    /// The gateway's configuration file.
    pub fn configuration(&self) -> String {
        let workers = self.plan.workers;
        let [outside, pods] = ["outside", "pods"].map(|interface| self.device(interface));
        let region = self.region.file();
        format!(
            r#"[region]
path = "{}"
huge_pages = "off"
flows = 65536
packet_memory_mb = 64

[gateway]
mode = "edge"
cluster_cidrs = ["100.96.0.0/16", "fd00:100:96::/48"]
service_cidrs = ["100.68.0.0/16", "fd00:100:68::/112"]

[[links]]
name = "outside"
device = {outside}
addresses = ["{}/24", "{}/64"]

[[links]]
name = "pods"
device = {pods}
addresses = ["{}/24", "{}/64"]

[workers]
count = {workers}
idle_sleep_us = 50

[source]
kind = "manifests"
path = "{}"

[metrics]
listen = "127.0.0.1:9102"
"#,
            region.display(),
            OUTSIDE[0],
            OUTSIDE[1],
            INSIDE[0],
            INSIDE[1],
            self.manifests.path().display(),
        )
    }
}

/// `http://<address>:<port>/`.
pub fn url(address: IpAddr, port: u16) -> String {
    format!("http://{}/", SocketAddr::new(address, port))
}

/// Path of a region file that is the test's own; removed on drop.
#[derive(Debug)]
struct Region {
    directory: PathBuf,
}

impl Region {
    /// The names that [`sweep`](Self::sweep) knows.
    const PREFIX: &str = "portgate-test-";

    fn new() -> Self {
        Self::sweep();
        let name = format!("{}{}-{}", Self::PREFIX, std::process::id(), netns::unique());
        let directory = Path::new("/dev/shm").join(name);
        fs::create_dir(&directory)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
        Self { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("region")
    }

    /// Removes the regions of tests that were killed.
    fn sweep() {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix(Self::PREFIX)
                .and_then(|rest| rest.split('-').next());
            let owner = owner.and_then(|pid| pid.parse().ok());
            if owner.is_some_and(|pid| !netns::alive(pid)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn dress_client(client: &Namespace) {
    for address in CLIENT_V4 {
        client.add_address("eth0", address, 24);
    }
    for address in CLIENT_V6 {
        client.add_address("eth0", address, 64);
    }
    client.ip(&format!("route add default via {}", OUTSIDE[0]));
    client.ip(&format!("-6 route add default via {}", OUTSIDE[1]));
}

/// A pod on the switch, with routes that lead everywhere through the gateway.
fn pod(switch: &Namespace, number: u8, offloads: Offloads) -> Namespace {
    let pod = Namespace::new(&format!("pod{number}"));
    let port = format!("pod{number}");
    connect((&pod, "eth0"), (switch, &port), offloads);
    switch.ip(&format!("link set {port} master br0"));

    let [address, address6] = pod_addresses(number);
    pod.add_address("eth0", address, 32);
    pod.add_address("eth0", address6, 128);
    pod.ip(&format!("route add {} dev eth0", INSIDE[0]));
    pod.ip(&format!("route add default via {}", INSIDE[0]));
    pod.ip(&format!("-6 route add {} dev eth0", INSIDE[1]));
    pod.ip(&format!("-6 route add default via {}", INSIDE[1]));
    pod
}

fn pod_addresses(number: u8) -> [IpAddr; 2] {
    [
        v4(100, 96, 2, number),
        v6(0xfd00, 0x100, 0x96, 2, number.into()),
    ]
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last))
}
