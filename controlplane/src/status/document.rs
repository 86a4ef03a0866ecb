//! What the page shows, as one JSON document. Counters are as they stand; rates are the reader's to work out.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::counters::{Counters, LinkCounter, ServiceCounter, Total};
use engine::reason::Reason;
use hugepages::object::FrontendKind;
use serde_json::{Map, Value, json};

use crate::health::Health;
use crate::metrics::{Curve, Metrics, PERCENTILES};
use crate::observe::{self, Histogram, InstalledService, STATES, View};

/// Services shown; of more, those with most open flows.
const MOST_SERVICES: usize = 200;

/// Addresses, and endpoints, shown of a service.
const MOST_OF_A_SERVICE: usize = 50;

/// Workers that have a curve of their own.
const MOST_CURVES: usize = 4;

/// The document; of services whose `namespace/name` contains `wanted`.
pub(super) fn of(
    view: Result<&View, &String>,
    health: &Health,
    metrics: &Metrics,
    wanted: &str,
) -> Value {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH);
    let (synced, committed) = {
        let facts = health.facts();
        (facts.synced, facts.committed)
    };
    let mut document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at": millis.unwrap_or_default().as_millis() as u64,
        "synced": synced,
        "committed": committed,
        "wanted_generation": metrics.generation_wanted.get(),
        "latency": [
            curve("commit", &metrics.commit_curve),
            curve("network programming", &metrics.programming_curve),
        ],
    });
    match view {
        Ok(view) => document["gateway"] = gateway(view, wanted),
        Err(why) => document["trouble"] = why.as_str().into(),
    }
    document
}

fn gateway(view: &View, wanted: &str) -> Value {
    let totals =
        Total::ALL.map(|total| (total.name(), observe::total(view.counters.blocks(), total)));
    let drops = Reason::ALL
        .iter()
        .map(|reason| {
            (
                reason.name(),
                observe::drops(view.counters.blocks(), *reason),
            )
        })
        .filter(|(_, count)| *count > 0);
    let (services, matching) = services(view, wanted);
    json!({
        "running": view.is_running(),
        "silent_seconds": view.silence().as_secs_f64(),
        "generation": view.installed.generation,
        "as_wanted": view.is_as_wanted(),
        "totals": numbers(totals),
        "drops": numbers(drops),
        "bursts": bursts(view.counters.workers()),
        "links": links(view),
        "tables": tables(view),
        "counted_seconds_ago": view.survey_age.as_secs_f64(),
        "service_ports": view.installed.services.len(),
        "matching": matching,
        "services": services,
    })
}

/// Curves of the times that bursts took from rx to tx: of each worker, or, if they are many, of all.
fn bursts(workers: &[Counters]) -> Vec<Value> {
    let all = workers.iter().map(Histogram::of_bursts);
    let curve = |name: &str, times: &Histogram| {
        let points = PERCENTILES.iter().filter(|_| times.count() > 0);
        let points = points.map(|at| (*at, times.quantile(at / 100.0)));
        json!({"name": name, "count": times.count(), "points": points.collect::<Vec<_>>()})
    };
    if workers.len() <= MOST_CURVES {
        let named = all.enumerate();
        return named
            .map(|(number, times)| curve(&format!("worker {number}"), &times))
            .collect();
    }
    let sum = all.reduce(|mut sum, times| {
        sum.add(&times);
        sum
    });
    let name = format!("{} workers", workers.len());
    vec![curve(&name, &sum.unwrap_or_default())]
}

fn links(view: &View) -> Vec<Value> {
    let link = |(at, info): (usize, hugepages::LinkInfo)| {
        let lost = [
            LinkCounter::Dropped,
            LinkCounter::Truncated,
            LinkCounter::UnfinishedChecksums,
        ];
        let lost: u64 = lost
            .iter()
            .map(|counter| view.counters.link(at, *counter))
            .sum();
        json!({
            "name": info.name,
            "device": info.device,
            "up": info.up,
            "rx_frames": view.counters.link(at, LinkCounter::RxFrames),
            "rx_bytes": view.counters.link(at, LinkCounter::RxBytes),
            "tx_frames": view.counters.link(at, LinkCounter::TxFrames),
            "tx_bytes": view.counters.link(at, LinkCounter::TxBytes),
            "dropped": lost,
            "missed": info.missed,
        })
    };
    view.links().into_iter().map(link).collect()
}

fn tables(view: &View) -> Vec<Value> {
    let tables = ["IPv4", "IPv6"].into_iter().zip(&view.survey.families);
    let table = tables.map(|(name, table)| {
        let states = STATES.iter().map(|state| state.name()).zip(table.flows);
        json!({
            "family": name,
            "flows": numbers(states),
            "made_for": table.made_for,
            "oldest_seconds": table.oldest,
        })
    });
    table.collect()
}

/// The services to show, by name, and how many match.
fn services(view: &View, wanted: &str) -> (Vec<Value>, usize) {
    let all = view.installed.services.iter();
    let matching = all.filter(|service| {
        wanted.is_empty() || format!("{}/{}", service.namespace, service.name).contains(wanted)
    });
    let mut matching: Vec<_> = matching.enumerate().collect();
    let number = matching.len();
    if number > MOST_SERVICES {
        let open =
            |service: &InstalledService| service.slot.map_or(0, |slot| view.survey.open(slot));
        matching.sort_by_cached_key(|(at, service)| (Reverse(open(service)), *at));
        matching.truncate(MOST_SERVICES);
        matching.sort_unstable_by_key(|(at, _)| *at);
    }
    let shown = matching.into_iter().map(|(_, each)| service(view, each));
    (shown.collect(), number)
}

fn service(view: &View, service: &InstalledService) -> Value {
    let frontends = service.frontends.iter().take(MOST_OF_A_SERVICE);
    let frontends = frontends
        .map(|(kind, address)| json!({"type": kind_name(*kind), "address": address.to_string()}));
    let endpoints = service.endpoints.iter().take(MOST_OF_A_SERVICE);
    let endpoints = endpoints.map(|endpoint| {
        let slot = service.slot.unwrap_or(u32::MAX);
        let open = view.survey.endpoints.get(&(slot, endpoint.address));
        json!({
            "address": endpoint.address.to_string(),
            "takes_new": endpoint.takes_new,
            "open": open.copied().unwrap_or(0),
        })
    });
    let counters = service.slot.map(|slot| {
        numbers(
            ServiceCounter::ALL.map(|(counter, name)| (name, view.counters.service(slot, counter))),
        )
    });
    json!({
        "namespace": service.namespace,
        "name": service.name,
        "port": service.port_name,
        "protocol": service.protocol.name(),
        "frontends": frontends.collect::<Vec<_>>(),
        "all_frontends": service.frontends.len(),
        "endpoints": endpoints.collect::<Vec<_>>(),
        "all_endpoints": service.endpoints.len(),
        "open": service.slot.map(|slot| view.survey.open(slot)),
        "counters": counters,
    })
}

/// The kind of a frontend as Kubernetes' users write it.
const fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::NodePort => "NodePort",
        FrontendKind::LoadBalancer => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
    }
}

fn curve(name: &str, curve: &Curve) -> Value {
    let (count, points) = curve.points();
    json!({"name": name, "count": count, "points": points})
}

/// Numbers by name.
fn numbers(pairs: impl IntoIterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
}
