//! sessionAffinity ClientIP: which endpoint a client's connections to a service port go to.
//!
//! A record is a cache line: client, service, endpoint, second of the last new connection. A
//! client's record lies among [`WAYS`] lines from its home on; the home line's lock word guards
//! them all. Only the first frame of a flow to a service with affinity comes here, so a lock costs little;
//! it is never waited for longer than [`PATIENCE`] looks. When it cannot be had (its owner was put to sleep,
//! or died: a restart clears it), the choice is made from the client's address alone, which is the
//! same for all its connections as long as the endpoints are.
//!
//! | word | content |
//! |---|---|
//! | 0 | lock of the lines from here on: 0 or 1 |
//! | 1–2 | client's address, as the neighbours keep it |
//! | 3 | part of the service's key (32 bits), endpoint's port (16), family (8), 1 if in use (8) |
//! | 4–5 | endpoint's address |
//! | 6 | second of the last new connection |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hugepages::object::Backend;
use hugepages::sync::{Ordering, spin};
use hugepages::{Line, Slab};

use crate::family::SPREAD;
use crate::snapshot::ResolvedSet;

/// Lines among which a client's record lies.
const WAYS: usize = 8;

/// Looks at a held lock before going on without. Few in models: each doubles what there is to try.
const PATIENCE: u32 = if cfg!(loom) { 2 } else { 1_000 };

/// The records.
#[derive(Debug, Clone)]
pub struct Affinity {
    lines: Slab<Line>,
}

/// A client of a service port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) service: u32,
    /// Seconds for which the endpoint is kept after the last new connection.
    pub(crate) timeout: u32,
}

impl Affinity {
    /// Records in these lines (zero, or taken over).
    ///
    /// # Panics
    ///
    /// If there are fewer than [`WAYS`] lines.
    #[must_use]
    pub fn new(lines: Slab<Line>) -> Self {
        assert!(lines.len() >= WAYS, "affinity needs at least {WAYS} lines");
        Self { lines }
    }

    /// Frees the locks of a killed process. Only while no worker runs.
    pub fn recover(&self) {
        for line in self.lines.iter() {
            line.0[0].store(0, Ordering::Relaxed);
        }
    }

    /// The endpoint among `set` for a new connection of `client`: the one it has, or one that `random`
    /// picks and that it has from now on. `None` if the set is empty.
    pub(crate) fn choose(
        &self,
        client: &Client,
        set: &ResolvedSet,
        second: u32,
        random: u64,
    ) -> Option<Backend> {
        let home = self.home(client);
        let Some(_lock) = Lock::take(&self.lines[home]) else {
            return pick(set, hash(client));
        };
        let ways = || (home..home + WAYS).map(|at| &self.lines[at % self.lines.len()]);
        let own = ways().find(|line| belongs(line, client));
        if let Some(line) = own
            && second.saturating_sub(load(line, 6) as u32) <= client.timeout
            && let Some(backend) = endpoint(line)
            && set.members.binary_search(&backend).is_ok()
        {
            line.0[6].store(u64::from(second), Ordering::Relaxed);
            return Some(backend);
        }
        let backend = pick(set, random)?;
        // Its own line, else an unused one, else the one whose last connection is longest ago.
        let age = |line: &&Line| {
            if load(line, 3) & IN_USE == 0 {
                0
            } else {
                load(line, 6)
            }
        };
        if let Some(line) = own.or_else(|| ways().min_by_key(age)) {
            write(line, client, &backend, second);
        }
        Some(backend)
    }

    fn home(&self, client: &Client) -> usize {
        // Windows do not overlap: a lock guards exactly the lines of its window.
        let windows = self.lines.len() / WAYS;
        ((u128::from(hash(client)) * windows as u128) >> 64) as usize * WAYS
    }
}

const IN_USE: u64 = 0xff;

