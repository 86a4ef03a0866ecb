//! A Kubernetes API server.
//!
//! One list-and-watch loop for each kind, on the client of the crate `kube` but not on its watcher,
//! because three things must hold that the watcher of 5.0 does not give: a `410 Gone` as the status
//! of a watch request leads to a new list; the wait between attempts grows while lists fail; and a
//! server that accepts a request and says nothing is noticed.
//!
//! ServiceCIDRs are watched if the server has them and lets us read them; without, the networks of
//! the settings have to do.

mod watch;

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Config};

use crate::convert::{HEADLESS_LABEL, PROXY_NAME_LABEL};
use crate::model::ObjectKind;

use super::event::Events;
use watch::{KindWatch, Timing};

/// The API server cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
#[error("source.kubeconfig: {0}")]
pub struct Unusable(String);

/// A client of the API server, which need not be there yet.
///
/// # Errors
///
/// There are no usable credentials: neither the kubeconfig, nor, without one, the usual places or
/// those inside a cluster.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Unusable> {
    Client::try_from(config(kubeconfig).await?).map_err(|error| Unusable(error.to_string()))
}

/// Starts watching on the current tokio runtime. `for_dns`: Services and slices that are not ours to proxy
/// are wanted, too, because they have names.
pub fn spawn(client: Client, proxy_name: Option<&str>, for_dns: bool, events: Events) {
    let ours = (!for_dns).then(|| selector(proxy_name));
    start(client, ours, events, Timing::default());
}

fn start(client: Client, ours: Option<String>, events: Events, timing: Timing) {
    for kind in ObjectKind::ALL {
        let (path, selector) = match kind {
            ObjectKind::Service => ("/api/v1/services", ours.clone()),
            ObjectKind::Slice => ("/apis/discovery.k8s.io/v1/endpointslices", ours.clone()),
            ObjectKind::Node => ("/api/v1/nodes", None),
            ObjectKind::ServiceCidr => ("/apis/networking.k8s.io/v1/servicecidrs", None),
        };
        let watch = KindWatch {
            client: client.clone(),
            kind,
            request: Request::new(path),
            selector,
            events: events.clone(),
            timing,
        };
        tokio::spawn(watch.run());
    }
}

/// Objects of ours alone: an object whose label comes or goes appears or disappears.
fn selector(proxy_name: Option<&str>) -> String {
    match proxy_name {
        None => format!("!{HEADLESS_LABEL},!{PROXY_NAME_LABEL}"),
        Some(name) => format!("!{HEADLESS_LABEL},{PROXY_NAME_LABEL}={name}"),
    }
}

async fn config(kubeconfig: Option<&Path>) -> Result<Config, Unusable> {
    let mut config = match kubeconfig {
        Some(path) => {
            let unusable = |error| Unusable(format!("{} cannot be used: {error}", path.display()));
            let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(unusable)?
        }
        None => Config::infer().await.map_err(|error| {
            Unusable(format!(
                "there are no credentials in the usual places: {error}"
            ))
        })?,
    };
    config.connect_timeout = Some(Timing::default().start);
    Ok(config)
}

#[cfg(test)]
mod tests;
