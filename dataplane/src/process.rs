//! The life of the process, from settings to the last frame.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dpdk::{Eal, Mempool};
use engine::counters::Counters;
use engine::fan_out::Pressures;
use engine::install::Installed;
use engine::slots::ServiceSlots;
use engine::{Pipeline, Shared};
use hugepages::host::need::geometry;
use hugepages::host::{Root, cores};
use hugepages::{LinkInfo, Origin, Queues, Region};
use settings::{Device, Settings};

use crate::Error;
use crate::confine::confine;
use crate::handover::{self, Seat, Ways};
use crate::host::{self, Host, Taps};
use crate::recall::Recall;
use crate::tables;
use crate::takeover::{Listener, Predecessor, Successor};
use crate::trace::Desk;
use crate::update::{MAIN_PAUSE, Updater};
use crate::watch::{Watch, WatchedLink};
use crate::wiring::{self, OpenLink};
use crate::worker::{Ended, TIMED, Worker};

/// How long a device may still be busy after the process that had it open has ended: the kernel lets an AF_XDP
/// socket's queue go a moment later.
const LETTING_GO: Duration = Duration::from_secs(3);

/// Between two tries to open it. A failed one costs packet memory, so there must not be many.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Check the configuration and end.
    Check,
    /// Serve.
    Start,
    /// Serve, in the place of the data plane that does so now.
    TakeOver,
}

/// Runs the data plane until a signal or a successor ends it, or checks its configuration.
///
/// # Errors
///
/// [`Error`] says what is wrong, and with which exit code to end.
pub fn run(config: &Path, mode: Mode) -> Result<(), Error> {
    let settings = settings::load(config)?;
    wiring::check(&settings)?;
    if mode == Mode::Check {
        return Ok(());
    }
    settings::log::start(settings.log, "");
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %config.display(),
        "starting"
    );
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.clone()).map_err(Error::Signals)?;
    }
    wiring::join_group(&settings)?;
    let predecessor = match mode {
        Mode::TakeOver => Predecessor::find(&settings.region.path).map_err(Error::TakeOver)?,
        Mode::Check | Mode::Start => None,
    };
    // The region first: it tells whether another data plane runs before any device is touched.
    let taken = match predecessor {
        None => Some(take_region(&settings)?),
        Some(_) => None,
    };
    for advice in cores::advice(&Root::default(), &settings) {
        tracing::warn!("{advice}");
    }
    let eal = wiring::start_eal(&settings)?;
    let pool = wiring::make_pool(&eal, &settings)?;
    let gateway = Gateway {
        settings,
        eal,
        pool,
        stop,
    };
    gateway.run(taken, predecessor)
}

type Taken = (Region, Origin);

fn take_region(settings: &Settings) -> Result<Taken, Error> {
    let (path, geometry) = (&settings.region.path, geometry(settings));
    let (region, origin) = Region::create_for(path, &geometry, wiring::group(settings)?)?;
    tracing::info!(path = %path.display(), "{origin}");
    Ok((region, origin))
}

/// What stays while region and links come and go.
struct Gateway {
    settings: Settings,
    eal: Eal,
    pool: Mempool,
    stop: Arc<AtomicBool>,
}

/// Why a gateway serves no longer.
enum End {
    Signal,
    /// Another data plane wants region and links. If it can open all of them beside this process, they are kept in
    /// case it fails.
    Successor {
        successor: Successor,
        kept: Option<Vec<OpenLink>>,
        /// When this process polled last, in nanoseconds of CLOCK_MONOTONIC.
        polled: u64,
    },
}

/// What workers are made from.
struct Parts<'a> {
    shared: &'a Arc<Shared>,
    updater: &'a Updater,
    desk: &'a Desk,
    host: &'a Host,
    recall: &'a Arc<Recall>,
    counters: &'a dyn Fn(u16) -> Counters,
    pressures: &'a Pressures,
}

