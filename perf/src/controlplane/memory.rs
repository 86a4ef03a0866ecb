//! How much memory a process has in use, the region's pages apart.

use std::fs;
use std::path::Path;

use crate::Error;
use crate::record::controlplane::Memory;

/// Of this process: the resident pages of each mapping, as `/proc/self/smaps` has them (proc(5)).
pub(super) fn of_this_process(region: &Path) -> Result<Memory, Error> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .map_err(|error| Error::Run(format!("{path} is unreadable: {error}")))
    };
    let (own, of_region) = resident(&read("/proc/self/smaps")?, region);
    Ok(Memory {
        own,
        region: of_region,
    })
}

/// Bytes resident of all mappings but that of the region's file, and of that one.
fn resident(smaps: &str, region: &Path) -> (u64, u64) {
    let name = region.to_string_lossy();
    let (mut own, mut of_region, mut is_region) = (0, 0, false);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:") => {
                let kib: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                *if is_region { &mut of_region } else { &mut own } += kib << 10;
            }
            // "7f1-7f2 rw-s 00000000 00:19 77  /dev/shm/x/region"
            Some(first) if !first.ends_with(':') => is_region = line.ends_with(&*name),
            _ => {}
        }
    }
    (own, of_region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_regions_pages_are_told_from_the_others() {
        let smaps = "\
55d0-55d1 r-xp 00000000 fe:00 12      /usr/bin/perf
Size:                 40 kB
Rss:                  12 kB
7f10-7f20 rw-s 00000000 00:19 77      /dev/shm/x/region
Rss:                1000 kB
Pss:                 500 kB
7f30-7f40 rw-p 00000000 00:00 0
Rss:                   8 kB
VmFlags: rd wr
";
        let sizes = resident(smaps, Path::new("/dev/shm/x/region"));
        assert_eq!(sizes, (20 << 10, 1000 << 10));
        assert!(of_this_process(Path::new("/nowhere")).unwrap().own > 1 << 20);
    }
}
