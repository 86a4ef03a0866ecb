use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::build::{Fill, FrameSpec, Transport};
use crate::ethernet::Mac;
use crate::memory::{HEADROOM, HeapBuffer};
use crate::parse::{SCTP, TCP, UDP, parse};

const CLIENT: [&str; 2] = ["192.0.2.7", "2001:db8::7"];
const SERVICE: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
const GATEWAY: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn echo(family: usize) -> FrameSpec {
    FrameSpec::echo(ip(CLIENT[family]), ip(SERVICE[family]))
}

fn udp(family: usize) -> FrameSpec {
    FrameSpec::udp(
        (ip(CLIENT[family]), 4000).into(),
        (ip(SERVICE[family]), 53).into(),
    )
}

fn answer_spec(spec: &FrameSpec) -> Result<HeapBuffer, Refusal> {
    let mut frame = spec.frame().unwrap();
    let before = frame.clone();
    let parsed = parse(frame.bytes()).unwrap();
    let answered = answer_echo(&mut frame, parsed.l3(), parsed.l4(), parsed.end());
    unchanged_if_refused(answered, before, frame)
}

fn refuse_frame(
    mut frame: HeapBuffer,
    (l3, end): (usize, usize),
    reason: Reason,
) -> Result<HeapBuffer, Refusal> {
    let before = frame.clone();
    let family = usize::from(frame.bytes()[l3] >> 4 == 6);
    let refused = refuse(&mut frame, l3, end, ip(GATEWAY[family]), reason);
    unchanged_if_refused(refused, before, frame)
}

fn refuse_spec(spec: &FrameSpec, reason: Reason) -> Result<HeapBuffer, Refusal> {
    let packet = FrameSpec {
        pad_to: 0,
        ..spec.clone()
    }
    .bytes()
    .unwrap();
    refuse_frame(spec.frame().unwrap(), (spec.l3(), packet.len()), reason)
}

fn unchanged_if_refused(
    result: Result<(), Refusal>,
    before: HeapBuffer,
    after: HeapBuffer,
) -> Result<HeapBuffer, Refusal> {
    if result.is_err() {
        assert_eq!(after, before, "a refused frame is unchanged");
    }
    result.map(|()| after)
}

/// Checks headers and checksums with another parser; returns source, destination, and the message.
fn sound(frame: &HeapBuffer) -> (IpAddr, IpAddr, Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(frame.bytes()).unwrap();
    match (sliced.net.unwrap(), sliced.transport.unwrap()) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let header = ip.header();
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            assert_eq!(header.ttl(), TTL);
            let right = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), right);
            let ends = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            (ends.0, ends.1, icmp.slice().to_vec())
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let header = ip.header();
            assert_eq!(header.hop_limit(), TTL);
            assert!(icmp.is_checksum_valid(header.source(), header.destination()));
            let ends = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            (ends.0, ends.1, icmp.slice().to_vec())
        }
        _ => panic!("not ICMP"),
    }
}

fn assert_macs_exchanged(frame: &HeapBuffer, spec: &FrameSpec) {
    let (to, from) = (
        ethernet::destination(frame.bytes()),
        ethernet::source(frame.bytes()),
    );
    assert_eq!(
        (to, from),
        (Some(spec.source_mac), Some(spec.destination_mac))
    );
    let tag_and_type = 12..spec.l3();
    assert_eq!(
        frame.bytes()[tag_and_type.clone()],
        spec.bytes().unwrap()[tag_and_type]
    );
}

