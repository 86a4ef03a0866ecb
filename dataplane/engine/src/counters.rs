//! Counters of one worker: in the region, written by that worker alone, read by anybody.
//!
//! Layout of a worker's counters, in 64-bit words (8 to a line):
//!
//! | words | content |
//! |---|---|
//! | 0–31 | [`Total`] |
//! | 32–95 | drops that are of no link, by [`Reason`] |
//! | 128–255 | links: 8 words each, the first five of [`LinkCounter`] |
//! | 256–511 | bursts by the time from rx to tx: see [`crate::times`] |
//! | 512–1535 | drops by link: 64 words each, by [`Reason`] |
//!
//! Service counters: half a line a service slot for what every frame counts ([`ServiceCounter`], the first four), half a
//! line for the same of each endpoint slot ([`crate::endpoints`]), then half a line a service slot for the rest, so that
//! established frames touch as few lines as there can be. A frame counts once, in its service's slot or in its endpoint's.

#[cfg(not(loom))]
use hugepages::Region;
use hugepages::layout::ENDPOINTS_PER_SERVICE;
use hugepages::sync::{AtomicU64, Ordering};
use hugepages::{HalfLine, Line, Slab};

use crate::reason::Reason;
use crate::times;

const REASONS: usize = 32;
const LINKS: usize = 128;
const WORDS_PER_LINK: usize = 8;
const TIMES: usize = 256;
const LINK_REASONS: usize = 512;
const REASONS_PER_LINK: usize = 64;

/// Lines of a worker's counters.
pub const LINES: usize = hugepages::layout::WORKER_LINES;

/// Lines of a worker's counters of services, for each service slot: its own, and half a line for each endpoint slot.
pub const SERVICE_LINES: usize = 1 + ENDPOINTS_PER_SERVICE / 2;

/// Links that have counters.
pub const MAX_LINKS: usize = 16;

/// Counters of the worker as a whole.
///
/// At rest, `Received + Originated + TakenOver = Sent + drops + waiting + HandedOver`, where waiting is
/// `Parked - Unparked`; and over all workers `HandedOver = TakenOver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Total {
    /// Frames received.
    Received = 0,
    /// Frames that a link took for sending.
    Sent,
    /// Frames turned into an answer in place (ARP, echo, refusals), among `Sent` or drops.
    Answered,
    /// Frames started by the gateway (ARP requests, neighbour solicitations).
    Originated,
    /// Frames put aside until their next hop is resolved.
    Parked,
    /// Frames taken from there again, to be sent or dropped.
    Unparked,
    /// Flows created.
    FlowsCreated,
    /// Flows removed: timed out, evicted or replaced.
    FlowsRemoved,
    /// TCP resets and ICMP port unreachables among `Answered`.
    Refused,
    /// Frames translated by an existing flow.
    Hits,
    /// Bursts that were not empty.
    Bursts,
    /// Frames given to another worker: to be carried, or because it has the queue that they leave by.
    HandedOver,
    /// Frames taken from other workers, to be carried or to be sent.
    TakenOver,
    /// Half-open flows removed to make room for newer ones, among `FlowsRemoved`.
    HalfOpenEvicted,
    /// TCP resets sent because an endpoint is gone.
    EndpointResets,
    /// Records of the control plane that could not be understood. This and the next two are counted on
    /// the main core.
    BadRecords,
    /// Times that the command ring's positions were impossible or the control file was spoilt.
    BadRings,
    /// Updates of the control plane that were refused.
    UpdatesRefused,
    /// Frames that another worker received and dealt to this one, among `TakenOver`.
    TakenIn,
    /// Nanoseconds that bursts took this worker, about: those of the bursts that were timed, times as many as one stands for.
    WorkNanos,
}

