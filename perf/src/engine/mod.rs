//! `perf engine`: the pipeline in process.
//!
//! What a figure includes is said in [`crate::bench`]; the flows, services and frames are those of
//! [`cluster`], made by real handshakes ([`flows`]). Each repeat measures the scenario and then the
//! floors, for its share of time each, so that whatever disturbs the machine disturbs both.

mod callgrind;
pub mod cluster;
pub mod fan_out;
mod floors;
pub mod flows;
mod gate;
pub mod gateway;
mod measure;
pub mod options;
pub mod walk;
pub mod worker;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use engine::family::{V4, V6};
use hugepages::region::Family as RegionFamily;
use packet::memory::HeapBuffer;

use self::cluster::Cluster;
use self::flows::{FlowSet, Tabled};
use self::gateway::Gateway;
use self::measure::Measured;
pub use self::options::Options;
use self::options::{Flood, LinkKind, Plan, Scenario};
use crate::Error;
use crate::bench::crew::{cpus_for, dpdk_seats, packet_memory};
use crate::bench::link::memory_seat;
use crate::bench::{Crew, Seat};
use crate::floors::testpmd;
use crate::host::{Host, LoadSince};
use crate::pages::{HugePages, Reserved, TableMemory, TablePages, ensure_transparent, table_pages};
use crate::priority::Raised;
use crate::record::traffic::Latency;
use crate::record::{Fates, Record};
use crate::stats::Summary;

/// Measures and prints.
///
/// # Errors
///
/// [`Error`]; nothing is printed to stdout then.
pub fn run(options: &Options) -> Result<(), Error> {
    if options.check {
        return gate::check(&options.record, options.json);
    }
    if let (true, Some(reason)) = (options.update, &options.reason) {
        return gate::update(&options.record, reason, options.json);
    }
    let plan = Plan::new(options)?;
    let record = if options.callgrind {
        let measured = callgrind::measure(&plan)?;
        record(&plan, measured, LoadSince::now(), false)
    } else {
        if plan.table_pages == TablePages::Transparent {
            ensure_transparent()?;
        }
        time(&plan)?
    };
    let text = if options.json {
        serde_json::to_string(&record).map_err(|error| Error::Run(error.to_string()))? + "\n"
    } else {
        record.table()
    };
    // A closed pipe is the reader's wish.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn time(plan: &Plan) -> Result<Record, Error> {
    let reserved = match plan.huge_pages {
        HugePages::Count(0) => None,
        HugePages::Count(count) => Some(Reserved::until_signal(count)?),
        HugePages::Auto => Some(Reserved::until_signal(huge_pages(plan))?),
    };
    let _priority = Raised::now();
    let directory = reserved
        .as_ref()
        .map_or_else(PathBuf::new, |reserved| reserved.path().into());
    let memory = TableMemory::new(plan.table_pages, directory);
    let since = LoadSince::now();
    let cpus = cpus_for(plan.workers);
    let measured = match plan.link {
        LinkKind::Ring => {
            let (crew, seats) = dpdk_seats(
                &cpus,
                plan.mbufs,
                reserved.is_some(),
                floors::packet_memory(plan),
            )?;
            of_family(plan, memory, &crew, seats)?
        }
        LinkKind::Memory => {
            let crew = Crew::Threads(cpus.clone());
            let seats = cpus.iter().map(|_| memory_seat()).collect();
            of_family(plan, memory, &crew, seats)?
        }
    };
    Ok(record(plan, measured, since, reserved.is_some()))
}

/// Huge pages that measuring this takes.
fn huge_pages(plan: &Plan) -> u64 {
    let mut pages = 0;
    if plan.link == LinkKind::Ring {
        let more = floors::packet_memory(plan);
        pages += packet_memory(plan.workers, plan.mbufs, true, more) as u64 / 2 + 1;
    }
    if plan.floors {
        pages += testpmd::MEMORY_MB / 2;
    }
    if plan.table_pages == TablePages::Huge {
        let table = match plan.family {
            4 => table_pages(RegionFamily::V4, plan.capacity),
            _ => table_pages(RegionFamily::V6, plan.capacity),
        };
        // The gateway's own, that of the other family, and those of two floors.
        pages += table + table_pages(RegionFamily::V4, 1) + 2 * table * u64::from(plan.floors);
    }
    pages
}

