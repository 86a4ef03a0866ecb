//! The gateway against kube-proxy (nftables mode): the same cluster, the same packets, the same
//! outcome.
//!
//! `make test-cluster` runs it with 300 services; `PORTGATE_DIFFERENTIAL_SERVICES`, how many of them
//! to skip in `PORTGATE_DIFFERENTIAL_SKIP`, and `PORTGATE_DIFFERENTIAL_SEED` change what is generated. Differences that are meant are listed in
//! `docs/differences.md`, and [`explained`] knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use ci::cluster::Cluster;
use ci::cluster::api::Request;
use ci::cluster::generate::{self, Case, NAMESPACE};
use ci::cluster::pair::{self, CLIENTS, World};
use ci::cluster::probe::{self, Outcome, Probe, Transport};
use ci::gateway::Gateway;
use ci::topology::OUTSIDE;
use ci::wait;
use serde_json::{Value, json};

/// Services that exist at a time.
const BATCH: usize = 50;

/// What was different.
struct Difference {
    /// The same for differences that probably have the same cause.
    group: String,
    probe: String,
    kube_proxy: Outcome,
    gateway: Outcome,
    objects: String,
}

struct Lab {
    cluster: Cluster,
    kernel: World,
    gateway: World,
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn the_gateway_does_what_kube_proxy_does() {
    let total = setting("PORTGATE_DIFFERENTIAL_SERVICES", 300);
    let skipped = setting("PORTGATE_DIFFERENTIAL_SKIP", 0);
    let seed = setting("PORTGATE_DIFFERENTIAL_SEED", 1);
    let lab = Lab {
        cluster: Cluster::start(),
        kernel: World::new(),
        gateway: World::new(),
    };
    pair::add_nodes(&lab.cluster);
    lab.cluster.attach(&lab.kernel.net.gateway);
    lab.cluster.attach(&lab.gateway.net.gateway);
    let _kube_proxy = lab.kernel.start_kube_proxy(&lab.cluster);
    let _gateway = Gateway::start(
        &lab.gateway.net.gateway,
        &lab.gateway.configuration(&lab.cluster),
        lab.gateway.net.directory(),
    );

    let seed = u64::try_from(seed).expect("a seed");
    let mut differences = Vec::new();
    let mut asked = 0;
    for first in (skipped..total).step_by(BATCH) {
        let numbers = first..total.min(first + BATCH);
        let mut cases: Vec<_> = numbers
            .clone()
            .map(|number| generate::case(seed, number))
            .collect();
        lab.create(&cases);
        lab.settle(&format!("made-{first}"), 2 * first);
        asked += lab.compare(&cases, false, &mut differences);

        let slices = numbers
            .zip(&cases)
            .map(|(number, case)| generate::other_slices(seed, number, case))
            .collect();
        lab.change(&mut cases, slices);
        lab.settle(&format!("changed-{first}"), 2 * first + 1);
        asked += lab.compare(&cases, true, &mut differences);
        lab.remove(&cases);
        println!(
            "{} of {total} services: {asked} questions, {} differences",
            first + cases.len(),
            differences.len()
        );
    }
    assert!(asked > 4 * (total - skipped), "only {asked} questions");
    assert!(differences.is_empty(), "{}", report(&differences, seed));
}

impl Lab {
    fn create(&self, cases: &[Case]) {
        let api = self.cluster.api();
        let services: Vec<_> = cases
            .iter()
            .map(|case| Request::post(path("services", ""), case.service.clone()))
            .collect();
        api.send_all(&services);
        let rest = cases.iter().flat_map(|case| {
            let status = case.status.clone().map(|status| {
                Request::patch(path("services", &format!("/{}/status", case.name)), status)
            });
            status.into_iter().chain(case.slices.iter().map(post_slice))
        });
        api.send_all(&rest.collect::<Vec<_>>());
    }

