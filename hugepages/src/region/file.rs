//! The region's files: finding, judging, locking and making them.
//!
//! The data file has the region's name, the control file beside it ends in `.control`. The data file can be
//! read by the group (for the control plane and for operators) and written by the data plane's user
//! alone; the control file can be written by the group. Nobody else can open either.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};

use super::{RegionError, Role};
use crate::header::{FIXED, Flaw, Identity, control_words};
use crate::layout::Layout;

/// Permissions of the data file.
pub(super) const DATA_MODE: u32 = 0o640;

/// Permissions of the control file.
pub(super) const CONTROL_MODE: u32 = 0o660;

/// Permissions of a folder that is made for a region.
const FOLDER_MODE: u32 = 0o750;

/// Type of hugetlbfs as statfs(2) reports it (HUGETLBFS_MAGIC of linux/magic.h).
const HUGETLBFS: u64 = 0x9584_58f6;

/// Path of the control file beside a region.
pub(super) fn control_path(path: &Path) -> PathBuf {
    beside(path, ".control")
}

/// Opens an existing file of a region, without following a symbolic link.
pub(super) fn open(path: &Path, writable: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// What the header of this file says, judged by the file's true size.
pub(super) fn inspect(file: &File) -> io::Result<Result<(Identity, Layout), Flaw>> {
    let size = file.metadata()?.len();
    let mut bytes = [0; FIXED * size_of::<u64>()];
    // read(2) rather than a mapping: a file cut short is an error here and SIGBUS there.
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err(Flaw::TooSmall { size }));
        }
        other => other?,
    }
    let words = zerocopy::transmute!(bytes);
    Ok(Identity::from_words(&words, size))
}

/// Whether this is the control file of the region `region`, of `size` bytes at least.
pub(super) fn is_control_of(file: &File, region: u64, size: usize) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let mut bytes = [0; 3 * size_of::<u64>()];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    let words: [u64; 3] = zerocopy::transmute!(bytes);
    let is_whole = metadata.is_file() && metadata.len() >= size as u64;
    Ok(is_whole && words == control_words(region))
}

/// Lets the group (by default the process's own) at a file as far as `mode` says, and nobody else.
pub(super) fn admit(file: &File, mode: u32, group: Option<u32>) -> io::Result<()> {
    let metadata = file.metadata()?;
    if let Some(group) = group.filter(|group| *group != metadata.gid()) {
        std::os::unix::fs::fchown(file, None, Some(group))?;
    }
    if metadata.mode() & 0o7777 != mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Refuses what belongs to a user other than root and ourselves: its owner could change it any time.
pub(super) fn check_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), RegionError> {
    let owner = metadata.uid();
    if owner == 0 || owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let path = path.to_owned();
    Err(RegionError::Owner { path, owner })
}

/// Makes the folder of a region if need be, and lets the group into it if it is closed to others.
fn prepare_folder(folder: &Path, group: Option<u32>) -> io::Result<std::fs::Metadata> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)?;
    let opened = File::open(folder)?;
    let metadata = opened.metadata()?;
    let is_private =
        metadata.mode() & 0o007 == 0 && metadata.uid() == rustix::process::geteuid().as_raw();
    if is_private {
        admit(&opened, FOLDER_MODE, group)?;
    }
    Ok(metadata)
}

/// Takes the exclusive lock on `file`, or says who has it.
pub(super) fn lock(file: &File, path: &Path, role: Role) -> Result<(), RegionError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RegionError::InUse {
            path: path.to_owned(),
            role,
            pid: lock_holder(file),
        }),
        Err(errno) => Err(RegionError::io("lock", path)(errno.into())),
    }
}

/// The process that holds a flock on this file, as /proc/locks shows it:
/// `7: FLOCK  ADVISORY  WRITE 1234 00:19:42 0 EOF`.
fn lock_holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let name = format!("{major:02x}:{minor:02x}:{inode}");
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&name.as_str()))
        .and_then(|fields| fields.get(4)?.parse().ok())
}

/// Opens (and if need be makes) the data plane's lock file beside the region, and locks it.
pub(super) fn lock_dataplane(path: &Path, group: Option<u32>) -> Result<File, RegionError> {
    let lock_path = beside(path, ".lock");
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let metadata =
            prepare_folder(folder, group).map_err(RegionError::io("make the folder of", path))?;
        check_owner(folder, &metadata)?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&lock_path)
        .map_err(RegionError::io("open", &lock_path))?;
    lock(&file, path, Role::DataPlane)?;
    Ok(file)
}

/// A file of a region that nobody sees yet.
pub(super) struct Nascent {
    pub(super) file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Nascent {
    /// Makes a file of `len` zeros under a temporary name; the caller holds the data plane's lock.
    pub(super) fn create(
        path: &Path,
        len: usize,
        mode: u32,
        group: Option<u32>,
    ) -> Result<Self, RegionError> {
        let temporary = beside(path, ".new");
        let at = |what| RegionError::io(what, &temporary);
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove")(error));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(at("create"))?;
        let nascent = Self {
            file,
            temporary: temporary.clone(),
            path: path.to_owned(),
        };
        let size = file_size(&nascent.file, path, len)?;
        nascent.file.set_len(size as u64).map_err(at("size"))?;
        admit(&nascent.file, mode, group).map_err(at("give the group its rights in"))?;
        Ok(nascent)
    }

    /// Gives the file its name; one that had it is unlinked by the same step.
    pub(super) fn publish(self) -> Result<(), RegionError> {
        std::fs::rename(&self.temporary, &self.path)
            .map_err(RegionError::io("rename to its name", &self.temporary))
    }
}

impl Drop for Nascent {
    /// Removes a file that came to nothing; a published one has no temporary name any more. If it
    /// fails, the next start removes it.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Bytes to give the file, once it is clear that the filesystem has them.
///
/// The file stays sparse: tables are touched as they fill. A filesystem that ran out then would end
/// the process with SIGBUS, so one without the room now is refused. hugetlbfs reserves its pages
/// when they are mapped and fails there.
fn file_size(file: &File, path: &Path, wanted: usize) -> Result<usize, RegionError> {
    let filesystem = rustix::fs::fstatfs(file)
        .map_err(|errno| RegionError::io("query the filesystem of", path)(errno.into()))?;
    let block = usize::try_from(filesystem.f_bsize).unwrap_or(4096).max(1);
    if filesystem.f_type as u64 & 0xffff_ffff == HUGETLBFS {
        return Ok(wanted.next_multiple_of(block));
    }
    let available = (filesystem.f_bavail as u64).saturating_mul(block as u64);
    // A tmpfs without a limit reports no blocks at all.
    if filesystem.f_blocks > 0 && available < wanted as u64 {
        return Err(RegionError::NoSpace {
            path: path.to_owned(),
            wanted: wanted as u64,
            available,
        });
    }
    Ok(wanted)
}

/// Whether the file at the path still is this one.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: io::Result<std::fs::Metadata>| {
        metadata
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .ok()
    };
    let ours = inode(file.metadata());
    ours.is_some() && ours == inode(std::fs::symlink_metadata(path))
}

/// The path with something behind its last name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
