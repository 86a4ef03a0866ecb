//! Which endpoint of which service counts where: slots of counters beyond those of the services.
//!
//! The first flow of a service to one of its endpoints gives the pair a slot, which it keeps as long as the region
//! lives. Flows carry one slot, the endpoint's where it has one and else the service's, and so count once: what a
//! service has carried is the sum over its own slot and its endpoints'. When all slots are given, or as many as may be, later
//! endpoints are counted by their services alone.
//!
//! A bound is needed for the cache's sake. With a million flows to 250,000 endpoints, each with counters, a frame took 38 ns
//! longer than with counters by service alone, and 10 where the counters of a burst were asked for before they were needed; of
//! 250,000 endpoints of which 4,096 have counters (128 KiB) there was no difference that could be told from noise.
//!
//! Layout, in the region: the index has the number of slots given (its first word), how many may be given, plus one (its
//! second; 0 = as many as there are), and, from the second line on, words of a tag (40 bits of the key's hash) and a slot's
//! number plus one (24 bits); a key is found within a few lines from where its hash says. The keys have half a line a slot:
//!
//! | word | content |
//! |---|---|
//! | 0 | service slot (32 bits), port (16), 1 for IPv6 (bit 48) |
//! | 1, 2 | address, the lower 64 bits first |
//!
//! Nothing in the index changes once it is there. Two workers that meet the same pair first at once take a slot each, and
//! both use the one that is in the index first; the other is lost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg(not(loom))]
use hugepages::Region;
use hugepages::layout::ENDPOINTS_PER_SERVICE;
use hugepages::object::Backend;
use hugepages::sync::{AtomicU64, Ordering};
use hugepages::{HalfLine, Line, Slab};

use crate::family::{SPREAD, mix};
use crate::slots::SHARED_SLOT;

/// Lines of the index, from where a key's hash says, in which it may be.
const LINES_SEARCHED: usize = 4;

/// Bits of a word of the index that are a slot's number plus one; the others are a tag.
const NUMBER: u64 = (1 << 24) - 1;

/// Slots of endpoints.
#[derive(Debug, Clone)]
pub struct EndpointSlots {
    index: Slab<Line>,
    keys: Slab<HalfLine>,
    /// Slots that may be given.
    most: usize,
}

/// None: nothing is counted by endpoint.
impl Default for EndpointSlots {
    fn default() -> Self {
        Self::heap(0)
    }
}

/// An endpoint that has counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedEndpoint {
    /// Slot of its counters.
    pub slot: u32,
    /// Slot of its service.
    pub service: u32,
    /// The endpoint.
    pub backend: Backend,
}

impl EndpointSlots {
    /// Those of a region.
    #[must_use]
    #[cfg(not(loom))]
    pub fn of(region: &Region) -> Self {
        Self::new(region.endpoint_index(), region.endpoint_keys())
    }

    /// Those of a region: [`hugepages::Region::endpoint_index`], [`hugepages::Region::endpoint_keys`].
    #[must_use]
    pub fn new(index: Slab<Line>, keys: Slab<HalfLine>) -> Self {
        let most = keys.len();
        Self { index, keys, most }
    }

    /// Gives no more than so many slots, for the data plane, and lets readers know. Those that were given before are used on.
    #[must_use]
    pub fn up_to(mut self, most: u32) -> Self {
        self.most = self.keys.len().min(most as usize);
        if let Some(word) = self.word(1) {
            // Relaxed: the number stands alone.
            word.store(self.most as u64 + 1, Ordering::Relaxed);
        }
        self
    }

    /// Slots that were given so far, and that may be, as the data plane said last. Endpoints that have no slot when all are
    /// given get none any more.
    #[must_use]
    pub fn given(&self) -> (usize, usize) {
        // Relaxed: the numbers stand alone.
        let word = |at| self.word(at).map_or(0, |word| word.load(Ordering::Relaxed));
        let said = word(1).checked_sub(1).map(|most| most as usize);
        let most = said.map_or(self.keys.len(), |most| most.min(self.keys.len()));
        let given = (word(0) as usize).min(self.keys.len());
        (given, most)
    }

