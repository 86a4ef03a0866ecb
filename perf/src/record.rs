//! Results: one JSON object a line, or a table for people.

pub mod controlplane;
pub mod traffic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::traffic::Latency;
use crate::host::{Host, Load};
use crate::stats::Summary;

/// One scenario, measured. Times are nanoseconds a packet on one worker unless said otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Row of the table of figures that it was measured for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<String>,
    /// Who carried the packets: `engine` for the pipeline in process, otherwise see `perf kernel`.
    #[serde(default = "engine")]
    pub subject: String,
    /// `established`, `new` or `flood`.
    pub scenario: String,
    /// What is special about it: direction, kind of flood.
    pub variant: String,
    /// 4 or 6.
    pub family: u8,
    /// Flows in the table while it was measured.
    pub flows: usize,
    /// Flows that the table was made for.
    pub capacity: usize,
    /// Workers at once.
    pub workers: usize,
    /// Median over the repeats. All workers together: a packet every so many nanoseconds.
    pub ns_per_packet: f64,
    /// Over the repeats, of which each is a median of rounds.
    pub repeats: Summary,
    /// Instructions a packet, when they were counted; then no time means anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions_per_packet: Option<f64>,
    /// Medians of the floors, measured in turns with the scenario.
    pub floors: BTreeMap<String, f64>,
    /// The same over the repeats.
    pub floor_repeats: BTreeMap<String, Summary>,
    /// Of each burst: from having been received until its last frame was handed to the device. Waiting in rings is
    /// not in it: that is in the latency of test traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_to_tx: Option<Latency>,
    /// What became of the frames.
    pub fates: Fates,
    /// Services, and endpoints of each.
    pub services: usize,
    /// See `services`.
    pub endpoints: usize,
    /// Bytes of a frame without FCS.
    pub frame_size: usize,
    /// Frames of a burst.
    pub burst: usize,
    /// Buffers in turn.
    pub mbufs: usize,
    /// Where frames came from: `ring` (DPDK's net_ring), `memory`, `veth`.
    pub link: String,
    /// Pages under the flow tables: `small`, `transparent`, `huge`.
    pub table_pages: String,
    /// Whether DPDK's memory was on huge pages.
    pub packet_huge_pages: bool,
    /// Of every random choice.
    pub seed: u64,
    /// Machine and source.
    #[serde(flatten)]
    pub host: Host,
    /// The machine's load meanwhile.
    #[serde(flatten)]
    pub load: Load,
}

fn engine() -> String {
    "engine".to_owned()
}

/// What became of the frames that were timed, by the pipeline's own counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// All.
    pub frames: u64,
    /// Translated by a flow that was there.
    pub hits: u64,
    /// Flows made.
    pub created: u64,
    /// Refused with an answer.
    pub refused: u64,
    /// Dropped.
    pub dropped: u64,
}

impl Fates {
    /// Sums.
    pub fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.hits += other.hits;
        self.created += other.created;
        self.refused += other.refused;
        self.dropped += other.dropped;
    }
}

impl Record {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} {}, IPv{}, {} flows in a table for {}, {} worker(s), {} services × {} endpoints, \
             {} bytes, burst {}, {} mbufs on {}, {} pages\n",
            self.scenario,
            self.variant,
            self.family,
            self.flows,
            self.capacity,
            self.workers,
            self.services,
            self.endpoints,
            self.frame_size,
            self.burst,
            self.mbufs,
            self.link,
            self.table_pages,
        );
        if let Some(instructions) = self.instructions_per_packet {
            text += &format!("  instructions a packet    {instructions:>8.1}\n");
            return text;
        }
        let Summary {
            min, median, max, ..
        } = self.repeats;
        text += &format!(
            "  ns a packet              {median:>8.2}   (min {min:.2}, max {max:.2}, {} repeats)\n",
            self.repeats.count
        );
        for (name, summary) in &self.floor_repeats {
            text += &format!(
                "  floor {name:<18} {:>8.2}   (min {:.2}, max {:.2})   ratio {:.2}\n",
                summary.median,
                summary.min,
                summary.max,
                min / summary.min,
            );
        }
        if let Some(latency) = &self.rx_to_tx {
            text += &format!(
                "  rx to tx, a burst        {:>8} ns median, {} 99 %, {} 99.9 %, {} most\n",
                latency.p50, latency.p99, latency.p99_9, latency.max
            );
        }
        text += &format!(
            "  load {:.1}, busy {} %, steal {} %, packet memory on {} pages, commit {}\n",
            self.load.load_1m,
            self.load.busy_percent,
            self.load.steal_percent,
            if self.packet_huge_pages {
                "huge"
            } else {
                "small"
            },
            self.host.commit
        );
        text
    }
}
