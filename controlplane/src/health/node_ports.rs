//! `spec.healthCheckNodePort`: external load balancers ask it whether this gateway has endpoints
//! of a service with `externalTrafficPolicy: Local`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::model::ObjectName;

use super::facts::Health;
use super::serve::{json_answer, listen_everywhere, status};

/// How soon a service's port is opened or closed, and a port that was taken is tried again.
const INTERVAL: Duration = Duration::from_millis(500);

/// Keeps a listener for each health check that [`Health`] names, until aborted. `addresses` are
/// those to listen on; none means every address.
pub async fn run(health: Health, addresses: Vec<IpAddr>) {
    let mut open = OpenPorts::default();
    loop {
        open.adapt(&health, &addresses).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The listeners, by service.
#[derive(Debug, Default)]
pub(super) struct OpenPorts(BTreeMap<ObjectName, OpenPort>);

#[derive(Debug)]
struct OpenPort {
    port: u16,
    tasks: Vec<JoinHandle<()>>,
    /// Why not everything could be opened, as said in the log.
    failure: Option<String>,
}

impl OpenPorts {
    /// Closes what is no longer wanted, opens what is missing, leaves alone what stays.
    pub(super) async fn adapt(&mut self, health: &Health, addresses: &[IpAddr]) {
        let wanted: BTreeMap<ObjectName, u16> = {
            let facts = health.facts();
            facts
                .checks
                .iter()
                .map(|(name, check)| (name.clone(), check.port))
                .collect()
        };
        self.0
            .retain(|name, open| wanted.get(name) == Some(&open.port));
        for (name, port) in wanted {
            if self.0.get(&name).is_some_and(|open| open.failure.is_none()) {
                continue;
            }
            let before = self.0.remove(&name).and_then(|open| open.failure.clone());
            let opened = OpenPort::new(health, &name, port, addresses).await;
            if opened.failure != before
                && let Some(failure) = &opened.failure
            {
                tracing::warn!("Service {name}: spec.healthCheckNodePort {port}: {failure}");
            }
            self.0.insert(name, opened);
        }
    }
}

impl OpenPort {
    async fn new(health: &Health, name: &ObjectName, port: u16, addresses: &[IpAddr]) -> Self {
        let mut listeners = Vec::new();
        if addresses.is_empty() {
            listeners.push(listen_everywhere(port).await);
        }
        for address in addresses {
            listeners.push(TcpListener::bind(SocketAddr::from((*address, port))).await);
        }
        let mut failure = None;
        let mut tasks = Vec::new();
        for listener in listeners {
            match listener {
                Ok(listener) => {
                    let app = router(health.clone(), name.clone());
                    tasks.push(tokio::spawn(async move {
                        // Ends only when the task is aborted.
                        let _ = axum::serve(listener, app).await;
                    }));
                }
                Err(error) => failure = Some(error.to_string()),
            }
        }
        Self {
            port,
            tasks,
            failure,
        }
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Any path, any method.
fn router(health: Health, name: ObjectName) -> Router {
    Router::new().fallback(answer).with_state((health, name))
}

async fn answer(State((health, name)): State<(Health, ObjectName)>) -> Response {
    let facts = health.facts();
    let count = facts
        .checks
        .get(&name)
        .map_or(0, |check| check.local_endpoints);
    let in_sync = facts.is_in_sync(Instant::now());
    let body = json!({
        "service": {"namespace": name.namespace, "name": name.name},
        "localEndpoints": count,
        "serviceProxyHealthy": in_sync,
    });
    let weight = [("x-load-balancing-endpoint-weight", count.to_string())];
    json_answer(status(count > 0 && in_sync), &weight, &body)
}