impl Gateway {
    fn run(&self, taken: Option<Taken>, mut predecessor: Option<Predecessor>) -> Result<(), Error> {
        let mut links: Vec<_> = self.settings.links.iter().map(|_| None).collect();
        let mut released = None;
        let mut patience = Duration::ZERO;
        if let Some(old) = &mut predecessor {
            let settings = &self.settings;
            settings.links.iter().try_for_each(wiring::expect_device)?;
            self.open(&mut links, wiring::is_shareable, Duration::ZERO)?;
            let room = old.ask(|| discard(&mut links)).map_err(Error::TakeOver)?;
            released = Some(room.polled);
            if !room.waits {
                patience = LETTING_GO;
            }
        }
        self.open(&mut links, |_| true, patience)?;
        let mut links: Vec<OpenLink> = links.into_iter().flatten().collect();
        let mut taken = Some(match taken {
            Some(taken) => taken,
            None => take_region(&self.settings)?,
        });
        let mac = |open: &OpenLink| open.port.info().mac;
        let macs: Vec<_> = links.iter().map(mac).collect();
        let mut taps = host::open(&self.settings, &macs)?;
        confine(&self.settings)?;
        loop {
            let (region, origin) = match taken.take() {
                Some(taken) => taken,
                None => take_region(&self.settings)?,
            };
            let is_serving = |polled: u64| {
                let (Some(old), Some(released)) = (predecessor.take(), released) else {
                    return;
                };
                let gap = Duration::from_nanos(polled.saturating_sub(released));
                say(&format!("took over: gap {:.3} ms", gap.as_secs_f64() * 1e3));
                if let Err(error) = old.thank(polled) {
                    tracing::warn!(%error, "the data plane before did not hear that it may end");
                }
            };
            // Links that the host shares are not handed over, so there is no second time for these.
            let taps = std::mem::take(&mut taps);
            match self.serve(region, &origin, links, taps, is_serving)? {
                End::Signal => {
                    tracing::info!("ended; flows stay in the region for the next start");
                    return Ok(());
                }
                End::Successor {
                    successor,
                    kept: None,
                    polled,
                } => {
                    say("handed over: ending, so that its devices are free");
                    successor.leave(polled);
                    return Ok(());
                }
                End::Successor {
                    successor,
                    kept: Some(kept),
                    polled,
                } => match successor.let_go(polled) {
                    Ok(gap) => {
                        let gap = gap.as_secs_f64() * 1e3;
                        say(&format!("handed over: gap {gap:.3} ms"));
                        return Ok(());
                    }
                    Err(error) => {
                        tracing::error!(%error, "the data plane that wanted to take over failed: \
                            going on");
                        links = kept;
                    }
                },
            }
        }
    }

    /// Opens those of the links that are not open yet, trying again for `patience`.
    fn open(
        &self,
        links: &mut [Option<OpenLink>],
        which: impl Fn(&settings::Link) -> bool,
        patience: Duration,
    ) -> Result<(), Error> {
        let settings = &self.settings;
        let end = Instant::now() + patience;
        let open_link = |link| {
            loop {
                match wiring::open_link(&self.eal, settings, &self.pool, link) {
                    Err(Error::Link {
                        source: dpdk::Error::Device { .. },
                        ..
                    }) if Instant::now() < end => std::thread::sleep(TRY_AGAIN),
                    other => return other,
                }
            }
        };
        for (link, open) in settings.links.iter().zip(links) {
            if open.is_none() && which(link) {
                let opened = open_link(link)?;
                tracing::info!("{}", wiring::describe(link, &opened));
                warn_about(link, &opened);
                *open = Some(opened);
            }
        }
        Ok(())
    }

