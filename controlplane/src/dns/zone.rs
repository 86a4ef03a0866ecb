//! Questions to answers: the zone of the cluster, as the Kubernetes DNS specification 1.1.0 lays it out.

use std::net::IpAddr;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

use super::names::{Known, Names};
use super::service::DnsService;

/// Version of the specification, in the TXT record `dns-version`.
const VERSION: &str = "1.1.0";

/// Aliases followed inside the zone, in one answer.
const MOST_ALIASES: usize = 8;

/// Records of a set that one answer has at most: some 64 KiB.
const MOST_RECORDS: usize = 2_000;

/// Everything below one domain.
#[derive(Debug)]
pub(super) struct Zone {
    /// The cluster domain.
    pub(super) domain: Name,
    /// Seconds that an answer may be kept, negative ones, too.
    pub(super) ttl: u32,
    /// Addresses at which this responder is reached: those of the name server's name.
    pub(super) own: Vec<IpAddr>,
    /// The Services.
    pub(super) names: Names,
}

/// An answer, without what is the same in all.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    /// The SOA record that says how long a negative answer may be kept (RFC 2308).
    pub(super) authority: Option<Record>,
    pub(super) additionals: Vec<Record>,
}

/// What is at a name.
enum Node {
    /// Nothing, not even below it.
    Missing,
    /// An alias for another name.
    Alias(Name),
    /// Records, maybe none: the name exists because others are below it.
    Records(Vec<RData>),
}

