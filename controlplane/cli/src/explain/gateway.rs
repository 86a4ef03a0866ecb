//! A gateway in memory: the data plane's installation and one worker's pipeline, without devices.
//!
//! Routing must not interfere with the answer, so there is one link with a default route for each
//! family and known next hops. Its own addresses are stand-ins that no cluster can have; the
//! gateway's real ones are installed like those of any gateway.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use engine::counters::Counters;
use engine::install::Installed;
use engine::observe::Observe;
use engine::publish::Publisher;
use engine::reason::Reason;
use engine::service::{Decision, Outcome};
use engine::shared::Options;
use engine::slots::ServiceSlots;
use engine::snapshot::{Frontend, Networks, ResolvedSet, Snapshot};
use engine::topology::{LinkConfig, MssClamp, StaticRoute, Topology};
use engine::{Now, Pipeline, Shared};
use hugepages::codec::{Assembler, encode};
use hugepages::object::{Network, NetworkRole, Object, Prefix, SourceClass};
use hugepages::{Digest, Message, Slab};
use packet::Burst;
use packet::build::FrameSpec;
use packet::memory::{HeapBuffer, HeapPool};
use packet::parse::{SCTP, UDP};
use packet::tuple::Tuple;
use settings::Settings;

use super::question::Question;
use crate::failure::Failure;

/// The link's address and next hop: RFC 7600's IPv4 dummy address and its neighbour, and two of
/// RFC 6666's discard prefix.
const STAND_INS: [(IpAddr, IpAddr); 2] = [
    (
        IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)),
        IpAddr::V4(Ipv4Addr::new(192, 0, 0, 9)),
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 2)),
    ),
];

const NOW: Now = Now { second: 1000 };

/// What was seen of a first frame.
#[derive(Debug)]
pub(super) struct Seen {
    /// What became of it.
    pub(super) verdict: Verdict,
    /// The frontend that decided, if one did.
    pub(super) frontend: Option<Arc<Frontend>>,
    /// What kind of source the client is.
    pub(super) class: SourceClass,
    /// The networks that made it so.
    pub(super) networks: Arc<Networks>,
}

/// What became of a first frame.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It went to one of these.
    Translate {
        /// All that it might have gone to.
        set: Arc<ResolvedSet>,
        /// Whether the source is rewritten, whichever it is.
        masquerade: bool,
    },
    /// It was refused.
    Reject(Reason),
    /// It was dropped.
    Drop(Reason),
    /// It was no service's.
    Pass(Reason),
}

/// A gateway in memory with everything installed.
pub(super) struct MemoryGateway {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    worker: Pipeline<HeapBuffer>,
    pool: HeapPool,
    /// Keeps what the worker subscribes to.
    _publisher: Publisher<Snapshot>,
}

impl MemoryGateway {
    /// A gateway of these settings with these objects installed.
    pub(super) fn new(settings: &Settings, mut objects: Vec<Object>) -> Result<Self, Failure> {
        add_link_addresses(settings, &mut objects);
        let options = Options {
            nodeport_range: settings.gateway.nodeport_range,
            maglev_seed: settings.gateway.maglev_seed,
            ..Options::default()
        };
        // One flow at a time.
        let shared = Arc::new(Shared::heap(16, topology(), options));
        for (_, next_hop) in STAND_INS {
            shared.neighbours.index(0, next_hop, NOW.second);
            shared
                .neighbours
                .learn(0, next_hop, [2, 0, 0, 0, 0, 1], NOW.second);
        }
        let slots = ServiceSlots::new(Slab::heap(1));
        let mut installed = Installed::new(shared.topology.clone(), slots, options.maglev_seed);
        install(&mut installed, &objects).map_err(|cause| {
            Failure::Failed(format!("the objects cannot be installed: {cause}"))
        })?;
        let publisher = Publisher::new(installed.snapshot().clone());
        let subscriber = publisher.subscribe();
        Ok(Self {
            worker: Pipeline::new(shared.clone(), subscriber, Counters::heap(8), 0, 1),
            snapshot: publisher.newest(),
            shared,
            pool: HeapPool::default(),
            _publisher: publisher,
        })
    }

    /// Puts the first frame of a flow through the worker. Nothing of it is left afterwards.
    pub(super) fn put(&mut self, question: &Question) -> Result<Seen, Failure> {
        let frame = frame(question)?;
        let mut burst = Burst::new();
        burst.push(frame);
        let mut witness = Witness::default();
        self.worker
            .process(NOW, 0, &mut burst, &mut self.pool, &mut witness);
        for (_, output) in self.worker.outputs() {
            output.clear();
        }
        self.forget_flows();
        let networks = self.snapshot.networks.clone();
        witness.conclude(question, networks)
    }

    fn forget_flows(&self) {
        let Shared { v4, v6, .. } = &*self.shared;
        for flow in v4.flows().collect::<Vec<_>>() {
            v4.remove(&flow);
        }
        for flow in v6.flows().collect::<Vec<_>>() {
            v6.remove(&flow);
        }
    }
}

/// The data plane takes the links' addresses for its own; so does this gateway.
fn add_link_addresses(settings: &Settings, objects: &mut Vec<Object>) {
    let known: BTreeSet<_> = objects.iter().map(Object::id).collect();
    let addresses = settings.links.iter().flat_map(|link| &link.addresses);
    let own = addresses.map(|net| {
        Object::Network(Network {
            role: NetworkRole::Own,
            prefix: host(net.addr()),
        })
    });
    let new = own.filter(|object| !known.contains(&object.id()));
    objects.extend(new.collect::<Vec<_>>());
}

