//! The gateway as a neighbour on the wire: what it answers, and what is none of its business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ci::capture::Capture;
use ci::netns::finish;
use ci::topology::{
    CLIENT_V4, CLIENT_V6, ECHO_NODE_PORT, HTTP_NODE_PORT, INSIDE, OUTSIDE, Plan, Topology, url,
};
use ci::{curl, frames};

/// In the payload of every frame that must not come out anywhere.
const MARK: &[u8] = b"not for the gateway";

/// How long a wrong answer or a leak may take to show.
const A_WHILE: Duration = Duration::from_millis(400);

/// How long a right answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A MAC address that nobody has.
const STRANGER: [u8; 6] = [0x02, 0, 0, 0, 0xde, 0xad];

#[test]
fn the_gateway_answers_ping_on_all_its_addresses() {
    let net = Topology::new(Plan::default());
    let _gateway = net.start_gateway();
    for address in [OUTSIDE[0], OUTSIDE[1], INSIDE[0], INSIDE[1]] {
        let target = address.to_string();
        for from in [&net.client, net.pod(0)] {
            finish(
                from.command("ping")
                    .args(["-c", "3", "-i", "0.05", "-W", "2", &target]),
            );
        }
    }
}

#[test]
fn neighbours_resolve_the_gateways_addresses_to_its_devices() {
    let net = Topology::new(Plan::default());
    let _gateway = net.start_gateway();
    for (from, addresses, device) in [
        (&net.client, OUTSIDE, "outside"),
        (net.pod(0), INSIDE, "pods"),
    ] {
        let expected = net
            .gateway
            .mac(device)
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        for address in addresses {
            finish(
                from.command("ping")
                    .args(["-c", "1", "-W", "2", &address.to_string()]),
            );
            let entry = from.ip(&format!("neighbour show {address} dev eth0"));
            assert!(
                entry.contains(&expected),
                "{address} should be at {expected}: {entry}"
            );
        }
    }
}

#[test]
fn large_pings_are_answered_whole() {
    let net = Topology::new(Plan::default());
    let _gateway = net.start_gateway();
    for (address, payload) in [(OUTSIDE[0], "1472"), (OUTSIDE[1], "1452")] {
        let target = address.to_string();
        finish(
            net.client
                .command("ping")
                .args(["-c", "2", "-i", "0.05", "-s", payload, &target]),
        );
    }
}

#[test]
fn frames_that_are_not_for_the_gateway_are_neither_answered_nor_leaked() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    let outside = Capture::on(&net.client, "eth0");
    let inside = Capture::on(net.switch(), "uplink");
    let (gateway, client) = (net.gateway.mac("outside"), net.client.mac("eth0"));

    for (name, frame) in strangers(gateway, client) {
        outside.send(&frame);
        let back = outside.find(A_WHILE, |frame| frames::contains(frame, MARK));
        assert_eq!(back, None, "answered: {name}");
        let through = inside.find(Duration::ZERO, |frame| frames::contains(frame, MARK));
        assert_eq!(through, None, "leaked: {name}");
    }
    // The same datagram in a frame for the gateway does come through: the silence above is the
    // gateway's choice.
    let (kind, packet) = datagram(OUTSIDE[0]);
    outside.send(&frames::ethernet(gateway, client, kind, &packet));
    let through = inside.find(PATIENCE, |frame| frames::contains(frame, MARK));
    assert!(
        through.is_some(),
        "a datagram to the NodePort did not come through"
    );
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
}

