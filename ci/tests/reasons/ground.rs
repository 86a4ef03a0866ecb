//! The networks in which drops are provoked.
//!
//! ```text
//!   client ──── outside ┐         ┌ pods ──── switch ── pod 0
//!               MTU 4000│ gateway │
//!   far ─────── odd ────┤         ├ narrow    MTU 68, nobody there
//!               by pcap └─────────┴ bare      no address of its own
//! ```
//!
//! `odd` is DPDK's net_pcap: frames come in as they are, fragments and what needs several buffers included, and when the
//! interface is down it takes no frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ci::capture::Capture;
use ci::gateway::Gateway;
use ci::manifests::{Protocol, Service, ServicePort};
use ci::netns::{Namespace, Offloads, connect};
use ci::topology::{CLUSTER, Plan, Topology};
use ci::wait;
use serde_json::{Value, json};

use crate::PATIENCE;

/// Where the client is.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);
/// Where the host at the link `odd` is.
pub const FAR: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(198, 18, 5, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 2),
);
/// The gateway on the link `odd`.
pub const ODD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 1);
pub const ODD_MAC: [u8; 6] = [2, 0, 0, 0, 5, 1];

/// ClusterIP of the Service of the standard topology.
pub const SERVED: Ipv4Addr = match CLUSTER[0] {
    IpAddr::V4(address) => address,
    IpAddr::V6(_) => panic!("an IPv4 address"),
};
/// Port of every other Service, TCP and UDP.
pub const PORT: u16 = 9000;
/// NodePort of the Service whose flows are reset.
pub const PARTING: u16 = 30900;
/// Without endpoints.
pub const HOLLOW: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 1);
/// With an endpoint behind the link `narrow`.
pub const NARROW: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 2);
/// With an endpoint to which no route leads.
pub const LOST: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 3);
/// With an endpoint behind the link `bare`.
pub const BARE: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 4);
/// With an endpoint that is not there.
pub const ABSENT: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 5);
/// With the host at the link `odd` as its endpoint.
pub const DISTANT: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 6);
/// With internalTrafficPolicy Local.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 7);
/// Two more, with pod 0 as the endpoint.
pub const CROWDED: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 8);
pub const POPULAR: Ipv4Addr = Ipv4Addr::new(100, 68, 9, 9);
/// Address of a load balancer whose sources are restricted.
pub const PICKY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);

const ROOM: &str = "packet_memory_mb = 64";

const MORE_LINKS: &str = r#"
[[links]]
name = "odd"
device = "vdev:net_pcap0,iface=odd"
mac = "02:00:00:00:05:01"
addresses = ["198.18.5.1/24", "2001:db8:5::1/64"]

[[links]]
name = "narrow"
device = "af_packet:narrow"
addresses = ["192.0.2.129/25"]
mtu = 68

[[links]]
name = "bare"
device = "af_packet:bare"

[[routes]]
to = "198.18.6.0/24"
link = "bare"
"#;

/// A network and what its gateway is told.
pub struct Ground {
    pub net: Topology,
    pub configuration: String,
    pub far: Namespace,
    pub outside: Capture,
    /// At the far end of the link `odd`.
    pub odd: Capture,
    services: usize,
}

impl Ground {
    /// Links and services of every kind.
    pub fn common() -> Self {
        // Two workers, and one queue at the link `odd`: one of them has to hand frames over.
        let mut ground = Self::new(2, |text| {
            let mtu = "name = \"outside\"\nmtu = 4000";
            text.replace("name = \"outside\"", mtu)
                .replace(ROOM, "packet_memory_mb = 256")
                + MORE_LINKS
        });
        ground.apply("hollow", HOLLOW, &[]);
        ground.apply("narrow", NARROW, &[[192, 0, 2, 130].into()]);
        ground.apply("lost", LOST, &[[198, 18, 7, 7].into()]);
        ground.apply("bare", BARE, &[[198, 18, 6, 7].into()]);
        ground.apply("absent", ABSENT, &[[100, 96, 2, 99].into()]);
        ground.apply("distant", DISTANT, &[FAR.0.into()]);
        ground.apply_local();
        ground.apply_picky();
        ground.part(&[0]);
        ground.services += 1;
        ground
    }

    /// Few new flows a second, eight masquerade ports, a node, and a link that the kernel shares, with one frame a second
    /// for it.
    pub fn tight() -> Self {
        let mut ground = Self::new(1, |text| {
            let node = "mode = \"node\"\nnode_name = \"here\"\nnodeport_range = \"1024-65527\"";
            let device = "device = \"af_packet:outside\"";
            assert!(text.contains(device), "{text}");
            let shared = format!("{device}\nkernel_interface = \"shared\"");
            let limits = "new_flows_per_source = 3\nnew_flows_per_service = 40\nkernel_frames = 1";
            text.replace("mode = \"edge\"", node)
                .replace(device, &shared)
                + &format!("[limits]\n{limits}\n")
        });
        let [pod, _] = ground.net.pod_addresses(0);
        ground.apply("crowded", CROWDED, &[pod]);
        ground.apply("popular", POPULAR, &[pod]);
        ground.apply_local();
        ground
    }

