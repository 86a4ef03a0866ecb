//! The process: source → [`Keeper`] → region, and HTTP beside it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use kube::Client;
use settings::{Gateway, Mode, Settings, Source};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::dns::{self, Names};
use crate::health::{Health, node_ports, serve};
use crate::keeper::{Keeper, Synced};
use crate::metrics::Metrics;
use crate::model::{ObjectKind, ObjectName};
use crate::observe::Observer;
use crate::publish::{Connector, RegionConnector};
use crate::recorder::{Occurrence, Recorder, Regarding};
use crate::source::{Events, SourceEvent, kubernetes, manifests};
use crate::status;

/// Events of the source that may wait for the main loop.
pub const EVENTS: usize = 1_024;

/// Between two looks for log lines that were held back.
const REMINDER: Duration = Duration::from_secs(1);

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
    let observer = Observer::new(&settings.region.path);
    metrics.watch(
        observer.clone(),
        settings.metrics.max_series,
        settings.gateway.nodeport_range,
    );
    let client = client(&settings).await?;
    let recorder = recorder(&settings.gateway, client.clone(), &metrics);
    listen(&settings, &health, &metrics, recorder, observer).await?;
    let (sender, events) = channel(EVENTS);
    start_source(&settings, client, sender)?;
    tokio::spawn(remind());
    let connector = RegionConnector::new(&settings.region.path);
    let names = answer_names(&settings, &metrics).await?;
    let keeper = Keeper::new(settings.gateway, connector, health, metrics).with_names(names);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: the end"),
        _ = interrupt.recv() => tracing::info!("SIGINT: the end"),
        result = keep(keeper, events, announce) => return result,
    }
    Ok(())
}

/// Starts the DNS responder if it has an address.
async fn answer_names(settings: &Settings, metrics: &Metrics) -> Result<Option<Names>, Failure> {
    let dns = &settings.dns;
    if dns.listen.is_empty() {
        return Ok(None);
    }
    let names = Names::new(dns.prefer);
    let own = &settings.gateway.addresses;
    dns::spawn(dns, own, names.clone(), metrics.clone())
        .await
        .map_err(|error| Failure::Runtime(error.to_string()))?;
    tracing::info!(addresses = ?dns.listen, domain = dns.cluster_domain, "answering DNS");
    Ok(Some(names))
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

/// A client of the API server, if that is the source.
async fn client(settings: &Settings) -> Result<Option<Client>, Failure> {
    match &settings.source {
        Source::Manifests { .. } => Ok(None),
        Source::Kubernetes { kubeconfig } => kubernetes::connect(kubeconfig.as_deref())
            .await
            .map(Some)
            .map_err(|error| Failure::Configuration(error.to_string())),
    }
}

/// Events are written in the name of the node, or of the host.
fn recorder(gateway: &Gateway, client: Option<Client>, metrics: &Metrics) -> Recorder {
    let Some(client) = client else {
        return Recorder::silent(metrics.clone());
    };
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let instance = gateway.node_name.clone().or_else(host);
    let instance = instance.as_deref().map_or("portgate", str::trim);
    Recorder::spawn(client, instance.to_owned(), metrics.clone())
}

fn start_source(
    settings: &Settings,
    client: Option<Client>,
    events: Events,
) -> Result<(), Failure> {
    match (&settings.source, client) {
        (Source::Manifests { path }, _) => {
            tracing::info!(path = %path.display(), "following a directory of manifests");
            manifests::spawn(path, events)
                .map_err(|error| Failure::Configuration(format!("source.path: {error}")))
        }
        (Source::Kubernetes { .. }, Some(client)) => {
            tracing::info!("following the API server");
            let proxy_name = settings.gateway.service_proxy_name.as_deref();
            let for_dns = !settings.dns.listen.is_empty();
            kubernetes::spawn(client, proxy_name, for_dns, events);
            Ok(())
        }
        (Source::Kubernetes { .. }, None) => Err(Failure::Runtime(
            "there is no client of the API server".into(),
        )),
    }
}

async fn listen(
    settings: &Settings,
    health: &Health,
    metrics: &Metrics,
    recorder: Recorder,
    observer: Observer,
) -> Result<(), Failure> {
    let address = settings.metrics.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::Runtime(format!(
            "metrics.listen is {address}: it cannot be listened on: {error}; name another address or \
             port, or end what listens there"
        ))
    })?;
    tracing::info!(%address, "answering /metrics, /readyz, /livez and the status page");
    let admitted = settings.status.page;
    let page = status::router(admitted, observer, health.clone(), metrics.clone());
    let own = serve::own(health.clone(), metrics.clone());
    tokio::spawn(answer(listener, own.merge(page)));
    if settings.gateway.mode == Mode::Node {
        listen_as_proxy(&settings.gateway, health, metrics, &recorder).await;
    }
    tokio::spawn(node_ports::run(
        health.clone(),
        health_addresses(&settings.gateway),
        recorder,
    ));
    Ok(())
}

