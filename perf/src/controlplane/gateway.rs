//! The process with the data plane: the region, the production update path on its main core, and one worker.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use clap::Args;
use engine::counters::Counters;
use engine::install::Installed;
use engine::shared::Options as EngineOptions;
use engine::slots::ServiceSlots;
use hugepages::layout::Geometry;
use hugepages::{Origin, Region};
use portgate_dataplane::tables;
use portgate_dataplane::update::{MAIN_PAUSE, Updater};

use super::memory;
use super::talk::{GatewayNews, GatewayOrder, now, orders, say};
use super::worker::{Parts, Worker};
use crate::Error;
use crate::engine::cluster::Cluster;

/// As `perf controlplane` types it.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The region's file.
    #[arg(long)]
    pub region: PathBuf,
    /// Services that flows go to.
    #[arg(long)]
    pub services: usize,
    /// Endpoints of each.
    #[arg(long)]
    pub endpoints: usize,
    /// Flows that the region's tables are made for.
    #[arg(long)]
    pub capacity: u32,
    /// Seed of every random choice.
    #[arg(long)]
    pub seed: u64,
}

/// Workers of the region: the worker, and the main core, which counts too.
const COUNTERS: u16 = 2;

/// Runs a data plane until the standard input ends.
///
/// # Errors
///
/// [`Error::Run`] if the region cannot be used or the worker fails.
pub fn run(options: &Options) -> Result<(), Error> {
    let fail = |error: hugepages::RegionError| Error::Run(error.to_string());
    let cluster = Cluster {
        family: 4,
        services: options.services,
        endpoints: options.endpoints,
    };
    let topology = cluster.topology();
    // IPv6 flows as by default: a quarter.
    let (links, flows) = (topology.links.len() as u16, options.capacity);
    let geometry = Geometry::new(COUNTERS, links, flows, flows / 4);
    let (region, origin) = Region::create(&options.region, &geometry).map_err(fail)?;
    let region = Arc::new(region);
    let engine_options = EngineOptions::default();
    let shared = Arc::new(tables::take(
        &region,
        &origin,
        true,
        topology,
        engine_options,
    ));
    let begun = now();
    let slots = ServiceSlots::new(region.service_keys());
    let installed = Installed::new(shared.topology.clone(), slots, engine_options.maglev_seed);
    let counters = |worker| Counters::of(&region, worker);
    if origin == Origin::TakenOver {
        let all: Vec<_> = (0..COUNTERS).map(counters).collect();
        engine::settle::settle(&all);
    }
    let mut updater =
        Updater::new(region.clone(), installed, shared.clone(), counters(1)).map_err(fail)?;
    let restoring = now() - begun;
    region.beat();

    let stop = Arc::new(AtomicBool::new(false));
    let (to_worker, worker_orders) = channel();
    let (news, to_say) = channel();
    let worker = Worker::new(Parts {
        cluster,
        shared: shared.clone(),
        snapshots: updater.publisher().subscribe(),
        more_snapshots: [(); 2].map(|()| updater.publisher().subscribe()),
        counters: counters(0),
        seed: options.seed,
        orders: worker_orders,
        news: news.clone(),
        stop: stop.clone(),
    })?;
    // Neither the main core nor the worker is to wait for a reader.
    let speaker = thread::spawn(move || to_say.iter().for_each(|news: GatewayNews| say(&news)));
    let listener = {
        let (stop, news, path) = (stop.clone(), news.clone(), options.region.clone());
        move || {
            let result = orders(|order| match order {
                GatewayOrder::Memory => {
                    let memory = memory::of_this_process(&path);
                    let _ = news.send(memory.map_or_else(
                        |error| GatewayNews::Failed(error.to_string()),
                        GatewayNews::Memory,
                    ));
                }
                order => drop(to_worker.send(order)),
            });
            if let Err(error) = result {
                let _ = news.send(GatewayNews::Failed(error.to_string()));
            }
            // Relaxed: the flag stands alone.
            stop.store(true, Ordering::Relaxed);
        }
    };
    thread::spawn(listener);
    let running = thread::spawn(move || worker.run());
    let _ = news.send(GatewayNews::Ready {
        generation: updater.generation(),
        objects: updater.objects(),
        restoring,
    });
    // What the process's main loop does, but for looking after links.
    while !stop.load(Ordering::Relaxed) {
        let (looked, before) = (now(), updater.generation());
        let busy = updater.poll();
        let generation = updater.generation();
        if generation != before {
            let _ = news.send(GatewayNews::Published {
                generation,
                looked,
                done: now(),
            });
        }
        region.beat();
        if running.is_finished() {
            break;
        }
        if !busy {
            thread::sleep(MAIN_PAUSE);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let result = running.join();
    drop(news);
    if let Ok(Err(error)) = &result {
        say(&GatewayNews::Failed(error.to_string()));
    }
    // The listener still holds a way to the speaker: the end of the process ends both.
    drop(speaker);
    result.unwrap_or_else(|_| Err(Error::Run("the worker panicked".to_owned())))
}
