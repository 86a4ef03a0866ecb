//! Next hops of first frames, as one worker keeps them.
//!
//! A route leads to a neighbour (by way of a router, or the destination itself), whose slot in the table of
//! neighbours has to be found. A worker keeps what it found: by route where that names a router, by address
//! where it does not. What is kept is good for one epoch, as [`crate::ways`] explains it, and only resolved
//! neighbours are kept, whose slots do not change hands without a new epoch.

use crate::family::{Family, SPREAD};
use crate::flow::Hop;
use crate::neighbour::{Neighbours, Word};
use crate::reason::Reason;
use crate::snapshot::Snapshot;

/// Routers kept at a time (by number of the route's target).
const ROUTERS: usize = 256;

/// Hosts on connected networks kept at a time.
const HOSTS: usize = 1024;

/// What one worker knows of next hops.
#[derive(Debug)]
pub(crate) struct Towards {
    routers: Box<[Kept<u32>; ROUTERS]>,
    hosts: Box<[Kept<u128>; HOSTS]>,
    epoch: u64,
    /// Changes of neighbours, and generation of the routes, that the epoch is of.
    of: (u64, u16),
}

/// A next hop that was found.
#[derive(Debug, Clone, Copy, Default)]
struct Kept<K> {
    /// 0: none.
    epoch: u64,
    hop: Hop,
    word: Word,
    key: K,
    /// Of an IPv6 destination.
    is_v6: bool,
}

impl Default for Towards {
    fn default() -> Self {
        Self {
            routers: Box::new([Kept::default(); ROUTERS]),
            hosts: Box::new([Kept::default(); HOSTS]),
            epoch: 0,
            of: (0, 0),
        }
    }
}

impl Towards {
    /// The next hop towards `destination` for a flow that counts in `slot`, and its neighbour's word.
    pub(crate) fn next_hop<F: Family>(
        &mut self,
        snapshot: &Snapshot,
        neighbours: &Neighbours,
        second: u32,
        destination: F::Address,
        slot: u32,
    ) -> Result<(Hop, Word), Reason> {
        let routes = snapshot.route_generation;
        self.refresh((neighbours.changes(), routes));
        let (number, target) = snapshot
            .routes
            .towards::<F>(destination)
            .ok_or(Reason::NoRoute)?;
        let find = |via| {
            let found = neighbours.index(target.link, via, second);
            let (index, word) = found.ok_or(Reason::NeighbourTableFull)?;
            Ok((Hop::new(0, index, word.generation(), routes), word))
        };
        let is_v6 = F::LINES > 1;
        let (hop, word) = match target.via {
            Some(via) => {
                let kept = &mut self.routers[number % ROUTERS];
                kept.get_or(self.epoch, number as u32, is_v6, || find(via))?
            }
            None => {
                let key = F::widen(destination);
                let bits = (key as u64) ^ (key >> 64) as u64;
                let at = (bits.wrapping_mul(SPREAD) >> 54) as usize;
                let kept = &mut self.hosts[at % HOSTS];
                kept.get_or(self.epoch, key, is_v6, || find(F::address(destination)))?
            }
        };
        Ok((hop.counted_in(slot), word))
    }

    #[inline(always)]
    fn refresh(&mut self, of: (u64, u16)) {
        if of != self.of || self.epoch == 0 {
            self.of = of;
            self.epoch += 1;
        }
    }
}

impl<K: Copy + Eq> Kept<K> {
    /// What is kept for `key`, or what `find` finds.
    #[inline(always)]
    fn get_or(
        &mut self,
        epoch: u64,
        key: K,
        is_v6: bool,
        find: impl FnOnce() -> Result<(Hop, Word), Reason>,
    ) -> Result<(Hop, Word), Reason> {
        if (self.epoch, self.key, self.is_v6) == (epoch, key, is_v6) {
            return Ok((self.hop, self.word));
        }
        let (hop, word) = find()?;
        if word.mac().is_some() {
            *self = Self {
                epoch,
                hop,
                word,
                key,
                is_v6,
            };
        }
        Ok((hop, word))
    }
}

#[cfg(test)]
mod tests {
    use hugepages::Slab;
    use hugepages::object::Prefix;
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::family::V4;
    use crate::route::{Routes, Target};

    fn snapshot(generation: u16, router: Option<&str>) -> Snapshot {
        let prefix = Prefix {
            address: "10.0.0.0".parse().unwrap(),
            length: 8,
        };
        let via = router.map(|router| router.parse().unwrap());
        let mut snapshot = Snapshot::default();
        snapshot.routes = Arc::new(Routes::new(&[(prefix, Target { link: 1, via })]));
        snapshot.route_generation = generation;
        snapshot
    }

    fn hear(neighbours: &Neighbours, address: &str, mac: u8) {
        let address: IpAddr = address.parse().unwrap();
        neighbours.index(1, address, 1).unwrap();
        assert!(neighbours.learn(1, address, [mac; 6], 1));
    }

    fn mac(
        towards: &mut Towards,
        snapshot: &Snapshot,
        neighbours: &Neighbours,
        to: u32,
    ) -> Option<u8> {
        let found = towards.next_hop::<V4>(snapshot, neighbours, 1, to, 7);
        let (hop, word) = found.unwrap();
        assert_eq!(hop.slot(), 7);
        assert_eq!(hop.routes(), snapshot.route_generation);
        assert_eq!(neighbours.word(hop.neighbour()), word);
        word.mac().map(|mac| mac[0])
    }

    const HOST: u32 = 0x0a00_0007;

    #[test]
    fn what_is_kept_ends_with_a_change_of_neighbours_or_routes() {
        for router in [None, Some("10.0.0.1")] {
            let neighbours = Neighbours::new(Slab::heap(64));
            let mut towards = Towards::default();
            let hop = router.unwrap_or("10.0.0.7");
            let first = snapshot(1, router);
            assert_eq!(mac(&mut towards, &first, &neighbours, HOST), None);
            hear(&neighbours, hop, 3);
            assert_eq!(mac(&mut towards, &first, &neighbours, HOST), Some(3));
            assert_eq!(mac(&mut towards, &first, &neighbours, HOST), Some(3));
            hear(&neighbours, hop, 4);
            assert_eq!(mac(&mut towards, &first, &neighbours, HOST), Some(4));
            hear(&neighbours, "10.0.0.9", 9);
            let second = snapshot(2, Some("10.0.0.9"));
            assert_eq!(mac(&mut towards, &second, &neighbours, HOST), Some(9));
        }
    }

    #[test]
    fn hosts_that_share_a_place_are_told_apart() {
        let neighbours = Neighbours::new(Slab::heap(4096));
        let (mut towards, snapshot) = (Towards::default(), snapshot(1, None));
        for host in 0..2048u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + host).to_string();
            hear(&neighbours, &address, (host % 251) as u8);
        }
        for host in (0..2048).chain(0..2048) {
            let found = mac(&mut towards, &snapshot, &neighbours, 0x0a00_0000 + host);
            assert_eq!(found, Some((host % 251) as u8));
        }
    }

    #[test]
    fn without_a_route_there_is_no_next_hop() {
        let neighbours = Neighbours::new(Slab::heap(64));
        let found = Towards::default().next_hop::<V4>(&snapshot(1, None), &neighbours, 1, 1, 7);
        assert_eq!(found, Err(Reason::NoRoute));
    }
}
