//! Pools of huge pages: how many the kernel has set aside, and how many nobody has taken.

use serde::Serialize;

use super::{HostError, Kernel, Root, Step};

/// Pages of 2 MiB, in KiB.
pub const TWO_MIB: u64 = 2048;

/// Pages of 1 GiB, in KiB.
pub const ONE_GIB: u64 = 1 << 20;

/// Where the kernel shows the whole machine's pools, and below each node that node's.
const MACHINE: &str = "/sys/kernel/mm/hugepages";
const NODES: &str = "/sys/devices/system/node";

/// The pages of one size, of a NUMA node or of the whole machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// NUMA node; `None` for a kernel that knows no nodes, or for all together.
    pub node: Option<u32>,
    /// Bytes of a page, in KiB.
    pub size_kib: u64,
    /// Pages set aside (`nr_hugepages`).
    pub reserved: u64,
    /// Pages that nobody has taken (`free_hugepages`).
    pub free: u64,
}

/// All pools, by node and size.
#[must_use]
pub fn pools(root: &Root) -> Vec<Pool> {
    let nodes = nodes(root);
    let owners: Vec<_> = if nodes.is_empty() {
        vec![None]
    } else {
        nodes.into_iter().map(Some).collect()
    };
    let of = |node: Option<u32>| {
        let mut sizes = sizes(root, node);
        sizes.sort_unstable();
        sizes
            .into_iter()
            .filter_map(move |size| pool(root, node, size))
    };
    owners.into_iter().flat_map(of).collect()
}

/// NUMA nodes of the machine, as the kernel numbers them.
#[must_use]
pub fn nodes(root: &Root) -> Vec<u32> {
    let names = root.names(NODES);
    let mut nodes: Vec<u32> = names
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .collect();
    nodes.sort_unstable();
    nodes
}

/// The NUMA node that a CPU belongs to.
#[must_use]
pub fn node_of_cpu(root: &Root, cpu: u16) -> Option<u32> {
    nodes(root)
        .into_iter()
        .find(|node| root.has(&format!("{NODES}/node{node}/cpu{cpu}")))
}

/// One pool; `None` if the kernel has no pages of this size.
#[must_use]
pub fn pool(root: &Root, node: Option<u32>, size_kib: u64) -> Option<Pool> {
    let folder = folder(node, size_kib);
    Some(Pool {
        node,
        size_kib,
        reserved: root.number(&format!("{folder}/nr_hugepages"))?,
        free: root.number(&format!("{folder}/free_hugepages"))?,
    })
}

/// The step that sets a pool to `count` pages.
#[must_use]
pub fn set(node: Option<u32>, size_kib: u64, count: u64) -> Step {
    Step::write(format!("{}/nr_hugepages", folder(node, size_kib)), count)
}

/// Pages that were added to a pool; given back by [`give_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// Node of the pool, `None` for all.
    pub node: Option<u32>,
    /// Bytes of a page, in KiB.
    pub size_kib: u64,
    /// Pages set aside before.
    pub before: u64,
    /// Pages added.
    pub count: u64,
}

/// Sees to it that at least `count` pages of a pool are free.
///
/// # Errors
///
/// [`HostError`] if the kernel has no such pages, lacks the right, or finds too little memory in one piece; the
/// pool then is as it was.
pub fn ensure_free(
    root: &Root,
    kernel: &mut dyn Kernel,
    node: Option<u32>,
    size_kib: u64,
    count: u64,
) -> Result<Added, HostError> {
    let none = || HostError::Refused(format!("this kernel has no pages of {}", size(size_kib)));
    let before = pool(root, node, size_kib).ok_or_else(none)?;
    let wanted = before.reserved + count.saturating_sub(before.free);
    let added = Added {
        node,
        size_kib,
        before: before.reserved,
        count: wanted - before.reserved,
    };
    if added.count == 0 {
        return Ok(added);
    }
    set(node, size_kib, wanted).apply(kernel)?;
    let got = pool(root, node, size_kib).map_or(0, |pool| pool.reserved);
    if got >= wanted {
        return Ok(added);
    }
    set(node, size_kib, before.reserved).apply(kernel)?;
    Err(HostError::Failed(format!(
        "{count} free pages of {} are wanted, and the kernel found memory in one piece for {} only: \
         reserve them earlier after boot, or by boot parameter",
        size(size_kib),
        before.free + got.saturating_sub(before.reserved),
    )))
}

