//! The region of a running gateway, and what its counters say.

use std::io;
use std::path::Path;
use std::time::Duration;

use engine::counters::{Counters, LinkCounter, ServiceCounter, Total};
use engine::reason::Reason;
use hugepages::{LinkInfo, Region, RegionError};
use serde_json::{Map, Value};
use settings::Settings;

use crate::failure::Failure;

/// A data plane that has not been heard of for this long does not run: it beats at least every few
/// hundred microseconds, but installing a hundred thousand services keeps it busy for seconds.
const SILENCE: Duration = Duration::from_secs(10);

/// Maps the region of these settings, which a data plane uses now.
pub(crate) fn open(settings: &Settings) -> Result<Region, Failure> {
    let path = &settings.region.path;
    let region = Region::observe(path).map_err(|error| unusable(path, error))?;
    let silence = silence(&region);
    if silence > SILENCE {
        return Err(Failure::Failed(format!(
            "no data plane runs: process {} used the region {} last and has been silent for {} s; \
             start portgate-dataplane",
            region.data_plane().pid,
            path.display(),
            silence.as_secs()
        )));
    }
    Ok(region)
}

fn unusable(path: &Path, error: RegionError) -> Failure {
    let path = path.display();
    match error {
        RegionError::Flawed { .. } => Failure::Wrong(error.to_string()),
        RegionError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
            Failure::Failed(format!(
                "there is no region {path}: start portgate-dataplane, or name the file of its \
                 region in region.path"
            ))
        }
        RegionError::Io { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
            Failure::Failed(format!(
                "cannot open the region {path}: {cause}; run this as root or in the group of the \
                 file"
            ))
        }
        other => Failure::Failed(other.to_string()),
    }
}

fn silence(region: &Region) -> Duration {
    let now = hugepages::region::monotonic_nanos();
    Duration::from_nanos(now.saturating_sub(region.data_plane().heartbeat))
}

/// The links' names, by their numbers; of those that say nothing of themselves the number.
pub(crate) fn link_names(region: &Region) -> Vec<String> {
    let name = |at: u16| {
        LinkInfo::read(&region.link(at)).map_or_else(|| format!("#{at}"), |info| info.name)
    };
    (0..region.geometry().links).map(name).collect()
}

/// The counters of a region: one block for each worker, and the last one for the main core.
#[derive(Debug)]
pub(crate) struct AllCounters {
    blocks: Vec<Counters>,
}

impl AllCounters {
    /// The counters of this region.
    pub(crate) fn of(region: &Region) -> Self {
        let block = |at| Counters::new(region.worker_counters(at), region.service_counters(at));
        Self {
            blocks: (0..region.geometry().workers).map(block).collect(),
        }
    }

    /// Those of the workers.
    pub(crate) fn workers(&self) -> &[Counters] {
        let count = self.blocks.len().saturating_sub(1);
        &self.blocks[..count]
    }

    /// Those of the workers and of the main core.
    pub(crate) fn blocks(&self) -> &[Counters] {
        &self.blocks
    }

    /// A service's counter over all workers.
    pub(crate) fn service(&self, slot: u32, counter: ServiceCounter) -> u64 {
        sum(&self.blocks, |block| block.service(slot, counter))
    }

    /// A link's counter over all workers.
    pub(crate) fn link(&self, link: usize, counter: LinkCounter) -> u64 {
        sum(&self.blocks, |block| block.link(link, counter))
    }
}

/// A total over these blocks.
pub(crate) fn total(blocks: &[Counters], total: Total) -> u64 {
    sum(blocks, |block| block.total(total))
}

/// Frames dropped for a reason, over these blocks.
pub(crate) fn drops(blocks: &[Counters], reason: Reason) -> u64 {
    sum(blocks, |block| block.drops(reason))
}

fn sum(blocks: &[Counters], count: impl Fn(&Counters) -> u64) -> u64 {
    blocks.iter().map(count).fold(0, u64::wrapping_add)
}

/// A link's counters, by their names in JSON.
pub(crate) const LINK_COUNTERS: [(LinkCounter, &str); 7] = [
    (LinkCounter::RxFrames, "rx_frames"),
    (LinkCounter::RxBytes, "rx_bytes"),
    (LinkCounter::TxFrames, "tx_frames"),
    (LinkCounter::TxBytes, "tx_bytes"),
    (LinkCounter::UnfinishedChecksums, "unfinished_checksums"),
    (LinkCounter::Truncated, "truncated"),
    (LinkCounter::Dropped, "dropped"),
];

/// Numbers by name.
pub(crate) fn numbers(pairs: impl IntoIterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
}
