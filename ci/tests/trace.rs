//! `portgate trace` on a running gateway.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::Command;

use ci::capture::Capture;
use ci::gateway::{Gateway, Trace, binary};
use ci::netns::finish;
use ci::topology::{CLIENT_V4, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, frames};
use serde_json::Value;

/// Frames that tell a stage of this name.
fn stage<'a>(frame: &'a Value, name: &str) -> Option<&'a Value> {
    let stages = frame["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["stage"] == name)
}

fn node_port() -> String {
    format!("{}:{HTTP_NODE_PORT}", OUTSIDE[0])
}

/// Frames that were received. One that waited for its next hop is told once more when it is sent.
fn received(told: &[Value]) -> impl Iterator<Item = &Value> {
    told.iter().filter(|frame| !frame["link"].is_null())
}

/// Waits for the end of a TCP connection: both sides' FINs are told, and as many frames as `gateway` has counted since it
/// had counted `before`. Two workers tell what they have sent, so the order of the last ones is not certain. Returns
/// what was told, and how many frames were counted.
fn wait_for_end(gateway: &Gateway<'_>, trace: &Trace, before: u64) -> (Vec<Value>, usize) {
    let is_fin = |frame: &&Value| {
        let text = frame["frame"].as_str().unwrap_or_default();
        text.split(' ').any(|word| word == "FIN")
    };
    let counted = Cell::new(0);
    let told = trace.wait("end of the connection", |told| {
        let sides: BTreeSet<_> = received(told)
            .filter(is_fin)
            .filter_map(|frame| frame["link"].as_str())
            .collect();
        let earlier = counted.get();
        let now = service_frames(&gateway.portgate_json(&["services"])) - before;
        counted.set(now as usize);
        sides.len() == 2 && counted.get() == earlier && received(told).count() == earlier
    });
    (told, counted.get())
}

#[test]
fn all_frames_of_an_http_request_are_traced_both_ways_with_their_translations() {
    for (workers, fan_out) in [(1, None), (2, None), (2, Some("even"))] {
        let net = Topology::new(Plan {
            workers,
            fan_out,
            ..Plan::default()
        });
        let _server = net.start_nginx(0);
        net.apply(&[0]);
        let gateway = net.start_gateway();
        let before = service_frames(&gateway.portgate_json(&["services"]));
        let client = CLIENT_V4[0].to_string();
        let trace = gateway.trace(&["--from", &client, "--to", &node_port()]);
        curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
        let (told, counted) = wait_for_end(&gateway, &trace, before);
        let links: BTreeSet<_> = received(&told)
            .filter_map(|frame| frame["link"].as_str())
            .collect();
        assert_eq!(links, BTreeSet::from(["outside", "pods"]));
        let decided = received(&told).find_map(|frame| stage(frame, "decided"));
        let decided = decided.expect("the first frame is decided about");
        assert_eq!(decided["verdict"], "translate", "{decided}");
        assert_eq!(decided["frontend"], node_port(), "{decided}");
        assert_eq!(decided["kind"], "nodeport", "{decided}");
        let service = decided["service"].as_str().expect("a service");
        assert!(service.starts_with("default/mynginx"), "{service}");
        let pod = format!("{}:80", net.pod_addresses(0)[0]);
        for frame in received(&told) {
            let translated = stage(frame, "translated").expect("every frame is translated");
            let is_forward = frame["link"] == "outside";
            if is_forward {
                assert_eq!(translated["to"], node_port());
                assert_eq!(translated["new_to"], pod);
            } else {
                assert_eq!(translated["from"], pod);
                assert_eq!(translated["new_from"], node_port());
            }
            if stage(frame, "decided").is_none() {
                let found = stage(frame, "found").expect("a flow");
                assert_eq!(found["forward"], is_forward, "{frame}");
            }
        }
        let sent = told
            .iter()
            .filter(|frame| frame["outcome"] == "sent")
            .count();
        assert_eq!(sent, counted, "each is sent in the end");
    }
}

fn service_frames(shown: &Value) -> u64 {
    let services = shown["services"].as_array().expect("services");
    let frames = services
        .iter()
        .map(|service| &service["counters"]["frames"]);
    frames.filter_map(Value::as_u64).sum()
}