proptest! {
    #[test]
    fn echo_requests_become_their_replies(
        family in 0usize..2,
        vlan in proptest::option::of(1u16..4095),
        (id, seq, ttl) in any::<(u16, u16, u8)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        unfinished in any::<bool>(),
        ip_options in prop_oneof![Just(vec![]), Just(vec![1, 1, 1, 0, 0])],
        pad_to in 0usize..100,
    ) {
        let transport = Transport::Echo { reply: false, id, seq };
        let spec = FrameSpec { vlan, transport, ttl, payload, ip_options, pad_to, ..echo(family) };
        // ICMPv6 may come with a checksum left to hardware; the reply's is right.
        let fill = if unfinished && family == 1 { Fill::Unfinished } else { Fill::Right };
        let frame = answer_spec(&FrameSpec { fill, ..spec.clone() }).unwrap();
        // The reply is what the other side would have built, but for blanked options.
        let expected = FrameSpec {
            source_mac: spec.destination_mac,
            destination_mac: spec.source_mac,
            source: spec.destination,
            destination: spec.source,
            transport: Transport::Echo { reply: true, id, seq },
            ttl: TTL,
            ip_options: if family == 0 { vec![0; spec.ip_options.len()] } else { spec.ip_options.clone() },
            pad_to: 0,
            ..spec.clone()
        };
        prop_assert_eq!(frame.bytes(), &expected.bytes().unwrap());
        prop_assert_eq!(sound(&frame).2.len(), 8 + spec.payload.len());
    }

    #[test]
    fn errors_are_whole_frames_that_quote_the_packet(
        family in 0usize..2,
        vlan in proptest::option::of(1u16..4095),
        payload in proptest::collection::vec(any::<u8>(), 0..1500),
        ip_options in prop_oneof![Just(vec![]), Just(vec![1, 1, 1, 0, 0])],
        pad_to in 0usize..100,
        mtu in any::<u16>(),
    ) {
        let spec = FrameSpec { vlan, payload, ip_options, pad_to, ..udp(family) };
        let packet = FrameSpec { pad_to: 0, ..spec.clone() }.bytes().unwrap()[spec.l3()..].to_vec();
        for reason in [Reason::PortUnreachable, Reason::TooBig { mtu }, Reason::TimeExceeded] {
            let frame = refuse_spec(&spec, reason).unwrap();
            let (source, destination, message) = sound(&frame);
            prop_assert_eq!(source, ip(GATEWAY[family]));
            prop_assert_eq!(destination, spec.source.ip());
            assert_macs_exchanged(&frame, &spec);
            let room = if family == 0 { 548 } else { 1232 };
            let quoted = packet.len().min(room);
            prop_assert_eq!(&message[8..], &packet[..quoted]);

            let parsed = parse(frame.bytes()).unwrap();
            prop_assert_eq!(parsed.end(), frame.bytes().len());
            let protocol = [ICMP, ICMPV6][family];
            let error = parse_error(frame.bytes(), parsed.l4(), parsed.end(), protocol).unwrap();
            let kind = match reason {
                Reason::TooBig { mtu } => ErrorKind::TooBig { mtu: mtu.into() },
                Reason::TimeExceeded => ErrorKind::TimeExceeded,
                _ => ErrorKind::Unreachable,
            };
            prop_assert_eq!(error.kind, kind);
            prop_assert_eq!((error.protocol, error.end), (UDP, parsed.end()));
            prop_assert_eq!(error.l3, parsed.l4() + 8);
            prop_assert_eq!(&frame.bytes()[error.l4..][..4], &[0x0f, 0xa0, 0, 53]);
        }
    }

    #[test]
    fn any_bytes_and_offsets_are_taken_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..150),
        (l3, l4, end) in (0usize..160, 0usize..160, 0usize..160),
        version in prop_oneof![Just(0x45u8), Just(0x60u8), any::<u8>()],
        protocol in prop_oneof![Just(ICMP), Just(ICMPV6), any::<u8>()],
    ) {
        let mut bytes = bytes;
        let ethertype = if version == 0x60 { [0x86, 0xdd] } else { [8, 0] };
        if let Some(header) = bytes.get_mut(l3.wrapping_sub(2)..).and_then(<[u8]>::first_chunk_mut) {
            *header = [ethertype[0], ethertype[1], version];
        }
        if let Some(error) = parse_error(&bytes, l4, end, protocol) {
            prop_assert!(error.l3 < error.l4 && error.l4 + 8 <= error.end);
        }
        let mut frame = HeapBuffer::from_bytes(&bytes);
        if answer_echo(&mut frame, l3, l4, end).is_err() {
            prop_assert_eq!(frame.bytes(), &bytes);
        }
        for from in GATEWAY {
            let mut frame = HeapBuffer::from_bytes(&bytes);
            if refuse(&mut frame, l3, end, ip(from), Reason::NoRoute).is_err() {
                prop_assert_eq!(frame.bytes(), &bytes);
            }
        }
    }

    #[test]
    fn a_changed_byte_never_leads_to_a_panic_nor_to_an_unsound_frame(
        family in 0usize..2,
        (at, value) in (0usize..120, any::<u8>()),
    ) {
        let payload = [0x5a; 60];
        for spec in [echo(family).with_payload(&payload), udp(family).with_payload(&payload)] {
            let mut frame = spec.frame().unwrap();
            let end = frame.bytes().len();
            if let Some(byte) = frame.bytes_mut().get_mut(at) {
                *byte = value;
            }
            let l4 = [34, 54][family];
            let _ = answer_echo(&mut frame.clone(), 14, l4, end);
            let from = ip(GATEWAY[usize::from(frame.bytes()[14] >> 4 == 6)]);
            if refuse(&mut frame, 14, end, from, Reason::Prohibited).is_ok() {
                sound(&frame);
            }
        }
    }
}

