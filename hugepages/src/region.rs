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

mod access;
mod error;
mod file;
#[allow(unsafe_code)]
mod mapping;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use self::file::Nascent;
use self::mapping::Mapping;
use crate::header::{FIXED, Flaw, Header, Identity, Process, Side, State};
use crate::layout::{Geometry, Layout, Section};
use crate::slab::{Line, Shared, Slab};
use crate::sync::Ordering;

pub use self::access::Family;
pub use self::error::{Origin, RegionError, Role};

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
    /// [`RegionError::InUse`] when another data plane runs; [`RegionError::Flawed`] when the file is
    /// something else than a region; [`RegionError::Geometry`]; [`RegionError::NoSpace`]; [`RegionError::Io`], also when there are too few huge pages.
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
                    // Somebody else's file, named by mistake, must not be lost.
                    Err(flaw @ (Flaw::TooSmall { .. } | Flaw::Magic { .. })) => {
                        let path = path.to_owned();
                        return Err(RegionError::Flawed { path, flaw });
                    }
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

    /// Makes a region under a temporary name and moves it to `path`.
    fn make(
        path: &Path,
        geometry: &Geometry,
        layout: Layout,
        lock: File,
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
        file: File,
        lock: Option<File>,
        identity: Identity,
        layout: Layout,
    ) -> Result<Self, RegionError> {
        let boot = if role == Role::Observer {
            0
        } else {
            random(path)?
        };
        let writable = role != Role::Observer;
        let mapping = Mapping::new(file, lock, layout.total(), writable).map_err(|error| {
            let what = match error.kind() {
                // On hugetlbfs the pages are reserved now; elsewhere there is no reservation.
                io::ErrorKind::OutOfMemory => "map (are there too few free huge pages?)",
                _ => "map",
            };
            RegionError::io(what, path)(error)
        })?;
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

    fn slab<T: Shared>(&self, section: Section) -> Slab<T> {
        self.mapping
            .slab(self.layout.offset(section), self.layout.lines(section))
    }
}

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
