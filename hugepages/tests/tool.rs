//! `portgate-hugepages` as a person runs it, against a machine in a folder.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const POOL: &str = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";
const NIC: &str = "sys/bus/pci/devices/0000:00:02.0";
const CONFIG: &str = "[region]\npacket_memory_mb = 64\n\n\
     [[links]]\nname = \"a\"\ndevice = \"pci:0000:00:02.0\"\naddresses = [\"203.0.113.10/24\"]\n";

/// A machine with ten free pages, an IOMMU, vfio-pci, and a NIC that the kernel has.
fn machine() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    file(root, &format!("{POOL}/nr_hugepages"), "10\n");
    file(root, &format!("{POOL}/free_hugepages"), "10\n");
    file(root, &format!("{NIC}/class"), "0x020000\n");
    file(root, &format!("{NIC}/vendor"), "0x8086\n");
    file(root, &format!("{NIC}/device"), "0x10d3\n");
    file(root, &format!("{NIC}/driver_override"), "(null)\n");
    file(root, &format!("{NIC}/net/eth1/operstate"), "up\n");
    file(root, "sys/class/net/eth1/operstate", "up\n");
    file(root, "sys/bus/pci/drivers/e1000e/unbind", "");
    file(root, "sys/bus/pci/drivers/vfio-pci/unbind", "");
    file(root, "sys/bus/pci/drivers_probe", "");
    file(root, "sys/kernel/iommu_groups/3/devices/0000:00:02.0", "");
    symlink("../../drivers/e1000e", root.join(NIC).join("driver")).unwrap();
    symlink(
        "../../../../kernel/iommu_groups/3",
        root.join(NIC).join("iommu_group"),
    )
    .unwrap();
    file(root, "etc/portgate/portgate.toml", CONFIG);
    folder
}

fn file(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn run(root: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portgate-hugepages"));
    command
        .arg("--root")
        .arg(root)
        .args(arguments.split_whitespace());
    command.env("SSH_CONNECTION", "10.2.0.9 40000 10.2.0.1 22");
    command.output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn status_says_what_there_is_and_what_the_configuration_lacks() {
    let machine = machine();
    let (code, text, _) = said(&run(machine.path(), "status"));
    assert_eq!(code, Some(0));
    for expected in [
        "            0     2 MiB           10        10        32\n",
        "IOMMU       on, 1 groups",
        "vfio        vfio-pci is loaded",
        "0000:00:02.0  8086:10d3  e1000e, node ?, IOMMU group 3, eth1 up",
        "32 pages of 2 MiB are needed on node 0 and 10 are reserved: portgate-hugepages reserve",
        "link a: 0000:00:02.0 has e1000e instead of vfio-pci: portgate-hugepages bind --links",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let (_, text, _) = said(&run(machine.path(), "status --json"));
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["pools"][0]["reserved"], 10);
    assert_eq!(shown["needs"][0]["pages"], 32);
    assert_eq!(shown["nics"][0]["driver"], "e1000e");
    assert_eq!(shown["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn pages_are_reserved_as_the_configuration_needs_and_given_back() {
    let machine = machine();
    let file = machine.path().join(POOL).join("nr_hugepages");
    let pages = || fs::read_to_string(&file).unwrap().trim().to_owned();
    let step = "echo 32 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages\n";
    let (_, text, _) = said(&run(machine.path(), "reserve --dry-run"));
    assert_eq!((text.as_str(), pages().as_str()), (step, "10"));
    let (_, text, _) = said(&run(machine.path(), "reserve"));
    assert_eq!((text.as_str(), pages().as_str()), (step, "32"));
    let (_, text, _) = said(&run(machine.path(), "reserve --undo"));
    assert!(text.starts_with("echo 10 > "), "{text}");
    assert_eq!(pages(), "10");
    let (code, text, _) = said(&run(machine.path(), "reserve --undo"));
    assert_eq!((code, text.as_str()), (Some(0), "nothing to do\n"));
}

#[test]
fn a_dry_run_of_bind_prints_the_steps_and_leaves_the_nic_alone() {
    let machine = machine();
    let steps = "echo vfio-pci > /sys/bus/pci/devices/0000:00:02.0/driver_override\n\
                 echo 0000:00:02.0 > /sys/bus/pci/drivers/e1000e/unbind\n\
                 echo 0000:00:02.0 > /sys/bus/pci/drivers_probe\n";
    for nic in ["--links", "eth1", "0000:00:02.0"] {
        let (code, text, _) = said(&run(machine.path(), &format!("bind --dry-run {nic}")));
        assert_eq!((code, text.as_str()), (Some(0), steps));
    }
    let driver_override = machine.path().join(NIC).join("driver_override");
    assert_eq!(fs::read_to_string(driver_override).unwrap(), "(null)\n");
    let (_, text, _) = said(&run(machine.path(), "unbind eth1"));
    assert_eq!(text, "nothing to do\n");
}

#[test]
fn the_nic_of_the_session_is_refused_with_status_2() {
    let machine = machine();
    let route = "eth1 0000020A 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
    file(machine.path(), "proc/net/route", route);
    let (code, text, error) = said(&run(machine.path(), "bind eth1"));
    assert_eq!((code, text.as_str()), (Some(2), ""));
    assert!(
        error.contains("(eth1) carries the session that you are in"),
        "{error}"
    );
    let (code, _, _) = said(&run(machine.path(), "bind eth1 --force --dry-run"));
    assert_eq!(code, Some(0));
    let (code, _, error) = said(&run(machine.path(), "bind eth7"));
    assert_eq!(code, Some(2));
    assert!(
        error.contains("eth7 is no NIC: there are 0000:00:02.0"),
        "{error}"
    );
}

/// The folder is no kernel: nothing happens to the NIC, as when a driver refuses it.
#[test]
fn a_bind_that_the_kernel_does_not_do_fails_with_status_1() {
    let machine = machine();
    let (code, _, error) = said(&run(machine.path(), "bind eth1"));
    assert_eq!(code, Some(1));
    assert!(error.contains("has e1000e and not vfio-pci"), "{error}");
}

#[test]
fn a_configuration_that_is_named_must_be_right() {
    let machine = machine();
    file(machine.path(), "wrong.toml", "[region]\nflows = 3\n");
    let wrong = machine.path().join("wrong.toml");
    let (code, _, error) = said(&run(
        machine.path(),
        &format!("--config {} status", wrong.display()),
    ));
    assert_eq!(code, Some(2));
    assert!(error.contains("region.flows"), "{error}");
}
