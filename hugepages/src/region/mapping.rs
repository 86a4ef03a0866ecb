//! The mapping of a file of the region: the one place that turns memory into slabs.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::guard::Guard;
use crate::slab::{Shared, Slab};

/// The mapped file. It keeps the files whose locks say that this process uses the region, so the
/// locks live as long as the last slab.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// The mapped file.
    pub(super) file: File,
    /// For a file that others may cut short.
    guard: Option<Guard>,
    /// The lock file of the data plane.
    _lock: Option<File>,
}

// SAFETY: a `Mapping` gives out no reference to its memory; slabs do, as shared atomics alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of the file; the caller has seen that it is that large.
    pub(super) fn new(
        file: File,
        lock: Option<File>,
        len: usize,
        writable: bool,
    ) -> io::Result<Self> {
        let protection = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        // SAFETY: a new mapping at an address of the kernel's choice overlaps no other. The file is
        // shared with other processes, but all access goes through atomics (`Shared`).
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            start,
            len,
            file,
            guard: None,
            _lock: lock,
        })
    }

    /// [`Mapping::new`] for a file that others may cut short: see [`super::guard`].
    pub(super) fn guarded(file: File, len: usize, writable: bool) -> io::Result<Self> {
        let mut mapping = Self::new(file, None, len, writable)?;
        mapping.guard = Some(Guard::new(mapping.start.as_ptr() as usize, len)?);
        Ok(mapping)
    }

    /// Whether the file of a guarded mapping was cut short: what is mapped is zeros.
    pub(super) fn is_lost(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_lost)
    }

    /// Asks for transparent huge pages, which tmpfs gives where it is told to obey; elsewhere it is
    /// without effect, so the answer does not matter.
    pub(super) fn prefer_huge_pages(&self) {
        // SAFETY: the range is this mapping; the advice changes the size of pages, not their bytes.
        let _ = unsafe {
            rustix::mm::madvise(self.start.as_ptr().cast(), self.len, Advice::LinuxHugepage)
        };
    }

    /// `lines` lines from byte `offset`.
    ///
    /// # Panics
    ///
    /// If they do not lie inside the mapping: the layout was not made for this size.
    pub(super) fn slab<T: Shared>(self: &Arc<Self>, offset: usize, lines: usize) -> Slab<T> {
        let end = lines
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(offset));
        assert!(
            offset.is_multiple_of(align_of::<T>()) && end.is_some_and(|end| end <= self.len),
            "a section reaches beyond the mapping"
        );
        // SAFETY: `offset` is inside the mapping (just checked).
        let start = unsafe { self.start.add(offset) }.cast();
        // SAFETY: the mapping is page-aligned and `offset` a multiple of the alignment, so `start` is
        // aligned; all lines lie inside the mapping (just checked), which is readable and lives as
        // long as the `Arc`. Writers ask for a writable mapping; through one that is not, slabs are
        // documented to be loaded from only, and the kernel stops whoever does otherwise.
        unsafe { Slab::from_raw(start, lines, Arc::clone(self) as Arc<dyn Send + Sync>) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.guard = None;
        // SAFETY: exactly what `new` mapped; every slab in it holds an `Arc` of this mapping, so
        // none is left.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping");
    }
}
