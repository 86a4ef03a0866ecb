//! What the command shows of a running gateway.
#![allow(clippy::unwrap_used)] // a helper that fails is a failed test

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::process::Command;

use common::*;
use engine::counters::ServiceCounter;
use serde_json::{Value, json};

const CLIENT: &str = "203.0.113.50:40000";

/// A gateway with two services, three flows, two links and counters.
fn busy() -> Running {
    let running = Running::new();
    let slots = running.install(&objects());
    running.describe_links();
    running.count(&slots);
    running.insert(&FlowSpec {
        protocol: 6,
        client: CLIENT,
        to: NODE_PORT,
        source: "100.96.2.1:1025",
        endpoint: POD,
        slot: slots[0],
        idle: 40,
        established: true,
    });
    running.insert(&FlowSpec {
        protocol: 6,
        client: "100.96.2.9:5000",
        to: CLUSTER_IP,
        source: "100.96.2.9:5000",
        endpoint: "100.96.2.3:80",
        slot: slots[0],
        idle: 0,
        established: false,
    });
    running.insert(&FlowSpec {
        protocol: 17,
        client: "[2001:db8::7]:6000",
        to: CLUSTER_IP6,
        source: "[2001:db8::7]:6000",
        endpoint: POD6,
        slot: slots[1],
        idle: 5,
        established: false,
    });
    running
}

/// The lines of a table whose cells, put together with single spaces, begin with these words.
fn rows<'a>(table: &'a str, words: &str) -> Vec<String> {
    let squeezed = |line: &'a str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = table.lines().map(squeezed);
    lines.filter(|line| line.starts_with(words)).collect()
}

#[test]
fn services_are_listed_with_rules_endpoints_and_counters() {
    let running = busy();
    let table = running.said(&["services"]);
    assert_eq!(
        rows(&table, "default/mynginx"),
        [
            "default/mynginx http ClusterIP 100.68.181.31:80/tcp pod keep source 100.96.2.2:80, \
          100.96.2.3:80 2 2 1500 0"
        ]
    );
    assert_eq!(
        rows(&table, "node, outside masquerade 100.96.2.2:80").len(),
        1,
        "{table}"
    );
    assert_eq!(
        rows(&table, "NodePort 203.0.113.10:30379/tcp all masquerade").len(),
        1,
        "{table}"
    );
    assert_eq!(
        rows(&table, "LoadBalancer"),
        ["LoadBalancer [2001:db8:9::9]:53/udp all drop: no_local_endpoint -"]
    );
    assert_eq!(
        rows(&table, "kube-system/dns"),
        [
            "kube-system/dns - ClusterIP [fd00:68::31]:53/udp all keep source [fd00:96::2]:53 0 0 0 6"
        ]
    );
    assert!(
        !table.contains("no_such_port"),
        "the rest of an address is no service: {table}"
    );

    let one = running.said(&["services", "--service", "dns"]);
    assert!(
        one.contains("kube-system/dns") && !one.contains("mynginx"),
        "{one}"
    );
}

#[test]
fn services_that_are_not_proxied_are_listed_as_the_control_plane_knows_them() {
    let running = busy();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!(
        "\n[metrics]\nlisten = \"{}\"\n",
        listener.local_addr().unwrap()
    );
    let mut config = fs::OpenOptions::new()
        .append(true)
        .open(&running.folder.config)
        .unwrap();
    config.write_all(metrics.as_bytes()).unwrap();
    let answers = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /unproxied HTTP/1.0\r\n"));
            let body = r#"[{"service":"shop/db","type":"ExternalName","name":"db.example.org"},
                           {"service":"shop/peers","type":"Headless"}]"#;
            write!(stream, "HTTP/1.0 200 OK\r\n\r\n{body}").unwrap();
        }
    });
    let table = running.said(&["services"]);
    assert_eq!(
        rows(&table, "shop/"),
        [
            "shop/db ExternalName db.example.org (an alias in DNS)",
            "shop/peers Headless its pods (their addresses are in DNS)"
        ]
    );
    let one = running.said(&["services", "--service", "peers"]);
    assert!(
        one.contains("shop/peers") && !one.contains("shop/db"),
        "{one}"
    );
    let shown = running.json(&["services"]);
    assert_eq!(shown["unproxied"][0]["name"], "db.example.org");
    answers.join().unwrap();
    // Nobody listens any more: what is installed is shown all the same.
    let alone = running.said(&["services"]);
    assert!(alone.contains("default/mynginx") && !alone.contains("NOT PROXIED"));
    assert_eq!(running.json(&["services"])["unproxied"], Value::Null);
}

