//! Counters: every frame ends in exactly one place, and the places are named.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ci::capture::Capture;
use ci::topology::{CLIENT_V4, ECHO, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{bulk, curl, dial, frames, wait};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Unroutable frames that the test sends.
const STRAY: u64 = 7;

#[test]
fn received_frames_are_sent_or_dropped_with_a_reason() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    let _server = bulk::serve(net.pod(0), ECHO);
    net.apply(&[0]);
    let gateway = net.start_gateway();

    // Some of everything: translated, answered, refused and dropped.
    for address in OUTSIDE {
        curl::expect(&net.client, &url(address, HTTP_NODE_PORT), "pod-0\n");
    }
    let to = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
    bulk::download(&net.client, to, 20_000_000).expect("the download is intact");
    let nobody = dial::udp(
        &net.client,
        SocketAddr::new(CLIENT_V4[0], 0),
        to,
        Duration::from_secs(1),
    );
    dial::ask(&nobody.expect("a UDP socket"), b"hello").expect_err("no UDP server in the pod");
    stray(&net);

    // Neighbours may still be talking: look until nothing is on its way.
    let unaccounted = || {
        let counters = gateway.counters();
        let [received, originated, sent] =
            ["received", "originated", "sent"].map(|name| counters.total(name));
        let waiting = counters.total("parked") - counters.total("unparked");
        let dropped: u64 = counters.drops().iter().map(|(_, count)| count).sum();
        assert!(received > 10_000, "{counters:?}");
        (received + originated).abs_diff(sent + dropped + waiting)
    };
    wait::until(
        "strays are counted, and received + originated = sent + drops + waiting",
        PATIENCE,
        || {
            let drops = gateway.counters().drops();
            let counted = |name: &str| {
                let mut drops = drops.iter();
                drops.any(|(reason, count)| reason == name && *count >= STRAY)
            };
            let are_counted = counted("other_mac") && counted("bad_ip_checksum");
            (are_counted && unaccounted() == 0).then_some(())
        },
    );
}

/// Sends frames that must be dropped for two known reasons.
fn stray(net: &Topology) {
    let wire = Capture::on(&net.client, "eth0");
    let (gateway, client) = (net.gateway.mac("outside"), net.client.mac("eth0"));
    let from = (CLIENT_V4[0], 4444);
    let (kind, packet) = frames::udp(from, (OUTSIDE[0], ECHO_NODE_PORT), b"stray");
    let mut spoiled = packet.clone();
    spoiled[10] ^= 0xff;
    for _ in 0..STRAY {
        wire.send(&frames::ethernet([2, 0, 0, 0, 0, 9], client, kind, &packet));
        wire.send(&frames::ethernet(gateway, client, kind, &spoiled));
    }
}

#[test]
fn a_reason_is_counted_for_an_address_that_is_nobodys() {
    let net = Topology::new(Plan::default());
    let gateway = net.start_gateway();
    let wire = Capture::on(&net.client, "eth0");
    let nobody = IpAddr::V4(Ipv4Addr::new(100, 68, 7, 7));
    let (kind, packet) = frames::udp((CLIENT_V4[0], 4444), (nobody, 53), b"stray");
    let (gateway_mac, client) = (net.gateway.mac("outside"), net.client.mac("eth0"));
    wire.send(&frames::ethernet(gateway_mac, client, kind, &packet));
    wait::until("the drop is counted as no_such_service", PATIENCE, || {
        let drops = gateway.counters().drops();
        drops
            .iter()
            .any(|(reason, count)| reason == "no_such_service" && *count == 1)
            .then_some(())
    });
}
