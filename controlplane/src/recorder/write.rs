//! Occurrences → Events of events.k8s.io/v1.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::time;

use super::Occurrence;
use super::correlate::Correlator;

/// Who writes the Events.
const CONTROLLER: &str = "portgate";

/// How long the server may take for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after the server has said that Events are not for us to write.
const DENIED: Duration = Duration::from_secs(300);

/// Longest note that Kubernetes takes, in bytes.
const LONGEST_NOTE: usize = 1_024;

/// Longest name of whoever reports it, in bytes.
const LONGEST_INSTANCE: usize = 128;

/// Longest name of an object that Kubernetes takes, in bytes.
const LONGEST_NAME: usize = 253;

/// Where Events about cluster-wide objects are.
const CLUSTER_WIDE: &str = "default";

/// The task that writes.
pub(super) struct Writer {
    client: Client,
    instance: String,
    metrics: Metrics,
    correlator: Correlator,
    denied: Option<Instant>,
}

impl Writer {
    pub(super) fn new(client: Client, instance: String, metrics: Metrics) -> Self {
        Self {
            client,
            instance,
            metrics,
            correlator: Correlator::default(),
            denied: None,
        }
    }

    /// Writes until nobody has anything to tell any more.
    pub(super) async fn run(mut self, mut occurrences: Receiver<Occurrence>) {
        while let Some(occurrence) = occurrences.recv().await {
            let result = self.tell(&occurrence).await;
            self.metrics.count_event(result);
        }
    }

    /// Writes one if it is to be written; says what became of it.
    async fn tell(&mut self, occurrence: &Occurrence) -> &'static str {
        let now = Instant::now();
        let Some(count) = self.correlator.occurred(occurrence, now) else {
            return "aggregated";
        };
        let waits = |since| now.saturating_duration_since(since) < DENIED;
        if self.denied.is_some_and(waits) {
            return "denied";
        }
        let request = match request(occurrence, count, &self.instance) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!("an Event could not be made: {error}");
                return "failed";
            }
        };
        match timeout(PATIENCE, self.client.request::<Value>(request)).await {
            Ok(Ok(_)) => {
                self.denied = None;
                self.correlator.told(occurrence, now);
                "created"
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
                if self.denied.replace(now).is_none() {
                    tracing::info!(
                        "Events cannot be written, the log has to do: {}",
                        status.message
                    );
                }
                "denied"
            }
            Ok(Err(error)) => {
                tracing::debug!("an Event was not written: {error}");
                "failed"
            }
            Err(_) => {
                tracing::debug!("an Event was not written: no answer in time");
                "failed"
            }
        }
    }
}

fn request(
    occurrence: &Occurrence,
    count: u32,
    instance: &str,
) -> Result<axum::http::Request<Vec<u8>>, kube::core::request::Error> {
    let event = event(occurrence, count, instance);
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    Request::new(path).create(&PostParams::default(), event.to_string().into_bytes())
}

/// The Event: of `count` occurrences, of which this is the last.
pub(super) fn event(occurrence: &Occurrence, count: u32, instance: &str) -> Value {
    let regarding = &occurrence.regarding;
    let namespace = match regarding.name.namespace.as_str() {
        "" => CLUSTER_WIDE,
        namespace => namespace,
    };
    let at = time::format_micro(occurrence.at);
    let mut about = json!({
        "apiVersion": "v1",
        "kind": regarding.kind,
        "name": regarding.name.name,
    });
    if !regarding.name.namespace.is_empty() {
        about["namespace"] = namespace.into();
    }
    if let Some(uid) = &regarding.uid {
        about["uid"] = uid.as_str().into();
    }
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name(&regarding.name.name, occurrence.at), "namespace": namespace},
        "eventTime": at,
        "reportingController": CONTROLLER,
        "reportingInstance": cut(instance, LONGEST_INSTANCE),
        "type": if occurrence.is_warning { "Warning" } else { "Normal" },
        "reason": occurrence.reason,
        "action": occurrence.action,
        "note": cut(&occurrence.note, LONGEST_NOTE),
        "regarding": about,
    });
    if count > 1 {
        event["series"] = json!({"count": count, "lastObservedTime": at});
    }
    event
}

/// A name that no other Event has: the object's, and the time.
fn name(object: &str, at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = format!(".{:x}", since.as_nanos());
    let start = cut(object, LONGEST_NAME - end.len());
    format!("{}{end}", start.trim_end_matches(['.', '-']))
}

/// At most this many bytes, cut between characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
