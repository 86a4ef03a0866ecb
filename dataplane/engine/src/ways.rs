//! Next hops as one worker keeps them: ready Ethernet headers, found by the hop of a flow's entry.
//!
//! The neighbour table is everybody's and says what is true; this is a worker's own copy of the part that
//! its established flows use, so that a frame's next hop costs one compare and the copying of twelve bytes.
//! A way is good for the hop it was made for (neighbour, generation of its slot, generation of the routes)
//! and for one epoch: a new epoch begins with the burst that finds that a neighbour's MAC address or
//! the routes have changed.

use packet::parse::ETHERNET_HEADER;

use crate::flow::Hop;
use crate::neighbour::{MAX_NEIGHBOURS, Neighbours, Word};
use crate::topology::LinkConfig;

/// A worker's ways.
#[derive(Debug)]
pub(crate) struct Ways {
    slots: Box<[Way; MAX_NEIGHBOURS]>,
    /// The current epoch, moved up to where [`Way::hop`] has it.
    epoch: u64,
    /// Changes of neighbours, and generation of the routes, that the epoch is of.
    of: (u64, u16),
}

/// A worker's ways during a burst.
#[derive(Clone, Copy)]
pub(crate) struct WaysNow<'a> {
    slots: &'a [Way; MAX_NEIGHBOURS],
    epoch: u64,
}

/// How a plain frame leaves.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
pub(crate) struct Way {
    /// Epoch, and the upper half of [`Hop`]. 0: no way yet, there is no epoch 0.
    hop: u64,
    /// Destination and source address: bytes 0–7 of a frame, little-endian.
    first: u64,
    /// Bytes 8–11.
    rest: u32,
    /// Longest frame that certainly fits the link's MTU.
    pub(crate) longest: u32,
    /// Egress link.
    pub(crate) link: u8,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            slots: Box::new([Way::default(); MAX_NEIGHBOURS]),
            epoch: 0,
            of: (0, 0),
        }
    }
}

impl Ways {
    /// To be called once a burst: begins a new epoch if what ways are made of has changed.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, neighbours: &Neighbours, routes: u16) {
        let now = (neighbours.changes(), routes);
        if now != self.of || self.epoch == 0 {
            self.of = now;
            self.begin_epoch();
        }
    }

    /// The ways of this epoch.
    #[inline(always)]
    pub(crate) fn now(&self) -> WaysNow<'_> {
        WaysNow {
            slots: &self.slots,
            epoch: self.epoch,
        }
    }

    /// Keeps the way of a hop that is up to date. Not for unresolved neighbours, nor for links with a VLAN:
    /// these frames need more than addresses.
    #[cold]
    pub(crate) fn keep(&mut self, hop: Hop, word: Word, link: &LinkConfig) {
        let Some([a, b, c, d, e, f]) = word.mac() else {
            return;
        };
        if link.vlan.is_some()
            || hop.routes() != self.of.1
            || hop.neighbour_generation() != word.generation()
        {
            return;
        }
        let own = link.mac;
        self.slots[usize::from(hop.neighbour()) % MAX_NEIGHBOURS] = Way {
            hop: self.epoch | hop.0 >> 32,
            first: u64::from_le_bytes([a, b, c, d, e, f, own[0], own[1]]),
            rest: u32::from_le_bytes([own[2], own[3], own[4], own[5]]),
            longest: u32::from(link.mtu) + ETHERNET_HEADER as u32,
            link: word.link(),
        };
    }

    #[cold]
    fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1 << 32);
        if self.epoch == 0 {
            // All 2³² numbers are used up: those of old must not come true again.
            self.slots.fill(Way::default());
            self.epoch = 1 << 32;
        }
    }
}

impl<'a> WaysNow<'a> {
    /// The way of a flow's hop, if it is known.
    #[inline(always)]
    pub(crate) fn get(self, hop: Hop) -> Option<&'a Way> {
        let way = &self.slots[usize::from(hop.neighbour()) % MAX_NEIGHBOURS];
        (way.hop == self.epoch | hop.0 >> 32).then_some(way)
    }
}

