//! Links with one queue and two workers: frames are dealt out by software.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ci::crowd::Crowd;
use ci::gateway::{Counters, Gateway};
use ci::netns::Namespace;
use ci::topology::{
    CLIENT_V4, CLIENT_V6, ECHO, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url,
};
use ci::{curl, dial, echo, wait};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const TALK: SocketAddr = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);

/// UDP flows, and datagrams of each.
const FLOWS: u32 = 24;
const DATAGRAMS: u32 = 4_000;

fn network(fan_out: &'static str) -> Topology {
    let net = Topology::new(Plan {
        workers: 2,
        fan_out: Some(fan_out),
        ..Plan::default()
    });
    net.try_tcp_often();
    net
}

/// Frames that are on their way come to rest, and every worker's books are even.
fn at_rest(gateway: &Gateway<'_>) -> Counters {
    wait::until("the books are even", PATIENCE, || {
        let counters = gateway.counters();
        let is_even = counters.balances().iter().all(|balance| *balance == 0);
        let handed = [counters.total("handed_over"), counters.total("taken_over")];
        (is_even && handed[0] == handed[1]).then_some(counters)
    })
}

fn links(gateway: &Gateway<'_>) -> Vec<Value> {
    let shown = gateway.portgate_json(&["links"]);
    shown["links"].as_array().expect("links").clone()
}

fn sum(links: &[Value], name: &str) -> u64 {
    links
        .iter()
        .map(|link| link[name].as_u64().expect(name))
        .sum()
}

/// How many datagrams came, and how many of them after a later one of their flow.
#[derive(Debug, Default)]
struct Order {
    newest: HashMap<u32, u32>,
    came: u32,
    late: u32,
}

impl Order {
    fn note(&mut self, datagram: &[u8]) {
        let Some((flow, number)) = datagram.split_first_chunk::<4>() else {
            return;
        };
        let (flow, number) = (u32::from_be_bytes(*flow), number.first_chunk());
        let number = u32::from_be_bytes(*number.expect("a number"));
        let newest = self.newest.entry(flow).or_default();
        self.came += 1;
        self.late += u32::from(number < *newest);
        *newest = number.max(*newest);
    }

