//! The frames that meet each reason.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use ci::capture::Capture;
use ci::frames::{ARP, BROADCAST, IPV4, IPV6, TCP, UDP};
use ci::topology::{CLIENT_V6, CLUSTER, ECHO, HTTP_NODE_PORT, OUTSIDE};
use ci::{dial, echo, frames};
use engine::Reason;

use crate::PATIENCE;
use crate::ground::{
    ABSENT, BARE, CLIENT, CROWDED, DISTANT, FAR, Ground, HOLLOW, LOCAL, LOST, NARROW, ODD, ODD_MAC,
    PARTING, PICKY, POPULAR, PORT, SERVED,
};

/// A MAC address that nobody has.
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0xde, 0xad];

/// IP protocol numbers that [`frames`] has no names for.
const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// TCP flags.
const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The client's ports, and those of the host at the link `odd`.
const FROM: (Ipv4Addr, u16) = (CLIENT, 4444);
const FROM_FAR: (Ipv4Addr, u16) = (FAR.0, 4444);

/// More frames than may wait for one next hop, or for the first fragments of one source, at two workers.
const MANY: u16 = 140;

/// Provokes a drop for this reason. What takes many frames goes on until `is_met`, because a busy machine loses some.
pub fn provoke(reason: Reason, ground: &Ground, is_met: &dyn Fn() -> bool) {
    let wire = Wire::of(ground);
    match reason {
        Reason::TooShort => wire.send(IPV4, &to_echo(b"")[..10]),
        Reason::UnknownEtherType => wire.send(0x88b5, b"of nobody"),
        Reason::BadIpHeader => wire.send(IPV4, &changed(to_echo(b"of version 6"), 0, 0x65)),
        Reason::Truncated => wire.send(IPV4, &to_echo(b"cut short")[..30]),
        Reason::BadIpChecksum => wire.send(IPV4, &spoilt(to_echo(b"spoilt"), 10)),
        Reason::Fragment => {
            let packet = frames::ipv4(FAR.0, SERVED, SCTP, &[0; 64]);
            wire.send_odd(&frames::fragments(IPV4, &packet, 1, 32)[0]);
        }
        Reason::BadExtension => {
            let endless = [UDP, 255, 0, 0, 0, 0, 0, 0];
            let packet = frames::ipv6(client6(), own6(), HOP_BY_HOP, &endless);
            wire.send(IPV6, &packet);
        }
        Reason::BadTransport => {
            let shorter_than_its_header = [0, 1, 0, ECHO as u8, 0, 4, 0, 0];
            let packet = frames::ipv4(CLIENT, SERVED, UDP, &shorter_than_its_header);
            wire.send(IPV4, &packet);
        }
        Reason::UnknownProtocol => wire.send(IPV4, &frames::ipv4(CLIENT, SERVED, GRE, &[0; 20])),
        Reason::BadChecksum => wire.send(IPV4, &spoilt(to_echo(b"spoilt"), 27)),
        Reason::UnfinishedChecksum => wire.send(IPV4, &unfinished(to_echo(b"to be finished"))),
        Reason::MultiSegment => wire.send_odd(&udp(FROM_FAR, (DISTANT, PORT), &[7; 8000])),
        Reason::OtherMac => wire.send_to(STRANGER, IPV4, &to_echo(b"for another")),
        Reason::WrongVlan => {
            let tagged = [&[0, 7][..], &IPV4.to_be_bytes(), &to_echo(b"tagged")].concat();
            wire.send(0x8100, &tagged);
        }
        Reason::NotForUs => {
            let nobody = Ipv4Addr::new(203, 0, 113, 77);
            let request = frames::arp_request(wire.client, CLIENT, nobody);
            wire.send_to(BROADCAST, ARP, &request);
        }
        Reason::NotOurs => wire.udp_to([198, 51, 100, 7], PORT),
        Reason::NotServed => wire.udp_to(own(), 9),
        Reason::SourceRange => wire.send(IPV4, &frames::syn(FROM, (PICKY, PORT))),
        Reason::NoSuchService => wire.udp_to([100, 68, 7, 7], PORT),
        // A reset is never answered by one.
        Reason::NoEndpoint => wire.send(IPV4, &frames::tcp(FROM, (HOLLOW, PORT), RST)),
        Reason::NoSuchPort => wire.send(IPV4, &frames::tcp(FROM, (SERVED, 81), RST)),
        Reason::NotServedHere => wire.send(IPV4, &frames::tcp(FROM, (LOCAL, PORT), RST)),
        Reason::NoLocalEndpoint => wire.send(IPV4, &frames::syn(FROM, (LOCAL, PORT))),
        Reason::NoFlow => {
            wire.send(IPV4, &frames::tcp(FROM, (own(), HTTP_NODE_PORT), FIN | ACK));
        }
        Reason::TtlExpired => {
            // From an address that no answer may go to.
            let from = (Ipv4Addr::UNSPECIFIED, 4444);
            wire.send(IPV4, &with_ttl(udp(from, (SERVED, ECHO), b"old"), 1));
        }
        Reason::TooBig => too_big(&wire),
        Reason::NoRoute => wire.udp_to(LOST, PORT),
        Reason::NoSnatAddress => wire.udp_to(BARE, PORT),
        Reason::SnatPortsExhausted => use_up_ports(ground, &wire, is_met),
        Reason::SourceLimit => {
            for port in 5000..5040 {
                wire.send(IPV4, &udp((CLIENT, port), (SERVED, ECHO), b"one more"));
            }
        }
        Reason::ServiceLimit => wire.send_from(0..160, (POPULAR, PORT)),
        Reason::FlowTableFull => fill_flows(ground, &wire, is_met),
        Reason::NeighbourTableFull => until(is_met, || fill_neighbours(&wire)),
        Reason::Unresolved => {
            for _ in 0..MANY {
                wire.udp_to(ABSENT, PORT);
            }
        }
        Reason::Restart => {
            for _ in 0..10 {
                wire.udp_to(ABSENT, PORT);
            }
        }
        Reason::TxFull => refuse_at_the_device(ground, &wire, is_met),
        // In more fragments than a worker makes at a time.
        Reason::NoBuffer => wire.send(IPV4, &udp(FROM, (NARROW, PORT), &[7; 3900])),
        Reason::AnswerRefused => wire.solicit_in_a_long_frame(),
        Reason::BadSource => {
            wire.send(
                IPV4,
                &udp((Ipv4Addr::LOCALHOST, 4444), (SERVED, ECHO), b"from nowhere"),
            );
        }
        Reason::FragmentTiny => wire.part(2, 0, true, TCP, &[0; 8]),
        Reason::FragmentBadLength => wire.part(3, 0, true, UDP, &[0; 13]),
        Reason::FragmentOverlap => {
            wire.part(4, 8, true, UDP, &[0; 24]);
            wire.part(4, 16, true, UDP, &[0; 24]);
        }
        Reason::FragmentCopy => {
            wire.part(5, 8, true, UDP, &[0; 24]);
            wire.part(5, 8, true, UDP, &[0; 24]);
        }
        Reason::FragmentLimit => {
            for id in 100..100 + MANY {
                wire.part(id, 8, false, UDP, &[0; 24]);
            }
        }
        Reason::FragmentNoFirst => wire.part(6, 8, false, UDP, &[0; 24]),
        Reason::FragmentOfDropped => {
            let packet = udp(FROM_FAR, (Ipv4Addr::new(198, 51, 100, 7), 9), &[0; 56]);
            for fragment in frames::fragments(IPV4, &packet, 7, 32) {
                wire.send_odd(&fragment);
            }
        }
        Reason::EndpointGone => speak_after_the_end(ground, &wire),
        Reason::HostLimit => {
            for _ in 0..MANY {
                wire.udp_to(own(), 9);
            }
        }
        Reason::WorkerFull => {
            // Its ring has a thousand places.
            let mut ports = (1024..=u16::MAX).cycle();
            until(is_met, || {
                for port in ports.by_ref().take(8192) {
                    let frame = udp((CLIENT, port), ([198, 51, 100, 7].into(), PORT), b"a flood");
                    wire.send(IPV4, &frame);
                }
            });
        }
        Reason::FlowRace => panic!("{} is not provoked by frames", reason.name()),
    }
}

