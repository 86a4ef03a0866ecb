//! What is known of datagrams that travel in fragments: a bounded cache, shared by all workers.
//!
//! A source's datagrams lie in one set of [`WAYS`], so no source has more than that, and all together have
//! [`SETS`] × [`WAYS`]. In a full set the one that is missed least goes: one that is whole or dropped, else the
//! oldest of those whose first fragment has not come, else the oldest. So a flood of fragments without a
//! first takes room from nobody but its like.
//!
//! A set is behind a lock that is only ever tried: fragments are rare, what is done under it takes some
//! 100 ns, and whoever does not get it in time drops one fragment.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hugepages::sync::{AtomicU32, Mutex, MutexGuard, Ordering, spin};
use packet::fragment::Piece;
use packet::parse::{Network, Parsed};

use crate::family::{Family, SPREAD, V4, V6};
use crate::reason::Reason;

use super::ids::Ids;
use super::spans::{Fit, Spans};

/// Sets of a family.
const SETS: usize = if cfg!(loom) { 1 } else { 128 };

/// Datagrams of a set: unfinished ones that a source can have at a time.
const WAYS: usize = 32;

/// Seconds after which the rest of a datagram is not expected any more. Shorter than any receiver waits
/// (RFC 8200 section 4.5: 60 s), because identifications of 16 bits come again.
const LIFETIME: u32 = 5;

/// Tries at a set's lock: some 100 µs.
const PATIENCE: u32 = if cfg!(loom) { 2 } else { 10_000 };

/// Workers that can be woken.
pub(crate) const MAX_WORKERS: usize = if cfg!(loom) { 2 } else { 64 };

/// Both families' datagrams, and what belongs to both.
#[derive(Debug)]
pub struct Fragments {
    pub(crate) v4: Datagrams<V4>,
    pub(crate) v6: Datagrams<V6>,
    pub(crate) ids: Ids,
    /// Counts, for each worker, decisions about datagrams of which it has parked fragments.
    wakes: [AtomicU32; MAX_WORKERS],
}

