//! A gateway in memory: two links, a few services, frames in and out.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // each test binary uses its own part

pub mod datagram;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use engine::counters::{Counters, Total};
use engine::endpoints::EndpointSlots;
use engine::flow::State;
use engine::install::{Installation, Installed};
use engine::observe::Observe;
use engine::publish::Publisher;
use engine::shared::Options;
use engine::slots::ServiceSlots;
use engine::snapshot::Snapshot;
use engine::topology::{LinkConfig, MssClamp, StaticRoute, Topology};
use engine::{Now, Pipeline, Reason, Shared};
use hugepages::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, NO_KEY, Network, NetworkRole, Object,
    OnEndpointGone, Prefix, Protocol, Service, Why, service_key,
};
use hugepages::{Digest, Message, Slab};
use packet::build::FrameSpec;
use packet::memory::{HeapBuffer, HeapPool};
use packet::parse::parse;
use packet::tuple::{Tuple, words4, words6};
use packet::{Buffer, Burst};

/// Service slots; four times as many of endpoints come with them.
pub const SLOTS: usize = 512;

pub const OUTSIDE: usize = 0;
pub const PODS: usize = 1;
pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PODS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const POD_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix {
        address: ip(address),
        length: length.parse().unwrap(),
    }
}

pub fn topology() -> Topology {
    let link = |name: &str, mac, addresses: &[&str]| LinkConfig {
        name: name.into(),
        mac,
        vlan: None,
        mtu: 1500,
        mss_clamp: MssClamp::Off,
        addresses: addresses
            .iter()
            .map(|text| (prefix(text).address, prefix(text).length))
            .collect(),
    };
    Topology {
        links: vec![
            link(
                "outside",
                OUTSIDE_MAC,
                &["203.0.113.10/24", "2001:db8:1::10/64"],
            ),
            link("pods", PODS_MAC, &["100.96.2.1/24", "fd00:100:96:2::1/64"]),
        ],
        routes: vec![StaticRoute {
            to: prefix("0.0.0.0/0"),
            via: Some(ip("203.0.113.1")),
            link: None,
        }],
    }
}

/// A service to install, in few words.
#[derive(Clone)]
pub struct Spec {
    pub name: &'static str,
    pub frontends: Vec<(SocketAddr, FrontendKind)>,
    pub protocol: Protocol,
    pub backends: Vec<SocketAddr>,
    pub masquerade: bool,
    pub otherwise: Why,
    pub affinity_timeout: u32,
    /// Endpoints that may keep their flows; empty = the backends.
    pub serving: Vec<SocketAddr>,
    pub on_endpoint_gone: OnEndpointGone,
}

impl Spec {
    pub fn new(name: &'static str, frontends: &[&str], backends: &[&str]) -> Self {
        Self {
            name,
            frontends: frontends
                .iter()
                .map(|text| (at(text), FrontendKind::NodePort))
                .collect(),
            protocol: Protocol::Tcp,
            backends: backends.iter().map(|text| at(text)).collect(),
            masquerade: true,
            otherwise: Why::NoEndpoint,
            affinity_timeout: 0,
            serving: Vec::new(),
            on_endpoint_gone: OnEndpointGone::Keep,
        }
    }

    pub fn objects(&self) -> Vec<Object> {
        let members = self
            .backends
            .iter()
            .map(|backend| Backend {
                address: backend.ip(),
                port: backend.port(),
            })
            .collect::<Vec<_>>();
        let key = service_key(self.name, "", self.protocol);
        let mut objects = Vec::new();
        let mut serving = NO_KEY;
        let mut actions = [Action::Reject(self.otherwise); 3];
        if !members.is_empty() {
            let set = BackendSet::new(members);
            serving = set.key;
            actions = [false, true, self.masquerade].map(|masquerade| Action::Translate {
                set: set.key,
                masquerade,
            });
            objects.push(Object::BackendSet(set));
        }
        if !self.serving.is_empty() {
            let members = self.serving.iter().map(|backend| Backend {
                address: backend.ip(),
                port: backend.port(),
            });
            let set = BackendSet::new(members.collect());
            serving = set.key;
            objects.push(Object::BackendSet(set));
        }
        objects.push(Object::Service(Service {
            key,
            name: self.name.into(),
            port_name: String::new(),
            protocol: self.protocol,
            serving,
            on_endpoint_gone: self.on_endpoint_gone,
        }));
        for (address, kind) in &self.frontends {
            objects.push(Object::Frontend(Frontend {
                address: address.ip(),
                protocol: self.protocol,
                port: address.port(),
                service: key,
                kind: *kind,
                affinity_timeout: self.affinity_timeout,
                ranges: NO_KEY,
                actions,
            }));
        }
        objects
    }
}

