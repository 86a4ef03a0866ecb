//! The gateway's rewrite and checksums against capsule's packet types, which were written by others and compute
//! everything anew where the gateway computes differences.
//!
//! What capsule itself has wrong is left out of the generated frames, and shown by a test of its own for each
//! reason: padding, UDP without a checksum, IPv4 options, later fragments, wrong versions.

mod capsule_is_wrong;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use capsule::packets::checksum::{self, PseudoHeader};
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::ip::v6::Ipv6;
use capsule::packets::ip::{Flow, IpPacket, ProtocolNumber};
use capsule::packets::{Ethernet, Packet, Tcp, Udp};
use capsule::testils::proptest::{field, v4_tcp_with, v4_udp_with, v6_tcp_with, v6_udp_with};
use capsule::testils::{MempoolGuard, PacketExt, Rvg};
use capsule::{Mbuf, fieldmap};
use packet::build::{FrameSpec, Transport};
use packet::checksum::{Delta, ipv4_header_checksum, l4_checksum_v4, l4_checksum_v6};
use packet::parse::{Network, Parsed, TCP, UDP, parse};
use packet::plain::{self, Start};
use packet::rewrite::{Translation, rewrite4, rewrite6};
use packet::tuple::{words4, words6};
use proptest::prelude::*;

/// DPDK, once for all tests, and buffers for one.
pub fn buffers() -> MempoolGuard {
    capsule::testils::cargo_test_init();
    capsule::testils::new_mempool(255, 0)
}

/// A frame in capsule's buffer.
pub fn mbuf(frame: &[u8]) -> Mbuf {
    Mbuf::from_bytes(frame).expect("a buffer with room for the frame")
}

/// What is in it.
pub fn bytes(packet: impl Packet) -> Vec<u8> {
    let mbuf = packet.reset();
    let bytes = mbuf.read_data_slice::<u8>(0, mbuf.data_len());
    // SAFETY: the buffer's own bytes, which nobody else has.
    unsafe { bytes.expect("all of it").as_ref() }.to_vec()
}

/// Where to, by the gateway: addresses, ports and hop limit.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// By the general way; and, if the frame is plain, by the fast one, which must say the same.
pub fn translated(frame: &[u8], way: Way) -> Vec<u8> {
    let parsed = parse(frame).expect("a frame that the gateway accepts");
    let mut general = frame.to_vec();
    let mac = frame[..6].try_into().expect("six bytes");
    match parsed.network {
        Network::V4 => {
            let [addresses, ports] = words4(frame, &parsed);
            let there = Translation::between(([addresses], (ports >> 32) as u32), words_v4(way));
            rewrite4(&mut general, &parsed, &there);
            if plain::key4(frame, &Start::v4(mac)).is_some() {
                let mut fast = frame.to_vec();
                plain::rewrite4(&mut fast, &there);
                assert_eq!(fast, general, "both ways of the gateway");
            }
        }
        _ => {
            let [a, b, c, d, ports] = words6(frame, &parsed);
            let there = Translation::between(([a, b, c, d], (ports >> 32) as u32), words_v6(way));
            rewrite6(&mut general, &parsed, &there);
            if plain::key6(frame, &Start::v6(mac)).is_some() {
                let mut fast = frame.to_vec();
                plain::rewrite6(&mut fast, &there);
                assert_eq!(fast, general, "both ways of the gateway");
            }
        }
    }
    general
}

fn ports(way: Way) -> u32 {
    u32::from(way.source.port()) << 16 | u32::from(way.destination.port())
}

fn words_v4(way: Way) -> ([u64; 1], u32) {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(_) => panic!("one family"),
    };
    (
        [bits(way.source.ip()) << 32 | bits(way.destination.ip())],
        ports(way),
    )
}

fn words_v6(way: Way) -> ([u64; 4], u32) {
    let bits = |address: IpAddr| match address {
        IpAddr::V6(address) => [(address.to_bits() >> 64) as u64, address.to_bits() as u64],
        IpAddr::V4(_) => panic!("one family"),
    };
    let ([a, b], [c, d]) = (bits(way.source.ip()), bits(way.destination.ip()));
    ([a, b, c, d], ports(way))
}

