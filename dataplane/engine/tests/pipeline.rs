//! Scenarios: frames in, frames out.

mod common;

use common::*;
use engine::Reason;
use engine::flow::State;
use engine::shared::{Choice, Options};
use hugepages::object::{Protocol, Why};
use packet::build::{Fill, FrameSpec};
use packet::tcp::{ACK, FIN, RST, SYN};

const NODEPORT: &str = "203.0.113.10:30379";
const CLUSTER_IP: &str = "100.68.181.31:80";
const CLIENT: &str = "203.0.113.50:40000";
const POD: &str = "100.96.2.2:80";

fn mynginx() -> Spec {
    Spec::new("default/mynginx", &[NODEPORT, CLUSTER_IP], &[POD])
}

fn syn(from: &str, to: &str) -> FrameSpec {
    FrameSpec::syn(at(from), at(to))
}

#[test]
fn a_nodeport_connection_is_masqueraded_and_its_replies_come_back() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let (link, out) = gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    assert_eq!(link, PODS);
    assert_eq!(out[..6], POD_MAC);
    assert_eq!(out[6..12], PODS_MAC);
    let there = tuple(&out);
    assert_eq!(there.to(), at(POD));
    assert_eq!(
        there.source,
        ip("100.96.2.1"),
        "the gateway's address on the pods' link"
    );
    assert!(!(30_000..=32_767).contains(&there.source_port) && there.source_port >= 1024);
    assert_eq!(out[22], 63, "TTL");

    let reply = FrameSpec::tcp(there.to(), there.from(), SYN | ACK);
    let (link, back) = gateway.pass(PODS, &from_pod(reply));
    assert_eq!(link, OUTSIDE);
    assert_eq!(back[..6], CLIENT_MAC);
    assert_eq!(
        (tuple(&back).from(), tuple(&back).to()),
        (at(NODEPORT), at(CLIENT))
    );

    let ack = from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), ACK).with_payload(b"GET /"));
    assert_eq!(
        tuple(&gateway.pass(OUTSIDE, &ack).1),
        there,
        "the same translation"
    );
    assert_eq!(gateway.states(), [State::Established]);
    gateway.assert_balanced();
}

#[test]
fn without_masquerading_the_client_keeps_address_and_port() {
    let spec = Spec {
        masquerade: false,
        ..mynginx()
    };
    let mut gateway = Gateway::new(&[spec]);
    let (_, out) = gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    let there = tuple(&out);
    assert_eq!((there.from(), there.to()), (at(CLIENT), at(POD)));
    let reply = from_pod(FrameSpec::tcp(at(POD), at(CLIENT), SYN | ACK));
    let (_, back) = gateway.pass(PODS, &reply);
    assert_eq!(
        (tuple(&back).from(), tuple(&back).to()),
        (at(NODEPORT), at(CLIENT))
    );
}

#[test]
fn two_flows_that_would_look_alike_to_the_backend_get_different_ports() {
    let spec = Spec {
        masquerade: false,
        ..mynginx()
    };
    let mut gateway = Gateway::new(&[spec]);
    let first = tuple(&gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT))).1);
    let second = tuple(
        &gateway
            .pass(OUTSIDE, &from_client(syn(CLIENT, CLUSTER_IP)))
            .1,
    );
    assert_eq!(
        (first.source, second.source),
        (ip("203.0.113.50"), ip("203.0.113.50"))
    );
    assert_ne!(first.source_port, second.source_port);
    for (there, service) in [(first, NODEPORT), (second, CLUSTER_IP)] {
        let reply = FrameSpec::tcp(there.to(), there.from(), SYN | ACK);
        let back = tuple(&gateway.pass(PODS, &from_pod(reply)).1);
        assert_eq!((back.from(), back.to()), (at(service), at(CLIENT)));
    }
}

