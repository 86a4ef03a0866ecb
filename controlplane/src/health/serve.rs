//! The HTTP listeners of the process as a whole.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::policy::Unproxied;
use crate::time;

use super::facts::{Facts, Health};

/// Where kube-proxy answers `/healthz`.
pub const PROXY_HEALTH_PORT: u16 = 10_256;

/// Content type of the metrics' text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Shared = (Health, Metrics);

/// `/readyz`, `/livez`, `/metrics` and `/unproxied`.
pub fn own(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/readyz", get(ready))
        .route("/livez", get(live))
        .route("/metrics", get(render))
        .route("/unproxied", get(unproxied))
        .with_state((health, metrics))
}

/// `/healthz` and `/livez` as kube-proxy answers them on port 10256.
pub fn proxy(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(proxy_healthz))
        .route("/livez", get(proxy_livez))
        .with_state((health, metrics))
}

/// A listener on this port of every address, of both families if the host has them.
///
/// # Errors
///
/// The port is taken.
pub async fn listen_everywhere(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

async fn ready(State((health, _)): State<Shared>) -> Response {
    let facts = health.facts();
    let why = if !facts.synced {
        "waiting for the first list of the source"
    } else if !facts.committed {
        "waiting for the data plane to confirm the first update"
    } else {
        "ok"
    };
    (status(facts.is_ready()), format!("{why}\n")).into_response()
}

async fn live(State((health, _)): State<Shared>) -> Response {
    let live = health.facts().is_live(Instant::now());
    let text = if live {
        "ok\n"
    } else {
        "the main loop hangs\n"
    };
    (status(live), text).into_response()
}

/// On a thread of its own, because counting a million flows takes a while.
async fn render(State((_, metrics)): State<Shared>) -> Response {
    let rendered = tokio::task::spawn_blocking(move || metrics.render(Instant::now()));
    let failed = |why: String| (StatusCode::INTERNAL_SERVER_ERROR, why).into_response();
    match rendered.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    }
}

/// The services that are listed and not proxied, for `portgate services`: a list of `service`, `type`
/// (`ExternalName` or `Headless`) and, of the former, the `name` that it stands for.
async fn unproxied(State((health, _)): State<Shared>) -> Response {
    let all = Arc::clone(&health.facts().unproxied);
    let shown = all.iter().map(|(name, why)| match why {
        Unproxied::ExternalName(target) => {
            json!({"service": name.to_string(), "type": "ExternalName", "name": target})
        }
        Unproxied::Headless => json!({"service": name.to_string(), "type": "Headless"}),
    });
    json_answer(StatusCode::OK, &[], &shown.collect())
}

/// In sync, and the node is not about to leave: load balancers may send to it.
async fn proxy_healthz(State((health, metrics)): State<Shared>) -> Response {
    let facts = health.facts();
    let status = status(facts.is_in_sync(Instant::now()) && !facts.node_leaving);
    metrics.count_proxy_health("healthz", status.as_str());
    proxy_answer(status, &facts)
}

/// In sync, whatever becomes of the node.
async fn proxy_livez(State((health, metrics)): State<Shared>) -> Response {
    let facts = health.facts();
    let status = status(facts.is_in_sync(Instant::now()));
    metrics.count_proxy_health("livez", status.as_str());
    proxy_answer(status, &facts)
}

fn proxy_answer(status: StatusCode, facts: &Facts) -> Response {
    let now = SystemTime::now();
    // Without anything queued the state is up to date as of now.
    let updated = if facts.queued.is_none() {
        now
    } else {
        facts.updated
    };
    let body = json!({
        "lastUpdated": time::format(updated),
        "currentTime": time::format(now),
        "nodeEligible": !facts.node_leaving,
    });
    json_answer(status, &[], &body)
}

/// A JSON body with the headers that health checks of Kubernetes carry.
pub(super) fn json_answer(
    status: StatusCode,
    headers: &[(&'static str, String)],
    body: &serde_json::Value,
) -> Response {
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        body.to_string(),
    )
        .into_response();
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

pub(super) const fn status(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