#[test]
fn a_trace_becomes_a_file_for_wireshark_with_the_reason_as_a_comment() {
    let net = Topology::new(Plan::default());
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let file = net.directory().join("trace.pcapng");
    let path = file.to_str().expect("a path in UTF-8");
    let client = CLIENT_V4[0].to_string();
    let before = service_frames(&gateway.portgate_json(&["services"]));
    let trace = gateway.trace(&["--from", &client, "--protocol", "tcp", "--pcap", path]);
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
    wait_for_end(&gateway, &trace, before);
    // Nobody serves this.
    let outside = Capture::on(&net.client, "eth0");
    let std::net::IpAddr::V4(from) = CLIENT_V4[0] else {
        panic!("an IPv4 address")
    };
    let stray = frames::syn((from, 5555), ([198, 51, 100, 7].into(), 80));
    let (to, own) = (net.gateway.mac("outside"), net.client.mac("eth0"));
    outside.send(&frames::ethernet(to, own, frames::IPV4, &stray));
    let told = trace.wait("drop", |told| {
        told.last().is_some_and(|last| last["reason"] == "not_ours")
    });
    drop(trace);

    let mut tshark = Command::new("tshark");
    tshark.args(["-r", path, "-T", "fields", "-E", "separator=|"]);
    for field in [
        "frame.interface_name",
        "frame.packet_flags_direction",
        "ip.src",
        "tcp.flags.str",
        "frame.comment",
    ] {
        tshark.args(["-e", field]);
    }
    let text = finish(&mut tshark);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    let outs: usize = told
        .iter()
        .filter_map(|frame| frame["out"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(lines.len(), told.len() + outs, "{text}");
    assert_eq!(lines[0][0], "outside", "{text}");
    assert_eq!(lines[0][2], client, "{text}");
    assert!(lines.iter().any(|line| line[0] == "pods"), "{text}");
    let last = lines.last().expect("a packet")[4];
    assert!(
        last.contains("#") && last.contains("dropped: not_ours"),
        "{last}"
    );
    assert!(lines[0][4].contains("default/mynginx"), "{text}");
}

/// Frames of the host's own programs pass no worker's pipeline on their way out, and die at an interface that is down
/// without having come to one's end.
#[test]
fn frames_from_the_hosts_kernel_and_those_that_it_does_not_take_are_traced() {
    const HOST: &str = "host0";
    let net = Topology::new(Plan::default());
    net.apply(&[0]);
    let device = "device = \"af_packet:outside\"\n";
    let shared = format!("{device}kernel_interface = \"{HOST}\"\n");
    let text = net.configuration().replace(device, &shared);
    let gateway = Gateway::start(&net.gateway, &text, net.directory());
    let client = CLIENT_V4[0].to_string();
    let outside = Capture::on(&net.client, "eth0");
    let (std::net::IpAddr::V4(from), std::net::IpAddr::V4(own)) = (CLIENT_V4[0], OUTSIDE[0]) else {
        panic!("IPv4 addresses")
    };
    // Nothing is a service there, so the kernel is to have it.
    let syn = frames::syn((from, 5555), (own, 9));
    let macs = (net.gateway.mac("outside"), net.client.mac("eth0"));
    let trace = gateway.trace(&["--from", &client, "--protocol", "tcp"]);
    outside.send(&frames::ethernet(macs.0, macs.1, frames::IPV4, &syn));
    let told = trace.wait("drop", |told| {
        told.iter().any(|frame| !frame["reason"].is_null())
    });
    drop(trace);
    let lost = told
        .iter()
        .find(|frame| !frame["reason"].is_null())
        .expect("it was waited for");
    assert_eq!(lost["reason"], "host_limit", "{lost}");
    assert!(lost["worker"].is_null(), "{lost}");
    assert_eq!(
        stage(lost, "own").expect("begun")["what"],
        "for_host",
        "{lost}"
    );
    let given = told
        .iter()
        .find(|frame| frame["outcome"] == "given_to_host");
    assert_eq!(given.expect("a worker gave it away")["link"], "outside");

    net.gateway.add_address(HOST, OUTSIDE[0], 24);
    net.gateway.ip(&format!("link set {HOST} up"));
    let trace = gateway.trace(&["--to", &client, "--from", &OUTSIDE[0].to_string()]);
    finish(
        net.gateway
            .command("ping")
            .args(["-c", "1", "-W", "5", "-I", HOST, &client]),
    );
    let told = trace.wait("echo request", |told| !told.is_empty());
    let sent = &told[0];
    assert_eq!(
        stage(sent, "own").expect("begun")["what"],
        "of_host",
        "{sent}"
    );
    assert_eq!(
        (&sent["outcome"], &sent["out"][0]["link"]),
        (&"sent".into(), &"outside".into()),
        "{sent}"
    );
}

#[test]
fn a_trace_ends_by_its_limits_and_only_one_runs_at_a_time() {
    let net = Topology::new(Plan::default());
    let mut gateway = net.start_gateway();
    let pinged = |count: &str| {
        let target = OUTSIDE[0].to_string();
        finish(
            net.client
                .command("ping")
                .args(["-c", count, "-i", "0.02", "-W", "2", &target]),
        )
    };
    pinged("1");
    let client = CLIENT_V4[0].to_string();
    let trace = gateway.trace(&["--from", &client, "--limit", "3"]);
    let second = net
        .gateway
        .command(binary("portgate"))
        .args(["trace", "--config"])
        .arg(gateway.configuration())
        .output()
        .expect("portgate runs");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another trace runs"), "{said}");
    pinged("5");
    let (told, end) = trace.end();
    assert_eq!((told.len(), &end["ended"]), (3, &Value::from("limit")));
    for frame in &told {
        assert_eq!(frame["outcome"], "answered", "{frame}");
        assert_eq!(frame["out"][0]["link"], "outside", "{frame}");
    }

    let (told, end) = gateway
        .trace(&["--seconds", "1", "--reason", "no_flow"])
        .end();
    assert_eq!((told.len(), &end["ended"]), (0, &Value::from("time")));

    // More frames a second than are to be told, or looked at: no more than 2 a second, and at its start, even if pings take
    // all of its time.
    let slow = gateway.trace(&["--seconds", "5", "--rate", "2", "--from", &client]);
    pinged("40");
    let (told, end) = slow.end();
    assert!((1..=14).contains(&told.len()), "{end}");
    let missed = end["missed"].as_u64().expect("a count");
    assert!(missed >= 10, "{end}");

    // A data plane that hands over ends the trace with a word.
    let trace = gateway.trace(&["--from", &client]);
    gateway.upgrade_dataplane();
    let (_, end) = trace.end();
    assert_eq!(end["ended"], "takeover");
    let trace = gateway.trace(&["--from", &client, "--limit", "1"]);
    pinged("2");
    assert_eq!(trace.end().0.len(), 1, "the new one traces");
}

#[test]
fn who_may_not_trace_is_told_why() {
    let net = Topology::new(Plan::default());
    let gateway = net.start_gateway();
    let directory = gateway.configuration().parent().expect("a folder");
    finish(Command::new("chmod").arg("755").arg(directory));
    // The region itself is for the group; without it the command ends earlier, with the region's own sentence.
    let output = net
        .gateway
        .command("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "--regid", "0"])
        .arg(binary("portgate"))
        .args(["trace", "--config"])
        .arg(gateway.configuration())
        .output()
        .expect("setpriv runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("only the data plane's user"), "{said}");
    let wrong = gateway_says(&net, &gateway, &["trace", "--link", "west"]);
    assert!(wrong.contains("the links are outside, pods"), "{wrong}");
    let wrong = gateway_says(&net, &gateway, &["trace", "--reason", "rain"]);
    assert!(wrong.contains("no reason \"rain\""), "{wrong}");
}

/// What a wrong command says; its exit status is 2.
fn gateway_says(net: &Topology, gateway: &ci::gateway::Gateway<'_>, arguments: &[&str]) -> String {
    let output = net
        .gateway
        .command(binary("portgate"))
        .args(arguments)
        .arg("--config")
        .arg(gateway.configuration())
        .output()
        .expect("portgate runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}
