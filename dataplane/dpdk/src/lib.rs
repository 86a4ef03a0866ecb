//! DPDK behind safe functions: [`Eal`] > [`Mempool`] > [`Port`] > [`Queue`] > [`Mbuf`], and lcores.
//!
//! Who outlives whom is settled by types, not by care:
//!
//! * an [`Eal`] proves that `rte_eal_init` succeeded; everything else is made from one;
//! * a [`Mempool`] is never given back, so a frame may outlive every other handle;
//! * a [`Port`] is stopped and closed when it *and* all its [`Queue`]s are gone;
//! * a [`Queue`] is one rx/tx pair, made once, [`Send`] but not [`Sync`]: one thread polls it;
//! * a port is stopped in between only by whoever has all its queues ([`Resting`]);
//! * an [`Mbuf`] frees itself, on any thread.
//!
//! [`Mbuf`], [`LocalPool`] and [`Queue`] implement the seam of the crate `packet` ([`packet::Buffer`],
//! [`packet::Pool`], [`packet::Link`]), so that the engine never sees DPDK. One burst costs one
//! call into C on either side.
//!
//! All packet I/O goes this way: kernel interfaces are DPDK's devices `net_af_packet` and
//! `net_af_xdp`. A [`Tap`] is no part of it: by it the host's own programs share a link.

mod args;
mod config;
mod devargs;
mod device;
mod eal;
mod error;
mod handle;
mod hash;
mod info;
mod interface;
mod lcore;
mod mbuf;
mod memif;
mod mempool;
mod negotiate;
mod open;
mod port;
mod queue;
mod restart;
mod tap;
mod threads;
mod unplug;

pub use args::{EalConfig, LcorePlan, LogLevel};
pub use config::PortConfig;
pub use device::PortDevice;
pub use eal::Eal;
pub use error::{Errno, Error};
pub use hash::HashTable;
pub use info::{LinkStatus, PortInfo, PortStats};
pub use interface::{Interface, InterfaceCounters};
pub use lcore::Worker;
pub use mbuf::Mbuf;
pub use memif::MemifServer;
pub use mempool::{LocalPool, Mempool};
pub use port::Port;
pub use queue::Queue;
pub use restart::{Restart, Resting};
pub use tap::Tap;
pub use threads::give_up_privileges;