/// Networks that every test gateway knows.
pub fn networks() -> Vec<Object> {
    [
        (NetworkRole::Pods, "100.96.0.0/16"),
        (NetworkRole::Services, "100.64.0.0/13"),
    ]
    .map(|(role, text)| {
        Object::Network(Network {
            role,
            prefix: prefix(text),
        })
    })
    .to_vec()
}

/// What an observer saw last.
#[derive(Debug, Default)]
pub struct Seen {
    pub dropped: Vec<Reason>,
    pub answered: usize,
}

impl Observe for Seen {
    fn dropped(&mut self, reason: Reason) {
        self.dropped.push(reason);
    }

    fn answered(&mut self) {
        self.answered += 1;
    }
}

/// A gateway with any number of workers over one set of tables.
pub struct Gateway {
    pub shared: Arc<Shared>,
    pub installed: Installed,
    pub publisher: Publisher<Snapshot>,
    pub workers: Vec<Pipeline<HeapBuffer>>,
    pub pool: HeapPool,
    pub seen: Seen,
    pub second: u32,
    generation: u64,
}

impl Gateway {
    pub fn new(specs: &[Spec]) -> Self {
        Self::with(specs, 1, 4096, Options::default())
    }

    /// With one more static route.
    pub fn routed(specs: &[Spec], route: StaticRoute) -> Self {
        let mut topology = topology();
        topology.routes.push(route);
        Self::over(topology, specs, 1, 4096, Options::default())
    }

    pub fn with(specs: &[Spec], workers: usize, flows: usize, options: Options) -> Self {
        Self::over(topology(), specs, workers, flows, options)
    }

    pub fn over(
        topology: Topology,
        specs: &[Spec],
        workers: usize,
        flows: usize,
        options: Options,
    ) -> Self {
        Self::of(Shared::heap(flows, topology, options), specs, workers)
    }

    /// Over these tables.
    pub fn of(mut shared: Shared, specs: &[Spec], workers: usize) -> Self {
        shared.endpoints = EndpointSlots::heap(SLOTS);
        Self::made(shared, specs, workers)
    }

    /// With one worker that counts nothing by endpoint.
    pub fn uncounted(shared: Shared, specs: &[Spec]) -> Self {
        Self::made(shared, specs, 1)
    }

    fn made(shared: Shared, specs: &[Spec], workers: usize) -> Self {
        let shared = Arc::new(shared);
        let slots = ServiceSlots::new(Slab::heap(SLOTS / 8));
        let seed = shared.options.maglev_seed;
        let installed = Installed::new(shared.topology.clone(), slots, seed);
        let publisher = Publisher::new(installed.snapshot().clone());
        let workers = (0..workers)
            .map(|worker| {
                let counters = Counters::heap(SLOTS);
                let seed = 0x1234_5678_9abc_def1 + worker as u64;
                Pipeline::new(
                    shared.clone(),
                    publisher.subscribe(),
                    counters,
                    worker,
                    seed,
                )
            })
            .collect();
        let mut gateway = Self {
            shared,
            installed,
            publisher,
            workers,
            pool: HeapPool::default(),
            seen: Seen::default(),
            second: 1000,
            generation: 0,
        };
        gateway.install(specs);
        for (link, address, mac) in [
            (OUTSIDE, "203.0.113.1", CLIENT_MAC),
            (OUTSIDE, "203.0.113.50", CLIENT_MAC),
            (OUTSIDE, "203.0.113.51", CLIENT_MAC),
            (OUTSIDE, "2001:db8:1::50", CLIENT_MAC),
            (PODS, "100.96.2.2", POD_MAC),
            (PODS, "100.96.2.6", POD_MAC),
            (PODS, "fd00:100:96:2::2", POD_MAC),
        ] {
            let neighbours = &gateway.shared.neighbours;
            neighbours
                .index(link as u8, ip(address), gateway.second)
                .unwrap();
            neighbours.learn(link as u8, ip(address), mac, gateway.second);
        }
        gateway
    }

