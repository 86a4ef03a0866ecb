//! The last steps of every frame: next hop, Ethernet header, output queue; and the frames that wait
//! for their next hop's MAC address.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use packet::ethernet::Mac;
use packet::parse::{ETHERNET_HEADER, NO_VLAN, VLAN_TAG};
use packet::{Buffer, Burst, Pool, arp, ndp};

use crate::counters::{Counters, Total};
use crate::host::Exceptions;
use crate::neighbour::{Neighbours, Solicitation, Word};
use crate::observe::{Observe, Own};
use crate::reason::Reason;
use crate::topology::{LinkConfig, Topology};
use crate::ways::Ways;

/// Frames that one turn can leave for a link: a burst, and what was parked or started besides.
pub const OUTPUT: usize = 64;

/// Frames for one link, to be sent.
pub type Output<B> = ArrayVec<B, OUTPUT>;

/// Frames that a worker lets wait for resolution, in all.
const MAX_PARKED: usize = 512;

/// Frames that may wait for one next hop (RFC 1122 section 2.3.2.2 demands one at least).
const MAX_PARKED_EACH: usize = 64;

/// Seconds that a frame waits.
const PARKED_SECONDS: u32 = 3;

/// The way out of a worker.
#[derive(Debug)]
pub(crate) struct Egress<B: Buffer> {
    pub(crate) ways: Ways,
    pub(crate) outputs: Vec<Output<B>>,
    /// Bytes put into each output since they were last asked for.
    bytes: Vec<u64>,
    parked: Vec<Parked<B>>,
    /// The way to the host, if it shares a link.
    pub(crate) exceptions: Option<Exceptions<B>>,
}

#[derive(Debug)]
struct Parked<B> {
    frame: B,
    neighbour: u16,
    generation: u8,
    /// The link that it is to go out by.
    link: u8,
    since: u32,
}

impl<B: Buffer> Egress<B> {
    pub(crate) fn new(links: &[LinkConfig]) -> Self {
        Self {
            ways: Ways::default(),
            outputs: links.iter().map(|_| ArrayVec::new()).collect(),
            bytes: vec![0; links.len()],
            parked: Vec::with_capacity(MAX_PARKED),
            exceptions: None,
        }
    }

    pub(crate) fn outputs(&mut self) -> impl Iterator<Item = (usize, &mut Output<B>)> {
        self.outputs.iter_mut().enumerate()
    }

    pub(crate) fn output(&mut self, link: usize) -> Option<&mut Output<B>> {
        self.outputs.get_mut(link)
    }

    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Puts a frame that is complete into a link's output.
    #[inline(always)]
    pub(crate) fn push(&mut self, link: usize, frame: B) -> Result<(), Reason> {
        let len = frame.bytes().len() as u64;
        let output = self.outputs.get_mut(link).ok_or(Reason::NoRoute)?;
        output.try_push(frame).map_err(|_| Reason::TxFull)?;
        self.bytes[link] += len;
        Ok(())
    }

    /// Moves a burst of `bytes` bytes, complete frames all, into a link's output; false, and nothing
    /// moved, if there is no such link or no room.
    #[inline(always)]
    pub(crate) fn push_all(&mut self, link: usize, burst: &mut Burst<B>, bytes: u64) -> bool {
        let Some(output) = self.outputs.get_mut(link) else {
            return false;
        };
        let moved = intrinsics::move_all(burst, output);
        if moved {
            self.bytes[link] += bytes;
        }
        moved
    }

    /// Bytes of the frames put into a link's output since this was last asked.
    pub(crate) fn take_bytes(&mut self, link: usize) -> u64 {
        self.bytes.get_mut(link).map_or(0, std::mem::take)
    }