#[test]
fn types_and_codes_of_both_families() {
    let table = [
        (Reason::PortUnreachable, [3, 3], [1, 4]),
        (Reason::HostUnreachable, [3, 1], [1, 3]),
        (Reason::NoRoute, [3, 0], [1, 0]),
        (Reason::Prohibited, [3, 13], [1, 1]),
        (Reason::TimeExceeded, [11, 0], [3, 0]),
        (Reason::TooBig { mtu: 1400 }, [3, 4], [2, 0]),
    ];
    for (reason, v4, v6) in table {
        for (family, expected) in [(0, v4), (1, v6)] {
            let (_, _, message) = sound(&refuse_spec(&udp(family), reason).unwrap());
            assert_eq!(message[..2], expected, "{reason:?}");
            let rest = if let Reason::TooBig { .. } = reason {
                [0, 0, 5, 0x78]
            } else {
                [0; 4]
            };
            assert_eq!(message[4..8], rest, "{reason:?}");
        }
    }
}

#[test]
fn another_parser_reads_the_mtu() {
    let (_, _, message) = sound(&refuse_spec(&udp(0), Reason::TooBig { mtu: 1400 }).unwrap());
    let icmp = etherparse::Icmpv4Slice::from_slice(&message).unwrap();
    let Icmpv4Type::DestinationUnreachable(header) = icmp.icmp_type() else {
        panic!("not unreachable")
    };
    let needed =
        etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
    assert_eq!(header, needed);
    let (_, _, message) = sound(&refuse_spec(&udp(1), Reason::TooBig { mtu: 1400 }).unwrap());
    let icmp = etherparse::Icmpv6Slice::from_slice(&message).unwrap();
    assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1400 });
}

#[test]
fn frames_that_must_not_be_answered() {
    let port = Reason::PortUnreachable;
    let mut frames = Vec::new();
    for family in 0..2 {
        for source in [
            ["0.0.0.0", "::"],
            ["127.0.0.1", "::1"],
            ["224.0.0.1", "ff02::1"],
        ] {
            let mut spec = udp(family);
            spec.source.set_ip(ip(source[family]));
            frames.push((spec, Refusal::NotUnicast));
        }
        let mut spec = udp(family);
        spec.destination
            .set_ip(ip(["239.0.0.1", "ff02::1"][family]));
        frames.push((spec, Refusal::NotUnicast));
        let mut spec = udp(family);
        spec.destination_mac = Mac::BROADCAST;
        frames.push((spec, Refusal::NotUnicast));
        frames.push((
            FrameSpec {
                fill: Fill::Wrong,
                ..udp(family)
            },
            Refusal::BadChecksum,
        ));
    }
    let mut spec = udp(0);
    spec.destination.set_ip(ip("255.255.255.255"));
    frames.push((spec, Refusal::NotUnicast));
    frames.push((
        FrameSpec {
            fragment: 0x2001,
            ..udp(0)
        },
        Refusal::Fragment,
    ));
    for (kind, refused) in [
        (3, true),
        (4, true),
        (5, true),
        (11, true),
        (12, true),
        (30, true),
        (8, false),
    ] {
        let spec = FrameSpec::raw(
            ip(CLIENT[0]),
            ip(SERVICE[0]),
            ICMP,
            &[kind, 0, 0, 0, 0, 0, 0, 0],
        );
        assert_eq!(refuse_spec(&spec, port).is_err(), refused, "ICMP {kind}");
    }
    for (kind, refused) in [
        (1, true),
        (2, true),
        (3, true),
        (4, true),
        (100, true),
        (137, true),
        (128, false),
    ] {
        let spec = FrameSpec::raw(
            ip(CLIENT[1]),
            ip(SERVICE[1]),
            ICMPV6,
            &[kind, 0, 0, 0, 0, 0, 0, 0],
        );
        assert_eq!(refuse_spec(&spec, port).is_err(), refused, "ICMPv6 {kind}");
    }
    // Extension headers do not hide an error.
    let mut spec = FrameSpec::raw(
        ip(CLIENT[1]),
        ip(SERVICE[1]),
        ICMPV6,
        &[1, 0, 0, 0, 0, 0, 0, 0],
    );
    spec.ip_options = vec![0; 6];
    frames.push((spec, Refusal::IcmpError));
    let later = [UDP, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4];
    frames.push((
        FrameSpec::raw(ip(CLIENT[1]), ip(SERVICE[1]), 44, &later),
        Refusal::Fragment,
    ));
    for (spec, refusal) in frames {
        assert_eq!(refuse_spec(&spec, port), Err(refusal), "{spec:?}");
    }
}

