//! What the screen shows: the difference of two readings.

use std::collections::HashMap;
use std::time::Instant;

use engine::Reason;
use engine::counters::{Counters, LinkCounter, ServiceCounter, Total};
use portgate_controlplane::observe::{AllCounters, drops, total};
use serde_json::{Value, json};
use settings::Settings;

use crate::failure::Failure;
use crate::installed::Installed;
use crate::observe;

/// Counters of a service that are shown.
const OF_SERVICES: [ServiceCounter; 4] = [
    ServiceCounter::Frames,
    ServiceCounter::Bytes,
    ServiceCounter::Flows,
    ServiceCounter::Refused,
];

/// Counters of a link that are shown.
const OF_LINKS: [LinkCounter; 4] = [
    LinkCounter::RxFrames,
    LinkCounter::RxBytes,
    LinkCounter::TxFrames,
    LinkCounter::TxBytes,
];

/// The gateway at one moment.
pub(super) struct Reading {
    at: Instant,
    generation: u64,
    capacity: u64,
    created: u64,
    removed: u64,
    workers: Vec<Worker>,
    links: Vec<(String, [u64; 4])>,
    services: HashMap<String, [u64; 4]>,
    drops: Vec<(&'static str, u64)>,
}

struct Worker {
    /// That it carried, whoever received them.
    frames: u64,
    bursts: u64,
    work_nanos: u64,
}

/// What has happened between two readings; rates are for a second.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) generation: u64,
    /// Flows in the tables, and those that they are made for.
    pub(super) flows: (u64, u64),
    pub(super) created: f64,
    pub(super) removed: f64,
    pub(super) workers: Vec<WorkerView>,
    /// Frames and bytes received, frames and bytes sent.
    pub(super) links: Vec<(String, [f64; 4])>,
    /// Frames, bytes, new flows, refused ones; the busiest first.
    pub(super) services: Vec<(String, [f64; 4])>,
    /// Rate and all so far, the most frequent first.
    pub(super) drops: Vec<(&'static str, f64, u64)>,
}

/// One worker.
#[derive(Debug, Default)]
pub(super) struct WorkerView {
    pub(super) frames: f64,
    /// Frames in a burst on average.
    pub(super) burst: f64,
    /// Part of its time that goes into bursts that are not empty.
    pub(super) load: f64,
}

impl Reading {
    /// The gateway now.
    pub(super) fn of(settings: &Settings) -> Result<Self, Failure> {
        let region = observe::open(settings)?;
        let counters = AllCounters::of(&region);
        let installed = Installed::of(&region)?;
        let geometry = region.geometry();
        let worker = |block: &Counters| {
            let links = 0..usize::from(geometry.links);
            let dealt_out = links.map(|at| block.link(at, LinkCounter::DealtOut));
            let received = block.total(Total::Received) + block.total(Total::TakenIn);
            Worker {
                frames: received.saturating_sub(dealt_out.sum()),
                bursts: block.total(Total::Bursts),
                work_nanos: block.total(Total::WorkNanos),
            }
        };
        let links = observe::link_names(&region).into_iter().enumerate();
        let services = installed
            .contents
            .services()
            .into_iter()
            .filter_map(|service| {
                let slot = installed.slot(service.key)?;
                let name = match service.port_name.as_str() {
                    "" => service.name.clone(),
                    port => format!("{}:{port}", service.name),
                };
                Some((name, OF_SERVICES.map(|each| counters.service(slot, each))))
            });
        let blocks = counters.blocks();
        Ok(Self {
            at: Instant::now(),
            generation: installed.contents.generation,
            capacity: u64::from(geometry.flows) + u64::from(geometry.flows_v6),
            created: total(blocks, Total::FlowsCreated),
            removed: total(blocks, Total::FlowsRemoved),
            workers: counters.workers().iter().map(worker).collect(),
            links: links
                .map(|(at, name)| (name, OF_LINKS.map(|each| counters.link(at, each))))
                .collect(),
            services: services.collect(),
            drops: Reason::ALL
                .iter()
                .map(|reason| (reason.name(), drops(blocks, *reason)))
                .collect(),
        })
    }
}

impl View {
    /// What has happened.
    pub(super) fn between(before: &Reading, now: &Reading) -> Self {
        let seconds = (now.at - before.at).as_secs_f64().max(1e-3);
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let rates = |before: &[u64; 4], now: &[u64; 4]| -> [f64; 4] {
            std::array::from_fn(|at| rate(before[at], now[at]))
        };
        let workers = before.workers.iter().zip(&now.workers);
        let workers = workers.map(|(before, now)| {
            let (frames, bursts) = (
                rate(before.frames, now.frames),
                rate(before.bursts, now.bursts),
            );
            WorkerView {
                frames,
                burst: if bursts > 0.0 { frames / bursts } else { 0.0 },
                load: (rate(before.work_nanos, now.work_nanos) / 1e9).min(1.0),
            }
        });
        let links = before.links.iter().zip(&now.links);
        let links = links.map(|((_, before), (name, now))| (name.clone(), rates(before, now)));
        let services = now.services.iter().map(|(name, now)| {
            let before = before.services.get(name).unwrap_or(&[0; 4]);
            (name.clone(), rates(before, now))
        });
        let mut services: Vec<_> = services.collect();
        services.sort_by(|(name, a), (other, b)| b[0].total_cmp(&a[0]).then(name.cmp(other)));
        let drops = before.drops.iter().zip(&now.drops);
        let mut drops: Vec<_> = drops
            .map(|((_, before), (name, now))| (*name, rate(*before, *now), *now))
            .filter(|(_, _, now)| *now > 0)
            .collect();
        drops.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.cmp(&a.2)));
        Self {
            generation: now.generation,
            flows: (now.created.saturating_sub(now.removed), now.capacity),
            created: rate(before.created, now.created),
            removed: rate(before.removed, now.removed),
            workers: workers.collect(),
            links: links.collect(),
            services,
            drops,
        }
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        let named = |names: [&str; 4], (name, rates): &(String, [f64; 4])| {
            let mut shown = json!({"name": name});
            for (name, rate) in names.into_iter().zip(rates) {
                shown[name] = (*rate).into();
            }
            shown
        };
        let of_links = ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes"];
        let of_services = ["frames", "bytes", "flows", "refused"];
        let worker = |(number, worker): (usize, &WorkerView)| {
            json!({
                "worker": number,
                "frames": worker.frames,
                "frames_a_burst": worker.burst,
                "load": worker.load,
            })
        };
        let drop = |(reason, rate, count): &(&str, f64, u64)| json!({"reason": reason, "frames": rate, "total": count});
        json!({
            "generation": self.generation,
            "flows": {
                "open": self.flows.0,
                "capacity": self.flows.1,
                "created": self.created,
                "removed": self.removed,
            },
            "workers": self.workers.iter().enumerate().map(worker).collect::<Vec<_>>(),
            "links": self.links.iter().map(|link| named(of_links, link)).collect::<Vec<_>>(),
            "services":
                self.services.iter().map(|service| named(of_services, service)).collect::<Vec<_>>(),
            "drops": self.drops.iter().map(drop).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(at: Instant, frames: u64) -> Reading {
        let service = |name: &str, frames| (name.to_owned(), [frames, 0, 0, 0]);
        Reading {
            at,
            generation: 3,
            capacity: 100,
            created: 40 + frames / 100,
            removed: 10,
            workers: vec![Worker {
                frames,
                bursts: frames / 10,
                work_nanos: frames * 1000,
            }],
            links: vec![("a".to_owned(), [frames, 0, 0, 0])],
            services: [service("x/slow", 5), service("x/fast", frames)].into(),
            drops: vec![("no_flow", 0), ("tx_full", 7), ("not_ours", 5 + frames)],
        }
    }

    #[test]
    fn rates_loads_and_the_order_follow_from_two_readings() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(2);
        let view = View::between(&reading(begun, 0), &reading(later, 64_000));
        assert_eq!(view.flows, (670, 100));
        assert_eq!(view.links[0].1[0], 32_000.0);
        assert_eq!(
            view.services[0],
            ("x/fast".to_owned(), [32_000.0, 0.0, 0.0, 0.0])
        );
        assert_eq!(view.services[1].1[0], 0.0);
        let reasons: Vec<_> = view.drops.iter().map(|drop| drop.0).collect();
        assert_eq!(
            reasons,
            ["not_ours", "tx_full"],
            "what never occurred is left out"
        );
        let worker = &view.workers[0];
        assert_eq!((worker.frames, worker.burst), (32_000.0, 10.0));
        // 32,000 frames of a microsecond a second.
        assert!((0.030..0.034).contains(&worker.load), "{}", worker.load);
        let document = view.document();
        assert_eq!(document["services"][0]["frames"], 32_000.0);
        assert_eq!(document["drops"][1]["total"], 7);
    }
}
