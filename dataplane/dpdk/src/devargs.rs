//! What DPDK has to be told about a device, and what the device needs.

use std::fs;

use crate::device::PortDevice;
use crate::error::{Errno, Error};

/// Bytes around an IP packet that a device may hand over: Ethernet header and two VLAN tags.
const L2_OVERHEAD: u32 = 14 + 2 * 4;

/// Smallest data room in use: 2 KiB and the headroom, which every driver accepts.
const DEFAULT_ROOM: u16 = 2048 + HEADROOM;
const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

/// How DPDK's bonding driver names its devices, and how a kernel interface is named as a member.
const BOND: &str = "net_bonding";
const AF_PACKET: &str = "af_packet:";

/// Largest frame of a PCI device for which there is a buffer.
const PCI_FRAME: u32 = 1 << 15;
/// Intel's number among PCI vendors.
const INTEL: u32 = 0x8086;
/// What net_virtio counts as part of a frame (`virtio_net_hdr_mrg_rxbuf`).
const VIRTIO_HEADER: u32 = 12;

/// The kernel puts a received frame this far into its ring slot (TPACKET_V2, `tpacket_rcv`).
const PACKET_FRAME_OFFSET: u32 = 66;
/// What net_af_packet takes off a slot before it compares the rest with the buffers' size
/// (TPACKET2_HDRLEN without the socket address).
const PACKET_HEADER: u32 = 32;
/// Queues of net_af_packet (`RTE_PMD_AF_PACKET_MAX_RINGS`).
const PACKET_QUEUES: u16 = 16;

/// The kernel's headroom in every AF_XDP chunk (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM: u32 = 256;
/// Largest data room with which buffers still fit a page as an AF_XDP umem (veth, 22.11).
const XDP_ROOM: u16 = 3840;

impl PortDevice {
    /// Bytes that each packet buffer needs for this MTU (bytes of an IP packet), headroom
    /// included, so that a frame with two VLAN tags fits into one segment.
    ///
    /// # Errors
    ///
    /// [`Error::Mtu`] if no buffer is large enough.
    pub fn data_room(&self, mtu: u16) -> Result<u16, Error> {
        let frame = u32::from(mtu) + L2_OVERHEAD;
        let headroom = u32::from(HEADROOM);
        let room = match self {
            Self::AfPacket(_) => packet_slot(mtu) - PACKET_HEADER + headroom,
            Self::AfXdp(_) if frame + headroom + XDP_HEADROOM <= u32::from(DEFAULT_ROOM) => 0,
            Self::AfXdp(_) if frame + headroom + XDP_HEADROOM <= u32::from(XDP_ROOM) => {
                u32::from(XDP_ROOM)
            }
            Self::AfXdp(_) => u32::MAX,
            Self::Pci(_) if frame > PCI_FRAME => u32::MAX,
            Self::Pci(address) => pci_buffer(frame, pci_vendor(address)) + headroom,
            Self::Vdev(_) => {
                // A bond hands over what its members received.
                let members = self.members().into_iter();
                let rooms = members.map(|member| member.data_room(mtu));
                let most = rooms.collect::<Result<Vec<_>, _>>()?.into_iter().max();
                most.map_or(frame + headroom, u32::from)
            }
        };
        let room = u16::try_from(room).map_err(|_| Error::Mtu {
            device: self.clone(),
            mtu,
            max: self.max_mtu(),
        })?;
        Ok(room.max(DEFAULT_ROOM))
    }

    /// The devices that a bond (`net_bonding…`) names as its members: PCI devices by their addresses, kernel interfaces as
    /// `af_packet:eth1`. Others are left to DPDK.
    pub(crate) fn members(&self) -> Vec<Self> {
        let Self::Vdev(devargs) = self else {
            return Vec::new();
        };
        if !devargs.starts_with(BOND) {
            return Vec::new();
        }
        let names = devargs.split(',').filter_map(member);
        let known = names.filter_map(|name| match name.strip_prefix(AF_PACKET) {
            Some(interface) => Some(Self::AfPacket(interface.to_owned())),
            None if name.contains(':') => Some(Self::Pci(name.to_ascii_lowercase())),
            None => None,
        });
        known.collect()
    }

    /// The kernel interface behind it, if it is one.
    pub(crate) fn interface(&self) -> Option<&str> {
        match self {
            Self::AfPacket(interface) | Self::AfXdp(interface) => Some(interface),
            Self::Pci(_) | Self::Vdev(_) => None,
        }
    }

    /// The name that ethdev gives the port.
    pub(crate) fn ethdev_name(&self) -> String {
        match self {
            Self::AfPacket(interface) => format!("net_af_packet_{interface}"),
            Self::AfXdp(interface) => format!("net_af_xdp_{interface}"),
            Self::Pci(address) => address.clone(),
            Self::Vdev(devargs) => {
                let name = devargs.split(',').next();
                name.unwrap_or_default().to_owned()
            }
        }
    }

