//! Filesystems on huge pages.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Root;
use super::pages::TWO_MIB;

/// One mounted hugetlbfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Bytes of its pages, in KiB.
    pub size_kib: u64,
}

/// All mounted hugetlbfs, as this process sees them.
#[must_use]
pub fn mounts(root: &Root) -> Vec<Mount> {
    let text = root.text("/proc/self/mounts").unwrap_or_default();
    let default = default_size(root);
    text.lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, path, "hugetlbfs", options, ..] = fields[..] else {
                return None;
            };
            let size = options
                .split(',')
                .find_map(|option| option.strip_prefix("pagesize="));
            Some(Mount {
                path: unescape(path).into(),
                size_kib: size.map_or(Some(default), kib)?,
            })
        })
        .collect()
}

/// The hugetlbfs that a file would lie on, if any.
#[must_use]
pub fn mount_of<'a>(mounts: &'a [Mount], file: &Path) -> Option<&'a Mount> {
    let holding = mounts.iter().filter(|mount| file.starts_with(&mount.path));
    holding.max_by_key(|mount| mount.path.components().count())
}

/// Size of pages where none is said (`Hugepagesize` of /proc/meminfo), in KiB.
fn default_size(root: &Root) -> u64 {
    let text = root.text("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Hugepagesize:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(TWO_MIB)
}

/// `2M`, `1024M`, `1G` as mount options have it, in KiB.
fn kib(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
    let factor = match unit {
        "K" | "k" => 1,
        "M" | "m" => 1 << 10,
        "G" | "g" => 1 << 20,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()? * factor)
}

/// The kernel writes spaces, tabs, newlines and backslashes of paths in octal.
fn unescape(path: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(path.to_owned(), |path, (code, text)| {
        path.replace(code, text)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn mounts_tell_their_page_size_or_have_the_default() {
        let fake = Fake::new();
        fake.file(
            "/proc/meminfo",
            "MemTotal: 1 kB\nHugepagesize:       2048 kB\n",
        );
        fake.file(
            "/proc/self/mounts",
            "tmpfs /dev/shm tmpfs rw 0 0\n\
             hugetlbfs /dev/hugepages hugetlbfs rw,relatime 0 0\n\
             none /mnt/a\\040b hugetlbfs rw,pagesize=1024M 0 0\n",
        );
        let mounts = mounts(&fake.root());
        let shown: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.path.to_str().unwrap(), mount.size_kib))
            .collect();
        assert_eq!(shown, [("/dev/hugepages", 2048), ("/mnt/a b", 1 << 20)]);
        let found = mount_of(&mounts, Path::new("/mnt/a b/portgate/region"));
        assert_eq!(found, Some(&mounts[1]));
        assert_eq!(mount_of(&mounts, Path::new("/dev/shm/region")), None);
    }
}