/// Where frames are sent.
struct Wire<'a> {
    outside: &'a Capture,
    gateway: [u8; 6],
    client: [u8; 6],
    odd: &'a Capture,
    far: [u8; 6],
}

impl<'a> Wire<'a> {
    fn of(ground: &'a Ground) -> Self {
        Self {
            outside: &ground.outside,
            gateway: ground.net.gateway.mac("outside"),
            client: ground.net.client.mac("eth0"),
            odd: &ground.odd,
            far: ground.far.mac("eth0"),
        }
    }

    /// By the link `outside`.
    fn send(&self, kind: u16, packet: &[u8]) {
        self.send_to(self.gateway, kind, packet);
    }

    fn send_to(&self, mac: [u8; 6], kind: u16, packet: &[u8]) {
        self.outside
            .send(&frames::ethernet(mac, self.client, kind, packet));
    }

    fn udp_to(&self, address: impl Into<Ipv4Addr>, port: u16) {
        self.send(IPV4, &udp(FROM, (address.into(), port), b"a datagram"));
    }

    /// A datagram each from the sources of these numbers.
    fn send_from(&self, numbers: std::ops::Range<u32>, to: (Ipv4Addr, u16)) {
        for number in numbers {
            // On the network of the link, where nobody is.
            let from = Ipv4Addr::from_bits(Ipv4Addr::new(203, 0, 113, 60).to_bits() + number % 180);
            self.send(IPV4, &udp((from, 4444), to, b"one of many"));
        }
    }

