//! What a configuration asks of the machine's huge pages.

use std::collections::BTreeMap;

use serde::Serialize;
use settings::{HugePages, Settings};

use super::Root;
use super::mounts::{mount_of, mounts};
use super::nics::Nic;
use super::pages::{TWO_MIB, node_of_cpu, nodes};
use crate::layout::{Geometry, Layout};

/// Pages of one size that a data plane takes when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Node that they are taken from; `None` = any.
    pub node: Option<u32>,
    /// Bytes of a page, in KiB.
    pub size_kib: u64,
    /// How many.
    pub pages: u64,
    /// For packet buffers, or for the region.
    pub what: What,
}

/// What pages are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Frames: `region.packet_memory_mb`.
    Packets,
    /// Flow tables and the rest of the region, if its file lies on hugetlbfs.
    Region,
}

/// The region's geometry: one more block of counters than workers, for the main core.
#[must_use]
pub fn geometry(settings: &Settings) -> Geometry {
    let region = &settings.region;
    let workers = settings.workers.count + 1;
    Geometry::new(
        workers,
        settings.links.len() as u16,
        region.flows,
        region.flows_v6,
    )
}

/// What is needed, by what it is for.
#[must_use]
pub fn needs(root: &Root, settings: &Settings, nics: &[Nic]) -> Vec<Need> {
    let mut needs = packets(root, settings, nics);
    needs.extend(region(root, settings));
    needs
}

fn packets(root: &Root, settings: &Settings, nics: &[Nic]) -> Vec<Need> {
    if settings.region.huge_pages == HugePages::Off {
        return Vec::new();
    }
    let pages = (u64::from(settings.region.packet_memory_mb) << 10).div_ceil(TWO_MIB);
    let shares = shares(root, settings, nics);
    let all: u64 = shares.values().sum();
    let need = |(node, share): (Option<u32>, u64)| Need {
        node,
        size_kib: TWO_MIB,
        pages: (pages * share).div_ceil(all.max(1)),
        what: What::Packets,
    };
    shares.into_iter().map(need).collect()
}

/// Over which nodes packet memory is spread, and in which parts: DPDK gives each node as much as it has
/// of the cores. Where cores are not named it is the NICs' nodes that count.
fn shares(root: &Root, settings: &Settings, nics: &[Nic]) -> BTreeMap<Option<u32>, u64> {
    let mut shares = BTreeMap::new();
    if let [only] = nodes(root)[..] {
        shares.insert(Some(only), 1);
        return shares;
    }
    for core in &settings.workers.cores {
        *shares.entry(node_of_cpu(root, *core)).or_insert(0) += 1;
    }
    if shares.is_empty() {
        let is_link = |nic: &&Nic| {
            let is = |link: &settings::Link| link.device.pci_addresses().contains(&nic.address);
            settings.links.iter().any(is)
        };
        shares.extend(nics.iter().filter(is_link).map(|nic| (nic.node, 1)));
    }
    if shares.is_empty() || shares.contains_key(&None) {
        return BTreeMap::from([(None, 1)]);
    }
    shares
}

fn region(root: &Root, settings: &Settings) -> Option<Need> {
    let mounts = mounts(root);
    let mount = mount_of(&mounts, &settings.region.path)?;
    let layout = Layout::new(&geometry(settings)).ok()?;
    let page = (mount.size_kib << 10) as usize;
    // Two files, each of whole pages.
    let pages = layout.total().div_ceil(page) + layout.control_total().div_ceil(page);
    Some(Need {
        node: match nodes(root)[..] {
            [only] => Some(only),
            _ => None,
        },
        size_kib: mount.size_kib,
        pages: pages as u64,
        what: What::Region,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn settings(text: &str) -> Settings {
        settings::load_str(text).unwrap()
    }

    fn shown(needs: &[Need]) -> Vec<(Option<u32>, u64, u64)> {
        let one = |need: &Need| (need.node, need.size_kib, need.pages);
        needs.iter().map(one).collect()
    }

    #[test]
    fn packet_memory_comes_from_the_only_node() {
        let fake = Fake::new();
        fake.pool(0, TWO_MIB, 0, 0);
        let root = fake.root();
        let needs = |text: &str| shown(&super::needs(&root, &settings(text), &[]));
        assert_eq!(needs(""), [(Some(0), TWO_MIB, 128)]);
        assert_eq!(
            needs("[region]\npacket_memory_mb = 33\n"),
            [(Some(0), TWO_MIB, 17)]
        );
        assert_eq!(needs("[region]\nhuge_pages = \"off\"\n"), []);
    }

    #[test]
    fn on_several_nodes_it_follows_the_workers_cores_or_the_nics() {
        let fake = Fake::new();
        for node in [0, 1] {
            fake.pool(node, TWO_MIB, 0, 0);
        }
        for (node, cpu) in [(0, 0), (0, 1), (1, 2), (1, 3)] {
            fake.file(
                &format!("/sys/devices/system/node/node{node}/cpu{cpu}/x"),
                "",
            );
        }
        fake.nic("0000:00:02.0", "e1000e", "eth0");
        fake.file("/sys/bus/pci/devices/0000:00:02.0/numa_node", "1");
        let root = fake.root();
        let nics = super::super::nics::nics(&root, None);
        let needs = |text: &str| shown(&super::needs(&root, &settings(text), &nics));
        assert_eq!(needs(""), [(None, TWO_MIB, 128)]);
        let cores = "[workers]\ncores = [1, 2, 3]\n";
        assert_eq!(
            needs(cores),
            [(Some(0), TWO_MIB, 43), (Some(1), TWO_MIB, 86)]
        );
        let link = "[[links]]\nname = \"a\"\ndevice = \"pci:0000:00:02.0\"\n";
        assert_eq!(needs(link), [(Some(1), TWO_MIB, 128)]);
    }

    #[test]
    fn a_region_on_hugetlbfs_takes_whole_pages_for_both_files() {
        let fake = Fake::new();
        fake.pool(0, TWO_MIB, 0, 0);
        fake.file(
            "/proc/self/mounts",
            "h /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n",
        );
        let text =
            "[region]\nhuge_pages = \"off\"\nflows = 65536\npath = \"/dev/hugepages/region\"\n";
        let settings = settings(text);
        let needs = needs(&fake.root(), &settings, &[]);
        let layout = Layout::new(&geometry(&settings)).unwrap();
        let bytes = (layout.total() + layout.control_total()) as u64;
        assert_eq!(shown(&needs), [(Some(0), TWO_MIB, bytes >> 21)]);
        assert_eq!(needs[0].what, What::Region);
    }
}
