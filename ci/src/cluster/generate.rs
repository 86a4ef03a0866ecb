//! Services and EndpointSlices over all the fields that a Service proxy looks at, from a seed.
//!
//! Objects are valid for the API server and mean little else: fields vary independently, so that
//! combinations come up that nobody would think of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::pair;
use super::probe::{PORTS, places};

/// Where objects are.
pub const NAMESPACE: &str = "default";
/// Name of the node that the proxies are.
pub const OWN_NODE: &str = "edge-1";
/// Names of all nodes; the numbers of [`places`] are indexes into it.
pub const NODES: [&str; 3] = [OWN_NODE, "node-2", "node-3"];
/// Zones of these nodes.
pub const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-a"];
/// Source ranges that hold the clients of [`client`](super::pair::client) that are inside, and
/// ranges that hold none.
const INSIDE: [&str; 2] = ["203.0.113.64/26", "2001:db8:1::a000/120"];
const ELSEWHERE: [&str; 2] = ["198.18.0.0/15", "2001:db8:ffff::/48"];

/// A source of numbers that a seed decides (SplitMix64).
#[derive(Debug)]
struct Random(u64);

/// A Service with what belongs to it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Name of the Service.
    pub name: String,
    /// The Service, as it is created.
    pub service: Value,
    /// What is merged into its status; `None` unless it has load-balancer addresses.
    pub status: Option<Value>,
    /// Its EndpointSlices.
    pub slices: Vec<Value>,
}

impl Random {
    /// Numbers for a case and the `turn`th change of it.
    fn new(seed: u64, number: usize, turn: u64) -> Self {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let mut random = Self(seed ^ (number << 16) ^ (turn << 48));
        // Neighbours begin far apart.
        Self(random.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    /// True in this many of a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The case of this number; no other case has a part in it.
pub fn case(seed: u64, number: usize) -> Case {
    let random = &mut Random::new(seed, number, 0);
    let name = format!("case-{number}");
    let kind = *random.pick(&[
        "ClusterIP",
        "NodePort",
        "NodePort",
        "LoadBalancer",
        "LoadBalancer",
        "LoadBalancer",
    ]);
    let choices: [&[usize]; 4] = [&[0, 1], &[1, 0], &[0], &[1]];
    let families = *random.pick(&choices);
    let ports = ports(random);
    let mut spec = json!({
        "type": kind,
        "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
        "ipFamilies": families.iter().map(|f| FAMILIES[*f]).collect::<Vec<_>>(),
        "ports": ports,
    });
    if random.chance(20) {
        spec["sessionAffinity"] = "ClientIP".into();
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 3600}});
    }
    if random.chance(30) {
        spec["internalTrafficPolicy"] = "Local".into();
    }
    if random.chance(30) {
        let picked = families.iter().map(|f| external(*f, number, "external"));
        spec["externalIPs"] = picked.map(|ip| ip.to_string()).collect();
    }
    let has_external = kind != "ClusterIP" || spec["externalIPs"].is_array();
    if has_external && random.chance(45) {
        spec["externalTrafficPolicy"] = "Local".into();
    }
    if random.chance(10) {
        spec["publishNotReadyAddresses"] = true.into();
    }
    let mut status = None;
    if kind == "LoadBalancer" {
        if random.chance(40) {
            let place = *random.pick(&[&INSIDE, &INSIDE, &ELSEWHERE]);
            spec["loadBalancerSourceRanges"] = families.iter().map(|f| place[*f]).collect();
        }
        if random.chance(15) {
            spec["allocateLoadBalancerNodePorts"] = false.into();
        }
        let modes = [Value::Null, "VIP".into(), "VIP".into(), "Proxy".into()];
        let ingress = families.iter().map(|family| {
            let mut entry = json!({"ip": external(*family, number, "ingress")});
            let mode = random.pick(&modes);
            if !mode.is_null() {
                entry["ipMode"] = mode.clone();
            }
            entry
        });
        let ingress: Vec<_> = ingress.collect();
        status = Some(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    }
    let mut labels = json!({});
    if random.chance(3) {
        labels["service.kubernetes.io/service-proxy-name"] = "another".into();
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": spec,
    });
    let slices = slices(random, &service);
    Case {
        name,
        service,
        status,
        slices,
    }
}

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// An address outside the cluster that is this Service's alone, for one of three uses: `external`,
/// `ingress`, or `sentinel`.
pub fn external(family: usize, number: usize, what: &str) -> IpAddr {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    let third = match what {
        "external" => 0x10,
        "ingress" => 0x20,
        _ => 0x30,
    };
    let [high, low] = number.to_be_bytes();
    match family {
        // 198.18.0.0/15 is for tests like this one (RFC 2544).
        0 => Ipv4Addr::new(198, 19, third + high, low).into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0xe, u16::from(third), 0, 0, 0, number).into(),
    }
}

