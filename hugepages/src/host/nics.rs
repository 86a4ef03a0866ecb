//! Network controllers on the PCI bus: who drives them, where they are, and who needs them.

use serde::Serialize;

use super::iommu::VFIO_PCI;
use super::routes::{self, Session, Use};
use super::{HostError, Root};

/// Where PCI devices are.
pub const DEVICES: &str = "/sys/bus/pci/devices";

/// Drivers that leave a device of an IOMMU group to whoever has the rest of it.
const HARMLESS: &[&str] = &[VFIO_PCI, "pci-stub", "pcieport"];

/// A NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// PCI address, `0000:00:05.0`.
    pub address: String,
    /// Vendor and device, `8086:10d3`.
    pub id: String,
    /// Driver that has it.
    pub driver: Option<String>,
    /// NUMA node; `None` = the machine does not say.
    pub node: Option<u32>,
    /// IOMMU group; `None` = no IOMMU keeps it apart.
    pub group: Option<String>,
    /// Other devices of the group that a driver of the kernel has; they must go with it.
    pub bound_beside: Vec<String>,
    /// What the kernel makes of it.
    pub interfaces: Vec<Interface>,
}

/// A network interface of a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether its link is up.
    pub up: bool,
    /// Speed, if it is known.
    pub speed_mbps: Option<u64>,
    /// Who needs it.
    pub needed_for: Vec<Use>,
}

impl Nic {
    /// Whether it is a program's.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.driver.as_deref() == Some(VFIO_PCI)
    }

    /// Folder of its files.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{DEVICES}/{}", self.address)
    }
}

/// All NICs, by address.
#[must_use]
pub fn nics(root: &Root, session: Option<&Session>) -> Vec<Nic> {
    let needed: Vec<_> = routes::needed(root, session).into_iter().collect();
    let addresses = root.names(DEVICES);
    addresses
        .into_iter()
        .filter(|address| is_network(root, address))
        .map(|address| nic(root, address, &needed))
        .collect()
}

/// The NIC of this PCI address, or behind this interface.
///
/// # Errors
///
/// [`HostError::Refused`] if there is none; with the names that there are.
pub fn find<'a>(nics: &'a [Nic], name: &str) -> Result<&'a Nic, HostError> {
    let name = name.strip_prefix("pci:").unwrap_or(name);
    let has = |nic: &&Nic| {
        nic.address.eq_ignore_ascii_case(name)
            || nic
                .interfaces
                .iter()
                .any(|interface| interface.name == name)
    };
    nics.iter().find(has).ok_or_else(|| {
        let there: Vec<_> = nics.iter().map(|nic| nic.address.as_str()).collect();
        let there = match there.len() {
            0 => "this machine has no network controller on the PCI bus".to_owned(),
            _ => format!("there are {}", there.join(", ")),
        };
        HostError::Refused(format!("{name} is no NIC: {there}"))
    })
}

fn is_network(root: &Root, address: &str) -> bool {
    let class = root.text(&format!("{DEVICES}/{address}/class"));
    class.is_some_and(|class| class.starts_with("0x02"))
}

fn nic(root: &Root, address: String, needed: &[(String, Use)]) -> Nic {
    let folder = format!("{DEVICES}/{address}");
    let id = |file| {
        let text = root.text(&format!("{folder}/{file}")).unwrap_or_default();
        text.trim_start_matches("0x").to_owned()
    };
    // -1 where the machine does not say.
    let node = root.text(&format!("{folder}/numa_node"));
    let group = root.target(&format!("{folder}/iommu_group"));
    Nic {
        id: format!("{}:{}", id("vendor"), id("device")),
        driver: root.target(&format!("{folder}/driver")),
        node: node.and_then(|node| node.parse().ok()),
        bound_beside: group
            .as_deref()
            .map_or(Vec::new(), |group| beside(root, group, &address)),
        group,
        interfaces: interfaces(root, &folder, needed),
        address,
    }
}

