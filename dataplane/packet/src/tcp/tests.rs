use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::build::{Fill, FrameSpec, Transport};
use crate::memory::HeapBuffer;
use crate::parse::parse;

const CLIENT: &str = "192.0.2.7:40000";
const SERVICE: &str = "198.51.100.1:443";
const CLIENT6: &str = "[2001:db8::7]:40000";
const SERVICE6: &str = "[2001:db8:1::1]:443";

fn spec(family: usize, flags: u8) -> FrameSpec {
    let (from, to) = [(CLIENT, SERVICE), (CLIENT6, SERVICE6)][family];
    FrameSpec::tcp(from.parse().unwrap(), to.parse().unwrap(), flags)
}

fn refuse_spec(spec: &FrameSpec) -> Result<HeapBuffer, Refusal> {
    let mut frame = spec.frame().unwrap();
    let before = frame.clone();
    let parsed = parse(frame.bytes()).unwrap();
    match refuse(&mut frame, parsed.l3(), parsed.l4(), parsed.end()) {
        Ok(()) => Ok(frame),
        Err(refusal) => {
            assert_eq!(frame, before, "a refused frame is unchanged");
            Err(refusal)
        }
    }
}

/// Sequence number, acknowledgement number and flags of the reset for a segment.
fn numbers(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Result<(u32, u32, u8), Refusal> {
    let mut spec = spec(0, flags).with_payload(payload);
    spec.transport = Transport::Tcp {
        flags,
        seq,
        ack,
        window: 1000,
        options: vec![2, 4, 5, 180],
    };
    let frame = refuse_spec(&spec)?;
    let segment = &frame.bytes()[34..];
    Ok((
        get_u32(segment, SEQUENCE).unwrap(),
        get_u32(segment, ACKNOWLEDGEMENT).unwrap(),
        super::flags(segment).unwrap(),
    ))
}

#[test]
fn the_numbers_of_rfc_9293_section_3_10_7_1() {
    type Row = (u8, u32, u32, &'static [u8], (u32, u32, u8));
    let table: [Row; 9] = [
        // No ACK: sequence number 0, acknowledge what the segment took.
        (SYN, 1000, 0, b"", (0, 1001, RST | ACK)),
        (SYN, u32::MAX, 0, b"", (0, 0, RST | ACK)),
        (SYN, 1000, 77, b"fast", (0, 1005, RST | ACK)),
        (FIN, 1000, 0, b"ab", (0, 1003, RST | ACK)),
        (SYN | FIN, 1000, 0, b"", (0, 1002, RST | ACK)),
        (0, 1000, 0, b"abc", (0, 1003, RST | ACK)),
        // ACK: the sequence number that the sender expects, nothing acknowledged.
        (ACK, 1000, 5000, b"abc", (5000, 0, RST)),
        (SYN | ACK, 1000, 5000, b"", (5000, 0, RST)),
        (FIN | ACK | PSH, 1000, u32::MAX, b"x", (u32::MAX, 0, RST)),
    ];
    for (flags, seq, ack, payload, expected) in table {
        let got = numbers(flags, seq, ack, payload);
        assert_eq!(got, Ok(expected), "flags {flags:#x} seq {seq} ack {ack}");
    }
    for flags in [RST, RST | ACK, RST | SYN] {
        assert_eq!(numbers(flags, 1, 1, b""), Err(Refusal::Reset));
    }
}

#[test]
fn segments_that_nobody_or_everybody_sent_get_no_reset() {
    let mut wrong = spec(0, SYN);
    wrong.fill = Fill::Wrong;
    assert_eq!(refuse_spec(&wrong), Err(Refusal::BadChecksum));
    // Left to hardware by a virtual link: fine.
    wrong.fill = Fill::Unfinished;
    assert!(refuse_spec(&wrong).is_ok());
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        let mut group = spec(0, SYN);
        group.source.set_ip(source.parse().unwrap());
        assert_eq!(refuse_spec(&group), Err(Refusal::NotUnicast), "{source}");
    }
    for source in ["::", "::1", "ff02::1"] {
        let mut group = spec(1, SYN);
        group.source.set_ip(source.parse().unwrap());
        assert_eq!(refuse_spec(&group), Err(Refusal::NotUnicast), "{source}");
    }
    for destination in ["239.1.1.1", "255.255.255.255"] {
        let mut group = spec(0, SYN);
        group.destination.set_ip(destination.parse().unwrap());
        assert_eq!(
            refuse_spec(&group),
            Err(Refusal::NotUnicast),
            "{destination}"
        );
    }
    let mut group = spec(0, SYN);
    group.destination_mac = ethernet::Mac::BROADCAST;
    assert_eq!(refuse_spec(&group), Err(Refusal::NotUnicast));
    let mut group = spec(0, SYN);
    group.source_mac = ethernet::Mac([3, 0, 0, 0, 0, 1]);
    assert_eq!(refuse_spec(&group), Err(Refusal::NotUnicast));
}

#[test]
fn a_first_fragment_gets_no_reset() {
    let mut fragment = spec(0, SYN);
    fragment.fragment = ipv4::MORE_FRAGMENTS;
    let mut frame = fragment.frame().unwrap();
    let end = frame.bytes().len();
    assert_eq!(refuse(&mut frame, 14, 34, end), Err(Refusal::Fragment));
}

proptest! {
    #[test]
    fn resets_are_whole_frames_with_right_checksums_and_nothing_left_over(
        family in 0usize..2,
        flags in any::<u8>(),
        vlan in proptest::option::of(1u16..4095),
        ip_options in prop_oneof![Just(vec![]), Just(vec![1, 1, 1, 0])],
        options in proptest::collection::vec(Just(1u8), 0..=40),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        pad_to in 0usize..100,
    ) {
        let mut spec = FrameSpec { vlan, ip_options, pad_to, payload, ..spec(family, flags & !RST) };
        if let Transport::Tcp { options: of, .. } = &mut spec.transport {
            *of = options;
        }
        let frame = refuse_spec(&spec).unwrap();
        let bytes = frame.bytes();
        let l3_header = if family == 0 { 20 } else { 40 };
        prop_assert_eq!(bytes.len(), spec.l3() + l3_header + HEADER);

        let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
        let ethernet = sliced.link.unwrap().to_header().unwrap().ethernet2().unwrap();
        prop_assert_eq!(ethernet.source, spec.destination_mac.0);
        prop_assert_eq!(ethernet.destination, spec.source_mac.0);
        prop_assert_eq!(bytes[12..spec.l3()].to_vec(), spec.bytes().unwrap()[12..spec.l3()].to_vec());
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (443, 40000));
        prop_assert!(tcp.rst() && !tcp.syn() && !tcp.fin() && tcp.payload().is_empty());
        prop_assert_eq!(tcp.ack(), flags & ACK == 0);
        match sliced.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                prop_assert_eq!(header.source_addr().to_string(), "198.51.100.1");
                prop_assert_eq!(header.destination_addr().to_string(), "192.0.2.7");
                prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
                let right = tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap();
                prop_assert_eq!(tcp.checksum(), right);
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                prop_assert_eq!(header.source_addr().to_string(), "2001:db8:1::1");
                prop_assert_eq!(header.destination_addr().to_string(), "2001:db8::7");
                let right = tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap();
                prop_assert_eq!(tcp.checksum(), right);
            }
            NetSlice::Arp(_) => panic!("ARP"),
        }
    }

    #[test]
    fn any_bytes_and_offsets_are_refused_or_answered_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        (l3, l4, end) in (0usize..130, 0usize..130, 0usize..130),
        version in prop_oneof![Just(0x45u8), Just(0x60u8), any::<u8>()],
    ) {
        let mut bytes = bytes;
        let ethertype = if version == 0x60 { [0x86, 0xdd] } else { [8, 0] };
        if let Some(header) = bytes.get_mut(l3.wrapping_sub(2)..).and_then(<[u8]>::first_chunk_mut) {
            *header = [ethertype[0], ethertype[1], version];
        }
        let mut frame = HeapBuffer::from_bytes(&bytes);
        if refuse(&mut frame, l3, l4, end).is_err() {
            prop_assert_eq!(frame.bytes(), &bytes);
        }
    }

    #[test]
    fn a_changed_byte_never_leads_to_a_panic_nor_to_an_unsound_frame(
        family in 0usize..2,
        (at, value) in (0usize..90, any::<u8>()),
    ) {
        let mut frame = spec(family, SYN).with_payload(&[0x5a; 20]).frame().unwrap();
        let (l4, end) = ([34, 54][family], frame.bytes().len());
        if let Some(byte) = frame.bytes_mut().get_mut(at) {
            *byte = value;
        }
        if refuse(&mut frame, 14, l4, end).is_ok() {
            prop_assert!(SlicedPacket::from_ethernet(frame.bytes()).unwrap().transport.is_some());
        }
    }
}
