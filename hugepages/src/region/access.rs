//! The parts of the region, as rings, journal and slabs.

use super::{Region, RegionError, Role};
use crate::journal::Journal;
use crate::layout::Section;
use crate::ring::{Consumer, Memory, Producer};
use crate::slab::{HalfLine, Line, Slab, TagLine};

/// Family of a flow table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How full a ring is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingFill {
    /// Records that were sent and not yet taken.
    pub waiting: usize,
    /// Records that it can hold.
    pub capacity: usize,
}

impl Region {
    /// How full the command ring and the reply ring are, for anybody: nothing is taken.
    ///
    /// # Errors
    ///
    /// [`RegionError::Ring`] when a ring's positions are impossible, or were so for a moment because both
    /// sides moved on between the two looks that this takes.
    pub fn ring_fill(&self) -> Result<[RingFill; 2], RegionError> {
        let fill = |memory: Memory| {
            let ring = Consumer::attach(memory)?;
            Ok::<_, RegionError>(RingFill {
                waiting: ring.waiting()?,
                capacity: ring.capacity(),
            })
        };
        Ok([fill(self.commands())?, fill(self.replies())?])
    }

    /// The sending end of the command ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the control plane.
    pub fn commands_producer(&self) -> Result<Producer, RegionError> {
        self.must_be(Role::ControlPlane, "commands")?;
        Ok(Producer::attach(self.commands())?)
    }

    /// The receiving end of the command ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the data plane.
    pub fn commands_consumer(&self) -> Result<Consumer, RegionError> {
        self.must_be(Role::DataPlane, "the reader's side of commands")?;
        Ok(Consumer::attach(self.commands())?)
    }

    /// The sending end of the reply ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the data plane.
    pub fn replies_producer(&self) -> Result<Producer, RegionError> {
        self.must_be(Role::DataPlane, "replies")?;
        Ok(Producer::attach(self.replies())?)
    }

    /// The receiving end of the reply ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the control plane.
    pub fn replies_consumer(&self) -> Result<Consumer, RegionError> {
        self.must_be(Role::ControlPlane, "the reader's side of replies")?;
        Ok(Consumer::attach(self.replies())?)
    }

    /// The journal; only the data plane's can be written, and by one at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Journal`] when its memory is of an impossible size.
    pub fn journal(&self) -> Result<Journal, RegionError> {
        let lines = self.slab(Section::Journal);
        Ok(match self.role {
            Role::DataPlane => Journal::open(lines)?,
            Role::ControlPlane | Role::Observer => Journal::read_only(lines)?,
        })
    }

    /// Counters of a worker: 512 words; empty if the region has no such worker.
    #[must_use]
    pub fn worker_counters(&self, worker: u16) -> Slab<Line> {
        self.share(Section::WorkerCounters, worker, self.geometry().workers)
    }

    /// Keys of the services that have counters: eight slots a line; 0 = free slot.
    #[must_use]
    pub fn service_keys(&self) -> Slab<Line> {
        self.slab(Section::ServiceKeys)
    }

    /// How many endpoints have counters (the first word), and, from the second line on, where each is found by its key.
    #[must_use]
    pub fn endpoint_index(&self) -> Slab<Line> {
        self.slab(Section::EndpointIndex)
    }

    /// Which endpoint of which service has which counters: half a line a slot.
    #[must_use]
    pub fn endpoint_keys(&self) -> Slab<HalfLine> {
        self.slab::<Line>(Section::EndpointKeys).halves()
    }

    /// A worker's counters of services and of their endpoints, in half lines of four words: one for each service slot,
    /// one for each endpoint slot, another for each service slot. Empty if the region has no such worker.
    #[must_use]
    pub fn service_counters(&self, worker: u16) -> Slab<Line> {
        self.share(Section::ServiceCounters, worker, self.geometry().workers)
    }

    /// Descriptions of the links, [`LINK_LINES`](crate::layout::LINK_LINES) each: see [`crate::link_info`].
    #[must_use]
    pub fn links(&self) -> Slab<Line> {
        self.slab(Section::Links)
    }

    /// Description of one link; empty if the region has no such link.
    #[must_use]
    pub fn link(&self, link: u16) -> Slab<Line> {
        self.share(Section::Links, link, self.geometry().links)
    }

    /// The neighbour area.
    #[must_use]
    pub fn neighbours(&self) -> Slab<Line> {
        self.slab(Section::Neighbours)
    }

    /// The affinity table.
    #[must_use]
    pub fn affinity(&self) -> Slab<Line> {
        self.slab(Section::Affinity)
    }

    /// Buckets of a flow table: sixteen tags each.
    #[must_use]
    pub fn flow_buckets(&self, family: Family) -> Slab<TagLine> {
        self.slab(match family {
            Family::V4 => Section::FlowBucketsV4,
            Family::V6 => Section::FlowBucketsV6,
        })
    }

    /// Entries of a flow table: one line each for IPv4, two for IPv6; the entry of bucket b, tag t
    /// is number 16 b + t.
    #[must_use]
    pub fn flow_entries(&self, family: Family) -> Slab<Line> {
        self.slab(match family {
            Family::V4 => Section::FlowEntriesV4,
            Family::V6 => Section::FlowEntriesV6,
        })
    }

    /// Commands lie in the control file, how far they were read in the data file.
    fn commands(&self) -> Memory {
        Memory {
            sent: self.control_slab(Section::Commands),
            read: self.slab(Section::CommandsReader),
        }
    }

    /// Replies lie in the data file, how far they were read in the control file.
    fn replies(&self) -> Memory {
        Memory {
            sent: self.slab(Section::Replies),
            read: self.control_slab(Section::RepliesReader),
        }
    }

    fn must_be(&self, role: Role, what: &'static str) -> Result<(), RegionError> {
        if self.role == role {
            Ok(())
        } else {
            let role = self.role;
            Err(RegionError::Role { role, what })
        }
    }

    /// The `index`th of `count` equal shares of a section.
    fn share(&self, section: Section, index: u16, count: u16) -> Slab<Line> {
        if index >= count {
            return Slab::heap(0);
        }
        let lines = self.layout.lines(section) / usize::from(count);
        let offset = self.layout.offset(section) + usize::from(index) * lines * size_of::<Line>();
        self.data.slab(offset, lines)
    }
}
