//! The status page in a real browser, and who may see it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ci::browser::Browser;
use ci::gateway::Gateway;
use ci::over::Over;
use ci::topology::{CLIENT_V4, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, frames, wait};
use serde_json::json;

const PAGE: &str = "http://127.0.0.1:9102/";

/// Names that are markup, the second a script as well if a page took it for such.
const HOSTILE: [&str; 2] = ["<marquee>", "<img/src=x/onerror=document.title='taken'>"];

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the page says when a person has looked for one service.
const FOUND: &str = "3 of 4 service ports match";

/// Time in which the page asks at least three times.
const WORKING: Duration = Duration::from_secs(7);

/// Size of the window, and of the picture, in pixels.
const SIZE: (u32, u32) = (1280, 1400);

/// Does `work` while a client fetches pages and strays are dropped.
fn under_traffic<T>(net: &Topology, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let wire = ci::capture::Capture::on(&net.client, "eth0");
            let client = net.client.mac("eth0");
            let (kind, packet) = frames::udp((CLIENT_V4[0], 4444), (OUTSIDE[0], 7), b"stray");
            // Relaxed: the flag carries no data.
            while !over.load(Ordering::Relaxed) {
                let _ = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT));
                wire.send(&frames::ethernet([2, 0, 0, 0, 0, 9], client, kind, &packet));
                thread::sleep(Duration::from_millis(20));
            }
        });
        let _over = Over(&over);
        work()
    })
}

fn apply_hostile(net: &Topology) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": HOSTILE[0], "namespace": "default"},
        "spec": {"clusterIP": "100.68.9.9", "clusterIPs": ["100.68.9.9"],
                 "ports": [{"name": HOSTILE[1], "port": 80, "protocol": "TCP"}]},
    });
    net.manifests.write("hostile.json", &service.to_string());
}

/// Replaces the endpoints of the Service `changing`, and says when, as the endpoint slice controller does.
fn change_endpoints(net: &Topology, turn: u8) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "changing", "namespace": "default"},
        "spec": {"clusterIP": "100.68.9.8", "clusterIPs": ["100.68.9.8"], "ports": [{"port": 80}]},
    });
    net.manifests.write("changing.json", &service.to_string());
    let now = Command::new("date").args(["-u", "+%FT%T.%6NZ"]).output();
    let now = String::from_utf8(now.expect("date runs").stdout).expect("a time");
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": "changing-x", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "changing"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": now.trim()},
        },
        "endpoints": [{"addresses": [format!("100.96.2.{}", 100 + turn)]}],
        "ports": [{"port": 8080}],
    });
    net.manifests
        .write("changing-slice.json", &slice.to_string());
}

#[test]
fn a_browser_shows_services_rates_drops_and_latency_and_takes_no_name_for_markup() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    apply_hostile(&net);
    let gateway = net.start_gateway();
    let services = || gateway.portgate(&["services", "--json"]);
    let installed = || services().contains("onerror").then_some(());
    wait::until("the hostile name is installed", PATIENCE, installed);

    let [pod, _] = net.pod_addresses(0);
    let parts = [
        "generation",
        "as wanted",
        "default/mynginx:tcp-80 tcp",
        &format!("NodePort {}:{HTTP_NODE_PORT}", OUTSIDE[0]),
        &format!("{pod}:80 ("),
        "other_mac",
        "af_packet:outside",
        "network programming",
        "worker 0: ",
        "half within",
    ];
    let (shown, title, found) = under_traffic(&net, || {
        let mut browser = Browser::open(&net.gateway, PAGE, SIZE);
        let shown = document(&mut browser, |shown| {
            let has_points = history(shown).is_some_and(|points| points.contains(' '));
            parts.iter().all(|part| shown.contains(part)) && rates(shown) == 1 && has_points
        });
        let title = browser.evaluate("document.title");
        // A person looks for one service.
        browser.evaluate(
            "document.getElementById('filter').value = 'mynginx'; \
             document.getElementById('filter').dispatchEvent(new Event('input'))",
        );
        let found = document(&mut browser, |found| found.contains(FOUND));
        (shown, title, found)
    });
    for part in parts {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert_eq!(title, "Portgate", "{shown}");
    for markup in ["<img", "<marquee"] {
        assert!(
            !shown.contains(markup),
            "markup was made of a name: {shown}"
        );
    }
    for text in ["&lt;marquee&gt;", "&lt;img/src=x/onerror"] {
        assert!(shown.contains(text), "{text} is not in {shown}");
    }
    // A rate takes two answers: the page asked again by itself.
    assert_eq!(rates(&shown), 1, "{shown}");
    let points = history(&shown);
    assert!(
        points.is_some_and(|points| points.contains(' ')),
        "{points:?}"
    );
    assert!(
        found.contains(FOUND) && !found.contains("onerror"),
        "{found}"
    );
}

