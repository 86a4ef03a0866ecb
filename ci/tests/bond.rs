//! A link that is a bond: two kernel interfaces to the pods' switch, of which DPDK's bonding uses one.

use std::time::Duration;

use ci::gateway::Gateway;
use ci::netns::{Offloads, connect};
use ci::topology::{CLUSTER, HTTP, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};

const BOND: &str = "vdev:net_bonding0,mode=1,slave=af_packet:pods,slave=af_packet:pods2";

#[test]
fn a_bond_of_two_interfaces_serves_and_is_shown_as_one_link() {
    let net = Topology::new(Plan::default());
    connect(
        (net.switch(), "uplink2"),
        (&net.gateway, "pods2"),
        Offloads::Off,
    );
    net.switch().ip("link set uplink2 master br0");
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let configuration = net
        .configuration()
        .replace("\"af_packet:pods\"", &format!("\"{BOND}\""));
    let gateway = Gateway::start(&net.gateway, &configuration, net.directory());

    let page = url(OUTSIDE[0], HTTP_NODE_PORT);
    wait::until("the gateway serves", Duration::from_secs(20), || {
        curl::get(&net.client, &page).ok()
    });
    for (address, port) in [
        (OUTSIDE[0], HTTP_NODE_PORT),
        (OUTSIDE[1], HTTP_NODE_PORT),
        (CLUSTER[0], HTTP),
        (CLUSTER[1], HTTP),
    ] {
        curl::expect(&net.client, &url(address, port), "pod-0\n");
        curl::expect(net.pod(0), &url(address, port), "pod-0\n");
    }
    let pods = wait::until("the bond is up", Duration::from_secs(10), || {
        let pods = gateway.portgate_json(&["links"])["links"][1].clone();
        (pods["up"] == true).then_some(pods)
    });
    assert_eq!(pods["device"], BOND, "{pods}");
    assert_eq!(pods["driver"], "net_bonding", "{pods}");
    for direction in ["rx_frames", "tx_frames"] {
        assert!(pods[direction].as_u64() > Some(8), "{pods}");
    }
}
