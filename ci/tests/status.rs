//! The status page in a real browser, and who may see it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ci::gateway::Gateway;
use ci::topology::{CLIENT_V4, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{browser, curl, frames, wait};
use serde_json::json;

const PAGE: &str = "http://127.0.0.1:9102/";

/// A name that is markup, and would be a script if a page took it for such.
const HOSTILE: &str = "<img src=x onerror=\"document.title='taken over'\">";

/// Size of the picture in pixels.
const SIZE: (u32, u32) = (1280, 1240);

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
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

fn apply_hostile(net: &Topology) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": HOSTILE, "namespace": "default"},
        "spec": {"clusterIP": "100.68.9.9", "clusterIPs": ["100.68.9.9"],
                 "ports": [{"name": "</script>", "port": 80, "protocol": "TCP"}]},
    });
    net.manifests.write("hostile.json", &service.to_string());
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
    wait::until(
        "the hostile name is installed",
        Duration::from_secs(10),
        installed,
    );

    let shown = under_traffic(&net, || browser::document(&net.gateway, PAGE));
    let [pod, _] = net.pod_addresses(0);
    for part in [
        "generation",
        "as wanted",
        "default/mynginx:tcp-80 tcp",
        &format!("NodePort {}:{HTTP_NODE_PORT}", OUTSIDE[0]),
        &format!("{pod}:80 ("),
        "other_mac",
        "af_packet:outside",
        "network programming",
        "half within",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert!(shown.contains("<title>Portgate</title>"), "{shown}");
    assert!(
        !shown.contains("<img"),
        "markup was made of a name: {shown}"
    );
    assert!(shown.contains("&lt;img src=x onerror"), "{shown}");
    // A rate takes two answers: the page asked again by itself.
    let row = shown
        .split("<tr>")
        .find(|row| row.contains("mynginx:tcp-80"));
    let cells = row.expect("a row").matches("bit/s</td>").count();
    assert_eq!(cells, 1, "no rate in {row:?}");
    let history = shown.split("id=\"history\"").nth(1).expect("a drawing");
    let points = history
        .split("points=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    assert!(
        points.is_some_and(|points| points.contains(' ')),
        "{points:?}"
    );
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
    under_traffic(&net, || browser::picture(&net.gateway, PAGE, SIZE, &path));
    let picture = fs::read(&path).expect("a picture");
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