    /// Forwards until it is told to end. `is_serving` is told when the last worker polled first.
    fn serve(
        &self,
        region: Region,
        origin: &Origin,
        links: Vec<OpenLink>,
        taps: Taps,
        is_serving: impl FnOnce(u64),
    ) -> Result<End, Error> {
        let settings = &self.settings;
        let region = Arc::new(region);
        let shared = Arc::new(share(&region, settings, &links, origin));
        let slots = ServiceSlots::new(region.service_keys());
        let seed = settings.gateway.maglev_seed;
        let installed = Installed::new(shared.topology.clone(), slots, seed);
        let workers = settings.workers.count;
        let counters = |worker| Counters::of(&region, worker);
        let all_counters: Vec<_> = (0..=workers).map(counters).collect();
        if *origin == Origin::TakenOver {
            engine::settle::settle(&all_counters);
        }
        let mut updater =
            Updater::new(region.clone(), installed, shared.clone(), counters(workers))?;
        let watched = links.iter().zip(&settings.links);
        let watched: Vec<_> = watched
            .map(|(open, link)| watched_link(link, open))
            .collect();
        for (at, WatchedLink { info, .. }) in watched.iter().enumerate() {
            if let Some(who) = info.dealing(at, workers.into()) {
                let (name, queues) = (&info.name, info.queues.rx);
                tracing::info!("link {name}: {queues} rx queues for {workers} workers: {who}");
            }
        }
        let recall = Arc::<Recall>::default();
        let mut watch = Watch::new(region.clone(), watched, all_counters, recall.clone());
        let mut listener = listen(&settings.region.path);
        let mut desk = Desk::new(&settings.region.path);

        // Others may have to be closed when their devices leave, so nobody else keeps them open.
        let shareable = settings.links.iter().all(wiring::is_shareable);
        let ports: Option<Vec<_>> =
            shareable.then(|| links.iter().map(|open| open.port.clone()).collect());
        let is_shared = |link: usize| taps.get(link).is_some_and(Option::is_some);
        let pressures = Pressures::new(usize::from(workers));
        let ways = Ways {
            is_shared: &is_shared,
            mode: &|link| wiring::fan_out(&settings.links[link]),
            pressures: &pressures,
            seed: RandomState::new().hash_one(0),
        };
        let (seats, to_links) = handover::assign(links, usize::from(workers), &ways);
        let trace = desk.tap(&shared, engine::trace::MAIN_CORE);
        let mut host = Host::new(taps, &to_links, &self.pool, counters(workers), trace);
        let (halt, started) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let parts = Parts {
            shared: &shared,
            updater: &updater,
            desk: &desk,
            host: &host,
            recall: &recall,
            counters: &counters,
            pressures: &pressures,
        };
        let running = self.start_workers(&parts, seats, (&halt, &started))?;
        region.beat();
        // Relaxed: the number stands alone.
        while started.load(Ordering::Relaxed) == 0 && !running.iter().any(dpdk::Worker::is_finished)
        {
            std::hint::spin_loop();
        }
        is_serving(started.load(Ordering::Relaxed));
        say_ready(settings, &updater);

        let mut successor = None;
        // Relaxed: the flag stands alone.
        while !self.stop.load(Ordering::Relaxed) {
            let busy = updater.poll() | host.poll();
            watch.poll();
            desk.poll();
            region.beat();
            successor = listener.as_mut().and_then(Listener::poll);
            if successor.is_some() || running.iter().any(dpdk::Worker::is_finished) {
                break;
            }
            if !busy {
                std::thread::sleep(MAIN_PAUSE);
            }
        }
        halt.store(true, Ordering::Relaxed);
        let ended = running.into_iter().map(dpdk::Worker::join);
        let ended = ended.collect::<Result<Vec<Ended>, _>>()?;
        let polled = ended.iter().map(|ended| ended.at).max().unwrap_or(0);
        let mut seats: Vec<_> = ended.into_iter().map(|ended| ended.seat).collect();
        handover::account(&mut seats, &counters(workers));
        desk.close();
        host.end();
        let Some(successor) = successor else {
            return Ok(End::Signal);
        };
        tracing::info!("another data plane takes over");
        let kept = ports.map(|ports| {
            let queues = handover::collect(seats, ports.len());
            let open = ports.into_iter().zip(queues);
            open.map(|(port, queues)| OpenLink { port, queues })
                .collect()
        });
        // With these goes the last that holds the region, and links that are not kept.
        drop((updater, watch, shared, listener));
        drop(region);
        Ok(End::Successor {
            successor,
            kept,
            polled,
        })
    }