fn topology() -> Topology {
    let mac = FrameSpec::tcp(([0, 0, 0, 0], 0).into(), ([0, 0, 0, 0], 0).into(), 0)
        .destination_mac
        .0;
    let any = |address: IpAddr| Prefix {
        address: match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        },
        length: 0,
    };
    let link = LinkConfig {
        name: "memory".to_owned(),
        mac,
        vlan: None,
        mtu: 1500,
        mss_clamp: MssClamp::Off,
        addresses: STAND_INS.map(|(own, _)| (own, host(own).length)).to_vec(),
    };
    let route = |(own, next_hop): (IpAddr, IpAddr)| StaticRoute {
        to: any(own),
        via: Some(next_hop),
        link: Some(0),
    };
    Topology {
        links: vec![link],
        routes: STAND_INS.map(route).to_vec(),
    }
}

fn host(address: IpAddr) -> Prefix {
    Prefix {
        address,
        length: if address.is_ipv4() { 32 } else { 128 },
    }
}

/// Installs the objects as one full update that travels as records.
fn install(installed: &mut Installed, objects: &[Object]) -> Result<(), String> {
    let (boot, generation) = (1, 1);
    let begin = Message::Begin {
        boot,
        generation,
        full: true,
    };
    let commit = Message::Commit {
        boot,
        generation,
        changes: objects.len() as u64,
        digest: objects.iter().collect::<Digest>(),
    };
    let puts = objects.iter().map(|object| Message::Put(object.clone()));
    let mut assembler = Assembler::new();
    let mut records = Vec::new();
    for message in std::iter::once(begin).chain(puts).chain([commit]) {
        records.clear();
        encode(&message, &mut records);
        for record in &records {
            let received = assembler.push(record).map_err(|error| error.to_string())?;
            if let Some(received) = received {
                installed
                    .handle(received)
                    .map_err(|reason| reason.to_string())?;
            }
        }
    }
    Ok(())
}

fn frame(question: &Question) -> Result<HeapBuffer, Failure> {
    let (from, to) = (question.from, question.to);
    let spec = match question.protocol {
        UDP => FrameSpec::udp(from, to),
        SCTP => FrameSpec::sctp(from, to),
        _ => FrameSpec::syn(from, to),
    };
    let built = spec.frame();
    built.map_err(|error| Failure::Wrong(format!("no frame from {from} to {to}: {error}")))
}

/// Sees what the pipeline decides.
#[derive(Debug, Default)]
struct Witness {
    decision: Option<(Verdict, Option<Arc<Frontend>>, SourceClass)>,
    dropped: Option<Reason>,
}

impl Observe for Witness {
    fn decided(&mut self, _tuple: &Tuple, decision: &Decision<'_>) {
        let verdict = match decision.outcome {
            Outcome::Translate { set, masquerade } => Verdict::Translate {
                set: set.clone(),
                masquerade,
            },
            Outcome::Reject(reason) => Verdict::Reject(reason),
            Outcome::Drop(reason) => Verdict::Drop(reason),
            Outcome::Pass(reason) => Verdict::Pass(reason),
        };
        self.decision = Some((verdict, decision.frontend.cloned(), decision.class));
    }

    fn dropped(&mut self, reason: Reason) {
        self.dropped = Some(reason);
    }
}

impl Witness {
    fn conclude(self, question: &Question, networks: Arc<Networks>) -> Result<Seen, Failure> {
        let (verdict, frontend, class) = match (self.decision, self.dropped) {
            (Some((Verdict::Translate { .. }, frontend, class)), Some(reason)) => {
                (Verdict::Drop(reason), frontend, class)
            }
            (Some(decision), _) => decision,
            // Dropped before anything was decided.
            (None, Some(reason)) => {
                let class = networks.class(question.from.ip());
                (Verdict::Drop(reason), None, class)
            }
            (None, None) => {
                let Question { from, to, .. } = question;
                return Err(Failure::Failed(format!(
                    "the frame from {from} to {to} met neither a service nor a drop"
                )));
            }
        };
        Ok(Seen {
            verdict,
            frontend,
            class,
            networks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conclude(decision: Option<Verdict>, dropped: Option<Reason>) -> Result<Verdict, Failure> {
        let question = Question {
            id: serde_json::Value::Null,
            protocol: UDP,
            from: ([192, 0, 2, 1], 1).into(),
            to: ([192, 0, 2, 2], 2).into(),
        };
        let witness = Witness {
            decision: decision.map(|verdict| (verdict, None, SourceClass::Outside)),
            dropped,
        };
        let seen = witness.conclude(&question, Arc::default());
        seen.map(|seen| seen.verdict)
    }

    #[test]
    fn a_decision_stands_unless_the_frame_is_lost_after_it() {
        let set = Arc::new(ResolvedSet {
            members: Vec::new(),
            maglev: engine::maglev::Maglev::new(&[], 0),
        });
        let translate = Verdict::Translate {
            set,
            masquerade: true,
        };
        let kept = conclude(Some(translate.clone()), None);
        assert!(matches!(kept, Ok(Verdict::Translate { .. })));
        let lost = conclude(Some(translate), Some(Reason::NoRoute));
        assert!(matches!(lost, Ok(Verdict::Drop(Reason::NoRoute))));
        // A limit on answers is no part of the answer.
        let refused = Verdict::Reject(Reason::NoEndpoint);
        let limited = conclude(Some(refused), Some(Reason::AnswerRefused));
        assert!(matches!(limited, Ok(Verdict::Reject(Reason::NoEndpoint))));
    }

    #[test]
    fn a_frame_that_is_not_decided_about_is_dropped_or_an_error() {
        let early = conclude(None, Some(Reason::BadIpHeader));
        assert!(matches!(early, Ok(Verdict::Drop(Reason::BadIpHeader))));
        assert_eq!(conclude(None, None).unwrap_err().exit_code(), 1);
    }
}