    /// Small tables.
    pub fn full() -> Self {
        Self::new(1, |text| {
            text.replace("flows = 65536", "flows = 1024\nflows_v6 = 16384")
                + "[limits]\nhalf_open_percent = 100\nhalf_open_per_service_percent = 100\n"
        })
    }

    /// Two workers and one queue, whose frames they share.
    pub fn shared() -> Self {
        let plan = Plan {
            workers: 2,
            fan_out: Some("even"),
            ..Plan::default()
        };
        Self::with(plan, |text| text)
    }

    fn new(workers: u16, configure: impl FnOnce(String) -> String) -> Self {
        let plan = Plan {
            workers,
            ..Plan::default()
        };
        Self::with(plan, configure)
    }

    fn with(plan: Plan, configure: impl FnOnce(String) -> String) -> Self {
        let net = Topology::new(plan);
        net.apply(&[0]);
        let far = Namespace::new("far");
        for (near, device) in [("odd", "eth0"), ("narrow", "eth1"), ("bare", "eth2")] {
            connect((&far, device), (&net.gateway, near), Offloads::Off);
        }
        far.add_address("eth0", FAR.0.into(), 24);
        far.add_address("eth0", FAR.1.into(), 64);
        for (namespace, device) in [
            (&net.gateway, "outside"),
            (&net.client, "eth0"),
            (&net.gateway, "odd"),
            (&far, "eth0"),
        ] {
            namespace.ip(&format!("link set {device} mtu 9000"));
        }
        Self {
            configuration: configure(net.configuration()),
            outside: Capture::on(&net.client, "eth0"),
            odd: Capture::on(&far, "eth0"),
            net,
            far,
            services: 1,
        }
    }

    /// Starts a gateway and waits until it serves everything that was applied.
    pub fn start(&self) -> Gateway<'_> {
        let net = &self.net;
        let gateway = Gateway::start(&net.gateway, &self.configuration, net.directory());
        wait::until("all services are installed", PATIENCE, || {
            let shown = gateway.portgate_json(&["services"]);
            let services = shown["services"].as_array().into_iter().flatten();
            let names: std::collections::BTreeSet<_> =
                services.filter_map(|one| one["service"].as_str()).collect();
            (names.len() == self.services).then_some(())
        });
        gateway
    }

    /// The Service whose flows are reset when their endpoint leaves, with these pods.
    pub fn part(&self, pods: &[usize]) {
        let port = ServicePort {
            protocol: Protocol::Tcp,
            port: PORT,
            target: PORT,
            node_port: Some(PARTING),
        };
        let mut service = Service::new("parting", &[[100, 68, 9, 99].into()], &[port]);
        service.annotations = vec![("portgate.dev/on-endpoint-gone", "reset".to_owned())];
        self.net.apply_as(&service, pods);
    }

    /// A Service of type ClusterIP, TCP and UDP.
    fn apply(&mut self, name: &str, address: Ipv4Addr, endpoints: &[IpAddr]) {
        let port = |protocol| ServicePort {
            protocol,
            port: PORT,
            target: PORT,
            node_port: None,
        };
        let ports = [port(Protocol::Tcp), port(Protocol::Udp)];
        let service = Service::new(name, &[address.into()], &ports);
        self.net.manifests.apply(&service);
        self.net.manifests.endpoints(&service, endpoints);
        self.services += 1;
    }

    fn apply_local(&mut self) {
        let spec = json!({
            "clusterIP": LOCAL, "clusterIPs": [LOCAL], "internalTrafficPolicy": "Local",
            "ports": [{"port": PORT, "protocol": "TCP"}],
        });
        self.write("local", &spec, &json!({}));
    }

    fn apply_picky(&mut self) {
        let spec = json!({
            "type": "LoadBalancer", "clusterIP": "100.68.9.10", "clusterIPs": ["100.68.9.10"],
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "ports": [{"port": PORT, "protocol": "TCP"}],
        });
        let status = json!({"loadBalancer": {"ingress": [{"ip": PICKY}]}});
        self.write("picky", &spec, &status);
    }

    /// A Service with pod 0, which is on some other node, as its endpoint.
    fn write(&mut self, name: &str, spec: &Value, status: &Value) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": spec, "status": status,
        });
        let [pod, _] = self.net.pod_addresses(0);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{name}-x"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "endpoints": [{"addresses": [pod], "nodeName": "elsewhere"}],
            "ports": [{"port": PORT, "protocol": "TCP"}],
        });
        let manifests = &self.net.manifests;
        manifests.write(&format!("{name}.json"), &service.to_string());
        manifests.write(&format!("{name}-slice.json"), &slice.to_string());
        self.services += 1;
    }
}