impl Zone {
    /// Answers a question; `turn` says which of several records comes first.
    pub(super) fn answer(&self, name: &Name, kind: RecordType, turn: usize) -> Answer {
        let known = self.names.known();
        let refused = Answer {
            code: ResponseCode::Refused,
            ..Answer::default()
        };
        if !self.domain.zone_of(name) {
            return self.reverse(&known, name, kind).unwrap_or(refused);
        }
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return refused;
        }
        if !known.is_complete {
            return Answer {
                code: ResponseCode::ServFail,
                ..Answer::default()
            };
        }
        self.within(&known, name, kind, turn)
    }

    fn within(&self, known: &Known, name: &Name, kind: RecordType, turn: usize) -> Answer {
        let mut answer = Answer::default();
        let mut owner = name.clone();
        for _ in 0..MOST_ALIASES {
            match self.node(known, &owner) {
                Node::Missing => answer.code = ResponseCode::NXDomain,
                Node::Alias(target) => {
                    let alias = RData::CNAME(CNAME(target.clone()));
                    answer.answers.push(self.record(&owner, alias));
                    let is_asked = matches!(kind, RecordType::CNAME | RecordType::ANY);
                    if !is_asked && self.domain.zone_of(&target) {
                        owner = target;
                        continue;
                    }
                    return answer;
                }
                Node::Records(records) => {
                    self.select(known, &mut answer, &owner, records, kind, turn)
                }
            }
            break;
        }
        let is_negative = answer.code == ResponseCode::NXDomain
            || !answer
                .answers
                .iter()
                .any(|record| record.record_type() != RecordType::CNAME);
        if is_negative {
            answer.authority = Some(self.record(&self.domain, self.start(known)));
        }
        answer
    }

    /// Puts those records of a name that are asked for into the answer, and the addresses of hosts that
    /// they name beside it.
    fn select(
        &self,
        known: &Known,
        answer: &mut Answer,
        owner: &Name,
        records: Vec<RData>,
        kind: RecordType,
        turn: usize,
    ) {
        // Of "any", one set is enough (RFC 8482 section 4.1).
        let wanted = match (kind, records.first()) {
            (RecordType::ANY, Some(first)) => first.record_type(),
            _ => kind,
        };
        let mut chosen: Vec<_> = records
            .into_iter()
            .filter(|data| data.record_type() == wanted)
            .collect();
        if !chosen.is_empty() {
            let turn = turn % chosen.len();
            chosen.rotate_left(turn);
        }
        for data in chosen.into_iter().take(MOST_RECORDS) {
            let target = match &data {
                RData::SRV(service) => Some(service.target.clone()),
                RData::NS(server) => Some(server.0.clone()),
                _ => None,
            };
            if let Some(target) = target
                && let Node::Records(beside) = self.node(known, &target)
            {
                let addresses = beside
                    .into_iter()
                    .filter(|data| matches!(data, RData::A(_) | RData::AAAA(_)))
                    .map(|data| self.record(&target, data));
                for record in addresses {
                    if !answer.additionals.contains(&record) {
                        answer.additionals.push(record);
                    }
                }
            }
            answer.answers.push(self.record(owner, data));
        }
    }

    fn node(&self, known: &Known, name: &Name) -> Node {
        // Counted, because the library's own number leaves out an asterisk.
        let depth = name.iter().count() - self.domain.iter().count();
        let labels = name.iter().take(depth);
        let labels = labels.map(|label| std::str::from_utf8(label).map(str::to_ascii_lowercase));
        let Ok(labels) = labels.collect::<Result<Vec<_>, _>>() else {
            return Node::Missing;
        };
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        match labels[..] {
            [] => Node::Records(vec![self.start(known), RData::NS(NS(self.server()))]),
            ["dns-version"] => Node::Records(vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
            ["ns", "dns"] => Node::Records(self.own.iter().copied().map(address).collect()),
            ["dns" | "svc"] => Node::Records(Vec::new()),
            [namespace, "svc"] if known.has_namespace(namespace) => Node::Records(Vec::new()),
            [ref below @ .., name, namespace, "svc"] => match known.service(namespace, name) {
                Some(service) => self.below(service, below, (namespace, name)),
                None => Node::Missing,
            },
            _ => Node::Missing,
        }
    }

    /// What is at a name below a Service's, or at its own.
    fn below(&self, service: &DnsService, below: &[&str], (namespace, name): (&str, &str)) -> Node {
        let addresses = |of: &mut dyn Iterator<Item = &IpAddr>| {
            Node::Records(of.copied().map(address).collect())
        };
        match (below, &service.alias) {
            ([], Some(target)) => Node::Alias(target.clone()),
            ([], None) => addresses(&mut service.addresses.iter()),
            ([label], _) => {
                if let Some(hosts) = service.hosts.get(*label) {
                    return addresses(&mut hosts.iter());
                }
                let protocol = label.strip_prefix('_');
                let is_parent = service
                    .ports
                    .iter()
                    .any(|port| Some(port.protocol) == protocol);
                if is_parent {
                    Node::Records(Vec::new())
                } else {
                    Node::Missing
                }
            }
            ([port, protocol], _) => {
                let wanted = (port.strip_prefix('_'), protocol.strip_prefix('_'));
                let ports = service
                    .ports
                    .iter()
                    .filter(|port| wanted == (Some(port.name.as_str()), Some(port.protocol)));
                let records = ports.filter_map(|port| {
                    let mut labels: Vec<&str> = port.host.iter().map(String::as_str).collect();
                    labels.extend([name, namespace, "svc"]);
                    let target = self.name(&labels)?;
                    Some(RData::SRV(SRV::new(0, 100, port.port, target)))
                });
                let records: Vec<_> = records.collect();
                if records.is_empty() {
                    Node::Missing
                } else {
                    Node::Records(records)
                }
            }
            _ => Node::Missing,
        }
    }

    /// Names of an address; `None` where this zone has no say.
    fn reverse(&self, known: &Known, name: &Name, kind: RecordType) -> Option<Answer> {
        let network = name.parse_arpa_name().ok()?;
        if !known.is_complete || network.prefix_len() != network.max_prefix_len() {
            return None;
        }
        let names: Vec<_> = known
            .at(network.addr())
            .filter_map(|(service, host)| {
                let mut labels: Vec<&str> = host.iter().map(String::as_str).collect();
                labels.extend([service.name.as_str(), &service.namespace, "svc"]);
                self.name(&labels)
            })
            .collect();
        if names.is_empty() {
            return None;
        }
        let is_asked = matches!(kind, RecordType::PTR | RecordType::ANY);
        let names = names.into_iter().filter(|_| is_asked);
        let answers = names.map(|target| self.record(name, RData::PTR(PTR(target))));
        Some(Answer {
            answers: answers.collect(),
            ..Answer::default()
        })
    }

    /// The zone's SOA record.
    fn start(&self, known: &Known) -> RData {
        let responsible = self.name(&["hostmaster"]).unwrap_or_else(Name::root);
        let server = self.server();
        RData::SOA(SOA::new(
            server,
            responsible,
            known.serial,
            7_200,
            1_800,
            86_400,
            self.ttl,
        ))
    }

    fn server(&self) -> Name {
        self.name(&["ns", "dns"]).unwrap_or_else(Name::root)
    }

    /// A name in the zone; `None` if it is too long.
    fn name(&self, labels: &[&str]) -> Option<Name> {
        // As bytes, because labels of services begin with underscores nowhere else than in questions.
        let name = Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?;
        name.append_domain(&self.domain).ok()
    }

    fn record(&self, owner: &Name, data: RData) -> Record {
        Record::from_rdata(owner.clone(), self.ttl, data)
    }
}

fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}
