//! The process: source → [`Keeper`] → region, and HTTP beside it.

use std::io::Write;
use std::net::IpAddr;
use std::time::Instant;

use settings::{Gateway, Mode, Settings, Source};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::health::{Health, node_ports, serve};
use crate::keeper::{Keeper, Synced};
use crate::metrics::Metrics;
use crate::publish::{Connector, RegionConnector};
use crate::source::{Events, SourceEvent, kubernetes, manifests};

/// Events of the source that may wait for the main loop.
pub const EVENTS: usize = 1_024;

/// Why the process ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// Something failed at run time.
    #[error("{0}")]
    Runtime(String),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
///
/// [`Failure`]: the source or the metrics address cannot be used.
pub async fn run(settings: Settings) -> Result<(), Failure> {
    let runtime = |error: std::io::Error| Failure::Runtime(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(runtime)?;
    let (health, metrics) = (Health::new(), Metrics::new());
    listen(&settings, &health, &metrics).await?;
    let (sender, events) = channel(EVENTS);
    start_source(&settings, sender).await?;
    let connector = RegionConnector::new(&settings.region.path);
    let keeper = Keeper::new(settings.gateway, connector, health, metrics);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: the end"),
        _ = interrupt.recv() => tracing::info!("SIGINT: the end"),
        result = keep(keeper, events, announce) => return result,
    }
    Ok(())
}

/// The main loop: everything that has arrived is taken in before anything is sent, so that a burst
/// becomes one update. `announce` is told, once, that the first state is installed.
///
/// # Errors
///
/// [`Failure::Runtime`]: the source has ended, or `announce` failed.
pub async fn keep<C: Connector>(
    mut keeper: Keeper<C>,
    mut events: Receiver<SourceEvent>,
    mut announce: impl FnMut(Synced) -> std::io::Result<()>,
) -> Result<(), Failure> {
    loop {
        let (wait, synced) = keeper.turn(Instant::now());
        if let Some(synced) = synced {
            announce(synced).map_err(|error| Failure::Runtime(format!("stdout: {error}")))?;
        }
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else {
                    return Err(Failure::Runtime("the source has ended".into()));
                };
                let now = Instant::now();
                keeper.take(event, now);
                for _ in 0..EVENTS {
                    match events.try_recv() {
                        Ok(event) => keeper.take(event, now),
                        Err(_) => break,
                    }
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn announce(synced: Synced) -> std::io::Result<()> {
    let Synced {
        generation,
        services,
        endpoints,
    } = synced;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "portgate-controlplane synced generation={generation} services={services} \
         endpoints={endpoints}"
    )?;
    out.flush()
}

async fn start_source(settings: &Settings, events: Events) -> Result<(), Failure> {
    match &settings.source {
        Source::Manifests { path } => manifests::spawn(path, events)
            .map_err(|error| Failure::Configuration(format!("source.path: {error}"))),
        Source::Kubernetes { kubeconfig } => {
            let proxy_name = settings.gateway.service_proxy_name.as_deref();
            kubernetes::spawn(kubeconfig.as_deref(), proxy_name, events)
                .await
                .map_err(|error| Failure::Configuration(error.to_string()))
        }
    }
}

async fn listen(settings: &Settings, health: &Health, metrics: &Metrics) -> Result<(), Failure> {
    let address = settings.metrics.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::Runtime(format!(
            "metrics.listen is {address}: it cannot be listened on: {error}"
        ))
    })?;
    tokio::spawn(answer(
        listener,
        serve::own(health.clone(), metrics.clone()),
    ));
    if settings.gateway.mode == Mode::Node {
        match serve::listen_everywhere(serve::PROXY_HEALTH_PORT).await {
            Ok(listener) => {
                tokio::spawn(answer(
                    listener,
                    serve::proxy(health.clone(), metrics.clone()),
                ));
            }
            // kube-proxy itself may still run here; its answers will do.
            Err(error) => tracing::warn!("port {}: {error}", serve::PROXY_HEALTH_PORT),
        }
    }
    tokio::spawn(node_ports::run(
        health.clone(),
        health_addresses(&settings.gateway),
    ));
    Ok(())
}

async fn answer(listener: TcpListener, app: axum::Router) {
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!("an HTTP listener has ended: {error}");
    }
}

/// Health checks of services are answered where NodePorts are served, if that is restricted.
fn health_addresses(gateway: &Gateway) -> Vec<IpAddr> {
    let Some(networks) = &gateway.nodeport_addresses else {
        return Vec::new();
    };
    let own = gateway.addresses.iter().copied();
    own.filter(|own| networks.iter().any(|network| network.contains(own)))
        .collect()
}
