//! Where packet buffers come from.

use std::cell::Cell;
use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use packet::{Burst, Pool};

use crate::eal::Eal;
use crate::error::{Errno, Error};
use crate::mbuf::Mbuf;

/// SOCKET_ID_ANY: memory of whichever NUMA node has some.
const ANY_NODE: i32 = -1;

/// A pool of packet buffers of one size (`rte_pktmbuf_pool_create_by_ops`).
///
/// Handles are cheap to clone. The pool itself lives as long as the process: frames may sit in a
/// device's rings or on any thread when the last handle goes, and counting them would cost an
/// atomic operation a frame.
#[derive(Debug, Clone)]
pub struct Mempool {
    pool: NonNull<dpdk_sys::rte_mempool>,
    name: Arc<str>,
    count: u32,
    data_room: u16,
}

// SAFETY: the pool is never freed, and every DPDK function called through it here (allocate, free,
// count) may be called by any number of threads at once: the pool's ring is a multi-producer,
// multi-consumer one, and its caches belong to one lcore each.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// A pool of `count` buffers with `data_room` bytes each, headroom of 128 included; each lcore
    /// keeps up to 1.5 × `cache` of them to itself (0–512, and 1.5 × `cache` ≤ `count`). A count of
    /// 2ⁿ−1 wastes least memory. `name` is unique in the process, at most 25 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`]: the name is taken or too long, the cache too large, or memory is short.
    pub fn new(
        eal: &Eal,
        name: &str,
        count: u32,
        data_room: u16,
        cache: u32,
    ) -> Result<Self, Error> {
        Self::on(eal, name, count, data_room, cache, ANY_NODE)
    }

    /// The same in memory of one NUMA node.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); also if other nodes have enough memory and this one has not.
    pub fn on_node(
        eal: &Eal,
        name: &str,
        count: u32,
        data_room: u16,
        cache: u32,
        node: u32,
    ) -> Result<Self, Error> {
        Self::on(eal, name, count, data_room, cache, node.cast_signed())
    }

    fn on(
        eal: &Eal,
        name: &str,
        count: u32,
        data_room: u16,
        cache: u32,
        node: i32,
    ) -> Result<Self, Error> {
        let error = |errno| Error::Pool {
            name: name.to_owned(),
            count,
            data_room,
            cache,
            errno,
        };
        let c_name = CString::new(name).map_err(|_| error(Errno(libc::EINVAL)))?;
        // An ordinary ring makes everyone spin while a thread is preempted in the middle of an
        // operation, so lcores that may share a CPU get the ring that bears it.
        let ring = if eal.has_floating_lcores() {
            c"ring_mt_rts"
        } else {
            c"ring_mp_mc"
        };
        // SAFETY: EAL runs (`eal`), both strings are null-terminated and copied by the callee.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create_by_ops(
                c_name.as_ptr(),
                count,
                cache,
                0,
                data_room,
                node,
                ring.as_ptr(),
            )
        };
        let pool = NonNull::new(pool).ok_or_else(|| error(Errno::last()))?;
        Ok(Self {
            pool,
            name: name.into(),
            count,
            data_room,
        })
    }

    /// A handle to allocate from, for one worker.
    #[must_use]
    pub fn local(&self) -> LocalPool {
        LocalPool {
            pool: self.clone(),
            not_sync: PhantomData,
        }
    }

    /// Buffers of the pool that are free, in its ring and in all caches. Walks the caches: for
    /// statistics, not for the packet path.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is never freed; the callee only reads counters.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) }
    }

    /// Buffers of the pool, free and used.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of each buffer, headroom included.
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.pool.as_ptr()
    }
}

/// A worker's handle to a [`Mempool`].
///
/// On an lcore it allocates from that lcore's cache; on other threads it works too, slower.
#[derive(Debug)]
pub struct LocalPool {
    pool: Mempool,
    not_sync: PhantomData<Cell<()>>,
}

impl LocalPool {
    /// Fills the rest of `frames` with empty buffers, all or none; returns how many.
    pub fn alloc_burst(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        let held = frames.len();
        let count = frames.remaining_capacity();
        // A burst is 32 frames, so that the count always fits.
        let wanted = count as u32;
        // SAFETY: behind the `held` elements there is room for `count` more, and `Mbuf` has the
        // representation of the pointers that the callee stores. It stores all or none.
        let result = unsafe {
            let spare = frames.as_mut_ptr().add(held).cast();
            dpdk_sys::shim_pktmbuf_alloc_bulk(self.pool.as_ptr(), spare, wanted)
        };
        if result != 0 {
            return 0;
        }
        // SAFETY: the callee has stored `count` pointers to buffers that are now ours alone.
        unsafe { frames.set_len(held + count) };
        count
    }
}

impl Pool for LocalPool {
    type Buffer = Mbuf;

    fn alloc(&mut self) -> Option<Mbuf> {
        // SAFETY: the pool is never freed.
        let mbuf = unsafe { dpdk_sys::shim_pktmbuf_alloc(self.pool.as_ptr()) };
        // SAFETY: a buffer fresh from the pool has one segment and one owner, who is us.
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }
}