/// The same by capsule.
pub fn by_capsule(frame: &[u8], way: Way, protocol: u8) -> Vec<u8> {
    let ethernet = mbuf(frame).parse::<Ethernet>().expect("Ethernet");
    if way.source.is_ipv4() {
        let mut ip = ethernet.parse::<Ipv4>().expect("IPv4");
        ip.set_ttl(ip.ttl() - 1);
        transport(ip, way, protocol)
    } else {
        let mut ip = ethernet.parse::<Ipv6>().expect("IPv6");
        ip.set_hop_limit(ip.hop_limit() - 1);
        transport(ip, way, protocol)
    }
}

fn transport<E: IpPacket>(mut ip: E, way: Way, protocol: u8) -> Vec<u8> {
    ip.set_src(way.source.ip()).expect("one family");
    ip.set_dst(way.destination.ip()).expect("one family");
    if protocol == TCP {
        let mut tcp = ip.parse::<Tcp<E>>().expect("TCP");
        tcp.set_src_port(way.source.port());
        tcp.set_dst_port(way.destination.port());
        tcp.reconcile_all();
        bytes(tcp)
    } else {
        let mut udp = ip.parse::<Udp<E>>().expect("UDP");
        udp.set_src_port(way.source.port());
        udp.set_dst_port(way.destination.port());
        udp.reconcile_all();
        bytes(udp)
    }
}

/// Two addresses and ports of one family.
fn way() -> impl Strategy<Value = (bool, Way, Way)> {
    (any::<bool>(), any::<[(u128, u16); 4]>()).prop_map(|(v4, ends)| {
        let end = |(address, port): (u128, u16)| -> SocketAddr {
            let ip: IpAddr = match v4 {
                true => Ipv4Addr::from_bits(address as u32).into(),
                false => Ipv6Addr::from_bits(address).into(),
            };
            (ip, port).into()
        };
        let [a, b, c, d] = ends.map(end);
        let way = |source, destination| Way {
            source,
            destination,
        };
        (v4, way(a, b), way(c, d))
    })
}

/// A frame without anything that capsule has wrong: no padding, no IPv4 options, a UDP checksum.
fn frame() -> impl Strategy<Value = (Vec<u8>, u8, Way)> {
    let payload = proptest::collection::vec(any::<u8>(), 0..1400);
    let options = proptest::collection::vec(any::<u8>(), 0..=40);
    let header = (
        any::<u8>(),
        any::<u32>(),
        any::<u32>(),
        any::<u16>(),
        options,
    );
    (way(), any::<bool>(), header, 2u8.., any::<u16>(), payload).prop_map(
        |((_, from, to), tcp, (flags, seq, ack, window, options), ttl, id, payload)| {
            let mut spec = FrameSpec::udp(from.source, from.destination);
            if tcp {
                spec.transport = Transport::Tcp {
                    flags,
                    seq,
                    ack,
                    window,
                    options,
                };
            }
            spec.ttl = ttl;
            spec.identification = id;
            spec.payload = payload;
            spec.pad_to = 0;
            let protocol = if tcp { TCP } else { UDP };
            (spec.bytes().expect("a frame"), protocol, to)
        },
    )
}

/// Source and destination as the gateway reads them.
fn read(frame: &[u8], parsed: &Parsed) -> Way {
    let (source, destination) = packet::tuple::addresses(frame, parsed).expect("addresses");
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    Way {
        source: (source, port(parsed.l4())).into(),
        destination: (destination, port(parsed.l4() + 2)).into(),
    }
}

