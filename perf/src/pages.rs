//! The pages under tables and buffers: ordinary ones, transparent huge ones, or reserved huge ones.
//!
//! With ordinary pages nearly every access to a large table misses the TLB and costs a page walk, in a
//! virtual machine a nested one; so a figure means little without saying which pages it is for.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use hugepages::host::pages::{self, Added, TWO_MIB};
use hugepages::host::{Linux, Root};
use hugepages::layout::{Geometry, Layout};
use hugepages::region::Family;
use hugepages::{Line, Region, Slab, TagLine};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::Error;

const TUNABLES: &str = "GLIBC_TUNABLES";
const TRANSPARENT: &str = "glibc.malloc.hugetlb=1";

/// Where the flow tables lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TablePages {
    /// The heap, on 4 KiB pages.
    Small,
    /// The heap, on transparent huge pages (madvise, by glibc's `hugetlb` tunable).
    Transparent,
    /// A region on hugetlbfs, as in production; needs `--huge-pages`.
    Huge,
}

impl TablePages {
    /// Name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Transparent => "transparent",
            Self::Huge => "huge",
        }
    }
}

/// How many huge pages to reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// As many as what is measured needs.
    Auto,
    /// So many; 0 for none.
    Count(u64),
}

impl FromStr for HugePages {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            count => count
                .parse()
                .map(Self::Count)
                .map_err(|_| "it is a number or auto"),
        }
    }
}

/// Makes the process's heap use transparent huge pages: starts the program again with glibc's tunable,
/// unless that is how it was started.
///
/// # Errors
///
/// [`Error::Run`] if it cannot be started again.
pub fn ensure_transparent() -> Result<(), Error> {
    let tunables = std::env::var(TUNABLES).unwrap_or_default();
    if tunables.split(':').any(|tunable| tunable == TRANSPARENT) {
        return Ok(());
    }
    let tunables = match tunables.as_str() {
        "" => TRANSPARENT.to_owned(),
        others => format!("{others}:{TRANSPARENT}"),
    };
    let failed = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(TUNABLES, tunables)
        .exec();
    Err(Error::Run(format!(
        "cannot start again with {TUNABLES}: {failed}"
    )))
}

/// Huge pages of 2 MiB, reserved until dropped, and a hugetlbfs to make files on.
#[derive(Debug)]
pub struct Reserved {
    added: Added,
    mount: tempfile::TempDir,
}

impl Reserved {
    /// Sees to it that `count` pages are free.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] without the right, or if memory is too fragmented for as many.
    pub fn new(count: u64) -> Result<Self, Error> {
        let fail = |what: String| Error::Run(format!("--huge-pages {count}: {what}"));
        let root = Root::default();
        let added = pages::ensure_free(&root, &mut Linux(&root), None, TWO_MIB, count)
            .map_err(|error| fail(error.to_string()))?;
        let mount = tempfile::tempdir().map_err(|error| fail(error.to_string()))?;
        let mounted = Command::new("mount")
            .args(["-t", "hugetlbfs", "-o", "pagesize=2M", "perf"])
            .arg(mount.path())
            .status();
        let reserved = Self { added, mount };
        match mounted {
            Ok(status) if status.success() => Ok(reserved),
            _ => Err(fail("cannot mount a hugetlbfs".to_owned())),
        }
    }

    /// Directory of the hugetlbfs.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// [`Reserved::new`], given back as well when a signal ends the program, which then ends as it would have. Not for
    /// programs that end in order themselves.
    ///
    /// # Errors
    ///
    /// As [`Reserved::new`]; [`Error::Run`] if signals cannot be caught.
    pub fn until_signal(count: u64) -> Result<Self, Error> {
        // Caught before there is anything to give back.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
            .map_err(|error| Error::Run(format!("cannot catch signals: {error}")))?;
        let reserved = Self::new(count)?;
        let (added, path) = (reserved.added, reserved.path().to_owned());
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                release(added, &path);
                // With what the program may have put there since: it goes on until the signal has its effect.
                let _ = fs::remove_dir_all(&path);
                let _ = emulate_default_handler(signal);
            }
        });
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        release(self.added, self.path());
    }
}

fn release(added: Added, mount: &Path) {
    let _ = Command::new("umount").arg("-l").arg(mount).status();
    let root = Root::default();
    let _ = pages::give_back(&root, &mut Linux(&root), added);
}

/// Gives tables their memory.
#[derive(Debug)]
pub struct TableMemory {
    pages: TablePages,
    directory: PathBuf,
    made: u32,
}

impl TableMemory {
    /// On pages of this kind; `directory` is on hugetlbfs if they are huge ones.
    #[must_use]
    pub fn new(pages: TablePages, directory: PathBuf) -> Self {
        Self {
            pages,
            directory,
            made: 0,
        }
    }

    /// Zeroed buckets and entries for `flows` flows.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if the region cannot be made.
    pub fn table(
        &mut self,
        family: Family,
        flows: usize,
    ) -> Result<(Slab<TagLine>, Slab<Line>), Error> {
        if self.pages == TablePages::Huge {
            return self.region(family, flows);
        }
        let lines = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        let buckets = (flows * 4).div_ceil(16).max(1);
        Ok((Slab::heap(buckets), Slab::heap(buckets * 16 * lines)))
    }

    fn region(
        &mut self,
        family: Family,
        flows: usize,
    ) -> Result<(Slab<TagLine>, Slab<Line>), Error> {
        let geometry = geometry(family, flows);
        self.made += 1;
        let path = self.directory.join(format!("table{}", self.made));
        let (region, _) = Region::create(&path, &geometry)
            .map_err(|error| Error::Run(format!("no memory for a flow table: {error}")))?;
        // The mapping keeps the memory; the name is of no use to anybody.
        let _ = fs::remove_file(&path);
        let _ = fs::remove_file(path.with_extension("control"));
        Ok((region.flow_buckets(family), region.flow_entries(family)))
    }
}

/// Huge pages that a table for `flows` flows takes.
#[must_use]
pub fn table_pages(family: Family, flows: usize) -> u64 {
    let bytes = |layout: Layout| layout.total() + layout.control_total();
    Layout::new(&geometry(family, flows)).map_or(0, |layout| (bytes(layout) >> 21) as u64)
}

/// A region with hardly anything but this table.
fn geometry(family: Family, flows: usize) -> Geometry {
    let flows = u32::try_from(flows.max(16)).unwrap_or(u32::MAX);
    let (flows, flows_v6) = match family {
        Family::V4 => (flows, 16),
        Family::V6 => (16, flows),
    };
    Geometry {
        workers: 1,
        command_records: 64,
        reply_records: 64,
        journal_records: 64,
        service_slots: 8,
        links: 0,
        flows,
        flows_v6,
    }
}