#[test]
fn replies_for_two_clients_with_the_same_port_are_not_mixed_up() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let clients = ["203.0.113.50:40000", "203.0.113.51:40000"];
    let flows =
        clients.map(|client| tuple(&gateway.pass(OUTSIDE, &from_client(syn(client, NODEPORT))).1));
    for (client, there) in clients.iter().zip(flows) {
        let reply = FrameSpec::tcp(there.to(), there.from(), SYN | ACK);
        assert_eq!(
            tuple(&gateway.pass(PODS, &from_pod(reply)).1).to(),
            at(client)
        );
    }
}

#[test]
fn a_pod_that_reaches_itself_through_its_service_is_masqueraded() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let client = "100.96.2.2:50000";
    let (link, out) = gateway.pass(PODS, &from_pod(syn(client, CLUSTER_IP)));
    assert_eq!(link, PODS);
    let there = tuple(&out);
    assert_eq!((there.source, there.to()), (ip("100.96.2.1"), at(POD)));
    let reply = FrameSpec::tcp(there.to(), there.from(), SYN | ACK);
    let back = tuple(&gateway.pass(PODS, &from_pod(reply)).1);
    assert_eq!((back.from(), back.to()), (at(CLUSTER_IP), at(client)));
}

#[test]
fn another_pod_is_not_masqueraded() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let (_, out) = gateway.pass(PODS, &from_pod(syn("100.96.2.6:50000", CLUSTER_IP)));
    assert_eq!(tuple(&out).from(), at("100.96.2.6:50000"));
}

#[test]
fn ipv6_and_udp_are_translated_alike() {
    let spec = Spec {
        protocol: Protocol::Udp,
        ..Spec::new(
            "default/dns",
            &["[2001:db8:1::10]:30053"],
            &["[fd00:100:96:2::2]:53"],
        )
    };
    let mut gateway = Gateway::new(&[spec]);
    let client = at("[2001:db8:1::50]:40000");
    let query = FrameSpec::udp(client, at("[2001:db8:1::10]:30053")).with_payload(b"query");
    let (link, out) = gateway.pass(OUTSIDE, &from_client(query));
    let there = tuple(&out);
    assert_eq!((link, there.to()), (PODS, at("[fd00:100:96:2::2]:53")));
    assert_eq!(there.source, ip("fd00:100:96:2::1"));
    assert_eq!(out[21], 63, "hop limit");
    let answer = FrameSpec::udp(there.to(), there.from()).with_payload(b"answer");
    let back = tuple(&gateway.pass(PODS, &from_pod(answer)).1);
    assert_eq!(
        (back.from(), back.to()),
        (at("[2001:db8:1::10]:30053"), client)
    );
    assert_eq!(gateway.states(), [State::Established]);
}

#[test]
fn sctp_leaves_with_a_right_crc_and_a_corrupted_one_does_not_leave() {
    let spec = Spec {
        protocol: Protocol::Sctp,
        ..Spec::new("default/sctp", &["203.0.113.10:30132"], &["100.96.2.2:132"])
    };
    let mut gateway = Gateway::new(&[spec]);
    let frame = from_client(
        FrameSpec::sctp(at(CLIENT), at("203.0.113.10:30132")).with_payload(&[1, 0, 0, 20, 5]),
    );
    let (_, out) = gateway.pass(OUTSIDE, &frame);
    assert_eq!(tuple(&out).to(), at("100.96.2.2:132"));
    let mut bad = frame.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert!(gateway.put(0, OUTSIDE, &bad).is_empty());
    assert_eq!(gateway.seen.dropped, [Reason::BadChecksum]);
}

#[test]
fn a_service_without_endpoints_is_refused_at_once() {
    let tcp = Spec {
        backends: Vec::new(),
        ..mynginx()
    };
    let udp = Spec {
        protocol: Protocol::Udp,
        name: "default/udp",
        ..tcp.clone()
    };
    let mut gateway = Gateway::new(&[tcp, udp]);
    let (link, out) = gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    let back = tuple(&out);
    assert_eq!(
        (link, back.from(), back.to()),
        (OUTSIDE, at(NODEPORT), at(CLIENT))
    );
    assert_eq!(out[47] & RST, RST);

    let query = from_client(FrameSpec::udp(at(CLIENT), at(NODEPORT)).with_payload(b"x"));
    let (link, out) = gateway.pass(OUTSIDE, &query);
    assert_eq!(
        (link, out[23], out[34], out[35]),
        (OUTSIDE, 1, 3, 3),
        "port unreachable"
    );
    assert!(gateway.states().is_empty());
    gateway.assert_balanced();
}

