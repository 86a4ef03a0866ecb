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
    /// The tasks that answer, by the address listened on; `None` is every address.
    tasks: BTreeMap<Option<IpAddr>, JoinHandle<()>>,
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
            let mut open = self
                .ports
                .remove(&name)
                .unwrap_or_else(|| OpenPort::new(port));
            match open
                .complete(health, &name, self.addresses.as_deref())
                .await
            {
                Ok(()) => open.failure = None,
                Err(why) => self.tell(&mut open, why, &name, uid),
            }
            self.ports.insert(name, open);
        }
    }

    /// Tells of a failure that is new, and now and then of one that is not.
    fn tell(&self, open: &mut OpenPort, why: String, name: &ObjectName, uid: Option<String>) {
        let port = open.port;
        match &open.failure {
            Some(before) if before.why == why => {
                if before.told.elapsed() < REMINDER {
                    return;
                }
            }
            _ => tracing::warn!("Service {name}: spec.healthCheckNodePort {port}: {why}"),
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
            note: format!("the gateway cannot listen on healthCheckNodePort {port}: {why}"),
            at: SystemTime::now(),
        });
        open.failure = Some(Failure {
            why,
            told: Instant::now(),
        });
    }
}

impl OpenPort {
    const fn new(port: u16) -> Self {
        Self {
            port,
            tasks: BTreeMap::new(),
            failure: None,
        }
    }

    /// Listens where it does not yet. `Err` says where it cannot, and why.
    async fn complete(
        &mut self,
        health: &Health,
        name: &ObjectName,
        addresses: Option<&[IpAddr]>,
    ) -> Result<(), String> {
        let places = match addresses {
            None => vec![None],
            Some(addresses) => addresses.iter().copied().map(Some).collect(),
        };
        let mut result = Ok(());
        for place in places {
            if self.tasks.contains_key(&place) {
                continue;
            }
            let listener = match place {
                None => listen_everywhere(self.port)
                    .await
                    .map_err(|error| error.to_string()),
                Some(address) => TcpListener::bind(SocketAddr::from((address, self.port)))
                    .await
                    .map_err(|error| format!("{address}: {error}")),
            };
            match listener {
                Ok(listener) => {
                    let app = router(health.clone(), name.clone());
                    let task = tokio::spawn(async move {
                        // Ends only when the task is aborted.
                        let _ = axum::serve(listener, app).await;
                    });
                    self.tasks.insert(place, task);
                }
                Err(why) => result = Err(why),
            }
        }
        result
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        for task in self.tasks.values() {
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
