//! A region in a temporary folder as a running data plane leaves it, and the real binary on it.
// Each test binary uses its own part; a helper that fails is a failed test.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use engine::Reason;
use engine::counters::{Counters, LinkCounter, ServiceCounter, Total};
use engine::endpoints::EndpointSlots;
use engine::family::{Family, V4, V6};
use engine::flow::state::{ACK, SYN};
use engine::flow::{FlowTable, Hop, NewFlow};
use engine::slots::ServiceSlots;
use hugepages::codec::encode;
use hugepages::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, NO_KEY, Object, OnEndpointGone, Prefix,
    Protocol, Ranges, Service, Why, service_key,
};
use hugepages::{Digest, Geometry, LinkErrors, LinkInfo, Message, Queues, Region, State};
use packet::tuple::Tuple;
use serde_json::Value;
use tempfile::TempDir;

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs `portgate` with these arguments.
pub fn portgate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portgate"));
    command.args(arguments).output().unwrap()
}

/// Standard output of a run that must succeed.
pub fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one sentence of a run that must fail with this exit code.
pub fn complaint(output: &Output, code: i32) -> String {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{errors}");
    assert_eq!(errors.trim().lines().count(), 1, "{errors}");
    errors
}

/// A temporary folder with a configuration.
pub struct Folder {
    pub folder: TempDir,
    pub config: PathBuf,
}

impl Folder {
    /// With this text behind the section `[region]`.
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("portgate.toml");
        let region = folder.path().join("region");
        let text = format!("[region]\npath = {region:?}\n{text}");
        fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let config = ["--config", text(&self.config)];
        portgate(&[arguments, &config].concat())
    }
}

pub const NODE_PORT: &str = "203.0.113.10:30379";
pub const CLUSTER_IP: &str = "100.68.181.31:80";
pub const CLUSTER_IP6: &str = "[fd00:68::31]:53";
pub const POD: &str = "100.96.2.2:80";
pub const POD6: &str = "[fd00:96::2]:53";

/// What a data plane with two workers and two links leaves in its region.
pub struct Running {
    pub folder: Folder,
    pub region: Region,
}

impl Running {
    pub fn new() -> Self {
        let folder = Folder::new("");
        let geometry = Geometry::new(3, 2, 1024, 1024);
        let (region, _) = Region::create(&folder.path("region"), &geometry).unwrap();
        Self { folder, region }
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.region.beat();
        self.folder.run(arguments)
    }

    pub fn said(&self, arguments: &[&str]) -> String {
        said(&self.run(arguments))
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[arguments, &["--json"]].concat())).unwrap()
    }

    pub fn counters(&self, block: u16) -> Counters {
        let region = &self.region;
        Counters::of(region, block)
    }

    /// The slot in which flows of a service to this endpoint count.
    pub fn endpoint(&self, service: u32, address: &str) -> u32 {
        let region = &self.region;
        let slots = EndpointSlots::of(region);
        let address = at(address);
        let backend = Backend {
            address: address.ip(),
            port: address.port(),
        };
        slots.slot(service, &backend)
    }

    /// Installs objects as generation 7; returns the slots of the services' counters.
    pub fn install(&self, objects: &[Object]) -> Vec<u32> {
        let mut records = Vec::new();
        for object in objects {
            encode(&Message::Put(object.clone()), &mut records);
        }
        let digest = objects.iter().collect::<Digest>();
        let generation = 7;
        let commit = Message::Commit {
            boot: 1,
            generation,
            changes: 0,
            digest,
        };
        encode(&commit, &mut records);
        let mut journal = self.region.journal().unwrap();
        journal.append(&records).unwrap();
        journal.commit().unwrap();
        self.region.report(State { generation, digest });
        let mut slots = ServiceSlots::new(self.region.service_keys());
        let keys = objects.iter().filter_map(|object| match object {
            Object::Service(service) => Some(service.key),
            _ => None,
        });
        keys.map(|key| slots.slot(key)).collect()
    }

    pub fn insert(&self, flow: &FlowSpec) {
        if at(flow.client).is_ipv4() {
            insert::<V4>(&self.region, hugepages::Family::V4, flow);
        } else {
            insert::<V6>(&self.region, hugepages::Family::V6, flow);
        }
    }

    pub fn describe_links(&self) {
        for (index, name) in ["outside", "pods"].iter().enumerate() {
            let info = LinkInfo {
                name: (*name).to_owned(),
                device: format!("af_packet:{name}"),
                driver: "net_af_packet".to_owned(),
                mac: [2, 0, 0, 0, 0, index as u8],
                mtu: 1500,
                vlan: (index == 1).then_some(7),
                up: index == 0,
                speed_mbps: 10_000,
                mtu_asked: 1500,
                queues: Queues {
                    rx: 2,
                    tx: 2,
                    rx_descriptors: 1024,
                    tx_descriptors: 512,
                },
                rx_offloads: 1 << 13,
                errors: LinkErrors {
                    tx: 3 * index as u64,
                    ..LinkErrors::default()
                },
                missed: index as u64 * 5,
                ..LinkInfo::default()
            };
            info.write(&self.region.link(index as u16));
        }
    }

    /// Some of everything: a balance of 120 + 3 = 91 + 30 + 2 frames.
    pub fn count(&self, slots: &[u32]) {
        let (first, second, main) = (self.counters(0), self.counters(1), self.counters(2));
        first.add(Total::Received, 70);
        second.add(Total::Received, 50);
        first.add(Total::Originated, 3);
        first.add(Total::Sent, 60);
        second.add(Total::Sent, 31);
        first.add(Total::Parked, 5);
        first.add(Total::Unparked, 3);
        main.add(Total::FlowsRemoved, 4);
        first.drop_on(0, Reason::NoEndpoint, 11);
        second.drop_on(1, Reason::OtherMac, 10);
        first.add_link(0, LinkCounter::RxFrames, 70);
        second.add_link(1, LinkCounter::RxFrames, 50);
        second.drop_on(1, Reason::UnfinishedChecksum, 9);
        first.add_service(slots[0], ServiceCounter::Flows, 2);
        for (worker, bytes) in [(&second, 1000), (&first, 500)] {
            worker.add_service(slots[0], ServiceCounter::Frames, 1);
            worker.add_service(slots[0], ServiceCounter::Bytes, bytes);
        }
        second.add_service(slots[1], ServiceCounter::Refused, 6);
    }
}

