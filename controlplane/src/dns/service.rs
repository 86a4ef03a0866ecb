//! What DNS says of one Service (Kubernetes DNS specification 1.1.0, sections 2.3 to 2.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_server::proto::rr::Name;
use hugepages::object::Protocol;
use settings::DnsPrefer;

use crate::model::{ServiceObject, ServiceType, SliceObject};

/// The names below that of a Service, and what they lead to. A Service without any of it does not exist in
/// DNS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DnsService {
    /// Addresses of the Service's own name.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// What the Service's own name is an alias for.
    pub(super) alias: Option<Name>,
    /// Endpoints of a headless Service, by host name.
    pub(super) hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Named ports.
    pub(super) ports: BTreeSet<SrvPort>,
}

/// A named port, of the Service or of one of its hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SrvPort {
    /// Name of the port.
    pub(super) name: String,
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: &'static str,
    /// Number.
    pub(super) port: u16,
    /// Host name of the endpoint; `None` = the Service's own name.
    pub(super) host: Option<String>,
}

impl DnsService {
    /// What a Service with these slices has in DNS; `None` if that is nothing.
    pub(super) fn of<'a>(
        service: &ServiceObject,
        slices: impl Iterator<Item = &'a SliceObject>,
        prefer: DnsPrefer,
    ) -> Option<Self> {
        let found = match &service.service_type {
            ServiceType::ExternalName(target) => Self::external(target),
            _ if service.cluster_ips.is_empty() => Self::headless(slices),
            _ => Self::with_addresses(service, prefer),
        };
        (found != Self::default()).then_some(found)
    }

    fn external(target: &str) -> Self {
        let name = Name::from_ascii(target.trim_end_matches('.')).ok();
        let alias = name.filter(|name| name.iter().count() > 0).map(|mut name| {
            name.set_fqdn(true);
            name
        });
        Self {
            alias,
            ..Self::default()
        }
    }

    fn with_addresses(service: &ServiceObject, prefer: DnsPrefer) -> Self {
        let addresses = match prefer {
            DnsPrefer::LoadBalancer if !service.ingress_ips.is_empty() => &service.ingress_ips,
            _ => &service.cluster_ips,
        };
        let ports = service.ports.iter().filter_map(|port| {
            Some(SrvPort {
                name: label(&port.name)?,
                protocol: protocol(port.protocol)?,
                port: port.port,
                host: None,
            })
        });
        Self {
            addresses: addresses.iter().copied().collect(),
            ports: ports.collect(),
            ..Self::default()
        }
    }

    /// The ready endpoints: unready ones count as ready in the slices of a Service that publishes them.
    fn headless<'a>(slices: impl Iterator<Item = &'a SliceObject>) -> Self {
        let mut found = Self::default();
        for slice in slices {
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let given = endpoint.hostname.as_deref().and_then(label);
                let host = given.unwrap_or_else(|| host_of(endpoint.address));
                found.addresses.insert(endpoint.address);
                let addresses = found.hosts.entry(host.clone()).or_default();
                addresses.insert(endpoint.address);
                found.ports.extend(slice.ports.iter().filter_map(|port| {
                    Some(SrvPort {
                        name: label(&port.name)?,
                        protocol: protocol(port.protocol)?,
                        port: port.port,
                        host: Some(host.clone()),
                    })
                }));
            }
        }
        found
    }
}

/// A name of an object as a label of DNS: lower case; `None` if it cannot be one.
pub(super) fn label(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = (1..=63).contains(&text.len()) && text.bytes().all(allowed);
    is_label.then(|| text.to_ascii_lowercase())
}

/// The host name of an endpoint that has none: its address with dashes.
fn host_of(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

const fn protocol(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Any => None,
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp => Some(protocol.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::{endpoint, service, slice};

    fn of(service: &ServiceObject, slices: &[SliceObject]) -> Option<DnsService> {
        DnsService::of(service, slices.iter(), DnsPrefer::ClusterIp)
    }

    #[test]
    fn a_cluster_ip_service_has_its_addresses_and_its_named_ports() {
        let mut web = service("web");
        web.ports[0].name = "http".to_owned();
        web.ports.push(crate::model::ServicePort {
            name: String::new(),
            ..web.ports[0].clone()
        });
        web.ingress_ips = vec![IpAddr::from([203, 0, 113, 9])];
        let found = of(&web, &[]).unwrap();
        assert_eq!(found.addresses, web.cluster_ips.iter().copied().collect());
        assert_eq!(
            found.ports.len(),
            1,
            "a port without a name has no SRV record"
        );
        assert!(found.hosts.is_empty() && found.alias.is_none());
        let outside = DnsService::of(&web, [].iter(), DnsPrefer::LoadBalancer).unwrap();
        assert_eq!(outside.addresses, web.ingress_ips.iter().copied().collect());
    }

    #[test]
    fn a_headless_service_has_its_ready_endpoints_by_host_name() {
        let mut database = service("db");
        database.cluster_ips.clear();
        let addresses = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]].map(IpAddr::from);
        let mut slice = slice("db", addresses);
        slice.ports[0].name = "sql".to_owned();
        slice.endpoints[0].hostname = Some("db-0".to_owned());
        slice.endpoints[2].ready = false;
        let found = of(&database, std::slice::from_ref(&slice)).unwrap();
        assert_eq!(found.addresses.len(), 2);
        let hosts: Vec<_> = found.hosts.keys().collect();
        assert_eq!(hosts, ["10-0-0-2", "db-0"]);
        let ports: Vec<_> = found
            .ports
            .iter()
            .filter_map(|port| port.host.as_deref())
            .collect();
        assert_eq!(ports, ["10-0-0-2", "db-0"]);
        slice.endpoints = vec![endpoint(addresses[0])];
        slice.endpoints[0].ready = false;
        assert_eq!(of(&database, &[slice]), None, "no ready endpoint, no name");
    }

    #[test]
    fn an_external_name_is_an_alias_if_it_is_a_name() {
        let mut outside = service("outside");
        for (target, expected) in [
            ("db.example.com", Some("db.example.com.")),
            ("db.example.com.", Some("db.example.com.")),
            ("", None),
            ("a..b", None),
        ] {
            outside.service_type = ServiceType::ExternalName(target.to_owned());
            let alias = of(&outside, &[]).and_then(|found| found.alias);
            assert_eq!(
                alias.map(|name| name.to_ascii()).as_deref(),
                expected,
                "{target}"
            );
        }
    }

    #[test]
    fn names_that_are_no_labels_are_left_out() {
        assert_eq!(label("Web-1").as_deref(), Some("web-1"));
        let long = "x".repeat(64);
        for text in ["", "a.b", "a b", "<img>", "ä", &long] {
            assert_eq!(label(text), None, "{text}");
        }
    }
}
