//! Events against an API server that does what a test says, on loopback.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::correlate::{Correlator, MOST};
use super::write::event;
use super::{Occurrence, Recorder, Regarding};
use crate::health::Health;
use crate::health::node_ports;
use crate::metrics::Metrics;
use crate::model::ObjectName;
use crate::policy::HealthCheck;

const MINUTE: Duration = Duration::from_secs(60);

fn occurrence(name: &str) -> Occurrence {
    Occurrence {
        regarding: Regarding {
            kind: "Service",
            name: ObjectName::new("shop", name),
            uid: Some("77-88".into()),
        },
        is_warning: true,
        reason: "FailedToStartServiceHealthcheck",
        action: "Listen",
        note: "taken".into(),
        at: UNIX_EPOCH + Duration::from_micros(1_767_225_600_250_000),
    }
}

#[test]
fn an_event_says_what_happened_to_which_object() {
    let made = event(&occurrence("web"), 1, "edge-1");
    let expected = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "web.18867251fce0b280", "namespace": "shop"},
        "eventTime": "2026-01-01T00:00:00.250000Z",
        "reportingController": "portgate",
        "reportingInstance": "edge-1",
        "type": "Warning",
        "reason": "FailedToStartServiceHealthcheck",
        "action": "Listen",
        "note": "taken",
        "regarding": {"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web",
                      "uid": "77-88"},
    });
    assert_eq!(made, expected);
    let again = event(&occurrence("web"), 3, "edge-1");
    assert_eq!(
        again["series"],
        json!({"count": 3, "lastObservedTime": "2026-01-01T00:00:00.250000Z"})
    );
}

#[test]
fn an_event_about_a_node_is_in_the_default_namespace() {
    let mut about_node = occurrence("x");
    about_node.regarding = Regarding {
        kind: "Node",
        name: ObjectName::new("", "edge-1"),
        uid: Some("edge-1".into()),
    };
    about_node.is_warning = false;
    let made = event(&about_node, 1, "edge-1");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made["type"], "Normal");
    let about = json!({"apiVersion": "v1", "kind": "Node", "name": "edge-1", "uid": "edge-1"});
    assert_eq!(made["regarding"], about);
}

#[test]
fn nothing_in_an_event_is_longer_than_kubernetes_takes() {
    let mut long = occurrence(&format!("{}.{}", "a".repeat(235), "b".repeat(17)));
    long.note = "ä".repeat(2_000);
    let made = event(&long, 1, &"n".repeat(253));
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.len() <= 253 && !name.contains(".."), "{name}");
    assert!(made["note"].as_str().unwrap().len() <= 1_024);
    assert_eq!(made["reportingInstance"].as_str().unwrap().len(), 128);
}

#[test]
fn what_goes_on_is_told_at_once_and_then_every_half_hour_with_its_count() {
    let mut correlator = Correlator::default();
    let (start, web) = (Instant::now(), occurrence("web"));
    let mut told = Vec::new();
    for minute in 0..=70 {
        let now = start + minute * MINUTE;
        if let Some(count) = correlator.occurred(&web, now) {
            told.push((minute, count));
            correlator.told(&web, now);
        }
    }
    assert_eq!(told, [(0, 1), (30, 31), (60, 61)]);
    // Another one is another one, and after a silence the first is a first again.
    let later = start + 71 * MINUTE;
    assert_eq!(correlator.occurred(&occurrence("db"), later), Some(1));
    assert_eq!(correlator.occurred(&web, start + 80 * MINUTE), Some(1));
}

#[test]
fn what_could_not_be_written_is_due_the_next_time() {
    let mut correlator = Correlator::default();
    let (start, web) = (Instant::now(), occurrence("web"));
    assert_eq!(correlator.occurred(&web, start), Some(1));
    assert_eq!(correlator.occurred(&web, start + MINUTE), Some(2));
    correlator.told(&web, start + MINUTE);
    assert_eq!(correlator.occurred(&web, start + 2 * MINUTE), None);
}

#[test]
fn one_object_gets_25_events_in_a_row_and_earns_more_slowly() {
    let mut correlator = Correlator::default();
    let start = Instant::now();
    let reasons: Vec<&'static str> = (0..40).map(|n| &*format!("Reason{n}").leak()).collect();
    let mut told = |minute: u32| {
        let mut count = 0;
        for reason in &reasons {
            let mut one = occurrence("web");
            one.reason = reason;
            let now = start + minute * MINUTE;
            if correlator.occurred(&one, now).is_some() {
                correlator.told(&one, now);
                count += 1;
            }
        }
        count
    };
    assert_eq!(told(0), 25);
    assert_eq!(told(4), 0, "those that were told are told, the others wait");
    assert_eq!(told(5), 1);
}

