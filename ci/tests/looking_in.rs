//! `portgate latency`, `top` and rates on a running gateway that carries traffic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ci::gateway::{Gateway, binary};
use ci::terminal::Terminal;
use ci::topology::{HTTP, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What a command says while a client fetches one page after the other.
fn under_load(net: &Topology, gateway: &Gateway<'_>, arguments: &[&str]) -> String {
    let (said, pages) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| gateway.portgate(arguments));
        let mut pages = 0;
        while !asked.is_finished() {
            curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
            pages += 1;
        }
        (asked.join().expect("the command ends"), pages)
    });
    assert!(pages > 0, "nothing was fetched meanwhile");
    said
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn named<'a>(list: &'a Value, key: &str, start: &str) -> &'a Value {
    let all = list.as_array().into_iter().flatten();
    let mut found = all.filter(|each| {
        each[key]
            .as_str()
            .is_some_and(|name| name.starts_with(start))
    });
    found
        .next()
        .unwrap_or_else(|| panic!("no {start} in {list}"))
}

/// The Service's port that nginx answers at.
const PORT: &str = "tcp-80";

/// Fetches a page; which pod has answered.
fn fetch(net: &Topology) -> usize {
    let page = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT)).expect("a page");
    let number = page.trim_end().strip_prefix("pod-").map(str::parse);
    number
        .and_then(Result::ok)
        .unwrap_or_else(|| panic!("{page}"))
}

/// A counter of the endpoint at `address`, as `portgate services --endpoints` shows it.
fn of_endpoint(gateway: &Gateway<'_>, address: &str, name: &str) -> u64 {
    let shown = gateway.portgate_json(&["services", "--endpoints"]);
    let service = named(&shown["services"], "port_name", PORT);
    let endpoint = named(&service["endpoints"], "endpoint", address);
    endpoint["counters"][name].as_u64().expect("a number")
}

#[test]
fn each_endpoint_has_the_requests_that_it_answered_also_after_a_restart() {
    let net = Topology::new(Plan::default());
    let _servers = [0, 1].map(|index| net.start_nginx(index));
    net.apply(&[0, 1]);
    let mut gateway = net.start_gateway();
    let mut answered = [0_u64; 2];
    for _ in 0..12 {
        answered[fetch(&net)] += 1;
    }
    let addresses =
        [0, 1].map(|index| SocketAddr::new(net.pod_addresses(index)[0], HTTP).to_string());
    let flows = |gateway: &Gateway<'_>| {
        let of = |address: &String| of_endpoint(gateway, address, "flows");
        [of(&addresses[0]), of(&addresses[1])]
    };
    assert_eq!(flows(&gateway), answered);
    let frames = of_endpoint(&gateway, &addresses[0], "frames");
    assert!(frames >= 6 * answered[0], "{frames} frames, {answered:?}");
    let whole = gateway.portgate_json(&["services"]);
    let whole = named(&whole["services"], "port_name", PORT);
    assert_eq!(whole["counters"]["flows"], 12);
    let metrics = curl::get(&net.gateway, "http://127.0.0.1:9102/metrics").expect("metrics");
    let line = format!(
        "portgate_endpoint_flows_total{{namespace=\"default\",service=\"mynginx\",port=\"{PORT}\",protocol=\"tcp\",endpoint=\"{}\"}} {}",
        addresses[1], answered[1]
    );
    assert!(
        metrics.lines().any(|shown| shown == line),
        "no {line} in {metrics}"
    );

    gateway.dataplane.kill9();
    gateway.restart_dataplane();
    answered[fetch(&net)] += 1;
    assert_eq!(flows(&gateway), answered, "counters outlive the process");
}

