//! What keeps a process from its huge pages although they are there.

use serde::Serialize;

use super::Root;

/// Where cgroups (version 2) are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bounds of the process that asks, which a data plane started by it inherits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of memory that may be locked (RLIMIT_MEMLOCK); `None` = any number. A process with CAP_IPC_LOCK
    /// is not bound by it.
    pub memlock_bytes: Option<u64>,
    /// Bounds on huge pages by control groups.
    pub cgroup: Vec<CgroupLimit>,
}

/// The tightest bound on pages of one size, among the process's control group and those above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CgroupLimit {
    /// Size of pages as the kernel writes it here: `2MB`, `1GB`.
    pub size: String,
    /// Bytes at most.
    pub bytes: u64,
    /// The group that says so.
    pub group: String,
}

/// Reads the bounds.
#[must_use]
pub fn limits(root: &Root) -> Limits {
    Limits {
        memlock_bytes: memlock(root),
        cgroup: ["2MB", "1GB"]
            .iter()
            .filter_map(|size| cgroup(root, size))
            .collect(),
    }
}

fn memlock(root: &Root) -> Option<u64> {
    let text = root.text("/proc/self/limits")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cgroup(root: &Root, size: &str) -> Option<CgroupLimit> {
    let text = root.text("/proc/self/cgroup")?;
    let mut group = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut tightest: Option<CgroupLimit> = None;
    while !group.is_empty() {
        for file in ["max", "rsvd.max"] {
            let path = format!("{CGROUPS}{group}/hugetlb.{size}.{file}");
            let Some(bytes) = root.number(&path) else {
                continue; // "max", or no such controller here
            };
            if tightest.as_ref().is_none_or(|found| bytes < found.bytes) {
                tightest = Some(CgroupLimit {
                    size: size.to_owned(),
                    bytes,
                    group: group.to_owned(),
                });
            }
        }
        group = group.rsplit_once('/').map_or("", |(above, _)| above);
    }
    tightest
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn the_tightest_control_group_counts() {
        let fake = Fake::new();
        fake.file("/proc/self/cgroup", "0::/a/b\n");
        fake.file("/sys/fs/cgroup/a/b/hugetlb.2MB.max", "max\n");
        fake.file("/sys/fs/cgroup/a/hugetlb.2MB.max", "8388608\n");
        fake.file("/sys/fs/cgroup/a/b/hugetlb.2MB.rsvd.max", "16777216\n");
        let found = limits(&fake.root()).cgroup;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].bytes, found[0].group.as_str()), (8_388_608, "/a"));
    }

    #[test]
    fn locked_memory_is_a_number_or_unlimited() {
        let fake = Fake::new();
        let head = "Limit                     Soft Limit           Hard Limit           Units\n";
        fake.file(
            "/proc/self/limits",
            &format!(
                "{head}Max locked memory         8388608              8388608              bytes\n"
            ),
        );
        assert_eq!(limits(&fake.root()).memlock_bytes, Some(8_388_608));
        fake.file(
            "/proc/self/limits",
            &format!(
                "{head}Max locked memory         unlimited            unlimited            bytes\n"
            ),
        );
        assert_eq!(limits(&fake.root()).memlock_bytes, None);
    }
}
