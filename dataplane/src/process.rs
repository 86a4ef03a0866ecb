//! The life of the process, from settings to the last frame.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpdk::{Eal, Mempool};
use engine::counters::Counters;
use engine::install::Installed;
use engine::slots::ServiceSlots;
use engine::{Pipeline, Shared};
use hugepages::{LinkInfo, Origin, Region};
use settings::{Device, Settings};

use crate::Error;
use crate::handover::{self, Side};
use crate::tables;
use crate::update::{MAIN_PAUSE, Updater};
use crate::watch::{Watch, WatchedLink};
use crate::wiring::{self, OpenLink};
use crate::worker::Worker;

/// Runs the data plane until a signal ends it, or checks its configuration.
///
/// # Errors
///
/// [`Error`] says what is wrong, and with which exit code to end.
pub fn run(config: &Path, check_only: bool) -> Result<(), Error> {
    let settings = settings::load(config)?;
    wiring::check(&settings)?;
    if check_only {
        return Ok(());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.clone()).map_err(Error::Signals)?;
    }

    // The region first: it tells whether another data plane runs before any device is touched.
    let (region, origin) = Region::create(&settings.region.path, &wiring::geometry(&settings))?;
    tracing::info!(path = %settings.region.path.display(), "{origin}");
    let region = Arc::new(region);

    let eal = wiring::start_eal(&settings)?;
    let (pool, links) = wiring::open_links(&eal, &settings)?;
    for (link, open) in settings.links.iter().zip(&links) {
        tracing::info!("{}", wiring::describe(link, open));
        warn_about(link, open);
    }

    let shared = Arc::new(share(&region, &settings, &links, &origin));
    let slots = ServiceSlots::new(region.service_keys());
    let seed = settings.gateway.maglev_seed;
    let installed = Installed::new(shared.topology.clone(), slots, seed);
    let workers = settings.workers.count;
    let counters = |worker| {
        Counters::new(
            region.worker_counters(worker),
            region.service_counters(worker),
        )
    };
    if origin == Origin::TakenOver {
        (0..=workers).for_each(|worker| counters(worker).settle());
    }
    let mut updater = Updater::new(region.clone(), installed, shared.clone(), counters(workers))?;
    let watched = links
        .iter()
        .zip(&settings.links)
        .map(|(open, link)| watched(link, open));
    let all_counters = (0..=workers).map(counters).collect();
    let mut watch = Watch::new(region.clone(), watched.collect(), all_counters);

    let sides = handover::deal(links, usize::from(workers));
    let running = start_workers(
        &eal, &settings, &shared, &updater, &pool, sides, &stop, &counters,
    )?;
    region.beat();
    say_ready(&settings, &updater);

    // Relaxed: the flag stands alone.
    while !stop.load(Ordering::Relaxed) {
        let busy = updater.poll();
        watch.poll();
        region.beat();
        if running.iter().any(dpdk::Worker::is_finished) {
            stop.store(true, Ordering::Relaxed);
        }
        if !busy {
            std::thread::sleep(MAIN_PAUSE);
        }
    }
    for worker in running {
        worker.join()?;
    }
    tracing::info!("ended; flows stay in the region for the next start");
    Ok(())
}

/// The tables of the region, for these settings.
fn share(region: &Region, settings: &Settings, links: &[OpenLink], origin: &Origin) -> Shared {
    let same_links = has_same_links(region, settings);
    let (topology, options) = (wiring::topology(settings, links), wiring::options(settings));
    tables::take(region, origin, same_links, topology, options)
}

/// Whether the region's links are those of the settings, in the same order.
fn has_same_links(region: &Region, settings: &Settings) -> bool {
    settings.links.iter().enumerate().all(|(at, link)| {
        LinkInfo::read(&region.link(at as u16))
            .is_some_and(|info| info.name == link.name && info.device == link.device.to_string())
    })
}

fn watched(link: &settings::Link, open: &OpenLink) -> WatchedLink {
    let info = open.port.info();
    WatchedLink {
        port: open.port.clone(),
        info: LinkInfo {
            name: link.name.clone(),
            device: link.device.to_string(),
            driver: info.driver.clone(),
            mac: link.mac.unwrap_or(info.mac),
            mtu: info.mtu.min(link.mtu),
            vlan: link.vlan,
            up: true,
            speed_mbps: 0,
            missed: 0,
        },
        interface: match &link.device {
            Device::AfPacket(interface) | Device::AfXdp(interface) => Some(interface.clone()),
            Device::Pci(_) | Device::Vdev(_) => None,
        },
    }
}

/// What is likely to go wrong with a link, as far as it can be known before the first frame.
fn warn_about(link: &settings::Link, open: &OpenLink) {
    let info = open.port.info();
    if let Some(mtu) = info.interface_mtu.filter(|mtu| *mtu > u32::from(info.mtu)) {
        tracing::warn!(
            "link {}: the interface's MTU {mtu} is larger than the link's {}: longer frames arrive \
             cut short; set links.mtu or the interface's MTU",
            link.name,
            info.mtu
        );
    }
}

#[allow(clippy::too_many_arguments)] // the parts of which a worker is made
fn start_workers(
    eal: &Eal,
    settings: &Settings,
    shared: &Arc<Shared>,
    updater: &Updater,
    pool: &Mempool,
    sides: Vec<Vec<Side>>,
    stop: &Arc<AtomicBool>,
    counters: &dyn Fn(u16) -> Counters,
) -> Result<Vec<dpdk::Worker<()>>, Error> {
    let mut running = Vec::new();
    for (number, sides) in sides.into_iter().enumerate() {
        let seed = hugepages::region::monotonic_nanos() ^ ((number as u64 + 1) << 48);
        let worker = Worker {
            pipeline: Pipeline::new(
                shared.clone(),
                updater.publisher().subscribe(),
                counters(number as u16),
                number,
                seed,
            ),
            pool: pool.local(),
            sides,
            idle_sleep: Duration::from_micros(settings.workers.idle_sleep_us.into()),
            stop: stop.clone(),
        };
        running.push(eal.launch(number as u32 + 1, move || worker.run())?);
    }
    Ok(running)
}

/// The one line on standard output that others wait for.
fn say_ready(settings: &Settings, updater: &Updater) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading: that is no reason to stop forwarding.
    let _ = writeln!(
        out,
        "portgate-dataplane ready links={} workers={} generation={} region={}",
        settings.links.len(),
        settings.workers.count,
        updater.generation(),
        settings.region.path.display(),
    );
    let _ = out.flush();
}