impl Way {
    /// Writes the MAC addresses of a frame.
    #[inline(always)]
    pub(crate) fn set_addresses(&self, bytes: &mut [u8]) {
        if let Some(header) = bytes.first_chunk_mut::<12>() {
            header[..8].copy_from_slice(&self.first.to_le_bytes());
            header[8..].copy_from_slice(&self.rest.to_le_bytes());
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::net::IpAddr;

    use hugepages::Slab;

    use super::*;

    fn link(vlan: Option<u16>) -> LinkConfig {
        LinkConfig {
            name: "a".into(),
            mac: [2, 3, 4, 5, 6, 7],
            vlan,
            mtu: 1500,
            mss_clamp: crate::topology::MssClamp::Off,
            addresses: Vec::new(),
        }
    }

    fn resolved(mac: u8) -> (Neighbours, Hop, Word) {
        let neighbours = Neighbours::new(Slab::heap(64));
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        let (index, _) = neighbours.index(1, address, 1).unwrap();
        neighbours.learn(1, address, [mac; 6], 1);
        let word = neighbours.word(index);
        (neighbours, Hop::new(9, index, word.generation(), 5), word)
    }

    #[test]
    fn a_way_holds_until_its_neighbour_or_the_routes_change() {
        let (neighbours, hop, word) = resolved(1);
        let mut ways = Ways::default();
        ways.refresh(&neighbours, 5);
        assert!(ways.now().get(hop).is_none());
        ways.keep(hop, word, &link(None));
        let mut frame = [0; 14];
        let way = ways.now().get(hop).unwrap();
        way.set_addresses(&mut frame);
        assert_eq!(frame, [1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 0, 0]);
        assert_eq!((way.link, way.longest), (1, 1514));
        let same_for_another_service = Hop::new(10, hop.neighbour(), word.generation(), 5);
        assert!(ways.now().get(same_for_another_service).is_some());
        let older = Hop::new(9, hop.neighbour(), word.generation(), 4);
        assert!(ways.now().get(older).is_none());

        ways.refresh(&neighbours, 5);
        assert!(ways.now().get(hop).is_some(), "nothing has changed");
        ways.refresh(&neighbours, 6);
        assert!(ways.now().get(hop).is_none(), "the routes have changed");
        ways.keep(hop, word, &link(None));
        assert!(
            ways.now().get(hop).is_none(),
            "a hop of old routes is not kept"
        );

        ways.refresh(&neighbours, 5);
        ways.keep(hop, word, &link(None));
        assert!(neighbours.learn(1, "10.0.0.7".parse().unwrap(), [1; 6], 2));
        ways.refresh(&neighbours, 5);
        assert!(ways.now().get(hop).is_some(), "the same address again");
        assert!(neighbours.learn(1, "10.0.0.7".parse().unwrap(), [8; 6], 3));
        ways.refresh(&neighbours, 5);
        assert!(ways.now().get(hop).is_none(), "another address");
    }

    #[test]
    fn a_neighbour_given_up_has_no_way() {
        let (neighbours, hop, word) = resolved(1);
        let mut ways = Ways::default();
        ways.refresh(&neighbours, 5);
        ways.keep(hop, word, &link(None));
        neighbours.maintain(&mut 0, 64, 100, |_| {});
        ways.refresh(&neighbours, 5);
        assert!(ways.now().get(hop).is_none());
        ways.keep(hop, neighbours.word(hop.neighbour()), &link(None));
        assert!(ways.now().get(hop).is_none());
    }

    #[test]
    fn frames_that_need_a_tag_have_no_way() {
        let (neighbours, hop, word) = resolved(1);
        let mut ways = Ways::default();
        ways.refresh(&neighbours, 5);
        ways.keep(hop, word, &link(Some(7)));
        assert!(ways.now().get(hop).is_none());
    }

    #[test]
    fn numbers_of_epochs_that_are_used_again_bring_nothing_back() {
        let (neighbours, hop, word) = resolved(1);
        let mut ways = Ways::default();
        ways.refresh(&neighbours, 5);
        ways.keep(hop, word, &link(None));
        ways.epoch = u64::MAX << 32;
        ways.refresh(&neighbours, 6);
        ways.refresh(&neighbours, 5);
        assert!(ways.now().get(hop).is_none());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hugepages::Slab;

    use super::*;

    /// A mutation that this model was seen to catch: `changed` with Relaxed.
    #[test]
    fn loom_a_way_that_is_kept_beside_a_change_does_not_outlive_it() {
        loom::model(|| {
            let link = LinkConfig {
                name: "a".into(),
                mac: [2; 6],
                vlan: None,
                mtu: 1500,
                mss_clamp: crate::topology::MssClamp::Off,
                addresses: Vec::new(),
            };
            let address: IpAddr = Ipv4Addr::new(10, 0, 0, 7).into();
            let table = Neighbours::new(Slab::heap(1));
            let (index, _) = table.index(1, address, 1).unwrap();
            table.learn(1, address, [1; 6], 1);
            let hearing = table.clone();
            let other = loom::thread::spawn(move || {
                hearing.learn(1, address, [3; 6], 2);
            });
            let mut ways = Ways::default();
            ways.refresh(&table, 5);
            let word = table.word(index);
            let hop = Hop::new(9, index, word.generation(), 5);
            ways.keep(hop, word, &link);
            other.join().unwrap();
            ways.refresh(&table, 5);
            if let Some(way) = ways.now().get(hop) {
                let mut frame = [0; 14];
                way.set_addresses(&mut frame);
                assert_eq!(frame[..6], [3; 6], "the address that is true now");
            }
        });
    }
}