fn beside(root: &Root, group: &str, address: &str) -> Vec<String> {
    let devices = root.names(&format!("/sys/kernel/iommu_groups/{group}/devices"));
    devices
        .into_iter()
        .filter(|other| other != address)
        .filter(|other| {
            let driver = root.target(&format!("{DEVICES}/{other}/driver"));
            driver.is_some_and(|driver| !HARMLESS.contains(&driver.as_str()))
        })
        .collect()
}

/// Below the device itself, or below its virtio device.
fn interfaces(root: &Root, folder: &str, needed: &[(String, Use)]) -> Vec<Interface> {
    let children = root.names(folder);
    let virtio = children
        .iter()
        .filter(|name| name.starts_with("virtio"))
        .map(|name| format!("{folder}/{name}/net"));
    let homes = std::iter::once(format!("{folder}/net")).chain(virtio);
    homes
        .flat_map(|home| root.names(&home))
        .map(|name| interface(root, name, needed))
        .collect()
}

fn interface(root: &Root, name: String, needed: &[(String, Use)]) -> Interface {
    let file = |file| root.text(&format!("/sys/class/net/{name}/{file}"));
    let speed = file("speed").and_then(|speed| speed.parse().ok());
    let uses = needed.iter().filter(|(interface, _)| *interface == name);
    Interface {
        up: file("operstate").as_deref() == Some("up"),
        // Some drivers say 0 or -1 for "unknown".
        speed_mbps: speed.filter(|speed| *speed > 0 && *speed < u64::from(u32::MAX)),
        needed_for: uses.map(|(_, why)| *why).collect(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn a_nic_is_described_by_what_sysfs_says() {
        let fake = Fake::new();
        fake.nic("0000:00:02.0", "e1000e", "eth0");
        fake.file("/sys/bus/pci/devices/0000:00:02.0/numa_node", "1");
        fake.group("0000:00:02.0", 4);
        fake.file("/sys/class/net/eth0/operstate", "up\n");
        fake.file("/sys/class/net/eth0/speed", "1000\n");
        fake.file("/sys/bus/pci/devices/0000:00:01.0/class", "0x030000");
        let nics = nics(&fake.root(), None);
        assert_eq!(nics.len(), 1);
        let nic = &nics[0];
        assert_eq!(
            (nic.address.as_str(), nic.id.as_str()),
            ("0000:00:02.0", "8086:10d3")
        );
        assert_eq!(nic.driver.as_deref(), Some("e1000e"));
        assert_eq!((nic.node, nic.group.as_deref()), (Some(1), Some("4")));
        let interface = &nic.interfaces[0];
        assert_eq!((interface.name.as_str(), interface.up), ("eth0", true));
        assert_eq!(interface.speed_mbps, Some(1000));
    }

    #[test]
    fn the_interface_of_a_virtio_nic_lies_one_folder_deeper() {
        let fake = Fake::new();
        fake.nic("0000:00:03.0", "virtio-pci", "");
        fake.file("/sys/bus/pci/devices/0000:00:03.0/virtio1/net/ens3/x", "");
        fake.file("/sys/bus/pci/devices/0000:00:03.0/numa_node", "-1");
        let nics = nics(&fake.root(), None);
        assert_eq!(nics[0].interfaces[0].name, "ens3");
        assert_eq!(nics[0].node, None);
        assert_eq!(find(&nics, "ens3").unwrap().address, "0000:00:03.0");
        assert_eq!(find(&nics, "pci:0000:00:03.0").unwrap(), &nics[0]);
        let error = find(&nics, "eth9").unwrap_err().to_string();
        assert_eq!(error, "eth9 is no NIC: there are 0000:00:03.0");
    }

    #[test]
    fn others_of_its_group_count_only_if_a_driver_of_the_kernel_has_them() {
        let fake = Fake::new();
        fake.nic("0000:00:02.0", "e1000e", "eth0");
        fake.nic("0000:00:02.1", "e1000e", "eth1");
        fake.nic("0000:00:02.2", "vfio-pci", "");
        for address in ["0000:00:02.0", "0000:00:02.1", "0000:00:02.2"] {
            fake.group(address, 4);
        }
        let nics = nics(&fake.root(), None);
        assert_eq!(nics[0].bound_beside, ["0000:00:02.1"]);
        assert!(nics[2].is_bound());
    }
}
