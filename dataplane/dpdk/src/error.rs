//! What can go wrong, in sentences that name the device.

use std::ffi::CStr;
use std::fmt;

use crate::device::PortDevice;

/// Why DPDK refused. Every message names what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `Eal::init` was called a second time.
    #[error("DPDK's EAL is already initialised: a process can do that once")]
    AlreadyInitialised,
    /// An [`EalConfig`](crate::EalConfig) that cannot be meant.
    #[error("DPDK's EAL cannot be configured: {0}")]
    Config(String),
    /// `rte_eal_init` failed; the process cannot try again.
    #[error("DPDK's EAL did not start with `{arguments}`: {errno}; its log on stderr says more")]
    Init {
        /// The arguments given, separated by blanks.
        arguments: String,
        /// `rte_errno`.
        errno: Errno,
    },
    /// `rte_pktmbuf_pool_create_by_ops` failed.
    #[error(
        "no pool {name} of {count} packet buffers of {data_room} bytes (cache {cache}): {errno}"
    )]
    Pool {
        /// Name of the pool.
        name: String,
        /// Buffers asked for.
        count: u32,
        /// Bytes of each, headroom included.
        data_room: u16,
        /// Buffers cached for each lcore.
        cache: u32,
        /// `rte_errno`.
        errno: Errno,
    },
    /// `rte_hash_create` failed.
    #[error("no hash table {name} of {entries} entries: {errno}")]
    Hash {
        /// Name of the table.
        name: String,
        /// Entries asked for.
        entries: u32,
        /// `rte_errno`.
        errno: Errno,
    },
    /// The device stands for a kernel interface that is not there.
    #[error("{device}: interface {interface} does not exist")]
    NoInterface {
        /// The device.
        device: PortDevice,
        /// The interface's name.
        interface: String,
    },
    /// The device stands for a kernel interface that is administratively down.
    #[error(
        "{device}: interface {interface} is down: bring it up (ip link set {interface} up) first"
    )]
    InterfaceDown {
        /// The device.
        device: PortDevice,
        /// The interface's name.
        interface: String,
    },
    /// The device is in use by another [`Port`](crate::Port) of this process.
    #[error("{device} is already open")]
    AlreadyOpen {
        /// The device.
        device: PortDevice,
    },
    /// The device cannot carry frames of that size.
    #[error("{device}: MTU {mtu} is too large, at most {max} is possible")]
    Mtu {
        /// The device.
        device: PortDevice,
        /// Bytes of an IP packet that were asked for.
        mtu: u16,
        /// Bytes that are possible.
        max: u16,
    },
    /// The pool's buffers are too small for the MTU.
    #[error(
        "{device}: MTU {mtu} needs packet buffers of {needed} bytes, those of pool {pool} have \
         {data_room}"
    )]
    SmallBuffers {
        /// The device.
        device: PortDevice,
        /// Bytes of an IP packet that were asked for.
        mtu: u16,
        /// Data room needed.
        needed: u16,
        /// Name of the pool.
        pool: String,
        /// Data room that the pool has.
        data_room: u16,
    },
    /// The pool's buffers are larger than the driver can say to its device.
    #[error(
        "{device}: {driver} takes packet buffers of at most {max} bytes, those of pool {pool} have {size} for the MTU of \
         another device: give that one an MTU of at most 8,170"
    )]
    LargeBuffers {
        /// The device.
        device: PortDevice,
        /// DPDK's driver.
        driver: String,
        /// Name of the pool.
        pool: String,
        /// Bytes of its buffers, without headroom.
        size: u16,
        /// Bytes that are possible.
        max: u16,
    },
    /// A DPDK call about the device failed.
    #[error("{device}: {call} failed: {errno}; DPDK's log on stderr says more")]
    Device {
        /// The device.
        device: PortDevice,
        /// The DPDK function.
        call: &'static str,
        /// What it returned.
        errno: Errno,
    },
    /// No closure can be started on this lcore.
    #[error("lcore {lcore} cannot run a worker: {why}")]
    Lcore {
        /// The lcore's number.
        lcore: u32,
        /// Why not.
        why: &'static str,
    },
    /// The closure of a worker panicked.
    #[error("the worker on lcore {lcore} panicked: {message}")]
    WorkerPanicked {
        /// The lcore's number.
        lcore: u32,
        /// What the panic said.
        message: String,
    },
}

/// An error number: the kernel's, or DPDK's own from 1001 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The calling thread's `rte_errno`.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local variable; needs no initialised EAL.
        Self(unsafe { dpdk_sys::shim_errno() })
    }

    /// The number behind a negative return value.
    pub(crate) fn from_return(value: i32) -> Self {
        Self(value.saturating_neg())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == libc::EPERM {
            // Drivers return a bare -1, which is EPERM by accident, whatever the cause.
            return formatter.write_str("not permitted, or no reason given (-1)");
        }
        // SAFETY: rte_strerror never returns null; the string lives in a thread-local buffer until
        // this thread's next call.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        formatter.write_str(&text.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_device_name_it_the_call_and_the_reason() {
        let error = Error::Device {
            device: PortDevice::Pci("0000:00:05.0".to_owned()),
            call: "rte_dev_probe",
            errno: Errno::from_return(-libc::ENODEV),
        };
        let text = error.to_string();
        for part in ["pci:0000:00:05.0", "rte_dev_probe", "No such device"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_bare_minus_one_of_a_driver_is_not_sold_as_a_missing_permission() {
        assert!(
            Errno::from_return(-1)
                .to_string()
                .contains("no reason given")
        );
    }
}
