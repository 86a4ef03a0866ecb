//! The answer for people: the chain from the client to the endpoint, a line for each link of it, and
//! a sentence for each question that it leaves open.

use std::io::{self, Write};
use std::net::IpAddr;

use engine::route::contains;
use engine::snapshot::{Frontend, ResolvedSet};
use hugepages::object::{FrontendKind, Prefix, SourceClass};
use packet::parse::TCP;
use portgate_controlplane::model::TrafficPolicy;

use super::gateway::Verdict;
use super::question::Question;
use super::story::Story;
use crate::words::{endpoint, kind_title, protocol_name};

/// Characters in a line of prose.
const WIDTH: usize = 96;

/// Endpoints that are named before they are only counted.
const SHOWN_ENDPOINTS: usize = 16;

/// Tells what becomes of a packet, and why.
pub(super) fn write(story: &Story<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Question { from, to, .. } = story.question;
    let protocol = protocol_name(story.question.protocol);
    writeln!(out, "{protocol} {from} → {to}: {}\n", story.fate())?;
    let chain = story.chain();
    let names = chain.iter().flat_map(|link| &link.names);
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    for (at, Link { names, note }) in chain.iter().enumerate() {
        if at > 0 {
            writeln!(out, "    ↓")?;
        }
        let notes = std::iter::once(note.as_str()).chain(std::iter::repeat(""));
        for (name, note) in names.iter().zip(notes) {
            let line = format!("  {name:width$}  {note}");
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    writeln!(out)?;
    for sentence in story.sentences() {
        wrapped(&sentence, out)?;
    }
    Ok(())
}

/// A link of the chain: what it is (a line each, if there are several), and what is to say about it.
struct Link {
    names: Vec<String>,
    note: String,
}

impl Link {
    fn new(name: impl Into<String>, note: impl Into<String>) -> Self {
        Self {
            names: vec![name.into()],
            note: note.into(),
        }
    }
}

impl Story<'_> {
    fn fate(&self) -> String {
        match &self.seen.verdict {
            Verdict::Translate { .. } => "translated".to_owned(),
            Verdict::Reject(reason) => format!("refused ({})", reason.name()),
            Verdict::Drop(reason) => format!("dropped ({})", reason.name()),
            Verdict::Pass(reason) => format!("not a service's ({})", reason.name()),
        }
    }

    /// From the client to where the packet ends.
    fn chain(&self) -> Vec<Link> {
        let protocol = protocol_name(self.question.protocol);
        let address = format!("{}/{protocol}", self.question.to);
        let mut chain = vec![
            Link::new(self.question.from.to_string(), self.client()),
            Link::new(address, self.address()),
        ];
        if let Some(frontend) = &self.seen.frontend
            && let Some(service) = &frontend.service
        {
            let mut rule = self.policy(frontend).unwrap_or_default();
            if frontend.ranges.is_some() {
                rule = format!(
                    "{rule}; loadBalancerSourceRanges: {}",
                    self.ranges(frontend)
                );
            }
            chain.push(Link::new(&service.name, rule));
        }
        match &self.seen.verdict {
            Verdict::Translate { set, .. } => chain.push(endpoints(set)),
            Verdict::Reject(_) => chain.push(Link::new("×", self.answer())),
            Verdict::Drop(_) => chain.push(Link::new("×", "no answer")),
            Verdict::Pass(_) => {}
        }
        chain
    }

    fn client(&self) -> String {
        let address = self.question.from.ip();
        match self.seen.class {
            SourceClass::Node => "client: the gateway itself, one of its own addresses".to_owned(),
            SourceClass::Pod => {
                let network = find(&self.seen.networks.pods, address);
                format!("client: a pod, inside {network} (gateway.cluster_cidrs)")
            }
            SourceClass::Outside if self.knows_pods() => {
                "client: outside, in no pod network (gateway.cluster_cidrs) and not the gateway"
                    .to_owned()
            }
            SourceClass::Outside => {
                "client: outside, for gateway.cluster_cidrs names no pod network".to_owned()
            }
        }
    }

    fn address(&self) -> String {
        let to = self.question.to.ip();
        let Some(frontend) = &self.seen.frontend else {
            return self.nobodys_address(to);
        };
        let title = kind_title(frontend.kind);
        let place = match frontend.kind {
            FrontendKind::NodePort => ", on an address of the gateway",
            _ => "",
        };
        let service = match &frontend.service {
            Some(service) if service.port_name.is_empty() => service.name.clone(),
            Some(service) => format!("{}, port {}", service.name, service.port_name),
            None => match self.owner(to) {
                Some(owner) => owner.name.to_string(),
                None => return title.to_owned(),
            },
        };
        format!("{title} of service {service}{place}")
    }

    fn nobodys_address(&self, to: IpAddr) -> String {
        let networks = &self.seen.networks;
        if networks.own.contains(&to) {
            "the gateway's own address".to_owned()
        } else if networks.is_service(to) {
            let network = find(&networks.services, to);
            format!(
                "an address of the service network {network} (gateway.service_cidrs or a ServiceCIDR)"
            )
        } else {
            "no address of a service, nor of the gateway".to_owned()
        }
    }

    /// Which endpoints the service's policies leave to this client.
    fn policy(&self, frontend: &Frontend) -> Option<String> {
        let service = self.service(frontend)?;
        if frontend.kind == FrontendKind::ClusterIp {
            let which = match service.internal_policy {
                TrafficPolicy::Cluster => "Cluster: ready endpoints anywhere",
                TrafficPolicy::Local if self.is_edge() => {
                    "Local: endpoints of one node, but this gateway is none"
                }
                TrafficPolicy::Local => "Local: ready endpoints on this node",
            };
            return Some(format!("internalTrafficPolicy {which}"));
        }
        let which = match (service.external_policy, self.seen.class) {
            (TrafficPolicy::Cluster, _) => "Cluster: ready endpoints anywhere",
            (TrafficPolicy::Local, SourceClass::Pod | SourceClass::Node) => {
                "Local does not bind clients inside the cluster: ready endpoints anywhere"
            }
            (TrafficPolicy::Local, SourceClass::Outside) if self.is_edge() => {
                "Local at an edge gateway: ready endpoints anywhere"
            }
            (TrafficPolicy::Local, SourceClass::Outside) => "Local: ready endpoints on this node",
        };
        Some(format!("externalTrafficPolicy {which}"))
    }

    fn ranges(&self, frontend: &Frontend) -> String {
        let shown = |prefix: &Prefix| format!("{}/{}", prefix.address, prefix.length);
        let ranges = frontend.ranges.as_deref();
        let ranges = ranges.map(|ranges| ranges.iter().map(shown).collect::<Vec<_>>().join(", "));
        ranges
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "none".to_owned())
    }

    /// What a refused client receives.
    fn answer(&self) -> &'static str {
        match (self.question.protocol, self.question.from.is_ipv4()) {
            (TCP, _) => "answered with a TCP reset",
            (_, true) => "answered with ICMP port unreachable",
            (_, false) => "answered with ICMPv6 port unreachable",
        }
    }
}

/// Writes a sentence in lines of at most [`WIDTH`] characters.
fn wrapped(sentence: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut line = String::new();
    for word in sentence.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{line}")
}

fn endpoints(set: &ResolvedSet) -> Link {
    let members = set.members.iter();
    let mut names: Vec<_> = members.take(SHOWN_ENDPOINTS).map(endpoint).collect();
    let more = set.members.len() - names.len();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    let note = match set.members.len() {
        1 => "the one endpoint".to_owned(),
        count => format!("one of {count} endpoints"),
    };
    Link { names, note }
}

fn find(prefixes: &[Prefix], address: IpAddr) -> String {
    let found = prefixes.iter().find(|prefix| contains(prefix, address));
    found.map_or_else(String::new, |prefix| {
        format!("{}/{}", prefix.address, prefix.length)
    })
}
