//! Floods of raw frames beside clients that want nothing but an answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ci::capture::Capture;
use ci::crowd::Crowd;
use ci::gateway::Gateway;
use ci::over::Over;
use ci::topology::{CLIENT_V4, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, frames};

/// Flows that the gateway's table is made for, and frames of a flood.
const FLOWS: u64 = 4096;
const FLOOD: u64 = 10 * FLOWS;

/// How long anything may take on a busy machine, a flood included.
const PATIENCE: Duration = Duration::from_secs(60);

/// NodePort of the flooded services.
const FLOODED: SocketAddr = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);

/// A gateway with a small table, and a way back to everybody through the client.
fn start(net: &Topology) -> Gateway<'_> {
    let configuration = net
        .configuration()
        .replace("flows = 65536", &format!("flows = {FLOWS}"));
    let routes = format!(
        "[[routes]]\nto = \"0.0.0.0/0\"\nvia = \"{}\"\n",
        CLIENT_V4[0]
    );
    Gateway::start(&net.gateway, &(configuration + &routes), net.directory())
}

/// The source of the `nth` frame of a flood: anywhere on the Internet.
fn source(nth: u64) -> (Ipv4Addr, u16) {
    // The mixing step of SplitMix64.
    let mut bits = nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^= bits >> 27;
    let [a, b, c, d, e, f, ..] = bits.to_be_bytes();
    let port = u16::from_be_bytes([e, f]).max(1);
    (Ipv4Addr::new(11 + a % 89, b, c, d), port)
}

/// Sends `frame` of 0 to [`FLOOD`], and further until half as many were pushed out of the table, however much the queues of
/// a busy machine have lost. Meanwhile clients fetch pages over and over; returns their number.
fn flood(gateway: &Gateway<'_>, net: &Topology, frame: impl Fn(u64) -> (u16, Vec<u8>)) -> usize {
    let end = Instant::now() + PATIENCE;
    let is_enough =
        |sent| sent >= FLOOD && gateway.counters().total("half_open_evicted") > FLOOD / 2;
    let wire = Capture::on(&net.client, "eth0");
    let (own, client) = (net.gateway.mac("outside"), net.client.mac("eth0"));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = Over(&is_over);
        let fetching = scope.spawn(|| {
            let mut fetched = 0;
            // Relaxed: the flag carries no data. At least twice, however fast the flood was.
            while !is_over.load(Ordering::Relaxed) || fetched < 2 {
                curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
                fetched += 1;
            }
            fetched
        });
        for nth in 0.. {
            let (kind, packet) = frame(nth);
            wire.send(&frames::ethernet(own, client, kind, &packet));
            if nth % 64 == 63 {
                // So that the flood meets the gateway and not the end of a device's queue.
                thread::sleep(Duration::from_millis(1));
            }
            if nth % FLOWS == FLOWS - 1 {
                if is_enough(nth + 1) {
                    println!("{} frames sent", nth + 1);
                    break;
                }
                let drops = gateway.counters().drops();
                assert!(Instant::now() < end, "{} frames sent; {drops:?}", nth + 1);
            }
        }
        drop(over);
        fetching.join().expect("every page is fetched")
    })
}

fn assert_table_held(gateway: &Gateway<'_>) {
    let counters = gateway.counters();
    let open = counters.total("flows_created") - counters.total("flows_removed");
    assert!(open < FLOWS, "{open} flows in a table for {FLOWS}");
    let full = counters
        .drops()
        .into_iter()
        .find(|(name, _)| name == "flow_table_full");
    assert_eq!(full, None);
}

#[test]
fn a_syn_flood_of_ten_tables_breaks_no_connection_and_keeps_no_client_out() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let gateway = start(&net);
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, FLOODED, 40).expect("all open");
    crowd.exchange(0).expect("every line comes back");
    let IpAddr::V4(to) = OUTSIDE[0] else {
        panic!("an IPv4 address")
    };
    let fetched = flood(&gateway, &net, |nth| {
        (frames::IPV4, frames::syn(source(nth), (to, ECHO_NODE_PORT)))
    });
    println!("{fetched} pages fetched during the flood");
    crowd.exchange(1).expect("every connection survives");
    let mut late = Crowd::open(&net.client, &CLIENT_V4, FLOODED, 40).expect("new ones get in");
    late.exchange(0).expect("and are served");
    assert_table_held(&gateway);
}

#[test]
fn a_udp_flood_from_random_sources_breaks_no_connection_and_keeps_no_client_out() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let gateway = start(&net);
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, FLOODED, 40).expect("all open");
    let fetched = flood(&gateway, &net, |nth| {
        let (address, port) = source(nth);
        frames::udp(
            (address.into(), port),
            (OUTSIDE[0], ECHO_NODE_PORT),
            b"flood",
        )
    });
    println!("{fetched} pages fetched during the flood");
    crowd.exchange(0).expect("every connection survives");
    let socket = ci::dial::udp(
        &net.client,
        SocketAddr::new(CLIENT_V4[0], 0),
        FLOODED,
        PATIENCE,
    )
    .expect("a socket");
    let answer = ci::dial::ask(&socket, b"hello").expect("the flooded service answers");
    assert!(answer.ends_with(b"hello"));
    assert_table_held(&gateway);
}
