//! The region: two files, mapped by both processes and by the operator's command.
//!
//! The data file has the region's name; the data plane alone can write it. The control file, beside
//! it, is what the control plane writes: commands, how far it has read replies, and its lines of the
//! header. So a control plane that has gone wild reaches nothing but what the data plane copies and
//! checks.
//!
//! # Life of a region
//!
//! | who | may | may not, because |
//! |-----|-----|------------------|
//! | data plane | create it, take it over with its content, replace it by new files | change its header's first two lines or its size: others have read them |
//! | data plane | write the data file | run twice: a lock file beside the region forbids it |
//! | control plane | attach, and write the control file | write the data file: its mapping is read-only, and so are its rights; run twice: a lock on the control file forbids it; make a region: only the data plane knows how large |
//! | anybody else in the group | observe | write: the mapping is read-only |
//!
//! A region appears under its name when it is complete (files are made under another name and
//! renamed, the control file first) and never changes its layout. When it must, the data plane puts new
//! files in its place; whoever has the old ones mapped keeps a valid, dead memory and notices by
//! [`Region::is_current`]. Both processes may die at any moment: the kernel drops their locks, the
//! region stays.

mod access;
mod error;
mod file;
#[allow(unsafe_code)]
mod guard;
#[allow(unsafe_code)]
mod mapping;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use self::file::{CONTROL_MODE, DATA_MODE, Nascent};
use self::mapping::Mapping;
use crate::header::{Flaw, Header, Identity, Process, Side, State, control_words};
use crate::layout::{Geometry, Layout, Section};
use crate::slab::{Line, Shared, Slab};
use crate::sync::Ordering;

pub use self::access::{Family, RingFill};
pub use self::error::{Origin, RegionError, Role};

/// A mapped region. Slabs and rings taken from it keep the memory (and the lock) alive beyond it.
#[derive(Debug)]
pub struct Region {
    path: PathBuf,
    role: Role,
    /// For the data plane: who may use the files.
    group: Option<u32>,
    data: Arc<Mapping>,
    /// Replaced when it had to be made anew.
    control: Mutex<Arc<Mapping>>,
    layout: Layout,
    identity: Identity,
    boot: u64,
}

impl Region {
    /// [`Region::create_for`] with the process's own group.
    ///
    /// # Errors
    ///
    /// As [`Region::create_for`].
    pub fn create(path: &Path, geometry: &Geometry) -> Result<(Self, Origin), RegionError> {
        Self::create_for(path, geometry, None)
    }

    /// Takes over the region at `path`, or makes it: the data plane's way in. The control plane and
    /// operators get in by `group` (a group id; `None` = the process's own).
    ///
    /// # Errors
    ///
    /// [`RegionError::InUse`] when another data plane runs; [`RegionError::Flawed`] when the file is
    /// something else than a region; [`RegionError::Owner`]; [`RegionError::Geometry`];
    /// [`RegionError::NoSpace`]; [`RegionError::Io`], also when there are too few huge pages.
    pub fn create_for(
        path: &Path,
        geometry: &Geometry,
        group: Option<u32>,
    ) -> Result<(Self, Origin), RegionError> {
        Self::create_seeded(path, geometry, group, None)
    }