    /// An IPv4 packet by the link `odd`.
    fn send_odd(&self, packet: &[u8]) {
        self.odd
            .send(&frames::ethernet(ODD_MAC, self.far, IPV4, packet));
    }

    /// A fragment that begins at byte `start` of its datagram.
    fn part(&self, id: u16, start: u16, more: bool, protocol: u8, payload: &[u8]) {
        let mut packet = frames::ipv4(FAR.0, SERVED, protocol, payload);
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        let word = (u16::from(more) << 13) | (start / 8);
        packet[6..8].copy_from_slice(&word.to_be_bytes());
        self.send_odd(&sealed(packet));
    }

    /// Asks for the gateway's MAC address in a frame so long that the answer would have to be put together from
    /// several buffers (RFC 4861, section 4.3).
    fn solicit_in_a_long_frame(&self) {
        let [.., a, b, c] = ODD.octets();
        let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
        let option = [&[1, 1][..], &self.far].concat();
        let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &ODD.octets(), &option].concat();
        let length = (message.len() as u32).to_be_bytes();
        let pseudo = [
            &FAR.1.octets()[..],
            &group.octets(),
            &length,
            &[0, 0, 0, ICMPV6],
        ]
        .concat();
        let sum = frames::checksum(&[&pseudo[..], &message].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = frames::ipv6(FAR.1, group, ICMPV6, &message);
        packet[7] = 255;
        packet.resize(8000, 0);
        let mac = [0x33, 0x33, 0xff, a, b, c];
        self.odd
            .send(&frames::ethernet(mac, self.far, IPV6, &packet));
    }
}

/// A datagram for the echo service.
fn to_echo(payload: &[u8]) -> Vec<u8> {
    udp(FROM, (SERVED, ECHO), payload)
}

fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    frames::udp((from.0.into(), from.1), (to.0.into(), to.1), payload).1
}

fn own() -> Ipv4Addr {
    match OUTSIDE[0] {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("an IPv4 address"),
    }
}

fn own6() -> Ipv6Addr {
    six(OUTSIDE[1])
}

fn client6() -> Ipv6Addr {
    six(CLIENT_V6[0])
}

fn six(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) => panic!("an IPv6 address"),
    }
}

fn changed(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    packet
}

fn spoilt(packet: Vec<u8>, at: usize) -> Vec<u8> {
    let byte = packet[at] ^ 0xff;
    changed(packet, at, byte)
}

/// With a right checksum of the IPv4 header.
fn sealed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let sum = frames::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn with_ttl(packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    sealed(changed(packet, 8, ttl))
}

