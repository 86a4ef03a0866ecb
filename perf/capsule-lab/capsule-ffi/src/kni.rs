//! The kernel NIC interface: there is none. capsule needs it to compile; a port that asks for it is refused.

use std::ffi::{c_char, c_int, c_uint};

use dpdk_sys::rte_mbuf;

use crate::rte_mempool;

/// Never made.
#[derive(Debug)]
pub enum rte_kni {}

/// As in DPDK 19.11, as far as capsule sets it.
#[derive(Debug, Default)]
pub struct rte_kni_conf {
    pub name: [c_char; 32],
    pub group_id: u16,
    pub mbuf_size: c_uint,
    pub mac_addr: [u8; 6],
}

/// As in DPDK 19.11.
#[derive(Debug, Default)]
pub struct rte_kni_ops {
    pub port_id: u16,
    pub change_mtu: Option<unsafe extern "C" fn(u16, c_uint) -> c_int>,
    pub config_network_if: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
    pub config_mac_address: Option<unsafe extern "C" fn(u16, *mut u8) -> c_int>,
    pub config_promiscusity: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
}

/// Refuses: -ENOTSUP.
pub unsafe fn rte_kni_init(_most: c_uint) -> c_int {
    -libc::ENOTSUP
}

/// Refuses.
pub unsafe fn rte_kni_alloc(
    _pool: *mut rte_mempool,
    _conf: *const rte_kni_conf,
    _ops: *mut rte_kni_ops,
) -> *mut rte_kni {
    std::ptr::null_mut()
}

pub unsafe fn rte_kni_close() {}

pub unsafe fn rte_kni_release(kni: *mut rte_kni) -> c_int {
    none(kni)
}

pub unsafe fn rte_kni_handle_request(kni: *mut rte_kni) -> c_int {
    none(kni)
}

pub unsafe fn rte_kni_get_name(kni: *const rte_kni) -> *const c_char {
    none(kni.cast_mut());
    c"".as_ptr()
}

pub unsafe fn rte_kni_rx_burst(
    kni: *mut rte_kni,
    _mbufs: *mut *mut rte_mbuf,
    _count: c_uint,
) -> c_uint {
    none(kni);
    0
}

pub unsafe fn rte_kni_tx_burst(
    kni: *mut rte_kni,
    _mbufs: *mut *mut rte_mbuf,
    _count: c_uint,
) -> c_uint {
    none(kni);
    0
}

/// There is no such interface, so nobody can have one.
fn none(_kni: *mut rte_kni) -> c_int {
    -libc::ENOTSUP
}