impl Total {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::Received,
        Self::Sent,
        Self::Answered,
        Self::Originated,
        Self::Parked,
        Self::Unparked,
        Self::FlowsCreated,
        Self::FlowsRemoved,
        Self::Refused,
        Self::Hits,
        Self::Bursts,
        Self::HandedOver,
        Self::TakenOver,
        Self::HalfOpenEvicted,
        Self::EndpointResets,
        Self::BadRecords,
        Self::BadRings,
        Self::UpdatesRefused,
        Self::TakenIn,
        Self::WorkNanos,
    ];

    /// Name in `portgate counters` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Originated => "originated",
            Self::Parked => "parked",
            Self::Unparked => "unparked",
            Self::FlowsCreated => "flows_created",
            Self::FlowsRemoved => "flows_removed",
            Self::Refused => "refused",
            Self::Hits => "hits",
            Self::Bursts => "bursts",
            Self::HandedOver => "handed_over",
            Self::TakenOver => "taken_over",
            Self::HalfOpenEvicted => "half_open_evicted",
            Self::EndpointResets => "endpoint_resets",
            Self::BadRecords => "bad_records",
            Self::BadRings => "bad_rings",
            Self::UpdatesRefused => "updates_refused",
            Self::TakenIn => "taken_in",
            Self::WorkNanos => "work_nanos",
        }
    }
}

/// Counters of one link. The last three are sums of drops: [`Counters::drop_on`] counts those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkCounter {
    /// Frames received.
    RxFrames = 0,
    /// Bytes received, Ethernet header included.
    RxBytes,
    /// Frames sent.
    TxFrames,
    /// Bytes sent.
    TxBytes,
    /// Received frames that went to a worker that has no receive queue of the link.
    DealtOut,
    /// First frames of flows with an unfinished checksum.
    UnfinishedChecksums,
    /// Frames cut short by the device.
    Truncated,
    /// Frames dropped for another reason than those two.
    Dropped,
}

impl LinkCounter {
    /// All, with their names in metrics and documents, in the order in which they are shown.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::RxFrames, "rx_frames"),
        (Self::RxBytes, "rx_bytes"),
        (Self::TxFrames, "tx_frames"),
        (Self::TxBytes, "tx_bytes"),
        (Self::UnfinishedChecksums, "unfinished_checksums"),
        (Self::Truncated, "truncated"),
        (Self::Dropped, "dropped"),
        (Self::DealtOut, "dealt_out"),
    ];
}

/// Counters of one service port; the first four also of one of its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ServiceCounter {
    /// Frames translated, both directions.
    Frames = 0,
    /// Their bytes.
    Bytes,
    /// Flows created.
    Flows,
    /// Flows refused or dropped, whatever the reason.
    Refused,
    /// Half-open flows removed to make room for newer ones.
    HalfOpenEvicted,
    /// Flows dropped by a limit of new flows a second, of sources or of the service; among `Refused`.
    Limited,
    /// Flows dropped because every SNAT port tried was taken; among `Refused`.
    SnatExhausted,
    /// TCP resets sent because an endpoint is gone.
    EndpointResets,
}

impl ServiceCounter {
    /// Those that endpoints have, too, with their names.
    pub const OF_ENDPOINTS: [(Self, &'static str); HALF] = {
        let [frames, bytes, flows, refused, ..] = Self::ALL;
        [frames, bytes, flows, refused]
    };

    /// All, in the order of their numbers, with their names in metrics and documents.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Frames, "frames"),
        (Self::Bytes, "bytes"),
        (Self::Flows, "flows"),
        (Self::Refused, "refused"),
        (Self::HalfOpenEvicted, "half_open_evicted"),
        (Self::Limited, "limited"),
        (Self::SnatExhausted, "snat_exhausted"),
        (Self::EndpointResets, "endpoint_resets"),
    ];
}

/// Counters in each of the two halves.
const HALF: usize = 4;

/// One worker's counters, to write or to read.
#[derive(Debug, Clone)]
pub struct Counters {
    totals: Slab<Line>,
    services: Slab<HalfLine>,
    /// Slots of services, and of services and endpoints.
    service_slots: usize,
    slots: usize,
}

/// One worker's counters of services, to count established frames.
#[derive(Clone, Copy)]
pub(crate) struct ServiceFrames<'a>(&'a [HalfLine]);

impl Counters {
    /// A worker's in a region; the last block is the main core's.
    #[must_use]
    #[cfg(not(loom))]
    pub fn of(region: &Region, worker: u16) -> Self {
        Self::new(
            region.worker_counters(worker),
            region.service_counters(worker),
        )
    }

    /// Counters in these lines: [`LINES`], and [`SERVICE_LINES`] for every service slot.
    ///
    /// # Panics
    ///
    /// If there are fewer than [`LINES`] of the first kind.
    #[must_use]
    pub fn new(totals: Slab<Line>, services: Slab<Line>) -> Self {
        assert!(totals.len() >= LINES, "a worker has {LINES} counter lines");
        let service_slots = services.len() / SERVICE_LINES;
        let services = services.halves();
        Self {
            totals,
            slots: services.len() - service_slots,
            service_slots,
            services,
        }
    }

