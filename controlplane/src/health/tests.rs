use std::net::{IpAddr, Ipv4Addr};
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

async fn serve_on_loopback(app: Router) -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// The whole answer to a request; empty when nobody listens.
async fn ask(port: u16, request: &str) -> String {
    let Ok(mut stream) = TcpStream::connect((LOCALHOST, port)).await else {
        return String::new();
    };
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn status(port: u16, path: &str) -> String {
    let answer = ask(port, &format!("GET {path}")).await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
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
    let port = serve_on_loopback(serve::own(health.clone(), Metrics::new())).await;
    assert_eq!(status(port, "/readyz").await, "503");
    assert_eq!(status(port, "/livez").await, "200");
    health.facts().synced = true;
    assert_eq!(status(port, "/readyz").await, "503");
    health.facts().committed = true;
    assert_eq!(status(port, "/readyz").await, "200");
    health.facts().beat = long_ago();
    assert_eq!(
        status(port, "/livez").await,
        "503",
        "a main loop that hangs"
    );
}

#[tokio::test]
async fn s07_s08_a_synced_proxy_is_healthy_until_its_node_leaves_and_goes_on_living() {
    let health = healthy();
    let port = serve_on_loopback(serve::proxy(health.clone(), Metrics::new())).await;
    let body = |answer: String| -> serde_json::Value {
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    let answer = ask(port, "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let facts = body(answer);
    assert_eq!(facts["nodeEligible"], true);
    for time in ["lastUpdated", "currentTime"] {
        let text = facts[time].as_str().unwrap();
        assert!(crate::time::parse(text).is_some(), "{time}: {text}");
    }
    health.facts().node_leaving = true;
    let answer = ask(port, "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(body(answer)["nodeEligible"], false);
    assert_eq!(
        status(port, "/livez").await,
        "200",
        "liveness does not look at the node"
    );
}

#[tokio::test]
async fn s09_s10_a_late_update_is_unhealthy_and_idling_is_not() {
    let health = healthy();
    let metrics = Metrics::new();
    let port = serve_on_loopback(serve::proxy(health.clone(), metrics.clone())).await;
    health.facts().updated = std::time::UNIX_EPOCH;
    assert_eq!(
        status(port, "/healthz").await,
        "200",
        "nothing queued for hours"
    );
    health.facts().queued = Some(Instant::now());
    assert_eq!(
        status(port, "/healthz").await,
        "200",
        "an update may take its time"
    );
    // An update is for both families, so either of them is late when it is.
    health.facts().queued = Some(long_ago());
    assert_eq!(status(port, "/healthz").await, "503");
    assert_eq!(status(port, "/livez").await, "503");
    let text = metrics.render(Instant::now()).unwrap();
    for line in [
        "kubeproxy_proxy_healthz_total{code=\"200\"} 2\n",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 1\n",
        "kubeproxy_proxy_livez_total{code=\"503\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// Listeners on loopback that nobody hears of.
fn ports() -> OpenPorts {
    OpenPorts::new(Some(vec![LOCALHOST]), Recorder::silent(Metrics::new()))
}

#[tokio::test]
async fn s01_s02_s03_a_service_is_healthy_with_ready_endpoints_in_sync_under_any_path_and_method() {
    let health = healthy();
    let port = free_port().await;
    check(&health, port, 2);
    let mut open = ports();
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
        let answer = ask(port, request).await;
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
    let answer = ask(port, "GET /").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"localEndpoints\":0"));
    headers(&answer, 0);
    check(&health, port, 2);
    health.facts().queued = Some(long_ago());
    let answer = ask(port, "GET /").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"serviceProxyHealthy\":false")
    );
    headers(&answer, 2);
}

#[tokio::test]
async fn s04_a_changed_port_moves_its_listener_and_others_keep_theirs() {
    let health = healthy();
    let (first, second, other) = (free_port().await, free_port().await, free_port().await);
    let mut open = ports();
    check(&health, first, 1);
    other_check(&health, other);
    open.adapt(&health).await;
    assert_eq!(status(first, "/").await, "200");
    let mut kept = TcpStream::connect((LOCALHOST, other)).await.unwrap();
    check(&health, second, 1);
    open.adapt(&health).await;
    assert_eq!(status(second, "/").await, "200");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(status(first, "/").await, "");
    // A connection from before the change is answered: its listener was not touched.
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    health.facts().checks.clear();
    open.adapt(&health).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(status(second, "/").await, "");
}

#[tokio::test]
async fn s05_a_port_that_is_taken_is_tried_again_and_hinders_no_other() {
    let health = healthy();
    let taken = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    check(&health, port, 1);
    let other = free_port().await;
    other_check(&health, other);
    let mut open = ports();
    open.adapt(&health).await;
    assert_eq!(status(other, "/").await, "200");
    drop(taken);
    open.adapt(&health).await;
    assert_eq!(status(port, "/").await, "200");
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_leaves_the_others_alone() {
    let health = healthy();
    let taken = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    check(&health, port, 1);
    let other = IpAddr::from([127, 0, 0, 78]);
    let recorder = Recorder::silent(Metrics::new());
    let mut open = OpenPorts::new(Some(vec![other, LOCALHOST]), recorder);
    open.adapt(&health).await;
    let mut kept = TcpStream::connect((other, port)).await.unwrap();
    open.adapt(&health).await;
    drop(taken);
    open.adapt(&health).await;
    assert_eq!(status(port, "/").await, "200");
    kept.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn s06_only_the_given_addresses_are_listened_on() {
    let health = healthy();
    let port = free_port().await;
    check(&health, port, 1);
    let given = IpAddr::from([127, 0, 0, 77]);
    let mut open = OpenPorts::new(Some(vec![given]), Recorder::silent(Metrics::new()));
    open.adapt(&health).await;
    assert!(TcpStream::connect((given, port)).await.is_ok());
    assert_eq!(status(port, "/").await, "", "127.0.0.1 is not among them");
    let mut nowhere = OpenPorts::new(Some(Vec::new()), Recorder::silent(Metrics::new()));
    drop(open);
    nowhere.adapt(&health).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect((given, port)).await.is_err());
}
