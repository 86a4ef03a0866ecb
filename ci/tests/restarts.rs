//! Both processes die, hang and come back, in any order, and what they had established goes on.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ci::browse::Browsers;
use ci::chatter::Chatter;
use ci::random::Random;
use ci::topology::{CLIENT_V4, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};

const WEB: SocketAddr = SocketAddr::new(OUTSIDE[0], HTTP_NODE_PORT);
const TALK: SocketAddr = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_data_plane_killed_under_load_goes_on_while_the_control_plane_is_dead() {
    let net = Topology::new(Plan::default());
    let _servers = [0, 1].map(|index| (net.start_nginx(index), net.start_echo(index)));
    net.apply(&[0, 1]);
    let mut gateway = net.start_gateway();
    let open = |count| Browsers::open(&net.client, &CLIENT_V4, WEB, count);
    let mut browsers = open(100).expect("all open");
    let mut chatter = Chatter::open(&net.client, &CLIENT_V4, TALK, 30).expect("sockets");
    browsers.round(0).expect("every byte is right");
    chatter.round(0).expect("every flow is answered");

    gateway.controlplane.kill9();
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            // Each kill happens with a request under way on every connection.
            (1..30).try_for_each(|round| browsers.round(round).map(drop))
        });
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(150));
            gateway.dataplane.kill9();
            gateway.restart_dataplane();
        }
        traffic
            .join()
            .expect("the traffic ends")
            .expect("no connection breaks");
    });
    let asked = chatter
        .round(1)
        .expect("every UDP flow goes on, to the endpoint it had");
    assert_eq!(asked.answers, 30);

    let mut newcomers = open(20).expect("new connections are served without a control plane");
    newcomers.round(0).expect("every byte is right");
    let mut new_flows = Chatter::open(&net.client, &CLIENT_V4, TALK, 10).expect("sockets");
    new_flows.round(0).expect("new UDP flows are served, too");
}

#[test]
fn a_region_of_another_layout_is_refused_with_a_word_and_started_clean() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");

    gateway.dataplane.kill9();
    gateway.restart_dataplane();
    let log = gateway.dataplane.log();
    assert!(
        log.contains("region taken over") && log.contains("flows taken over"),
        "{log}"
    );

    gateway.dataplane.kill9();
    let larger = net
        .configuration()
        .replace("flows = 65536", "flows = 131072");
    fs::write(gateway.configuration(), larger).expect("the file is written");
    gateway.restart_dataplane();
    let log = gateway.dataplane.log();
    assert!(
        log.contains(
            "region replaced: it was made for another number of workers, links, services or flows"
        ),
        "{log}"
    );
    assert!(!log.contains("flows taken over"), "{log}");
    // The control plane notices, attaches to the new one, and sends everything.
    wait::until("the new region is served", PATIENCE, || {
        curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).ok()
    });
}

#[test]
fn a_control_plane_killed_in_the_middle_of_a_replay_leaves_no_partial_state() {
    /// Services beside the one under test: enough records to fill the ring several times.
    const MANY: usize = 3_000;
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    write_services(&net, MANY);
    let mut gateway = net.start_gateway();
    let mut browsers = Browsers::open(&net.client, &CLIENT_V4, WEB, 40).expect("all open");
    let shown = |gateway: &ci::gateway::Gateway<'_>| {
        let text = gateway.portgate(&["services"]);
        text.lines().filter(|line| line.contains("many-")).count()
    };
    assert_eq!(shown(&gateway), MANY);

    let mut random = Random::new(7);
    let (mut before, mut seen) = (MANY, Vec::new());
    for round in 0..12 {
        gateway.controlplane.kill9();
        // What the successor begins with differs from what is installed in every second service.
        let after = if before == MANY { MANY / 2 } else { MANY };
        write_services(&net, after);
        gateway.launch_controlplane();
        thread::sleep(Duration::from_millis(random.below(700)));
        gateway.controlplane.kill9();
        let now = shown(&gateway);
        assert!(
            now == before || now == after,
            "{now} of {before} or {after} services"
        );
        seen.push(now != before);
        before = now;
        browsers.round(round).expect("no flow is disturbed");
    }
    assert!(
        seen.contains(&false),
        "no kill came before the commit: {seen:?}"
    );
    write_services(&net, 10);
    gateway.restart_controlplane();
    wait::until("the last state is installed", PATIENCE, || {
        (shown(&gateway) == 10).then_some(())
    });
    browsers.round(99).expect("no flow is disturbed");
}

#[test]
fn a_wedged_data_plane_holds_up_nothing_but_its_own_updates() {
    let net = Topology::new(Plan::default());
    let _nginx = [0, 1].map(|index| net.start_nginx(index));
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");

    gateway.dataplane.freeze();
    let end = Instant::now() + Duration::from_secs(7);
    let mut pods = [0, 1].into_iter().cycle();
    while Instant::now() < end {
        net.apply(&[pods.next().unwrap_or(0)]);
        for page in ["livez", "metrics"] {
            let asked = Instant::now();
            let answer = curl::get(&net.gateway, &format!("http://127.0.0.1:9102/{page}"));
            assert!(answer.is_ok(), "{page}: {answer:?}");
            assert!(
                asked.elapsed() < Duration::from_secs(4),
                "{page} was held up"
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(gateway.controlplane.is_running());
    // A data plane that is away is no different.
    gateway.dataplane.kill9();
    net.apply(&[1]);
    thread::sleep(Duration::from_millis(300));
    assert!(curl::get(&net.gateway, "http://127.0.0.1:9102/livez").is_ok());
    gateway.restart_dataplane();
    wait::until("the latest change is installed", PATIENCE, || {
        let answer = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).ok()?;
        (answer == "pod-1\n").then_some(())
    });
}

#[test]
fn a_second_control_plane_is_refused_and_takes_over_when_the_first_has_died() {
    let net = Topology::new(Plan::default());
    let _nginx = [0, 1].map(|index| net.start_nginx(index));
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    let mut second = gateway.second_controlplane();
    let first = gateway.controlplane.id().to_string();
    second.wait_for_log(&["in use by another control plane", &first], PATIENCE);
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");

    gateway.controlplane.kill9();
    second.wait_for_line("portgate-controlplane synced", PATIENCE);
    net.apply(&[1]);
    wait::until("the second one's changes are installed", PATIENCE, || {
        let answer = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).ok()?;
        (answer == "pod-1\n").then_some(())
    });
}

/// Replaces the many Services by `count` of them, in one file.
fn write_services(net: &Topology, count: usize) {
    let item = |number: usize| {
        let address = format!("100.68.{}.{}", 100 + number / 250, 1 + number % 250);
        format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"many-{number}","namespace":"default"}},
            "spec":{{"type":"ClusterIP","clusterIP":"{address}","clusterIPs":["{address}"],
            "ports":[{{"port":80,"protocol":"TCP"}}]}}}}"#
        )
    };
    let items: Vec<_> = (0..count).map(item).collect();
    let list = format!(
        r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#,
        items.join(",")
    );
    net.manifests.write("many.json", &list);
}
