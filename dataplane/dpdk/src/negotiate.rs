//! What was asked for, made to fit what the device has. Plain arithmetic, no DPDK calls.

use crate::config::PortConfig;
use crate::device::PortDevice;

/// Ethernet's default MTU, and what drivers that know nothing about MTUs are configured for.
const ETHERNET_MTU: u16 = 1500;
/// Ethernet header and CRC: what ethdev adds to an MTU when a driver does not say.
const ETHDEV_OVERHEAD: u32 = 18;

/// What the driver says about its device (`rte_eth_dev_info`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rx_queues: u16,
    pub(crate) tx_queues: u16,
    pub(crate) max_mtu: u16,
    pub(crate) max_frame: u32,
    pub(crate) rss_flows: u64,
    /// MTU of the kernel interface behind it.
    pub(crate) interface_mtu: Option<u32>,
}

/// What the port is configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) rx_queues: u16,
    pub(crate) tx_queues: u16,
    /// Bytes of the largest IP packet on this link.
    pub(crate) mtu: u16,
    /// The MTU that ethdev is told.
    pub(crate) ethdev_mtu: u16,
    /// RSS hash functions (`rss_hf`); 0 = no RSS.
    pub(crate) rss: u64,
}

/// Queue pairs to create a device with.
pub(crate) fn queue_pairs(device: &PortDevice, config: &PortConfig) -> u16 {
    config
        .rx_queues
        .max(config.tx_queues)
        .clamp(1, device.most_queues())
}

/// Fits `config` to `limits`.
pub(crate) fn plan(
    device: &PortDevice,
    config: &PortConfig,
    limits: &Limits,
    rss_flows: u64,
) -> Plan {
    let (mut rx_queues, mut tx_queues) = (config.rx_queues.max(1), config.tx_queues.max(1));
    if matches!(device, PortDevice::AfPacket(_)) {
        // Its sockets share the traffic from the start: one without a queue would swallow its part.
        rx_queues = queue_pairs(device, config);
        tx_queues = rx_queues;
    }
    let rx_queues = rx_queues.min(limits.rx_queues);
    let tx_queues = tx_queues.min(limits.tx_queues);
    let possible = ethdev_mtu(limits);
    let mtu = match limits.interface_mtu {
        // net_af_packet pretends that 1,518 bytes are its limit; its slots are made for the MTU.
        Some(mtu) if matches!(device, PortDevice::AfPacket(_)) => cut(mtu),
        Some(mtu) => cut(mtu).min(possible),
        None => possible,
    };
    let mtu = mtu.min(config.mtu);
    let spread = rx_queues > 1;
    Plan {
        rx_queues,
        tx_queues,
        mtu,
        ethdev_mtu: mtu.min(possible),
        rss: if spread {
            limits.rss_flows & rss_flows
        } else {
            0
        },
    }
}

/// Largest MTU that `rte_eth_dev_configure` accepts, computed as it does.
fn ethdev_mtu(limits: &Limits) -> u16 {
    if limits.max_frame == 0 {
        return ETHERNET_MTU.min(limits.max_mtu);
    }
    let stated = limits.max_mtu != u16::MAX && limits.max_frame > u32::from(limits.max_mtu);
    let overhead = if stated {
        limits.max_frame - u32::from(limits.max_mtu)
    } else {
        ETHDEV_OVERHEAD
    };
    cut(limits.max_frame.saturating_sub(overhead)).min(limits.max_mtu)
}

fn cut(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSS: u64 = 0b1111;

    fn limits() -> Limits {
        Limits {
            rx_queues: 8,
            tx_queues: 4,
            max_mtu: 9000,
            max_frame: 9022,
            rss_flows: 0b0110_0110,
            interface_mtu: None,
        }
    }

    fn config(rx_queues: u16, tx_queues: u16, mtu: u16) -> PortConfig {
        PortConfig {
            rx_queues,
            tx_queues,
            mtu,
            ..PortConfig::default()
        }
    }

    fn nic() -> PortDevice {
        PortDevice::Pci("0000:00:05.0".to_owned())
    }

    fn af_packet() -> PortDevice {
        PortDevice::AfPacket("eth1".to_owned())
    }

    #[test]
    fn queues_are_cut_to_what_the_device_has_and_at_least_one() {
        let cut = plan(&nic(), &config(16, 16, 1500), &limits(), RSS);
        assert_eq!((cut.rx_queues, cut.tx_queues), (8, 4));
        let least = plan(&nic(), &config(0, 0, 1500), &limits(), RSS);
        assert_eq!((least.rx_queues, least.tx_queues), (1, 1));
    }

    #[test]
    fn rss_is_asked_for_only_with_several_queues_and_only_what_the_device_offers() {
        assert_eq!(plan(&nic(), &config(1, 1, 1500), &limits(), RSS).rss, 0);
        assert_eq!(
            plan(&nic(), &config(2, 2, 1500), &limits(), RSS).rss,
            0b0110
        );
        let without = Limits {
            rss_flows: 0,
            ..limits()
        };
        assert_eq!(plan(&nic(), &config(2, 2, 1500), &without, RSS).rss, 0);
    }

    #[test]
    fn an_af_packet_port_uses_every_queue_it_was_created_with() {
        let many = Limits {
            rx_queues: 16,
            tx_queues: 16,
            ..limits()
        };
        let plan = plan(&af_packet(), &config(1, 3, 1500), &many, RSS);
        assert_eq!((plan.rx_queues, plan.tx_queues), (3, 3));
        assert_eq!(queue_pairs(&af_packet(), &config(99, 1, 1500)), 16);
        let xdp = PortDevice::AfXdp("eth1".to_owned());
        assert_eq!(queue_pairs(&xdp, &config(4, 4, 1500)), 1);
    }

    #[test]
    fn the_mtu_is_the_least_of_wish_device_and_interface() {
        assert_eq!(plan(&nic(), &config(1, 1, 1500), &limits(), RSS).mtu, 1500);
        assert_eq!(plan(&nic(), &config(1, 1, 9600), &limits(), RSS).mtu, 9000);
        // What net_af_packet reports: no limit of the MTU, frames of 1,518 bytes.
        let packet = Limits {
            max_mtu: u16::MAX,
            max_frame: 1518,
            interface_mtu: Some(9000),
            ..limits()
        };
        let jumbo = plan(&af_packet(), &config(1, 1, 9000), &packet, RSS);
        assert_eq!((jumbo.mtu, jumbo.ethdev_mtu), (9000, 1500));
        let narrow = Limits {
            interface_mtu: Some(1400),
            ..packet
        };
        assert_eq!(
            plan(&af_packet(), &config(1, 1, 1500), &narrow, RSS).mtu,
            1400
        );
    }

    #[test]
    fn a_driver_that_knows_no_frame_size_gets_ethernets() {
        let silent = Limits {
            max_mtu: u16::MAX,
            max_frame: 0,
            ..limits()
        };
        assert_eq!(
            plan(&nic(), &config(1, 1, 9000), &silent, RSS).ethdev_mtu,
            1500
        );
    }
}
