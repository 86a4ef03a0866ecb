//! Where everything lies in the region.
//!
//! # Byte layout
//!
//! The region is two files, each with one writer. The data plane writes the *data file*:
//!
//! | section | lines of 64 bytes | written by |
//! |---------|-------------------|------------|
//! | header | 64 | see [`crate::header`] |
//! | commands' reader | 1 | data plane: see [`crate::ring`] |
//! | replies | 1 + 2 × reply records | data plane |
//! | journal | 1 + 2 × (1 + 2 × journal records) | data plane: see [`crate::journal`] |
//! | worker counters | 64 × workers | the worker; 512 words each |
//! | service keys | service slots / 8 | data plane; one word a slot |
//! | endpoint index | 1 + service slots | workers; a count, then two words an endpoint slot |
//! | endpoint keys | 2 × service slots | workers; four words an endpoint slot |
//! | service counters | 3 × workers × service slots | the worker; see [`crate::Region::service_counters`] |
//! | links | 4 × links | data plane: see [`crate::link_info`] |
//! | neighbours | 1024 | data plane |
//! | affinity | 65536 | workers |
//! | IPv4 buckets | slots / 16 | workers: sixteen 32-bit tags each |
//! | IPv4 entries | slots | workers: the entry of bucket b, tag t is 16 b + t |
//! | IPv6 buckets | slots / 16 | workers |
//! | IPv6 entries | 2 × slots | workers |
//!
//! The control plane writes the *control file*:
//!
//! | section | lines of 64 bytes | written by |
//! |---------|-------------------|------------|
//! | control header | 64 | see [`crate::header`] |
//! | commands | 1 + 2 × command records | control plane |
//! | replies' reader | 1 | control plane |
//!
//! Sections follow each other in this order; each begins on a line, those of the flow tables on a
//! 2 MiB boundary so that huge pages carry them whole. Both files end on such a boundary too.
//! A flow is two entries and the table is to be half full at most: four slots a flow.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::record::{self, Record};
use crate::ring;
use crate::slab::Line;

/// Version of the meaning of flow table lines. The engine's layout of buckets and entries belongs
/// to it: change the layout, count this up, and a region with old flows is replaced.
pub const FLOW_LAYOUT: u32 = 4;

/// Lines of the header.
pub const HEADER_LINES: usize = 64;

/// Lines of counters of a worker: 1,536 words.
pub const WORKER_LINES: usize = 192;

/// Words of counters of a service at a worker: a line.
const SERVICE_WORDS: usize = 8;

/// Slots of counters for endpoints that come with each slot for a service.
pub const ENDPOINTS_PER_SERVICE: usize = 4;

/// Lines that describe a link.
pub const LINK_LINES: usize = 4;

/// Lines of the neighbour area.
pub const NEIGHBOUR_LINES: usize = 1024;

/// Lines of the affinity table.
pub const AFFINITY_LINES: usize = 65_536;

/// Slots (tags) of a flow bucket.
pub const BUCKET_SLOTS: usize = 16;

/// Table slots made for each flow: two entries at half load.
pub const SLOTS_PER_FLOW: usize = 4;

/// What the size of each section follows from. Part of the region: a region made for another
/// geometry is replaced, and its flows are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Workers with counters of their own: 1–64.
    pub workers: u16,
    /// Records in the command ring: a power of two, 64–2^22.
    pub command_records: u32,
    /// Records in the reply ring: a power of two, 64–2^22.
    pub reply_records: u32,
    /// Records in each of the journal's two banks: 64–2^24.
    pub journal_records: u32,
    /// Services with counters of their own: a multiple of 8, 8–2^20.
    pub service_slots: u32,
    /// Links: 0–64.
    pub links: u16,
    /// IPv4 flows that the table is made for: 16–2^26.
    pub flows: u32,
    /// IPv6 flows that the table is made for: 16–2^26.
    pub flows_v6: u32,
}

