//! HTTP through the gateway: curl outside and inside, nginx as the pod.

use std::net::IpAddr;
use std::time::Duration;

use ci::netns::Namespace;
use ci::topology::{CLUSTER, HTTP, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};

/// Fetches from each address once.
fn expect_all(from: &Namespace, addresses: &[IpAddr], port: u16, answer: &str) {
    addresses
        .iter()
        .for_each(|address| curl::expect(from, &url(*address, port), answer));
}

#[test]
fn http_over_nodeport_reaches_the_pod_in_both_families() {
    let net = Topology::new(Plan::default());
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    expect_all(&net.client, &OUTSIDE, HTTP_NODE_PORT, "pod-0\n");
}

#[test]
fn http_over_clusterip_reaches_the_pod_from_outside_and_from_another_pod() {
    let net = Topology::new(Plan::default());
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    expect_all(&net.client, &CLUSTER, HTTP, "pod-0\n");
    expect_all(net.pod(1), &CLUSTER, HTTP, "pod-0\n");
}

#[test]
fn http_over_af_xdp_reaches_the_pod_in_both_families() {
    let net = Topology::new(Plan {
        driver: "af_xdp",
        ..Plan::default()
    });
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    expect_all(&net.client, &OUTSIDE, HTTP_NODE_PORT, "pod-0\n");
    expect_all(net.pod(1), &CLUSTER, HTTP, "pod-0\n");
}

#[test]
fn a_pod_reaches_itself_over_its_own_service() {
    let net = Topology::new(Plan::default());
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    expect_all(net.pod(0), &CLUSTER, HTTP, "pod-0\n");
    expect_all(net.pod(0), &OUTSIDE, HTTP_NODE_PORT, "pod-0\n");
}

#[test]
fn a_new_endpoint_in_the_manifest_answers_the_next_request() {
    let net = Topology::new(Plan::default());
    let _servers = [0, 1].map(|index| net.start_nginx(index));
    net.apply(&[0]);
    let gateway = net.start_gateway();
    expect_all(&net.client, &OUTSIDE, HTTP_NODE_PORT, "pod-0\n");

    net.apply(&[1]);
    let [address, address6] = net.pod_addresses(1);
    wait::until(
        "the gateway shows the new endpoints",
        Duration::from_secs(5),
        || {
            let services = gateway.portgate(&["services", "--json"]);
            let shown = |ip: IpAddr| services.contains(&ip.to_string());
            (shown(address) && shown(address6)).then_some(())
        },
    );
    expect_all(&net.client, &OUTSIDE, HTTP_NODE_PORT, "pod-1\n");
    expect_all(&net.client, &CLUSTER, HTTP, "pod-1\n");
}

#[test]
fn requests_are_shared_among_all_endpoints() {
    let net = Topology::new(Plan {
        pods: &[2, 3, 4],
        ..Plan::default()
    });
    let _servers = [0, 1, 2].map(|index| net.start_nginx(index));
    net.apply(&[0, 1, 2]);
    let _gateway = net.start_gateway();
    let mut seen = [0; 3];
    for _ in 0..60 {
        let answer = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).expect("an answer");
        let index = answer
            .trim()
            .trim_start_matches("pod-")
            .parse::<usize>()
            .expect("a pod");
        seen[index] += 1;
    }
    assert!(
        seen.iter().all(|count| *count >= 5),
        "60 requests went to the pods as {seen:?}"
    );
}
