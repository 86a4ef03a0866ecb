//! The whole machine at one glance, and what is wrong with it for a configuration.

use serde::Serialize;
use settings::Settings;

use super::Root;
use super::cores;
use super::iommu::{self, Iommu, Presence};
use super::limits::{self, Limits};
use super::mounts::{self, Mount};
use super::need::{self, Need};
use super::nics::{self, Nic};
use super::pages::{self, Pool};
use super::reserve::{self, Want};
use super::routes::Session;

/// What there is, what is needed, what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Pools of huge pages.
    pub pools: Vec<Pool>,
    /// What the configuration asks for; `None` = there is no configuration.
    pub needs: Option<Vec<Need>>,
    /// Filesystems on huge pages.
    pub mounts: Vec<Mount>,
    /// Bounds of this process.
    pub limits: Limits,
    /// IOMMU and vfio.
    pub iommu: Iommu,
    /// NICs on the PCI bus.
    pub nics: Vec<Nic>,
    /// What keeps the configuration from working, a sentence each, with what to do.
    pub problems: Vec<String>,
    /// What makes it slower than it could be, likewise.
    pub advice: Vec<String>,
}

/// Looks at everything.
#[must_use]
pub fn status(root: &Root, settings: Option<&Settings>, session: Option<&Session>) -> Status {
    let nics = nics::nics(root, session);
    let mut status = Status {
        pools: pages::pools(root),
        needs: settings.map(|settings| need::needs(root, settings, &nics)),
        mounts: mounts::mounts(root),
        limits: limits::limits(root),
        iommu: iommu::iommu(root),
        nics,
        problems: Vec::new(),
        advice: Vec::new(),
    };
    if let Some(settings) = settings {
        let mut problems = status.too_few_pages(root);
        problems.extend(status.bounds());
        let links = settings.links.iter();
        problems.extend(links.flat_map(|link| status.link(link)));
        status.problems = problems;
        status.advice = cores::advice(root, settings);
    }
    status
}

impl Status {
    /// Pages of a pool that the configuration asks for.
    #[must_use]
    pub fn needed(&self, node: Option<u32>, size_kib: u64) -> u64 {
        let needs = self.needs.iter().flatten();
        needs
            .filter(|need| (need.node, need.size_kib) == (node, size_kib))
            .map(|need| need.pages)
            .sum()
    }

    fn too_few_pages(&self, root: &Root) -> Vec<String> {
        let wants = reserve::wants(self.needs.as_deref().unwrap_or_default());
        let too_few = |want: &Want| {
            let pool = pages::pool(root, want.node, want.size_kib);
            let (reserved, free) = pool.map_or((0, 0), |pool| (pool.reserved, pool.free));
            let place = want
                .node
                .map_or(String::new(), |node| format!(" on node {node}"));
            let size = pages::size(want.size_kib);
            let wanted = format!("{} pages of {size} are needed{place}", want.pages);
            if reserved < want.pages {
                Some(format!(
                    "{wanted} and {reserved} are reserved: portgate-hugepages reserve"
                ))
            } else if free < want.pages {
                Some(format!(
                    "{wanted} and {free} of {reserved} are free: either the data plane runs, or others have \
                     them"
                ))
            } else {
                None
            }
        };
        wants.iter().filter_map(too_few).collect()
    }

    fn bounds(&self) -> Vec<String> {
        let exceeded = self.limits.cgroup.iter().filter_map(|limit| {
            let kib = match limit.size.as_str() {
                "1GB" => pages::ONE_GIB,
                _ => pages::TWO_MIB,
            };
            let needs = self.needs.iter().flatten();
            let needs = needs.filter(|need| need.size_kib == kib);
            let bytes: u64 = needs.map(|need| need.pages * kib * 1024).sum();
            (bytes > limit.bytes).then(|| {
                format!(
                    "control group {} allows {} bytes of huge pages of {}, and {bytes} are needed",
                    limit.group, limit.bytes, limit.size
                )
            })
        });
        exceeded.collect()
    }

    fn link(&self, link: &settings::Link) -> Vec<String> {
        let addresses = link.device.pci_addresses();
        let problem = |address: &String| self.nic(&link.name, address);
        addresses.iter().filter_map(problem).collect()
    }

    fn nic(&self, name: &str, address: &str) -> Option<String> {
        let Some(nic) = self.nics.iter().find(|nic| nic.address == *address) else {
            return Some(format!("link {name}: there is no NIC {address}"));
        };
        if nic.is_bound() {
            return None;
        }
        let driver = nic.driver.as_deref().unwrap_or("no driver");
        let how = match (self.iommu.vfio_pci, self.iommu.is_on()) {
            (Presence::Missing, _) => "and this kernel has no vfio-pci",
            (_, false) => {
                "and there is no IOMMU: intel_iommu=on or amd_iommu=on at boot, or bind --no-iommu"
            }
            _ => "portgate-hugepages bind --links",
        };
        Some(format!(
            "link {name}: {address} has {driver} instead of vfio-pci: {how}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::pages::TWO_MIB;
    use super::*;

    const CONFIG: &str = "[region]\npacket_memory_mb = 64\n\n\
         [[links]]\nname = \"a\"\ndevice = \"pci:0000:00:02.0\"\n\n\
         [[links]]\nname = \"b\"\ndevice = \"pci:0000:00:03.0\"\n";

    fn problems(fake: &Fake) -> Vec<String> {
        let settings = settings::load_str(CONFIG).unwrap();
        status(&fake.root(), Some(&settings), None).problems
    }

    #[test]
    fn everything_that_is_missing_is_a_sentence() {
        let fake = Fake::new();
        fake.pool(0, TWO_MIB, 10, 10);
        fake.nic("0000:00:02.0", "e1000e", "eth0");
        let found = problems(&fake);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("32 pages of 2 MiB are needed on node 0 and 10 are reserved"));
        assert!(found[1].contains("this kernel has no vfio-pci"));
        assert_eq!(found[2], "link b: there is no NIC 0000:00:03.0");
    }

    #[test]
    fn a_machine_that_is_ready_has_no_problems() {
        let fake = Fake::new();
        fake.pool(0, TWO_MIB, 32, 32);
        for address in ["0000:00:02.0", "0000:00:03.0"] {
            fake.nic(address, "vfio-pci", "");
            fake.group(address, 1);
        }
        assert_eq!(problems(&fake), Vec::<String>::new());
        fake.pool(0, TWO_MIB, 32, 0);
        assert!(problems(&fake)[0].contains("0 of 32 are free"));
    }

    #[test]
    fn a_control_group_that_allows_too_little_is_named() {
        let fake = Fake::new();
        fake.pool(0, TWO_MIB, 32, 32);
        for address in ["0000:00:02.0", "0000:00:03.0"] {
            fake.nic(address, "vfio-pci", "");
        }
        fake.file("/proc/self/cgroup", "0::/a\n");
        fake.file("/sys/fs/cgroup/a/hugetlb.2MB.max", "1048576\n");
        let found = problems(&fake);
        assert!(
            found[0].starts_with("control group /a allows 1048576 bytes"),
            "{found:?}"
        );
    }

    #[test]
    fn without_a_configuration_nothing_is_needed_and_nothing_wrong() {
        let fake = Fake::new();
        let status = status(&fake.root(), None, None);
        assert_eq!((status.needs, status.problems), (None, Vec::new()));
    }
}