/// What kube-proxy answers and tells of its node.
async fn listen_as_proxy(
    gateway: &Gateway,
    health: &Health,
    metrics: &Metrics,
    recorder: &Recorder,
) {
    let tell = |is_warning, reason, note| {
        if let Some(node) = &gateway.node_name {
            recorder.record(Occurrence {
                regarding: Regarding {
                    kind: ObjectKind::Node.name(),
                    name: ObjectName::new("", node),
                    uid: Some(node.clone()),
                },
                is_warning,
                reason,
                action: "StartPortgate",
                note,
                at: SystemTime::now(),
            });
        }
    };
    tell(
        false,
        "Starting",
        "the control plane of the gateway starts".into(),
    );
    let port = serve::PROXY_HEALTH_PORT;
    match serve::listen_everywhere(port).await {
        Ok(listener) => {
            tokio::spawn(answer(
                listener,
                serve::proxy(health.clone(), metrics.clone()),
            ));
        }
        // kube-proxy itself may still run here; its answers will do.
        Err(error) => {
            tracing::warn!(
                "port {port} cannot be listened on: {error}; whoever has it (kube-proxy?) answers the \
                 health checks of this node"
            );
            let note = format!("the gateway cannot listen on port {port}: {error}");
            tell(true, "FailedToStartProxierHealthcheck", note);
        }
    }
}

/// Tells of log lines that were held back.
async fn remind() {
    loop {
        tokio::time::sleep(REMINDER).await;
        settings::log::tell_held_back();
    }
}

async fn answer(listener: TcpListener, app: axum::Router) {
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(
            "an HTTP listener has ended: {error}; health and metrics may not be answered any more, \
             services are: restart this process when it suits"
        );
    }
}

/// Health checks of services are answered where NodePorts are served, if that is restricted.
fn health_addresses(gateway: &Gateway) -> Option<Vec<IpAddr>> {
    let networks = gateway.nodeport_addresses.as_deref()?;
    if networks.is_empty() {
        return None;
    }
    let own = gateway.addresses.iter().copied();
    let served = own.filter(|own| networks.iter().any(|network| network.contains(own)));
    Some(served.collect())
}

#[cfg(test)]
mod tests {
    use super::health_addresses;
    use crate::policy::fixtures::gateway_of;

    #[test]
    fn s06_health_checks_are_answered_at_own_addresses_that_serve_node_ports() {
        let at = |networks: &str| {
            let own = "addresses = [\"192.0.2.1\", \"203.0.113.10\", \"2001:db8::1\"]";
            health_addresses(&gateway_of(&format!("{own}\n{networks}")))
        };
        assert_eq!(at(""), None, "everywhere");
        let some = at("nodeport_addresses = [\"192.0.2.0/24\", \"2001:db8::/32\"]");
        let expected = ["192.0.2.1", "2001:db8::1"].map(|own| own.parse().unwrap());
        assert_eq!(some, Some(expected.to_vec()));
        let none = at("nodeport_addresses = [\"198.51.100.0/24\"]");
        assert_eq!(none, Some(Vec::new()), "nowhere");
    }
}
