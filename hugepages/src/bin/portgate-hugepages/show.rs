//! `status` for people.

use std::fmt::Write;

use hugepages::host::iommu::{Iommu, Presence};
use hugepages::host::limits::Limits;
use hugepages::host::nics::{Interface, Nic};
use hugepages::host::pages::size;
use hugepages::host::routes::Use;
use hugepages::host::status::Status;

/// Everything, a section each.
pub(crate) fn status(status: &Status) -> String {
    let mut out = String::new();
    pages(&mut out, status);
    let mounts = status
        .mounts
        .iter()
        .map(|mount| format!("{} ({})", mount.path.display(), size(mount.size_kib)));
    line(&mut out, "mounts", &list(mounts));
    limits(&mut out, &status.limits);
    iommu(&mut out, &status.iommu);
    if status.nics.is_empty() {
        line(&mut out, "NICs", "none on the PCI bus");
    }
    for (at, one) in status.nics.iter().enumerate() {
        line(&mut out, if at == 0 { "NICs" } else { "" }, &nic(one));
    }
    match (&status.needs, status.problems.is_empty()) {
        (None, _) => line(
            &mut out,
            "problems",
            "not looked for: there is no configuration",
        ),
        (Some(_), true) => line(&mut out, "problems", "none"),
        (Some(_), false) => {
            for (at, problem) in status.problems.iter().enumerate() {
                line(&mut out, if at == 0 { "problems" } else { "" }, problem);
            }
        }
    }
    for (at, advice) in status.advice.iter().enumerate() {
        line(&mut out, if at == 0 { "advice" } else { "" }, advice);
    }
    out
}

fn pages(out: &mut String, status: &Status) {
    if status.pools.is_empty() {
        return line(out, "huge pages", "this kernel has none");
    }
    let node = |node: Option<u32>| node.map_or("all".to_owned(), |node| node.to_string());
    let row = |node: &str, size: &str, reserved: &str, free: &str, needed: &str| {
        format!("{node:<6}{size:<8}{reserved:>10}{free:>10}{needed:>10}")
    };
    line(
        out,
        "huge pages",
        &row("node", "size", "reserved", "free", "needed"),
    );
    let needed = |place, size| match status.needs {
        Some(_) => status.needed(place, size).to_string(),
        None => "?".to_owned(),
    };
    for pool in &status.pools {
        let (reserved, free) = (pool.reserved.to_string(), pool.free.to_string());
        let needed = needed(pool.node, pool.size_kib);
        line(
            out,
            "",
            &row(
                &node(pool.node),
                &size(pool.size_kib),
                &reserved,
                &free,
                &needed,
            ),
        );
    }
    // What may come from any node stands in no pool's row.
    let anywhere = status.needs.iter().flatten().filter(|need| {
        !status
            .pools
            .iter()
            .any(|pool| (pool.node, pool.size_kib) == (need.node, need.size_kib))
    });
    for need in anywhere {
        line(
            out,
            "",
            &row(
                &node(need.node),
                &size(need.size_kib),
                "",
                "",
                &need.pages.to_string(),
            ),
        );
    }
}

fn limits(out: &mut String, limits: &Limits) {
    let memlock = match limits.memlock_bytes {
        Some(bytes) => format!("locked memory {} KiB", bytes / 1024),
        None => "locked memory unlimited".to_owned(),
    };
    let cgroup = limits.cgroup.iter().map(|limit| {
        format!(
            "{} bytes of huge pages of {} (control group {})",
            limit.bytes, limit.size, limit.group
        )
    });
    let all: Vec<_> = std::iter::once(memlock).chain(cgroup).collect();
    line(out, "limits", &all.join(", "));
}

fn iommu(out: &mut String, iommu: &Iommu) {
    let state = if iommu.is_on() {
        let units = list(iommu.units.iter().cloned());
        format!("on, {} groups, units: {units}", iommu.groups)
    } else {
        "off, or there is none".to_owned()
    };
    line(out, "IOMMU", &state);
    let vfio = match iommu.vfio_pci {
        Presence::Loaded => "vfio-pci is loaded",
        Presence::Module => "vfio-pci is a module that can be loaded",
        Presence::Missing => "this kernel has no vfio-pci",
    };
    let unsafe_mode = match iommu.unsafe_no_iommu {
        Some(true) => ", gives devices away without an IOMMU, too",
        _ => "",
    };
    line(out, "vfio", &format!("{vfio}{unsafe_mode}"));
}

fn nic(nic: &Nic) -> String {
    let mut text = format!("{}  {}  ", nic.address, nic.id);
    let driver = nic.driver.as_deref().unwrap_or("no driver");
    let node = nic.node.map_or("?".to_owned(), |node| node.to_string());
    let group = nic.group.as_deref().unwrap_or("none");
    // Writing into a String cannot fail.
    let _ = write!(text, "{driver}, node {node}, IOMMU group {group}");
    for one in &nic.interfaces {
        let _ = write!(text, ", {}", interface(one));
    }
    text
}

fn interface(interface: &Interface) -> String {
    let state = if interface.up { "up" } else { "down" };
    let speed = interface
        .speed_mbps
        .map_or(String::new(), |speed| format!(" {speed} Mbit/s"));
    let uses = interface.needed_for.iter().map(|why| match why {
        Use::DefaultRoute => " (default route)",
        Use::Session => " (your session)",
    });
    format!(
        "{} {state}{speed}{}",
        interface.name,
        uses.collect::<String>()
    )
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

fn line(out: &mut String, head: &str, text: &str) {
    let line = format!("{head:<12}{text}");
    out.push_str(line.trim_end());
    out.push('\n');
}
