//! Typed arrays of atomics in shared memory.
//!
//! A [`Slab`] is a slice of cache lines (or halves of them) that keeps its memory alive: a part of the mapped region in
//! production, heap memory in tests. Lines hold nothing but atomics, so any bytes that another
//! process leaves there are valid values, and a torn multi-word read is merely stale data for the
//! reader's own sequence check to refuse.

use std::ops::Deref;
use std::ptr::NonNull;

use crate::sync::{AtomicU32, AtomicU64};

/// A cache line of eight 64-bit words.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Line(pub [AtomicU64; 8]);

/// A cache line of sixteen 32-bit words.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct TagLine(pub [AtomicU32; 16]);

impl Default for Line {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Default for TagLine {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

/// Half a cache line: four 64-bit words.
#[derive(Debug)]
#[repr(C, align(32))]
pub struct HalfLine(pub [AtomicU64; 4]);

impl Default for HalfLine {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::HalfLine {}
    impl Sealed for super::Line {}
    impl Sealed for super::TagLine {}
}

/// Types for which every bit pattern is valid and every access atomic: they may lie in memory that
/// other processes write.
pub trait Shared: sealed::Sealed + Default + Send + Sync + 'static {}
impl Shared for HalfLine {}
impl Shared for Line {}
impl Shared for TagLine {}

/// A slice of lines that owns a share of its memory.
pub struct Slab<T: Shared> {
    start: NonNull<T>,
    len: usize,
    /// Whatever must outlive `start`: the mapping of the region or the boxed lines.
    _memory: std::sync::Arc<dyn Send + Sync>,
}

// SAFETY: a slab hands out `&[T]` alone, and `T: Shared` is Send and Sync (all atomics).
unsafe impl<T: Shared> Send for Slab<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Slab<T> {}

impl<T: Shared> Slab<T> {
    /// Zeroed lines on the heap, for tests and for programs without a region.
    #[must_use]
    pub fn heap(len: usize) -> Self {
        let lines: Box<[T]> = (0..len).map(|_| T::default()).collect();
        let memory = std::sync::Arc::new(lines);
        let start = NonNull::from(&memory[..]).cast::<T>();
        Self {
            start,
            len,
            _memory: memory,
        }
    }

    /// Lines at `start` inside `memory`.
    ///
    /// # Safety
    ///
    /// `start` is aligned for `T`, `len` lines from it lie inside a readable and (unless the slab
    /// is only ever loaded from) writable mapping, and the mapping lives as long as `memory`.
    pub(crate) unsafe fn from_raw(
        start: NonNull<T>,
        len: usize,
        memory: std::sync::Arc<dyn Send + Sync>,
    ) -> Self {
        Self {
            start,
            len,
            _memory: memory,
        }
    }
}

impl Slab<Line> {
    /// The same memory as half lines, twice as many.
    #[must_use]
    pub fn halves(self) -> Slab<HalfLine> {
        Slab {
            // A line of eight words is two of four, one after the other, and better aligned than they
            // have to be.
            start: self.start.cast(),
            len: self.len * 2,
            _memory: self._memory,
        }
    }
}

impl<T: Shared> Clone for Slab<T> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            len: self.len,
            _memory: self._memory.clone(),
        }
    }
}

impl<T: Shared> Deref for Slab<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `from_raw`'s contract, or `heap`, which made exactly `len` lines that `_memory` owns; or
        // `halves` of such lines.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Shared> std::fmt::Debug for Slab<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Slab")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
