use etherparse::{Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::memory::HeapBuffer;
use crate::parse::parse as parse_frame;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 9]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 7]);
const US: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const THEM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);

fn parse_whole(frame: &HeapBuffer) -> Result<Message, NdpError> {
    let parsed = parse_frame(frame.bytes()).unwrap();
    parse(frame.bytes(), parsed.l3(), parsed.l4(), parsed.end())
}

fn solicitation(vlan: Option<u16>) -> HeapBuffer {
    let mut frame = HeapBuffer::with_capacity(128);
    assert!(write_solicitation(
        &mut frame,
        vlan,
        (THEIRS, THEM),
        None,
        US
    ));
    frame
}

/// The frame with bytes changed by `change` (from the IPv6 header on) and the checksum repaired.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> HeapBuffer {
    let mut packet = solicitation(None).bytes()[14..].to_vec();
    change(&mut packet);
    let len = packet.len() - 40;
    packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    let (source, destination) = (ipv6::source(&packet), ipv6::destination(&packet));
    let pseudo = checksum::pseudo_v6(source.unwrap(), destination.unwrap(), ICMPV6, len);
    assert!(checksum::write_l4(&mut packet[40..], pseudo, ICMPV6));
    let mut frame = solicitation(None).bytes()[..14].to_vec();
    frame.extend_from_slice(&packet);
    HeapBuffer::from_bytes(&frame)
}

/// Checks headers and checksum with another parser.
fn assert_sound(frame: &HeapBuffer, kind: u8) {
    let sliced = SlicedPacket::from_ethernet(frame.bytes()).unwrap();
    let Some(NetSlice::Ipv6(ip)) = sliced.net else {
        panic!("no IPv6")
    };
    assert_eq!(ip.header().hop_limit(), 255);
    let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else {
        panic!("no ICMPv6")
    };
    assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
    match (kind, icmp.icmp_type()) {
        (SOLICITATION, Icmpv6Type::NeighborSolicitation)
        | (ADVERTISEMENT, Icmpv6Type::NeighborAdvertisement(_)) => {}
        (_, other) => panic!("type {other:?}"),
    }
}

#[test]
fn a_solicitation_goes_to_the_group_of_the_target() {
    for vlan in [None, Some(7)] {
        let frame = solicitation(vlan);
        assert_sound(&frame, SOLICITATION);
        let to = ethernet::destination(frame.bytes()).unwrap();
        assert_eq!(to.to_string(), "33:33:ff:12:34:56");
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
        assert_eq!(
            ipv6::destination(&frame.bytes()[ethernet::l3(vlan)..]),
            Some(group)
        );
        let expected = Solicitation {
            source: THEM,
            target: US,
            source_mac: Some(THEIRS),
        };
        assert_eq!(parse_whole(&frame), Ok(Message::Solicitation(expected)));
    }
}

#[test]
fn a_known_neighbour_is_asked_alone() {
    let mut frame = HeapBuffer::with_capacity(128);
    assert!(write_solicitation(
        &mut frame,
        None,
        (OURS, US),
        Some(THEIRS),
        THEM
    ));
    assert_sound(&frame, SOLICITATION);
    assert_eq!(ethernet::destination(frame.bytes()), Some(THEIRS));
    assert_eq!(ipv6::destination(&frame.bytes()[14..]), Some(THEM));
}

fn answered(mut frame: HeapBuffer) -> HeapBuffer {
    let parsed = parse_frame(frame.bytes()).unwrap();
    let Ok(Message::Solicitation(solicitation)) = parse_whole(&frame) else {
        panic!("not a solicitation")
    };
    assert!(answer(&mut frame, parsed.l3(), &solicitation, OURS));
    assert_eq!(frame.bytes().len(), parsed.l3() + 40 + 32);
    assert_sound(&frame, ADVERTISEMENT);
    assert_eq!(ethernet::source(frame.bytes()), Some(OURS));
    assert_eq!(ipv6::source(&frame.bytes()[parsed.l3()..]), Some(US));
    frame
}

#[test]
fn a_solicitation_is_answered_to_whoever_asked() {
    let expected = Advertisement {
        target: US,
        target_mac: Some(OURS),
        router: true,
        solicited: true,
        override_known: true,
    };
    // With the option, and without it: then the Ethernet source is asked back.
    for frame in [solicitation(Some(9)), changed(|packet| packet.truncate(64))] {
        let frame = answered(frame);
        assert_eq!(parse_whole(&frame), Ok(Message::Advertisement(expected)));
        assert_eq!(ethernet::destination(frame.bytes()), Some(THEIRS));
    }
}

