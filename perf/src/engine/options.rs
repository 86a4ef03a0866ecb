//! `perf engine`'s options: what was typed, then what it means.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::Error;
use crate::pages::{HugePages, TablePages};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Frames of flows that are there.
    Established,
    /// First frames of flows that are made: lookup, decision, SNAT port, two inserts, rewrite.
    New,
    /// SYNs that are refused.
    Flood,
}

/// Which way the frames of established flows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From clients.
    Forward,
    /// From backends.
    Reply,
    /// A burst from clients, one from backends, and so on.
    Both,
}

/// Why a flood is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flood {
    /// The service has no endpoints: each SYN is answered by a reset.
    NoEndpoint,
    /// The table is full of established flows: each SYN is dropped.
    TableFull,
}

/// Where frames come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LinkKind {
    /// DPDK's net_ring with mbufs.
    Ring,
    /// Ordinary memory.
    Memory,
}

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What to measure.
    #[arg(long, value_enum, default_value = "established")]
    pub scenario: Scenario,
    /// IP version.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=6))]
    pub family: u8,
    /// Flows in the table.
    #[arg(long, default_value_t = 65_536)]
    pub flows: usize,
    /// Flows that the table is made for [default: as many as there are].
    #[arg(long)]
    pub capacity: Option<usize>,
    /// Workers that share the table, each with a CPU.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Services that flows go to.
    #[arg(long, default_value_t = 100)]
    pub services: usize,
    /// Endpoints of each service [default: enough for every flow to find a SNAT port].
    #[arg(long)]
    pub endpoints: Option<usize>,
    /// Bytes of a frame without FCS [default: 60, or 74 over IPv6].
    #[arg(long)]
    pub frame_size: Option<usize>,
    /// Frames of a burst.
    #[arg(long, default_value_t = 32)]
    pub burst: usize,
    /// Buffers in turn, of each worker: by default as many as the queues of two links hold in production.
    #[arg(long, default_value_t = 4_096)]
    pub mbufs: usize,
    /// Where frames come from.
    #[arg(long, value_enum, default_value = "ring")]
    pub link: LinkKind,
    /// Which way the frames of established flows go.
    #[arg(long, value_enum, default_value = "both")]
    pub direction: Direction,
    /// Why a flood is refused.
    #[arg(long, value_enum, default_value = "no-endpoint")]
    pub flood: Flood,
    /// Seconds to measure in each repeat, preparation of the frames included.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Frames to measure in each repeat, instead of a time.
    #[arg(long)]
    pub packets: Option<u64>,
    /// How often to repeat, in turns with the floors.
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Measure floors as well.
    #[arg(long)]
    pub floors: bool,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub json: bool,
    /// Huge pages of 2 MiB to reserve, a number or auto: for DPDK's buffers, and tables by `--table-pages huge`.
    #[arg(long, default_value = "0")]
    pub huge_pages: HugePages,
    /// Pages under the flow tables.
    #[arg(long, value_enum, default_value = "small")]
    pub table_pages: TablePages,
    /// Let the clock that flows see stand still, so that two runs do the same, instruction by instruction.
    #[arg(long)]
    pub still: bool,
    /// Count instructions by valgrind instead of measuring time; in memory.
    #[arg(long)]
    pub callgrind: bool,
    /// With `--callgrind`: count the gate's scenarios and fail where one needs more than recorded.
    #[arg(long, requires = "callgrind", conflicts_with = "update")]
    pub check: bool,
    /// With `--callgrind`: count the gate's scenarios and record them.
    #[arg(long, requires = "callgrind", requires = "reason")]
    pub update: bool,
    /// Why the record is updated; kept in it.
    #[arg(long, requires = "update")]
    pub reason: Option<String>,
    /// The gate's record.
    #[arg(long, default_value = "perf/records/instructions.json")]
    pub record: PathBuf,
}

impl Default for Options {
    /// What is meant when nothing is typed.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Nothing {
            #[command(flatten)]
            options: Options,
        }
        let Nothing { options } = clap::Parser::parse_from(["perf engine"]);
        options
    }
}