#[test]
fn drop_actions_say_nothing() {
    let spec = Spec {
        backends: Vec::new(),
        otherwise: Why::NoSuchPort,
        ..mynginx()
    };
    let mut gateway = Gateway::new(&[spec]);
    for (to, reason) in [
        ("100.68.181.99:80", Reason::NoSuchService),
        ("203.0.113.10:30380", Reason::NotServed),
        ("198.51.100.1:80", Reason::NotOurs),
    ] {
        assert!(
            gateway
                .put(0, OUTSIDE, &from_client(syn(CLIENT, to)))
                .is_empty()
        );
        assert_eq!(gateway.seen.dropped, [reason], "{to}");
    }
    gateway.assert_balanced();
}

#[test]
fn frames_that_are_not_ours_are_neither_answered_nor_sent_on() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let mut other_mac = from_client(syn(CLIENT, NODEPORT));
    other_mac[5] ^= 1;
    let mut broadcast = from_client(syn(CLIENT, NODEPORT));
    broadcast[..6].fill(0xff);
    let ping_elsewhere = from_client(FrameSpec::echo(ip("203.0.113.50"), ip("203.0.113.99")));
    let tagged = from_client(syn(CLIENT, NODEPORT).with_vlan(7));
    for (frame, reason) in [
        (other_mac, Reason::OtherMac),
        (broadcast, Reason::NotForUs),
        (ping_elsewhere, Reason::NotOurs),
        (tagged, Reason::WrongVlan),
    ] {
        assert!(gateway.put(0, OUTSIDE, &frame).is_empty());
        assert_eq!(gateway.seen.dropped, [reason]);
    }
    gateway.assert_balanced();
}

#[test]
fn the_gateway_answers_pings_arp_and_neighbour_solicitations_for_its_own_addresses() {
    use packet::ethernet::Mac;
    use packet::memory::HeapBuffer;
    use packet::{Buffer, arp, ndp};
    let mut gateway = Gateway::new(&[]);
    for (client, own) in [
        ("203.0.113.50", "203.0.113.10"),
        ("2001:db8:1::50", "2001:db8:1::10"),
    ] {
        let ping = from_client(FrameSpec::echo(ip(client), ip(own)));
        let (link, out) = gateway.pass(OUTSIDE, &ping);
        assert_eq!((link, &out[..6]), (OUTSIDE, &CLIENT_MAC[..]));
    }
    let mut request = HeapBuffer::with_capacity(128);
    let asker = (Mac([2, 9, 9, 9, 9, 9]), "203.0.113.77".parse().unwrap());
    let own = "203.0.113.10".parse().unwrap();
    assert!(arp::write_request(
        &mut request,
        None,
        asker,
        Mac::BROADCAST,
        own
    ));
    let (_, out) = gateway.pass(OUTSIDE, request.bytes());
    let reply = arp::parse(&out, 14).unwrap();
    assert_eq!((reply.sender_mac, reply.sender_ip), (Mac(OUTSIDE_MAC), own));
    // Who asked for us is known from now on.
    let (index, _) = gateway
        .shared
        .neighbours
        .index(0, ip("203.0.113.77"), 0)
        .unwrap();
    assert_eq!(
        gateway.shared.neighbours.word(index).mac(),
        Some([2, 9, 9, 9, 9, 9])
    );

    let mut request = HeapBuffer::with_capacity(128);
    let asker = (Mac(CLIENT_MAC), "2001:db8:1::50".parse().unwrap());
    let own = "2001:db8:1::10".parse().unwrap();
    assert!(ndp::write_solicitation(
        &mut request,
        None,
        asker,
        None,
        own
    ));
    assert_eq!(gateway.pass(OUTSIDE, request.bytes()).0, OUTSIDE);
    let mut elsewhere = HeapBuffer::with_capacity(128);
    let other = "2001:db8:1::99".parse().unwrap();
    assert!(ndp::write_solicitation(
        &mut elsewhere,
        None,
        asker,
        None,
        other
    ));
    assert!(gateway.put(0, OUTSIDE, elsewhere.bytes()).is_empty());
    gateway.assert_balanced();
}

