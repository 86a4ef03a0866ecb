//! What a port is asked for.

/// How a port is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues wanted; 0 counts as 1.
    pub rx_queues: u16,
    /// Transmit queues wanted; 0 counts as 1.
    pub tx_queues: u16,
    /// Descriptors wanted for each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors wanted for each transmit queue.
    pub tx_descriptors: u16,
    /// Bytes of the largest IP packet wanted.
    pub mtu: u16,
    /// Address to use instead of the device's. That of a kernel interface is not changed: the
    /// port receives everything instead.
    pub mac: Option<[u8; 6]>,
    /// Receive frames for other addresses too.
    pub promiscuous: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            mac: None,
            promiscuous: false,
        }
    }
}
