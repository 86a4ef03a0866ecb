//! The first frame of a flow: decision, backend, next hops, SNAT port, insertion.

use std::sync::Arc;

use hugepages::object::Backend;
use packet::checksum::{Checksum, pseudo, verify_l4};
use packet::parse::{Parsed, SCTP, TCP};
use packet::tuple::{Ports, Tuple};
use packet::{Buffer, Pool, sctp};

use crate::affinity::Client;
use crate::counters::{ServiceCounter, Total};
use crate::family::{Family, SPREAD};
use crate::flow::state::{ACK, FIN, REPLIED, RST, SYN, seen};
use crate::flow::{FlowView, Hit, Hop, InsertError, NewFlow};
use crate::lane::{Tabled, Work};
use crate::neighbour::Word;
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;
use crate::service::{Outcome, decide};
use crate::shared::{Choice, Shared};
use crate::snapshot::{Frontend, ResolvedSet, Snapshot};

/// While searches for a flow to evict are in vain, one is made at each power of two of new flows refused, then
/// each time after so many: a flood against a table full of established flows must not cost 2.5 µs a frame (every
/// 32nd cost 540 instructions a frame, 32 cold entries and what they point to).
const SEARCH_EVERY: u32 = 256;

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
            if self.is_hosts::<F>(input, &work.key) {
                return self.except(now, input, frame, Reason::NotServed, observer);
            }
            return self.expire(now, input, frame, &work.parsed, observer);
        }
        let tuple = F::tuple(&work.key);
        if let Err(reason) = check_transport(frame.bytes(), &work.parsed, &tuple) {
            return self.drop_frame(input, frame, reason, observer);
        }
        let flags = work.parsed.tcp_flags;
        match self.establish::<F, O>(now, &work.key, flags, observer) {
            Ok(hit) => self.translate(now, input, frame, work, &hit, pool, observer),
            Err(End::Drop(reason @ Reason::NotServed)) => {
                self.except(now, input, frame, reason, observer);
            }
            Err(End::Drop(reason)) => self.drop_frame(input, frame, reason, observer),
            Err(End::Reject(reason)) => {
                self.reject(now, input, frame, &work.parsed, &tuple, reason, observer);
            }
        }
    }

    /// The next hop towards `destination`, and its neighbour's word now.
    pub(crate) fn next_hop<F: Family>(
        &mut self,
        now: Now,
        destination: F::Address,
        slot: u32,
    ) -> Result<(Hop, Word), Reason> {
        self.towards.next_hop::<F>(
            self.snapshots.get(),
            &self.shared.neighbours,
            now.second,
            destination,
            slot,
        )
    }

    /// Removes a flow.
    pub(crate) fn forget<F: Tabled>(&mut self, flow: &FlowView<F>) {
        if F::table(&self.shared).remove(flow) {
            self.counters.add(Total::FlowsRemoved, 1);
            self.shared.open_flows.close_flow(flow);
        }
    }

    /// Makes the flow of a first frame with this tuple and these TCP flags.
    pub(crate) fn establish<F: Tabled, O: Observe>(
        &mut self,
        now: Now,
        key: &F::Key,
        tcp_flags: u8,
        observer: &mut O,
    ) -> Result<Hit<F>, End> {
        let random = self.next_random();
        let Self {
            shared,
            snapshots,
            counters,
            towards,
            snat_ports,
            futile,
            openings,
            ..
        } = self;
        let snapshot = snapshots.get();
        let decision = decide::<F>(snapshot, key);
        if O::WATCHES {
            observer.decided(&F::tuple(key), &decision);
        }
        let slot = decision
            .frontend
            .and_then(|frontend| frontend.service.as_ref())
            .map_or(crate::slots::SHARED_SLOT, |service| service.slot);
        let refused_in = |slot, end: End| {
            counters.add_service(slot, ServiceCounter::Refused, 1);
            end
        };
        let refused = |end| refused_in(slot, end);
        let drops = |reason| refused(End::Drop(reason));
        let is_served = matches!(
            decision.outcome,
            Outcome::Translate { .. } | Outcome::Reject(_)
        );
        if is_served && !decision.may_send {
            return Err(drops(Reason::BadSource));
        }
        let (set, masquerade) = match decision.outcome {
            Outcome::Translate { set, masquerade } => (set, masquerade),
            Outcome::Reject(reason) => return Err(refused(End::Reject(reason))),
            Outcome::Drop(reason) => return Err(drops(reason)),
            Outcome::Pass(reason) => return Err(End::Drop(reason)),
        };
        let (addresses, ports, protocol) = F::split(key);
        // A segment in mid-stream is taken up (Maglev may well find the backend that knows it, and else
        // that backend refuses it); one that only ends a connection is not.
        let opens = tcp_flags & SYN != 0 || tcp_flags & (ACK | FIN | RST) == ACK;
        if protocol == TCP && !opens {
            return Err(drops(Reason::NoFlow));
        }
        // Nothing is worked out for a flow that finds no room; nearly all do, so it is asked only after one
        // did not.
        let table = F::table(shared);
        let may_search = is_worth_a_search(*futile);
        if !may_search && !table.has_room_for(key) {
            *futile = futile.wrapping_add(1);
            return Err(drops(Reason::FlowTableFull));
        }
        let (client, _) = F::ends(&addresses);
        shared
            .rates
            .admit::<F>(slot, client, now.second)
            .map_err(|reason| {
                counters.add_service(slot, ServiceCounter::Limited, 1);
                drops(reason)
            })?;
        let backend = choose::<F>(shared, set, decision.frontend, key, now, random)
            .ok_or(End::Reject(Reason::NoEndpoint))
            .map_err(refused)?;
        // From here on its endpoint counts.
        let counted = shared.endpoints.slot(slot, &backend);
        let drops = |reason| refused_in(counted, End::Drop(reason));
        // Sets are of one family.
        let to = F::number(backend.address).ok_or_else(|| drops(Reason::NoRoute))?;
        let mut next_hop = |address| {
            let neighbours = &shared.neighbours;
            let hop = towards.next_hop::<F>(snapshot, neighbours, now.second, address, counted);
            hop.map_err(drops)
        };
        let (forward_hop, word) = next_hop(to)?;
        let (reply_hop, _) = next_hop(client)?;
        let masquerade = masquerade || to == client;
        let source = if masquerade {
            snat_address::<F>(snapshot, shared, word, to, random)
                .ok_or_else(|| drops(Reason::NoSnatAddress))?
        } else {
            client
        };
        let flow = NewFlow::<F> {
            forward: *key,
            forward_hop,
            reply_hop,
            second: now.second,
            flags: if protocol == TCP {
                seen(tcp_flags)
            } else {
                REPLIED
            },
        };
        let ends = F::words(source, to);
        let translated = |port: u16| {
            let ports = Ports::from(port) << 16 | Ports::from(backend.port);
            F::join(ends, ports, protocol)
        };
        // Without masquerading the client keeps its port too, unless that would collide with
        // another of its flows to the same backend.
        let kept = (!masquerade).then_some((ports >> 16) as u16);
        let mut tries = kept.into_iter().chain(snat_ports.tries(random));
        let inserted = table.insert_or_evict(
            &flow,
            &shared.options.timeouts,
            may_search,
            || tries.next().map(translated),
            |gone| {
                counters.add(Total::FlowsRemoved, 1);
                shared.open_flows.close_flow(gone);
            },
        );
        let is_full = matches!(inserted, Err(InsertError::Full));
        *futile = if is_full { futile.wrapping_add(1) } else { 0 };
        match inserted {
            Ok(inserted) => {
                shared.open_flows.open(&backend);
                counters.add(Total::FlowsCreated, 1);
                counters.add_service(counted, ServiceCounter::Flows, 1);
                let endpoints = masquerade.then_some(set.members.len());
                let most = endpoints.map_or(u32::MAX, |count| snat_ports.most(count));
                if let Some(evicted) = openings.opened(table, slot, most, &inserted, now.second) {
                    shared.open_flows.close_flow(&evicted);
                    counters.evicted(shared.endpoints.service(evicted.slot));
                }
                Ok(Hit {
                    index: inserted.index,
                    translation: inserted.translation,
                    hop: forward_hop,
                })
            }
            // Another worker was faster with the same flow: its choice holds.
            Err(InsertError::Exists(index)) => table
                .read(index, key)
                .ok_or_else(|| drops(Reason::FlowRace)),
            Err(InsertError::Full) => Err(drops(Reason::FlowTableFull)),
            Err(InsertError::NoCandidate) => {
                counters.add_service(slot, ServiceCounter::SnatExhausted, 1);
                Err(drops(Reason::SnatPortsExhausted))
            }
            Err(InsertError::Busy) => Err(drops(Reason::FlowRace)),
        }
    }

    pub(crate) fn next_random(&mut self) -> u64 {
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

/// Whether a flow to evict is looked for after so many new flows refused one after the other.
const fn is_worth_a_search(futile: u32) -> bool {
    futile.is_multiple_of(SEARCH_EVERY) || futile.is_power_of_two()
}

/// The backend of a new flow with this tuple.
fn choose<F: Family>(
    shared: &Shared,
    set: &ResolvedSet,
    frontend: Option<&Arc<Frontend>>,
    key: &F::Key,
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
        let (addresses, _, _) = F::split(key);
        let client = Client {
            address: F::address(F::ends(&addresses).0),
            service,
            timeout: frontend.affinity_timeout,
        };
        return shared.affinity.choose(&client, set, now.second, random);
    }
    let options = &shared.options;
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
            let open = &shared.open_flows;
            Some(if open.get(&two) < open.get(&one) {
                two
            } else {
                one
            })
        }
    }
}

/// An own address to masquerade with towards `backend`, whose next hop is `word`'s neighbour.
#[inline]
fn snat_address<F: Family>(
    snapshot: &Snapshot,
    shared: &Shared,
    word: Word,
    backend: F::Address,
    random: u64,
) -> Option<F::Address> {
    let snat = &snapshot.networks.snat;
    if !snat.is_empty() {
        let mut family = snat.iter().filter_map(|own| F::number(*own));
        let count = family.clone().count();
        if count > 0 {
            return family.nth(random as usize % count);
        }
    }
    let link = shared.topology.links.get(usize::from(word.link()))?;
    link.source::<F>(backend)
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
