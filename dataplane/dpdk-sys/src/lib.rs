//! Raw bindings to the libdpdk that pkg-config finds: DPDK 22.11 or newer. No safe functions, no
//! policy; the crate `dpdk` stands on it.
//!
//! Bindings are generated from the installed headers by an allow-list (`build.rs`). Inline
//! functions, macros and thread-local variables come through `shim.c` as `shim_*`, each a
//! one-line wrapper; each burst costs one call into it, never each frame. The layout of
//! [`rte_mbuf`] is written down here and asserted in C against the headers.

use std::ffi::c_void;

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub
)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
mod bindings {
    use super::rte_mbuf;

    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// A packet buffer's header: the first cache line, field by field, and the second one as a whole.
///
/// Newer DPDK wraps most of these fields in anonymous unions, older does not; the offsets have
/// been the same since 17.11 and `shim.c` asserts them.
#[repr(C, align(64))]
#[derive(Debug)]
#[allow(non_camel_case_types)]
pub struct rte_mbuf {
    /// Start of the storage; the headroom comes first.
    pub buf_addr: *mut c_void,
    /// IO address of the storage, or the next segment in a DPDK built without physical addresses.
    pub buf_iova_or_next: u64,
    /// Where the frame starts: bytes from `buf_addr`.
    pub data_off: u16,
    /// Reference count; C may access it atomically.
    pub refcnt: u16,
    /// Segments of the frame, at least 1; valid in the first one.
    pub nb_segs: u16,
    /// The port it was received from.
    pub port: u16,
    /// `RTE_MBUF_F_*`.
    pub ol_flags: u64,
    /// `RTE_PTYPE_*`.
    pub packet_type: u32,
    /// Bytes of all segments together.
    pub pkt_len: u32,
    /// Bytes of this segment.
    pub data_len: u16,
    /// VLAN TCI in CPU order, if `ol_flags` says so.
    pub vlan_tci: u16,
    /// RSS hash first, if `ol_flags` says so.
    pub hash: [u32; 2],
    /// Outer VLAN TCI in CPU order, if `ol_flags` says so.
    pub vlan_tci_outer: u16,
    /// Bytes of storage from `buf_addr` on.
    pub buf_len: u16,
    /// The pool it goes back to.
    pub pool: *mut rte_mempool,
    /// The second cache line: nothing in it is used from Rust.
    pub second_line: [u64; 8],
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::mem::{offset_of, size_of};

    use super::*;

    /// The same numbers as in `shim.c`: C checks the headers against them, this the mirror.
    #[test]
    fn the_mirror_of_the_mbuf_has_the_layout_that_the_shim_asserts() {
        assert_eq!(offset_of!(rte_mbuf, buf_addr), 0);
        assert_eq!(offset_of!(rte_mbuf, buf_iova_or_next), 8);
        assert_eq!(offset_of!(rte_mbuf, data_off), 16);
        assert_eq!(offset_of!(rte_mbuf, refcnt), 18);
        assert_eq!(offset_of!(rte_mbuf, nb_segs), 20);
        assert_eq!(offset_of!(rte_mbuf, port), 22);
        assert_eq!(offset_of!(rte_mbuf, ol_flags), 24);
        assert_eq!(offset_of!(rte_mbuf, packet_type), 32);
        assert_eq!(offset_of!(rte_mbuf, pkt_len), 36);
        assert_eq!(offset_of!(rte_mbuf, data_len), 40);
        assert_eq!(offset_of!(rte_mbuf, vlan_tci), 42);
        assert_eq!(offset_of!(rte_mbuf, hash), 44);
        assert_eq!(offset_of!(rte_mbuf, vlan_tci_outer), 52);
        assert_eq!(offset_of!(rte_mbuf, buf_len), 54);
        assert_eq!(offset_of!(rte_mbuf, pool), 56);
        assert_eq!(offset_of!(rte_mbuf, second_line), 64);
        assert_eq!(size_of::<rte_mbuf>(), 128);
    }

    #[test]
    fn types_shared_with_the_safe_crate_have_the_sizes_it_relies_on() {
        assert_eq!(size_of::<rte_ether_addr>(), 6);
        assert_eq!(RTE_PKTMBUF_HEADROOM, 128);
    }

    #[test]
    fn the_library_linked_is_the_one_whose_headers_were_read() {
        // SAFETY: returns a static string and needs no initialised EAL.
        let version = unsafe { CStr::from_ptr(shim_version()) };
        let expected = concat!("DPDK ", env!("DPDK_VERSION"));
        assert_eq!(version.to_string_lossy(), expected);
    }
}