fn pick(set: &ResolvedSet, random: u64) -> Option<Backend> {
    let at = ((u128::from(random) * set.members.len() as u128) >> 64) as usize;
    set.members.get(at).copied()
}

fn hash(client: &Client) -> u64 {
    let (high, low) = words(client.address);
    let mut hash = (high ^ SPREAD).wrapping_mul(SPREAD);
    for word in [low, u64::from(client.service)] {
        hash = (hash ^ (hash >> 31) ^ word).wrapping_mul(SPREAD);
    }
    hash ^ (hash >> 29)
}

// Relaxed everywhere below: the window's lock orders what is done to its lines.

fn load(line: &Line, word: usize) -> u64 {
    line.0[word].load(Ordering::Relaxed)
}

fn belongs(line: &Line, client: &Client) -> bool {
    let what = load(line, 3);
    what & IN_USE != 0
        && (what >> 32) as u32 == client.service
        && (load(line, 1), load(line, 2)) == words(client.address)
}

fn endpoint(line: &Line) -> Option<Backend> {
    let what = load(line, 3);
    let (high, low) = (load(line, 4), load(line, 5));
    let address = match (what >> 8) as u8 {
        4 => Ipv4Addr::from(low as u32).into(),
        6 => Ipv6Addr::from((u128::from(high) << 64) | u128::from(low)).into(),
        _ => return None,
    };
    Some(Backend {
        address,
        port: (what >> 16) as u16,
    })
}

fn write(line: &Line, client: &Client, backend: &Backend, second: u32) {
    let (client_words, backend_words) = (words(client.address), words(backend.address));
    let family = if backend.address.is_ipv4() { 4 } else { 6 };
    let what = u64::from(client.service) << 32 | u64::from(backend.port) << 16 | family << 8 | 1;
    let new = [
        client_words.0,
        client_words.1,
        what,
        backend_words.0,
        backend_words.1,
        u64::from(second),
    ];
    for (word, value) in line.0[1..7].iter().zip(new) {
        word.store(value, Ordering::Relaxed);
    }
}

fn words(address: IpAddr) -> (u64, u64) {
    match address {
        IpAddr::V4(v4) => (0, u64::from(v4.to_bits())),
        IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
    }
}

/// A window's lock, held until dropped.
struct Lock<'a>(&'a Line);

