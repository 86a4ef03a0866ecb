//! A data plane replaced while it forwards.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ci::browse::Browsers;
use ci::chatter::Chatter;
use ci::topology::{CLIENT_V4, ECHO_NODE_PORT, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};

const WEB: SocketAddr = SocketAddr::new(OUTSIDE[0], HTTP_NODE_PORT);
const TALK: SocketAddr = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
const PATIENCE: Duration = Duration::from_secs(20);

/// Upgrades under load over this driver; prints the gaps.
fn upgrade_under_load(driver: &'static str) {
    let net = Topology::new(Plan {
        driver,
        ..Plan::default()
    });
    let _servers = [0, 1].map(|index| (net.start_nginx(index), net.start_echo(index)));
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    let mut browsers = Browsers::open(&net.client, &CLIENT_V4, WEB, 60).expect("all open");
    let mut chatter = Chatter::open(&net.client, &CLIENT_V4, TALK, 20).expect("sockets");
    chatter.round(0).expect("every flow is answered");

    let done = AtomicBool::new(false);
    let gaps = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            for round in 0.. {
                browsers.round(round)?;
                // Relaxed: the flag carries no data.
                if round > 0 && done.load(Ordering::Relaxed) {
                    return Ok::<_, String>(round);
                }
            }
            Ok(0)
        });
        let upgrades = || [(); 3].map(|()| gateway.upgrade_dataplane());
        let gaps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(upgrades));
        done.store(true, Ordering::Relaxed);
        let rounds = traffic.join().expect("the traffic ends");
        let rounds = rounds.expect("no connection breaks");
        assert!(rounds > 0, "no traffic");
        gaps.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    println!("{driver}: gaps in ms {gaps:.3?}");
    assert!(gaps.iter().all(|gap| *gap > 0.0), "{gaps:?}");
    chatter.round(1).expect("every UDP flow goes on");
    // The control plane goes on with the new one.
    net.apply(&[1]);
    wait::until("a change is installed", PATIENCE, || {
        let answer = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).ok()?;
        (answer == "pod-1\n").then_some(())
    });
}

#[test]
fn a_hot_upgrade_over_af_packet_breaks_no_flow_and_prints_its_gap() {
    upgrade_under_load("af_packet");
}

#[test]
fn a_hot_upgrade_over_af_xdp_breaks_no_flow_and_prints_its_gap() {
    upgrade_under_load("af_xdp");
}

#[test]
fn a_failed_takeover_leaves_the_old_data_plane_serving() {
    let net = Topology::new(Plan {
        workers: 2,
        ..Plan::default()
    });
    let _nginx = [0, 1].map(|index| net.start_nginx(index));
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    let mut browsers = Browsers::open(&net.client, &CLIENT_V4, WEB, 30).expect("all open");
    browsers.round(0).expect("every byte is right");

    // One that is killed just when the old one has let everything go.
    let region = net.region_file();
    let mut stream = UnixStream::connect(region.with_extension("takeover")).expect("it listens");
    stream.write_all(b"take\n").expect("it hears");
    let mut said = String::new();
    BufReader::new(&stream)
        .read_line(&mut said)
        .expect("it answers");
    assert!(said.starts_with("released "), "{said}");
    drop(stream);
    browsers.round(1).expect("the old one serves again");
    assert!(gateway.dataplane.is_running());

    // One whose configuration names a device that cannot be had.
    let text = net.configuration();
    let wrong = text.replace("af_packet:pods", "af_packet:nosuch0");
    assert_ne!(text, wrong);
    let file = net.directory().join("wrong.toml");
    fs::write(&file, wrong).expect("the file is written");
    let mut successor = gateway.successor(&file);
    let status = successor.wait(PATIENCE);
    assert!(!status.success(), "{}", successor.log());
    assert!(successor.log().contains("nosuch0"), "{}", successor.log());
    browsers.round(2).expect("the old one serves again");
    assert!(gateway.dataplane.is_running());
    gateway
        .dataplane
        .wait_for_log(&["wanted to take over failed"], PATIENCE);

    // It still takes updates, and the next upgrade succeeds.
    net.apply(&[1]);
    wait::until("a change is installed", PATIENCE, || {
        let answer = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).ok()?;
        (answer == "pod-1\n").then_some(())
    });
    gateway.upgrade_dataplane();
    browsers.round(3).expect("the new one serves");
}

#[test]
fn nobody_is_asked_to_leave_for_a_device_that_is_not_there() {
    let net = Topology::new(Plan {
        driver: "af_xdp",
        ..Plan::default()
    });
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    let wrong = net.configuration().replace("af_xdp:pods", "af_xdp:nosuch0");
    let file = net.directory().join("wrong.toml");
    fs::write(&file, wrong).expect("the file is written");
    let mut successor = gateway.successor(&file);
    assert_eq!(successor.wait(PATIENCE).code(), Some(2));
    let log = successor.log();
    assert!(
        log.contains("link pods: this machine has no af_xdp:nosuch0"),
        "{log}"
    );
    assert!(gateway.dataplane.is_running());
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
}

#[test]
fn taking_over_from_nobody_is_a_start() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    gateway.dataplane.kill9();
    let mut new = gateway.successor(gateway.configuration());
    new.wait_for_line("portgate-dataplane ready", PATIENCE);
    assert!(!new.output().contains("took over"), "{}", new.output());
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
}