#[test]
fn first_frames_wait_for_the_next_hop_instead_of_being_lost() {
    use packet::ethernet::Mac;
    use packet::memory::HeapBuffer;
    use packet::{Buffer, arp};
    let pod = "100.96.2.99:80";
    let mut gateway = Gateway::new(&[Spec::new("default/new", &[NODEPORT], &[pod])]);
    let asked = gateway.put(0, OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    assert_eq!(asked.len(), 1);
    let request = arp::parse(&asked[0].1, 14).unwrap();
    assert_eq!(
        (asked[0].0, request.target_ip),
        (PODS, "100.96.2.99".parse().unwrap())
    );
    let second = from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), ACK));
    assert!(
        gateway.put(0, OUTSIDE, &second).is_empty(),
        "waits too, and nobody is asked twice"
    );
    gateway.assert_balanced();

    let mut reply = HeapBuffer::from_bytes(&asked[0].1);
    let pod_mac = Mac([2, 7, 7, 7, 7, 7]);
    arp::answer(&mut reply, 14, pod_mac).unwrap();
    let out = gateway.put(0, PODS, reply.bytes());
    assert_eq!(out.len(), 2);
    for (link, bytes) in &out {
        assert_eq!((*link, &bytes[..6]), (PODS, &pod_mac.0[..]));
        assert_eq!(tuple(bytes).to(), at(pod));
    }
    gateway.assert_balanced();
}

#[test]
fn frames_whose_next_hop_never_answers_are_dropped_by_name() {
    let mut gateway = Gateway::new(&[Spec::new("default/new", &[NODEPORT], &["100.96.2.99:80"])]);
    gateway.put(0, OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    for _ in 0..5 {
        gateway.second += 1;
        gateway.upkeep(0);
    }
    assert_eq!(gateway.workers[0].counters().drops(Reason::Unresolved), 1);
    gateway.assert_balanced();
}

#[test]
fn the_first_frame_of_a_flow_must_have_a_right_checksum() {
    let mut gateway = Gateway::new(&[mynginx()]);
    for (fill, reason) in [
        (Fill::Unfinished, Reason::UnfinishedChecksum),
        (Fill::Wrong, Reason::BadChecksum),
    ] {
        let frame = FrameSpec {
            fill,
            ..syn(CLIENT, NODEPORT)
        };
        assert!(gateway.put(0, OUTSIDE, &from_client(frame)).is_empty());
        assert_eq!(gateway.seen.dropped, [reason]);
    }
    assert!(gateway.states().is_empty());
}

#[test]
fn a_hop_limit_that_is_used_up_and_a_packet_that_is_too_big_are_reported() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let last_hop = FrameSpec {
        ttl: 1,
        ..syn(CLIENT, NODEPORT)
    };
    let (link, out) = gateway.pass(OUTSIDE, &from_client(last_hop));
    assert_eq!((link, out[23], out[34]), (OUTSIDE, 1, 11), "time exceeded");
    let big = FrameSpec::tcp(at(CLIENT), at(NODEPORT), ACK).with_payload(&[0; 1480]);
    let (_, out) = gateway.pass(OUTSIDE, &from_client(big));
    assert_eq!(
        (out[34], out[35], &out[40..42]),
        (3, 4, &[0x05, 0xdc][..]),
        "too big, 1500"
    );
    gateway.assert_balanced();
}

