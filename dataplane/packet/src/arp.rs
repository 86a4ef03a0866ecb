//! ARP for IPv4 over Ethernet (RFC 826): parse, answer, ask.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | hardware type: 1, Ethernet |
//! | 2 | 2 | protocol type: 0x0800, IPv4 |
//! | 4 | 1 | hardware address length: 6 |
//! | 5 | 1 | protocol address length: 4 |
//! | 6 | 2 | operation: 1 request, 2 reply |
//! | 8 | 6 | sender's MAC |
//! | 14 | 4 | sender's IPv4 address |
//! | 18 | 6 | target's MAC |
//! | 24 | 4 | target's IPv4 address |

use std::net::Ipv4Addr;

use crate::answer::{Refusal, start_frame};
use crate::buffer::Buffer;
use crate::ethernet::{self, Mac};
use crate::field::{get, put};

/// Bytes of a packet.
pub const LEN: usize = 28;

/// Hardware type, protocol type and both lengths.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What the sender wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has its address.
    Reply,
}

/// What a received packet says. The target's MAC is not among it: nobody needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArpPacket {
    /// What the sender wants.
    pub op: Operation,
    /// Sender's MAC: a station, never a group (RFC 1812, section 3.3.2).
    pub sender_mac: Mac,
    /// Sender's address; 0.0.0.0 in a probe for a duplicate (RFC 5227, section 2.1.1).
    pub sender_ip: Ipv4Addr,
    /// Target's address; equal to the sender's in an announcement (RFC 5227, section 3).
    pub target_ip: Ipv4Addr,
}

/// Reads the ARP packet at `l3`.
///
/// # Errors
///
/// [`Refusal::Malformed`]: too short, another hardware or protocol, neither request nor reply.
/// [`Refusal::NotUnicast`]: the sender's MAC is a group or zero.
pub fn parse(bytes: &[u8], l3: usize) -> Result<ArpPacket, Refusal> {
    let packet: [u8; LEN] = get(bytes, l3).ok_or(Refusal::Malformed)?;
    let (prefix, rest) = packet.split_at(PREFIX.len());
    let op = match rest.first_chunk() {
        Some([0, 1]) => Operation::Request,
        Some([0, 2]) => Operation::Reply,
        _ => return Err(Refusal::Malformed),
    };
    if prefix != PREFIX {
        return Err(Refusal::Malformed);
    }
    let malformed = Refusal::Malformed;
    let sender_mac = Mac(get(&packet, 8).ok_or(malformed)?);
    if !sender_mac.is_station() {
        return Err(Refusal::NotUnicast);
    }
    Ok(ArpPacket {
        op,
        sender_mac,
        sender_ip: get::<4>(&packet, 14).ok_or(malformed)?.into(),
        target_ip: get::<4>(&packet, 24).ok_or(malformed)?.into(),
    })
}

/// Turns a request into the reply that says: `our_mac` has the address asked for. Whether it has is
/// the caller's business. Ethernet padding is cut.
///
/// # Errors
///
/// As [`parse`], and [`Refusal::Malformed`] for a reply; the frame is then unchanged.
pub fn answer(frame: &mut impl Buffer, l3: usize, our_mac: Mac) -> Result<(), Refusal> {
    let request = parse(frame.bytes(), l3)?;
    if request.op != Operation::Request || l3 < ethernet::l3(None) {
        return Err(Refusal::Malformed);
    }
    if !frame.set_len(l3 + LEN) {
        return Err(Refusal::NoRoom);
    }
    let bytes = frame.bytes_mut();
    ethernet::set_addresses(bytes, request.sender_mac, our_mac);
    let reply = ArpPacket {
        op: Operation::Reply,
        sender_mac: our_mac,
        sender_ip: request.target_ip,
        target_ip: request.sender_ip,
    };
    let written = put(bytes, l3, &packet(&reply, request.sender_mac));
    written.ok_or(Refusal::Malformed)
}

/// Writes a request for `target_ip` into a fresh buffer, tagged if `vlan` is given; false if it has
/// no room. `to` is [`Mac::BROADCAST`], or a known neighbour to ask whether it is still there
/// (RFC 1122, section 2.3.2.1).
///
/// With both addresses the same it is an announcement (RFC 5227, section 3).
pub fn write_request(
    frame: &mut impl Buffer,
    vlan: Option<u16>,
    (our_mac, our_ip): (Mac, Ipv4Addr),
    to: Mac,
    target_ip: Ipv4Addr,
) -> bool {
    let request = ArpPacket {
        op: Operation::Request,
        sender_mac: our_mac,
        sender_ip: our_ip,
        target_ip,
    };
    start_frame(frame, (to, our_mac), vlan, ethernet::ARP, LEN)
        .and_then(|body| put(body, 0, &packet(&request, Mac::default())))
        .is_some()
}

