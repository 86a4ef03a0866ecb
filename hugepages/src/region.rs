//! The region: one file, mapped by both processes and by the operator's command.
//!
//! # Life of a region
//!
//! | who | may | may not, because |
//! |-----|-----|------------------|
//! | data plane | create it, take it over with its content, replace it by a new file | change its header's first two lines or its size: others have read them |
//! | data plane | write every section but the command ring's records and tail | run twice: a lock file beside the region forbids it |
//! | control plane | attach, and write the command ring's producer side, the reply ring's consumer side, its own header lines | run twice: a lock on the region forbids it; make a region: only the data plane knows how large |
//! | anybody else | observe | write: the mapping is read-only |
//!
//! A region appears under its name when it is complete (the file is made under another name and
//! renamed) and never changes its layout. When it must, the data plane puts a new file in its
//! place; whoever has the old one mapped keeps a valid, dead memory and notices by
//! [`Region::is_current`]. Both processes may die at any moment: the kernel drops their locks, the
//! region stays.

mod file;
mod mapping;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use self::file::Nascent;
use self::mapping::Mapping;
use crate::header::{FIXED, Flaw, Header, Identity, Process, Side, State};
use crate::journal::{Journal, JournalError};
use crate::layout::{Geometry, LINK_LINES, Layout, Section, WORKER_LINES};
use crate::ring::{Consumer, Producer, RingError};
use crate::slab::{Line, Shared, Slab, TagLine};
use crate::sync::Ordering;

/// What a process is to the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Made or took over the region.
    DataPlane,
    /// Sends commands through it.
    ControlPlane,
    /// Only looks.
    Observer,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DataPlane => "data plane",
            Self::ControlPlane => "control plane",
            Self::Observer => "observer",
        })
    }
}

/// How the data plane came to its region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There was none.
    Fresh,
    /// There was one that fits: its journal, flows and counters go on.
    TakenOver,
    /// There was one that does not fit, or something else of that name.
    Replaced(Flaw),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => formatter.write_str("new region"),
            Self::TakenOver => formatter.write_str("region taken over"),
            Self::Replaced(flaw) => write!(formatter, "region replaced: {flaw}"),
        }
    }
}

