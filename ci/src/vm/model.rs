//! Models of NICs that the gateway is given.

/// Model of a pair of NICs: one to the clients, one to the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// virtio-net, modern, behind the IOMMU.
    Virtio,
    /// Intel 82574L.
    E1000e,
    /// VMware's.
    Vmxnet3,
}

impl Model {
    /// All of them; the guest has a pair of each. The first is the one of the example `edge.toml`.
    pub const ALL: [Self; 3] = [Self::Virtio, Self::E1000e, Self::Vmxnet3];

    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// Addresses of the pair on the guest's PCI bus: to the clients, to the pods.
    pub fn addresses(self) -> [&'static str; 2] {
        match self {
            Self::Virtio => ["0000:00:10.0", "0000:00:11.0"],
            Self::E1000e => ["0000:00:12.0", "0000:00:13.0"],
            Self::Vmxnet3 => ["0000:00:14.0", "0000:00:15.0"],
        }
    }

    /// The driver that Linux has for it.
    pub fn kernel_driver(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-pci",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// Whether QEMU tells the guest's driver in vfio's hands that the cable was pulled: of virtio it does, of the others
    /// frames stop and the link stays up.
    pub fn tells_of_the_cable(self) -> bool {
        self == Self::Virtio
    }

    /// QEMU's device.
    pub(super) fn device(self) -> &'static str {
        match self {
            // Without the first the device goes past the IOMMU.
            Self::Virtio => "virtio-net-pci,iommu_platform=on,disable-legacy=on",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// The tap behind each of the pair, which is also QEMU's name for its network.
    pub(super) fn taps(self) -> [String; 2] {
        let number = self as usize;
        [0, 1].map(|side| format!("tap{number}{side}"))
    }
}