#[test]
fn endpoints_are_listed_with_their_counters_and_open_flows() {
    let running = busy();
    // The second endpoint, and one that is not installed any more.
    let [second, gone] = ["100.96.2.3:80", "100.96.2.99:80"].map(|to| running.endpoint(1, to));
    for (slot, frames) in [(second, 7), (gone, 3)] {
        let counters = running.counters(1);
        counters.add_service(slot, ServiceCounter::Frames, frames);
        counters.add_service(slot, ServiceCounter::Bytes, 100 * frames);
    }
    running.insert(&FlowSpec {
        protocol: 6,
        client: CLIENT,
        to: CLUSTER_IP,
        source: "100.96.2.1:1026",
        endpoint: "100.96.2.99:80",
        slot: gone,
        idle: 1,
        established: true,
    });
    let table = running.said(&["services", "--endpoints", "--service", "mynginx"]);
    assert_eq!(
        rows(&table, "default/mynginx"),
        ["default/mynginx http 100.96.2.2:80 ready 1 0 0 0 0"],
        "{table}"
    );
    assert_eq!(
        rows(&table, "100.96.2.3:80"),
        ["100.96.2.3:80 ready 1 7 700 0 0"]
    );
    assert_eq!(
        rows(&table, "100.96.2.99:80"),
        ["100.96.2.99:80 gone 1 3 300 0 0"]
    );

    // What the service's own slot and its endpoints have counted, installed or not.
    let shown = running.json(&["services", "--endpoints", "--interval", "0.1"]);
    let nginx = &shown["services"][0];
    assert_eq!(nginx["counters"]["frames"], 2 + 7 + 3);
    assert_eq!(nginx["counters"]["bytes"], 1500 + 1000);
    assert_eq!(nginx["counters"]["endpoints"], Value::Null);
    let [first, .., last] = nginx["endpoints"].as_array().unwrap().as_slice() else {
        panic!("{nginx}")
    };
    assert_eq!(first["endpoint"], "100.96.2.2:80");
    assert_eq!(
        last,
        &json!({"endpoint": "100.96.2.99:80", "state": "gone", "open_flows": 1,
               "counters": {"flows": 0, "frames": 3, "bytes": 300, "refused": 0},
               "rates": {"flows": 0.0, "frames": 0.0, "bytes": 0.0, "refused": 0.0}})
    );
    let flow = running.said(&["flows", "--endpoint", "100.96.2.99", "--json"]);
    let flow: Value = serde_json::from_str(&flow).unwrap();
    assert_eq!(flow["service"], "default/mynginx");
}

