//! The [`Channel`] that is the shared-memory region.

use std::path::{Path, PathBuf};

use hugepages::header::State;
use hugepages::region::Region;
use hugepages::ring::{Consumer, Producer};
use hugepages::{Digest, Record};

use super::channel::{Broken, Channel, Connector};

/// Attaches to the region at a path.
#[derive(Debug)]
pub struct RegionConnector {
    path: PathBuf,
}

impl RegionConnector {
    /// For the region at this path, whether or not it exists yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

impl Connector for RegionConnector {
    type Channel = RegionChannel;

    fn connect(&mut self) -> Result<RegionChannel, Broken> {
        let region = Region::attach(&self.path).map_err(broken)?;
        let commands = region.commands_producer().map_err(broken)?;
        let mut replies = region.replies_consumer().map_err(broken)?;
        // Replies to a former control plane; ours have yet to be caused.
        replies.clear();
        Ok(RegionChannel {
            commands,
            replies,
            region,
        })
    }
}

/// The control plane's ends of both rings, and the region's header.
#[derive(Debug)]
pub struct RegionChannel {
    commands: Producer,
    replies: Consumer,
    region: Region,
}

impl Channel for RegionChannel {
    fn send(&mut self, records: &[Record]) -> Result<usize, Broken> {
        self.commands.room().map_err(broken)?;
        Ok(self.commands.push_all(records))
    }

    fn receive(&mut self) -> Result<Option<Record>, Broken> {
        self.replies.pop().map_err(broken)
    }

    fn is_drained(&self) -> Result<bool, Broken> {
        let room = self.commands.room().map_err(broken)?;
        Ok(room == self.commands.capacity())
    }

    fn boot(&self) -> u64 {
        self.region.boot()
    }

    fn peer_boot(&self) -> u64 {
        self.region.data_plane().boot
    }

    fn installed(&self) -> Option<(u64, Digest)> {
        let state = self.region.installed()?;
        Some((state.generation, state.digest))
    }

    fn report(&mut self, generation: u64, digest: Digest) {
        self.region.report(State { generation, digest });
    }

    fn beat(&mut self) {
        self.region.beat();
    }

    fn is_current(&self) -> bool {
        self.region.is_current()
    }
}

fn broken(error: impl std::fmt::Display) -> Broken {
    Broken(error.to_string())
}
