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
async fn proxy_health_is_bad_when_late_or_leaving_and_good_when_idle() {
    let health = healthy();
    let port = serve_on_loopback(serve::proxy(health.clone(), Metrics::new())).await;
    health.facts().updated = std::time::UNIX_EPOCH;
    assert_eq!(
        status(port, "/healthz").await,
        "200",
        "nothing queued for hours"
    );
    health.facts().node_leaving = true;
    assert_eq!(status(port, "/healthz").await, "503");
    assert!(
        ask(port, "GET /healthz")
            .await
            .contains("\"nodeEligible\":false")
    );
    assert_eq!(
        status(port, "/livez").await,
        "200",
        "liveness does not look at the node"
    );
    health.facts().node_leaving = false;
    health.facts().queued = Some(Instant::now());
    assert_eq!(
        status(port, "/healthz").await,
        "200",
        "an update may take its time"
    );
    health.facts().queued = Some(long_ago());
    assert_eq!(status(port, "/healthz").await, "503");
    assert_eq!(status(port, "/livez").await, "503");
}

#[tokio::test]
async fn a_service_with_ready_endpoints_is_healthy_under_any_path_and_method() {
    let health = healthy();
    let port = free_port().await;
    check(&health, port, 2);
    let mut open = OpenPorts::default();
    open.adapt(&health, &[LOCALHOST]).await;
    for request in ["GET /", "GET /healthz?x=1", "POST /any/thing"] {
        let answer = ask(port, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for part in [
            "content-type: application/json\r\n",
            "x-content-type-options: nosniff\r\n",
            "x-load-balancing-endpoint-weight: 2\r\n",
        ] {
            assert!(answer.contains(part), "{part} in {answer}");
        }
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
    check(&health, port, 2);
    health.facts().queued = Some(long_ago());
    let answer = ask(port, "GET /").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"serviceProxyHealthy\":false")
    );
}

#[tokio::test]
async fn a_changed_port_moves_its_listener_and_a_gone_service_closes_it() {
    let health = healthy();
    let (first, second) = (free_port().await, free_port().await);
    let mut open = OpenPorts::default();
    check(&health, first, 1);
    open.adapt(&health, &[LOCALHOST]).await;
    assert_eq!(status(first, "/").await, "200");
    check(&health, second, 1);
    open.adapt(&health, &[LOCALHOST]).await;
    assert_eq!(status(second, "/").await, "200");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(status(first, "/").await, "");
    health.facts().checks.clear();
    open.adapt(&health, &[LOCALHOST]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(status(second, "/").await, "");
}

#[tokio::test]
async fn a_port_that_is_taken_is_tried_again_and_hinders_no_other() {
    let health = healthy();
    let taken = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    check(&health, port, 1);
    let other = free_port().await;
    let name = ObjectName::new("shop", "other");
    let free = HealthCheck {
        port: other,
        local_endpoints: 1,
    };
    health.facts().checks.insert(name, free);
    let mut open = OpenPorts::default();
    open.adapt(&health, &[LOCALHOST]).await;
    assert_eq!(status(other, "/").await, "200");
    drop(taken);
    open.adapt(&health, &[LOCALHOST]).await;
    assert_eq!(status(port, "/").await, "200");
}