#[test]
fn rates_loads_and_times_show_the_traffic_there_is() {
    let net = Topology::new(Plan::default());
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let begun = Instant::now();
    let gateway = net.start_gateway();
    let above = |value: &Value| value.as_f64().is_some_and(|number| number > 0.0);

    let top = json(&under_load(
        &net,
        &gateway,
        &["top", "--json", "--interval", "1"],
    ));
    let service = named(&top["services"], "name", "default/mynginx");
    for name in ["frames", "bytes", "flows"] {
        assert!(above(&service[name]), "{name} of {service}");
    }
    assert!(
        above(&named(&top["links"], "name", "outside")["rx_frames"]),
        "{top}"
    );
    assert!(above(&top["flows"]["open"]), "{top}");
    let screen = under_load(&net, &gateway, &["top", "--once", "--interval", "1"]);
    for words in ["default/mynginx", "worker 0", "outside", "pods", "of 81920"] {
        assert!(screen.contains(words), "no {words:?} in\n{screen}");
    }

    let counters = json(&under_load(
        &net,
        &gateway,
        &["counters", "--json", "--interval", "1"],
    ));
    assert!(
        above(&counters["rates"]["totals"]["received"]),
        "{counters}"
    );
    let services = json(&under_load(
        &net,
        &gateway,
        &["services", "--json", "--interval", "1"],
    ));
    let service = named(&services["services"], "service", "default/mynginx");
    assert!(service["rates"]["frames"].is_number(), "{service}");

    // One burst in 64 is timed.
    let latency = wait::until("a burst is timed", Duration::from_secs(20), || {
        let shown = json(&under_load(&net, &gateway, &["latency", "--json"]));
        above(&shown["workers"][0]["count"]).then_some(shown)
    });
    let worker = &latency["workers"][0];
    let longest = worker["max"].as_f64().expect("a time");
    assert!(
        longest > 0.0 && longest < begun.elapsed().as_secs_f64(),
        "{worker}"
    );
    assert!(above(&latency["commit"]["count"]), "{latency}");
    assert!(above(&latency["commit"]["p50"]), "{latency}");
    let text = gateway.portgate(&["latency"]);
    assert!(
        text.contains("Worker 0: bursts") && text.contains('█'),
        "{text}"
    );
    let service = [
        "trace",
        "--service",
        "mynginx",
        "--limit",
        "3",
        "--seconds",
        "20",
    ];
    let trace = under_load(&net, &gateway, &service);
    assert!(
        trace.contains("decided     no flow; default/mynginx"),
        "{trace}"
    );
    assert!(
        trace.contains("3 frames; as many frames as were asked for"),
        "{trace}"
    );
    if let Some(folder) = std::env::var_os("PORTGATE_PICTURES") {
        let folder = std::path::PathBuf::from(folder);
        for (name, text) in [("top", &screen), ("latency", &text), ("trace", &trace)] {
            std::fs::write(folder.join(name), text).expect("the picture is written");
        }
    }
}

#[test]
fn top_follows_keys_and_the_size_of_its_terminal_and_leaves_it_as_it_was() {
    let net = Topology::new(Plan::default());
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let command = format!(
        "{} top --interval 0.2 --config {}",
        binary("portgate").display(),
        gateway.configuration().display()
    );
    // The upper border of the first box, as wide as the screen.
    let border =
        |columns: usize| format!("┌Flows{}┐", "─".repeat(columns - "┌Flows┐".chars().count()));
    for key in ["q", "\u{1b}", "\u{3}"] {
        let mut terminal = Terminal::start(&net.gateway, &command, (100, 36));
        terminal.wait("a screen with services", |text| {
            text.contains(&border(100)) && text.contains("default/mynginx")
        });
        terminal.resize(70, 30);
        terminal.wait("a narrower screen", |text| text.contains(&border(70)));
        terminal.press(b"x");
        terminal.press(key.as_bytes());
        expect_as_it_was(&terminal, &format!("{key:?}"), 0);
    }
}

#[test]
fn top_leaves_its_terminal_as_it_was_when_a_signal_ends_it() {
    let net = Topology::new(Plan::default());
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let command = format!(
        "sh -c 'echo \"is $$.\"; exec {} top --config {}'",
        binary("portgate").display(),
        gateway.configuration().display()
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let terminal = Terminal::start(&net.gateway, &command, (100, 36));
        let text = terminal.wait("a screen", |text| text.contains("Flows"));
        let id = text
            .split_once("is ")
            .and_then(|(_, rest)| rest.split_once('.'));
        let id = id
            .and_then(|(id, _)| id.parse().ok())
            .expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it runs");
        // Whoever waits for it is told of the signal, too.
        expect_as_it_was(&terminal, signal.as_str(), 128 + signal as i32);
    }
}

#[test]
fn links_are_told_as_they_are_from_the_first_answer_on() {
    let net = Topology::new(Plan::default());
    net.apply(&[0]);
    for _ in 0..5 {
        // The carrier is back in the same moment in which the gateway starts.
        for interface in ["outside", "pods"] {
            net.gateway.ip(&format!("link set {interface} down"));
            net.gateway.ip(&format!("link set {interface} up"));
        }
        let gateway = net.start_gateway();
        let links = json(&gateway.portgate(&["links", "--json"]));
        for name in ["outside", "pods"] {
            let link = named(&links["links"], "name", name);
            assert_eq!(link["up"], true, "{link}");
        }
    }
}

/// The command has ended with this status, another screen with it, and the cursor and the terminal's settings are as
/// before.
fn expect_as_it_was(terminal: &Terminal, ended_by: &str, status: i32) {
    let text = terminal.wait("the end", |text| text.contains("isig"));
    let (screen, after) = text.rsplit_once("ended ").expect("an exit status");
    let is_so = after.starts_with(&format!("{status}\r\n"));
    assert!(is_so, "after {ended_by}: {after}");
    for (setting, off) in [("icanon", "-icanon"), ("echo", "-echo "), ("isig", "-isig")] {
        let is_on = after.contains(setting) && !after.contains(off);
        assert!(is_on, "after {ended_by}: {after}");
    }
    let [begun, ended, shown] = ["[?1049h", "[?1049l", "[?25h"].map(|code| screen.rfind(code));
    assert!(
        begun.is_some() && begun < ended && shown > begun,
        "after {ended_by}: {screen:?}"
    );
}
