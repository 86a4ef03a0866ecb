//! A machine in a folder: what tests read and change instead of /sys and /proc.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::iommu::{NO_IOMMU, VFIO_PCI};
use super::nics::DEVICES;
use super::{Kernel, Root};

const DRIVERS: &str = "/sys/bus/pci/drivers";

/// The folder, and as much of a kernel as reacts to what is written to it.
#[derive(Debug)]
pub(crate) struct Fake {
    folder: TempDir,
    /// Most pages that a pool can have.
    pub(crate) most_pages: Option<u64>,
    /// Modules that can be loaded.
    pub(crate) modules: Vec<&'static str>,
    /// The driver that takes a device when none is named.
    natural: std::cell::RefCell<BTreeMap<String, String>>,
    /// What was done, as steps are shown.
    pub(crate) done: Vec<String>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            most_pages: None,
            modules: Vec::new(),
            natural: std::cell::RefCell::default(),
            done: Vec::new(),
        }
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.folder.path())
    }

    /// A file with its folders.
    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.root().path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn pool(&self, node: u32, size_kib: u64, reserved: u64, free: u64) {
        let folder =
            format!("/sys/devices/system/node/node{node}/hugepages/hugepages-{size_kib}kB");
        self.file(&format!("{folder}/nr_hugepages"), &reserved.to_string());
        self.file(&format!("{folder}/free_hugepages"), &free.to_string());
    }

    /// A NIC; without driver or interface if their names are empty.
    pub(crate) fn nic(&self, address: &str, driver: &str, interface: &str) {
        let folder = format!("{DEVICES}/{address}");
        self.file(&format!("{folder}/class"), "0x020000\n");
        self.file(&format!("{folder}/vendor"), "0x8086\n");
        self.file(&format!("{folder}/device"), "0x10d3\n");
        self.file(&format!("{folder}/driver_override"), "(null)\n");
        if !interface.is_empty() {
            self.file(&format!("{folder}/net/{interface}/x"), "");
            self.file(&format!("/sys/class/net/{interface}/operstate"), "down\n");
        }
        if !driver.is_empty() {
            self.driver(driver);
            self.link(&folder, driver);
            let natural = (address.to_owned(), driver.to_owned());
            self.natural.borrow_mut().extend([natural]);
        }
    }

    /// A driver that is loaded.
    pub(crate) fn driver(&self, name: &str) {
        self.file(&format!("{DRIVERS}/{name}/unbind"), "");
    }

    pub(crate) fn group(&self, address: &str, number: u32) {
        self.file(
            &format!("/sys/kernel/iommu_groups/{number}/devices/{address}"),
            "",
        );
        let link = self
            .root()
            .path(&format!("{DEVICES}/{address}/iommu_group"));
        symlink(format!("../../../../kernel/iommu_groups/{number}"), link).unwrap();
    }

    fn link(&self, folder: &str, driver: &str) {
        let link = self.root().path(&format!("{folder}/driver"));
        symlink(format!("../../drivers/{driver}"), link).unwrap();
    }

    fn set_pool(&self, path: &str, value: &str) {
        let folder = path.trim_end_matches("/nr_hugepages");
        let number = |file: &str| self.root().number(&format!("{folder}/{file}")).unwrap();
        let (reserved, free) = (number("nr_hugepages"), number("free_hugepages"));
        let wanted: u64 = value.parse().unwrap();
        let got = wanted
            .min(self.most_pages.unwrap_or(u64::MAX))
            .max(reserved - free);
        self.file(path, &got.to_string());
        let free = free + got - reserved.min(free + got);
        self.file(&format!("{folder}/free_hugepages"), &free.to_string());
    }

    fn probe(&self, address: &str) {
        let folder = format!("{DEVICES}/{address}");
        let root = self.root();
        let named = root.text(&format!("{folder}/driver_override")).unwrap();
        let natural = self.natural.borrow().get(address).cloned();
        let driver = if named == "(null)" {
            natural
        } else {
            Some(named)
        };
        let is_safe = root.has(&format!("{folder}/iommu_group"))
            || root.text(NO_IOMMU).as_deref() == Some("Y");
        let takes = |driver: &String| {
            root.has(&format!("{DRIVERS}/{driver}")) && (driver != VFIO_PCI || is_safe)
        };
        if let Some(driver) = driver.filter(takes) {
            self.link(&folder, &driver);
        }
    }
}

impl Kernel for Fake {
    fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        self.done.push(format!("{} > {path}", value.trim()));
        if path.ends_with("/nr_hugepages") {
            self.set_pool(path, value);
        } else if path.ends_with("/driver_override") {
            let text = if value == "\n" { "(null)" } else { value };
            self.file(path, text);
        } else if path.ends_with("/unbind") {
            let driver = format!("{DEVICES}/{value}/driver");
            fs::remove_file(self.root().path(&driver))?;
        } else if path.ends_with("/drivers_probe") {
            self.probe(value);
        } else if self.root().has(path) {
            self.file(path, value);
        } else {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }

    fn load(&mut self, module: &str) -> io::Result<()> {
        self.done.push(format!("modprobe {module}"));
        if !self.modules.contains(&module) {
            return Err(io::Error::other(format!("Module {module} not found")));
        }
        self.driver(module);
        Ok(())
    }
}