#[test]
fn errors_about_translated_packets_reach_whoever_sent_them_in_both_directions() {
    use packet::icmp::Reason::{PortUnreachable, TooBig};
    let v6 = Spec::new(
        "default/six",
        &["[2001:db8:1::10]:30379"],
        &["[fd00:100:96:2::2]:80"],
    );
    let mut gateway = Gateway::new(&[mynginx(), v6]);
    for (client, service, pod, router) in [
        (CLIENT, NODEPORT, POD, "100.96.2.6"),
        (
            "[2001:db8:1::50]:40000",
            "[2001:db8:1::10]:30379",
            "[fd00:100:96:2::2]:80",
            "fd00:100:96:2::6",
        ),
    ] {
        let (_, out) = gateway.pass(OUTSIDE, &from_client(syn(client, service)));
        let there = tuple(&out);
        // A router between gateway and pod, then the pod itself, about the client's packet.
        for (from, why) in [
            (router, TooBig { mtu: 1400 }),
            (&*at(pod).ip().to_string(), PortUnreachable),
        ] {
            let (link, error) = gateway.pass(PODS, &error_about(&out, from, why));
            assert_eq!(link, OUTSIDE);
            let quoted = quotation(&error);
            assert_eq!((quoted.from(), quoted.to()), (at(client), at(service)));
            let parsed = packet::parse::parse(&error).unwrap();
            let ends = packet::tuple::addresses(&error, &parsed).unwrap();
            assert_eq!(ends, (at(service).ip(), at(client).ip()));
        }
        // A router between client and gateway, about the pod's answer.
        let reply = FrameSpec::tcp(there.to(), there.from(), SYN | ACK);
        let (_, back) = gateway.pass(PODS, &from_pod(reply));
        let router = if at(client).is_ipv4() {
            "203.0.113.1"
        } else {
            "2001:db8:1::50"
        };
        let error = error_about(&back, router, TooBig { mtu: 1300 });
        let (link, error) = gateway.pass(OUTSIDE, &error);
        assert_eq!(link, PODS);
        let quoted = quotation(&error);
        assert_eq!((quoted.from(), quoted.to()), (at(pod), there.from()));
    }
    gateway.assert_balanced();
}

#[test]
fn errors_about_packets_of_no_flow_or_with_a_wrong_checksum_go_nowhere() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let (_, out) = gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    let why = packet::icmp::Reason::PortUnreachable;
    let mut wrong = error_about(&out, "100.96.2.2", why);
    wrong[40] ^= 1;
    let foreign = from_pod(FrameSpec::tcp(
        at("100.96.2.1:5000"),
        at("100.96.2.2:81"),
        SYN,
    ));
    let mut foreign = error_about(&foreign, "100.96.2.2", why);
    foreign[..6].copy_from_slice(&PODS_MAC);
    for (frame, reason) in [(wrong, Reason::BadChecksum), (foreign, Reason::NotOurs)] {
        assert!(gateway.put(0, PODS, &frame).is_empty());
        assert_eq!(gateway.seen.dropped, [reason]);
    }
    gateway.assert_balanced();
}

#[test]
fn an_endpoint_change_moves_new_connections_and_leaves_established_ones() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let old = tuple(&gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT))).1);
    let moved = Spec::new(
        "default/mynginx",
        &[NODEPORT, CLUSTER_IP],
        &["100.96.2.6:80"],
    );
    assert!(gateway.install(std::slice::from_ref(&moved)));
    let data = from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), ACK));
    assert_eq!(tuple(&gateway.pass(OUTSIDE, &data).1), old);
    let new = from_client(syn("203.0.113.50:40001", NODEPORT));
    assert_eq!(
        tuple(&gateway.pass(OUTSIDE, &new).1).to(),
        at("100.96.2.6:80")
    );
    assert!(
        !gateway.install(&[moved]),
        "a replay that changes nothing changes nothing"
    );
}

#[test]
fn a_syn_on_the_tuple_of_a_closed_connection_starts_afresh() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let there = tuple(&gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT))).1);
    for flags in [SYN | ACK, FIN | ACK] {
        gateway.pass(
            PODS,
            &from_pod(FrameSpec::tcp(there.to(), there.from(), flags)),
        );
    }
    let fin = from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), FIN | ACK));
    gateway.pass(OUTSIDE, &fin);
    assert_eq!(gateway.states(), [State::Closed]);
    gateway.install(&[Spec::new(
        "default/mynginx",
        &[NODEPORT],
        &["100.96.2.6:80"],
    )]);
    let again = tuple(&gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT))).1);
    assert_eq!(again.to(), at("100.96.2.6:80"));
    assert_eq!(gateway.states(), [State::HalfOpen]);
}