proptest! {
    #[test]
    fn a_translated_frame_is_the_one_that_capsule_makes((frame, protocol, to) in frame()) {
        let _buffers = buffers();
        prop_assert_eq!(translated(&frame, to), by_capsule(&frame, to, protocol));
    }

    #[test]
    fn a_built_frame_has_the_lengths_and_checksums_that_capsule_computes((frame, protocol, _) in frame()) {
        let _buffers = buffers();
        let parsed = parse(&frame).expect("a frame that the gateway accepts");
        let ethernet = mbuf(&frame).parse::<Ethernet>().expect("Ethernet");
        let again = match (parsed.network, protocol) {
            (Network::V4, TCP) => reconciled::<Tcp<Ipv4>>(ethernet.parse::<Ipv4>().expect("IPv4")),
            (Network::V4, _) => reconciled::<Udp<Ipv4>>(ethernet.parse::<Ipv4>().expect("IPv4")),
            (_, TCP) => reconciled::<Tcp<Ipv6>>(ethernet.parse::<Ipv6>().expect("IPv6")),
            (_, _) => reconciled::<Udp<Ipv6>>(ethernet.parse::<Ipv6>().expect("IPv6")),
        };
        prop_assert_eq!(frame, again);
    }

    #[test]
    fn checksums_are_those_that_capsule_computes(
        source: u128, destination: u128, tcp: bool,
        mut segment in proptest::collection::vec(any::<u8>(), 20..1480),
        header in any::<[u8; 18]>(),
    ) {
        let protocol = if tcp { TCP } else { UDP };
        let at = if tcp { 16 } else { 6 };
        segment[at..at + 2].fill(0);
        let length = segment.len() as u16;
        segment[4..6].copy_from_slice(&length.to_be_bytes());
        // A UDP checksum of 0 is sent as 0xffff (RFC 768); capsule does that where it writes the field.
        let sent = |computed: u16| if computed == 0 && !tcp { 0xffff } else { computed };
        let number = ProtocolNumber::new(protocol);

        let (src, dst) = (Ipv4Addr::from_bits(source as u32), Ipv4Addr::from_bits(destination as u32));
        let pseudo = PseudoHeader::V4 { src, dst, packet_len: length, protocol: number };
        let theirs = sent(checksum::compute(pseudo.sum(), &segment));
        prop_assert_eq!(l4_checksum_v4(src, dst, protocol, &segment), Some(theirs));

        let (src, dst) = (Ipv6Addr::from_bits(source), Ipv6Addr::from_bits(destination));
        let pseudo = PseudoHeader::V6 { src, dst, packet_len: length, protocol: number };
        let theirs = sent(checksum::compute(pseudo.sum(), &segment));
        prop_assert_eq!(l4_checksum_v6(src, dst, protocol, &segment), Some(theirs));

        let mut ip = [0x45; 20];
        ip[2..].copy_from_slice(&header);
        ip[10..12].fill(0);
        prop_assert_eq!(ipv4_header_checksum(&ip), checksum::compute(0, &ip));
    }

    #[test]
    fn a_difference_changes_a_checksum_as_capsules_does(
        words in proptest::collection::vec(any::<u16>(), 4..40), new: u128,
    ) {
        // A sum of something, as every checksum here is: one with a word that is not 0.
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend([0, TCP]);
        let before = checksum::compute(0, &bytes);
        let old = u32::from(words[0]) << 16 | u32::from(words[1]);
        let to = [(new >> 16) as u16, new as u16];
        let delta = Delta::of_u32(old, new as u32);
        prop_assert_eq!(delta.apply(before), checksum::compute_inc(before, &words[..2], &to));
    }

    #[test]
    fn the_gateway_reads_what_capsule_wrote(v4: bool, tcp: bool, ttl in 1u8..) {
        let _buffers = buffers();
        let mut generate = Rvg::new();
        let fields = fieldmap! {
            field::ipv4_more_fragments => false,
            field::ipv4_fragment_offset => 0u16,
            field::ipv4_ttl => ttl,
            field::ipv6_hop_limit => ttl
        };
        let (flow, frame) = match (v4, tcp) {
            (true, true) => written(generate.generate(&v4_tcp_with(fields)).into_v4_tcp(), Tcp::flow),
            (true, false) => written(generate.generate(&v4_udp_with(fields)).into_v4_udp(), Udp::flow),
            (false, true) => written(generate.generate(&v6_tcp_with(fields)).into_v6_tcp(), Tcp::flow),
            (false, false) => written(generate.generate(&v6_udp_with(fields)).into_v6_udp(), Udp::flow),
        };
        let parsed = parse(&frame).expect("a frame that capsule wrote");
        let read = read(&frame, &parsed);
        prop_assert_eq!(read.source, (flow.src_ip(), flow.src_port()).into());
        prop_assert_eq!(read.destination, (flow.dst_ip(), flow.dst_port()).into());
        prop_assert_eq!(parsed.protocol, if tcp { TCP } else { UDP });
        prop_assert_eq!(parsed.ttl, ttl);
    }
}

fn written<P: Packet>(packet: P, flow: impl Fn(&P) -> Flow) -> (Flow, Vec<u8>) {
    (flow(&packet), bytes(packet))
}

fn reconciled<P: Packet>(ip: P::Envelope) -> Vec<u8>
where
    P::Envelope: Packet,
{
    let mut packet = ip.parse::<P>().expect("a transport header");
    packet.reconcile_all();
    bytes(packet)
}
