//! What a port turned out to be, and what it counts.

use crate::device::PortDevice;
use crate::interface::InterfaceCounters;

/// A port as it was opened: what was asked for, made to fit the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The device.
    pub device: PortDevice,
    /// DPDK's number of the port.
    pub port_id: u16,
    /// DPDK's driver, such as `net_af_packet`.
    pub driver: String,
    /// The address that frames to the gateway carry: the configured one, else the device's.
    pub mac: [u8; 6],
    /// Bytes of the largest IP packet: as configured, or less if the device or the kernel
    /// interface allows less.
    pub mtu: u16,
    /// Receive queues: as configured, or less if the device has less.
    pub rx_queues: u16,
    /// Transmit queues, likewise.
    pub tx_queues: u16,
    /// Descriptors of each receive queue, within the driver's limits.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue, likewise.
    pub tx_descriptors: u16,
    /// Bytes of the longest frame that the driver says it can receive.
    pub max_frame: u32,
    /// Receive offloads that the device has, as DPDK's bits (`RTE_ETH_RX_OFFLOAD_*`). None is switched on.
    pub rx_offloads: u64,
    /// Transmit offloads that the device has, likewise.
    pub tx_offloads: u64,
    /// Whether the device spreads flows over its receive queues by RSS.
    pub rss: bool,
    /// Whether it receives frames for other addresses too.
    pub promiscuous: bool,
    /// Index of the kernel interface behind it, if there is one.
    pub interface_index: Option<u32>,
    /// The kernel interface's own MTU. If it is larger than `mtu`, net_af_packet may cut longer
    /// frames without counting them.
    pub interface_mtu: Option<u32>,
}

/// State of the link behind a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStatus {
    /// Frames can pass. For a kernel interface this is the kernel's word (up, carrier, and still
    /// the one that was opened), for others the driver's.
    pub up: bool,
    /// Megabits a second, if the driver knows. Virtual devices make it up.
    pub speed_mbps: Option<u32>,
    /// The kernel interface has been deleted, and perhaps made again, since the port was opened:
    /// nothing passes until the port is reopened.
    pub replaced: bool,
    /// The machine wants to take the device away (a PCI device that is unplugged) and waits until the port is closed:
    /// see [`Port::close`](crate::Port::close).
    pub leaving: bool,
}

/// Counters of a port since it was opened (`rte_eth_stats`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost because the receive queues were full. net_af_packet always says 0; compare
    /// `rx_frames` with [`PortStats::interface`] there.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames lost because the pool was empty.
    pub rx_no_buffer: u64,
    /// What the kernel interface behind the port counted in the same time, if there is one.
    pub interface: Option<InterfaceCounters>,
}