/// With the sum of the pseudo header alone for a checksum: what a kernel leaves for hardware to finish.
fn unfinished(mut packet: Vec<u8>) -> Vec<u8> {
    let length = packet[24..26].to_vec();
    let pseudo = [&packet[12..20], &[0, UDP], &length].concat();
    let sum = !frames::checksum(&pseudo);
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// An ICMP error (RFC 792) that must not be cut, about an answer to a flow whose endpoint lies behind a narrow link.
fn too_big(wire: &Wire<'_>) {
    let to = (NARROW, PORT);
    wire.send(IPV4, &udp(FROM, to, b"makes the flow"));
    let answer = udp(to, FROM, &[7; 60]);
    let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &answer].concat();
    let sum = frames::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let packet = frames::ipv4(CLIENT, NARROW, ICMP, &message);
    wire.send(IPV4, &sealed(changed(packet, 6, 0x40)));
}

/// Does it again and again, at least once, until it has led to something or has been given its time.
fn until(is_met: &dyn Fn() -> bool, mut work: impl FnMut()) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        work();
        // A busy machine tells late.
        let next = Instant::now() + Duration::from_secs(2);
        while Instant::now() < next {
            if is_met() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Sends to a host at the link `odd` until it is resolved, and then with the interface down, from so many ports
/// that both workers have some.
fn refuse_at_the_device(ground: &Ground, wire: &Wire<'_>, is_met: &dyn Fn() -> bool) {
    let send = || {
        for port in 4000..4032 {
            wire.send(IPV4, &udp((CLIENT, port), (DISTANT, PORT), b"far away"));
        }
    };
    send();
    let arrived = ground
        .odd
        .find(PATIENCE, |frame| frames::contains(frame, b"far away"));
    assert!(arrived.is_some(), "nothing arrives at the link odd");
    ground.net.gateway.ip("link set odd down");
    until(is_met, send);
    ground.net.gateway.ip("link set odd up");
}

/// A UDP flow stays when its client has sent again in a later second: six of them are three quarters of the ports, which
/// may be half-open, then two have the rest, and no more get one.
fn use_up_ports(ground: &Ground, wire: &Wire<'_>, is_met: &dyn Fn() -> bool) {
    let _server = echo::udp(ground.net.pod(0), PORT, "crowded");
    until(is_met, || {
        for sources in [0..6, 6..8] {
            confirmed(|| wire.send_from(sources.clone(), (CROWDED, PORT)));
        }
        wire.send_from(8..20, (CROWDED, PORT));
    });
}

/// A thousand flows may be half-open, and there is room for two thousand.
fn fill_flows(ground: &Ground, wire: &Wire<'_>, is_met: &dyn Fn() -> bool) {
    let _servers = ground.net.start_echo(0);
    let open = |ports: std::ops::Range<u16>| {
        for port in ports {
            wire.send(IPV4, &udp((CLIENT, port), (SERVED, ECHO), b"fill"));
            if port % 100 == 0 {
                // So that answers come between, and no queue overflows.
                thread::sleep(Duration::from_millis(10));
            }
        }
    };
    until(is_met, || {
        for first in [10_000, 11_000, 12_000] {
            confirmed(|| open(first..first + 1000));
        }
        open(13_000..14_000);
    });
}

/// Does it twice, in two different seconds.
fn confirmed(mut send: impl FnMut()) {
    send();
    thread::sleep(Duration::from_millis(1100));
    send();
}

/// Each client on the network of the link is a neighbour.
fn fill_neighbours(wire: &Wire<'_>) {
    for number in 0..8000u16 {
        let [high, low] = number.to_be_bytes().map(u16::from);
        let from = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 7, high, low);
        let to = (CLUSTER[1], ECHO);
        let (kind, packet) = frames::udp((from.into(), 4444), to, b"fill");
        wire.send(kind, &packet);
        if number % 100 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A segment that ends a connection whose endpoint has left and that was reset for it.
fn speak_after_the_end(ground: &Ground, wire: &Wire<'_>) {
    let listener = ground
        .net
        .pod(0)
        .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))
        .expect("the pod listens");
    let from = SocketAddr::new(CLIENT.into(), 4747);
    let to = SocketAddr::new(OUTSIDE[0], PARTING);
    let mut client = dial::tcp(&ground.net.client, Some(from), to, PATIENCE).expect("a connection");
    let _pod = listener.accept().expect("the pod accepts");
    ground.part(&[]);
    let error = client.read(&mut [0; 1]).expect_err("a reset, no end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let segment = frames::tcp((CLIENT, from.port()), (own(), PARTING), RST);
    wire.send(IPV4, &segment);
}
