//! What capsule 0.1.5 calls of DPDK, under the names of DPDK 19.11 that it knows, on top of `dpdk-sys`
//! (DPDK 22.11 and newer).
//!
//! * Renamed constants, and the few functions that `dpdk-sys` does not bind, are declared here.
//! * Inline functions come through `dpdk-sys`' shim.
//! * [`rte_eal_init`] translates options that were renamed in DPDK 20.11, and keeps its arguments: EAL
//!   holds pointers into them, and capsule frees its own.
//! * KNI is gone (Debian does not build it, DPDK 23.11 removed it): every call of it fails ([`kni`]).
//! * capsule's feature `pcap-dump` is not served.
//!
//! Each function has the contract of the one of DPDK that it stands for.

#![allow(clippy::missing_safety_doc, non_camel_case_types)]

pub mod kni;

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;

pub use dpdk_sys::*;
pub use kni::*;
pub use libc::cpu_set_t as rte_cpuset_t;

/// Bytes of a buffer of `rte_pktmbuf_pool_create`: 2,048 and the headroom.
pub const RTE_MBUF_DEFAULT_BUF_SIZE: u32 = 2048 + RTE_PKTMBUF_HEADROOM;

/// `RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE`; made of `RTE_BIT64`, which bindgen does not evaluate, as are the others.
pub const DEV_TX_OFFLOAD_MBUF_FAST_FREE: u64 = 1 << 16;

/// `RTE_ETH_RSS_IP`: IPv4 and IPv6, fragments, other protocols, IPv6 with extensions.
pub const ETH_RSS_IP: u64 = 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 15;
/// `RTE_ETH_RSS_TCP`.
pub const ETH_RSS_TCP: u64 = 1 << 4 | 1 << 10 | 1 << 16;
/// `RTE_ETH_RSS_UDP`.
pub const ETH_RSS_UDP: u64 = 1 << 5 | 1 << 11 | 1 << 17;
/// `RTE_ETH_RSS_SCTP`.
pub const ETH_RSS_SCTP: u64 = 1 << 6 | 1 << 12;

/// capsule takes enums for modules.
pub mod rte_eth_rx_mq_mode {
    /// `RTE_ETH_MQ_RX_RSS`.
    pub const ETH_MQ_RX_RSS: dpdk_sys::rte_eth_rx_mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
}

/// The start of a mempool: what capsule shows of it. `dpdk-sys` keeps it opaque.
#[repr(C)]
#[derive(Debug)]
pub struct rte_mempool {
    /// Zero-terminated.
    pub name: [c_char; 26],
    private: [*mut c_void; 3],
    /// `RTE_MEMPOOL_F_*`.
    pub flags: c_uint,
    /// NUMA node asked for.
    pub socket_id: c_int,
    /// Objects at most.
    pub size: u32,
    /// Objects in the cache of each lcore.
    pub cache_size: u32,
}

unsafe extern "C" {
    pub fn rte_eal_cleanup() -> c_int;
    pub fn rte_eth_allmulticast_enable(port: u16) -> c_int;
    pub fn rte_eth_allmulticast_disable(port: u16) -> c_int;
    pub fn rte_mempool_free(pool: *mut rte_mempool);
    pub fn rte_mempool_in_use_count(pool: *const rte_mempool) -> c_uint;
    pub fn rte_pktmbuf_pool_create(
        name: *const c_char,
        count: c_uint,
        cache_size: c_uint,
        private_size: u16,
        buffer_size: u16,
        socket: c_int,
    ) -> *mut rte_mempool;
    pub fn rte_socket_count() -> c_uint;
    pub fn rte_socket_id() -> c_uint;
    pub fn rte_socket_id_by_idx(index: c_uint) -> c_int;
    pub fn rte_thread_set_affinity(cpus: *mut rte_cpuset_t) -> c_int;
}

/// Starts EAL with capsule's arguments in today's words. Memory is shared with no other process, no telemetry
/// socket is made, and no PCI device is touched unless one is named.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let given = (0..usize::try_from(argc).unwrap_or(0)).map(|at| {
        // SAFETY: `argv` has `argc` zero-terminated strings.
        unsafe { CStr::from_ptr(*argv.add(at)) }.to_owned()
    });
    let translated = given.map(|argument| match argument.to_bytes() {
        b"--master-lcore" => c"--main-lcore".to_owned(),
        b"--pci-whitelist" => c"--allow".to_owned(),
        _ => argument,
    });
    let mut all: Vec<_> = translated.collect();
    all.extend([c"--no-shconf", c"--no-telemetry"].map(CStr::to_owned));
    if all.iter().all(|argument| argument.as_c_str() != c"--allow") {
        all.push(c"--no-pci".to_owned());
    }
    let mut pointers: Vec<_> = all.into_iter().map(CString::into_raw).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
    pointers.push(std::ptr::null_mut());
    // SAFETY: `count` strings and a null pointer, all leaked, because EAL keeps pointers into them.
    let result = unsafe { dpdk_sys::rte_eal_init(count, pointers.leak().as_mut_ptr()) };
    if result >= 0 {
        // SAFETY: EAL runs; returns a string that lives as long as the process.
        let directory = unsafe { CStr::from_ptr(rte_eal_get_runtime_dir()) };
        // EAL makes it even when nothing is shared. If it is not empty it is somebody's.
        let _ = fs::remove_dir(std::ffi::OsStr::from_bytes(directory.to_bytes()));
    }
    result
}