    /// Counters on the heap for this many service slots and the endpoint slots that come with them.
    #[must_use]
    pub fn heap(services: usize) -> Self {
        Self::new(Slab::heap(LINES), Slab::heap(services * SERVICE_LINES))
    }

    /// Adds to a total.
    #[inline(always)]
    pub fn add(&self, total: Total, count: u64) {
        bump(&self.totals, total as usize, count);
    }

    /// Counts frames that are dropped on link `link`: where they came in, or were to go out if that is why. Links past
    /// [`MAX_LINKS`] count as none.
    #[inline(always)]
    pub fn drop_on(&self, link: usize, reason: Reason, count: u64) {
        let first = if link < MAX_LINKS {
            LINK_REASONS + link * REASONS_PER_LINK
        } else {
            REASONS
        };
        bump(&self.totals, first + reason as usize, count);
    }

    /// Counts dropped frames that are of no link.
    pub fn drop_many(&self, reason: Reason, count: u64) {
        bump(&self.totals, REASONS + reason as usize, count);
    }

    /// Adds to a link's counter, one that is no sum of drops; links past [`MAX_LINKS`] have none.
    #[inline(always)]
    pub fn add_link(&self, link: usize, counter: LinkCounter, count: u64) {
        debug_assert!(counter as u8 <= LinkCounter::DealtOut as u8);
        if link < MAX_LINKS {
            bump(
                &self.totals,
                LINKS + link * WORDS_PER_LINK + counter as usize,
                count,
            );
        }
    }

    /// Counts a burst that took so many nanoseconds from rx to tx.
    pub fn note_time(&self, nanos: u64) {
        bump(&self.totals, TIMES + times::bucket(nanos), 1);
    }

    /// Bursts by the time that they took, of those that were timed: see [`crate::times`].
    #[must_use]
    pub fn times(&self) -> [u64; times::BUCKETS] {
        std::array::from_fn(|bucket| read(&self.totals, TIMES + bucket))
    }

