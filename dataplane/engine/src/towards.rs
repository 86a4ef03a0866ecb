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
    /// The next hop towards `destination` for a flow of the service in slot `service`, and its neighbour's word.
    pub(crate) fn next_hop<F: Family>(
        &mut self,
        snapshot: &Snapshot,
        neighbours: &Neighbours,
        second: u32,
        destination: F::Address,
        service: u32,
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
        Ok((hop.for_service(service), word))
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
