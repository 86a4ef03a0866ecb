//! `portgate.dev/on-endpoint-gone`, as the sockets of both sides see it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ci::dial;
use ci::manifests::{Protocol, Service, ServicePort};
use ci::topology::{OUTSIDE, Plan, Topology};

const PORT: u16 = 9000;
const RESETTING: u16 = 30900;
const KEEPING: u16 = 30901;
const DRAINING: u16 = 30902;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Endpoints that leave, and as many connections whose ends are reset.
const ROUNDS: usize = 4;

/// Seconds of `drain`.
const DRAIN: Duration = Duration::from_secs(2);

fn service(name: &'static str, node_port: u16, annotation: Option<&str>) -> Service {
    let port = ServicePort {
        protocol: Protocol::Tcp,
        port: PORT,
        target: PORT,
        node_port: Some(node_port),
    };
    let last = (node_port % 100) as u8;
    let addresses = [
        IpAddr::from([100, 68, 200, last]),
        Ipv6Addr::new(0xfd00, 0x100, 0x68, 0, 0, 0, 0, 0x200 + u16::from(last)).into(),
    ];
    let mut service = Service::new(name, &addresses, &[port]);
    let annotation = annotation.map(|text| ("portgate.dev/on-endpoint-gone", text.to_owned()));
    service.annotations = annotation.into_iter().collect();
    service
}

/// An established connection: the client's socket and the pod's.
struct Pair {
    client: TcpStream,
    pod: TcpStream,
}

impl Pair {
    fn open(net: &Topology, listener: &TcpListener, to: SocketAddr) -> Self {
        let end = Instant::now() + PATIENCE;
        // Until the gateway serves the endpoint (again).
        let mut client = loop {
            match dial::tcp(&net.client, None, to, PATIENCE) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < end, "cannot connect to {to}: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        let (pod, _) = listener.accept().expect("the pod accepts");
        pod.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.write_all(b"hello").expect("the client sends");
        let mut pair = Self { client, pod };
        pair.expect(b"hello");
        pair
    }

    /// The pod reads what the client has sent, and the client the pod's echo.
    fn expect(&mut self, text: &[u8]) {
        let mut read = vec![0; text.len()];
        self.pod.read_exact(&mut read).expect("the pod reads");
        assert_eq!(read, text);
        self.pod.write_all(&read).expect("the pod sends");
        self.client.read_exact(&mut read).expect("the client reads");
        assert_eq!(read, text);
    }

    fn assert_alive(&mut self) {
        self.client
            .write_all(b"still here")
            .expect("the client sends");
        self.expect(b"still here");
    }

    /// Waits until both sides are reset; returns when the later one was.
    fn reset(mut self) -> Instant {
        let wait = |stream: &mut TcpStream, side: &str| {
            let error = stream.read(&mut [0; 1]).expect_err("a reset, no end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "at the {side}");
            Instant::now()
        };
        thread::scope(|scope| {
            let client = scope.spawn(|| wait(&mut self.client, "client"));
            let pod = wait(&mut self.pod, "pod");
            client.join().expect("the client is reset").max(pod)
        })
    }
}

#[test]
fn idle_connections_are_reset_on_both_sides_when_their_endpoint_leaves_and_others_are_not() {
    let net = Topology::new(Plan::default());
    let services = [
        service("resetting", RESETTING, Some("reset")),
        service("keeping", KEEPING, None),
    ];
    let [resetting, keeping] = &services;
    net.apply_as(resetting, &[0]);
    net.apply_as(keeping, &[0]);
    let listener = net
        .pod(0)
        .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))
        .expect("the pod listens");
    let gateway = net.start_gateway();
    let mut kept = Pair::open(&net, &listener, SocketAddr::new(OUTSIDE[0], KEEPING));
    for round in 0..ROUNDS {
        let to = SocketAddr::new(OUTSIDE[round % 2], RESETTING);
        let pair = Pair::open(&net, &listener, to);
        let left = Instant::now();
        net.apply_as(resetting, &[1]);
        let took = pair.reset().duration_since(left);
        println!("{to}: both sides reset after {took:?}");
        net.apply_as(resetting, &[0]);
    }
    // The same endpoint left the other service, too, which keeps what it has.
    net.apply_as(keeping, &[1]);
    thread::sleep(Duration::from_millis(300));
    kept.assert_alive();
    assert!(gateway.counters().total("endpoint_resets") >= 2 * ROUNDS as u64);
}

#[test]
fn draining_connections_go_on_for_their_time_and_are_reset_then() {
    let net = Topology::new(Plan::default());
    let seconds = DRAIN.as_secs();
    let draining = service("draining", DRAINING, Some(&format!("drain={seconds}")));
    net.apply_as(&draining, &[0]);
    let listener = net
        .pod(0)
        .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))
        .expect("the pod listens");
    let _gateway = net.start_gateway();
    let mut pair = Pair::open(&net, &listener, SocketAddr::new(OUTSIDE[0], DRAINING));
    let left = Instant::now();
    net.apply_as(&draining, &[1]);
    while left.elapsed() < DRAIN / 2 {
        pair.assert_alive();
        thread::sleep(Duration::from_millis(50));
    }
    let took = pair.reset().duration_since(left);
    println!("both sides reset after {took:?}");
    assert!(
        took >= DRAIN,
        "reset after {took:?}, before the time is over"
    );
}

#[test]
fn a_client_that_speaks_to_a_dead_pod_is_reset() {
    let net = Topology::new(Plan::default());
    let resetting = service("resetting", RESETTING, Some("reset"));
    net.apply_as(&resetting, &[0]);
    let listener = net
        .pod(0)
        .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))
        .expect("the pod listens");
    let _gateway = net.start_gateway();
    let mut pair = Pair::open(&net, &listener, SocketAddr::new(OUTSIDE[0], RESETTING));
    // The pod says nothing from here on.
    net.pod(0).ip("link set eth0 down");
    net.apply_as(&resetting, &[1]);
    let error = pair.client.read(&mut [0; 1]).expect_err("a reset, no end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
