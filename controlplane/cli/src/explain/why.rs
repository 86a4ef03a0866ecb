//! The sentences behind the chain: why the source is rewritten or kept, why a packet is not served.

use engine::reason::Reason;
use engine::snapshot::ResolvedSet;
use hugepages::object::{FrontendKind, SourceClass};
use packet::parse::TCP;
use portgate_controlplane::model::ServicePort;
use settings::BackendChoice;

use super::answer::is_hairpin;
use super::gateway::Verdict;
use super::story::Story;
use crate::words::protocol_name;

impl Story<'_> {
    /// The sentences, in their order.
    pub(super) fn sentences(&self) -> Vec<String> {
        match &self.seen.verdict {
            Verdict::Translate { set, masquerade } => {
                let mut sentences = vec![self.choice(set), self.source(set, *masquerade)];
                let affinity = self
                    .seen
                    .frontend
                    .as_ref()
                    .map_or(0, |f| f.affinity_timeout);
                if affinity > 0 {
                    sentences.push(format!(
                        "sessionAffinity ClientIP: new flows of this client go where its last one \
                         went, for {affinity} s."
                    ));
                }
                sentences.push(self.later());
                sentences
            }
            Verdict::Reject(reason) | Verdict::Drop(reason) | Verdict::Pass(reason) => vec![
                self.why_not(*reason),
                self.noticed().to_owned(),
                format!("It is counted as {} in `portgate counters`.", reason.name()),
            ],
        }
    }

    /// Which of the endpoints a new flow goes to.
    fn choice(&self, set: &ResolvedSet) -> String {
        if set.members.len() == 1 {
            return "A first packet makes a flow, to the one endpoint there is.".to_owned();
        }
        let how = match self.context.gateway.backend_choice {
            BackendChoice::Maglev => {
                "by a hash of its addresses and ports (Maglev), so that every gateway with the same \
                 maglev_seed chooses the same"
            }
            BackendChoice::Random => "at random",
            BackendChoice::LeastConnections => "as the one of two at random with fewer open flows",
        };
        format!("A first packet makes a flow, whose endpoint is chosen {how}.")
    }

    /// What becomes of the rest of the conversation.
    fn later(&self) -> String {
        let to = self.question.to;
        format!(
            "Later packets go the same way without another decision. Answers come back through the \
             gateway, and reach the client as if {to} had sent them."
        )
    }

    /// What the client sees of a packet that goes nowhere.
    const fn noticed(&self) -> &'static str {
        match (&self.seen.verdict, self.question.protocol) {
            (Verdict::Reject(_), TCP) => "The client is told at once: its connection is refused.",
            (Verdict::Reject(_), _) => "The client is told at once: its socket reports an error.",
            (_, _) => "The client hears nothing, and tries until it gives up.",
        }
    }

    /// Whether the source is rewritten, and why.
    fn source(&self, set: &ResolvedSet, masquerade: bool) -> String {
        if masquerade {
            return format!(
                "The source is rewritten to {}, {}.",
                self.snat(),
                self.why_masquerade()
            );
        }
        if is_hairpin(self.question, set) {
            return format!(
                "The source is rewritten to {}, because the endpoint is the client itself and would \
                 otherwise answer to itself.",
                self.snat()
            );
        }
        let from = self.question.from.ip();
        let except = if set.members.iter().any(|member| member.address == from) {
            ", unless the chosen endpoint is the client itself"
        } else {
            ""
        };
        format!("The source is kept{except}: {}.", self.why_keep())
    }

    fn snat(&self) -> String {
        let mut own = self.context.gateway.snat_addresses.iter();
        let family = own.any(|address| address.is_ipv4() == self.question.from.is_ipv4());
        if family {
            "one of gateway.snat_addresses".to_owned()
        } else {
            "the gateway's address on the link to the endpoint".to_owned()
        }
    }

    fn why_masquerade(&self) -> &'static str {
        let kind = self.seen.frontend.as_ref().map(|frontend| frontend.kind);
        match (kind, self.seen.class) {
            (Some(FrontendKind::ClusterIp), _) if self.context.gateway.masquerade_all => {
                "because gateway.masquerade_all is set"
            }
            (Some(FrontendKind::ClusterIp), _) => {
                "because the client is not a pod: the endpoint must answer by way of the gateway"
            }
            (_, SourceClass::Node) => "because the client is the gateway",
            (_, _) => {
                "because the endpoint may be on any node and must answer by way of the gateway"
            }
        }
    }

    fn why_keep(&self) -> &'static str {
        let kind = self.seen.frontend.as_ref().map(|frontend| frontend.kind);
        match (kind, self.seen.class) {
            (Some(FrontendKind::ClusterIp), _) if !self.knows_pods() => {
                "without gateway.cluster_cidrs pods cannot be told from others, and nobody is \
                 masqueraded at a ClusterIP"
            }
            (_, SourceClass::Pod) => "the client is a pod",
            (_, _) => {
                "externalTrafficPolicy Local keeps the client's address, and the endpoint's way back \
                 must lead through this gateway"
            }
        }
    }

    fn why_not(&self, reason: Reason) -> String {
        let to = self.question.to;
        let protocol = protocol_name(self.question.protocol);
        match reason {
            Reason::NoEndpoint => {
                "No endpoint of the service port is ready, and none that terminates still serves."
                    .to_owned()
            }
            Reason::NoLocalEndpoint => {
                "There are usable endpoints, but none on this node: the packet is dropped in silence, \
                 so that the client is tried on another node."
                    .to_owned()
            }
            Reason::NoSuchPort => format!(
                "The address belongs to a service{}, but {protocol} port {} does not.",
                self.ports_of_owner(),
                to.port()
            ),
            Reason::NotServedHere => {
                "internalTrafficPolicy Local needs a node: an edge gateway serves it only if \
                 gateway.node_name says for which one."
                    .to_owned()
            }
            Reason::SourceRange => {
                let from = self.question.from.ip();
                format!("The service is restricted, and {from} is in none of its ranges.")
            }
            Reason::NoSuchService => "No service has this address.".to_owned(),
            Reason::NotServed => {
                let port = to.port();
                format!("No service has NodePort {port} over {protocol} on this address.")
            }
            Reason::NotOurs => {
                "Portgate does not route for others: a gateway drops such packets.".to_owned()
            }
            other => format!("The frame was dropped on its way ({}).", other.name()),
        }
    }

    fn ports_of_owner(&self) -> String {
        let owner = self.owner(self.question.to.ip());
        let ports = owner.map(|owner| {
            let port = |p: &ServicePort| format!("{}/{}", p.port, p.protocol.name());
            owner.ports.iter().map(port).collect::<Vec<_>>().join(", ")
        });
        ports.map_or_else(String::new, |ports| format!(" with {ports}"))
    }
}