fn ports(random: &mut Random) -> Vec<Value> {
    let count = 1 + random.below(3);
    let port = |index: usize| {
        let protocol = *random.pick(&["TCP", "TCP", "UDP", "UDP", "SCTP"]);
        // The same number for two protocols is two ports.
        let port = if index == 2 { 81 } else { 80 + index };
        json!({"name": format!("p{index}"), "protocol": protocol, "port": port, "targetPort": 1})
    };
    let mut ports: Vec<Value> = (0..count).map(port).collect();
    if count == 3 {
        let other = if ports[1]["protocol"] == "TCP" {
            "UDP"
        } else {
            "TCP"
        };
        ports[2]["protocol"] = other.into();
    }
    ports
}

/// Other EndpointSlices for a case.
pub fn other_slices(seed: u64, number: usize, case: &Case) -> Vec<Value> {
    slices(&mut Random::new(seed, number, 1), &case.service)
}

/// EndpointSlices for a Service: one or two a family, which may share endpoints.
fn slices(random: &mut Random, service: &Value) -> Vec<Value> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let families = service["spec"]["ipFamilies"].as_array();
    let mut made = Vec::new();
    for family in families.into_iter().flatten() {
        let family = usize::from(family == "IPv6");
        // Hints count only if all endpoints have them: decide for the whole service.
        let hints = *random.pick(&["none", "none", "zones", "zones and nodes", "some"]);
        let quality = *random.pick(&["ready", "mixed", "mixed", "leaving", "absent"]);
        // What two slices say of the same address does not contradict: see docs/differences.md.
        let pool: Vec<_> = places(family)
            .iter()
            .map(|place| endpoint(random, *place, quality, hints))
            .collect();
        // Where clients are remembered, each shows one endpoint: many would need very many clients.
        let sticky = service["spec"]["sessionAffinity"] == "ClientIP";
        let parts = 1 + random.below(2);
        for part in 0..parts {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let ports: Vec<_> = ports
                .filter_map(|port| {
                    let port = json!({
                        "name": port["name"], "protocol": port["protocol"],
                        "port": random.pick(&PORTS),
                    });
                    (!random.chance(4)).then_some(port)
                })
                .collect();
            let count = match (quality, sticky) {
                ("absent", _) => 0,
                (_, true) => 1 + random.below(3 - parts),
                (_, false) => 1 + random.below(3),
            };
            let mut endpoints: Vec<Value> = Vec::new();
            for _ in 0..count {
                let picked = random.pick(&pool);
                // The API server refuses an address twice in a slice, though not in two slices.
                if !endpoints.contains(picked) {
                    endpoints.push(picked.clone());
                }
            }
            made.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-{}-{part}", FAMILIES[family].to_lowercase()),
                    "namespace": NAMESPACE,
                    "labels": {"kubernetes.io/service-name": name,
                               "endpointslice.kubernetes.io/managed-by": "a-test"},
                },
                "addressType": FAMILIES[family],
                "ports": ports,
                "endpoints": endpoints,
            }));
        }
    }
    made
}

fn endpoint(
    random: &mut Random,
    (address, node): (IpAddr, usize),
    quality: &str,
    hints: &str,
) -> Value {
    let ready = random.chance(if quality == "mixed" { 60 } else { 95 }) && quality != "leaving";
    let serving = ready || random.chance(60);
    let mut endpoint = json!({
        "addresses": [address],
        "conditions": {
            "ready": ready, "serving": serving,
            "terminating": !ready && (quality == "leaving" || random.chance(40)),
        },
    });
    if random.chance(5) {
        // Nothing said means ready.
        endpoint["conditions"] = json!({});
    }
    // kube-proxy does not know that a client may be its own endpoint if no node is named: see
    // docs/differences.md.
    let is_client = [0, 1]
        .map(|family| pair::pod_client(family, None))
        .contains(&address);
    if is_client || !random.chance(5) {
        endpoint["nodeName"] = NODES[node].into();
        endpoint["zone"] = ZONES[node].into();
    }
    if hints.starts_with("zones") || (hints == "some" && random.chance(60)) {
        endpoint["hints"] = json!({"forZones": [{"name": ZONES[node]}]});
    }
    if hints == "zones and nodes" {
        endpoint["hints"]["forNodes"] = json!([{"name": NODES[node]}]);
    }
    endpoint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_everything() {
        let make = |seed| {
            let cases: Vec<_> = (0..20).map(|number| case(seed, number)).collect();
            format!("{cases:?}")
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn every_field_comes_up() {
        let cases: Vec<_> = (0..300).map(|number| case(1, number)).collect();
        let all = format!("{cases:?}");
        for word in [
            "ClusterIP\"",
            "NodePort\"",
            "LoadBalancer\"",
            "ClientIP",
            "externalIPs",
            "\"externalTrafficPolicy\": String(\"Local\")",
            "\"internalTrafficPolicy\": String(\"Local\")",
            "loadBalancerSourceRanges",
            "Proxy",
            "service-proxy-name",
            "publishNotReadyAddresses",
            "RequireDualStack",
            "SingleStack",
            "forZones",
            "forNodes",
            "\"UDP\"",
            "\"SCTP\"",
            "\"terminating\": Bool(true)",
        ] {
            assert!(all.contains(word), "{word} never comes up");
        }
    }
}
