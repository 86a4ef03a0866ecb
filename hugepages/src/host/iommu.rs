//! Whether NICs can be given to a program safely: the IOMMU, and vfio.

use serde::Serialize;

use super::Root;

/// Driver that gives a PCI device to a program.
pub const VFIO_PCI: &str = "vfio-pci";

/// The kernel's switch for vfio without an IOMMU.
pub const NO_IOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// State of IOMMU and vfio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Iommu {
    /// Units that the kernel drives (`dmar0`, `ivhd0`); none = no IOMMU, or it is off.
    pub units: Vec<String>,
    /// Groups of devices that the IOMMU can keep apart.
    pub groups: usize,
    /// The driver vfio-pci.
    pub vfio_pci: Presence,
    /// Whether vfio gives out devices without an IOMMU; `None` = the kernel cannot (CONFIG_VFIO_NOIOMMU), or vfio is not loaded.
    pub unsafe_no_iommu: Option<bool>,
}

/// Whether a driver is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Ready.
    Loaded,
    /// A module that can be loaded.
    Module,
    /// Not part of this kernel.
    Missing,
}

impl Iommu {
    /// Whether devices are kept apart.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.groups > 0
    }
}

/// Reads the state.
#[must_use]
pub fn iommu(root: &Root) -> Iommu {
    Iommu {
        units: root.names("/sys/class/iommu"),
        groups: root.names("/sys/kernel/iommu_groups").len(),
        vfio_pci: vfio_pci(root),
        unsafe_no_iommu: root.text(NO_IOMMU).map(|text| text == "Y"),
    }
}

fn vfio_pci(root: &Root) -> Presence {
    if root.has(&format!("/sys/bus/pci/drivers/{VFIO_PCI}")) {
        return Presence::Loaded;
    }
    let release = root.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let lists = ["modules.dep", "modules.builtin"].map(|file| {
        let text = root.text(&format!("/lib/modules/{release}/{file}"));
        text.unwrap_or_default()
    });
    // A file's name, followed by ':' or what it is packed with.
    if lists.iter().any(|list| list.contains("/vfio-pci.ko")) {
        Presence::Module
    } else {
        Presence::Missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn vfio_is_loaded_or_a_module_or_missing() {
        let fake = Fake::new();
        assert_eq!(iommu(&fake.root()).vfio_pci, Presence::Missing);
        fake.file("/proc/sys/kernel/osrelease", "6.1.0-x\n");
        fake.file(
            "/lib/modules/6.1.0-x/modules.dep",
            "kernel/drivers/vfio/pci/vfio-pci.ko: a.ko\n",
        );
        assert_eq!(iommu(&fake.root()).vfio_pci, Presence::Module);
        fake.file("/sys/bus/pci/drivers/vfio-pci/bind", "");
        assert_eq!(iommu(&fake.root()).vfio_pci, Presence::Loaded);
    }

    #[test]
    fn an_iommu_is_on_when_there_are_groups() {
        let fake = Fake::new();
        assert!(!iommu(&fake.root()).is_on());
        fake.file("/sys/kernel/iommu_groups/0/type", "DMA");
        fake.file("/sys/class/iommu/dmar0/x", "");
        let found = iommu(&fake.root());
        assert!(found.is_on());
        assert_eq!(found.units, ["dmar0"]);
        assert_eq!(found.unsafe_no_iommu, None);
    }
}