#[test]
fn services_have_a_json_form() {
    let running = busy();
    let shown = running.json(&["services"]);
    assert_eq!(shown["generation"], 7);
    assert_eq!(shown["digest"].as_str().map(str::len), Some(32));
    let [nginx, dns] = [&shown["services"][0], &shown["services"][1]];
    assert_eq!(
        (&nginx["service"], &nginx["port_name"]),
        (&json!("default/mynginx"), &json!("http"))
    );
    assert_eq!(nginx["protocol"], "tcp");
    assert_eq!(nginx["serving"], json!(["100.96.2.2:80", "100.96.2.3:80"]));
    assert_eq!(
        (&nginx["on_endpoint_gone"], &nginx["drain_seconds"]),
        (&json!("drain"), &json!(30))
    );
    assert_eq!(
        nginx["counters"],
        json!({
            "flows": 2, "frames": 2, "bytes": 1500, "refused": 0, "half_open_evicted": 0, "limited": 0,
            "snat_exhausted": 0, "endpoint_resets": 0
        })
    );
    let node_port = &nginx["frontends"][1];
    assert_eq!(node_port["type"], "nodeport");
    assert_eq!(node_port["address"], NODE_PORT);
    assert_eq!(node_port["source_ranges"], Value::Null);
    assert_eq!(
        node_port["actions"]["outside"],
        json!({"action": "translate", "endpoints": ["100.96.2.2:80", "100.96.2.3:80"],
               "masquerade": true, "reason": null})
    );
    let balancer = &dns["frontends"][1];
    assert_eq!(balancer["source_ranges"], json!(["2001:db8::/32"]));
    assert_eq!(balancer["affinity_seconds"], 10_800);
    assert_eq!(
        balancer["actions"]["pod"],
        json!({"action": "drop", "endpoints": [], "masquerade": false,
               "reason": "no_local_endpoint"})
    );
}