    /// Lets a frame, complete but for its Ethernet header, wait for its next hop.
    #[cold]
    pub(crate) fn park(
        &mut self,
        frame: B,
        neighbour: u16,
        word: Word,
        since: u32,
        counters: &Counters,
    ) -> Result<(), Reason> {
        let same = self
            .parked
            .iter()
            .filter(|parked| parked.neighbour == neighbour)
            .count();
        if self.parked.len() >= MAX_PARKED || same >= MAX_PARKED_EACH {
            return Err(Reason::Unresolved);
        }
        self.parked.push(Parked {
            frame,
            neighbour,
            generation: word.generation(),
            link: word.link(),
            since,
        });
        counters.add(Total::Parked, 1);
        Ok(())
    }

    /// Sends the parked frames whose next hop is resolved now and drops those that waited too
    /// long; asks again for the others.
    #[cold]
    pub(crate) fn unpark<O: Observe>(
        &mut self,
        second: u32,
        (topology, neighbours): (&Topology, &Neighbours),
        counters: &Counters,
        pool: &mut impl Pool<Buffer = B>,
        observer: &mut O,
    ) {
        let mut waiting = std::mem::take(&mut self.parked);
        for parked in waiting.drain(..) {
            let word = neighbours.word(parked.neighbour);
            let link = topology.links.get(usize::from(word.link()));
            let gone = word.generation() != parked.generation
                || second.saturating_sub(parked.since) > PARKED_SECONDS;
            if !gone && (word.mac().is_none() || self.is_full(word.link())) {
                if let Some(solicitation) = neighbours.solicit(parked.neighbour, second) {
                    self.solicit(&solicitation, topology, counters, pool, observer);
                }
                self.parked.push(parked);
                continue;
            }
            counters.add(Total::Unparked, 1);
            let mut frame = parked.frame;
            if O::WATCHES {
                observer.resumed(frame.bytes());
                observer.next_hop(parked.neighbour);
            }
            let sent = match (gone, word.mac(), link) {
                (false, Some(mac), Some(link)) if set_ethernet(&mut frame, mac, link) => {
                    if O::WATCHES {
                        observer.queued(usize::from(word.link()), frame.bytes());
                    }
                    self.push(usize::from(word.link()), frame)
                }
                (false, Some(_), Some(_)) => Err(Reason::NoBuffer),
                _ => Err(Reason::Unresolved),
            };
            if let Err(reason) = sent {
                counters.drop_on(usize::from(parked.link), reason, 1);
                observer.dropped(reason);
            }
        }
        if self.parked.capacity() < waiting.capacity() && self.parked.is_empty() {
            self.parked = waiting; // keeps the allocation
        }
    }

    /// Drops the frames that wait.
    pub(crate) fn drop_parked(&mut self, counters: &Counters) {
        for parked in self.parked.drain(..) {
            counters.add(Total::Unparked, 1);
            counters.drop_on(usize::from(parked.link), Reason::Unresolved, 1);
        }
    }

    /// Asks for a neighbour's MAC address, by ARP or neighbour discovery.
    #[cold]
    pub(crate) fn solicit<O: Observe>(
        &mut self,
        solicitation: &Solicitation,
        topology: &Topology,
        counters: &Counters,
        pool: &mut impl Pool<Buffer = B>,
        observer: &mut O,
    ) {
        let number = usize::from(solicitation.link);
        let Some(link) = topology.links.get(number) else {
            return;
        };
        let Some(own) = link.source_for(solicitation.address) else {
            return;
        };
        let Some(mut frame) = pool.alloc() else {
            // Nothing was received that could be counted as dropped: the next second asks again.
            return;
        };
        let known = solicitation.known.map(Mac);
        let written = match (own, solicitation.address) {
            (IpAddr::V4(own), IpAddr::V4(target)) => arp::write_request(
                &mut frame,
                link.vlan,
                (Mac(link.mac), own),
                known.unwrap_or(Mac([0xff; 6])),
                target,
            ),
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                ndp::write_solicitation(&mut frame, link.vlan, (Mac(link.mac), own), known, target)
            }
            _ => false,
        };
        if written {
            counters.add(Total::Originated, 1);
            if O::WATCHES {
                observer.own_begins(number, Own::Question, frame.bytes());
                observer.queued(number, frame.bytes());
            }
            if let Err(reason) = self.push(number, frame) {
                counters.drop_on(number, reason, 1);
                observer.dropped(reason);
            }
            observer.own_ends();
        }
    }

    fn is_full(&self, link: u8) -> bool {
        self.outputs
            .get(usize::from(link))
            .is_some_and(ArrayVec::is_full)
    }
}