    /// What `rte_dev_probe` is asked for.
    pub(crate) fn devargs(&self, queues: u16, mtu: u16) -> Result<String, Error> {
        if let Some(interface) = self.interface() {
            self.check_interface_name(interface)?;
        }
        let name = self.ethdev_name();
        Ok(match self {
            Self::AfPacket(interface) => {
                let slot = packet_slot(mtu);
                // A ring must hold a few full bursts while its worker looks elsewhere; a jumbo
                // slot is eight times as large, and so are the gaps between such frames.
                let slots = if slot > 2048 { 256 } else { 1024 };
                let block = slot.max(4096);
                format!(
                    "vdev:{name},iface={interface},qpairs={queues},framesz={slot},\
                     blocksz={block},framecnt={slots},qdisc_bypass=1"
                )
            }
            // Busy polling is not proven to help here, and without it nothing has to be tuned.
            Self::AfXdp(interface) => {
                format!("vdev:{name},iface={interface},start_queue=0,queue_count=1,busy_budget=0")
            }
            Self::Pci(address) => format!("pci:{address}"),
            Self::Vdev(devargs) if devargs.starts_with(BOND) => {
                // DPDK knows members by the names of their ports.
                let words = devargs
                    .split(',')
                    .map(|word| match word.split_once(AF_PACKET) {
                        Some((key, interface)) if member(word).is_some() => {
                            let name = Self::AfPacket(interface.to_owned()).ethdev_name();
                            format!("{key}{name}")
                        }
                        _ => word.to_owned(),
                    });
                format!("vdev:{}", words.collect::<Vec<_>>().join(","))
            }
            Self::Vdev(devargs) => format!("vdev:{devargs}"),
        })
    }

    /// Most queue pairs that make sense to ask for.
    pub(crate) fn most_queues(&self) -> u16 {
        match self {
            Self::AfPacket(_) => PACKET_QUEUES,
            Self::AfXdp(_) => 1,
            Self::Pci(_) | Self::Vdev(_) => u16::MAX,
        }
    }

    /// Largest MTU for which `data_room` has an answer.
    fn max_mtu(&self) -> u16 {
        let overhead = L2_OVERHEAD as u16;
        match self {
            Self::AfPacket(_) => (1 << 15) - PACKET_FRAME_OFFSET as u16 - overhead,
            Self::AfXdp(_) => XDP_ROOM - XDP_HEADROOM as u16 - HEADROOM - overhead,
            Self::Pci(_) => PCI_FRAME as u16 - overhead,
            Self::Vdev(_) => u16::MAX - HEADROOM - overhead,
        }
    }

    /// A name with a comma, say, would be read as another argument of the driver.
    fn check_interface_name(&self, interface: &str) -> Result<(), Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
        if (1..=15).contains(&interface.len()) && interface.bytes().all(plain) {
            return Ok(());
        }
        Err(Error::Device {
            device: self.clone(),
            call: "the interface's name",
            errno: Errno(libc::EINVAL),
        })
    }
}

/// The device that a bond's argument makes a member (`slave=`, or `member=` in later versions of DPDK).
fn member(word: &str) -> Option<&str> {
    word.strip_prefix("slave=").or(word.strip_prefix("member="))
}

/// Bytes of a buffer for frames of this length, without headroom. Of Intel's drivers net_e1000_em rounds a buffer's size
/// down to a power of two, and net_igb and net_ixgbe to a multiple of 1 KiB; net_vmxnet3 knows no larger ones than
/// 16,383 bytes.
fn pci_buffer(frame: u32, vendor: Option<u32>) -> u32 {
    match vendor {
        Some(vendor) if vendor != INTEL => (frame + VIRTIO_HEADER).next_multiple_of(1024),
        _ => frame.next_power_of_two(),
    }
}

