//! Datagrams in fragments, put together on the other side by an oracle.

mod common;

use common::datagram::{cut, payload, put_together};
use common::*;
use engine::Reason;
use engine::counters::Total;
use engine::shared::Options;
use hugepages::object::Protocol;
use packet::build::{FrameSpec, Transport};
use packet::fragment::Piece;
use packet::ipv4;
use packet::parse::parse;
use packet::tcp::{ACK, PSH};
use packet::tuple::Tuple;
use proptest::prelude::*;

const CLIENT: [&str; 2] = ["203.0.113.50:4000", "[2001:db8:1::50]:4000"];
const SERVICE: [&str; 2] = ["203.0.113.10:30007", "[2001:db8:1::10]:30007"];

fn gateway(workers: usize) -> Gateway {
    let service = |protocol, name, address: &'static str, pod: &'static str| {
        let mut spec = Spec::new(name, &[address], &[pod]);
        spec.protocol = protocol;
        spec
    };
    let mut specs = Vec::new();
    for (protocol, name) in [
        (Protocol::Udp, "default/udp"),
        (Protocol::Tcp, "default/tcp"),
    ] {
        specs.push(service(protocol, name, SERVICE[0], "100.96.2.2:7"));
    }
    for (protocol, name) in [
        (Protocol::Udp, "default/udp6"),
        (Protocol::Tcp, "default/tcp6"),
    ] {
        specs.push(service(protocol, name, SERVICE[1], "[fd00:100:96:2::2]:7"));
    }
    Gateway::with(&specs, workers, 4096, Options::default())
}

/// A packet with this much payload, not to be sent in one piece.
fn whole(from: &str, to: &str, is_tcp: bool, id: u16, payload: usize) -> FrameSpec {
    let mut spec = if is_tcp {
        FrameSpec::tcp(at(from), at(to), ACK | PSH)
    } else {
        FrameSpec::udp(at(from), at(to))
    };
    if let Transport::Tcp { options, .. } = &mut spec.transport {
        options.extend([1; 12]);
    }
    spec.fragment = 0;
    spec.identification = id;
    spec.payload = (0..payload).map(|at| (at * 7 + at / 256) as u8).collect();
    spec
}

/// Puts fragments into workers, lets all of them look again, and returns what left, in order.
fn send(gateway: &mut Gateway, link: usize, frames: &[(usize, Vec<u8>)]) -> Vec<(usize, Vec<u8>)> {
    let mut out = Vec::new();
    for (worker, frame) in frames {
        out.extend(gateway.put(*worker, link, frame));
    }
    for worker in 0..gateway.workers.len() {
        out.extend(gateway.upkeep(worker));
    }
    out
}

/// Sends fragments that must all leave by one link, and returns the datagram as received there.
fn passes(gateway: &mut Gateway, link: usize, frames: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let out = send(gateway, link, frames);
    assert_eq!(
        out.len(),
        frames.len(),
        "dropped: {:?}",
        gateway.seen.dropped
    );
    assert!(out.iter().all(|(to, _)| *to != link));
    put_together(&out.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>())
}

fn turned(tuple: &Tuple) -> (String, String) {
    (tuple.to().to_string(), tuple.from().to_string())
}

fn drops(gateway: &Gateway, reason: Reason) -> u64 {
    let of = |worker: &engine::Pipeline<_>| worker.counters().drops(reason);
    gateway.workers.iter().map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Both directions of a masqueraded flow, whatever the order, at whichever workers.
    #[test]
    fn a_datagram_in_fragments_arrives_as_the_translated_datagram(
        v6: bool, is_tcp: bool, size in 60usize..6000, step in 6usize..180, id: u16,
        order in proptest::collection::vec((any::<u32>(), 0usize..3), 130),
    ) {
        let mut gateway = gateway(3);
        let step = (step * 8).max(size.div_ceil(40).next_multiple_of(8));
        let shuffled = |frames: Vec<Vec<u8>>| {
            let mut frames: Vec<_> = frames.into_iter().zip(&order).collect();
            frames.sort_by_key(|(_, (at, _))| *at);
            frames.into_iter().map(|(frame, (_, worker))| (*worker, frame)).collect::<Vec<_>>()
        };
        prop_assume!(size + 8 > step);
        let family = usize::from(v6);
        let there = whole(CLIENT[family], SERVICE[family], is_tcp, id, size);
        let expected = there.payload.clone();
        let frames = shuffled(cut(&from_client(there), id.into(), step));
        let received = passes(&mut gateway, OUTSIDE, &frames);
        let tuple = tuple(&received);
        prop_assert_eq!(payload(&received), &expected[..]);
        prop_assert_eq!(tuple.destination_port, 7);
        let inside = ["100.96.2.1", "fd00:100:96:2::1"][family];
        prop_assert_eq!(tuple.source, ip(inside));

        let (from, to) = turned(&tuple);
        let back = whole(&from, &to, is_tcp, id, size);
        let frames = shuffled(cut(&from_pod(back), id.into(), step));
        let received = passes(&mut gateway, PODS, &frames);
        let tuple = common::tuple(&received);
        prop_assert_eq!(payload(&received), &expected[..]);
        prop_assert_eq!((tuple.from(), tuple.to()), (at(SERVICE[family]), at(CLIENT[family])));
        gateway.assert_balanced();
        prop_assert_eq!(gateway.states().len(), 1);
    }
}