/// What it means.
#[derive(Debug, Clone)]
pub struct Plan {
    /// See [`Options::scenario`].
    pub scenario: Scenario,
    /// See [`Options::family`].
    pub family: u8,
    /// See [`Options::flows`].
    pub flows: usize,
    /// See [`Options::capacity`].
    pub capacity: usize,
    /// See [`Options::workers`].
    pub workers: usize,
    /// See [`Options::services`].
    pub services: usize,
    /// See [`Options::endpoints`].
    pub endpoints: usize,
    /// See [`Options::frame_size`].
    pub frame_size: usize,
    /// See [`Options::burst`].
    pub burst: usize,
    /// See [`Options::mbufs`].
    pub mbufs: usize,
    /// See [`Options::link`].
    pub link: LinkKind,
    /// See [`Options::direction`].
    pub direction: Direction,
    /// See [`Options::flood`].
    pub flood: Flood,
    /// See [`Options::seconds`].
    pub seconds: f64,
    /// See [`Options::packets`].
    pub packets: Option<u64>,
    /// See [`Options::repeat`].
    pub repeat: usize,
    /// See [`Options::seed`].
    pub seed: u64,
    /// See [`Options::floors`].
    pub floors: bool,
    /// See [`Options::huge_pages`].
    pub huge_pages: HugePages,
    /// See [`Options::table_pages`].
    pub table_pages: TablePages,
    /// See [`Options::still`].
    pub still: bool,
}

/// Flows to an endpoint, at most: so few of its 61,744 SNAT ports that one is found at once.
const FLOWS_PER_ENDPOINT: usize = 8_192;

/// Most endpoints a service can have here.
const MAX_ENDPOINTS: usize = 4_096;

impl Plan {
    /// Checks what was typed.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that names the option and the rule.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let family = options.family;
        rule(family != 5, "--family is 4 or 6")?;
        rule(
            (1..=1 << 26).contains(&options.flows),
            "--flows is 1 to 67108864",
        )?;
        rule((1..=16).contains(&options.workers), "--workers is 1 to 16")?;
        rule((1..=32).contains(&options.burst), "--burst is 1 to 32")?;
        rule(
            (1..=50_000).contains(&options.services),
            "--services is 1 to 50000",
        )?;
        rule(options.repeat >= 1, "--repeat is at least 1")?;
        rule(options.seconds > 0.0, "--seconds is more than 0")?;
        let least = 2 * options.burst;
        rule(
            (least..=1 << 20).contains(&options.mbufs),
            "--mbufs is two bursts to 1048576",
        )?;
        let full = options.scenario == Scenario::Flood && options.flood == Flood::TableFull;
        // New flows need room besides those that are there; a full table gets twice what it is for.
        let begun = match options.scenario {
            Scenario::New => options.mbufs * options.workers,
            _ => 0,
        };
        let capacity = options.capacity.unwrap_or(options.flows + begun);
        rule(
            options.flows + begun <= capacity * 2 || full,
            "--capacity is too small for --flows",
        )?;
        let flows = if full {
            capacity * 2
        } else {
            options.flows + begun
        };
        let needed = flows.div_ceil(options.services * FLOWS_PER_ENDPOINT).max(2);
        let endpoints = options.endpoints.unwrap_or(needed);
        rule(
            (1..=MAX_ENDPOINTS).contains(&endpoints),
            "--endpoints is 1 to 4096; more --services make fewer necessary",
        )?;
        let smallest = if family == 4 { 60 } else { 74 };
        let frame_size = options.frame_size.unwrap_or(smallest);
        rule(
            (smallest..=1514).contains(&frame_size),
            "--frame-size is 60 (74 over IPv6) to 1514",
        )?;
        rule(
            options.table_pages != TablePages::Huge || options.huge_pages != HugePages::Count(0),
            "--table-pages huge needs --huge-pages",
        )?;
        Ok(Self {
            scenario: options.scenario,
            family,
            flows: options.flows,
            capacity,
            workers: options.workers,
            services: options.services,
            endpoints,
            frame_size,
            burst: options.burst,
            mbufs: options.mbufs.next_multiple_of(2 * options.burst),
            link: options.link,
            direction: options.direction,
            flood: options.flood,
            seconds: options.seconds,
            packets: options.packets,
            repeat: options.repeat,
            seed: options.seed,
            floors: options.floors,
            huge_pages: options.huge_pages,
            table_pages: options.table_pages,
            still: options.still,
        })
    }

    /// Whether anything is to lie on reserved huge pages.
    #[must_use]
    pub fn on_huge_pages(&self) -> bool {
        self.huge_pages != HugePages::Count(0)
    }

    /// What is special about the scenario, for records.
    #[must_use]
    pub fn variant(&self) -> String {
        let name = match self.scenario {
            Scenario::Established => self.direction.to_possible_value(),
            Scenario::New => None,
            Scenario::Flood => self.flood.to_possible_value(),
        };
        name.map_or_else(String::new, |name| name.get_name().to_owned())
    }
}

impl Scenario {
    /// Name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::New => "new",
            Self::Flood => "flood",
        }
    }
}

fn rule(holds: bool, sentence: &str) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Usage(sentence.to_owned()))
    }
}
