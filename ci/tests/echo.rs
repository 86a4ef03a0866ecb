//! TCP and UDP beyond HTTP: both families, first datagrams, and clients that look alike.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use ci::dial;
use ci::manifests::Service;
use ci::netns::Namespace;
use ci::topology::{
    CLIENT_V4, CLIENT_V6, CLUSTER, ECHO, ECHO_NODE_PORT, INSIDE, OUTSIDE, Plan, Topology,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends one line and returns what comes back, as long as the line.
fn exchange(stream: &mut TcpStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).expect("the line is sent");
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer).expect("the line comes back");
    String::from_utf8(answer).expect("text")
}

/// One question from `from`, one answer: no retry hides a lost datagram.
fn ask(namespace: &Namespace, from: IpAddr, to: SocketAddr) -> String {
    let socket =
        dial::udp(namespace, SocketAddr::new(from, 0), to, PATIENCE).expect("a UDP socket");
    let answer = dial::ask(&socket, b"hello");
    let answer = answer.unwrap_or_else(|error| panic!("no answer from {to}: {error}"));
    String::from_utf8(answer).expect("text")
}

/// The client's own part of an answer.
fn last_word(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Both NodePort and ClusterIP of the echo service with a client address of the same family.
fn ways_in() -> [(IpAddr, SocketAddr); 4] {
    [
        (CLIENT_V4[0], SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT)),
        (CLIENT_V6[0], SocketAddr::new(OUTSIDE[1], ECHO_NODE_PORT)),
        (CLIENT_V4[0], SocketAddr::new(CLUSTER[0], ECHO)),
        (CLIENT_V6[0], SocketAddr::new(CLUSTER[1], ECHO)),
    ]
}

#[test]
fn datagrams_reach_the_pod_masqueraded_from_outside_and_as_they_are_from_a_pod() {
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    for (from, to) in ways_in() {
        let seen = if to.is_ipv4() { INSIDE[0] } else { INSIDE[1] };
        assert_eq!(
            ask(&net.client, from, to),
            format!("pod-0 {seen} hello"),
            "to {to}"
        );
    }
    for (from, to) in net.pod_addresses(1).into_iter().zip(CLUSTER) {
        let answer = ask(net.pod(1), from, SocketAddr::new(to, ECHO));
        assert_eq!(answer, format!("pod-0 {from} hello"), "to {to}");
    }
}

#[test]
fn traffic_policy_local_keeps_the_clients_address() {
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply_as(
        &Service {
            local: true,
            ..net.service()
        },
        &[0],
    );
    let _gateway = net.start_gateway();
    for (from, to) in &ways_in()[..2] {
        assert_eq!(
            ask(&net.client, *from, *to),
            format!("pod-0 {from} hello"),
            "to {to}"
        );
    }
}

#[test]
fn tcp_connections_reach_the_pod_over_nodeport_and_clusterip_in_both_families() {
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    for (from, to) in ways_in() {
        let from = Some(SocketAddr::new(from, 0));
        let mut stream = dial::tcp(&net.client, from, to, PATIENCE)
            .unwrap_or_else(|error| panic!("no connection to {to}: {error}"));
        assert_eq!(exchange(&mut stream, "hello"), "hello");
    }
}

#[test]
fn datagrams_that_come_before_the_pod_is_resolved_are_not_lost() {
    const BURST: usize = 8;
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    for (from, to) in [ways_in()[0], ways_in()[1]] {
        let socket = dial::udp(&net.client, SocketAddr::new(from, 0), to, PATIENCE).expect("UDP");
        for number in 0..BURST {
            socket.send(format!("{number}").as_bytes()).expect("sent");
        }
        let mut answers = Vec::new();
        let mut buffer = [0; 64];
        for number in 0..BURST {
            let length = socket.recv(&mut buffer);
            let length = length.unwrap_or_else(|error| {
                panic!("{number} of {BURST} first datagrams to {to} came back: {error}")
            });
            answers.push(last_word(&buffer[..length]));
        }
        answers.sort();
        let expected: Vec<_> = (0..BURST).map(|number| format!("{number}")).collect();
        assert_eq!(answers, expected);
    }
}

#[test]
fn replies_for_two_clients_with_the_same_source_port_are_not_mixed_up() {
    const PORT: u16 = 5353;
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();

    for (clients, to) in [(CLIENT_V4, ways_in()[0].1), (CLIENT_V6, ways_in()[1].1)] {
        let from = clients.map(|address| SocketAddr::new(address, PORT));
        let sockets =
            from.map(|from| dial::udp(&net.client, from, to, PATIENCE).expect("a UDP socket"));
        let mut streams = from.map(|from| {
            dial::tcp(&net.client, Some(from), to, PATIENCE)
                .unwrap_or_else(|error| panic!("no connection from {from} to {to}: {error}"))
        });
        for round in 0..20 {
            // Both questions are out before either answer is read.
            let questions = [0, 1].map(|client| format!("client {client} round {round}"));
            for (socket, question) in sockets.iter().zip(&questions) {
                socket.send(question.as_bytes()).expect("sent");
            }
            for (socket, question) in sockets.iter().zip(&questions) {
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer).expect("an answer");
                let answer = String::from_utf8_lossy(&buffer[..length]);
                assert!(answer.ends_with(question), "{answer:?} to {question:?}");
            }
            for (stream, question) in streams.iter_mut().zip(&questions) {
                assert_eq!(&exchange(stream, question), question);
            }
        }
    }
}