/// The page as soon as it is as it should be, or as it is when it has had its time.
fn document(browser: &mut Browser, is_right: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = browser.document();
        if is_right(&shown) || Instant::now() > end {
            return shown;
        }
        thread::sleep(WORKING / 20);
    }
}

/// Rates in the row of the Service's HTTP port.
fn rates(shown: &str) -> usize {
    let mut rows = shown.split("<tr>");
    let row = rows.find(|row| row.contains("mynginx:tcp-80"));
    row.map_or(0, |row| row.matches("bit/s</td>").count())
}

/// The points of the curve.
fn history(shown: &str) -> Option<&str> {
    let drawing = shown.split("id=\"history\"").nth(1)?;
    drawing.split("points=\"").nth(1)?.split('"').next()
}

/// With `KEEP_PICTURE=1` it is kept in the docs, for people to look at.
#[test]
fn a_picture_of_the_page_can_be_taken() {
    let net = Topology::new(Plan::default());
    let _servers = [0, 1].map(|index| net.start_nginx(index));
    net.apply(&[0, 1]);
    let _gateway = net.start_gateway();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring/status.png");
    let path = match std::env::var_os("KEEP_PICTURE") {
        Some(_) => docs,
        None => net.directory().join("status.png"),
    };
    let picture = under_traffic(&net, || {
        let mut browser = Browser::open(&net.gateway, PAGE, SIZE);
        // Changes of endpoints, so that there are latencies to draw.
        for turn in 0..30 {
            change_endpoints(&net, turn);
            thread::sleep(WORKING / 10);
        }
        browser.picture()
    });
    fs::write(&path, &picture).expect("written");
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
    let side = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((side(16), side(20)), SIZE);
    assert!(
        picture.len() > 20_000,
        "an empty page: {} bytes",
        picture.len()
    );
}

#[test]
fn the_page_is_for_this_host_alone_until_a_setting_opens_it() {
    for (setting, expected) in [("", "403"), ("[status]\npage = \"anywhere\"\n", "200")] {
        let net = Topology::new(Plan::default());
        net.apply(&[0]);
        // An address of the host that is not loopback: who comes from there may be anybody.
        let near = "192.0.2.1";
        net.gateway.ip(&format!("addr add {near}/32 dev lo"));
        let text = net
            .configuration()
            .replace("127.0.0.1:9102", "0.0.0.0:9102")
            + setting;
        let _gateway = Gateway::start(&net.gateway, &text, net.directory());
        let status = |address: &str, path: &str| {
            let to: SocketAddr = format!("{address}:9102").parse().expect("an address");
            let mut command = net.gateway.command("curl");
            command.args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--interface",
                address,
            ]);
            let output = command.arg(format!("http://{to}{path}")).output();
            String::from_utf8_lossy(&output.expect("curl runs").stdout).into_owned()
        };
        assert_eq!(status("127.0.0.1", "/"), "200");
        assert_eq!(status(near, "/"), expected, "{setting}");
        assert_eq!(status(near, "/status.json"), expected, "{setting}");
        assert_eq!(status(near, "/metrics"), "200");
    }
}