    /// All that comes until `is_over` and nothing more comes; sends it back if `echoes`.
    fn of(socket: &UdpSocket, is_over: &AtomicBool, echoes: bool) -> Self {
        let mut order = Self::default();
        let mut bytes = [0; 64];
        let wait = Some(Duration::from_millis(300));
        socket.set_read_timeout(wait).expect("a timeout");
        loop {
            match socket.recv_from(&mut bytes) {
                Ok((len, from)) => {
                    order.note(&bytes[..len]);
                    if echoes {
                        let _ = socket.send_to(&bytes[..len], from);
                    }
                }
                // Relaxed: the flag carries no data.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if is_over.load(Ordering::Relaxed) {
                        return order;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Numbered datagrams of many flows to a pod and back: what came there, and what came back.
fn stream(client: &Namespace, pod: &Namespace) -> [Order; 2] {
    let server = pod
        .enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO)))
        .expect("the pod listens");
    let is_over = AtomicBool::new(false);
    let sockets: Vec<UdpSocket> = (0..FLOWS)
        .map(|_| {
            let from = SocketAddr::new(CLIENT_V4[0], 0);
            dial::udp(client, from, TALK, PATIENCE).expect("a socket")
        })
        .collect();
    thread::scope(|scope| {
        let there = scope.spawn(|| Order::of(&server, &is_over, true));
        let readers: Vec<_> = sockets
            .iter()
            .map(|socket| scope.spawn(|| Order::of(socket, &is_over, false)))
            .collect();
        for number in 1..=DATAGRAMS {
            for (flow, socket) in (0u32..).zip(&sockets) {
                let datagram = [flow.to_be_bytes(), number.to_be_bytes()].concat();
                // What a queue has no room for is lost, and in order all the same.
                let _ = socket.send(&datagram);
            }
            if number % 8 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let mut back = Order::default();
        for reader in readers {
            let order = reader.join().expect("a reader");
            back.came += order.came;
            back.late += order.late;
        }
        [there.join().expect("the pod"), back]
    })
}

#[test]
fn both_workers_carry_what_one_receives_and_no_datagram_is_reordered() {
    let net = network("even");
    let _servers = (
        [0, 1].map(|index| net.start_nginx(index)),
        [0, 1].map(|index| echo::tcp(net.pod(index), ECHO)),
    );
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let crowd = |clients: &[IpAddr], to: IpAddr| {
        let to = SocketAddr::new(to, ECHO_NODE_PORT);
        Crowd::open(&net.client, clients, to, 200).expect("all open")
    };
    let mut crowds = [crowd(&CLIENT_V4, OUTSIDE[0]), crowd(&CLIENT_V6, OUTSIDE[1])];
    for round in 0..3 {
        for crowd in &mut crowds {
            crowd.exchange(round).expect("every line comes back");
        }
    }
    let orders = stream(&net.client, net.pod(0));
    println!(
        "datagrams there and back: {:?}",
        orders.each_ref().map(|order| order.came)
    );
    for order in &orders {
        assert!(order.came > FLOWS * DATAGRAMS / 4, "{order:?}");
        assert_eq!(order.late, 0, "{order:?}");
    }

    let counters = at_rest(&gateway);
    let [hits, taken_in, received] =
        ["hits", "taken_in", "received"].map(|name| counters.by_worker(name));
    let half: u64 = hits.iter().sum::<u64>() / 2;
    for worker in 0..2 {
        // Each receives one link and gets about half of the other one: flows are few, so not exactly.
        assert!(hits[worker] > half / 3, "{counters:?}");
        assert!(taken_in[worker] > half / 10, "{counters:?}");
    }
    let links = links(&gateway);
    assert_eq!(sum(&links, "rx_frames"), received.iter().sum::<u64>());
    assert_eq!(sum(&links, "dealt_out"), taken_in.iter().sum::<u64>());
    let said = "worker 1 gets frames from worker 0 by software, as many as that keeps";
    assert!(links[0]["notes"].to_string().contains(said), "{}", links[0]);
    let line = ["link outside: 1 rx queues for 2 workers", said];
    gateway.dataplane.wait_for_log(&line, PATIENCE);
    assert_eq!(counters.total("refused"), 0);
}

#[test]
fn a_worker_that_keeps_up_deals_nothing_out() {
    let net = network("auto");
    let _servers = (net.start_nginx(0), net.start_echo(0));
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, TALK, 100).expect("all open");
    for round in 0..5 {
        crowd.exchange(round).expect("every line comes back");
    }
    at_rest(&gateway);
    assert_eq!(sum(&links(&gateway), "dealt_out"), 0);
}

#[test]
fn with_fan_out_off_the_others_receive_nothing() {
    let net = network("off");
    let _servers = net.start_nginx(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
    let counters = at_rest(&gateway);
    assert_eq!(counters.total("taken_in"), 0);
    let notes = links(&gateway)[0]["notes"].to_string();
    assert!(notes.contains("the others receive nothing"), "{notes}");
}

#[test]
fn kills_while_frames_are_dealt_out_break_no_connection_and_leave_the_books_even() {
    let net = network("even");
    let _echo = echo::tcp(net.pod(0), ECHO);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, TALK, 100).expect("all open");
    crowd.exchange(0).expect("every line comes back");
    for round in 1..4 {
        let is_over = AtomicBool::new(false);
        let flood = || {
            let from = |port| SocketAddr::new(CLIENT_V4[0], port);
            let open = |port| dial::udp(&net.client, from(port), TALK, PATIENCE).expect("a socket");
            let sockets: Vec<_> = (20_000..20_032).map(open).collect();
            while !is_over.load(Ordering::Relaxed) {
                for socket in &sockets {
                    let _ = socket.send(b"a flood");
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(flood);
            let begun = gateway.counters().total("taken_in");
            wait::until("frames are dealt out", PATIENCE, || {
                (gateway.counters().total("taken_in") > begun + 1000).then_some(())
            });
            gateway.dataplane.kill9();
            is_over.store(true, Ordering::Relaxed);
        });
        gateway.restart_dataplane();
        at_rest(&gateway);
        crowd.exchange(round).expect("every connection goes on");
    }
    at_rest(&gateway);
}
