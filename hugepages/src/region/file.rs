//! The region's file: finding, judging, locking and making it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};

use super::{RegionError, Role};
use crate::header::{FIXED, Flaw, Identity};
use crate::layout::Layout;

/// Type of hugetlbfs as statfs(2) reports it (HUGETLBFS_MAGIC of linux/magic.h).
const HUGETLBFS: u64 = 0x9584_58f6;

/// Opens an existing region, without following a symbolic link.
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
pub(super) fn lock_dataplane(path: &Path) -> Result<File, RegionError> {
    let lock_path = beside(path, ".lock");
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(folder)
            .map_err(RegionError::io("create the folder of", path))?;
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

/// A region's file that nobody sees yet.
pub(super) struct Nascent {
    pub(super) file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Nascent {
    /// Makes a file of zeros under a temporary name; the caller holds the data plane's lock.
    pub(super) fn create(path: &Path, layout: &Layout) -> Result<Self, RegionError> {
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
            .mode(0o660)
            .open(&temporary)
            .map_err(at("create"))?;
        let nascent = Self {
            file,
            temporary: temporary.clone(),
            path: path.to_owned(),
        };
        let size = file_size(&nascent.file, path, layout.total())?;
        // The umask may have taken the group's rights, which the control plane may need.
        let permissions = Permissions::from_mode(0o660);
        nascent
            .file
            .set_permissions(permissions)
            .and_then(|()| nascent.file.set_len(size as u64))
            .map_err(at("size"))?;
        Ok(nascent)
    }

    /// Gives the file its name; a region that had it is unlinked by the same step.
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
