//! The CPUs that workers are pinned to: whether they are the workers' alone, and near the NICs.

use std::collections::BTreeSet;

use settings::Settings;

use super::Root;
use super::nics::DEVICES;

/// Where CPUs are.
const CPUS: &str = "/sys/devices/system/cpu";

/// What is likely to slow the pinned workers of these settings down, a sentence each, with what to do. Nothing of it
/// keeps them from working; workers that are not pinned get no advice.
#[must_use]
pub fn advice(root: &Root, settings: &Settings) -> Vec<String> {
    let cores = &settings.workers.cores;
    let mut advice: Vec<_> = shared(root, cores).into_iter().collect();
    let nics = settings.links.iter().flat_map(|link| {
        let addresses = link.device.pci_addresses();
        addresses.into_iter().map(|address| (&link.name, address))
    });
    for (link, address) in nics {
        advice.extend(far(root, cores, link, &address));
    }
    advice
}

/// The NUMA node on which all NICs of these settings are, if the machine says that it is one.
#[must_use]
pub fn nics_node(root: &Root, settings: &Settings) -> Option<u32> {
    let links = settings.links.iter();
    let addresses = links.flat_map(|link| link.device.pci_addresses());
    let nodes: BTreeSet<_> = addresses.map(|address| nic_node(root, &address)).collect();
    match nodes.into_iter().collect::<Vec<_>>()[..] {
        [node] => node,
        _ => None,
    }
}

/// Cores on which the kernel runs other programs, too.
fn shared(root: &Root, cores: &[u16]) -> Option<String> {
    let isolated = root.text(&format!("{CPUS}/isolated"))?;
    let isolated = list(&isolated);
    let shared: Vec<_> = cores
        .iter()
        .filter(|core| !isolated.contains(core))
        .map(u16::to_string)
        .collect();
    let shared = shared.join(",");
    (!shared.is_empty()).then(|| {
        format!(
            "workers.cores: the kernel runs other programs on CPU {shared}, too: start it with isolcpus={shared} \
             nohz_full={shared}"
        )
    })
}

/// Cores on another NUMA node than a link's NIC.
fn far(root: &Root, cores: &[u16], link: &str, address: &str) -> Option<String> {
    let node = nic_node(root, address)?;
    let is_far = |core: &&u16| core_node(root, **core).is_some_and(|other| other != node);
    let far: Vec<_> = cores.iter().filter(is_far).map(u16::to_string).collect();
    let near = root.text(&format!("/sys/devices/system/node/node{node}/cpulist"))?;
    (!far.is_empty()).then(|| {
        format!(
            "workers.cores: CPU {} is on another NUMA node than the NIC of link {link} (node {node}): each frame \
             crosses between them; CPUs of its node are {near}",
            far.join(",")
        )
    })
}

/// -1 where the machine does not say.
fn nic_node(root: &Root, address: &str) -> Option<u32> {
    let node = root.text(&format!("{DEVICES}/{address}/numa_node"))?;
    node.parse().ok()
}

fn core_node(root: &Root, core: u16) -> Option<u32> {
    let names = root.names(&format!("{CPUS}/cpu{core}"));
    let mut nodes = names.iter().filter_map(|name| name.strip_prefix("node"));
    nodes.find_map(|node| node.parse().ok())
}

/// A list as the kernel writes it, `1-3,7`.
fn list(text: &str) -> BTreeSet<u16> {
    let ranges = text.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    /// Two nodes with two CPUs each, of which 1 and 3 are isolated; the NIC is on node 0.
    fn machine() -> Fake {
        let fake = Fake::new();
        fake.file("/sys/devices/system/cpu/isolated", "1,3-3\n");
        for (core, node) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
            fake.file(
                &format!("/sys/devices/system/cpu/cpu{core}/node{node}/x"),
                "",
            );
        }
        fake.file("/sys/devices/system/node/node0/cpulist", "0-1\n");
        for (address, node) in [
            ("0000:00:10.0", 0),
            ("0000:00:11.0", 1),
            ("0000:00:12.0", 0),
        ] {
            fake.file(&format!("{DEVICES}/{address}/numa_node"), &node.to_string());
        }
        fake
    }

    fn settings(cores: &str, devices: &[&str]) -> Settings {
        let mut text = format!("[workers]\ncores = {cores}\n");
        for (at, device) in devices.iter().enumerate() {
            text += &format!("[[links]]\nname = \"l{at}\"\ndevice = \"{device}\"\n");
        }
        settings::load_str(&text).unwrap()
    }

    #[test]
    fn isolated_cores_beside_the_nic_need_no_advice_and_neither_do_floating_workers() {
        let root = machine().root();
        for cores in ["[1]", "[]"] {
            let settings = settings(cores, &["pci:0000:00:10.0", "af_packet:eth1"]);
            assert_eq!(advice(&root, &settings), Vec::<String>::new());
        }
    }

    #[test]
    fn shared_and_far_cores_are_named_with_what_to_do() {
        let fake = machine();
        let settings = settings("[0, 1, 2]", &["pci:0000:00:10.0"]);
        assert_eq!(
            advice(&fake.root(), &settings),
            [
                "workers.cores: the kernel runs other programs on CPU 0,2, too: start it with isolcpus=0,2 \
                 nohz_full=0,2",
                "workers.cores: CPU 2 is on another NUMA node than the NIC of link l0 (node 0): each frame crosses \
                 between them; CPUs of its node are 0-1",
            ]
        );
    }

    #[test]
    fn memory_is_wanted_on_the_node_that_all_nics_share() {
        let fake = machine();
        let node = |devices: &[&str]| nics_node(&fake.root(), &settings("[]", devices));
        assert_eq!(node(&["pci:0000:00:10.0", "pci:0000:00:12.0"]), Some(0));
        assert_eq!(node(&["pci:0000:00:11.0", "af_packet:eth1"]), Some(1));
        assert_eq!(node(&["pci:0000:00:10.0", "pci:0000:00:11.0"]), None);
        assert_eq!(node(&["af_packet:eth1"]), None);
        let bond = "vdev:net_bonding0,mode=1,slave=0000:00:11.0,slave=0000:00:11.0";
        assert_eq!(node(&[bond]), Some(1));
    }
}