impl<'a> Lock<'a> {
    fn take(home: &'a Line) -> Option<Self> {
        for _ in 0..PATIENCE {
            // Acquire meets the Release in `drop`.
            if home.0[0]
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Some(Self(home));
            }
            spin();
        }
        None
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Release meets the Acquire in `take`: the next owner sees the lines as they are left.
        self.0.0[0].store(0, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::maglev::Maglev;

    fn set(last: &[u8]) -> ResolvedSet {
        let members: Vec<Backend> = last
            .iter()
            .map(|last| Backend {
                address: Ipv4Addr::new(10, 0, 0, *last).into(),
                port: 80,
            })
            .collect();
        ResolvedSet {
            maglev: Maglev::new(&members, 0),
            members,
        }
    }

    fn client(last: u8) -> Client {
        Client {
            address: Ipv4Addr::new(192, 0, 2, last).into(),
            service: 7,
            timeout: 100,
        }
    }

    #[test]
    fn a_client_keeps_its_endpoint_until_the_timeout_after_its_last_connection() {
        let affinity = Affinity::new(Slab::heap(64));
        let set = set(&[1, 2, 3, 4]);
        let first = affinity.choose(&client(1), &set, 1000, 0).unwrap();
        // Each new connection starts the time anew.
        for second in [1050, 1150, 1250] {
            assert_eq!(
                affinity.choose(&client(1), &set, second, u64::MAX),
                Some(first)
            );
        }
        let later = affinity.choose(&client(1), &set, 1351, u64::MAX).unwrap();
        assert_ne!(later, first);
    }

    #[test]
    fn a_record_never_leads_to_an_endpoint_outside_the_set() {
        let affinity = Affinity::new(Slab::heap(64));
        let first = affinity.choose(&client(1), &set(&[1]), 1000, 0).unwrap();
        let other = affinity.choose(&client(1), &set(&[2, 3]), 1001, 0).unwrap();
        assert_ne!(first, other);
        let again = affinity
            .choose(&client(1), &set(&[1, 2, 3]), 1002, u64::MAX)
            .unwrap();
        assert_eq!(
            again, other,
            "the new endpoint is kept when the old one comes back"
        );
    }

    #[test]
    fn services_and_clients_have_records_of_their_own() {
        let affinity = Affinity::new(Slab::heap(64));
        let set = set(&[1, 2]);
        let other_service = Client {
            service: 8,
            ..client(1)
        };
        let a = affinity.choose(&client(1), &set, 1000, 0).unwrap();
        let b = affinity.choose(&client(2), &set, 1000, u64::MAX).unwrap();
        let c = affinity
            .choose(&other_service, &set, 1000, u64::MAX)
            .unwrap();
        assert_ne!(a, b);
        assert_ne!(a, c);
        assert_eq!(affinity.choose(&client(1), &set, 1001, u64::MAX), Some(a));
    }

    #[test]
    fn a_full_window_gives_up_the_record_longest_unused() {
        let affinity = Affinity::new(Slab::heap(WAYS));
        let set = set(&[1, 2]);
        let chosen: Vec<_> = (0..20u8)
            .map(|last| {
                affinity
                    .choose(&client(last), &set, 1000 + u32::from(last), 0)
                    .unwrap()
            })
            .collect();
        for last in 12..20u8 {
            let kept = affinity
                .choose(&client(last), &set, 1020, u64::MAX)
                .unwrap();
            assert_eq!(kept, chosen[usize::from(last)]);
        }
    }

    #[test]
    fn a_lock_that_is_never_given_back_does_not_stop_the_service() {
        let affinity = Affinity::new(Slab::heap(WAYS));
        affinity.lines[0].0[0].store(1, Ordering::Relaxed);
        let set = set(&[1, 2, 3]);
        let first = affinity.choose(&client(1), &set, 1000, 0);
        assert!(first.is_some());
        assert_eq!(affinity.choose(&client(1), &set, 1000, u64::MAX), first);
        affinity.recover();
        assert!(Lock::take(&affinity.lines[0]).is_some());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::maglev::Maglev;

    /// Mutations that this model was seen to catch: the exchange in `take`, or the store in `drop`, with Relaxed.
    #[test]
    fn loom_two_first_connections_of_a_client_get_one_endpoint() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let affinity = Affinity::new(Slab::heap(WAYS));
            let members: Vec<Backend> = (1..=3)
                .map(|last| Backend {
                    address: Ipv4Addr::new(10, 0, 0, last).into(),
                    port: 80,
                })
                .collect();
            let set = ResolvedSet {
                maglev: Maglev::new(&members, 0),
                members,
            };
            let client = Client {
                address: Ipv4Addr::new(192, 0, 2, 1).into(),
                service: 7,
                timeout: 100,
            };
            // What is chosen without the lock; the two choices below differ from it and from each other.
            let alone = pick(&set, hash(&client));
            let others: Vec<u64> = [0, 1 << 63, u64::MAX]
                .into_iter()
                .filter(|random| pick(&set, *random) != alone)
                .collect();
            let (one, other) = (others[0], others[1]);
            let (there, set_there) = (affinity.clone(), set.clone());
            let connecting = thread::spawn(move || there.choose(&client, &set_there, 1000, one));
            let mine = affinity.choose(&client, &set, 1000, other);
            let theirs = connecting.join().unwrap();
            assert!(mine == theirs || mine == alone || theirs == alone);
            // Whoever wrote a record wrote all of it.
            let later = affinity.choose(&client, &set, 1001, one);
            assert!([mine, theirs].contains(&later) || mine == theirs);
        });
    }
}