#[test]
fn requests_for_addresses_of_others_are_not_answered() {
    let net = Topology::new(Plan::default());
    let _gateway = net.start_gateway();
    let outside = Capture::on(&net.client, "eth0");
    let client = net.client.mac("eth0");
    let IpAddr::V4(sender) = CLIENT_V4[0] else {
        panic!("an IPv4 address")
    };
    let ask = |target: Ipv4Addr, time| {
        let request = frames::arp_request(client, sender, target);
        outside.send(&frames::ethernet(
            frames::BROADCAST,
            client,
            frames::ARP,
            &request,
        ));
        outside.find(time, |frame| {
            frames::arp_reply(frame).is_some_and(|of| of.1 == target)
        })
    };
    let IpAddr::V4(own) = OUTSIDE[0] else {
        panic!("an IPv4 address")
    };
    let reply = ask(own, PATIENCE).expect("its own address is answered");
    assert_eq!(
        frames::arp_reply(&reply),
        Some((net.gateway.mac("outside"), own))
    );
    assert_eq!(ask(Ipv4Addr::new(203, 0, 113, 77), A_WHILE), None);

    let nobody = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77);
    let ping = ["-c", "1", "-W", "1", &nobody.to_string()];
    let output = net
        .client
        .command("ping")
        .args(ping)
        .output()
        .expect("ping runs");
    assert!(!output.status.success(), "somebody answered for {nobody}");
    let entry = net.client.ip(&format!("neighbour show {nobody} dev eth0"));
    assert!(
        !entry.contains("lladdr"),
        "somebody is the neighbour {nobody}: {entry}"
    );
}

/// A datagram with the mark to the echo service's NodePort on `to`.
fn datagram(to: IpAddr) -> (u16, Vec<u8>) {
    let from = if to.is_ipv4() {
        CLIENT_V4[0]
    } else {
        CLIENT_V6[0]
    };
    frames::udp((from, 4444), (to, ECHO_NODE_PORT), MARK)
}

/// Frames that reach the gateway's device and are not for it, or not what they claim to be.
fn strangers(gateway: [u8; 6], client: [u8; 6]) -> Vec<(&'static str, Vec<u8>)> {
    let mut list = Vec::new();
    for (own, family) in OUTSIDE.into_iter().zip(["IPv4", "IPv6"]) {
        let (kind, packet) = datagram(own);
        let to = |mac| frames::ethernet(mac, client, kind, &packet);
        let name = |text: &'static str, text6| if family == "IPv4" { text } else { text6 };
        list.push((name("another's MAC", "another's MAC, IPv6"), to(STRANGER)));
        list.push((
            name("broadcast MAC", "broadcast MAC, IPv6"),
            to(frames::BROADCAST),
        ));

        // VLAN 7 (IEEE 802.1Q) on a link without one.
        let tagged = [&[0, 7][..], &kind.to_be_bytes(), &packet].concat();
        list.push((
            name("a foreign VLAN", "a foreign VLAN, IPv6"),
            frames::ethernet(gateway, client, 0x8100, &tagged),
        ));
        // More length promised than the frame has.
        let cut = packet[..packet.len() - 1].to_vec();
        list.push((
            name("a truncated packet", "a truncated packet, IPv6"),
            frames::ethernet(gateway, client, kind, &cut),
        ));
    }
    // IEEE's EtherType for local experiments.
    list.push((
        "an unknown EtherType",
        frames::ethernet(gateway, client, 0x88b5, MARK),
    ));

    let (kind, mut packet) = datagram(OUTSIDE[0]);
    packet[10] ^= 0xff;
    list.push((
        "a wrong header checksum",
        frames::ethernet(gateway, client, kind, &packet),
    ));

    let (kind, mut packet) = datagram(OUTSIDE[0]);
    packet[0] = 0x65;
    list.push((
        "IP version 6 in an IPv4 frame",
        frames::ethernet(gateway, client, kind, &packet),
    ));

    let (kind, packet) = frames::udp(
        (IpAddr::V4(Ipv4Addr::LOCALHOST), 4444),
        (OUTSIDE[0], ECHO_NODE_PORT),
        MARK,
    );
    list.push((
        "a loopback source",
        frames::ethernet(gateway, client, kind, &packet),
    ));

    let multicast = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251));
    let (kind, packet) = frames::udp((CLIENT_V4[0], 5353), (multicast, 5353), MARK);
    let group = [0x01, 0, 0x5e, 0, 0, 0xfb];
    list.push(("multicast", frames::ethernet(group, client, kind, &packet)));
    list
}