    /// Replaces everything installed by these services; false if that changed nothing.
    pub fn install(&mut self, specs: &[Spec]) -> bool {
        !self.update(specs).changes.is_empty()
    }

    /// Replaces everything installed by these services.
    pub fn update(&mut self, specs: &[Spec]) -> Installation {
        let mut objects: Vec<Object> = specs.iter().flat_map(Spec::objects).collect();
        objects.extend(networks());
        objects.sort_by_key(Object::id);
        objects.dedup();
        self.generation += 1;
        let generation = self.generation;
        let digest = objects.iter().collect::<Digest>();
        let changes = objects.len() as u64;
        let begin = Message::Begin {
            boot: 1,
            generation,
            full: true,
        };
        self.installed.handle(begin).unwrap();
        for object in objects {
            self.installed.handle(Message::Put(object)).unwrap();
        }
        let commit = Message::Commit {
            boot: 1,
            generation,
            changes,
            digest,
        };
        let installation = self.installed.handle(commit).unwrap().unwrap();
        self.publisher.publish(self.installed.snapshot().clone());
        installation
    }

    /// Puts one frame into a worker and returns what comes out: link and bytes.
    pub fn put(&mut self, worker: usize, link: usize, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mut burst = Burst::new();
        burst.push(HeapBuffer::from_bytes(bytes));
        let now = Now {
            second: self.second,
        };
        self.seen = Seen::default();
        self.workers[worker].process(now, link, &mut burst, &mut self.pool, &mut self.seen);
        self.collect(worker)
    }

    /// Lets a worker do its upkeep, and returns what comes out.
    pub fn upkeep(&mut self, worker: usize) -> Vec<(usize, Vec<u8>)> {
        let now = Now {
            second: self.second,
        };
        self.workers[worker].upkeep(now, 20_000, &mut self.pool, &mut ());
        self.collect(worker)
    }

    /// What a worker has in its outputs, which are emptied.
    pub fn collect(&mut self, worker: usize) -> Vec<(usize, Vec<u8>)> {
        let mut sent = Vec::new();
        for (link, output) in self.workers[worker].outputs() {
            sent.extend(output.drain(..).map(|frame| (link, frame.bytes().to_vec())));
        }
        for (link, bytes) in &sent {
            self.workers[worker].sent(*link, 1, bytes.len() as u64, 0);
        }
        sent
    }

    /// One frame in, exactly one out.
    pub fn pass(&mut self, link: usize, bytes: &[u8]) -> (usize, Vec<u8>) {
        let mut out = self.put(0, link, bytes);
        assert_eq!(
            out.len(),
            1,
            "one frame out; dropped: {:?}",
            self.seen.dropped
        );
        out.remove(0)
    }

    /// Everything received or originated was sent, dropped, or waits.
    pub fn assert_balanced(&self) {
        for worker in &self.workers {
            let counters = worker.counters();
            let total = |total| counters.total(total);
            let drops: u64 = Reason::ALL
                .iter()
                .map(|reason| counters.drops(*reason))
                .sum();
            let waiting = total(Total::Parked) - total(Total::Unparked);
            assert_eq!(
                total(Total::Received) + total(Total::Originated),
                total(Total::Sent) + drops + waiting,
                "received + originated = sent + drops + waiting"
            );
        }
    }

    pub fn states(&self) -> Vec<State> {
        let v4 = self.shared.v4.flows().map(|flow| flow.state);
        v4.chain(self.shared.v6.flows().map(|flow| flow.state))
            .collect()
    }
}

/// A frame from a client outside.
pub fn from_client(mut spec: FrameSpec) -> Vec<u8> {
    spec.source_mac = packet::ethernet::Mac(CLIENT_MAC);
    spec.destination_mac = packet::ethernet::Mac(OUTSIDE_MAC);
    spec.bytes().unwrap()
}