/// Why a region cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A system call failed.
    #[error("cannot {what} {}: {cause}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Another process of the same role uses it.
    #[error("the region {} is in use by another {role}{}", path.display(), holder(*pid))]
    InUse {
        /// The region.
        path: PathBuf,
        /// The role that is taken.
        role: Role,
        /// Process id of the other, when it can be told.
        pid: Option<u32>,
    },
    /// The file is no region that this program can use.
    #[error("cannot use the region {}: {flaw}", path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The geometry breaks a rule.
    #[error("a region must have {0}")]
    Geometry(&'static str),
    /// The filesystem has not the room.
    #[error(
        "the region {} needs {} MiB, its filesystem has {} MiB free", path.display(),
        wanted >> 20, available >> 20
    )]
    NoSpace {
        /// The region.
        path: PathBuf,
        /// Bytes that the region may come to take.
        wanted: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// This end of the ring or journal belongs to another role.
    #[error("the {role} may not write {what}")]
    Role {
        /// Our role.
        role: Role,
        /// What belongs to another.
        what: &'static str,
    },
    /// A ring in the region is broken.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The journal in the region is broken.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl RegionError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { what, path, cause }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Family of a flow table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A mapped region. Slabs and rings taken from it keep the memory (and the lock) alive beyond it.
#[derive(Debug)]
pub struct Region {
    path: PathBuf,
    role: Role,
    mapping: Arc<Mapping>,
    layout: Layout,
    identity: Identity,
    header: Header,
    boot: u64,
}

impl Region {
    /// Takes over the region at `path`, or makes it: the data plane's way in.
    ///
    /// # Errors
    ///
    /// [`RegionError::InUse`] when another data plane runs; [`RegionError::Geometry`];
    /// [`RegionError::NoSpace`]; [`RegionError::Io`], also when there are too few huge pages.
    pub fn create(path: &Path, geometry: &Geometry) -> Result<(Self, Origin), RegionError> {
        let layout = Layout::new(geometry).map_err(RegionError::Geometry)?;
        let lock = file::lock_dataplane(path)?;
        let origin = match file::open(path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Origin::Fresh,
            Err(error) => return Err(RegionError::io("open", path)(error)),
            Ok(file) => {
                let found = file::inspect(&file).map_err(RegionError::io("read", path))?;
                match found {
                    Ok((identity, found)) if found == layout => {
                        let role = Role::DataPlane;
                        let region = Self::map(path, role, file, Some(lock), identity, layout)?;
                        region.announce(Side::DataPlane);
                        return Ok((region, Origin::TakenOver));
                    }
                    Ok(_) => Origin::Replaced(Flaw::OtherGeometry),
                    Err(flaw) => Origin::Replaced(flaw),
                }
            }
        };
        let region = Self::make(path, geometry, layout, lock)?;
        Ok((region, origin))
    }

    /// Attaches to the region at `path`: the control plane's way in.
    ///
    /// # Errors
    ///
    /// [`RegionError::InUse`] when another control plane is attached; [`RegionError::Flawed`];
    /// [`RegionError::Io`], with `NotFound` as long as no data plane has made the region.
    pub fn attach(path: &Path) -> Result<Self, RegionError> {
        let region = Self::open(path, Role::ControlPlane)?;
        region.announce(Side::ControlPlane);
        Ok(region)
    }

    /// Maps the region at `path` read-only: the operator's way in. Nothing may be stored to slabs
    /// taken from it; the processor would stop the program with SIGSEGV.
    ///
    /// # Errors
    ///
    /// [`RegionError::Flawed`] and [`RegionError::Io`].
    pub fn observe(path: &Path) -> Result<Self, RegionError> {
        Self::open(path, Role::Observer)
    }

    /// Whether the file at the path still is this region: false once a data plane has put another
    /// in its place, or somebody removed it.
    #[must_use]
    pub fn is_current(&self) -> bool {
        file::is_at(&self.mapping.file, &self.path)
    }

    /// What this process is to the region.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Random number that names this start of this process; 0 for an observer.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// What its creator wrote: id, hash seeds, time of creation, geometry.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it was made for.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.identity.geometry
    }

    /// Seeds of keyed hashes, random and constant for the life of the region.
    #[must_use]
    pub fn seeds(&self) -> [u64; 2] {
        self.identity.seeds
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The data plane that uses the region, or used it last.
    #[must_use]
    pub fn data_plane(&self) -> Process {
        self.header.process(Side::DataPlane)
    }

    /// The control plane that uses the region, or used it last.
    #[must_use]
    pub fn control_plane(&self) -> Process {
        self.header.process(Side::ControlPlane)
    }

    /// Says that this process is alive; an observer says nothing.
    pub fn beat(&self) {
        if let Some(side) = self.side() {
            self.header.beat(side, monotonic_nanos());
        }
    }

    /// The state that the data plane has installed; `None` for the moment when it died while
    /// writing it.
    #[must_use]
    pub fn installed(&self) -> Option<State> {
        self.header.state(Side::DataPlane)
    }

    /// The state that the control plane wants; `None` for the moment when it died while writing
    /// it.
    #[must_use]
    pub fn wanted(&self) -> Option<State> {
        self.header.state(Side::ControlPlane)
    }

    /// Reports the state that this process has installed (data plane) or wants (control plane);
    /// an observer reports nothing.
    pub fn report(&self, state: State) {
        if let Some(side) = self.side() {
            self.header.set_state(side, state);
        }
    }

    /// The sending end of the command ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the control plane.
    pub fn commands_producer(&self) -> Result<Producer, RegionError> {
        self.must_be(Role::ControlPlane, "commands")?;
        Ok(Producer::attach(self.slab(Section::Commands))?)
    }

    /// The receiving end of the command ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the data plane.
    pub fn commands_consumer(&self) -> Result<Consumer, RegionError> {
        self.must_be(Role::DataPlane, "the reader's side of commands")?;
        Ok(Consumer::attach(self.slab(Section::Commands))?)
    }

    /// The sending end of the reply ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the data plane.
    pub fn replies_producer(&self) -> Result<Producer, RegionError> {
        self.must_be(Role::DataPlane, "replies")?;
        Ok(Producer::attach(self.slab(Section::Replies))?)
    }

    /// The receiving end of the reply ring. One at a time.
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the control plane.
    pub fn replies_consumer(&self) -> Result<Consumer, RegionError> {
        self.must_be(Role::ControlPlane, "the reader's side of replies")?;
        Ok(Consumer::attach(self.slab(Section::Replies))?)
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

    /// A worker's counters of services: four words a slot, two slots a line; empty if the region
    /// has no such worker.
    #[must_use]
    pub fn service_counters(&self, worker: u16) -> Slab<Line> {
        self.share(Section::ServiceCounters, worker, self.geometry().workers)
    }

    /// Descriptions of the links, [`LINK_LINES`] each: see [`crate::link_info`].
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

    /// Makes a region under a temporary name and moves it to `path`.
    fn make(
        path: &Path,
        geometry: &Geometry,
        layout: Layout,
        lock: std::fs::File,
    ) -> Result<Self, RegionError> {
        let nascent = Nascent::create(path, &layout)?;
        let identity = Identity {
            id: random(path)?,
            seeds: [random(path)?, random(path)?],
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos() as u64),
            geometry: *geometry,
        };
        let file = nascent
            .file
            .try_clone()
            .map_err(RegionError::io("duplicate the descriptor of", path))?;
        let role = Role::DataPlane;
        let region = Self::map(path, role, file, Some(lock), identity, layout)?;
        let words = identity.to_words(&region.layout);
        let header: Slab<Line> = region.slab(Section::Header);
        let places: Vec<_> = header.iter().flat_map(|line| &line.0).take(FIXED).collect();
        // Backwards, so that the magic comes last. Relaxed: nobody knows the file before `publish`.
        for (place, word) in places.into_iter().zip(words).rev() {
            place.store(word, Ordering::Relaxed);
        }
        region.announce(Side::DataPlane);
        nascent.publish()?;
        Ok(region)
    }

    /// Opens a region that somebody else made.
    fn open(path: &Path, role: Role) -> Result<Self, RegionError> {
        let writable = role != Role::Observer;
        let file = file::open(path, writable).map_err(RegionError::io("open", path))?;
        if writable {
            file::lock(&file, path, role)?;
        }
        let found = file::inspect(&file).map_err(RegionError::io("read", path))?;
        let (identity, layout) = found.map_err(|flaw| RegionError::Flawed {
            path: path.to_owned(),
            flaw,
        })?;
        Self::map(path, role, file, None, identity, layout)
    }

    fn map(
        path: &Path,
        role: Role,
        file: std::fs::File,
        lock: Option<std::fs::File>,
        identity: Identity,
        layout: Layout,
    ) -> Result<Self, RegionError> {
        let boot = if role == Role::Observer {
            0
        } else {
            random(path)?
        };
        let writable = role != Role::Observer;
        let mapping = Mapping::new(file, lock, layout.total(), writable)
            .map_err(RegionError::io("map (are there enough huge pages?)", path))?;
        mapping.prefer_huge_pages();
        let mapping = Arc::new(mapping);
        let header = mapping.slab(
            layout.offset(Section::Header),
            layout.lines(Section::Header),
        );
        Ok(Self {
            path: path.to_owned(),
            role,
            mapping,
            layout,
            identity,
            header: Header::new(header),
            boot,
        })
    }

    /// Writes this process into the header.
    fn announce(&self, side: Side) {
        let process = Process {
            boot: self.boot,
            pid: std::process::id(),
            heartbeat: monotonic_nanos(),
        };
        self.header.set_process(side, process);
    }

    fn side(&self) -> Option<Side> {
        match self.role {
            Role::DataPlane => Some(Side::DataPlane),
            Role::ControlPlane => Some(Side::ControlPlane),
            Role::Observer => None,
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

    fn slab<T: Shared>(&self, section: Section) -> Slab<T> {
        self.mapping
            .slab(self.layout.offset(section), self.layout.lines(section))
    }

    /// The `index`th of `count` equal shares of a section.
    fn share(&self, section: Section, index: u16, count: u16) -> Slab<Line> {
        if index >= count {
            return Slab::heap(0);
        }
        let lines = self.layout.lines(section) / usize::from(count);
        let offset = self.layout.offset(section) + usize::from(index) * lines * size_of::<Line>();
        self.mapping.slab(offset, lines)
    }
}

const _: () = assert!(WORKER_LINES * 8 == 512 && LINK_LINES == 4);

/// CLOCK_MONOTONIC in nanoseconds: the clock of heartbeats, the same for all processes.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A random number other than 0.
fn random(path: &Path) -> Result<u64, RegionError> {
    let mut bytes = [0; 8];
    // 8 bytes come whole or not at all: getrandom(2) is not interrupted below 256.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| RegionError::io("get random numbers for", path)(errno.into()))?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}

#[cfg(test)]
#[path = "region_tests.rs"]
mod tests;