fn packet(arp: &ArpPacket, target_mac: Mac) -> [u8; LEN] {
    let mut packet = [0; LEN];
    packet[..6].copy_from_slice(&PREFIX);
    packet[7] = match arp.op {
        Operation::Request => 1,
        Operation::Reply => 2,
    };
    packet[8..14].copy_from_slice(&arp.sender_mac.0);
    packet[14..18].copy_from_slice(&arp.sender_ip.octets());
    packet[18..24].copy_from_slice(&target_mac.0);
    packet[24..].copy_from_slice(&arp.target_ip.octets());
    packet
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpOperation, ArpPacketSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::memory::HeapBuffer;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn request(vlan: Option<u16>, sender: Ipv4Addr, target: Ipv4Addr) -> HeapBuffer {
        let mut frame = HeapBuffer::with_capacity(64);
        assert!(write_request(
            &mut frame,
            vlan,
            (THEIRS, sender),
            Mac::BROADCAST,
            target
        ));
        frame
    }

    proptest! {
        #[test]
        fn a_request_is_answered_to_whoever_asked(
            sender in any::<[u8; 4]>(),
            target in any::<[u8; 4]>(),
            vlan in proptest::option::of(0u16..4096),
            padding in 0usize..30,
        ) {
            let (sender, target) = (sender.into(), target.into());
            let mut frame = request(vlan, sender, target);
            let l3 = ethernet::l3(vlan);
            let asked = ArpPacketSlice::from_slice(&frame.bytes()[l3..]).unwrap();
            prop_assert_eq!(asked.operation(), ArpOperation::REQUEST);
            prop_assert_eq!(asked.sender_hw_addr(), THEIRS.0);
            prop_assert_eq!(asked.sender_protocol_addr(), sender.octets());
            prop_assert_eq!(asked.target_hw_addr(), [0; 6]);
            prop_assert_eq!(asked.target_protocol_addr(), target.octets());

            let len = frame.bytes().len();
            frame.set_len(len + padding);
            prop_assert_eq!(answer(&mut frame, l3, OURS), Ok(()));
            prop_assert_eq!(frame.bytes().len(), len);
            prop_assert_eq!(ethernet::destination(frame.bytes()), Some(THEIRS));
            prop_assert_eq!(ethernet::source(frame.bytes()), Some(OURS));
            let told = ArpPacketSlice::from_slice(&frame.bytes()[l3..]).unwrap();
            prop_assert_eq!(told.operation(), ArpOperation::REPLY);
            prop_assert_eq!(told.target_hw_addr(), THEIRS.0);
            prop_assert_eq!(parse(frame.bytes(), l3), Ok(ArpPacket {
                op: Operation::Reply,
                sender_mac: OURS,
                sender_ip: target,
                target_ip: sender,
            }));
            prop_assert_eq!(answer(&mut frame, l3, OURS), Err(Refusal::Malformed));
        }

        #[test]
        fn any_bytes_are_refused_or_answered_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            l3 in 0usize..90,
        ) {
            let mut frame = HeapBuffer::from_bytes(&bytes);
            if answer(&mut frame, l3, OURS).is_err() {
                prop_assert_eq!(frame.bytes(), &bytes);
            }
        }
    }

    #[test]
    fn each_wrong_field_is_refused() {
        let good = request(None, [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for (at, value) in [
            (0, 1),
            (1, 6),
            (2, 0x86),
            (3, 6),
            (4, 8),
            (5, 16),
            (6, 1),
            (7, 0),
            (7, 3),
        ] {
            let mut bad = good.clone();
            bad.bytes_mut()[14 + at] = value;
            assert_eq!(
                parse(bad.bytes(), 14),
                Err(Refusal::Malformed),
                "byte {at} = {value}"
            );
        }
        assert_eq!(parse(&good.bytes()[..41], 14), Err(Refusal::Malformed));
        let mut group = good.clone();
        group.bytes_mut()[22] |= 1;
        assert_eq!(parse(group.bytes(), 14), Err(Refusal::NotUnicast));
        let mut zero = good;
        zero.bytes_mut()[22..28].fill(0);
        assert_eq!(parse(zero.bytes(), 14), Err(Refusal::NotUnicast));
    }

    #[test]
    fn a_buffer_without_room_is_left_alone() {
        let mut frame = HeapBuffer::with_capacity(41);
        let us = (OURS, Ipv4Addr::new(10, 0, 0, 1));
        assert!(!write_request(&mut frame, None, us, Mac::BROADCAST, us.1));
        assert!(frame.bytes().is_empty());
    }
}