/// NUMA node of a CPU, asked of sysfs instead of libnuma; 0 where the kernel knows none.
pub unsafe fn numa_node_of_cpu(cpu: c_int) -> c_int {
    let node = |entry: fs::DirEntry| -> Option<c_int> {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("node")?.parse().ok()
    };
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}"));
    let mut nodes = entries.into_iter().flatten().flatten().filter_map(node);
    nodes.next().unwrap_or(0)
}

pub unsafe fn rte_eth_rx_queue_setup(
    port: u16,
    queue: u16,
    descriptors: u16,
    socket: c_uint,
    configuration: *const rte_eth_rxconf,
    pool: *mut rte_mempool,
) -> c_int {
    // SAFETY: the caller's contract is DPDK's; a mempool is one, whatever it is declared as.
    unsafe {
        dpdk_sys::rte_eth_rx_queue_setup(
            port,
            queue,
            descriptors,
            socket,
            configuration,
            pool.cast(),
        )
    }
}

pub unsafe fn _rte_errno() -> c_int {
    // SAFETY: reads a thread-local integer.
    unsafe { shim_errno() }
}

#[inline]
pub unsafe fn _rte_pktmbuf_alloc(pool: *mut rte_mempool) -> *mut rte_mbuf {
    // SAFETY: as in `rte_eth_rx_queue_setup`.
    unsafe { shim_pktmbuf_alloc(pool.cast()) }
}

#[inline]
pub unsafe fn _rte_pktmbuf_alloc_bulk(
    pool: *mut rte_mempool,
    mbufs: *mut *mut rte_mbuf,
    count: c_uint,
) -> c_int {
    // SAFETY: as in `rte_eth_rx_queue_setup`; `mbufs` has room for `count`.
    unsafe { shim_pktmbuf_alloc_bulk(pool.cast(), mbufs, count) }
}

#[inline]
pub unsafe fn _rte_pktmbuf_free(mbuf: *mut rte_mbuf) {
    // SAFETY: the caller's mbuf.
    unsafe { shim_pktmbuf_free(mbuf) }
}

/// capsule gives whole mbufs back by it; freeing them as mbufs does the same and looks at their segments.
#[inline]
pub unsafe fn _rte_mempool_put_bulk(
    _pool: *mut dpdk_sys::rte_mempool,
    mbufs: *const *mut c_void,
    count: c_uint,
) {
    // SAFETY: `count` mbufs of the caller's; the function reads the array alone.
    unsafe { rte_pktmbuf_free_bulk(mbufs.cast_mut().cast(), count) }
}

#[inline]
pub unsafe fn _rte_eth_rx_burst(
    port: u16,
    queue: u16,
    mbufs: *mut *mut rte_mbuf,
    count: u16,
) -> u16 {
    // SAFETY: the caller's contract is DPDK's.
    unsafe { shim_rx_burst(port, queue, mbufs, count) }
}

#[inline]
pub unsafe fn _rte_eth_tx_burst(
    port: u16,
    queue: u16,
    mbufs: *mut *mut rte_mbuf,
    count: u16,
) -> u16 {
    // SAFETY: the caller's contract is DPDK's.
    unsafe { shim_tx_burst(port, queue, mbufs, count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_to_spread_are_those_of_the_headers() {
        let all = ETH_RSS_IP | ETH_RSS_TCP | ETH_RSS_UDP | ETH_RSS_SCTP;
        // SAFETY: a constant of the shim.
        assert_eq!(all, unsafe { shim_rss_flows });
    }

    #[test]
    fn a_mempool_shows_what_it_was_made_with() {
        let arguments = [
            c"test",
            c"--no-huge",
            c"-m",
            c"64",
            c"--master-lcore",
            c"0",
            c"-l",
            c"0",
        ];
        let mut argv = arguments.map(|argument| argument.as_ptr().cast_mut());
        // SAFETY: as many strings as stated.
        let started = unsafe { rte_eal_init(argv.len() as c_int, argv.as_mut_ptr()) };
        assert!(started >= 0, "the options of 19.11 are understood");
        // SAFETY: EAL runs; the arguments are in range.
        let pool = unsafe { rte_pktmbuf_pool_create(c"seen".as_ptr(), 511, 32, 0, 2176, 0) };
        // SAFETY: a pool or null.
        let pool = unsafe { pool.as_mut() }.expect("a pool");
        // SAFETY: DPDK terminates the name.
        let name = unsafe { CStr::from_ptr(pool.name.as_ptr()) };
        assert_eq!(name, c"seen");
        assert_eq!((pool.size, pool.cache_size, pool.socket_id), (511, 32, 0));
        // SAFETY: the pool's own.
        unsafe {
            let mbuf = _rte_pktmbuf_alloc(pool);
            assert_eq!(rte_mempool_in_use_count(pool), 1);
            _rte_mempool_put_bulk((*mbuf).pool, (&raw const mbuf).cast(), 1);
            assert_eq!(rte_mempool_in_use_count(pool), 0);
            rte_mempool_free(pool);
        }
    }
}