#[test]
fn no_flood_makes_the_memory_grow() {
    let mut correlator = Correlator::default();
    let start = Instant::now();
    let tell = |correlator: &mut Correlator, number: usize, now| {
        let one = occurrence(&format!("s{number}"));
        let due = correlator.occurred(&one, now).is_some();
        if due {
            correlator.told(&one, now);
        }
        due
    };
    let told = (0..MOST + 100).filter(|number| tell(&mut correlator, *number, start));
    assert_eq!(told.count(), MOST);
    assert!(
        tell(&mut correlator, MOST + 1, start + 30 * MINUTE),
        "the others are over"
    );
}

/// Events that the server was given, and how it answers.
struct Server {
    status: u16,
    seen: Vec<(String, Value)>,
}

type Shared = Arc<Mutex<Server>>;

async fn serve(State(server): State<Shared>, method: Method, uri: Uri, body: String) -> Response {
    let mut server = server.lock().unwrap();
    let body = serde_json::from_str(&body).unwrap();
    server.seen.push((format!("{method} {}", uri.path()), body));
    let answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
                        "message": "as the test says", "code": server.status});
    Response::builder()
        .status(server.status)
        .body(Body::from(answer.to_string()))
        .unwrap()
}

async fn recorder(status: u16) -> (Shared, Recorder, Metrics) {
    let server = Arc::new(Mutex::new(Server {
        status,
        seen: Vec::new(),
    }));
    let app = Router::new()
        .fallback(serve)
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let metrics = Metrics::new();
    let recorder = Recorder::spawn(client, "edge-1".into(), metrics.clone());
    (server, recorder, metrics)
}

/// Waits until so many were treated so.
async fn counted(metrics: &Metrics, result: &str, number: usize) {
    let line = format!("portgate_controlplane_events_total{{result=\"{result}\"}} {number}\n");
    for _ in 0..500 {
        if metrics.render(Instant::now()).unwrap().contains(&line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never {line}");
}

#[tokio::test]
async fn s05_a_health_port_that_cannot_be_bound_is_told_in_a_warning_on_the_service() {
    let (server, recorder, metrics) = recorder(201).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let health = Health::new();
    let check = HealthCheck {
        port: taken.local_addr().unwrap().port(),
        local_endpoints: 1,
        uid: Some("77-88".into()),
    };
    let name = ObjectName::new("shop", "web");
    health.facts().checks.insert(name, check);
    let task = tokio::spawn(node_ports::run(
        health,
        Some(vec!["127.0.0.1".parse().unwrap()]),
        recorder,
    ));
    counted(&metrics, "created", 1).await;
    // It is tried again twice a second, and told again in a minute at the earliest.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    task.abort();
    let seen = std::mem::take(&mut server.lock().unwrap().seen);
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (request, event) = &seen[0];
    assert_eq!(
        request,
        "POST /apis/events.k8s.io/v1/namespaces/shop/events"
    );
    assert_eq!(event["reason"], "FailedToStartServiceHealthcheck");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["uid"], "77-88");
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("in use"), "{note}");
}

#[tokio::test]
async fn the_same_again_is_counted_and_not_written() {
    let (server, recorder, metrics) = recorder(201).await;
    for _ in 0..10 {
        recorder.record(occurrence("web"));
    }
    counted(&metrics, "aggregated", 9).await;
    assert_eq!(server.lock().unwrap().seen.len(), 1);
}

#[tokio::test]
async fn without_permission_the_server_is_left_alone() {
    let (server, recorder, metrics) = recorder(403).await;
    for number in 0..10 {
        recorder.record(occurrence(&format!("s{number}")));
    }
    counted(&metrics, "denied", 10).await;
    assert_eq!(server.lock().unwrap().seen.len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_when_it_happens_again() {
    let (server, recorder, metrics) = recorder(500).await;
    recorder.record(occurrence("web"));
    counted(&metrics, "failed", 1).await;
    server.lock().unwrap().status = 201;
    recorder.record(occurrence("web"));
    counted(&metrics, "created", 1).await;
    let seen = &server.lock().unwrap().seen;
    assert_eq!(seen[1].1["series"]["count"], 2);
}

#[tokio::test]
async fn telling_never_waits_for_the_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Connections are taken in by the kernel, and nobody ever answers.
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let metrics = Metrics::new();
    let client = kube::Client::try_from(config).unwrap();
    let recorder = Recorder::spawn(client, "edge-1".into(), metrics.clone());
    for number in 0..1_000 {
        recorder.record(occurrence(&format!("s{number}")));
    }
    let text = metrics.render(Instant::now()).unwrap();
    assert!(
        text.contains("events_total{result=\"dropped\"} 7"),
        "{text}"
    );
    drop(listener);
}

#[tokio::test]
async fn without_an_api_server_nobody_is_told() {
    let metrics = Metrics::new();
    Recorder::silent(metrics.clone()).record(occurrence("web"));
    let text = metrics.render(Instant::now()).unwrap();
    assert!(!text.contains("events_total{"), "{text}");
}
