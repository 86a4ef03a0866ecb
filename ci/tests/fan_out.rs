//! Links with one queue and two workers: frames are dealt out by software.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ci::crowd::Crowd;
use ci::gateway::{Counters, Gateway};
use ci::netns::Namespace;
use ci::over::Over;
use ci::topology::{
    CLIENT_V4, CLIENT_V6, ECHO, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url,
};
use ci::{curl, dial, echo, wait};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const TALK: SocketAddr = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);

/// UDP flows, so many that each worker has a quarter of them or more, whatever their ports; and datagrams of each.
const FLOWS: u32 = 256;
const DATAGRAMS: u32 = 400;

/// Datagrams of one flow in a burst, and flows whose datagrams alternate in it.
const BURST: u32 = 8;
const TOGETHER: usize = 32;

/// Datagrams that may be on their way when another burst begins: with it, less than a link's queue of 1,024 frames.
const ON_THEIR_WAY: u32 = 512;

/// What has not come so long after the last one is lost.
const LOST: Duration = Duration::from_secs(2);

/// After so many ms without a datagram none is on its way.
const QUIET: u16 = 500;

/// Bytes that may wait for the pod.
const ROOM: usize = 8 << 20;

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
}

/// What comes at `sockets` until `is_over` and nothing more comes. `seen` is the number of datagrams so far.
fn receive(sockets: &[UdpSocket], is_over: &AtomicBool, seen: &AtomicU32, echoes: bool) -> Order {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
    for (number, socket) in (0..).zip(sockets) {
        socket.set_nonblocking(true).expect("no waiting");
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, number);
        epoll.add(socket, readable).expect("it is watched");
    }
    let mut order = Order::default();
    let mut bytes = [0; 64];
    let mut events = vec![EpollEvent::empty(); 64];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::from(QUIET));
        let ready = ready.expect("what is readable");
        // Relaxed: the flag and the number carry no data.
        if ready == 0 && is_over.load(Ordering::Relaxed) {
            return order;
        }
        for event in &events[..ready] {
            let socket = &sockets[event.data() as usize];
            while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                order.note(&bytes[..len]);
                seen.store(order.came, Ordering::Relaxed);
                if echoes {
                    let _ = socket.send_to(&bytes[..len], from);
                }
            }
        }
    }
}

/// Numbered datagrams of many flows to a pod and back: what came there, and what came back. Each thread sends from one CPU:
/// frames of a thread that moves lie in two CPUs' queues, and the kernel may take the later ones first.
fn stream(client: &Namespace, pod: &Namespace) -> [Order; 2] {
    let server = pod
        .enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO)))
        .expect("the pod listens");
    setsockopt(&server, sockopt::RcvBufForce, &ROOM).expect("room for what waits");
    let sockets: Vec<UdpSocket> = (0..FLOWS)
        .map(|_| {
            let from = SocketAddr::new(CLIENT_V4[0], 0);
            dial::udp(client, from, TALK, PATIENCE).expect("a socket")
        })
        .collect();
    let cpus = cpus();
    let (here, elsewhere) = (cpus[0], cpus[cpus.len() - 1]);
    let is_over = AtomicBool::new(false);
    let [seen_there, seen_back] = [const { AtomicU32::new(0) }; 2];
    thread::scope(|scope| {
        let over = Over(&is_over);
        let there = scope.spawn(|| {
            stay_on(elsewhere);
            receive(&[server], &is_over, &seen_there, true)
        });
        let back = scope.spawn(|| receive(&sockets, &is_over, &seen_back, false));
        let sending = scope.spawn(|| {
            stay_on(here);
            send(&sockets, &seen_back);
        });
        sending.join().expect("all is sent");
        drop(over);
        [there, back].map(|order| order.join().expect("a receiver"))
    })
}

/// Sends bursts of some flows, and no more than the queues of all devices hold before they are back. What a queue had no room
/// for all the same is lost, and the rest in order.
fn send(sockets: &[UdpSocket], back: &AtomicU32) {
    let (mut sent, mut lost) = (0, 0);
    for first in (1..=DATAGRAMS).step_by(BURST as usize) {
        for (begin, flows) in (0u32..).step_by(TOGETHER).zip(sockets.chunks(TOGETHER)) {
            for number in first..first + BURST {
                for (flow, socket) in (begin..).zip(flows) {
                    let datagram = [flow.to_be_bytes(), number.to_be_bytes()].concat();
                    sent += u32::from(socket.send(&datagram).is_ok());
                }
            }
            let mut newest = (0, Instant::now());
            loop {
                let seen = back.load(Ordering::Relaxed);
                if sent - lost <= seen + ON_THEIR_WAY {
                    break;
                }
                if seen != newest.0 {
                    newest = (seen, Instant::now());
                } else if newest.1.elapsed() > LOST {
                    lost = sent - seen;
                }
                thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

/// The CPUs that this process may use.
fn cpus() -> Vec<usize> {
    let may = sched_getaffinity(Pid::from_raw(0)).expect("the CPUs");
    let is_set = |cpu: &usize| may.is_set(*cpu).unwrap_or(false);
    (0..CpuSet::count()).filter(is_set).collect()
}

/// Keeps this thread on a CPU.
fn stay_on(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("a CPU that the process may use");
}

/// A gateway whose workers have a CPU each, as far as there are some: one that moved would reorder what it sends.
fn start_on_cpus(net: &Topology) -> Gateway<'_> {
    let mut text = net.configuration();
    if let [one, other, ..] = cpus()[..] {
        text = text.replace("count = 2", &format!("cores = [{one}, {other}]"));
    }
    Gateway::start(&net.gateway, &text, net.directory())
}

#[test]
fn both_workers_carry_what_one_receives_and_no_datagram_is_reordered() {
    let net = network("even");
    let _servers = (
        [0, 1].map(|index| net.start_nginx(index)),
        [0, 1].map(|index| echo::tcp(net.pod(index), ECHO)),
    );
    net.apply(&[0]);
    let gateway = start_on_cpus(&net);
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
        assert!(order.came > FLOWS * DATAGRAMS / 2, "{order:?}");
        assert_eq!(order.late, 0, "{order:?}");
    }
    let fewest = orders.iter().map(|order| order.came).min();
    let fewest = u64::from(fewest.expect("two directions"));

    let counters = at_rest(&gateway);
    let [hits, taken_in, received] =
        ["hits", "taken_in", "received"].map(|name| counters.by_worker(name));
    let half: u64 = hits.iter().sum::<u64>() / 2;
    for worker in 0..2 {
        // Each receives one link and gets about half of the other one.
        assert!(hits[worker] > half / 3, "{counters:?}");
        assert!(taken_in[worker] > fewest / 4, "{counters:?}");
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
        let flood = |is_over: &AtomicBool| {
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
            scope.spawn(|| flood(&is_over));
            let _over = Over(&is_over);
            let begun = gateway.counters().total("taken_in");
            wait::until("frames are dealt out", PATIENCE, || {
                (gateway.counters().total("taken_in") > begun + 1000).then_some(())
            });
            gateway.dataplane.kill9();
        });
        gateway.restart_dataplane();
        at_rest(&gateway);
        crowd.exchange(round).expect("every connection goes on");
    }
    at_rest(&gateway);
}