    /// To count translated frames of services and endpoints.
    #[inline(always)]
    pub(crate) fn service_frames(&self) -> ServiceFrames<'_> {
        ServiceFrames(&self.services[..self.slots()])
    }

    /// Adds to a service's counter, or to one of the first four of an endpoint.
    #[inline]
    pub fn add_service(&self, slot: u32, counter: ServiceCounter, count: u64) {
        if let Some(word) = self.service_word(slot, counter) {
            add(word, count);
        }
    }

    /// Counts a half-open flow removed to make room for newer ones.
    pub(crate) fn evicted(&self, slot: u32) {
        self.add(Total::FlowsRemoved, 1);
        self.add(Total::HalfOpenEvicted, 1);
        self.add_service(slot, ServiceCounter::HalfOpenEvicted, 1);
    }

    /// Counts a reset sent because an endpoint is gone.
    pub(crate) fn reset(&self, slot: u32) {
        self.add(Total::EndpointResets, 1);
        self.add_service(slot, ServiceCounter::EndpointResets, 1);
    }

    /// Books what a process that was killed left open: frames that it had in hand are drops
    /// ([`Reason::Restart`]). Only while no worker runs: see [`crate::settle`].
    pub(crate) fn settle(&self) {
        self.drop_many(Reason::Restart, self.open());
        let total = |total| self.total(total);
        let waiting = total(Total::Parked).wrapping_sub(total(Total::Unparked));
        self.add(Total::Unparked, waiting);
    }

    /// Frames that came and of which it is not counted what became of them: waiting ones, while a worker runs.
    pub(crate) fn open(&self) -> u64 {
        let total = |total| self.total(total);
        let drops: u64 = Reason::ALL.iter().map(|reason| self.drops(*reason)).sum();
        let came = total(Total::Received) + total(Total::Originated) + total(Total::TakenOver);
        let went = total(Total::Sent)
            .wrapping_add(drops)
            .wrapping_add(total(Total::HandedOver));
        let open = came.wrapping_sub(went);
        // More gone than come: killed between two counts of a burst. It cannot be told which.
        if open <= u64::MAX / 2 { open } else { 0 }
    }

    /// A total.
    #[must_use]
    pub fn total(&self, total: Total) -> u64 {
        read(&self.totals, total as usize)
    }

    /// Frames dropped for a reason, on whatever link.
    #[must_use]
    pub fn drops(&self, reason: Reason) -> u64 {
        let of_none = read(&self.totals, REASONS + reason as usize);
        let links = (0..MAX_LINKS).map(|link| self.link_drops(link, reason));
        links.fold(of_none, u64::wrapping_add)
    }

    /// Frames dropped for a reason on a link.
    #[must_use]
    pub fn link_drops(&self, link: usize, reason: Reason) -> u64 {
        if link < MAX_LINKS {
            let first = LINK_REASONS + link * REASONS_PER_LINK;
            read(&self.totals, first + reason as usize)
        } else {
            0
        }
    }

    /// A link's counter.
    #[must_use]
    pub fn link(&self, link: usize, counter: LinkCounter) -> u64 {
        match counter {
            LinkCounter::UnfinishedChecksums => self.link_drops(link, Reason::UnfinishedChecksum),
            LinkCounter::Truncated => self.link_drops(link, Reason::Truncated),
            LinkCounter::Dropped => Reason::ALL
                .iter()
                .filter(|reason| !matches!(reason, Reason::UnfinishedChecksum | Reason::Truncated))
                .map(|reason| self.link_drops(link, *reason))
                .fold(0, u64::wrapping_add),
            _ if link < MAX_LINKS => {
                let first = LINKS + link * WORDS_PER_LINK;
                read(&self.totals, first + counter as usize)
            }
            _ => 0,
        }
    }

    /// What is counted in a slot: a service's, without what its endpoints count, or an endpoint's.
    #[must_use]
    pub fn service(&self, slot: u32, counter: ServiceCounter) -> u64 {
        self.service_word(slot, counter)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Service slots that have counters.
    #[must_use]
    pub fn service_slots(&self) -> usize {
        self.service_slots
    }

    /// Slots of services and, after them, of endpoints: all have the first four counters.
    #[must_use]
    #[inline(always)]
    pub fn slots(&self) -> usize {
        self.slots
    }

    #[inline(always)]
    fn service_word(&self, slot: u32, counter: ServiceCounter) -> Option<&AtomicU64> {
        let (half, word) = (counter as usize / HALF, counter as usize % HALF);
        let (start, slots) = match half {
            0 => (0, self.slots),
            _ => (self.slots, self.service_slots),
        };
        let at = slot as usize;
        (at < slots).then(|| &self.services[start + at].0[word])
    }
}

impl ServiceFrames<'_> {
    /// Counts a translated frame of `bytes` bytes in a slot.
    #[inline(always)]
    pub(crate) fn count(self, slot: u32, bytes: usize) {
        if let Some(words) = self.0.get(slot as usize) {
            add(&words.0[ServiceCounter::Frames as usize], 1);
            add(&words.0[ServiceCounter::Bytes as usize], bytes as u64);
        }
    }
}

/// One writer, so load and store instead of a locked add: 0.3 ns instead of 6. Relaxed: a
/// counter stands alone, readers need no order among counters. Slots that do not exist count nowhere.
#[inline(always)]
fn bump(lines: &[Line], word: usize, count: u64) {
    if let Some(line) = lines.get(word / 8) {
        add(&line.0[word % 8], count);
    }
}

#[inline(always)]
fn add(word: &AtomicU64, count: u64) {
    word.store(
        word.load(Ordering::Relaxed).wrapping_add(count),
        Ordering::Relaxed,
    );
}

fn read(lines: &[Line], word: usize) -> u64 {
    lines
        .get(word / 8)
        .map_or(0, |line| line.0[word % 8].load(Ordering::Relaxed))
}

const _: () = assert!(Total::ALL.len() <= REASONS && REASONS + Reason::COUNT <= LINKS);
const _: () = assert!(LINKS + MAX_LINKS * WORDS_PER_LINK <= TIMES);
const _: () = assert!(TIMES + times::BUCKETS <= LINK_REASONS);
const _: () = assert!(Reason::COUNT <= REASONS_PER_LINK);
const _: () = assert!(LINK_REASONS + MAX_LINKS * REASONS_PER_LINK <= LINES * 8);