impl Geometry {
    /// A geometry for so many workers, links and flows, with rings, journal and counters to match:
    /// a million flows come with 524,288 records a bank (some 100,000 services with their
    /// frontends and endpoints) and counters for 65,536 services and 262,144 endpoints.
    #[must_use]
    pub fn new(workers: u16, links: u16, flows: u32, flows_v6: u32) -> Self {
        Self {
            workers,
            // 4 MiB: the largest backend set fits, and is not sent in parts between which both sides sleep.
            command_records: 1 << 15,
            reply_records: 256,
            journal_records: (flows / 2).clamp(1 << 14, 1 << 19),
            service_slots: (flows / 16).clamp(1 << 10, 1 << 16).next_multiple_of(8),
            links,
            flows,
            flows_v6,
        }
    }

    /// The rule that it breaks, if any.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let ring = |records: u32| records.is_power_of_two() && (64..=1 << 22).contains(&records);
        let slots = self.service_slots;
        let rules = [
            ((1..=64).contains(&self.workers), "1 to 64 workers"),
            (self.links <= 64, "at most 64 links"),
            (
                ring(self.command_records) && ring(self.reply_records),
                "rings of a power of two from 64 to 2^22 records",
            ),
            (
                (64..=1 << 24).contains(&self.journal_records),
                "a journal of 64 to 2^24 records",
            ),
            (
                slots.is_multiple_of(8) && (8..=1 << 20).contains(&slots),
                "a multiple of 8 service slots up to 2^20",
            ),
            (
                (16..=1 << 26).contains(&self.flows) && (16..=1 << 26).contains(&self.flows_v6),
                "16 to 2^26 flows a family",
            ),
        ];
        rules
            .iter()
            .find(|(holds, _)| !holds)
            .map(|(_, rule)| *rule)
    }
}

/// A part of the region, in the order of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The table above is the documentation.
pub enum Section {
    Header,
    CommandsReader,
    Replies,
    Journal,
    WorkerCounters,
    ServiceKeys,
    EndpointIndex,
    EndpointKeys,
    ServiceCounters,
    Links,
    Neighbours,
    Affinity,
    FlowBucketsV4,
    FlowEntriesV4,
    FlowBucketsV6,
    FlowEntriesV6,
    ControlHeader,
    Commands,
    RepliesReader,
}

const SECTIONS: usize = 19;

impl Section {
    const ALL: [Self; SECTIONS] = [
        Self::Header,
        Self::CommandsReader,
        Self::Replies,
        Self::Journal,
        Self::WorkerCounters,
        Self::ServiceKeys,
        Self::EndpointIndex,
        Self::EndpointKeys,
        Self::ServiceCounters,
        Self::Links,
        Self::Neighbours,
        Self::Affinity,
        Self::FlowBucketsV4,
        Self::FlowEntriesV4,
        Self::FlowBucketsV6,
        Self::FlowEntriesV6,
        Self::ControlHeader,
        Self::Commands,
        Self::RepliesReader,
    ];

    /// Whether it lies in the control file, which the control plane writes.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(
            self,
            Self::ControlHeader | Self::Commands | Self::RepliesReader
        )
    }

    const fn is_flow_table(self) -> bool {
        matches!(
            self,
            Self::FlowBucketsV4 | Self::FlowEntriesV4 | Self::FlowBucketsV6 | Self::FlowEntriesV6
        )
    }

    fn lines(self, geometry: &Geometry) -> usize {
        let workers = usize::from(geometry.workers);
        let service_slots = geometry.service_slots as usize;
        // Half a line a slot; twice as many words in the index as slots.
        let endpoint_lines = service_slots * ENDPOINTS_PER_SERVICE / 2;
        match self {
            Self::Header | Self::ControlHeader => HEADER_LINES,
            Self::CommandsReader | Self::RepliesReader => ring::READER_LINES,
            Self::Commands => ring::lines(geometry.command_records as usize),
            Self::Replies => ring::lines(geometry.reply_records as usize),
            Self::Journal => crate::journal::lines(geometry.journal_records as usize),
            Self::WorkerCounters => WORKER_LINES * workers,
            Self::ServiceKeys => service_slots / 8,
            Self::EndpointIndex => 1 + endpoint_lines / 2,
            Self::EndpointKeys => endpoint_lines,
            Self::ServiceCounters => workers * (service_slots + endpoint_lines),
            Self::Links => LINK_LINES * usize::from(geometry.links),
            Self::Neighbours => NEIGHBOUR_LINES,
            Self::Affinity => AFFINITY_LINES,
            Self::FlowBucketsV4 => flow_slots(geometry.flows) / BUCKET_SLOTS,
            Self::FlowEntriesV4 => flow_slots(geometry.flows),
            Self::FlowBucketsV6 => flow_slots(geometry.flows_v6) / BUCKET_SLOTS,
            Self::FlowEntriesV6 => 2 * flow_slots(geometry.flows_v6),
        }
    }
}

