//! Models of NICs that the gateway is given, and boards that they are on.

/// Longest packet in bytes of the NIC to the pods with several queues.
pub const POD_MTU: u16 = 2000;

/// A third NIC beside [`Model::VirtioQueues`], of the same kind, which always has a cable to the clients: its address on the
/// guest's PCI bus, and the tap behind it.
pub const SPARE: &str = "0000:03:00.0";
pub(super) const SPARE_TAP: &str = "spare";

/// What the machine is built of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// Two CPUs and a pair of NICs of each model of [`Model::PLAIN`].
    Plain,
    /// Two NUMA nodes with a CPU each, and a pair of [`Model::VirtioQueues`], and a [`SPARE`] one.
    TwoNodes,
}

impl Board {
    /// The NICs on it.
    pub fn models(self) -> &'static [Model] {
        match self {
            Self::Plain => &Model::PLAIN,
            Self::TwoNodes => &[Model::VirtioQueues],
        }
    }
}

/// Model of a pair of NICs: one to the clients, one to the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// virtio-net, modern, behind the IOMMU.
    Virtio,
    /// Intel 82574L.
    E1000e,
    /// VMware's.
    Vmxnet3,
    /// virtio-net with two queue pairs, in a slot out of which it can be pulled. The one to the clients spreads
    /// by RSS, the one to the pods as the host does.
    VirtioQueues,
}

impl Model {
    /// Those of the plain board, which has a pair of each. The first is the one of the example `edge.toml`.
    pub const PLAIN: [Self; 3] = [Self::Virtio, Self::E1000e, Self::Vmxnet3];

    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
            Self::VirtioQueues => "virtio-net with two queues",
        }
    }

    /// Addresses of the pair on the guest's PCI bus: to the clients, to the pods.
    pub fn addresses(self) -> [&'static str; 2] {
        match self {
            Self::Virtio => ["0000:00:10.0", "0000:00:11.0"],
            Self::E1000e => ["0000:00:12.0", "0000:00:13.0"],
            Self::Vmxnet3 => ["0000:00:14.0", "0000:00:15.0"],
            Self::VirtioQueues => ["0000:01:00.0", "0000:02:00.0"],
        }
    }

    /// The driver that Linux has for it.
    pub fn kernel_driver(self) -> &'static str {
        match self {
            Self::Virtio | Self::VirtioQueues => "virtio-pci",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// Whether QEMU tells the guest's driver in vfio's hands that the cable was pulled: of virtio it does, of the others
    /// frames stop and the link stays up.
    pub fn tells_of_the_cable(self) -> bool {
        matches!(self, Self::Virtio | Self::VirtioQueues)
    }

    /// Queues of each NIC that have a tap's queue behind them.
    pub(super) fn queues(self) -> usize {
        if self == Self::VirtioQueues { 2 } else { 1 }
    }

    /// QEMU's words for the pair: to the clients, to the pods.
    pub(super) fn devices(self) -> [String; 2] {
        let [outside, pods] = self.taps();
        // "0000:00:10.0" on the root bus is slot 0x10.
        let slots = self.addresses().map(|address| &address[8..10]);
        let nic = |kind: &str, at: usize, tap: &str| {
            let slot = slots[at];
            format!(
                "{kind},id=nic-{tap},netdev={tap},mac=52:54:00:00:01:{slot},bus=pcie.0,addr=0x{slot}"
            )
        };
        // Without the first of these words the device goes past the IOMMU.
        let virtio = "virtio-net-pci,iommu_platform=on,disable-legacy=on";
        let queues = format!("{virtio},mq=on,vectors=6");
        match self {
            Self::Virtio => [nic(virtio, 0, &outside), nic(virtio, 1, &pods)],
            Self::E1000e => [nic("e1000e", 0, &outside), nic("e1000e", 1, &pods)],
            Self::Vmxnet3 => [nic("vmxnet3", 0, &outside), nic("vmxnet3", 1, &pods)],
            Self::VirtioQueues => [
                format!(
                    "{queues},rss=on,hash=on,id=nic-{outside},netdev={outside},mac=52:54:00:00:02:01,bus=port0"
                ),
                // This device says that it takes no longer packets.
                format!(
                    "{queues},host_mtu={POD_MTU},id=nic-{pods},netdev={pods},mac=52:54:00:00:02:02,bus=port1"
                ),
            ],
        }
    }

    /// QEMU's words for the spare one.
    pub(super) fn spare(self) -> Option<String> {
        let nic =
            "virtio-net-pci,iommu_platform=on,disable-legacy=on,mq=on,vectors=6,rss=on,hash=on";
        let place = "mac=52:54:00:00:02:03,bus=port2";
        (self == Self::VirtioQueues)
            .then(|| format!("{nic},id=nic-{SPARE_TAP},netdev={SPARE_TAP},{place}"))
    }

    /// The tap behind each of the pair, which is also QEMU's name for its network.
    pub(super) fn taps(self) -> [String; 2] {
        let number = self as usize;
        [0, 1].map(|side| format!("tap{number}{side}"))
    }
}