/// Writes the Ethernet header for a frame that leaves by `link` towards `mac`, adding, removing or
/// changing the VLAN tag as the link demands. False if there is no room for a tag.
#[inline(always)]
pub(crate) fn set_ethernet<B: Buffer>(frame: &mut B, mac: [u8; 6], link: &LinkConfig) -> bool {
    let tagged = frame.bytes().get(12..14) == Some(&[0x81, 0x00]);
    if (tagged || link.vlan.is_some()) && !set_vlan(frame, tagged, link.vlan) {
        return false;
    }
    let Some(header) = frame.bytes_mut().first_chunk_mut::<12>() else {
        return false;
    };
    header[..6].copy_from_slice(&mac);
    header[6..].copy_from_slice(&link.mac);
    true
}

#[cold]
fn set_vlan<B: Buffer>(frame: &mut B, tagged: bool, vlan: Option<u16>) -> bool {
    match (tagged, vlan) {
        (true, None) => {
            // Addresses are rewritten by the caller; only the EtherType has to stay.
            frame.trim_front(VLAN_TAG)
        }
        (false, Some(id)) => {
            if !frame.grow_front(VLAN_TAG) {
                return false;
            }
            let Some(tag) = frame.bytes_mut().get_mut(12..ETHERNET_HEADER + 2) else {
                return false;
            };
            tag[..2].copy_from_slice(&[0x81, 0x00]);
            tag[2..].copy_from_slice(&id.to_be_bytes());
            true
        }
        (true, Some(id)) => {
            let Some(tci) = frame.bytes_mut().get_mut(14..16) else {
                return false;
            };
            // Priority and drop eligibility (the upper four bits) stay.
            tci[0] = tci[0] & 0xf0 | (id >> 8) as u8;
            tci[1] = id as u8;
            true
        }
        (false, None) => true,
    }
}

/// Whether a frame's VLAN is the link's.
#[inline(always)]
pub(crate) const fn is_vlan(vlan: u16, link: &LinkConfig) -> bool {
    match link.vlan {
        Some(id) => vlan == id,
        // Priority-tagged frames (id 0, IEEE 802.1Q section 9.6) are untagged ones.
        None => vlan == NO_VLAN || vlan == 0,
    }
}

#[cfg(test)]
mod tests {
    use packet::memory::HeapBuffer;

    use super::*;

    fn link(vlan: Option<u16>) -> LinkConfig {
        LinkConfig {
            name: "a".into(),
            mac: [2; 6],
            vlan,
            mtu: 1500,
            mss_clamp: crate::topology::MssClamp::Off,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_tag_is_added_changed_and_removed_and_the_rest_stays() {
        let untagged: Vec<u8> = [[9; 6], [8; 6]].concat();
        let untagged = [untagged, vec![0x08, 0x00], vec![7; 46]].concat();
        let mut frame = HeapBuffer::from_bytes(&untagged);
        assert!(set_ethernet(&mut frame, [1; 6], &link(Some(0x123))));
        let header = [[1; 6], [2; 6]].concat();
        let tagged = [&header[..], &[0x81, 0, 0x01, 0x23, 0x08, 0], &[7; 46]].concat();
        assert_eq!(frame.bytes(), tagged);
        frame.bytes_mut()[14] |= 0xe0;
        assert!(set_ethernet(&mut frame, [1; 6], &link(Some(0x456))));
        assert_eq!(frame.bytes()[14..16], [0xe4, 0x56]);
        assert!(set_ethernet(&mut frame, [1; 6], &link(None)));
        assert_eq!(frame.bytes(), [&header[..], &[0x08, 0], &[7; 46]].concat());
    }
}