    /// On the heap, beside so many service slots.
    #[must_use]
    pub fn heap(services: usize) -> Self {
        let slots = services * ENDPOINTS_PER_SERVICE;
        Self::new(Slab::heap(1 + slots / 4), Slab::heap(slots))
    }

    /// The slot that flows of a service to this endpoint count in, given now if it has none: `service` itself if there
    /// is none left, or if the service shares its slot with others.
    #[inline]
    #[must_use]
    pub fn slot(&self, service: u32, backend: &Backend) -> u32 {
        if service == SHARED_SLOT || self.keys.is_empty() {
            return service;
        }
        let key = key(service, backend);
        let hash = hash(&key);
        self.find(&key, hash)
            .or_else(|| self.give(&key, hash))
            .map_or(service, |number| self.services() + number)
    }

    /// The slot of the service that is counted in `slot`, itself or by one of its endpoints.
    #[must_use]
    pub fn service(&self, slot: u32) -> u32 {
        match slot.checked_sub(self.services()) {
            Some(number) if !self.keys.is_empty() => self
                .keys
                .get(number as usize)
                .map_or(SHARED_SLOT, |key| key.0[0].load(Ordering::Relaxed) as u32),
            _ => slot,
        }
    }

    /// Every endpoint that has counters, in the order in which they were given; one may be there twice, and is counted
    /// in one of both.
    pub fn all(&self) -> impl Iterator<Item = CountedEndpoint> {
        let (given, _) = self.given();
        let keys = self.keys.iter().take(given).enumerate();
        keys.filter_map(|(number, key)| {
            // Acquire meets the Release in `take`: with the first word the others are there.
            let what = key.0[0].load(Ordering::Acquire);
            let [low, high] = [1, 2].map(|at| key.0[at].load(Ordering::Relaxed));
            let service = what as u32;
            let address = u128::from(high) << 64 | u128::from(low);
            let address = if what >> 48 & 1 == 1 {
                IpAddr::V6(Ipv6Addr::from_bits(address))
            } else {
                IpAddr::V4(Ipv4Addr::from_bits(address as u32))
            };
            // Given and not yet written, or never written because the process was killed.
            (service != SHARED_SLOT).then_some(CountedEndpoint {
                slot: self.services() + number as u32,
                service,
                backend: Backend {
                    address,
                    port: (what >> 32) as u16,
                },
            })
        })
    }

    /// Service slots, which come before those of endpoints.
    #[must_use]
    pub fn services(&self) -> u32 {
        (self.keys.len() / ENDPOINTS_PER_SERVICE) as u32
    }

