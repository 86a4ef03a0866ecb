//! The source against an API server that does what a test says, on loopback.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};

use super::watch::Timing;
use super::{selector, start};
use crate::model::{ClusterObject, ObjectKind};
use crate::source::{Change, SourceEvent};

const TIMING: Timing = Timing {
    start: Duration::from_millis(300),
    page: Duration::from_millis(300),
    watch: Duration::from_secs(1),
    margin: Duration::from_millis(100),
    pause: (Duration::from_millis(10), Duration::from_millis(80)),
    denied: Duration::from_millis(50),
};

/// What the server does with the next request for services.
#[derive(Debug, Clone)]
enum Act {
    /// Answers with this status and body.
    Say(u16, Value),
    /// Answers with these lines and ends.
    Lines(Vec<Value>),
    /// Answers with these lines and says nothing more.
    Hang(Vec<Value>),
    /// Accepts and says nothing at all.
    Silence,
}

#[derive(Debug, Default)]
struct Script {
    acts: VecDeque<Act>,
    /// The same for ServiceCIDRs; there are none if nothing is said.
    networks: VecDeque<Act>,
    /// Requests for services: path and query, and when.
    seen: Vec<(String, Instant)>,
}

type Shared = Arc<Mutex<Script>>;

async fn serve(State(script): State<Shared>, uri: Uri) -> Response {
    let act = if uri.path() == "/api/v1/services" {
        let mut script = script.lock().unwrap();
        script.seen.push((uri.to_string(), Instant::now()));
        script.acts.pop_front().unwrap_or(Act::Silence)
    } else if uri.path().ends_with("/servicecidrs")
        && let Some(act) = script.lock().unwrap().networks.pop_front()
    {
        act
    } else if uri
        .query()
        .is_some_and(|query| query.contains("watch=true"))
    {
        Act::Hang(Vec::new())
    } else {
        Act::Say(200, list("1", &[], None))
    };
    let lines =
        |lines: Vec<Value>| -> String { lines.iter().map(|line| format!("{line}\n")).collect() };
    let (status, body) = match act {
        Act::Say(status, value) => (status, Body::from(value.to_string())),
        Act::Lines(values) => (200, Body::from(lines(values))),
        Act::Hang(values) => {
            let text = lines(values);
            let rest = futures::stream::pending();
            let first = futures::stream::once(async { Ok::<_, std::io::Error>(text) });
            (
                200,
                Body::from_stream(futures::StreamExt::chain(first, rest)),
            )
        }
        Act::Silence => std::future::pending().await,
    };
    Response::builder().status(status).body(body).unwrap()
}

fn service(name: &str, version: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "test", "resourceVersion": version,
                     "managedFields": [{"manager": "x"}]},
        "spec": {"clusterIP": "10.96.0.1"},
    })
}

fn list(version: &str, names: &[&str], next: Option<&str>) -> Value {
    let items: Vec<Value> = names.iter().map(|name| service(name, version)).collect();
    json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn gone() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
           "reason": "Expired", "message": "too old resource version"})
}

async fn source(acts: impl IntoIterator<Item = Act>) -> (Shared, Receiver<SourceEvent>) {
    source_with(acts, []).await
}

async fn source_with(
    acts: impl IntoIterator<Item = Act>,
    networks: impl IntoIterator<Item = Act>,
) -> (Shared, Receiver<SourceEvent>) {
    let script = Arc::new(Mutex::new(Script {
        acts: acts.into_iter().collect(),
        networks: networks.into_iter().collect(),
        seen: Vec::new(),
    }));
    let app = Router::new()
        .fallback(serve)
        .with_state(Arc::clone(&script));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let (sender, events) = tokio::sync::mpsc::channel(64);
    start(client, Some(selector(None)), sender, TIMING);
    (script, events)
}

/// The next thing said about services, in a line.
async fn next(events: &mut Receiver<SourceEvent>) -> String {
    let about_services = async {
        loop {
            match events.recv().await.expect("the source goes on") {
                SourceEvent::Replace(ObjectKind::Service, objects) => {
                    let names = objects.iter().map(|object| object.name().name.clone());
                    return format!("all: {}", names.collect::<Vec<_>>().join(" "));
                }
                SourceEvent::Changes(changes) => match &changes[..] {
                    [Change::Apply(object)] => return format!("+{}", object.name().name),
                    [Change::Delete(_, name)] => return format!("-{}", name.name),
                    other => panic!("{other:?}"),
                },
                SourceEvent::Warnings(warnings) => return warnings[0].to_string(),
                SourceEvent::Replace(..) | SourceEvent::Contact(_) => {}
            }
        }
    };
    timeout(Duration::from_secs(10), about_services)
        .await
        .expect("something is said")
}

fn requests(script: &Shared) -> Vec<(String, Instant)> {
    script.lock().unwrap().seen.clone()
}