/// A frame from a pod.
pub fn from_pod(mut spec: FrameSpec) -> Vec<u8> {
    spec.source_mac = packet::ethernet::Mac(POD_MAC);
    spec.destination_mac = packet::ethernet::Mac(PODS_MAC);
    spec.bytes().unwrap()
}

/// The tuple of a frame with ports, after checking every checksum in it.
pub fn tuple(bytes: &[u8]) -> Tuple {
    use engine::family::{Family, V4, V6};
    let parsed = parse(bytes).unwrap();
    let tuple = match parsed.network {
        packet::parse::Network::V4 => V4::tuple(&words4(bytes, &parsed)),
        _ => V6::tuple(&words6(bytes, &parsed)),
    };
    let segment = &bytes[parsed.l4()..parsed.end()];
    let sum = packet::checksum::pseudo(
        tuple.source,
        tuple.destination,
        parsed.protocol,
        segment.len(),
    );
    if parsed.protocol == packet::parse::SCTP {
        assert!(packet::sctp::is_valid(segment));
    } else {
        assert_eq!(
            packet::checksum::verify_l4(segment, sum.unwrap(), parsed.protocol),
            packet::checksum::Checksum::Good
        );
    }
    tuple
}

/// The ICMP error about `bytes` that a router at `from` would send, by the library's own builder.
pub fn error_about(bytes: &[u8], from: &str, why: packet::icmp::Reason) -> Vec<u8> {
    use packet::Buffer;
    let mut frame = packet::memory::HeapBuffer::from_bytes(bytes);
    let parsed = packet::parse::parse(bytes).unwrap();
    packet::icmp::refuse(&mut frame, parsed.l3(), parsed.end(), ip(from), why).unwrap();
    frame.bytes().to_vec()
}

/// The packet that an error quotes, after checking every checksum of error and quotation.
pub fn quotation(bytes: &[u8]) -> packet::tuple::Tuple {
    use packet::checksum::{Checksum, ipv4_header_checksum, pseudo, verify_l4};
    let parsed = packet::parse::parse(bytes).unwrap();
    let (l4, end) = (parsed.l4(), parsed.end());
    let (from, to) = packet::tuple::addresses(bytes, &parsed).unwrap();
    let sum = pseudo(from, to, parsed.protocol, end - l4).unwrap();
    assert_eq!(
        verify_l4(&bytes[l4..end], sum, parsed.protocol),
        Checksum::Good
    );
    let error = packet::icmp::parse_error(bytes, l4, end, parsed.protocol).unwrap();
    let quoted = packet::icmp::quoted_tuple(bytes, &error).unwrap();
    if quoted.source.is_ipv4() {
        let header = &bytes[error.l3..error.l4];
        assert_eq!(ipv4_header_checksum(header).to_be_bytes(), header[10..12]);
    }
    let segment = &bytes[error.l4..error.end];
    let sum = pseudo(
        quoted.source,
        quoted.destination,
        quoted.protocol,
        segment.len(),
    )
    .unwrap();
    assert_eq!(verify_l4(segment, sum, quoted.protocol), Checksum::Good);
    quoted
}

/// Takes note of an answered handshake on the flow of this client, or of a reset.
pub fn note(gateway: &Gateway, client: &str, service: &str, reset: bool) {
    use engine::family::{Family, V4};
    let table = &gateway.shared.v4;
    let tuple = packet::tuple::Tuple {
        source: at(client).ip(),
        destination: at(service).ip(),
        source_port: at(client).port(),
        destination_port: at(service).port(),
        protocol: packet::parse::TCP,
    };
    let key = V4::from_tuple(&tuple).unwrap();
    let forward = table.find(&key, table.place(&key)).unwrap().index;
    let reply = V4::reverse(&table.view(forward).unwrap().translated);
    let reply = table.find(&reply, table.place(&reply)).unwrap().index;
    table.touch(
        forward,
        gateway.second,
        if reset {
            packet::tcp::RST
        } else {
            packet::tcp::ACK
        },
    );
    table.touch(reply, gateway.second, packet::tcp::SYN);
}