/// Takes away what was added: others may have reserved some meanwhile. Pages in use go when they no longer are.
///
/// # Errors
///
/// [`HostError::Failed`] with what the kernel said.
pub fn give_back(root: &Root, kernel: &mut dyn Kernel, added: Added) -> Result<(), HostError> {
    let now = pool(root, added.node, added.size_kib).map_or(0, |pool| pool.reserved);
    if added.count == 0 {
        return Ok(());
    }
    set(added.node, added.size_kib, now.saturating_sub(added.count)).apply(kernel)
}

/// A size of pages for people.
#[must_use]
pub fn size(kib: u64) -> String {
    match kib {
        _ if kib.is_multiple_of(ONE_GIB) => format!("{} GiB", kib / ONE_GIB),
        _ if kib.is_multiple_of(1024) => format!("{} MiB", kib / 1024),
        _ => format!("{kib} KiB"),
    }
}

fn sizes(root: &Root, node: Option<u32>) -> Vec<u64> {
    let folder = node.map_or(MACHINE.to_owned(), |node| {
        format!("{NODES}/node{node}/hugepages")
    });
    let names = root.names(&folder);
    names
        .iter()
        .filter_map(|name| {
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            size.parse().ok()
        })
        .collect()
}

fn folder(node: Option<u32>, size_kib: u64) -> String {
    match node {
        None => format!("{MACHINE}/hugepages-{size_kib}kB"),
        Some(node) => format!("{NODES}/node{node}/hugepages/hugepages-{size_kib}kB"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn pools_are_read_for_each_node_and_size() {
        let fake = Fake::new();
        fake.pool(0, TWO_MIB, 100, 40);
        fake.pool(1, ONE_GIB, 2, 2);
        let shown: Vec<_> = pools(&fake.root())
            .iter()
            .map(|pool| (pool.node, pool.size_kib, pool.reserved, pool.free))
            .collect();
        let expected = [(Some(0), TWO_MIB, 100, 40), (Some(1), ONE_GIB, 2, 2)];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_machine_without_nodes_has_pools_all_the_same() {
        let fake = Fake::new();
        fake.file(
            "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "7",
        );
        fake.file(
            "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
            "5",
        );
        let pools = pools(&fake.root());
        assert_eq!(pools.len(), 1);
        assert_eq!(
            (pools[0].node, pools[0].reserved, pools[0].free),
            (None, 7, 5)
        );
    }

    #[test]
    fn what_is_free_already_is_not_reserved_again_and_what_was_added_goes_back() {
        let mut fake = Fake::new();
        fake.pool(0, TWO_MIB, 100, 40);
        let root = fake.root();
        let added = ensure_free(&root, &mut fake, Some(0), TWO_MIB, 64).unwrap();
        assert_eq!((added.before, added.count), (100, 24));
        assert_eq!(pool(&root, Some(0), TWO_MIB).unwrap().reserved, 124);
        give_back(&root, &mut fake, added).unwrap();
        assert_eq!(pool(&root, Some(0), TWO_MIB).unwrap().reserved, 100);
        let enough = ensure_free(&root, &mut fake, Some(0), TWO_MIB, 40).unwrap();
        assert_eq!(enough.count, 0);
    }

    #[test]
    fn a_pool_that_cannot_grow_is_left_as_it_was() {
        let mut fake = Fake::new();
        fake.pool(0, TWO_MIB, 10, 10);
        fake.most_pages = Some(30);
        let root = fake.root();
        let error = ensure_free(&root, &mut fake, Some(0), TWO_MIB, 64).unwrap_err();
        assert!(error.to_string().contains("for 30 only"), "{error}");
        assert_eq!(error.exit_code(), 1);
        assert_eq!(pool(&root, Some(0), TWO_MIB).unwrap().reserved, 10);
        let error = ensure_free(&root, &mut fake, Some(0), ONE_GIB, 1).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no pages of 1 GiB");
        assert_eq!(error.exit_code(), 2);
    }
}