#[test]
fn an_error_about_a_first_fragment_and_about_sctp() {
    // Its checksum cannot be judged: the rest of the datagram is elsewhere.
    let mut first = udp(0).with_payload(&[1; 16]);
    first.fragment = ipv4::MORE_FRAGMENTS;
    first.fill = Fill::Wrong;
    assert!(refuse_spec(&first, Reason::PortUnreachable).is_ok());
    // A router reports what it cannot forward, whatever its checksum.
    let wrong = FrameSpec {
        fill: Fill::Wrong,
        ..udp(1)
    };
    assert!(refuse_spec(&wrong, Reason::TimeExceeded).is_ok());
    let sctp = FrameSpec::sctp((ip(CLIENT[0]), 1).into(), (ip(SERVICE[0]), 2).into());
    let frame = refuse_spec(&sctp, Reason::PortUnreachable).unwrap();
    let error = parse_error(frame.bytes(), 34, frame.bytes().len(), ICMP).unwrap();
    assert_eq!(error.protocol, SCTP);
}

#[test]
fn echo_messages_that_get_no_reply() {
    for family in 0..2 {
        let wrong = FrameSpec {
            fill: Fill::Wrong,
            ..echo(family)
        };
        assert_eq!(answer_spec(&wrong), Err(Refusal::BadChecksum));
        let mut reply = echo(family);
        reply.transport = Transport::Echo {
            reply: true,
            id: 1,
            seq: 1,
        };
        assert_eq!(answer_spec(&reply), Err(Refusal::Malformed));
        let mut group = echo(family);
        group
            .destination
            .set_ip(ip(["224.0.0.1", "ff02::1"][family]));
        assert_eq!(answer_spec(&group), Err(Refusal::NotUnicast));
    }
    let mut frame = FrameSpec {
        fragment: 0x2000,
        ..echo(0)
    }
    .frame()
    .unwrap();
    let end = frame.bytes().len();
    assert_eq!(answer_echo(&mut frame, 14, 34, end), Err(Refusal::Fragment));
}

#[test]
fn without_headroom_or_of_another_family_there_is_no_error() {
    let original = udp(0).frame().unwrap();
    let end = original.bytes().len();
    for (left, family, expected) in [
        (28, 0, Ok(())),
        (27, 0, Err(Refusal::NoRoom)),
        (28, 1, Err(Refusal::Malformed)),
    ] {
        // Move the frame towards the front of its storage, until `left` bytes are before it.
        let mut frame = original.clone();
        assert!(frame.grow_front(HEADROOM - left));
        frame.bytes_mut()[..end].copy_from_slice(original.bytes());
        assert!(frame.set_len(end));
        let from = ip(GATEWAY[family]);
        let refused = refuse(&mut frame, 14, end, from, Reason::PortUnreachable);
        assert_eq!(refused, expected);
    }
}

#[test]
fn quotations_that_lead_to_no_flow() {
    let whole = refuse_spec(&udp(0), Reason::PortUnreachable).unwrap();
    let bytes = whole.bytes().to_vec();
    let end = bytes.len();
    assert!(parse_error(&bytes, 34, end, ICMP).is_some());
    assert_eq!(
        parse_error(&bytes, 34, end - 1, ICMP),
        None,
        "seven bytes of UDP"
    );
    assert_eq!(parse_error(&bytes, 34, end, ICMPV6), None);
    let with = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        parse_error(&bytes, 34, end, ICMP)
    };
    assert_eq!(with(34, 4), None, "source quench");
    assert_eq!(with(34, 5), None, "redirect");
    assert_eq!(with(34, 8), None, "echo request");
    assert_eq!(with(42, 0x65), None, "version");
    assert_eq!(with(42, 0x44), None, "header length");
    assert_eq!(with(42 + 7, 1), None, "later fragment");
    assert_eq!(with(42 + 9, TCP).map(|error| error.protocol), Some(TCP));
}