/// Who made the device; `None` if the machine has none at this address.
fn pci_vendor(address: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/sys/bus/pci/devices/{address}/vendor")).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// Bytes of a slot of an AF_PACKET ring: a power of two, so that any block of slots is a whole
/// number of pages.
fn packet_slot(mtu: u16) -> u32 {
    (u32::from(mtu) + L2_OVERHEAD + PACKET_FRAME_OFFSET)
        .next_power_of_two()
        .max(2048)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn af_packet() -> PortDevice {
        af_packet_of("eth1")
    }

    fn af_packet_of(interface: &str) -> PortDevice {
        PortDevice::AfPacket(interface.to_owned())
    }

    #[test]
    fn devargs_of_a_kernel_interface_say_all_that_the_driver_needs() {
        assert_eq!(
            af_packet().devargs(2, 1500).unwrap(),
            "vdev:net_af_packet_eth1,iface=eth1,qpairs=2,framesz=2048,blocksz=4096,\
             framecnt=1024,qdisc_bypass=1"
        );
        assert!(
            af_packet()
                .devargs(1, 9000)
                .unwrap()
                .contains("framesz=16384,blocksz=16384")
        );
        let xdp = PortDevice::AfXdp("eth1".to_owned());
        assert!(
            xdp.devargs(4, 1500)
                .unwrap()
                .contains("iface=eth1,start_queue=0,queue_count=1")
        );
    }

    #[test]
    fn an_interface_name_cannot_smuggle_in_an_argument() {
        for name in ["", "eth1,framesz=1", "a=b", "sixteen-letters-"] {
            let device = PortDevice::AfPacket(name.to_owned());
            let error = device.devargs(1, 1500).unwrap_err().to_string();
            assert!(error.contains(&format!("af_packet:{name}")), "{error}");
        }
    }

    #[test]
    fn virtual_devices_are_named_by_their_first_word() {
        let device = PortDevice::Vdev("net_memif0,role=client".to_owned());
        assert_eq!(device.ethdev_name(), "net_memif0");
        assert_eq!(device.to_string(), "vdev:net_memif0,role=client");
    }

    #[test]
    fn the_members_of_a_bond_are_known_and_named_as_dpdk_names_them() {
        let bond = PortDevice::Vdev(
            "net_bonding0,mode=1,slave=af_packet:eth1,slave=0000:00:0A.0,slave=net_ring0,primary=x"
                .to_owned(),
        );
        let pci = PortDevice::Pci("0000:00:0a.0".to_owned());
        assert_eq!(bond.members(), [af_packet_of("eth1"), pci]);
        assert_eq!(
            bond.devargs(1, 1500).unwrap(),
            "vdev:net_bonding0,mode=1,slave=net_af_packet_eth1,slave=0000:00:0A.0,slave=net_ring0,primary=x"
        );
        // As large as the most demanding member needs.
        assert_eq!(bond.data_room(9000).unwrap(), 16384 + 128);
        let other = PortDevice::Vdev("net_memif0,slave=af_packet:eth1".to_owned());
        assert_eq!(other.members(), []);
        assert!(other.devargs(1, 1500).unwrap().contains("af_packet:eth1"));
    }

    #[test]
    fn ordinary_mtus_need_ordinary_buffers() {
        for device in [
            af_packet(),
            PortDevice::AfXdp("eth1".to_owned()),
            PortDevice::Pci("0000:00:05.0".to_owned()),
            PortDevice::Vdev("net_ring0".to_owned()),
        ] {
            assert_eq!(device.data_room(1500).unwrap(), 2176, "{device}");
        }
    }

    #[test]
    fn jumbo_frames_need_larger_ones_and_af_xdp_has_its_limit() {
        assert_eq!(af_packet().data_room(9000).unwrap(), 16384 - 32 + 128);
        let pci = PortDevice::Pci("ffff:ff:1f.7".to_owned());
        assert_eq!(pci.data_room(9000).unwrap(), 16384 + 128);
        let xdp = PortDevice::AfXdp("eth1".to_owned());
        assert_eq!(xdp.data_room(3400).unwrap(), 3840);
        let error = xdp.data_room(9000).unwrap_err();
        assert_eq!(
            error,
            Error::Mtu {
                device: xdp.clone(),
                mtu: 9000,
                max: 3434
            }
        );
        assert_eq!(xdp.data_room(3434), Ok(3840));
        assert!(xdp.data_room(3435).is_err());
    }

    #[test]
    fn pci_devices_get_buffers_that_their_drivers_can_use_as_a_whole() {
        let (e1000, virtio, vmware) = (Some(INTEL), Some(0x1af4), Some(0x15ad));
        for vendor in [e1000, virtio, vmware, None] {
            assert_eq!(pci_buffer(1522, vendor), 2048);
        }
        assert_eq!(pci_buffer(9022, e1000), 16384);
        assert_eq!(pci_buffer(9022, virtio), 9216);
        assert_eq!(pci_buffer(9022, vmware), 9216);
        // With virtio's header it is more than 9 KiB.
        assert_eq!(pci_buffer(9210, virtio), 10240);
    }

    #[test]
    fn the_stated_limit_is_the_limit_for_every_device() {
        for device in [
            af_packet(),
            PortDevice::AfXdp("eth1".to_owned()),
            PortDevice::Pci("0000:00:05.0".to_owned()),
            PortDevice::Vdev("net_ring0".to_owned()),
        ] {
            let max = device.max_mtu();
            assert!(device.data_room(max).is_ok(), "{device} {max}");
            assert!(device.data_room(max + 1).is_err(), "{device} {max}");
        }
    }
}