#[tokio::test]
async fn pages_are_put_together_and_changes_follow_from_their_version() {
    let (script, mut events) = source([
        Act::Say(200, list("7", &["a", "b"], Some("more"))),
        Act::Say(200, list("7", &["c"], None)),
        Act::Hang(vec![
            event("ADDED", service("d", "8")),
            event("MODIFIED", service("a", "9")),
            event("DELETED", service("b", "10")),
        ]),
    ])
    .await;
    assert_eq!(next(&mut events).await, "all: a b c");
    assert_eq!(next(&mut events).await, "+d");
    assert_eq!(next(&mut events).await, "+a");
    assert_eq!(next(&mut events).await, "-b");
    let seen = requests(&script);
    assert!(seen[1].0.contains("continue=more"));
    assert!(seen[2].0.contains("watch=true") && seen[2].0.contains("resourceVersion=7"));
    assert!(
        seen.iter()
            .all(|(uri, _)| uri.contains("labelSelector=%21service.kubernetes.io"))
    );
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let bookmark =
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {"resourceVersion": "50"}});
    let (script, mut events) = source([
        Act::Say(200, list("7", &[], None)),
        Act::Lines(vec![
            event("ADDED", service("a", "8")),
            event("BOOKMARK", bookmark),
        ]),
        Act::Hang(vec![event("ADDED", service("b", "51"))]),
    ])
    .await;
    assert_eq!(next(&mut events).await, "all: ");
    assert_eq!(next(&mut events).await, "+a");
    assert_eq!(next(&mut events).await, "+b");
    assert!(requests(&script)[2].0.contains("resourceVersion=50"));
}

#[tokio::test]
async fn gone_as_the_status_of_a_watch_request_leads_to_a_new_list() {
    let (_, mut events) = source([
        Act::Say(200, list("7", &["a"], None)),
        Act::Say(410, gone()),
        Act::Say(200, list("90", &["b"], None)),
        Act::Hang(Vec::new()),
    ])
    .await;
    assert_eq!(next(&mut events).await, "all: a");
    assert_eq!(next(&mut events).await, "all: b");
}

#[tokio::test]
async fn gone_inside_a_watch_leads_to_a_new_list() {
    let (_, mut events) = source([
        Act::Say(200, list("7", &["a"], None)),
        Act::Lines(vec![event("ERROR", gone())]),
        Act::Say(200, list("90", &["b"], None)),
        Act::Hang(Vec::new()),
    ])
    .await;
    assert_eq!(next(&mut events).await, "all: a");
    assert_eq!(next(&mut events).await, "all: b");
}

#[tokio::test]
async fn waits_grow_while_the_first_list_fails() {
    let failure = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
                         "message": "no leader"});
    let failures = std::iter::repeat_n(Act::Say(500, failure), 6);
    let success = [
        Act::Say(200, list("1", &["a"], None)),
        Act::Hang(Vec::new()),
    ];
    let (script, mut events) = source(failures.chain(success)).await;
    assert_eq!(next(&mut events).await, "all: a");
    let times: Vec<Instant> = requests(&script).iter().map(|(_, at)| *at).collect();
    assert!(
        times[2] - times[1] >= Duration::from_millis(14),
        "10, doubled, less a quarter"
    );
    assert!(
        times[5] - times[4] >= Duration::from_millis(59),
        "up to the longest"
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_noticed() {
    let (_, mut events) = source([
        Act::Silence,
        Act::Say(200, list("7", &["a"], None)),
        Act::Silence,
        Act::Hang(vec![event("ADDED", service("b", "8"))]),
        Act::Hang(vec![event("ADDED", service("c", "9"))]),
    ])
    .await;
    assert_eq!(next(&mut events).await, "all: a");
    assert_eq!(next(&mut events).await, "+b");
    assert_eq!(
        next(&mut events).await,
        "+c",
        "a watch that goes silent is begun anew"
    );
}

#[tokio::test]
async fn an_object_that_makes_no_sense_is_reported_and_spoils_nothing() {
    let nameless = json!({"metadata": {}, "spec": {}});
    let spec = json!({"metadata": {"name": "odd", "namespace": "test"}, "spec": 7});
    let page =
        json!({"metadata": {"resourceVersion": "7"}, "items": [nameless, spec, service("a", "7")]});
    let (_, mut events) = source([Act::Say(200, page), Act::Hang(Vec::new())]).await;
    assert!(next(&mut events).await.contains("metadata.name is null"));
    assert_eq!(next(&mut events).await, "all: a");
}

#[tokio::test]
async fn k11_service_cidrs_are_read_once_the_server_lets_us_and_nobody_waits_for_them() {
    let denial = |code: u16| {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                            "message": "not for you"});
        Act::Say(code, status)
    };
    let networks = json!({"metadata": {"resourceVersion": "7"}, "items": [
        {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]}}]});
    let services = [
        Act::Say(200, list("7", &["a"], None)),
        Act::Hang(Vec::new()),
    ];
    let granted = [denial(404), denial(403), Act::Say(200, networks)];
    let (_, mut events) = source_with(services, granted).await;
    let mut kinds = Vec::new();
    let found = loop {
        let event = timeout(Duration::from_secs(10), events.recv()).await;
        match event.unwrap().unwrap() {
            SourceEvent::Replace(ObjectKind::ServiceCidr, objects) => break objects,
            SourceEvent::Replace(kind, _) => kinds.push(kind),
            _ => {}
        }
    };
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [ObjectKind::Service, ObjectKind::Slice, ObjectKind::Node]
    );
    let [ClusterObject::ServiceCidr(found)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(found.cidrs.len(), 2);
}

#[test]
fn the_selector_asks_for_objects_of_ours() {
    assert_eq!(
        selector(None),
        "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name"
    );
    assert_eq!(
        selector(Some("edge")),
        "!service.kubernetes.io/headless,service.kubernetes.io/service-proxy-name=edge"
    );
}