#[test]
fn flows_are_listed_with_translation_state_and_service() {
    let running = busy();
    let table = running.said(&["flows"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    let nginx = rows(&table, "tcp 203.0.113.50:40000");
    let expected = "tcp 203.0.113.50:40000 203.0.113.10:30379 100.96.2.1:1025 100.96.2.2:80 \
                    established 4";
    assert!(nginx[0].starts_with(expected), "{nginx:?}");
    assert!(nginx[0].ends_with("s default/mynginx:http"), "{nginx:?}");
    let dns = rows(&table, "udp");
    assert!(dns[0].ends_with("s kube-system/dns"), "{dns:?}");
}

#[test]
fn flows_have_a_json_form_a_line_each() {
    let running = busy();
    let lines = running.said(&["flows", "--from", "203.0.113.50", "--json"]);
    let flow: Value = serde_json::from_str(&lines).unwrap();
    let idle = flow["idle_seconds"].as_u64().unwrap();
    assert!((40..100).contains(&idle), "{idle}");
    assert_eq!(
        flow,
        json!({"protocol": "tcp", "client": CLIENT, "service_address": NODE_PORT,
               "source": "100.96.2.1:1025", "endpoint": POD, "state": "established",
               "age_seconds": idle, "idle_seconds": idle, "service": "default/mynginx", "port_name": "http"})
    );
    assert_eq!(running.said(&["flows", "--json"]).lines().count(), 3);
}

#[test]
fn flows_are_filtered_by_every_part() {
    let running = busy();
    let clients = |filter: &[&str]| -> Vec<String> {
        let lines = running.said(&[&["flows", "--json"], filter].concat());
        let client = |line: &str| {
            let flow: Value = serde_json::from_str(line).unwrap();
            flow["client"].as_str().unwrap().to_owned()
        };
        let mut clients: Vec<_> = lines.lines().map(client).collect();
        clients.sort();
        clients
    };
    let (pod, v6) = ("100.96.2.9:5000", "[2001:db8::7]:6000");
    assert_eq!(clients(&["--from", "203.0.113.50:40000"]), [CLIENT]);
    assert_eq!(clients(&["--from", "203.0.113.50:40001"]), [""; 0]);
    assert_eq!(clients(&["--to", CLUSTER_IP]), [pod]);
    assert_eq!(clients(&["--to", CLUSTER_IP6]), [v6]);
    assert_eq!(clients(&["--endpoint", "100.96.2.3"]), [pod]);
    assert_eq!(clients(&["--state", "established"]), [CLIENT]);
    assert_eq!(clients(&["--state", "half-open"]), [pod, v6]);
    assert_eq!(clients(&["--protocol", "udp"]), [v6]);
    assert_eq!(clients(&["--service", "mynginx"]), [pod, CLIENT]);
    assert_eq!(
        clients(&["--service", "kube-system/dns", "--protocol", "tcp"]),
        [""; 0]
    );
    assert_eq!(clients(&["--limit", "2"]).len(), 2);
    assert_eq!(clients(&["--limit", "0"]), [""; 0]);
}

#[test]
fn a_flow_of_a_service_that_is_gone_is_listed_without_its_name() {
    let running = Running::new();
    running.insert(&FlowSpec {
        protocol: 132,
        client: CLIENT,
        to: NODE_PORT,
        source: CLIENT,
        endpoint: POD,
        slot: 3,
        idle: 0,
        established: false,
    });
    assert!(rows(&running.said(&["flows"]), "sctp")[0].ends_with("s -"));
    let flow = running.json(&["flows"]);
    assert_eq!(
        (&flow["service"], &flow["port_name"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn counters_balance_and_drops_are_named() {
    let running = busy();
    let shown = running.json(&["counters"]);
    let total = |name: &str| shown["totals"][name].as_u64().unwrap();
    let drops = shown["drops"].as_object().unwrap();
    let dropped: u64 = drops.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(
        total("received") + total("originated"),
        total("sent") + dropped + total("parked") - total("unparked")
    );
    assert_eq!((total("received"), total("flows_removed")), (120, 4));
    assert_eq!(
        (&drops["no_endpoint"], &drops["other_mac"]),
        (&json!(11), &json!(10))
    );
    assert_eq!(
        drops["tx_full"], 0,
        "reasons that never occurred are there too"
    );

    let workers = shown["workers"].as_array().unwrap();
    let received = |worker: &Value| worker["totals"]["received"].as_u64().unwrap();
    assert_eq!(workers.iter().map(received).collect::<Vec<_>>(), [70, 50]);
    assert_eq!(workers[1]["drops"]["other_mac"], 10);
    assert_eq!(workers[1]["worker"], 1);
    let pods = &shown["links"][1];
    assert_eq!(
        (&pods["name"], &pods["rx_frames"]),
        (&json!("pods"), &json!(50))
    );
    assert_eq!(pods["unfinished_checksums"], 9);
    assert_eq!(
        (&pods["drops"]["other_mac"], &pods["dropped"]),
        (&json!(10), &json!(10))
    );
}

#[test]
fn counters_are_shown_as_tables() {
    let running = busy();
    let table = running.said(&["counters"]);
    assert_eq!(rows(&table, "received"), ["received 120"]);
    assert_eq!(rows(&table, "no_endpoint"), ["no_endpoint 11"]);
    assert!(table.contains("DEALT OUT"), "{table}");
    assert_eq!(rows(&table, "pods"), ["pods 50 0 0 0 9 0 10 0"]);
    let links = running.said(&["counters", "--links"]);
    assert!(links.contains("ON PODS"), "{links}");
    assert_eq!(rows(&links, "no_endpoint"), ["no_endpoint 11 11 0"]);
    assert_eq!(rows(&links, "received"), ["received 120 - -"]);
    assert!(!table.contains("tx_full"), "{table}");
    assert!(running.said(&["counters", "--all"]).contains("tx_full"));
    let workers = running.said(&["counters", "--workers"]);
    assert_eq!(rows(&workers, "received"), ["received 120 70 50 0"]);
    assert_eq!(rows(&workers, "flows_removed"), ["flows_removed 4 0 0 4"]);
    assert_eq!(rows(&workers, "other_mac"), ["other_mac 10 0 10 0"]);
    assert!(rows(&workers, "FRAMES AND FLOWS TOTAL WORKER 0 WORKER 1 MAIN").len() == 1);
}

#[test]
fn a_gateway_that_has_dropped_nothing_says_so() {
    let running = Running::new();
    let table = running.said(&["counters"]);
    assert_eq!(rows(&table, "none"), ["none"]);
    assert_eq!(
        rows(&table, "#1").len(),
        1,
        "a link without a description has a number: {table}"
    );
}

#[test]
fn links_are_described_and_their_troubles_explained() {
    let running = busy();
    let table = running.said(&["links"]);
    assert_eq!(
        rows(&table, "outside up"),
        [
            "outside up af_packet:outside net_af_packet 02:00:00:00:00:00 1500 - 10 Gbit/s 70 0 0 0 11"
        ]
    );
    assert_eq!(
        rows(&table, "pods down"),
        ["pods down af_packet:pods net_af_packet 02:00:00:00:00:01 1500 7 10 Gbit/s 50 0 0 0 19"]
    );
    assert_eq!(
        rows(&table, "pods 2"),
        ["pods 2 1024 2 512 no no 0 3 0 5"],
        "queues, and what went wrong at the device"
    );
    let notes = rows(&table, "pods:");
    assert_eq!(notes.len(), 5, "{notes:?}");
    assert_eq!(
        notes[0],
        "pods: offloads found: rx SCATTER; tx none; none is used"
    );
    assert!(
        notes[2].contains("9 first frames") && notes[2].contains("ethtool"),
        "{notes:?}"
    );

    let shown = running.json(&["links"]);
    let pods = &shown["links"][1];
    assert_eq!(
        (&pods["mac"], &pods["vlan"]),
        (&json!("02:00:00:00:00:01"), &json!(7))
    );
    assert_eq!(
        (&pods["up"], &pods["speed_mbps"]),
        (&json!(false), &json!(10_000))
    );
    assert_eq!(pods["notes"].as_array().map(Vec::len), Some(4));
    for (name, value) in [
        ("rx_queues", json!(2)),
        ("tx_descriptors", json!(512)),
        ("rss", json!(false)),
        ("rx_offloads_found", json!(["SCATTER"])),
        ("tx_offloads_used", json!([])),
        ("tx_errors", json!(3)),
        ("missed", json!(5)),
        ("mtu_asked", json!(1500)),
        ("interface_mtu", Value::Null),
    ] {
        assert_eq!(pods[name], value, "{name}");
    }
    assert_eq!(shown["links"][0]["notes"], json!([]));
}

#[test]
fn without_a_region_the_path_is_named() {
    let folder = Folder::new("");
    let path = folder.path("region");
    for command in ["services", "flows", "counters", "links"] {
        let said = complaint(&folder.run(&[command]), 1);
        assert!(
            said.contains(text(&path)) && said.contains("portgate-dataplane"),
            "{said}"
        );
    }
}

#[test]
fn a_file_that_is_no_region_is_wrong_configuration() {
    let folder = Folder::new("");
    let path = folder.write("region", &"Dear diary. ".repeat(100));
    let said = complaint(&folder.run(&["counters"]), 2);
    assert!(
        said.contains(text(&path)) && said.contains("no region"),
        "{said}"
    );
}

#[test]
fn a_data_plane_that_has_ended_is_told_from_a_running_one() {
    let running = Running::new();
    running.said(&["counters"]);
    // The heartbeat: line 2, word 2 of the header.
    let file = fs::File::options()
        .write(true)
        .open(running.folder.path("region"))
        .unwrap();
    let long_ago = hugepages::region::monotonic_nanos() - 60_000_000_000;
    file.write_all_at(&long_ago.to_ne_bytes(), 2 * 64 + 2 * 8)
        .unwrap();
    let said = complaint(&running.folder.run(&["counters"]), 1);
    let pid = std::process::id().to_string();
    for word in [
        "no data plane runs",
        text(&running.folder.path("region")),
        &pid,
    ] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let seconds = said.split("silent for ").nth(1);
    let seconds = seconds.and_then(|rest| rest.split(" s;").next()?.parse().ok());
    assert!(
        seconds.is_some_and(|seconds: u64| (60..600).contains(&seconds)),
        "{said}"
    );
}

#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let running = busy();
    for command in ["services", "flows", "counters", "links"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        running.region.beat();
        let output = Command::new(env!("CARGO_BIN_EXE_portgate"))
            .args([command, "--config", text(&running.folder.config)])
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
    }
}

#[test]
fn rates_are_what_has_grown_meanwhile() {
    let running = busy();
    running.region.beat();
    let folder = &running.folder;
    // Steadily, however long the command takes to look twice.
    let (shown, turns) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| folder.run(&["counters", "--interval", "1", "--json"]));
        let mut turns = 0;
        while !asked.is_finished() {
            running.region.beat();
            let received = engine::counters::Total::Received;
            running.counters(0).add(received, 5);
            running.counters(1).drop_many(engine::Reason::TxFull, 2);
            turns += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let shown = said(&asked.join().unwrap());
        (serde_json::from_str::<Value>(&shown).unwrap(), turns)
    });
    let rate = |value: &Value| value.as_f64().unwrap();
    let rates = &shown["rates"];
    // No more than was added, in a second or longer.
    let received = rate(&rates["totals"]["received"]);
    let most = f64::from(5 * turns);
    assert!(received > 0.0 && received <= most, "{received} of {most}");
    // Each look may come between the two additions of a turn.
    let dropped = rate(&rates["drops"]["tx_full"]);
    assert!(
        (dropped - received * 0.4).abs() <= 10.0,
        "{dropped} {received}"
    );
    assert_eq!(rates["totals"]["sent"], 0.0);
    assert_eq!(rates["workers"][1]["worker"], 1, "its number is no rate");
    let total = shown["totals"]["received"].as_u64().unwrap();
    assert!((121..=120 + 5 * turns as u64).contains(&total), "{total}");
    let table = running.said(&["services", "--interval", "0.1"]);
    assert!(table.contains("FRAMES/S"), "{table}");
}

#[test]
fn latency_shows_quantiles_and_a_curve_for_each_worker() {
    let running = busy();
    for nanos in [1_000, 2_000, 4_000, 1_000_000] {
        running.counters(0).note_time(nanos);
    }
    let shown = running.json(&["latency"]);
    let worker = &shown["workers"][0];
    assert_eq!(
        (&worker["worker"], &worker["count"]),
        (&json!(0), &json!(4))
    );
    let seconds = |name: &str| worker[name].as_f64().unwrap();
    assert!((1.8e-6..=2.4e-6).contains(&seconds("p50")), "{worker}");
    assert!((0.9e-3..=1.2e-3).contains(&seconds("max")), "{worker}");
    assert_eq!(worker["buckets"].as_array().unwrap().len(), 4);
    assert_eq!(shown["workers"][1]["p50"], Value::Null);
    assert_eq!(shown["commit"], Value::Null, "there is no control plane");
    let text = running.said(&["latency"]);
    assert!(text.contains("4 timed") && text.contains('█'), "{text}");
    assert!(text.contains("the control plane does not answer"), "{text}");
}

#[test]
fn top_shows_one_screen_and_wants_a_terminal_for_more() {
    let running = busy();
    running.region.beat();
    let screen = running.said(&["top", "--once", "--interval", "0.2"]);
    for words in [
        "default/mynginx:http",
        "no_endpoint",
        "worker 1",
        "outside",
        "of 2048",
    ] {
        assert!(screen.contains(words), "no {words:?} in\n{screen}");
    }
    let shown = running.json(&["top", "--interval", "0.2"]);
    assert_eq!(shown["flows"]["capacity"], 2048);
    assert_eq!(shown["workers"].as_array().unwrap().len(), 2);
    let wrong = complaint(&running.run(&["top"]), 2);
    assert!(wrong.contains("--once"), "{wrong}");
}

#[test]
fn a_trace_without_a_data_plane_that_answers_is_told_so() {
    let running = busy();
    let said = complaint(&running.run(&["trace"]), 1);
    assert!(said.contains("no data plane answers"), "{said}");
    let said = complaint(&running.run(&["trace", "--service", "nobody"]), 2);
    assert!(said.contains("no such service"), "{said}");
    let said = complaint(&running.run(&["trace", "--bytes", "3"]), 2);
    assert!(said.contains("bytes = 3: must be from 14"), "{said}");
}
