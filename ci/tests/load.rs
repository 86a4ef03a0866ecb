//! Size: thousands of connections at once, a gigabyte in each direction, several workers.

use std::net::{IpAddr, SocketAddr};

use ci::crowd::Crowd;
use ci::topology::{CLIENT_V4, CLIENT_V6, ECHO, ECHO_NODE_PORT, OUTSIDE, Plan, Topology};
use ci::{bulk, echo};

/// NodePort of the echo service on the gateway's IPv4 address.
const NODE_PORT: SocketAddr = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);

#[test]
fn ten_thousand_connections_are_open_at_once_and_none_fails() {
    let net = Topology::new(Plan::default());
    let _echo = echo::tcp_process(net.pod(0), ECHO, net.directory());
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, NODE_PORT, 10_000).expect("all open");
    assert_eq!(crowd.len(), 10_000);
    for round in 0..2 {
        crowd.exchange(round).expect("every line comes back");
    }
}

#[test]
fn a_gigabyte_arrives_intact_in_each_direction() {
    const GIGABYTE: u64 = 1_000_000_000;
    let net = Topology::new(Plan::default());
    let _server = bulk::serve(net.pod(0), ECHO);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    bulk::download(&net.client, NODE_PORT, GIGABYTE).expect("the download is intact");
    bulk::upload(&net.client, NODE_PORT, GIGABYTE).expect("the upload is intact");
}

#[test]
fn two_workers_share_the_flows_of_both_directions() {
    let net = Topology::new(Plan {
        workers: 2,
        ..Plan::default()
    });
    let _echo = [net.start_echo(0), net.start_echo(1)];
    net.apply(&[0, 1]);
    let gateway = net.start_gateway();
    let crowd = |clients: &[IpAddr], to: IpAddr| {
        let to = SocketAddr::new(to, ECHO_NODE_PORT);
        Crowd::open(&net.client, clients, to, 500).expect("all open")
    };
    let mut crowds = [crowd(&CLIENT_V4, OUTSIDE[0]), crowd(&CLIENT_V6, OUTSIDE[1])];
    for round in 0..5 {
        for crowd in &mut crowds {
            crowd.exchange(round).expect("every line comes back");
        }
    }
    let busy = gateway.counters().received_by_worker();
    assert_eq!(busy.len(), 2, "workers: {busy:?}");
    assert!(
        busy.iter().all(|frames| *frames > 1000),
        "frames by worker: {busy:?}"
    );
}