    /// A word of the index's first line.
    fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.index.first().map(|line| &line.0[at])
    }

    /// The lines in which a key with this hash may be, in their order: a few less if the index ends there.
    #[inline]
    fn lines(&self, hash: u64) -> &[Line] {
        let lines = self.index.get(1..).unwrap_or_default();
        let first = ((u64::from(hash as u32) * lines.len() as u64) >> 32) as usize;
        let end = lines.len().min(first + LINES_SEARCHED);
        lines.get(first..end).unwrap_or_default()
    }

    #[inline]
    fn find(&self, key: &[u64; 3], hash: u64) -> Option<u32> {
        for line in self.lines(hash) {
            for word in &line.0 {
                // Acquire meets the Release in `give`: who finds the number finds the key.
                let seen = word.load(Ordering::Acquire);
                if seen == 0 {
                    return None;
                }
                if let Some(number) = self.holds(seen, key, hash) {
                    return Some(number);
                }
            }
        }
        None
    }

    /// The number in a word of the index, if it is this key's.
    #[inline]
    fn holds(&self, seen: u64, key: &[u64; 3], hash: u64) -> Option<u32> {
        if (seen ^ hash) & !NUMBER != 0 {
            return None;
        }
        let number = (seen & NUMBER).checked_sub(1)?;
        let there = self.keys.get(number as usize)?;
        // Relaxed: they do not change any more.
        let is_same = (0..key.len()).all(|at| there.0[at].load(Ordering::Relaxed) == key[at]);
        is_same.then_some(number as u32)
    }

    /// Gives this key a slot; `None` if there is none left, or no room for it in its lines of the index.
    #[cold]
    #[inline(never)]
    fn give(&self, key: &[u64; 3], hash: u64) -> Option<u32> {
        let mut own = None;
        for word in self.lines(hash).iter().flat_map(|line| &line.0) {
            let mut seen = word.load(Ordering::Acquire);
            if seen == 0 {
                let number = match own {
                    Some(number) => number,
                    None => *own.insert(self.take(key)?),
                };
                let value = hash & !NUMBER | u64::from(number + 1);
                // Release meets the Acquire in `find` and here; Acquire meets that Release if another was faster.
                match word.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some(number),
                    Err(other) => seen = other,
                }
            }
            if let Some(number) = self.holds(seen, key, hash) {
                return Some(number);
            }
        }
        None
    }

    /// Takes the next slot for this key.
    fn take(&self, key: &[u64; 3]) -> Option<u32> {
        let count = self.word(0)?;
        let more = |given: u64| (given < self.most as u64).then(|| given + 1);
        // Relaxed: the number is nobody else's whatever the order.
        let number = count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let there = self.keys.get(number as usize)?;
        let [what, low, high] = *key;
        // Relaxed: found by way of the index or of the first word, each of which is stored with Release.
        there.0[1].store(low, Ordering::Relaxed);
        there.0[2].store(high, Ordering::Relaxed);
        // Release meets the Acquire in `all`.
        there.0[0].store(what, Ordering::Release);
        Some(number as u32)
    }
}

fn key(service: u32, backend: &Backend) -> [u64; 3] {
    let (address, is_v6) = match backend.address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 0),
        IpAddr::V6(address) => (address.to_bits(), 1),
    };
    let what = u64::from(service) | u64::from(backend.port) << 32 | is_v6 << 48;
    [what, address as u64, (address >> 64) as u64]
}