/// A flow to put into the table.
pub struct FlowSpec {
    pub protocol: u8,
    pub client: &'static str,
    pub to: &'static str,
    pub source: &'static str,
    pub endpoint: &'static str,
    pub slot: u32,
    /// Seconds since the last frame.
    pub idle: u32,
    /// Whether the handshake is complete.
    pub established: bool,
}

fn insert<F: Family>(region: &Region, family: hugepages::Family, flow: &FlowSpec) {
    let table = FlowTable::<F>::new(
        region.flow_buckets(family),
        region.flow_entries(family),
        region.seeds(),
    );
    let key = |from: &str, to: &str| {
        let (from, to) = (at(from), at(to));
        F::from_tuple(&Tuple {
            source: from.ip(),
            destination: to.ip(),
            source_port: from.port(),
            destination_port: to.port(),
            protocol: flow.protocol,
        })
    };
    let second = (hugepages::region::monotonic_nanos() / 1_000_000_000) as u32 - flow.idle;
    let hop = Hop::new(flow.slot, 0, 0, 0);
    let new = NewFlow::<F> {
        forward: key(flow.client, flow.to).unwrap(),
        forward_hop: hop,
        reply_hop: hop,
        second,
        flags: SYN,
    };
    let translated = key(flow.source, flow.endpoint).unwrap();
    let mut candidates = [translated].into_iter();
    let inserted = table.insert(&new, || candidates.next()).unwrap();
    if flow.established {
        table.touch(inserted.index, second, ACK);
        let reply = F::reverse(&translated);
        let hit = table.find(&reply, table.place(&reply)).unwrap();
        table.touch(hit.index, second, SYN);
    }
}

fn backend(text: &str) -> Backend {
    Backend {
        address: at(text).ip(),
        port: at(text).port(),
    }
}

fn service(name: &str, port_name: &str, protocol: Protocol, serving: u64) -> Service {
    Service {
        key: service_key(name, port_name, protocol),
        name: name.to_owned(),
        port_name: port_name.to_owned(),
        protocol,
        serving,
        on_endpoint_gone: OnEndpointGone::Drain(30),
    }
}

fn frontend(to: &str, service: &Service, kind: FrontendKind, actions: [Action; 3]) -> Frontend {
    Frontend {
        address: at(to).ip(),
        protocol: service.protocol,
        port: at(to).port(),
        service: service.key,
        kind,
        affinity_timeout: 0,
        ranges: NO_KEY,
        actions,
    }
}

/// `default/mynginx` with a NodePort and a ClusterIP, and `kube-system/dns` over UDP and IPv6 whose
/// load-balancer address has no local endpoint and is restricted.
pub fn objects() -> Vec<Object> {
    let translate = |set: &BackendSet, masquerade| Action::Translate {
        set: set.key,
        masquerade,
    };
    let web = BackendSet::new(vec![backend(POD), backend("100.96.2.3:80")]);
    let dns = BackendSet::new(vec![backend(POD6)]);
    let ranges = Ranges::new(vec![Prefix {
        address: "2001:db8::".parse().unwrap(),
        length: 32,
    }]);
    let nginx = service("default/mynginx", "http", Protocol::Tcp, web.key);
    let names = service("kube-system/dns", "", Protocol::Udp, dns.key);

    let to_web = [false, true, true].map(|masquerade| translate(&web, masquerade));
    let cluster_ip = frontend(CLUSTER_IP, &nginx, FrontendKind::ClusterIp, to_web);
    let to_web = [translate(&web, true); 3];
    let node_port = frontend(NODE_PORT, &nginx, FrontendKind::NodePort, to_web);
    let to_dns = [translate(&dns, false); 3];
    let cluster_ip6 = frontend(CLUSTER_IP6, &names, FrontendKind::ClusterIp, to_dns);
    let nowhere = [Action::Drop(Why::NoLocalEndpoint); 3];
    let balancer = "[2001:db8:9::9]:53";
    let restricted = Frontend {
        ranges: ranges.key,
        affinity_timeout: 10_800,
        ..frontend(balancer, &names, FrontendKind::LoadBalancer, nowhere)
    };
    let everything_else = Frontend {
        protocol: Protocol::Any,
        port: 0,
        service: NO_KEY,
        actions: [Action::Reject(Why::NoSuchPort); 3],
        ..cluster_ip.clone()
    };
    let frontends = [
        cluster_ip,
        node_port,
        cluster_ip6,
        restricted,
        everything_else,
    ];
    let mut objects: Vec<_> = frontends.map(Object::Frontend).into();
    objects.extend([nginx, names].map(Object::Service));
    objects.extend([web, dns].map(Object::BackendSet));
    objects.push(Object::Ranges(ranges));
    objects
}