#[test]
fn a_datagram_without_a_checksum_stays_without_one() {
    let mut gateway = gateway(1);
    let mut spec = whole(CLIENT[0], SERVICE[0], false, 1, 2000);
    spec.fill = packet::build::Fill::Zero;
    let frames = cut(&from_client(spec), 1, 1480);
    let out = send(
        &mut gateway,
        OUTSIDE,
        &[(0, frames[0].clone()), (0, frames[1].clone())],
    );
    assert_eq!(out[0].1[40..42], [0, 0]);
}

#[test]
fn datagrams_of_two_clients_with_one_identification_leave_with_two() {
    let mut gateway = gateway(1);
    let mut ids = Vec::new();
    for client in ["203.0.113.50:4000", "203.0.113.51:4000"] {
        let frame = from_client(whole(client, SERVICE[0], false, 77, 2000));
        let frames: Vec<_> = cut(&frame, 77, 1480)
            .into_iter()
            .map(|frame| (0, frame))
            .collect();
        let out = send(&mut gateway, OUTSIDE, &frames);
        ids.push(Piece::read(&out[0].1).unwrap().id);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn what_overlaps_or_hides_a_header_is_dropped_by_name() {
    let mut gateway = gateway(1);
    let frames = cut(
        &from_client(whole(CLIENT[0], SERVICE[0], true, 5, 3000)),
        5,
        800,
    );
    // A part of the header only, or the rest of it later (RFC 1858, RFC 3128).
    let tiny = cut(
        &from_client(whole(CLIENT[0], SERVICE[0], true, 6, 3000)),
        6,
        16,
    );
    assert!(
        send(
            &mut gateway,
            OUTSIDE,
            &[(0, tiny[0].clone()), (0, tiny[1].clone())]
        )
        .is_empty()
    );
    assert_eq!(drops(&gateway, Reason::FragmentTiny), 2);
    // The same once more is no harm; a part of it is, and ends the datagram.
    assert_eq!(
        send(&mut gateway, OUTSIDE, &[(0, frames[0].clone())]).len(),
        1
    );
    assert_eq!(
        send(&mut gateway, OUTSIDE, &[(0, frames[0].clone())]).len(),
        0
    );
    assert_eq!(drops(&gateway, Reason::FragmentCopy), 1);
    let other = cut(
        &from_client(whole(CLIENT[0], SERVICE[0], true, 5, 3000)),
        5,
        640,
    );
    assert_eq!(
        send(&mut gateway, OUTSIDE, &[(0, other[1].clone())]).len(),
        0
    );
    assert_eq!(drops(&gateway, Reason::FragmentOverlap), 1);
    for frame in &frames[1..] {
        assert!(send(&mut gateway, OUTSIDE, &[(0, frame.clone())]).is_empty());
    }
    assert_eq!(drops(&gateway, Reason::FragmentOfDropped), 4 - 1);
    // Not a multiple of eight, though others follow.
    let mut odd = frames[1].clone();
    odd[16..18].copy_from_slice(&(820u16 - 4).to_be_bytes());
    assert!(ipv4::write_checksum(&mut odd[14..34]));
    assert!(send(&mut gateway, OUTSIDE, &[(0, odd)]).is_empty());
    assert_eq!(drops(&gateway, Reason::FragmentBadLength), 1);
    gateway.assert_balanced();
}

#[test]
fn another_machines_fragments_are_left_alone() {
    let mut gateway = gateway(1);
    let mut frame = cut(
        &from_client(whole(CLIENT[0], SERVICE[0], false, 5, 3000)),
        5,
        800,
    )
    .remove(0);
    frame[5] ^= 1;
    assert!(send(&mut gateway, OUTSIDE, &[(0, frame)]).is_empty());
    assert_eq!(drops(&gateway, Reason::OtherMac), 1);
}

#[test]
fn the_rest_of_a_refused_datagram_goes_nowhere() {
    let mut gateway = gateway(2);
    let frames = cut(
        &from_client(whole(CLIENT[0], "203.0.113.10:9", false, 5, 3000)),
        5,
        800,
    );
    for (at, frame) in frames.iter().enumerate().rev() {
        assert!(send(&mut gateway, OUTSIDE, &[(at % 2, frame.clone())]).is_empty());
    }
    assert_eq!(drops(&gateway, Reason::NotServed), 1);
    assert_eq!(drops(&gateway, Reason::FragmentOfDropped), 3);
    gateway.assert_balanced();
}

#[test]
fn a_flood_of_fragments_without_a_first_is_bounded_and_touches_nobody_else() {
    let mut gateway = gateway(1);
    // A datagram of which half has passed, and a flow.
    let half = cut(
        &from_client(whole(CLIENT[0], SERVICE[0], false, 9, 3000)),
        9,
        1480,
    );
    assert_eq!(
        send(&mut gateway, OUTSIDE, &[(0, half[0].clone())]).len(),
        1
    );
    for number in 0..20_000u32 {
        let source = format!("198.51.{}.{}:4000", number >> 8 & 0xff, number & 0xff);
        let frame = from_client(whole(&source, SERVICE[0], false, number as u16, 3000));
        assert!(gateway.put(0, OUTSIDE, &cut(&frame, 0, 1480)[1]).is_empty());
    }
    let counters = gateway.workers[0].counters();
    let waiting = counters.total(Total::Parked) - counters.total(Total::Unparked);
    assert_eq!(waiting, 256, "a bounded number of frames is kept");
    assert_eq!(drops(&gateway, Reason::FragmentNoFirst), 20_000 - 256);
    // The rest of the half, and a late datagram in the wrong order, still pass.
    assert_eq!(
        send(&mut gateway, OUTSIDE, &[(0, half[1].clone())]).len(),
        1
    );
    let late = cut(
        &from_client(whole(CLIENT[0], SERVICE[0], false, 10, 3000)),
        10,
        1480,
    );
    let late: Vec<_> = late.into_iter().rev().map(|frame| (0, frame)).collect();
    passes(&mut gateway, OUTSIDE, &late);
    // What waits is given up.
    gateway.second += 4;
    gateway.upkeep(0);
    let counters = gateway.workers[0].counters();
    assert_eq!(
        counters.total(Total::Parked),
        counters.total(Total::Unparked)
    );
    gateway.assert_balanced();
}

#[test]
fn one_source_has_a_bounded_number_of_waiting_fragments() {
    let mut gateway = gateway(1);
    for id in 0..200 {
        let frame = from_client(whole(CLIENT[0], SERVICE[0], false, id, 3000));
        gateway.put(0, OUTSIDE, &cut(&frame, 0, 1480)[1]);
    }
    assert_eq!(drops(&gateway, Reason::FragmentLimit), 200 - 64);
}

#[test]
fn an_atomic_fragment_is_translated_as_the_whole_packet_that_it_is() {
    let mut gateway = gateway(1);
    let frame = from_client(whole(CLIENT[1], SERVICE[1], false, 0, 500));
    let atomic = cut(&frame, 7, 1480).remove(0);
    let (link, out) = gateway.pass(OUTSIDE, &atomic);
    assert_eq!(link, PODS);
    assert_eq!(tuple(&out).destination_port, 7);
}

#[test]
fn a_long_ping_to_the_gateway_is_answered_fragment_by_fragment() {
    for (from, to) in [
        ("203.0.113.50", "203.0.113.10"),
        ("2001:db8:1::50", "2001:db8:1::10"),
    ] {
        let mut gateway = gateway(2);
        let mut spec = FrameSpec::echo(ip(from), ip(to));
        spec.fragment = 0;
        spec.payload = (0..4000).map(|at| at as u8).collect();
        let expected = spec.payload.clone();
        let frames = cut(&from_client(spec), 3, 1448);
        // In reverse: the later ones wait until it is known that an echo request begins the datagram.
        let frames: Vec<_> = frames
            .into_iter()
            .enumerate()
            .map(|(at, frame)| (at % 2, frame))
            .rev()
            .collect();
        let out = send(&mut gateway, OUTSIDE, &frames);
        assert_eq!(out.len(), 3);
        let out: Vec<_> = out.into_iter().map(|(_, frame)| frame).collect();
        let reply = put_together(&out);
        let parsed = parse(&reply).unwrap();
        let message = &reply[parsed.l4()..parsed.end()];
        let (source, destination) = packet::tuple::addresses(&reply, &parsed).unwrap();
        assert_eq!((source, destination), (ip(to), ip(from)));
        let sum = packet::checksum::pseudo(source, destination, parsed.protocol, message.len());
        let good = packet::checksum::Checksum::Good;
        assert_eq!(
            packet::checksum::verify_l4(message, sum.unwrap(), parsed.protocol),
            good
        );
        assert!(matches!(message[0], 0 | 129));
        assert_eq!(message[8..], expected);
        gateway.assert_balanced();
    }
}

/// Found by the fuzz target `pipeline`: the answer left with a group's MAC address as its source.
#[test]
fn fragments_to_a_group_of_machines_are_not_for_the_gateway() {
    for (from, to) in [
        ("203.0.113.50", "203.0.113.10"),
        ("2001:db8:1::50", "2001:db8:1::10"),
    ] {
        let mut gateway = gateway(1);
        let mut spec = FrameSpec::echo(ip(from), ip(to));
        spec.fragment = 0;
        spec.payload = vec![7; 400];
        for mut frame in cut(&from_client(spec), 3, 200) {
            frame[0] |= 1;
            assert_eq!(gateway.put(0, OUTSIDE, &frame), []);
            assert_eq!(gateway.seen.dropped, [Reason::NotForUs]);
        }
        gateway.assert_balanced();
    }
}

/// A gateway whose link to the pods has another MTU.
fn narrow(mtu: u16) -> Gateway {
    let mut topology = topology();
    topology.links[PODS].mtu = mtu;
    let mut spec = Spec::new("default/udp", &SERVICE, &["100.96.2.2:7"]);
    spec.protocol = Protocol::Udp;
    let mut spec6 = Spec::new("default/udp6", &SERVICE[1..], &["[fd00:100:96:2::2]:7"]);
    spec6.protocol = Protocol::Udp;
    spec.frontends.truncate(1);
    Gateway::over(topology, &[spec, spec6], 1, 64, Options::default())
}

#[test]
fn what_is_too_long_is_cut_if_its_sender_allows_that_and_reported_otherwise() {
    let mut gateway = narrow(1400);
    let spec = whole(CLIENT[0], SERVICE[0], false, 5, 1472);
    let expected = spec.payload.clone();
    let out = send(&mut gateway, OUTSIDE, &[(0, from_client(spec.clone()))]);
    assert_eq!(out.len(), 2);
    assert!(out.iter().all(|(_, frame)| frame.len() <= 1414));
    let frames: Vec<_> = out.into_iter().map(|(_, frame)| frame).collect();
    let received = put_together(&frames);
    assert_eq!(tuple(&received).destination_port, 7);
    assert_eq!(payload(&received), expected);

    // A fragment is cut like a whole packet.
    let long = whole(CLIENT[0], SERVICE[0], false, 6, 4000);
    let frames: Vec<_> = cut(&from_client(long.clone()), 6, 1480)
        .into_iter()
        .map(|frame| (0, frame))
        .collect();
    let out = send(&mut gateway, OUTSIDE, &frames);
    let frames: Vec<_> = out.into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(payload(&put_together(&frames)), long.payload);

    let mut forbidden = spec;
    forbidden.fragment = ipv4::DONT_FRAGMENT;
    let (link, report) = gateway.pass(OUTSIDE, &from_client(forbidden));
    assert_eq!(
        (link, &report[34..36], &report[40..42]),
        (OUTSIDE, &[3, 4][..], &1400u16.to_be_bytes()[..])
    );
    gateway.assert_balanced();
}

#[test]
fn a_fragment_of_ipv6_that_is_too_long_is_reported() {
    let mut gateway = narrow(1280);
    let frames = cut(
        &from_client(whole(CLIENT[1], SERVICE[1], false, 5, 3000)),
        5,
        1448,
    );
    let (link, report) = gateway.pass(OUTSIDE, &frames[0]);
    assert_eq!(
        (link, &report[54..56], &report[58..62]),
        (OUTSIDE, &[2, 0][..], &1280u32.to_be_bytes()[..])
    );
}

#[test]
fn an_error_about_a_translated_fragment_reaches_its_sender() {
    let mut gateway = gateway(1);
    let frames = cut(
        &from_client(whole(CLIENT[0], SERVICE[0], false, 5, 3000)),
        5,
        1480,
    );
    let (_, sent) = gateway.pass(OUTSIDE, &frames[0]);
    let mut frame = packet::memory::HeapBuffer::from_bytes(&sent);
    let piece = Piece::read(&sent).unwrap();
    let why = packet::icmp::Reason::TooBig { mtu: 1400 };
    let (l3, end) = (piece.parsed.l3(), piece.parsed.end());
    packet::icmp::refuse(&mut frame, l3, end, ip("100.96.2.2"), why).unwrap();
    let (link, error) = gateway.pass(PODS, packet::Buffer::bytes(&frame));
    assert_eq!(link, OUTSIDE);
    let parsed = parse(&error).unwrap();
    let received =
        packet::icmp::parse_error(&error, parsed.l4(), parsed.end(), parsed.protocol).unwrap();
    let quoted = packet::icmp::quoted_tuple(&error, &received).unwrap();
    assert_eq!(
        (quoted.from(), quoted.to()),
        (at(CLIENT[0]), at(SERVICE[0]))
    );
}
