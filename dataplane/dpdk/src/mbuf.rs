//! One packet buffer.

use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;
use packet::{Buffer, Burst};

/// A frame in DPDK's memory. Dropping it gives it back to its pool.
///
/// It is exactly a non-null pointer to the buffer's header, so a burst of them is the array that
/// drivers fill and take.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<rte_mbuf>,
}

// SAFETY: an Mbuf is the only owner of its buffer (reference count 1), and buffers may be freed on
// any thread, because pools take them from any (see `Mempool`).
unsafe impl Send for Mbuf {}
// SAFETY: a shared Mbuf only lets bytes and lengths be read, which nobody else writes.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes over a buffer.
    ///
    /// # Safety
    ///
    /// `raw` is a buffer of a pool that is never freed, filled in as DPDK's drivers and
    /// `rte_pktmbuf_alloc` do it (`data_off + data_len <= buf_len`, `nb_segs >= 1`, storage
    /// readable and writable throughout), and nobody else has it or shares its storage.
    pub(crate) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self { raw }
    }

    /// Frees all frames of a burst at once, cheaper than one by one.
    pub fn free_bulk(frames: &mut Burst<Self>) {
        // A burst is 32 frames, so that the count always fits.
        let count = frames.len() as u32;
        // SAFETY: zero elements are certainly initialised; the frames now belong to this function.
        unsafe { frames.set_len(0) };
        // SAFETY: the storage still holds the `count` pointers to buffers that we alone own.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(frames.as_mut_ptr().cast(), count) };
    }

    /// Free bytes in front of the frame.
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.header().data_off)
    }

    /// Free bytes behind the frame's first segment.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        let header = self.header();
        usize::from(header.buf_len) - usize::from(header.data_off) - usize::from(header.data_len)
    }

    fn header(&self) -> &rte_mbuf {
        // SAFETY: `from_raw`: a live buffer of ours alone, whose first cache line rte_mbuf mirrors.
        unsafe { self.raw.as_ref() }
    }

    fn header_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as in `header`, and `self` is borrowed mutably.
        unsafe { self.raw.as_mut() }
    }

    /// Moves the first segment's edges. The caller has checked that the new ones lie inside the
    /// storage, whose length has 16 bits, so that neither number is cut.
    fn set_extent(&mut self, data_off: usize, data_len: usize) {
        let header = self.header_mut();
        debug_assert!(data_off + data_len <= usize::from(header.buf_len));
        let others = header.pkt_len - u32::from(header.data_len);
        header.data_off = data_off as u16;
        header.data_len = data_len as u16;
        header.pkt_len = others + data_len as u32;
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: we are the buffer's only owner and it is not used after this.
        unsafe { dpdk_sys::shim_pktmbuf_free(self.raw.as_ptr()) };
    }
}

impl Buffer for Mbuf {
    fn bytes(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: `data_off + data_len <= buf_len` (from_raw, kept by set_extent); the storage is
        // mapped memory, initialised by the kernel at the latest, and ours alone.
        unsafe {
            let start = header
                .buf_addr
                .cast::<u8>()
                .add(usize::from(header.data_off));
            std::slice::from_raw_parts(start, usize::from(header.data_len))
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let header = self.header();
        // SAFETY: as in `bytes`, and `self` is borrowed mutably.
        unsafe {
            let start = header
                .buf_addr
                .cast::<u8>()
                .add(usize::from(header.data_off));
            std::slice::from_raw_parts_mut(start, usize::from(header.data_len))
        }
    }

    fn is_contiguous(&self) -> bool {
        self.header().nb_segs == 1
    }

    fn grow_front(&mut self, count: usize) -> bool {
        let (offset, len) = (self.headroom(), self.bytes().len());
        let fits = count <= offset;
        if fits {
            self.set_extent(offset - count, len + count);
        }
        fits
    }

    fn trim_front(&mut self, count: usize) -> bool {
        let (offset, len) = (self.headroom(), self.bytes().len());
        let fits = count <= len;
        if fits {
            self.set_extent(offset + count, len - count);
        }
        fits
    }

    /// Also false for a frame in several segments: its end is not in this one.
    fn set_len(&mut self, len: usize) -> bool {
        let fits = self.is_contiguous() && len <= self.bytes().len() + self.tailroom();
        if fits {
            self.set_extent(self.headroom(), len);
        }
        fits
    }
}
