//! The first frame of a flow: decision, backend, next hops, SNAT port, insertion.

use std::net::IpAddr;
use std::sync::Arc;

use hugepages::object::Backend;
use packet::checksum::{Checksum, pseudo, verify_l4};
use packet::parse::{Parsed, SCTP, TCP};
use packet::tuple::Tuple;
use packet::{Buffer, Pool, sctp};

use crate::affinity::Client;
use crate::counters::{ServiceCounter, Total};
use crate::family::SPREAD;
use crate::flow::state::{ACK, FIN, REPLIED, RST, SYN, seen};
use crate::flow::{FlowView, Hop, InsertError, NewFlow};
use crate::lane::{Tabled, Work};
use crate::neighbour::Word;
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;
use crate::service::{Outcome, decide};
use crate::shared::Choice;
use crate::snapshot::{Frontend, ResolvedSet};

/// While searches for a flow to evict are in vain, every how many new flows one is made: a flood
/// against a table full of established flows must not cost 2.5 µs a frame.
const SEARCH_EVERY: u32 = 32;

impl<B: Buffer> Pipeline<B> {
    /// Decides about a frame that belongs to no flow, and makes the flow.
    pub(crate) fn first<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        work: &Work<F>,
        pool: &mut P,
        observer: &mut O,
    ) {
        if work.parsed.ttl <= 1 {
            // Before anything is made for it.
            return self.expire(now, input, frame, &work.parsed, observer);
        }
        let tuple = F::tuple(&work.key);
        if let Err(reason) = check_transport(frame.bytes(), &work.parsed, &tuple) {
            return self.drop_frame(input, frame, reason, observer);
        }
        match self.establish(now, work, &tuple, observer) {
            Ok(hit) => self.translate(now, input, frame, work, &hit, pool, observer),
            Err(End::Drop(reason)) => self.drop_frame(input, frame, reason, observer),
            Err(End::Reject(reason)) => {
                self.reject(now, input, frame, &work.parsed, &tuple, reason, observer);
            }
        }
    }

    /// Whether a link has this address: a frame from it has come back, or lies.
    fn is_own(&self, source: IpAddr) -> bool {
        self.shared.topology.addresses().any(|own| own == source)
    }

    /// The next hop towards `destination`, and its neighbour's word now.
    pub(crate) fn next_hop(
        &self,
        now: Now,
        destination: IpAddr,
        service: u32,
    ) -> Result<(Hop, Word), Reason> {
        let snapshot = self.snapshots.get();
        let target = snapshot.routes.lookup(destination).ok_or(Reason::NoRoute)?;
        let via = target.via.unwrap_or(destination);
        let neighbours = &self.shared.neighbours;
        let (index, word) = neighbours
            .index(target.link, via, now.second)
            .ok_or(Reason::NeighbourTableFull)?;
        Ok((
            Hop::new(service, index, word.generation(), snapshot.route_generation),
            word,
        ))
    }

    /// Removes a flow.
    pub(crate) fn forget<F: Tabled>(&mut self, flow: &FlowView<F>) {
        if F::table(&self.shared).remove(flow) {
            self.counters.add(Total::FlowsRemoved, 1);
            self.shared.open_flows.close_flow(flow);
        }
    }

    /// Makes the flow of a first frame.
    pub(crate) fn establish<F: Tabled, O: Observe>(
        &mut self,
        now: Now,
        work: &Work<F>,
        tuple: &Tuple,
        observer: &mut O,
    ) -> Result<crate::flow::Hit<F>, End> {
        let random = self.next_random();
        let shared = &self.shared;
        let snapshot = self.snapshots.get();
        let decision = decide(snapshot, tuple);
        observer.decided(tuple, &decision);
        let slot = decision
            .frontend
            .and_then(|frontend| frontend.service.as_ref())
            .map_or(crate::slots::SHARED_SLOT, |service| service.slot);
        let refused = |end: End| {
            self.counters.add_service(slot, ServiceCounter::Refused, 1);
            end
        };
        let is_served = matches!(
            decision.outcome,
            Outcome::Translate { .. } | Outcome::Reject(_)
        );
        if is_served && (!is_possible(tuple.source) || self.is_own(tuple.source)) {
            return Err(refused(End::Drop(Reason::BadSource)));
        }
        let (set, masquerade) = match decision.outcome {
            Outcome::Translate { set, masquerade } => (set, masquerade),
            Outcome::Reject(reason) => return Err(refused(End::Reject(reason))),
            Outcome::Drop(reason) => return Err(refused(End::Drop(reason))),
            Outcome::Pass(reason) => return Err(End::Drop(reason)),
        };
        // A segment in mid-stream is taken up (Maglev may well find the backend that knows it, and else
        // that backend refuses it); one that only ends a connection is not.
        let flags = work.parsed.tcp_flags;
        let opens = flags & SYN != 0 || flags & (ACK | FIN | RST) == ACK;
        if work.parsed.protocol == TCP && !opens {
            return Err(refused(End::Drop(Reason::NoFlow)));
        }
        let backend = self
            .choose(set, decision.frontend, tuple.source, &work.key, now, random)
            .ok_or(End::Reject(Reason::NoEndpoint))
            .map_err(refused)?;
        let drops = |reason| refused(End::Drop(reason));
        let (forward_hop, word) = self.next_hop(now, backend.address, slot).map_err(drops)?;
        let (reply_hop, _) = self.next_hop(now, tuple.source, slot).map_err(drops)?;
        let masquerade = masquerade || backend.address == tuple.source;
        let source = if masquerade {
            self.snat_address(word, backend.address, random)
                .ok_or(Reason::NoSnatAddress)
                .map_err(drops)?
        } else {
            tuple.source
        };
        let flow = NewFlow::<F> {
            forward: work.key,
            forward_hop,
            reply_hop,
            second: now.second,
            flags: if work.parsed.protocol == TCP {
                seen(flags)
            } else {
                REPLIED
            },
        };
        let translated = |port| {
            F::from_tuple(&Tuple {
                source,
                destination: backend.address,
                source_port: port,
                destination_port: backend.port,
                protocol: tuple.protocol,
            })
        };
        // Without masquerading the client keeps its port too, unless that would collide with
        // another of its flows to the same backend.
        let kept = (!masquerade).then_some(tuple.source_port);
        let mut ports = kept.into_iter().chain(self.snat_ports.tries(random));
        let inserted = F::table(shared).insert_or_evict(
            &flow,
            &shared.options.timeouts,
            self.futile.is_multiple_of(SEARCH_EVERY),
            || ports.next().and_then(translated),
            |gone| {
                self.counters.add(Total::FlowsRemoved, 1);
                shared.open_flows.close_flow(gone);
            },
        );
        let is_full = matches!(inserted, Err(InsertError::Full));
        self.futile = if is_full {
            self.futile.wrapping_add(1)
        } else {
            0
        };
        match inserted {
            Ok(inserted) => {
                shared.open_flows.open(&backend);
                self.counters.add(Total::FlowsCreated, 1);
                self.counters.add_service(slot, ServiceCounter::Flows, 1);
                Ok(crate::flow::Hit {
                    index: inserted.index,
                    translation: inserted.translation,
                    hop: forward_hop,
                })
            }
            // Another worker was faster with the same flow: its choice holds.
            Err(InsertError::Exists(index)) => F::table(shared)
                .read(index, &work.key)
                .ok_or_else(|| drops(Reason::FlowRace)),
            Err(InsertError::Full) => Err(drops(Reason::FlowTableFull)),
            Err(InsertError::NoCandidate) => Err(drops(Reason::SnatPortsExhausted)),
            Err(InsertError::Busy) => Err(drops(Reason::FlowRace)),
        }
    }

    #[allow(clippy::too_many_arguments)] // what a choice depends on
    fn choose<K: AsRef<[u64]>>(
        &self,
        set: &ResolvedSet,
        frontend: Option<&Arc<Frontend>>,
        client: IpAddr,
        key: &K,
        now: Now,
        random: u64,
    ) -> Option<Backend> {
        if let Some(frontend) = frontend
            && frontend.affinity_timeout > 0
        {
            // Keys are hashes: 32 bits of one tell a client's few services apart.
            let service = frontend
                .service
                .as_ref()
                .map_or(0, |service| service.key as u32);
            let client = Client {
                address: client,
                service,
                timeout: frontend.affinity_timeout,
            };
            return self
                .shared
                .affinity
                .choose(&client, set, now.second, random);
        }
        let options = &self.shared.options;
        let pick = |random: u64| {
            let at = ((u128::from(random) * set.members.len() as u128) >> 64) as usize;
            set.members.get(at).copied()
        };
        match options.choice {
            Choice::Maglev => {
                let hash = stable_hash(options.maglev_seed, key.as_ref());
                set.members.get(set.maglev.choose(hash)?).copied()
            }
            Choice::Random => pick(random),
            Choice::LeastConnections => {
                let (one, two) = (pick(random)?, pick(random.wrapping_mul(SPREAD))?);
                let open = &self.shared.open_flows;
                Some(if open.get(&two) < open.get(&one) {
                    two
                } else {
                    one
                })
            }
        }
    }

    /// An own address to masquerade with towards `backend`, whose next hop is `word`'s neighbour.
    fn snat_address(&self, word: Word, backend: IpAddr, random: u64) -> Option<IpAddr> {
        let snat = &self.snapshots.get().networks.snat;
        if snat.is_empty() {
            return self.link_address(word, backend);
        }
        let mut family = snat.iter().filter(|own| own.is_ipv4() == backend.is_ipv4());
        let count = family.clone().count();
        if count > 0 {
            return family.nth(random as usize % count).copied();
        }
        self.link_address(word, backend)
    }

    /// The egress link's own address for what goes to `backend`.
    fn link_address(&self, word: Word, backend: IpAddr) -> Option<IpAddr> {
        self.shared
            .topology
            .links
            .get(usize::from(word.link()))?
            .source_for(backend)
    }

    fn next_random(&mut self) -> u64 {
        // xorshift64* (Vigna 2016): unpredictable enough for spreading, 1 ns.
        let mut x = self.random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// How a first frame ends that makes no flow.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Drop(Reason),
    Reject(Reason),
}

