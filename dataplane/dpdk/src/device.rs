//! Which device a port is.

use std::fmt;

/// A device, as settings name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortDevice {
    /// A kernel interface through AF_PACKET (net_af_packet), with as many queues as asked for. It
    /// takes a copy of what the interface receives, so the interface should have no addresses.
    AfPacket(String),
    /// A kernel interface through AF_XDP (net_af_xdp), one queue. 22.11's driver keeps its socket
    /// when it is closed: a process can open an interface this way once, unless it is recreated.
    AfXdp(String),
    /// A PCI device bound to vfio-pci (or uio), by its address `dddd:bb:dd.f`.
    Pci(String),
    /// A virtual device by DPDK's own words: `net_ring0`, `net_memif0,role=client,socket=…`.
    Vdev(String),
}

impl fmt::Display for PortDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::AfPacket(interface) => ("af_packet", interface),
            Self::AfXdp(interface) => ("af_xdp", interface),
            Self::Pci(address) => ("pci", address),
            Self::Vdev(devargs) => ("vdev", devargs),
        };
        write!(formatter, "{kind}:{name}")
    }
}