impl Default for Fragments {
    /// Empty, with hashes that nobody outside can know.
    fn default() -> Self {
        let random = RandomState::new();
        let seeds = [random.hash_one(1u8), random.hash_one(2u8)];
        Self {
            v4: Datagrams::new(seeds),
            v6: Datagrams::new(seeds),
            ids: Ids::new(random.hash_one(3u8)),
            wakes: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl Fragments {
    /// How often worker `worker` was woken.
    pub(crate) fn wakes(&self, worker: usize) -> u32 {
        // Acquire meets the Release in `wake`: the decision that was made before is seen under its set's
        // lock.
        self.wakes
            .get(worker)
            .map_or(0, |wakes| wakes.load(Ordering::Acquire))
    }

    /// Wakes the workers of this mask, but for `but`, who knows.
    pub(crate) fn wake(&self, waiting: u64, but: usize) {
        for (worker, wakes) in self.wakes.iter().enumerate() {
            if worker != but && waiting >> worker & 1 == 1 {
                // Release meets the Acquire in `wakes`.
                wakes.fetch_add(1, Ordering::Release);
            }
        }
    }
}

/// What the fragments of a datagram share (RFC 791 section 3.2; RFC 8200 section 4.5, which leaves the
/// protocol out).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<F: Family> {
    pub(crate) addresses: F::Addresses,
    id: u32,
    protocol: u8,
}

impl<F: Family> Identity<F> {
    pub(crate) fn new(bytes: &[u8], piece: &Piece) -> Option<Self> {
        let (source, destination) = packet::tuple::addresses(bytes, &piece.parsed)?;
        let Parsed {
            network, protocol, ..
        } = piece.parsed;
        Some(Self {
            addresses: F::pack(source, destination)?,
            id: piece.id,
            protocol: if network == Network::V4 { protocol } else { 0 },
        })
    }

    fn is(&self, other: &Self) -> bool {
        let rest = |identity: &Self| (identity.id, identity.protocol);
        self.addresses == other.addresses && rest(self) == rest(other)
    }
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate<F: Family> {
    /// Its first fragment has not come, or is being decided about.
    Unknown,
    /// It belongs to the flow with this tuple, and leaves with this identification.
    Flow { key: F::Key, id: u32 },
    /// It is an echo request to the gateway; the reply has this identification.
    Echo { id: u32 },
    /// Its first fragment was dropped, or two of its fragments contradict each other.
    Lost,
}

impl<F: Family> Fate<F> {
    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

#[derive(Debug)]
struct Datagram<F: Family> {
    identity: Identity<F>,
    since: u32,
    fate: Fate<F>,
    spans: Spans,
    /// Workers with parked fragments, a bit each.
    waiting: u64,
}

/// What is to be done with a fragment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Noted<F: Family> {
    /// It is the first: to be decided about.
    Decide,
    /// It has to wait for the first.
    Wait,
    /// It goes the first one's way.
    Goes(Fate<F>),
    /// It is dropped.
    Refused(Reason),
}

/// Datagrams of one family.
#[derive(Debug)]
pub(crate) struct Datagrams<F: Family> {
    sets: Box<[Mutex<Vec<Datagram<F>>>]>,
    seeds: [u64; 2],
}

impl<F: Family> Datagrams<F> {
    fn new(seeds: [u64; 2]) -> Self {
        Self {
            sets: (0..SETS)
                .map(|_| Mutex::new(Vec::with_capacity(WAYS)))
                .collect(),
            seeds,
        }
    }

    /// Takes note of a fragment that was received by `worker`.
    pub(crate) fn note(
        &self,
        identity: &Identity<F>,
        piece: &Piece,
        second: u32,
        worker: usize,
    ) -> Noted<F> {
        let Some(mut set) = self.lock(identity) else {
            return Noted::Refused(Reason::FlowRace);
        };
        let datagram = find_or_make(&mut set, identity, second);
        if datagram.fate.is_lost() {
            return Noted::Refused(Reason::FragmentOfDropped);
        }
        match datagram.spans.add(piece.start, piece.end, piece.is_last) {
            Fit::New => {}
            Fit::Copy => return Noted::Refused(Reason::FragmentCopy),
            Fit::Overlap => {
                // RFC 5722 section 3: those not yet received go, too.
                datagram.fate = Fate::Lost;
                return Noted::Refused(Reason::FragmentOverlap);
            }
            Fit::TooMany => {
                datagram.fate = Fate::Lost;
                return Noted::Refused(Reason::FragmentLimit);
            }
        }
        match datagram.fate {
            _ if piece.is_first() => Noted::Decide,
            Fate::Unknown => {
                datagram.waiting |= 1 << (worker % MAX_WORKERS);
                Noted::Wait
            }
            fate => Noted::Goes(fate),
        }
    }

    /// Sets what becomes of a datagram; returns which workers wait for that.
    pub(crate) fn decide(&self, identity: &Identity<F>, fate: Fate<F>, second: u32) -> u64 {
        let Some(mut set) = self.lock(identity) else {
            return 0;
        };
        let datagram = find_or_make(&mut set, identity, second);
        if !datagram.fate.is_lost() {
            datagram.fate = fate;
        }
        std::mem::take(&mut datagram.waiting)
    }

    /// What becomes of a datagram of which `worker` has parked fragments: it stays among those who wait
    /// as long as that is unknown.
    pub(crate) fn fate(&self, identity: &Identity<F>, worker: usize) -> Fate<F> {
        let Some(mut set) = self.lock(identity) else {
            return Fate::Unknown;
        };
        let found = set.iter_mut().find(|other| other.identity.is(identity));
        found.map_or(Fate::Unknown, |datagram| {
            if datagram.fate.is_unknown() {
                datagram.waiting |= 1 << (worker % MAX_WORKERS);
            }
            datagram.fate
        })
    }

    /// Hash of a pair of addresses and a protocol.
    pub(crate) fn pair(&self, addresses: &F::Addresses, protocol: u8) -> u64 {
        F::hash(self.seeds, &F::join(*addresses, 0, protocol))
    }

    /// Hash of a source alone.
    pub(crate) fn source(&self, addresses: &F::Addresses) -> u64 {
        let words = addresses.as_ref();
        let half = words.len() / 2;
        let source = if half == 0 {
            words[0] >> 32
        } else {
            words[..half]
                .iter()
                .fold(0, |all, word| (all ^ word).wrapping_mul(SPREAD) ^ all >> 31)
        };
        let mixed = (source ^ self.seeds[0]).wrapping_mul(SPREAD ^ self.seeds[1] | 1);
        (mixed ^ mixed >> 32).wrapping_mul(SPREAD)
    }

    fn lock(&self, identity: &Identity<F>) -> Option<MutexGuard<'_, Vec<Datagram<F>>>> {
        let set = &self.sets[(self.source(&identity.addresses) >> 32) as usize % SETS];
        for _ in 0..PATIENCE {
            match set.try_lock() {
                Ok(guard) => return Some(guard),
                Err(_) => spin(),
            }
        }
        None
    }
}

fn find_or_make<'a, F: Family>(
    set: &'a mut Vec<Datagram<F>>,
    identity: &Identity<F>,
    second: u32,
) -> &'a mut Datagram<F> {
    let fresh = Datagram {
        identity: *identity,
        since: second,
        fate: Fate::Unknown,
        spans: Spans::default(),
        waiting: 0,
    };
    let found = set.iter().position(|other| other.identity.is(identity));
    let at = match found {
        Some(at) => {
            // An identification comes again when its datagram is done or given up.
            let is_over = second.saturating_sub(set[at].since) > LIFETIME;
            if is_over || set[at].spans.is_complete() && !set[at].fate.is_unknown() {
                set[at] = fresh;
            }
            at
        }
        None if set.len() < WAYS => {
            set.push(fresh);
            set.len() - 1
        }
        None => {
            // Of those of one second the one in the lowest place goes.
            let least = set
                .iter()
                .enumerate()
                .min_by_key(|(_, other)| (worth(other, second), other.since));
            let at = least.map_or(0, |(at, _)| at);
            set[at] = fresh;
            at
        }
    };
    &mut set[at]
}

/// How much a datagram would be missed.
fn worth<F: Family>(datagram: &Datagram<F>, second: u32) -> u8 {
    let is_over = second.saturating_sub(datagram.since) > LIFETIME;
    match datagram.fate {
        _ if is_over => 0,
        Fate::Lost => 1,
        Fate::Unknown => 2,
        _ if datagram.spans.is_complete() => 0,
        Fate::Flow { .. } | Fate::Echo { .. } => 3,
    }
}

#[cfg(all(test, loom))]
#[path = "datagrams_loom.rs"]
mod loom_tests;