    /// Gives every service other endpoints and, if it has them, other policies.
    fn change(&self, cases: &mut [Case], slices: Vec<Vec<Value>>) {
        let api = self.cluster.api();
        let mut requests = Vec::new();
        for (case, slices) in cases.iter_mut().zip(slices) {
            requests.extend(case.slices.iter().map(delete_slice));
            case.slices = slices;
        }
        api.send_all(&requests);
        let mut requests = Vec::new();
        for case in cases.iter() {
            requests.extend(case.slices.iter().map(post_slice));
            let spec = &case.service["spec"];
            let mut merged =
                json!({"internalTrafficPolicy": opposite(&spec["internalTrafficPolicy"])});
            if spec["type"] != "ClusterIP" || spec["externalIPs"].is_array() {
                merged["externalTrafficPolicy"] = opposite(&spec["externalTrafficPolicy"]).into();
            }
            let to = path("services", &format!("/{}", case.name));
            requests.push(Request::patch(to, json!({"spec": merged})));
        }
        api.send_all(&requests);
    }

    fn remove(&self, cases: &[Case]) {
        let slices = cases.iter().flat_map(|case| &case.slices).map(delete_slice);
        let services = cases
            .iter()
            .map(|case| Request::delete(path("services", &format!("/{}", case.name)), 0));
        self.cluster
            .api()
            .send_all(&slices.chain(services).collect::<Vec<_>>());
    }

    /// Waits until both have seen everything: the last service made is reached through both, in both
    /// families, at addresses that no service had before.
    fn settle(&self, name: &str, number: usize) {
        let api = self.cluster.api();
        let addresses = [0, 1].map(|family| generate::external(family, number, "sentinel"));
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"ports": [{"name": "p0", "protocol": "TCP", "port": 80}],
                     "ipFamilyPolicy": "RequireDualStack", "externalIPs": addresses},
        });
        api.post(&path("services", ""), &service)
            .expect("a service");
        for (family, kind) in ["IPv4", "IPv6"].iter().enumerate() {
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": format!("{name}-{family}"), "namespace": NAMESPACE,
                             "labels": {"kubernetes.io/service-name": name}},
                "addressType": kind,
                "ports": [{"name": "p0", "protocol": "TCP", "port": probe::PORTS[0]}],
                "endpoints": [{"addresses": [probe::address(family, 2, 3)]}],
            });
            api.send(&post_slice(&slice)).expect("a slice");
        }
        let probes = addresses.map(|address| Probe {
            what: "sentinel",
            from_pod: false,
            from: vec![pair::client(usize::from(address.is_ipv6()), true, 0)],
            to: SocketAddr::new(address, 80),
            transport: Transport::Tcp,
            sticky: false,
        });
        for (world, who) in [(&self.kernel, "kube-proxy"), (&self.gateway, "the gateway")] {
            let look = || {
                let outcomes = world.run(&probes.each_ref(), 1, Duration::from_millis(500));
                let served = |outcome: &Outcome| outcome.iter().any(|one| one.contains(":8080 "));
                outcomes.iter().all(served).then_some(())
            };
            wait::until(
                &format!("{who} serves {name}"),
                Duration::from_secs(60),
                look,
            );
        }
    }

    /// Asks the same of both; returns how many questions there were.
    fn compare(&self, cases: &[Case], again: bool, differences: &mut Vec<Difference>) -> usize {
        let api = self.cluster.api();
        let list = api.get(&path("services", "")).expect("a list of services");
        let services = list["items"].as_array().expect("items");
        let all: Vec<(&Case, Probe)> = cases
            .iter()
            .flat_map(|case| {
                let found = services
                    .iter()
                    .find(|s| s["metadata"]["name"] == case.name.as_str());
                let service = found.unwrap_or_else(|| panic!("{} is not there", case.name));
                probes(service, again)
                    .into_iter()
                    .map(move |probe| (case, probe))
            })
            .collect();

        let everything: Vec<&Probe> = all.iter().map(|(_, probe)| probe).collect();
        let doubtful = self.unequal(&everything, 12, Duration::from_millis(1200));
        let indexes: Vec<usize> = doubtful.into_iter().map(|(index, _)| index).collect();
        // Chance, or a busy machine? The second time there is more of everything.
        let fewer: Vec<&Probe> = indexes.iter().map(|index| &all[*index].1).collect();
        for (index, (kube_proxy, gateway)) in self.unequal(&fewer, 100, Duration::from_secs(4)) {
            let (case, probe) = &all[indexes[index]];
            let service = services
                .iter()
                .find(|s| s["metadata"]["name"] == case.name.as_str());
            if explained(case, probe, &kube_proxy, &gateway).is_none() {
                println!("{}", describe(probe));
                println!("  kube-proxy: {kube_proxy:?}\n  gateway:    {gateway:?}");
                differences.push(Difference {
                    group: group(probe, &kube_proxy, &gateway),
                    probe: describe(probe),
                    kube_proxy,
                    gateway,
                    objects: objects(service, case),
                });
            }
        }
        all.len()
    }

    /// Those probes whose outcomes are not the same.
    fn unequal(
        &self,
        probes: &[&Probe],
        tries: usize,
        patience: Duration,
    ) -> Vec<(usize, (Outcome, Outcome))> {
        let (kube_proxy, gateway) = thread::scope(|scope| {
            let other = scope.spawn(|| self.gateway.run(probes, tries, patience));
            let one = self.kernel.run(probes, tries, patience);
            (one, other.join().expect("the other network was asked"))
        });
        let both = kube_proxy.into_iter().zip(gateway);
        both.enumerate()
            .filter(|(_, (one, other))| one != other)
            .collect()
    }
}