#[test]
fn a_search_for_duplicates_is_answered_to_all_nodes() {
    let frame = answered(changed(|packet| {
        packet[8..24].fill(0);
        packet.truncate(64);
    }));
    let to = ethernet::destination(frame.bytes()).unwrap();
    assert_eq!(to.to_string(), "33:33:00:00:00:01");
    assert_eq!(
        ipv6::destination(&frame.bytes()[14..]),
        Some(ipv6::ALL_NODES)
    );
    let Ok(Message::Advertisement(said)) = parse_whole(&frame) else {
        panic!("not an advertisement")
    };
    assert!(!said.solicited && said.override_known);
}

#[test]
fn an_announcement_goes_to_all_nodes_and_overrides() {
    let mut frame = HeapBuffer::with_capacity(128);
    assert!(write_announcement(&mut frame, Some(3), (OURS, US)));
    assert_sound(&frame, ADVERTISEMENT);
    let Ok(Message::Advertisement(said)) = parse_whole(&frame) else {
        panic!("not an advertisement")
    };
    assert!(!said.solicited && said.override_known);
    assert_eq!((said.target, said.target_mac), (US, Some(OURS)));
}

#[test]
fn each_broken_rule_is_named() {
    use NdpError::{HopLimit, Malformed, OtherType};
    type Change = fn(&mut Vec<u8>);
    let table: [(&str, Change, NdpError); 12] = [
        ("hop limit", |p| p[7] = 254, HopLimit),
        ("code", |p| p[41] = 1, Malformed),
        ("target multicast", |p| p[48] = 0xff, Malformed),
        ("source multicast", |p| p[8] = 0xff, Malformed),
        ("too short", |p| p.truncate(63), Malformed),
        ("option of length 0", |p| p[65] = 0, Malformed),
        ("option longer than the packet", |p| p[65] = 2, Malformed),
        ("half an option", |p| p.push(14), Malformed),
        ("a group's MAC", |p| p[66] |= 1, Malformed),
        ("a MAC without an address", |p| p[8..24].fill(0), Malformed),
        (
            "search for duplicates at one host",
            |p| {
                p[8..24].fill(0);
                p.truncate(64);
                p.copy_within(48..64, 24);
            },
            Malformed,
        ),
        ("router solicitation", |p| p[40] = 133, OtherType),
    ];
    for (name, change, error) in table {
        assert_eq!(parse_whole(&changed(change)), Err(error), "{name}");
    }
    let mut frame = solicitation(None);
    frame.bytes_mut()[60] ^= 1;
    assert_eq!(parse_whole(&frame), Err(NdpError::Checksum));
    // An advertisement to a group that claims to be solicited.
    let lie = changed(|p| {
        p[40] = ADVERTISEMENT;
        p[44] = SOLICITED;
    });
    assert_eq!(parse_whole(&lie), Err(Malformed));
}

#[test]
fn unknown_options_are_skipped() {
    let frame = changed(|packet| {
        let mac_option = packet.split_off(64);
        packet.extend_from_slice(&[14, 1, 1, 2, 3, 4, 5, 6]);
        packet.extend_from_slice(&mac_option);
    });
    assert!(matches!(
        parse_whole(&frame),
        Ok(Message::Solicitation(Solicitation {
            source_mac: Some(THEIRS),
            ..
        }))
    ));
}

proptest! {
    #[test]
    fn any_message_is_parsed_or_refused_without_a_panic(
        message in proptest::collection::vec(any::<u8>(), 2..100),
        kind in SOLICITATION..=ADVERTISEMENT,
        units in 0u8..4,
    ) {
        let frame = changed(|packet| {
            packet.truncate(40);
            packet.extend_from_slice(&message);
            packet.resize(packet.len().max(44), 0);
            packet[40] = kind;
            packet[41] = 0;
            if let Some(length) = packet.get_mut(65) {
                *length = units;
            }
        });
        let parsed = parse(frame.bytes(), 14, 54, frame.bytes().len());
        if message.len() < FIXED {
            prop_assert_eq!(parsed, Err(NdpError::Malformed));
        }
    }

    #[test]
    fn any_bytes_and_offsets_are_taken_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        (l3, l4, end) in (0usize..130, 0usize..130, 0usize..130),
    ) {
        let _ = parse(&bytes, l3, l4, end);
        let mut frame = HeapBuffer::from_bytes(&bytes);
        let asked = Solicitation { source: THEM, target: US, source_mac: None };
        if !answer(&mut frame, l3, &asked, OURS) {
            prop_assert_eq!(frame.bytes(), &bytes);
        }
    }
}
