use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::node_ports::OpenPorts;
use super::{Health, serve};
use crate::metrics::Metrics;
use crate::model::ObjectName;
use crate::policy::HealthCheck;
use crate::recorder::Recorder;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Health ports, at addresses that nobody else uses.
const PORTS: [u16; 3] = [9201, 9202, 9203];

/// A process that has installed everything.
fn healthy() -> Health {
    let health = Health::new();
    let mut facts = health.facts();
    (facts.synced, facts.committed) = (true, true);
    drop(facts);
    health
}

fn long_ago() -> Instant {
    Instant::now().checked_sub(Duration::from_secs(61)).unwrap()
}

async fn serve_on_loopback(app: Router) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let own = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    own
}

/// The whole answer to a request; empty when nobody listens.
async fn ask(to: SocketAddr, request: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(to).await else {
        return String::new();
    };
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn status(to: SocketAddr, path: &str) -> String {
    let answer = ask(to, &format!("GET {path}")).await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A loopback address that nobody else uses: of this process, and of this call. All its ports are free.
fn own_address() -> IpAddr {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    // The second byte is that of no other test.
    IpAddr::from([127, 128 + high % 64, low, call])
}

fn check(health: &Health, port: u16, local_endpoints: usize) {
    let name = ObjectName::new("shop", "web");
    let check = HealthCheck {
        port,
        local_endpoints,
        uid: None,
    };
    health.facts().checks.insert(name, check);
}

/// Another service with an endpoint.
fn other_check(health: &Health, port: u16) {
    let name = ObjectName::new("shop", "other");
    let check = HealthCheck {
        port,
        local_endpoints: 1,
        uid: None,
    };
    health.facts().checks.insert(name, check);
}

#[tokio::test]
async fn ready_means_listed_and_installed() {
    let health = Health::new();
    let own = serve_on_loopback(serve::own(health.clone(), Metrics::new())).await;
    assert_eq!(status(own, "/readyz").await, "503");
    assert_eq!(status(own, "/livez").await, "200");
    health.facts().synced = true;
    assert_eq!(status(own, "/readyz").await, "503");
    health.facts().committed = true;
    assert_eq!(status(own, "/readyz").await, "200");
    health.facts().beat = long_ago();
    assert_eq!(status(own, "/livez").await, "503", "a main loop that hangs");
}

#[tokio::test]
async fn s07_s08_a_synced_proxy_is_healthy_until_its_node_leaves_and_goes_on_living() {
    let health = healthy();
    let own = serve_on_loopback(serve::proxy(health.clone(), Metrics::new())).await;
    let body = |answer: String| -> serde_json::Value {
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    let answer = ask(own, "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let facts = body(answer);
    assert_eq!(facts["nodeEligible"], true);
    for time in ["lastUpdated", "currentTime"] {
        let text = facts[time].as_str().unwrap();
        assert!(crate::time::parse(text).is_some(), "{time}: {text}");
    }
    health.facts().node_leaving = true;
    let answer = ask(own, "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(body(answer)["nodeEligible"], false);
    assert_eq!(
        status(own, "/livez").await,
        "200",
        "liveness does not look at the node"
    );
}

#[tokio::test]
async fn s09_s10_a_late_update_is_unhealthy_and_idling_is_not() {
    let health = healthy();
    let metrics = Metrics::new();
    let own = serve_on_loopback(serve::proxy(health.clone(), metrics.clone())).await;
    health.facts().updated = std::time::UNIX_EPOCH;
    assert_eq!(
        status(own, "/healthz").await,
        "200",
        "nothing queued for hours"
    );
    health.facts().queued = Some(Instant::now());
    assert_eq!(
        status(own, "/healthz").await,
        "200",
        "an update may take its time"
    );
    // An update is for both families, so either of them is late when it is.
    health.facts().queued = Some(long_ago());
    assert_eq!(status(own, "/healthz").await, "503");
    assert_eq!(status(own, "/livez").await, "503");
    let text = metrics.render(Instant::now()).unwrap();
    for line in [
        "kubeproxy_proxy_healthz_total{code=\"200\"} 2\n",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 1\n",
        "kubeproxy_proxy_livez_total{code=\"503\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// Listeners at these addresses that nobody hears of.
fn ports(addresses: &[IpAddr]) -> OpenPorts {
    OpenPorts::new(Some(addresses.to_vec()), Recorder::silent(Metrics::new()))
}

#[tokio::test]
async fn s01_s02_s03_a_service_is_healthy_with_ready_endpoints_in_sync_under_any_path_and_method() {
    let health = healthy();
    let own = SocketAddr::new(own_address(), PORTS[0]);
    let port = own.port();
    check(&health, port, 2);
    let mut open = ports(&[own.ip()]);
    open.adapt(&health).await;
    let headers = |answer: &str, weight: usize| {
        for part in [
            "content-type: application/json\r\n",
            "x-content-type-options: nosniff\r\n",
            &format!("x-load-balancing-endpoint-weight: {weight}\r\n"),
        ] {
            assert!(answer.contains(part), "{part} in {answer}");
        }
    };
    for request in ["GET /", "GET /healthz?x=1", "POST /any/thing"] {
        let answer = ask(own, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        headers(&answer, 2);
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let expected = serde_json::json!({
            "service": {"namespace": "shop", "name": "web"},
            "localEndpoints": 2,
            "serviceProxyHealthy": true,
        });
        assert_eq!(body, expected);
    }
    check(&health, port, 0);
    let answer = ask(own, "GET /").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"localEndpoints\":0"));
    headers(&answer, 0);
    check(&health, port, 2);
    health.facts().queued = Some(long_ago());
    let answer = ask(own, "GET /").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"serviceProxyHealthy\":false")
    );
    headers(&answer, 2);
}

#[tokio::test]
async fn s04_a_changed_port_moves_its_listener_and_others_keep_theirs() {
    let health = healthy();
    let own = own_address();
    let [first, second, other] = PORTS.map(|port| SocketAddr::new(own, port));
    let mut open = ports(&[own]);
    check(&health, first.port(), 1);
    other_check(&health, other.port());
    open.adapt(&health).await;
    assert_eq!(status(first, "/").await, "200");
    let mut kept = TcpStream::connect(other).await.unwrap();
    check(&health, second.port(), 1);
    open.adapt(&health).await;
    assert_eq!(status(second, "/").await, "200");
    closed(first).await;
    // A connection from before the change is answered: its listener was not touched.
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    health.facts().checks.clear();
    open.adapt(&health).await;
    closed(second).await;
}

/// Waits until nobody listens there any more: a listener ends with its task.
async fn closed(at: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(at).await.is_ok() {
        assert!(Instant::now() < end, "somebody still listens at {at}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn s05_a_port_that_is_taken_is_tried_again_and_hinders_no_other() {
    let health = healthy();
    let own = own_address();
    let [one, other, _] = PORTS.map(|port| SocketAddr::new(own, port));
    let taken = TcpListener::bind(one).await.unwrap();
    check(&health, one.port(), 1);
    other_check(&health, other.port());
    let mut open = ports(&[own]);
    open.adapt(&health).await;
    assert_eq!(status(other, "/").await, "200");
    drop(taken);
    open.adapt(&health).await;
    assert_eq!(status(one, "/").await, "200");
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_leaves_the_others_alone() {
    let health = healthy();
    let port = PORTS[0];
    let [one, other] = [(); 2].map(|()| SocketAddr::new(own_address(), port));
    let taken = TcpListener::bind(one).await.unwrap();
    check(&health, port, 1);
    let mut open = ports(&[other.ip(), one.ip()]);
    open.adapt(&health).await;
    let mut kept = TcpStream::connect(other).await.unwrap();
    open.adapt(&health).await;
    drop(taken);
    open.adapt(&health).await;
    assert_eq!(status(one, "/").await, "200");
    kept.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn s06_only_the_given_addresses_are_listened_on() {
    let health = healthy();
    let port = PORTS[0];
    check(&health, port, 1);
    let [given, another] = [(); 2].map(|()| SocketAddr::new(own_address(), port));
    let mut open = ports(&[given.ip()]);
    open.adapt(&health).await;
    assert!(TcpStream::connect(given).await.is_ok());
    assert_eq!(status(another, "/").await, "", "it is not among them");
    let mut nowhere = ports(&[]);
    drop(open);
    nowhere.adapt(&health).await;
    closed(given).await;
}