/// Why a difference is none: see `docs/differences.md`.
fn explained(
    case: &Case,
    probe: &Probe,
    kube_proxy: &Outcome,
    gateway: &Outcome,
) -> Option<&'static str> {
    let only = |outcome: &Outcome, word: &str| outcome.len() == 1 && outcome.contains(word);
    let is_ours = case.service["metadata"]["labels"] == json!({});
    (!is_ours && probe.what == "NodePort" && only(kube_proxy, "refused") && only(gateway, "silent"))
        .then_some("a port of its own address that no service has")
}

/// Everything worth asking about a service, as the API server has it.
fn probes(service: &Value, again: bool) -> Vec<Probe> {
    let spec = &service["spec"];
    let sticky = spec["sessionAffinity"] == "ClientIP";
    let mut made = Vec::new();
    for port in spec["ports"].as_array().into_iter().flatten() {
        let transport = match port["protocol"].as_str() {
            Some("UDP") => Transport::Udp,
            Some("SCTP") => Transport::Sctp,
            _ => Transport::Tcp,
        };
        let number = |field: &str| port[field].as_u64().and_then(|n| u16::try_from(n).ok());
        let mut ask = |what, to: IpAddr, port: Option<u16>, kinds: &[Option<bool>]| {
            let Some(port) = port else { return };
            for kind in kinds {
                made.push(Probe {
                    what,
                    from_pod: kind.is_none(),
                    from: sources(usize::from(to.is_ipv6()), *kind, again, sticky),
                    to: SocketAddr::new(to, port),
                    transport,
                    sticky,
                });
            }
        };
        for address in addresses(&spec["clusterIPs"]) {
            ask("ClusterIP", address, number("port"), &[Some(true), None]);
            ask("another port", address, Some(9), &[Some(true)]);
            let node = OUTSIDE[usize::from(address.is_ipv6())];
            ask("NodePort", node, number("nodePort"), &[Some(true), None]);
        }
        for address in addresses(&spec["externalIPs"]) {
            ask("external IP", address, number("port"), &[Some(true), None]);
        }
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        for entry in ingress.into_iter().flatten() {
            if let Some(address) = entry["ip"].as_str().and_then(|ip| ip.parse().ok()) {
                let kinds = [Some(true), Some(false), None];
                ask("load-balancer IP", address, number("port"), &kinds);
            }
        }
    }
    made
}

