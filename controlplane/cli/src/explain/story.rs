//! What the prose can refer to.

use std::net::IpAddr;

use engine::snapshot::Frontend;
use portgate_controlplane::model::ServiceObject;
use settings::{Gateway, Mode};

use super::gateway::Seen;
use super::question::Question;

/// The surroundings of a question.
pub(super) struct Context<'a> {
    /// `[gateway]` of the settings.
    pub(super) gateway: &'a Gateway,
    /// The services of the manifests.
    pub(super) services: &'a [ServiceObject],
}

/// A question, what was seen, and what both can refer to.
pub(super) struct Story<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) question: &'a Question,
    pub(super) seen: &'a Seen,
}

impl Story<'_> {
    /// The service of a frontend, as its manifest has it.
    pub(super) fn service(&self, frontend: &Frontend) -> Option<&ServiceObject> {
        let name = &frontend.service.as_ref()?.name;
        let mut services = self.context.services.iter();
        services.find(|service| service.name.to_string() == *name)
    }

    /// The service whose ClusterIP this is.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&ServiceObject> {
        let mut services = self.context.services.iter();
        services.find(|service| service.cluster_ips.contains(&address))
    }

    /// Whether pods of this family can be told from others.
    pub(super) fn knows_pods(&self) -> bool {
        let mut pods = self.seen.networks.pods.iter();
        pods.any(|prefix| prefix.address.is_ipv4() == self.question.from.is_ipv4())
    }

    /// Whether the gateway stands for no node, so that no endpoint is local.
    pub(super) fn is_edge(&self) -> bool {
        let gateway = self.context.gateway;
        gateway.mode == Mode::Edge && gateway.node_name.is_none()
    }
}
