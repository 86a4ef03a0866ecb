//! IP fragments over AF_XDP links, which hand them up as they come (AF_PACKET's device has the kernel put them
//! together first).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use ci::capture::Capture;
use ci::dial::{ask, udp};
use ci::gateway::Gateway;
use ci::topology::{
    CLIENT_V4, CLIENT_V6, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url,
};
use ci::{curl, frames, wait};

/// Between a question and its answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes behind the headers of each fragment written by hand.
const PART: usize = 1000;

/// Fragments of a flood.
const FLOOD: u32 = 20_000;

const CLIENTS: [IpAddr; 2] = [CLIENT_V4[0], CLIENT_V6[0]];

fn over_af_xdp() -> Topology {
    Topology::new(Plan {
        driver: "af_xdp",
        ..Plan::default()
    })
}

/// A datagram's content of which no two parts are the same.
fn long(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at) as u8).collect()
}

/// Whether `answer` is what the echo server in the first pod makes of `question`: its name, who asked (the gateway, as the
/// service is masqueraded), and the question.
fn is_echo(answer: &[u8], question: &[u8]) -> bool {
    let masqueraded = [b"pod-0 100.96.2.1 ".as_slice(), b"pod-0 fd00:100:96:2::1 "];
    masqueraded
        .iter()
        .any(|head| answer.strip_prefix(*head) == Some(question))
}

#[test]
fn long_datagrams_arrive_through_a_nodeport_and_their_long_answers_come_back() {
    let net = over_af_xdp();
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    for (client, address) in CLIENTS.into_iter().zip(OUTSIDE) {
        let to = SocketAddr::new(address, ECHO_NODE_PORT);
        let socket = udp(&net.client, SocketAddr::new(client, 0), to, PATIENCE).expect("a socket");
        for length in [1600, 4000, 9000, 30_000] {
            let question = long(length);
            let answer = ask(&socket, &question).unwrap_or_else(|error| {
                panic!(
                    "{length} bytes to {to}: {error}; {:?}",
                    gateway.counters().drops()
                )
            });
            assert!(is_echo(&answer, &question), "{length} bytes to {to}");
        }
    }
}

#[test]
fn fragments_in_any_order_arrive_through_a_nodeport() {
    let net = over_af_xdp();
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let wire = Capture::on(&net.client, "eth0");
    let (own, client_mac) = (net.gateway.mac("outside"), net.client.mac("eth0"));
    let orders: [[usize; 4]; 4] = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
    for (client, address) in CLIENTS.into_iter().zip(OUTSIDE) {
        for (nth, order) in orders.iter().enumerate() {
            // The socket that receives the answer; what it asks is written by hand.
            let to = SocketAddr::new(address, ECHO_NODE_PORT);
            let port = 41_000 + nth as u16;
            let socket =
                udp(&net.client, SocketAddr::new(client, port), to, PATIENCE).expect("a socket");
            let question = long(4 * PART - 8);
            let (kind, packet) = frames::udp((client, port), (address, ECHO_NODE_PORT), &question);
            let parts = frames::fragments(kind, &packet, 500 + nth as u16, PART);
            assert_eq!(parts.len(), order.len());
            for at in order {
                wire.send(&frames::ethernet(own, client_mac, kind, &parts[*at]));
            }
            let mut answer = vec![0; 65_536];
            let length = socket.recv(&mut answer).unwrap_or_else(|error| {
                panic!(
                    "{order:?} to {to}: {error}; {:?}",
                    gateway.counters().drops()
                )
            });
            assert!(is_echo(&answer[..length], &question), "{order:?} to {to}");
        }
    }
}

#[test]
fn a_flood_of_fragments_without_a_first_touches_nobody_else() {
    let net = over_af_xdp();
    let _nginx = net.start_nginx(0);
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let wire = Capture::on(&net.client, "eth0");
    let (own, client_mac) = (net.gateway.mac("outside"), net.client.mac("eth0"));
    let to = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
    let socket = udp(&net.client, SocketAddr::new(CLIENTS[0], 0), to, PATIENCE).expect("a socket");
    let dropped = || -> u64 {
        let drops = gateway.counters().drops().into_iter();
        drops
            .filter(|(name, _)| name.starts_with("fragment_"))
            .map(|(_, count)| count)
            .sum()
    };
    let end = Instant::now() + Duration::from_secs(60);
    // Further than that if the queues of a busy machine have lost much.
    for nth in 0u32.. {
        if nth >= FLOOD && nth.is_multiple_of(FLOOD / 10) {
            let dropped = dropped();
            if dropped > u64::from(FLOOD) * 3 / 4 {
                break;
            }
            assert!(Instant::now() < end, "of {nth} only {dropped} were dropped");
        }
        let [_, a, b, c] = nth.to_be_bytes();
        let source: IpAddr = Ipv4Addr::new(11, a, b, c).into();
        let (kind, packet) =
            frames::udp((source, 9), (OUTSIDE[0], ECHO_NODE_PORT), &long(3 * PART));
        let parts = frames::fragments(kind, &packet, nth as u16, PART);
        wire.send(&frames::ethernet(own, client_mac, kind, &parts[1]));
        if nth % 64 == 63 {
            thread::sleep(Duration::from_millis(1));
        }
        if nth.is_multiple_of(FLOOD / 10) {
            // A lost datagram would not come again: its fragments are to find room in the device's queue.
            settled(&gateway);
            curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
            let question = long(5_000);
            let answer = ask(&socket, &question).unwrap_or_else(|error| {
                panic!(
                    "a datagram in fragments: {error}; {:?}",
                    gateway.counters().drops()
                )
            });
            assert!(is_echo(&answer, &question));
        }
    }
}

/// Waits until no frame comes any more.
fn settled(gateway: &Gateway<'_>) {
    let mut earlier = None;
    wait::until("no frame comes any more", PATIENCE, || {
        let now = Some(gateway.counters().total("received"));
        let is_same = now == earlier;
        earlier = now;
        is_same.then_some(())
    });
}