#[test]
fn a_segment_that_only_ends_a_connection_makes_no_flow() {
    let mut gateway = Gateway::new(&[mynginx()]);
    for flags in [RST, FIN | ACK, RST | ACK] {
        let frame = from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), flags));
        assert!(gateway.put(0, OUTSIDE, &frame).is_empty());
        assert_eq!(gateway.seen.dropped, [Reason::NoFlow]);
    }
}

#[test]
fn a_flow_goes_on_at_whichever_worker_its_frames_arrive() {
    let mut gateway = Gateway::with(&[mynginx()], 2, 4096, Options::default());
    let out = gateway.put(0, OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    let there = tuple(&out[0].1);
    let reply = from_pod(FrameSpec::tcp(there.to(), there.from(), SYN | ACK));
    let back = gateway.put(1, PODS, &reply);
    assert_eq!(tuple(&back[0].1).to(), at(CLIENT));
    let ack = from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), ACK));
    assert_eq!(tuple(&gateway.put(1, OUTSIDE, &ack)[0].1), there);
    assert_eq!(gateway.states(), [State::Established]);
    gateway.assert_balanced();
}

#[test]
fn every_choice_spreads_connections_over_all_endpoints() {
    for choice in [Choice::Maglev, Choice::Random, Choice::LeastConnections] {
        let spec = Spec::new("default/two", &[NODEPORT], &[POD, "100.96.2.6:80"]);
        let options = Options {
            choice,
            ..Options::default()
        };
        let mut gateway = Gateway::with(&[spec], 1, 4096, options);
        let mut first = 0;
        for port in 20_000..20_400 {
            let client = format!("203.0.113.50:{port}");
            let out = gateway
                .pass(OUTSIDE, &from_client(syn(&client, NODEPORT)))
                .1;
            first += usize::from(tuple(&out).to() == at(POD));
        }
        // Six standard deviations of a fair coin: 60.
        assert!((140..=260).contains(&first), "{choice:?}: {first} of 400");
    }
}

#[test]
fn with_affinity_all_connections_of_a_client_go_to_one_endpoint_and_clients_spread() {
    let spec = Spec {
        affinity_timeout: 60,
        ..Spec::new("default/two", &[NODEPORT], &[POD, "100.96.2.6:80"])
    };
    let mut gateway = Gateway::new(&[spec]);
    let mut chosen = Vec::new();
    for client in 50..90 {
        let mut endpoints: Vec<_> = (1000..1010)
            .map(|port| {
                let from = format!("203.0.113.{client}:{port}");
                gateway.put(0, OUTSIDE, &from_client(syn(&from, NODEPORT)));
                let flows = gateway.shared.v4.flows();
                let flow = flows.into_iter().find(|flow| {
                    use engine::family::{Family, V4};
                    V4::tuple(&flow.forward).from() == at(&from)
                });
                engine::shared::backend_of(&flow.unwrap()).address
            })
            .collect();
        endpoints.dedup();
        assert_eq!(endpoints.len(), 1);
        chosen.push(endpoints[0]);
    }
    chosen.sort_unstable();
    chosen.dedup();
    assert_eq!(chosen.len(), 2, "forty clients on one endpoint");
}