/// Whether a host can have this address (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5).
fn is_possible(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && v4.octets()[0] < 224 && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
    }
}

/// The same on every gateway with the same seed, so that any of them chooses the same backend.
fn stable_hash(seed: u64, key: &[u64]) -> u64 {
    key.iter().fold(seed ^ SPREAD, |hash, word| {
        let product = u128::from(hash ^ word) * u128::from(SPREAD ^ 0x5555);
        (product as u64) ^ ((product >> 64) as u64).wrapping_mul(SPREAD)
    })
}

/// The first frame of a flow must have a right transport checksum: an incremental update would
/// carry the fault on, and the receiver would drop it without a word.
fn check_transport(bytes: &[u8], parsed: &Parsed, tuple: &Tuple) -> Result<(), Reason> {
    let segment = bytes
        .get(parsed.l4()..parsed.end())
        .ok_or(Reason::BadTransport)?;
    if parsed.protocol == SCTP {
        return if sctp::is_valid(segment) {
            Ok(())
        } else {
            Err(Reason::BadChecksum)
        };
    }
    let sum = pseudo(
        tuple.source,
        tuple.destination,
        parsed.protocol,
        segment.len(),
    );
    match verify_l4(segment, sum.unwrap_or(0), parsed.protocol) {
        Checksum::Good => Ok(()),
        Checksum::Absent if tuple.source.is_ipv4() => Ok(()),
        Checksum::Unfinished => Err(Reason::UnfinishedChecksum),
        Checksum::Bad | Checksum::Absent => Err(Reason::BadChecksum),
    }
}