fn of_family<L, P>(
    plan: &Plan,
    memory: TableMemory,
    crew: &Crew,
    seats: Vec<Seat<L, P>>,
) -> Result<Measured, Error>
where
    L: packet::Link + Send + 'static,
    L::Buffer: Send + 'static,
    P: packet::Pool<Buffer = L::Buffer> + Send + 'static,
{
    match plan.family {
        4 => in_place::<V4, L, P>(plan, memory, crew, seats),
        _ => in_place::<V6, L, P>(plan, memory, crew, seats),
    }
}

fn in_place<F, L, P>(
    plan: &Plan,
    mut memory: TableMemory,
    crew: &Crew,
    seats: Vec<Seat<L, P>>,
) -> Result<Measured, Error>
where
    F: Tabled,
    L: packet::Link + Send + 'static,
    L::Buffer: Send + 'static,
    P: packet::Pool<Buffer = L::Buffer> + Send + 'static,
{
    let (gateway, flows) = set_up::<F>(plan, &mut memory)?;
    measure::measure(plan, &gateway, flows, crew, seats, &mut memory)
}

/// A gateway with its flows.
fn set_up<F: Tabled>(
    plan: &Plan,
    memory: &mut TableMemory,
) -> Result<(Gateway, FlowSet<F>), Error> {
    let cluster = Cluster {
        family: plan.family,
        services: plan.services,
        endpoints: plan.endpoints,
    };
    let gateway = Gateway::new(&cluster, plan.capacity, memory)?;
    let opener = gateway.pipeline::<HeapBuffer>(plan.workers, plan.seed);
    let flows = if plan.scenario == Scenario::Flood && plan.flood == Flood::TableFull {
        progress("filling the table");
        FlowSet::fill(cluster, opener)?
    } else {
        FlowSet::establish(cluster, opener, plan.flows, |done| {
            progress(&format!("flow {done} of {}", plan.flows));
        })?
    };
    Ok((gateway, flows))
}

fn record(plan: &Plan, measured: Measured, since: LoadSince, huge: bool) -> Record {
    let nothing = Summary {
        count: 0,
        min: 0.0,
        median: 0.0,
        max: 0.0,
    };
    let repeats = Summary::of(&measured.repeats).unwrap_or(nothing);
    let floor_repeats: BTreeMap<String, Summary> = measured
        .floors
        .iter()
        .filter_map(|(name, figures)| Some(((*name).to_owned(), Summary::of(figures)?)))
        .collect();
    Record {
        figure: None,
        subject: "engine".to_owned(),
        scenario: plan.scenario.name().to_owned(),
        variant: plan.variant(),
        family: plan.family,
        flows: measured.flows,
        capacity: plan.capacity,
        workers: plan.workers,
        ns_per_packet: repeats.median,
        repeats,
        instructions_per_packet: measured.instructions,
        floors: floor_repeats
            .iter()
            .map(|(name, summary)| (name.clone(), summary.median))
            .collect(),
        floor_repeats,
        rx_to_tx: Latency::of(&measured.rx_to_tx),
        fates: measured.fates,
        services: plan.services,
        endpoints: plan.endpoints,
        frame_size: plan.frame_size,
        burst: plan.burst,
        mbufs: plan.mbufs,
        link: match plan.link {
            LinkKind::Ring => "ring",
            LinkKind::Memory => "memory",
        }
        .to_owned(),
        table_pages: plan.table_pages.name().to_owned(),
        packet_huge_pages: huge,
        seed: plan.seed,
        host: Host::here(),
        load: since.load(),
    }
}

/// Says on stderr what goes on, if somebody is there to read it.
fn progress(what: &str) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}\r");
    }
}

impl Measured {
    fn new(flows: usize) -> Self {
        Self {
            flows,
            repeats: Vec::new(),
            floors: Vec::new(),
            instructions: None,
            rx_to_tx: Latency::histogram(),
            fates: Fates::default(),
        }
    }
}
