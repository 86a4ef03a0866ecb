//! A region as a data plane would fill it, for tests.

use std::net::{IpAddr, SocketAddr};

use engine::counters::Counters;
use engine::endpoints::EndpointSlots;
use engine::family::{Family as _, V4};
use engine::flow::{FlowTable, Hop, NewFlow};
use engine::slots::ServiceSlots;
use hugepages::codec::encode;
use hugepages::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, NO_KEY, Object, OnEndpointGone, Protocol,
    Service, service_key,
};
use hugepages::{Digest, Family, Geometry, LinkInfo, Message, Region, State};
use tempfile::TempDir;

use super::Observer;

/// One worker, one link `outside`, a clock that stands still.
pub(crate) struct FakeGateway {
    pub(crate) region: Region,
    slots: ServiceSlots,
    records: Vec<hugepages::Record>,
    generation: u64,
    folder: TempDir,
}

impl FakeGateway {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("region");
        let geometry = Geometry::new(2, 1, 1024, 1024);
        let (region, _) = Region::create(&path, &geometry).unwrap();
        let info = LinkInfo {
            name: "outside".to_owned(),
            device: "af_packet:eth1".to_owned(),
            driver: "net_af_packet".to_owned(),
            up: true,
            missed: 3,
            ..LinkInfo::default()
        };
        info.write(&region.link(0));
        Self {
            slots: ServiceSlots::new(region.service_keys()),
            records: Vec::new(),
            generation: 0,
            region,
            folder,
        }
    }

    pub(crate) fn observer(&self) -> Observer {
        Observer::new(&self.folder.path().join("region"))
    }

    /// Counters of worker 0, or (1) of the main core.
    pub(crate) fn counters(&self, block: u16) -> Counters {
        Counters::of(&self.region, block)
    }

    /// Installs TCP port 80 of the service `name` at 10.96.0.1 with these endpoints; returns its slot.
    pub(crate) fn install(&mut self, name: &str, endpoints: &[&str]) -> u32 {
        let set = BackendSet::new(endpoints.iter().map(|text| backend(text)).collect());
        let key = service_key(name, "http", Protocol::Tcp);
        let action = Action::Translate {
            set: set.key,
            masquerade: true,
        };
        let service = Service {
            key,
            name: name.to_owned(),
            port_name: "http".to_owned(),
            protocol: Protocol::Tcp,
            serving: set.key,
            on_endpoint_gone: OnEndpointGone::Keep,
        };
        self.generation += 1;
        let frontend = Frontend {
            address: IpAddr::from([10, 96, 0, self.generation as u8]),
            protocol: Protocol::Tcp,
            port: 80,
            service: key,
            kind: FrontendKind::ClusterIp,
            affinity_timeout: 0,
            ranges: NO_KEY,
            actions: [action; 3],
        };
        let objects = [
            Object::BackendSet(set),
            Object::Service(service),
            Object::Frontend(frontend),
        ];
        for object in objects {
            encode(&Message::Put(object), &mut self.records);
        }
        let state = State {
            generation: self.generation,
            digest: Digest::from_words([self.generation, 0]),
        };
        let commit = Message::Commit {
            boot: 1,
            generation: state.generation,
            changes: 0,
            digest: state.digest,
        };
        encode(&commit, &mut self.records);
        let mut journal = self.region.journal().unwrap();
        journal.append(&self.records).unwrap();
        self.records.clear();
        journal.commit().unwrap();
        self.region.report(state);
        self.slots.slot(key)
    }

    /// The slot in which flows of a service to this endpoint count.
    pub(crate) fn endpoint(&self, service: u32, address: &str) -> u32 {
        let slots = EndpointSlots::of(&self.region);
        slots.slot(service, &backend(address))
    }

    /// A flow that counts in a slot: of a client, to an endpoint, from there answered to `source`; made as long ago as
    /// `idle` seconds.
    pub(crate) fn flow(&self, slot: u32, [client, source, endpoint]: [&str; 3], idle: u32) {
        let region = &self.region;
        let table = FlowTable::<V4>::new(
            region.flow_buckets(Family::V4),
            region.flow_entries(Family::V4),
            region.seeds(),
        );
        let key = |from: &str, to: &str| {
            let [from, to] = [from, to].map(|text| text.parse::<SocketAddr>().unwrap());
            let ports = u32::from(from.port()) << 16 | u32::from(to.port());
            V4::join(V4::pack(from.ip(), to.ip()).unwrap(), ports, 6)
        };
        let now = hugepages::region::monotonic_nanos() / 1_000_000_000;
        let hop = Hop::new(slot, 0, 0, 1);
        let flow = NewFlow::<V4> {
            forward: key(client, "10.96.0.1:80"),
            forward_hop: hop,
            reply_hop: hop,
            second: now as u32 - idle,
            flags: engine::flow::state::SYN,
        };
        let translated = key(source, endpoint);
        let mut once = Some(translated);
        table.insert(&flow, || once.take()).unwrap();
    }
}

fn backend(text: &str) -> Backend {
    let address: SocketAddr = text.parse().unwrap();
    Backend {
        address: address.ip(),
        port: address.port(),
    }
}