#[test]
fn snat_ports_that_are_used_up_are_a_named_drop_and_recover() {
    let mut gateway = Gateway::with(&[mynginx()], 1, 70_000, Options::default());
    let mut exhausted = None;
    for client in 0..70_000u32 {
        let from = format!("203.0.113.50:{}", 1 + client % 60_000);
        let to = if client < 60_000 {
            NODEPORT
        } else {
            CLUSTER_IP
        };
        if gateway
            .put(0, OUTSIDE, &from_client(syn(&from, to)))
            .is_empty()
        {
            assert_eq!(gateway.seen.dropped, [Reason::SnatPortsExhausted]);
            exhausted = Some((client, from, to));
            break;
        }
        note(&gateway, &from, to, false);
    }
    let (made, from, to) = exhausted.expect("61,744 ports cannot carry 70,000 flows");
    assert!(made > 58_000, "only {made} of 61,744 ports were used");
    // Connections that have ended give their ports up at once, long before they are forgotten.
    for client in 0..1_000 {
        note(
            &gateway,
            &format!("203.0.113.50:{}", 1 + client),
            NODEPORT,
            true,
        );
    }
    let again = (0..20).any(|_| {
        !gateway
            .put(0, OUTSIDE, &from_client(syn(&from, to)))
            .is_empty()
    });
    assert!(
        again,
        "one of 1,000 closed flows' ports is found in a few tries"
    );
    gateway.assert_balanced();
}

#[test]
fn a_flood_of_half_open_connections_does_not_keep_others_from_a_port() {
    let mut gateway = Gateway::with(&[mynginx()], 1, 70_000, Options::default());
    for client in 0..65_000u32 {
        let from = format!(
            "203.0.113.{}:{}",
            100 + client / 60_000,
            1 + client % 60_000
        );
        gateway.put(0, OUTSIDE, &from_client(syn(&from, NODEPORT)));
    }
    for port in 1..200 {
        let out = gateway.put(
            0,
            OUTSIDE,
            &from_client(syn(&format!("203.0.113.50:{port}"), NODEPORT)),
        );
        assert_eq!(out.len(), 1, "{:?}", gateway.seen.dropped);
    }
    gateway.assert_balanced();
}

#[test]
fn sources_that_no_host_can_have_are_dropped() {
    let mut gateway = Gateway::new(&[mynginx()]);
    for source in [
        "127.0.0.1:1",
        "0.0.0.1:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "203.0.113.10:1",
    ] {
        assert!(
            gateway
                .put(0, OUTSIDE, &from_client(syn(source, NODEPORT)))
                .is_empty()
        );
        assert_eq!(gateway.seen.dropped, [Reason::BadSource], "{source}");
    }
}

#[test]
fn a_reset_that_the_connection_outlives_does_not_shorten_its_flow() {
    let mut gateway = Gateway::new(&[mynginx()]);
    let there = tuple(&gateway.pass(OUTSIDE, &from_client(syn(CLIENT, NODEPORT))).1);
    gateway.pass(
        PODS,
        &from_pod(FrameSpec::tcp(there.to(), there.from(), SYN | ACK)),
    );
    let from = |flags| from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), flags));
    gateway.pass(OUTSIDE, &from(ACK));
    gateway.pass(OUTSIDE, &from(RST));
    assert_eq!(gateway.states(), [State::Closed]);
    gateway.pass(OUTSIDE, &from(ACK));
    assert_eq!(gateway.states(), [State::Established]);
}

#[test]
fn an_idle_worker_lets_old_snapshots_go() {
    let mut gateway = Gateway::with(&[mynginx()], 2, 4096, Options::default());
    gateway.install(&[]);
    assert_eq!(gateway.publisher.reap(), 1);
    gateway.upkeep(0);
    gateway.upkeep(1);
    assert_eq!(gateway.publisher.reap(), 0);
}

#[test]
fn a_router_outside_the_connected_networks_is_heard_when_it_was_asked_for() {
    use packet::ethernet::Mac;
    use packet::memory::HeapBuffer;
    use packet::{Buffer, arp};
    let gateway_link = engine::topology::StaticRoute {
        to: prefix("10.9.0.0/16"),
        via: None,
        link: Some(PODS as u8),
    };
    let mut gateway = Gateway::routed(
        &[Spec::new("default/far", &[NODEPORT], &["10.9.0.7:80"])],
        gateway_link,
    );
    let asked = gateway.put(0, OUTSIDE, &from_client(syn(CLIENT, NODEPORT)));
    let mut reply = HeapBuffer::from_bytes(&asked[0].1);
    arp::answer(&mut reply, 14, Mac([2, 7, 7, 7, 7, 7])).unwrap();
    let out = gateway.put(0, PODS, reply.bytes());
    assert_eq!(tuple(&out[0].1).to(), at("10.9.0.7:80"));
}