/// Services and endpoints come from the control plane, not from packets: no need for a hash that withstands attacks.
#[inline]
fn hash(key: &[u64; 3]) -> u64 {
    mix(
        mix(key[0] ^ SPREAD, key[1] ^ SPREAD.rotate_left(32)),
        key[2] ^ SPREAD.rotate_left(16),
    )
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn backend(number: u32, is_v6: bool) -> Backend {
        let address = if is_v6 {
            IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number)))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
        };
        Backend {
            address,
            port: 8000 + (number % 3) as u16,
        }
    }

    #[test]
    fn each_endpoint_of_each_service_has_a_slot_of_its_own_also_after_a_restart() {
        let slots = EndpointSlots::heap(512);
        let mut given = HashMap::new();
        for service in 1..8 {
            for number in 0..100 {
                for is_v6 in [false, true] {
                    let backend = backend(number, is_v6);
                    let slot = slots.slot(service, &backend);
                    assert!((512..512 + 2048).contains(&slot));
                    assert_eq!(slots.service(slot), service);
                    assert_eq!(given.insert(slot, (service, backend)), None);
                }
            }
        }
        let again = EndpointSlots::new(slots.index.clone(), slots.keys.clone());
        let listed = again.all();
        let listed: HashMap<_, _> = listed
            .map(|one| (one.slot, (one.service, one.backend)))
            .collect();
        assert_eq!(listed, given);
        for (slot, (service, backend)) in &given {
            assert_eq!(again.slot(*service, backend), *slot);
        }
    }

    #[test]
    fn without_a_slot_left_the_service_counts() {
        let slots = EndpointSlots::heap(8);
        let of = |number| slots.slot(3, &backend(number, false));
        let given: Vec<_> = (0..100).map(of).collect();
        assert_eq!(given.iter().filter(|slot| **slot != 3).count(), 32);
        assert_eq!((0..100).map(of).collect::<Vec<_>>(), given);
        assert_eq!(slots.all().count(), 32);
        assert_eq!(slots.given(), (32, 32));
    }

    #[test]
    fn no_more_are_given_than_may_be_and_those_given_stay() {
        let slots = EndpointSlots::heap(8);
        let of = |slots: &EndpointSlots, number| slots.slot(3, &backend(number, false));
        let given: Vec<_> = (0..10).map(|number| of(&slots, number)).collect();
        let fewer = slots.up_to(4);
        assert_eq!(of(&fewer, 10), 3);
        let again: Vec<_> = (0..10).map(|number| of(&fewer, number)).collect();
        assert_eq!(again, given);
        assert!(!given.contains(&3));
        let reader = EndpointSlots::new(fewer.index.clone(), fewer.keys.clone());
        assert_eq!(reader.given(), (10, 4), "more than may be, from before");
    }

    #[test]
    fn services_that_share_a_slot_and_gateways_without_slots_have_none() {
        let one = backend(1, false);
        assert_eq!(EndpointSlots::heap(8).slot(SHARED_SLOT, &one), SHARED_SLOT);
        let none = EndpointSlots::heap(0);
        assert_eq!((none.slot(5, &one), none.service(5)), (5, 5));
        assert_eq!(none.all().count(), 0);
    }

    #[test]
    fn nearly_every_slot_can_be_given() {
        let services = 1 << 12;
        let slots = EndpointSlots::heap(services);
        let wanted = services * ENDPOINTS_PER_SERVICE;
        let of =
            |number: usize| slots.slot(1 + number as u32 % 1000, &backend(number as u32, false));
        let without = (0..wanted).filter(|number| of(*number) < services as u32);
        assert!(without.count() * 10_000 < wanted, "all but one in 10,000");
    }

    #[test]
    fn whatever_stands_in_the_region_is_no_reason_to_fall() {
        let slots = EndpointSlots::heap(8);
        for line in slots.index.iter() {
            for word in &line.0 {
                word.store(u64::MAX, Ordering::Relaxed);
            }
        }
        assert_eq!(slots.slot(3, &backend(1, true)), 3);
        assert_eq!(slots.service(u32::MAX), SHARED_SLOT);
        assert_eq!(slots.all().count(), 0);
        // The count alone.
        for word in slots.index.iter().skip(1).flat_map(|line| &line.0) {
            word.store(0, Ordering::Relaxed);
        }
        assert_eq!(slots.slot(3, &backend(1, true)), 3);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// Mutations that this model was seen to catch: `give` with a Relaxed exchange, or with a store in its place.
    #[test]
    fn loom_two_workers_give_slots_at_once() {
        loom::model(|| {
            let slots = EndpointSlots::heap(2);
            let backend = Backend {
                address: Ipv4Addr::new(10, 0, 0, 1).into(),
                port: 80,
            };
            let there = slots.clone();
            let other = loom::thread::spawn(move || there.slot(1, &backend));
            let here = slots.slot(1, &backend);
            let there = other.join().unwrap();
            for slot in [here, there, slots.slot(1, &backend)] {
                assert!(slot >= 2, "there is room");
                assert_eq!(slots.service(slot), 1);
            }
            assert_eq!(here, there);
        });
    }

    /// Mutations that this model was seen to catch: `take` with a Relaxed store of the first word, `all` with a Relaxed load
    /// of it.
    #[test]
    fn loom_who_lists_endpoints_sees_whole_ones() {
        loom::model(|| {
            let slots = EndpointSlots::heap(2);
            let backend = Backend {
                address: Ipv6Addr::LOCALHOST.into(),
                port: 80,
            };
            // The reader is the second thread: loom forgets a load of the first one when the second loads the same word before
            // it changes it.
            let there = slots.clone();
            let reader = loom::thread::spawn(move || {
                assert!(there.all().all(|one| one.backend == backend));
            });
            let _ = slots.slot(1, &backend);
            reader.join().unwrap();
            assert_eq!(slots.all().count(), 1);
        });
    }
}