/// Where a question comes from: outside (`Some`, and whether source ranges may admit it) or the pod.
/// If clients are remembered, there must be many to see all endpoints, and others after a change.
fn sources(family: usize, admitted: Option<bool>, again: bool, sticky: bool) -> Vec<IpAddr> {
    let half = CLIENTS / 2;
    let first = if again { half } else { 0 };
    let numbers = first..first + half;
    match admitted {
        Some(admitted) => numbers
            .map(|number| pair::client(family, admitted, number))
            .collect(),
        None if sticky => numbers
            .map(|number| pair::pod_client(family, Some(number)))
            .collect(),
        None => vec![pair::pod_client(family, None)],
    }
}

fn addresses(list: &Value) -> Vec<IpAddr> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

fn path(resource: &str, rest: &str) -> String {
    let group = match resource {
        "services" => "/api/v1",
        _ => "/apis/discovery.k8s.io/v1",
    };
    format!("{group}/namespaces/{NAMESPACE}/{resource}{rest}")
}

fn post_slice(slice: &Value) -> Request {
    Request::post(path("endpointslices", ""), slice.clone())
}

fn delete_slice(slice: &Value) -> Request {
    let name = slice["metadata"]["name"].as_str().unwrap_or_default();
    Request::delete(path("endpointslices", &format!("/{name}")), 0)
}

fn opposite(policy: &Value) -> &'static str {
    if policy == "Local" {
        "Cluster"
    } else {
        "Local"
    }
}

fn describe(probe: &Probe) -> String {
    let who = if probe.from_pod { "the pod" } else { "outside" };
    format!(
        "{who} {} to {} over {:?}{}",
        probe.from[0],
        probe.to,
        probe.transport,
        if probe.sticky { ", sticky" } else { "" }
    )
}

fn objects(service: Option<&Value>, case: &Case) -> String {
    let spec = service.map(|service| &service["spec"]);
    let status = service.map(|service| &service["status"]);
    let slices: Vec<_> = case
        .slices
        .iter()
        .map(|slice| json!({"ports": slice["ports"], "endpoints": slice["endpoints"]}))
        .collect();
    let labels = &case.service["metadata"]["labels"];
    json!({"name": case.name, "labels": labels, "spec": spec, "status": status, "slices": slices})
        .to_string()
}

/// What is asked of whom, and what kinds of answers there were.
fn group(probe: &Probe, kube_proxy: &Outcome, gateway: &Outcome) -> String {
    let kinds = |outcome: &Outcome| {
        let kinds = outcome.iter().map(|one| match one.split_once("then") {
            Some(_) => "not sticky",
            None => one.rsplit(' ').next().unwrap_or_default(),
        });
        kinds
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(", ")
    };
    let who = if probe.from_pod { "pod" } else { "outside" };
    let sticky = if probe.sticky { ", sticky" } else { "" };
    let (one, other) = (kinds(kube_proxy), kinds(gateway));
    format!(
        "{who} to {}{sticky}: kube-proxy {one}; gateway {other}",
        probe.what
    )
}

/// One example of each group.
fn report(differences: &[Difference], seed: u64) -> String {
    let mut text = format!("{} differences (seed {seed})\n", differences.len());
    let mut groups: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
    for difference in differences {
        groups
            .entry(&difference.group)
            .or_default()
            .push(difference);
    }
    for (group, members) in groups {
        let example = members[0];
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n{} times {group}, for one\n  {}\n  kube-proxy: {:?}\n  gateway:    {:?}\n  {}",
            members.len(),
            example.probe,
            example.kube_proxy,
            example.gateway,
            example.objects
        );
    }
    text
}

fn setting(name: &str, default: usize) -> usize {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}; it must be a number")),
        Err(_) => default,
    }
}
