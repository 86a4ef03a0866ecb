//! Which flow a frame belongs to, as cheaply as it can be told.

use packet::parse::{SCTP, TCP, UDP};

use crate::family::{SPREAD, mix};

/// Flows are dealt out by so many slots.
pub const SLOTS: usize = 128;

/// IEEE 802.1Q section 9.6: the tag's EtherType, and the tag's bytes.
const VLAN: [u8; 2] = [0x81, 0x00];
const VLAN_TAG: usize = 4;

/// The slot of the flow's direction that a frame belongs to.
///
/// `None` for everything that has no ports in their usual place: other protocols, fragments (RFC 791 section 3.1: the later
/// ones have none), IPv4 options, IPv6 extension headers. Such frames stay together at the worker that receives them.
#[must_use]
#[inline]
pub fn slot(bytes: &[u8], seed: u64) -> Option<usize> {
    let kind = bytes.get(12..14)?;
    if kind == VLAN {
        // A tag lies before the EtherType; what is behind is as without it.
        return slot_at(bytes.get(VLAN_TAG..)?, seed);
    }
    slot_at(bytes, seed)
}

/// The same for a frame whose EtherType is at byte 12.
#[inline(always)]
fn slot_at(bytes: &[u8], seed: u64) -> Option<usize> {
    let head: &[u8; 38] = bytes.first_chunk()?;
    let hash = match [head[12], head[13], head[14]] {
        [0x08, 0x00, 0x45] => {
            let is_fragment = (head[20] & 0x3f) | head[21] != 0;
            if is_fragment || !has_ports(head[23]) {
                return None;
            }
            mix(word(head, 26) ^ seed, ports(head, 34, head[23]) ^ SPREAD)
        }
        [0x86, 0xdd, version] if version >> 4 == 6 => {
            let head: &[u8; 58] = bytes.first_chunk()?;
            if !has_ports(head[20]) {
                return None;
            }
            let source = mix(word(head, 22) ^ seed, word(head, 30) ^ SPREAD);
            let destination = mix(word(head, 38) ^ SPREAD, word(head, 46) ^ seed);
            mix(
                source ^ destination.rotate_left(32),
                ports(head, 54, head[20]) ^ seed,
            )
        }
        _ => return None,
    };
    Some((hash >> 32) as usize % SLOTS)
}

#[inline(always)]
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

#[inline(always)]
fn word<const N: usize>(head: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&head[at..at + 8]);
    u64::from_ne_bytes(word)
}

#[inline(always)]
fn ports<const N: usize>(head: &[u8; N], at: usize, protocol: u8) -> u64 {
    let mut ports = [0; 4];
    ports.copy_from_slice(&head[at..at + 4]);
    u64::from(u32::from_ne_bytes(ports)) << 32 | u64::from(protocol)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use packet::build::FrameSpec;
    use packet::tcp::ACK;
    use proptest::prelude::*;

    use super::*;

    fn spec(family: bool, numbers: [u16; 4], is_tcp: bool) -> FrameSpec {
        let [client, service, source_port, destination_port] = numbers;
        let address = |number: u16| -> IpAddr {
            if family {
                IpAddr::from([10, 1, (number >> 8) as u8, number as u8])
            } else {
                IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])
            }
        };
        let source = SocketAddr::new(address(client), source_port);
        let destination = SocketAddr::new(address(service), destination_port);
        if is_tcp {
            FrameSpec::tcp(source, destination, ACK)
        } else {
            FrameSpec::udp(source, destination)
        }
    }

    fn frame(family: bool, numbers: [u16; 4]) -> Vec<u8> {
        spec(family, numbers, false).bytes().expect("a frame")
    }

    proptest! {
        #[test]
        fn all_frames_of_a_flow_have_one_slot(
            family: bool, numbers: [u16; 4], seed: u64, payload in prop::collection::vec(any::<u8>(), 0..100),
            is_tcp: bool, vlan in prop::option::of(1u16..4095),
        ) {
            let bare = spec(family, numbers, is_tcp);
            let found = slot(&bare.bytes().unwrap(), seed);
            prop_assert!(found.is_some_and(|slot| slot < SLOTS));
            let mut full = bare.with_payload(&payload);
            if let Some(vlan) = vlan {
                full = full.with_vlan(vlan);
            }
            prop_assert_eq!(slot(&full.bytes().unwrap(), seed), found);
        }

        #[test]
        fn any_bytes_may_come(bytes in prop::collection::vec(any::<u8>(), 0..80), seed: u64) {
            let _ = slot(&bytes, seed);
        }
    }

    #[test]
    fn flows_are_spread_evenly_whatever_part_of_the_tuple_differs() {
        for family in [true, false] {
            for varied in 0..4 {
                let mut counts = [0u32; SLOTS];
                for number in 0..12_800u16 {
                    let mut numbers = [1, 2, 40_000, 80];
                    numbers[varied] = number;
                    let bytes = frame(family, numbers);
                    counts[slot(&bytes, 0x1234_5678_9abc_def1).unwrap()] += 1;
                }
                // A hundred each: with chance alone the tenfold deviation is 0 or 200.
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(*least > 40 && *most < 180, "{family} {varied}: {counts:?}");
            }
        }
    }

    #[test]
    fn what_has_no_ports_in_their_place_has_no_slot() {
        let whole = frame(true, [1, 2, 3, 4]);
        let with = |at: usize, value: u8| {
            let mut bytes = whole.clone();
            bytes[at] = value;
            slot(&bytes, 1)
        };
        assert!(with(20, 0x40).is_some(), "may not be fragmented");
        assert_eq!(with(20, 0x20), None, "more fragments");
        assert_eq!(with(21, 1), None, "a later fragment");
        assert_eq!(with(14, 0x46), None, "options");
        assert_eq!(with(23, 1), None, "ICMP");
        assert_eq!(with(13, 0x06), None, "ARP");
        assert_eq!(slot(&whole[..37], 1), None, "cut short");
        let mut six = frame(false, [1, 2, 3, 4]);
        assert!(slot(&six, 1).is_some());
        six[20] = 44;
        assert_eq!(slot(&six, 1), None, "a fragment header");
    }
}