/// Slots of a table for so many flows.
fn flow_slots(flows: u32) -> usize {
    (flows as usize * SLOTS_PER_FLOW).next_multiple_of(BUCKET_SLOTS)
}

/// Bytes of a line.
const LINE: usize = size_of::<Line>();

/// Boundary of the flow tables and of the files' ends.
const HUGE: usize = 2 << 20;

/// Offsets and sizes for one geometry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    offsets: [usize; SECTIONS],
    lines: [usize; SECTIONS],
    total: usize,
    control_total: usize,
    digest: u64,
}

impl Layout {
    /// The layout of this geometry.
    ///
    /// # Errors
    ///
    /// The rule that the geometry breaks, to be read after "must have".
    pub fn new(geometry: &Geometry) -> Result<Self, &'static str> {
        if let Some(rule) = geometry.flaw() {
            return Err(rule);
        }
        let mut offsets = [0; SECTIONS];
        let mut ends = [0usize; 2];
        for (offset, section) in offsets.iter_mut().zip(Section::ALL) {
            let end = &mut ends[usize::from(section.is_control())];
            let boundary = if section.is_flow_table() { HUGE } else { LINE };
            *offset = end.next_multiple_of(boundary);
            *end = *offset + section.lines(geometry) * LINE;
        }
        Ok(Self {
            offsets,
            lines: Section::ALL.map(|section| section.lines(geometry)),
            total: ends[0].next_multiple_of(HUGE),
            control_total: ends[1].next_multiple_of(HUGE),
            digest: digest(geometry),
        })
    }

    /// Bytes of the data file: a multiple of 2 MiB.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Bytes of the control file: a multiple of 2 MiB.
    #[must_use]
    pub const fn control_total(&self) -> usize {
        self.control_total
    }

    /// Names the layout: two regions may stand in for each other only if it is the same.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Byte offset of a section in its file.
    #[must_use]
    pub const fn offset(&self, section: Section) -> usize {
        self.offsets[section as usize]
    }

    /// Lines of a section.
    #[must_use]
    pub const fn lines(&self, section: Section) -> usize {
        self.lines[section as usize]
    }

    /// Bytes of a section.
    #[must_use]
    pub const fn bytes(&self, section: Section) -> Range<usize> {
        let start = self.offset(section);
        start..start + self.lines(section) * LINE
    }
}

fn digest(geometry: &Geometry) -> u64 {
    let &Geometry {
        workers,
        command_records,
        reply_records,
        journal_records,
        service_slots,
        links,
        flows,
        flows_v6,
    } = geometry;
    let constants = [
        HEADER_LINES,
        WORKER_LINES,
        SERVICE_WORDS,
        ENDPOINTS_PER_SERVICE,
        LINK_LINES,
        NEIGHBOUR_LINES,
        AFFINITY_LINES,
    ];
    let mut hash = Xxh3::new();
    for number in [
        u64::from(workers),
        u64::from(command_records),
        u64::from(reply_records),
        u64::from(journal_records),
        u64::from(service_slots),
        u64::from(links),
        u64::from(flows),
        u64::from(flows_v6),
        u64::from(FLOW_LAYOUT),
        u64::from(record::VERSION),
        size_of::<Record>() as u64,
        BUCKET_SLOTS as u64,
        SLOTS_PER_FLOW as u64,
    ]
    .into_iter()
    .chain(constants.map(|lines| lines as u64))
    {
        hash.update(&number.to_le_bytes());
    }
    hash.digest()
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "layout_tests.rs"]
mod tests;