    /// [`Region::create_for`], and a region that is made gets these [`Region::seeds`], so that a test's run can be
    /// repeated; `None` = random ones, which nobody can foresee who chooses addresses and ports.
    ///
    /// # Errors
    ///
    /// As [`Region::create_for`].
    pub fn create_seeded(
        path: &Path,
        geometry: &Geometry,
        group: Option<u32>,
        seeds: Option<[u64; 2]>,
    ) -> Result<(Self, Origin), RegionError> {
        let layout = Layout::new(geometry).map_err(RegionError::Geometry)?;
        let lock = file::lock_dataplane(path, group)?;
        let origin = match file::open(path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Origin::Fresh,
            Err(error) => return Err(RegionError::io("open", path)(error)),
            Ok(file) => {
                let metadata = file.metadata().map_err(RegionError::io("look at", path))?;
                file::check_owner(path, &metadata)?;
                let found = file::inspect(&file).map_err(RegionError::io("read", path))?;
                match found {
                    Ok((identity, found)) if found == layout => {
                        file::admit(&file, DATA_MODE, group)
                            .map_err(RegionError::io("give the group its rights in", path))?;
                        let control = own_control(path, identity.id, &layout, group)?;
                        let data = map_data(path, file, Some(lock), &layout, true)?;
                        let role = Role::DataPlane;
                        let region = Self::new(path, role, group, data, control, layout, identity)?;
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
        let seeds = match seeds {
            Some(seeds) => seeds,
            None => [random(path)?, random(path)?],
        };
        let region = Self::make(path, geometry, layout, group, seeds, lock)?;
        Ok((region, origin))
    }

    /// Attaches to the region at `path`: the control plane's way in. Nothing may be stored to slabs of
    /// the data file; the processor would stop the program with SIGSEGV.
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

    /// Whether the files at the path still are this region's: false once a data plane has put others
    /// in their place, or somebody removed them.
    #[must_use]
    pub fn is_current(&self) -> bool {
        file::is_at(&self.data.file, &self.path)
            && file::is_at(&self.control().file, &file::control_path(&self.path))
    }

    /// Whether somebody has cut the control file short or overwritten its head. No control plane could
    /// attach any more: [`Region::renew_control`].
    #[must_use]
    pub fn control_is_lost(&self) -> bool {
        let control = self.control();
        let header: Slab<Line> = slab(&control, &self.layout, Section::ControlHeader);
        let expected = control_words(self.identity.id);
        // Relaxed: whatever is there, it is compared.
        let words = header[0].0.iter().map(|word| word.load(Ordering::Relaxed));
        let size = control.file.metadata().map_or(0, |metadata| metadata.len());
        control.is_lost()
            || !words.take(expected.len()).eq(expected)
            || size < self.layout.control_total() as u64
    }

    /// Makes the control file anew, for the data plane: rings are to be attached again, and a control
    /// plane notices by [`Region::is_current`].
    ///
    /// # Errors
    ///
    /// [`RegionError::Role`] unless this is the data plane; as [`Region::create_for`].
    pub fn renew_control(&self) -> Result<(), RegionError> {
        if self.role != Role::DataPlane {
            let role = self.role;
            let what = "the name of the control file";
            return Err(RegionError::Role { role, what });
        }
        let control = make_control(&self.path, self.identity.id, &self.layout, self.group)?;
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(control);
        Ok(())
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
        self.header().process(Side::DataPlane)
    }

    /// The control plane that uses the region, or used it last.
    #[must_use]
    pub fn control_plane(&self) -> Process {
        self.header().process(Side::ControlPlane)
    }

    /// Says that this process is alive; an observer says nothing.
    pub fn beat(&self) {
        if let Some(side) = self.side() {
            self.header().beat(side, monotonic_nanos());
        }
    }

    /// The state that the data plane has installed; `None` for the moment when it died while
    /// writing it.
    #[must_use]
    pub fn installed(&self) -> Option<State> {
        self.header().state(Side::DataPlane)
    }

    /// The state that the control plane wants; `None` for the moment when it died while writing
    /// it.
    #[must_use]
    pub fn wanted(&self) -> Option<State> {
        self.header().state(Side::ControlPlane)
    }

    /// Reports the state that this process has installed (data plane) or wants (control plane);
    /// an observer reports nothing.
    pub fn report(&self, state: State) {
        if let Some(side) = self.side() {
            self.header().set_state(side, state);
        }
    }

    /// Makes a region under temporary names and moves it to `path`.
    fn make(
        path: &Path,
        geometry: &Geometry,
        layout: Layout,
        group: Option<u32>,
        seeds: [u64; 2],
        lock: File,
    ) -> Result<Self, RegionError> {
        let nascent = Nascent::create(path, layout.total(), DATA_MODE, group)?;
        let identity = Identity {
            id: random(path)?,
            seeds,
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos() as u64),
            geometry: *geometry,
        };
        let file = nascent
            .file
            .try_clone()
            .map_err(RegionError::io("duplicate the descriptor of", path))?;
        let data = map_data(path, file, Some(lock), &layout, true)?;
        let words = identity.to_words(&layout);
        let control = make_control(path, identity.id, &layout, group)?;
        let role = Role::DataPlane;
        let region = Self::new(path, role, group, data, control, layout, identity)?;
        store_backwards(&region.slab(Section::Header), &words);
        region.announce(Side::DataPlane);
        nascent.publish()?;
        Ok(region)
    }

    /// Opens a region that somebody else made.
    fn open(path: &Path, role: Role) -> Result<Self, RegionError> {
        let flawed = |flaw| RegionError::Flawed {
            path: path.to_owned(),
            flaw,
        };
        let file = file::open(path, false).map_err(RegionError::io("open", path))?;
        let found = file::inspect(&file).map_err(RegionError::io("read", path))?;
        let (identity, layout) = found.map_err(flawed)?;

        let writable = role == Role::ControlPlane;
        let control_path = file::control_path(path);
        let control =
            file::open(&control_path, writable).map_err(RegionError::io("open", &control_path))?;
        let is_ours = file::is_control_of(&control, identity.id, layout.control_total());
        // An observer looks at what is there, be it rubbish.
        if !is_ours.map_err(RegionError::io("read", &control_path))? && role != Role::Observer {
            return Err(flawed(Flaw::Control));
        }
        if writable {
            file::lock(&control, path, role)?;
        }
        let control = Mapping::guarded(control, layout.control_total(), writable)
            .map_err(RegionError::io("map", &control_path))?;
        let data = map_data(path, file, None, &layout, false)?;
        Self::new(path, role, None, data, control, layout, identity)
    }

    fn new(
        path: &Path,
        role: Role,
        group: Option<u32>,
        data: Mapping,
        control: Mapping,
        layout: Layout,
        identity: Identity,
    ) -> Result<Self, RegionError> {
        let boot = if role == Role::Observer {
            0
        } else {
            random(path)?
        };
        Ok(Self {
            path: path.to_owned(),
            role,
            group,
            data: Arc::new(data),
            control: Mutex::new(Arc::new(control)),
            layout,
            identity,
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
        self.header().set_process(side, process);
    }

    fn side(&self) -> Option<Side> {
        match self.role {
            Role::DataPlane => Some(Side::DataPlane),
            Role::ControlPlane => Some(Side::ControlPlane),
            Role::Observer => None,
        }
    }

    /// Lines of the data file.
    fn slab<T: Shared>(&self, section: Section) -> Slab<T> {
        slab(&self.data, &self.layout, section)
    }

    /// Lines of the control file.
    fn control_slab(&self, section: Section) -> Slab<Line> {
        slab(&self.control(), &self.layout, section)
    }

    fn control(&self) -> Arc<Mapping> {
        let control = self.control.lock();
        control.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn header(&self) -> Header {
        Header::new(
            self.slab(Section::Header),
            self.control_slab(Section::ControlHeader),
        )
    }
}

fn slab<T: Shared>(mapping: &Arc<Mapping>, layout: &Layout, section: Section) -> Slab<T> {
    mapping.slab(layout.offset(section), layout.lines(section))
}

fn map_data(
    path: &Path,
    file: File,
    lock: Option<File>,
    layout: &Layout,
    writable: bool,
) -> Result<Mapping, RegionError> {
    let mapping = Mapping::new(file, lock, layout.total(), writable).map_err(|error| {
        let what = match error.kind() {
            // On hugetlbfs the pages are reserved now; elsewhere there is no reservation.
            io::ErrorKind::OutOfMemory => "map (are there too few free huge pages?)",
            _ => "map",
        };
        RegionError::io(what, path)(error)
    })?;
    mapping.prefer_huge_pages();
    Ok(mapping)
}

/// The control file beside a region that was taken over: the one that is there if it is sound, so that
/// a running control plane can go on, else a new one.
fn own_control(
    path: &Path,
    region: u64,
    layout: &Layout,
    group: Option<u32>,
) -> Result<Mapping, RegionError> {
    let control_path = file::control_path(path);
    let at = |what| RegionError::io(what, &control_path);
    let sound = |file: &File| {
        let is_safe = file::check_owner(&control_path, &file.metadata()?).is_ok();
        Ok::<_, io::Error>(is_safe && file::is_control_of(file, region, layout.control_total())?)
    };
    match file::open(&control_path, false) {
        Ok(file) if sound(&file).map_err(at("read"))? => {
            file::admit(&file, CONTROL_MODE, group).map_err(at("give the group its rights in"))?;
            Mapping::guarded(file, layout.control_total(), false).map_err(at("map"))
        }
        // Whatever else is there, perhaps not even a file, gives way to a new one.
        _ => make_control(path, region, layout, group),
    }
}

/// Makes the control file and gives it its name. The data plane only reads it afterwards.
fn make_control(
    path: &Path,
    region: u64,
    layout: &Layout,
    group: Option<u32>,
) -> Result<Mapping, RegionError> {
    let path = file::control_path(path);
    let at = |what| RegionError::io(what, &path);
    let nascent = Nascent::create(&path, layout.control_total(), CONTROL_MODE, group)?;
    let file = || {
        nascent
            .file
            .try_clone()
            .map_err(at("duplicate the descriptor of"))
    };
    // By a mapping: hugetlbfs has no write(2).
    let len = layout.control_total();
    let writer = Arc::new(Mapping::new(file()?, None, len, true).map_err(at("map"))?);
    let header = slab(&writer, layout, Section::ControlHeader);
    store_backwards(&header, &control_words(region));
    let mapping = Mapping::guarded(file()?, len, false).map_err(at("map"))?;
    nascent.publish()?;
    Ok(mapping)
}

/// Writes the first words of a header, the first one last. Relaxed: nobody knows the file before it is
/// published.
fn store_backwards(header: &Slab<Line>, words: &[u64]) {
    let places: Vec<_> = header.iter().flat_map(|line| &line.0).collect();
    for (place, word) in places.into_iter().zip(words).rev() {
        place.store(*word, Ordering::Relaxed);
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
