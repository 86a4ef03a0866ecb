//! Setting huge pages aside.

use super::need::Need;
use super::pages::{self, ONE_GIB, TWO_MIB};
use super::undo::{Before, PoolBefore};
use super::{HostError, Kernel, Root, Step};

/// So many free pages of one size are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Node; `None` = spread over all by the kernel.
    pub node: Option<u32>,
    /// Bytes of a page, in KiB.
    pub size_kib: u64,
    /// How many.
    pub pages: u64,
}

/// What a configuration wants, added up for each pool.
#[must_use]
pub fn wants(needs: &[Need]) -> Vec<Want> {
    let mut wants: Vec<Want> = Vec::new();
    for need in needs {
        let same = |want: &&mut Want| (want.node, want.size_kib) == (need.node, need.size_kib);
        match wants.iter_mut().find(same) {
            Some(want) => want.pages += need.pages,
            None => wants.push(Want {
                node: need.node,
                size_kib: need.size_kib,
                pages: need.pages,
            }),
        }
    }
    wants
}

/// The step that will do, if there are not enough free pages yet.
///
/// # Errors
///
/// [`HostError::Refused`] for pages that this kernel does not have, or does not have at run time.
pub fn plan(root: &Root, want: Want) -> Result<Option<Step>, HostError> {
    let Want {
        node,
        size_kib,
        pages,
    } = want;
    let pool = pages::pool(root, node, size_kib).ok_or_else(|| {
        let place = node.map_or(String::new(), |node| format!(" on node {node}"));
        let size = pages::size(size_kib);
        HostError::Refused(format!("this machine has no huge pages of {size}{place}"))
    })?;
    if pool.free >= pages {
        return Ok(None);
    }
    if size_kib > TWO_MIB {
        return Err(HostError::Refused(boot_parameter(root, want)));
    }
    let wanted = pool.reserved + pages - pool.free;
    Ok(Some(pages::set(node, size_kib, wanted)))
}

/// Sees to it that the pages are free, and keeps what was before.
///
/// # Errors
///
/// [`HostError`] as [`plan`], or if there is not enough memory in one piece; nothing is changed then.
pub fn reserve(root: &Root, kernel: &mut dyn Kernel, want: Want) -> Result<(), HostError> {
    if plan(root, want)?.is_none() {
        return Ok(());
    }
    let mut before = Before::load(root)?;
    let added = pages::ensure_free(root, kernel, want.node, want.size_kib, want.pages)?;
    let is_same = |pool: &PoolBefore| (pool.node, pool.size_kib) == (want.node, want.size_kib);
    if !before.pools.iter().any(is_same) {
        before.pools.push(PoolBefore {
            node: want.node,
            size_kib: want.size_kib,
            reserved: added.before,
        });
    }
    before.save(root)
}

/// The steps that set all pools to what they had before the first reservation.
///
/// # Errors
///
/// [`HostError`] if what was before is not known.
pub fn plan_undo(root: &Root) -> Result<Vec<Step>, HostError> {
    let before = Before::load(root)?;
    let set = |pool: &PoolBefore| pages::set(pool.node, pool.size_kib, pool.reserved);
    Ok(before.pools.iter().map(set).collect())
}

/// Sets all pools to what they had before the first reservation. Pages in use go when they are no longer.
///
/// # Errors
///
/// [`HostError`] if what was before is not known, or the kernel refuses.
pub fn undo(root: &Root, kernel: &mut dyn Kernel) -> Result<(), HostError> {
    for step in plan_undo(root)? {
        step.apply(kernel)?;
    }
    let mut before = Before::load(root)?;
    before.pools.clear();
    before.save(root)
}

/// How to have large pages: memory in pieces so large is there for sure at boot alone.
#[must_use]
pub fn boot_parameter(root: &Root, want: Want) -> String {
    let Want {
        node,
        size_kib,
        pages,
    } = want;
    let letter = if size_kib.is_multiple_of(ONE_GIB) {
        format!("{}G", size_kib / ONE_GIB)
    } else {
        format!("{}M", size_kib / 1024)
    };
    let count = node.map_or(pages.to_string(), |node| format!("{node}:{pages}"));
    let words = format!("hugepagesz={letter} hugepages={count}");
    let how = if root.has("/etc/default/grub") {
        format!(
            "write this line to /etc/default/grub.d/portgate.cfg, run update-grub and boot again:\n\
             GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {words}\""
        )
    } else {
        format!("add this to the kernel's command line and boot again:\n{words}")
    };
    let size = pages::size(size_kib);
    format!("pages of {size} are set aside at boot: {how}")
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::need::What;
    use super::*;

    fn want(pages: u64) -> Want {
        Want {
            node: Some(0),
            size_kib: TWO_MIB,
            pages,
        }
    }

    #[test]
    fn a_plan_is_the_step_and_changes_nothing() {
        let fake = Fake::new();
        fake.pool(0, TWO_MIB, 10, 4);
        let root = fake.root();
        let step = plan(&root, want(20)).unwrap().unwrap();
        let path = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
        assert_eq!(step.to_string(), format!("echo 26 > {path}"));
        assert_eq!(root.number(path), Some(10));
        assert_eq!(plan(&root, want(4)).unwrap(), None);
    }

    #[test]
    fn two_reservations_are_undone_at_once() {
        let mut fake = Fake::new();
        fake.pool(0, TWO_MIB, 10, 4);
        let root = fake.root();
        reserve(&root, &mut fake, want(20)).unwrap();
        reserve(&root, &mut fake, want(30)).unwrap();
        assert_eq!(pages::pool(&root, Some(0), TWO_MIB).unwrap().reserved, 36);
        undo(&root, &mut fake).unwrap();
        assert_eq!(pages::pool(&root, Some(0), TWO_MIB).unwrap().reserved, 10);
        assert_eq!(plan_undo(&root).unwrap(), []);
    }

    #[test]
    fn pages_of_1_gib_come_with_the_line_to_add() {
        let fake = Fake::new();
        fake.pool(0, ONE_GIB, 0, 0);
        let root = fake.root();
        let want = Want {
            node: Some(0),
            size_kib: ONE_GIB,
            pages: 4,
        };
        let error = plan(&root, want).unwrap_err().to_string();
        assert!(error.ends_with("\nhugepagesz=1G hugepages=0:4"), "{error}");
        fake.file("/etc/default/grub", "");
        let error = plan(&root, want).unwrap_err().to_string();
        let line = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX hugepagesz=1G hugepages=0:4\"";
        assert!(error.ends_with(line), "{error}");
        fake.pool(0, ONE_GIB, 4, 4);
        assert_eq!(plan(&root, want).unwrap(), None);
    }

    #[test]
    fn needs_of_one_pool_are_added_up() {
        let need = |pages, what| Need {
            node: None,
            size_kib: TWO_MIB,
            pages,
            what,
        };
        let wants = wants(&[need(5, What::Packets), need(7, What::Region)]);
        assert_eq!(wants.len(), 1);
        assert_eq!(wants[0].pages, 12);
    }
}
