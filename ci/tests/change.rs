//! What changes or dies beside running connections, and does not disturb them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ci::crowd::Crowd;
use ci::topology::{CLIENT_V4, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};

/// How long a change may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// NodePort of the echo service on the gateway's IPv4 address.
const NODE_PORT: SocketAddr = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);

/// Exchanges on every connection again and again while `work` runs.
fn while_traffic_flows(crowd: &mut Crowd, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut rounds = 0;
            // Relaxed: the flag carries no data. At least twice, however fast the work was.
            while !done.load(Ordering::Relaxed) || rounds < 2 {
                crowd.exchange(rounds)?;
                rounds += 1;
            }
            Ok::<_, String>(rounds)
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let rounds = traffic
            .join()
            .expect("the traffic thread ends")
            .expect("no flow breaks");
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        println!("{rounds} rounds of traffic");
    });
}

/// Fetches until the answer comes from this pod.
fn wait_for_pod(net: &Topology, name: &str) {
    wait::until(&format!("{name} answers"), PATIENCE, || {
        (curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).ok()? == name).then_some(())
    });
}

#[test]
fn an_endpoint_change_breaks_no_established_connection() {
    let net = Topology::new(Plan::default());
    let _nginx = [0, 1].map(|index| net.start_nginx(index));
    // Echo runs in the first pod alone: a flow that moved to the other one would break.
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, NODE_PORT, 40).expect("all open");
    while_traffic_flows(&mut crowd, || {
        net.apply(&[1]);
        wait_for_pod(&net, "pod-1\n");
        thread::sleep(Duration::from_millis(300));
    });
    let moved = Crowd::open(&net.client, &CLIENT_V4, NODE_PORT, 1);
    assert!(
        moved.is_err(),
        "a new connection went to the endpoint that was taken away"
    );
}

#[test]
fn a_killed_control_plane_disturbs_no_flow_and_its_successor_goes_on() {
    let net = Topology::new(Plan::default());
    let _nginx = [0, 1].map(|index| net.start_nginx(index));
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, NODE_PORT, 40).expect("all open");
    while_traffic_flows(&mut crowd, || {
        gateway.controlplane.kill9();
        thread::sleep(Duration::from_millis(300));
        curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
        gateway.restart_controlplane();
        curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
        // The successor publishes changes.
        net.apply(&[1]);
        wait_for_pod(&net, "pod-1\n");
    });
}

#[test]
fn a_killed_data_plane_goes_on_from_the_region_without_breaking_flows() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, NODE_PORT, 40).expect("all open");
    crowd.exchange(0).expect("every line comes back");
    gateway.dataplane.kill9();
    gateway.restart_dataplane();
    crowd.exchange(1).expect("every flow survives");
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
}