#[test]
fn a_whole_burst_of_mixed_frames_is_accounted_for() {
    use packet::memory::HeapBuffer;
    let mut gateway = Gateway::new(&[mynginx()]);
    for round in 0..20u16 {
        let mut burst = packet::Burst::new();
        for at in 0..32u16 {
            let client = format!("203.0.113.50:{}", 10_000 + round * 16 + at % 16);
            let bytes = match at % 4 {
                0 => vec![0; usize::from(at)],
                1 => from_client(FrameSpec::echo(ip("203.0.113.50"), ip("203.0.113.10"))),
                _ => from_client(syn(&client, NODEPORT)),
            };
            burst.push(HeapBuffer::from_bytes(&bytes));
        }
        let now = engine::Now { second: 1000 };
        gateway.workers[0].process(now, OUTSIDE, &mut burst, &mut gateway.pool, &mut ());
        assert!(burst.is_empty());
        let counts: Vec<_> = gateway.workers[0]
            .outputs()
            .map(|(link, output)| (link, output.drain(..).count()))
            .collect();
        for (link, count) in counts {
            gateway.workers[0].sent(link, count as u64, 0, 0);
        }
    }
    gateway.assert_balanced();
    assert_eq!(gateway.states().len(), 20 * 8);
}

#[test]
fn the_segment_size_of_syn_and_syn_ack_is_clamped_to_what_the_links_carry() {
    use engine::topology::MssClamp;
    use packet::build::Transport;
    let with_mss = |mut spec: FrameSpec, flags: u8| {
        spec.transport = Transport::Tcp {
            flags,
            seq: 1,
            ack: 0,
            window: 1000,
            options: vec![2, 4, 0x05, 0xb4, 1, 1, 4, 2],
        };
        spec
    };
    let announced = |bytes: &[u8]| {
        let l4 = packet::parse::parse(bytes).unwrap().l4();
        tuple(bytes); // checks the checksum
        u16::from_be_bytes([bytes[l4 + 22], bytes[l4 + 23]])
    };
    for (outside, pods, v4, v6) in [
        (MssClamp::Off, MssClamp::Off, 1460, 1460),
        (MssClamp::Auto, MssClamp::Off, 1360, 1340),
        (MssClamp::Off, MssClamp::Auto, 1360, 1340),
        (MssClamp::Size(1300), MssClamp::Auto, 1300, 1300),
        (MssClamp::Off, MssClamp::Size(1350), 1350, 1350),
    ] {
        let mut topology = topology();
        topology.links[OUTSIDE].mss_clamp = outside;
        topology.links[PODS].mss_clamp = pods;
        topology.links[PODS].mtu = 1400;
        let services = [
            mynginx(),
            Spec::new(
                "default/six",
                &["[2001:db8:1::10]:80"],
                &["[fd00:100:96:2::2]:80"],
            ),
        ];
        let mut gateway = Gateway::over(topology, &services, 1, 64, Options::default());
        for (client, to, expected) in [
            (CLIENT, NODEPORT, v4),
            ("[2001:db8:1::50]:40000", "[2001:db8:1::10]:80", v6),
        ] {
            let opening = with_mss(syn(client, to), SYN);
            let there = gateway.pass(OUTSIDE, &from_client(opening)).1;
            assert_eq!(announced(&there), expected);
            let there = tuple(&there);
            let answer = with_mss(syn("1.1.1.1:1", "1.1.1.1:1"), SYN | ACK);
            let answer = FrameSpec {
                source: there.to(),
                destination: there.from(),
                ..answer
            };
            assert_eq!(
                announced(&gateway.pass(PODS, &from_pod(answer)).1),
                expected
            );
        }
        gateway.assert_balanced();
    }
}
