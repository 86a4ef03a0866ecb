//! Why some frames are not generated: what capsule does with them, and what the gateway does.

use std::net::SocketAddr;

use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet, Tcp4, Udp4};
use packet::build::{Fill, FrameSpec};
use packet::parse::{ParseError, TCP, UDP, parse};

use super::{Way, buffers, by_capsule, bytes, mbuf, translated};

const TO: Way = Way {
    source: SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(100, 64, 0, 1)),
        20_000,
    ),
    destination: SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(100, 96, 2, 2)),
        8080,
    ),
};

fn ends() -> (SocketAddr, SocketAddr) {
    let address = |text: &str| text.parse().expect("an address");
    (address("198.18.0.1:1024"), address("203.0.113.10:80"))
}

fn tcp() -> FrameSpec {
    FrameSpec::tcp(ends().0, ends().1, packet::tcp::ACK)
}

/// The frame that the translation of `spec` is.
fn expected(mut spec: FrameSpec) -> Vec<u8> {
    (spec.source, spec.destination) = (TO.source, TO.destination);
    spec.ttl -= 1;
    spec.bytes().expect("a frame")
}

#[test]
fn padding_is_taken_for_payload() {
    let _buffers = buffers();
    let mut spec = tcp();
    spec.pad_to = 60;
    let frame = spec.bytes().expect("a frame");
    assert_eq!(translated(&frame, TO), expected(spec));
    let theirs = by_capsule(&frame, TO, TCP);
    let total = u16::from_be_bytes([theirs[16], theirs[17]]);
    assert_eq!(total, 46, "six bytes of padding are now in the packet");
    let parsed = parse(&theirs).expect("a longer packet");
    assert_eq!(parsed.end(), 60);
}

#[test]
fn a_datagram_without_a_checksum_gets_a_wrong_one() {
    let _buffers = buffers();
    let mut spec = FrameSpec::udp(ends().0, ends().1).with_payload(b"hello");
    spec.fill = Fill::Zero;
    spec.pad_to = 0;
    let frame = spec.bytes().expect("a frame");
    let ours = translated(&frame, TO);
    assert_eq!(ours, expected(spec.clone()), "none stays none (RFC 768)");

    // capsule's own way to change an address by difference.
    let ethernet = mbuf(&frame).parse::<Ethernet>().expect("Ethernet");
    let ip = ethernet.parse::<Ipv4>().expect("IPv4");
    let mut udp = ip.parse::<Udp4>().expect("UDP");
    udp.set_src_ip(TO.source.ip()).expect("one family");
    assert_ne!(udp.checksum(), 0);
    spec.source.set_ip(TO.source.ip());
    spec.fill = Fill::Right;
    let right = spec.bytes().expect("a frame");
    assert_ne!(bytes(udp)[40..42], right[40..42], "and it is wrong");
}

#[test]
fn ports_are_read_out_of_options() {
    let _buffers = buffers();
    let mut spec = tcp();
    spec.ip_options = vec![0x94, 4, 0, 0];
    let frame = spec.bytes().expect("a frame");
    let parsed = parse(&frame).expect("options are skipped");
    assert_eq!(frame[parsed.l4()..][..4], [4, 0, 0, 80]);

    let ethernet = mbuf(&frame).parse::<Ethernet>().expect("Ethernet");
    let ip = ethernet.parse::<Ipv4>().expect("IPv4");
    let tcp = ip.parse::<Tcp4>().expect("it finds a header there");
    assert_eq!((tcp.src_port(), tcp.dst_port()), (0x9404, 0));
}

#[test]
fn later_fragments_have_ports() {
    let _buffers = buffers();
    let mut spec = FrameSpec::udp(ends().0, ends().1).with_payload(&[7; 64]);
    spec.fragment = 100;
    let frame = spec.bytes().expect("a frame");
    assert_eq!(parse(&frame), Err(ParseError::Fragment));
    assert_ne!(
        frame,
        by_capsule(&frame, TO, UDP),
        "payload is taken for ports and rewritten"
    );
}

#[test]
fn version_and_header_length_are_not_looked_at() {
    let _buffers = buffers();
    let mut frame = tcp().bytes().expect("a frame");
    frame[14] = 0x52;
    assert_eq!(parse(&frame), Err(ParseError::BadIpHeader));
    let ethernet = mbuf(&frame).parse::<Ethernet>().expect("Ethernet");
    let ip = ethernet.parse::<Ipv4>().expect("version 5, two words long");
    assert_eq!((ip.version(), ip.ihl()), (5, 2));
    assert!(ip.parse::<Tcp4>().is_ok());
}