    fn start_workers(
        &self,
        parts: &Parts<'_>,
        seats: Vec<Seat>,
        (halt, started): (&Arc<AtomicBool>, &Arc<AtomicU64>),
    ) -> Result<Vec<dpdk::Worker<Ended>>, Error> {
        let mut running = Vec::new();
        for (number, seat) in seats.into_iter().enumerate() {
            let seed = hugepages::region::monotonic_nanos() ^ ((number as u64 + 1) << 48);
            let mut pipeline = Pipeline::new(
                parts.shared.clone(),
                parts.updater.publisher().subscribe(),
                (parts.counters)(number as u16),
                number,
                seed,
            );
            if let Some(way) = parts.host.way() {
                pipeline.set_host(Box::new(way), self.settings.limits.kernel_frames);
            }
            let worker = Worker {
                pipeline,
                tap: parts.desk.tap(parts.shared, number as u16),
                until_timed: TIMED,
                pool: self.pool.local(),
                number,
                seat,
                pressures: parts.pressures.clone(),
                is_fed: false,
                recall: parts.recall.clone(),
                lent: 0,
                idle_sleep: Duration::from_micros(self.settings.workers.idle_sleep_us.into()),
                stop: halt.clone(),
                started: started.clone(),
            };
            running.push(self.eal.launch(number as u32 + 1, move || worker.run())?);
        }
        Ok(running)
    }
}

/// Empties the queues of links that are open beside another process, which has these frames as well.
fn discard(links: &mut [Option<OpenLink>]) {
    for queue in links.iter_mut().flatten().flat_map(|open| &mut open.queues) {
        let mut burst = packet::Burst::<dpdk::Mbuf>::new();
        while packet::Link::rx_burst(queue, &mut burst) > 0 {
            dpdk::Mbuf::free_bulk(&mut burst);
        }
    }
}

/// Where a successor may ask. Without it this data plane cannot be replaced while it runs, and that is all.
fn listen(region: &Path) -> Option<Listener> {
    match Listener::new(region) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%error, "no socket beside the region: no other data plane can take over");
            None
        }
    }
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
            .is_some_and(|info| info.is_of(&link.name, &link.device.to_string()))
    })
}

fn watched_link(link: &settings::Link, open: &OpenLink) -> WatchedLink {
    let info = open.port.info();
    WatchedLink {
        port: Some(open.port.clone()),
        info: LinkInfo {
            name: link.name.clone(),
            device: link.device.to_string(),
            driver: info.driver.clone(),
            mac: link.mac.unwrap_or(info.mac),
            mtu: info.mtu.min(link.mtu),
            mtu_asked: link.mtu,
            interface_mtu: info.interface_mtu.unwrap_or(0),
            vlan: link.vlan,
            up: true,
            queues: Queues {
                rx: info.rx_queues,
                tx: info.tx_queues,
                rx_descriptors: info.rx_descriptors,
                tx_descriptors: info.tx_descriptors,
            },
            rss: info.rss,
            promiscuous: info.promiscuous,
            fan_out: link.fan_out,
            rx_offloads: info.rx_offloads,
            tx_offloads: info.tx_offloads,
            ..LinkInfo::default()
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

/// The line on standard output that others wait for.
fn say_ready(settings: &Settings, updater: &Updater) {
    say(&format!(
        "ready links={} workers={} generation={} region={}",
        settings.links.len(),
        settings.workers.count,
        updater.generation(),
        settings.region.path.display(),
    ));
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading: that is no reason to stop forwarding.
    let _ = writeln!(out, "portgate-dataplane {what}");
    let _ = out.flush();
}
