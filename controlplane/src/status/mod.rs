//! The status page: what the gateway does now, for a person with a browser. Read-only.
//!
//! Three files and one document, all of them in this program: nothing is fetched from elsewhere. The page gets
//! the document every two seconds and works out the rates itself. What comes from the cluster enters the page as text, never
//! as markup, and a content security policy forbids any script but the page's own.

mod access;
mod document;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use settings::StatusPage;

use crate::health::Health;
use crate::metrics::Metrics;
use crate::observe::Observer;

/// Everything is from here, and nothing may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Debug, Clone)]
struct Shared {
    observer: Observer,
    health: Health,
    metrics: Metrics,
}

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// Part of `namespace/name`; empty = all services.
    service: String,
}

/// `/`, `/status.js`, `/status.css` and `/status.json`, for those whom the setting admits. The router must be served
/// with the clients' addresses.
pub fn router(
    admitted: StatusPage,
    observer: Observer,
    health: Health,
    metrics: Metrics,
) -> Router {
    let shared = Shared {
        observer,
        health,
        metrics,
    };
    Router::new()
        .route(
            "/",
            get(|| file("text/html; charset=utf-8", include_str!("page.html"))),
        )
        .route(
            "/status.js",
            get(|| file("text/javascript; charset=utf-8", include_str!("page.js"))),
        )
        .route(
            "/status.css",
            get(|| file("text/css; charset=utf-8", include_str!("page.css"))),
        )
        .route("/status.json", get(document))
        .with_state(shared)
        .layer(middleware::from_fn_with_state(admitted, access::check))
}

/// A file of this folder.
async fn file(kind: &'static str, text: &'static str) -> Response {
    content(kind, text)
}

async fn document(State(shared): State<Shared>, Query(wanted): Query<Wanted>) -> Response {
    // On a thread of its own, because counting a million flows takes a while.
    let written = tokio::task::spawn_blocking(move || {
        let view = shared.observer.look();
        document::of(
            view.as_ref(),
            &shared.health,
            &shared.metrics,
            &wanted.service,
        )
    });
    match written.await {
        Ok(document) => content("application/json", document.to_string()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn content(kind: &'static str, text: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests;
