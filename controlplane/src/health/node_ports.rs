//! `spec.healthCheckNodePort`: external load balancers ask it whether this gateway has endpoints
//! of a service with `externalTrafficPolicy: Local`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::model::{ObjectKind, ObjectName};
use crate::recorder::{Occurrence, Recorder, Regarding};

use super::facts::Health;
use super::serve::{json_answer, listen_everywhere, status};

/// How soon a service's port is opened or closed, and a port that was taken is tried again.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often it is told again that a port still cannot be listened on.
const REMINDER: Duration = Duration::from_secs(60);

/// Keeps a listener for each health check that [`Health`] names, until aborted. `addresses` are
/// those to listen on; `None` means every address. What cannot be listened on is told to `recorder`.
pub async fn run(health: Health, addresses: Option<Vec<IpAddr>>, recorder: Recorder) {
    let mut open = OpenPorts::new(addresses, recorder);
    loop {
        open.adapt(&health).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The listeners, by service.
#[derive(Debug)]
pub(super) struct OpenPorts {
    addresses: Option<Vec<IpAddr>>,
    recorder: Recorder,
    ports: BTreeMap<ObjectName, OpenPort>,
}

#[derive(Debug)]
struct OpenPort {
    port: u16,
    tasks: Vec<JoinHandle<()>>,
    failure: Option<Failure>,
}

/// Why not everything could be opened, and when that was last told.
#[derive(Debug)]
struct Failure {
    why: String,
    told: Instant,
}

impl OpenPorts {
    pub(super) const fn new(addresses: Option<Vec<IpAddr>>, recorder: Recorder) -> Self {
        Self {
            addresses,
            recorder,
            ports: BTreeMap::new(),
        }
    }

    /// Closes what is no longer wanted, opens what is missing, leaves alone what stays.
    pub(super) async fn adapt(&mut self, health: &Health) {
        let wanted: BTreeMap<ObjectName, (u16, Option<String>)> = {
            let facts = health.facts();
            facts
                .checks
                .iter()
                .map(|(name, check)| (name.clone(), (check.port, check.uid.clone())))
                .collect()
        };
        self.ports
            .retain(|name, open| wanted.get(name).is_some_and(|(port, _)| *port == open.port));
        for (name, (port, uid)) in wanted {
            let open = self.ports.get(&name);
            if open.is_some_and(|open| open.failure.is_none()) {
                continue;
            }
            let mut before = self.ports.remove(&name);
            let before = before.as_mut().and_then(|open| open.failure.take());
            let mut opened = OpenPort::new(health, &name, port, self.addresses.as_deref()).await;
            if let Some(failure) = &mut opened.failure {
                self.tell(before, failure, &name, port, uid);
            }
            self.ports.insert(name, opened);
        }
    }

    /// Tells of a failure that is new, and now and then of one that is not.
    fn tell(
        &self,
        before: Option<Failure>,
        failure: &mut Failure,
        name: &ObjectName,
        port: u16,
        uid: Option<String>,
    ) {
        match before {
            Some(before) if before.why == failure.why => {
                if before.told.elapsed() < REMINDER {
                    failure.told = before.told;
                    return;
                }
            }
            _ => {
                let why = &failure.why;
                tracing::warn!("Service {name}: spec.healthCheckNodePort {port}: {why}");
            }
        }
        self.recorder.record(Occurrence {
            regarding: Regarding {
                kind: ObjectKind::Service.name(),
                name: name.clone(),
                uid,
            },
            is_warning: true,
            reason: "FailedToStartServiceHealthcheck",
            action: "Listen",
            note: format!(
                "the gateway cannot listen on healthCheckNodePort {port}: {}",
                failure.why
            ),
            at: SystemTime::now(),
        });
    }
}

impl OpenPort {
    async fn new(
        health: &Health,
        name: &ObjectName,
        port: u16,
        addresses: Option<&[IpAddr]>,
    ) -> Self {
        let mut listeners = Vec::new();
        match addresses {
            None => {
                let listener = listen_everywhere(port).await;
                listeners.push(listener.map_err(|error| error.to_string()));
            }
            Some(addresses) => {
                for address in addresses {
                    let listener = TcpListener::bind(SocketAddr::from((*address, port))).await;
                    listeners.push(listener.map_err(|error| format!("{address}: {error}")));
                }
            }
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
                Err(why) => {
                    failure = Some(Failure {
                        why,
                        told: Instant::now(),
                    });
                }
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
