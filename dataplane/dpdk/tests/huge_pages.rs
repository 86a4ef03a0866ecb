//! The same pools and frames on huge pages, if this machine has some to spare.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;

use common::{config, content, frame, pool, receive, send};
use dpdk::{Eal, Port, PortConfig, PortDevice};
use packet::Burst;

/// 64 MiB, as the tests' configuration says.
const PAGES: u64 = 32;

#[test]
fn packet_memory_comes_from_huge_pages_and_leaves_no_file() {
    let free_before = free_pages();
    if free_before < PAGES {
        // Not by a macro: the test harness would swallow it.
        let text = format!(
            "SKIPPED: {PAGES} free huge pages of 2 MiB are needed, {free_before} are free \
             (echo {PAGES} > /proc/sys/vm/nr_hugepages)\n"
        );
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    }
    let eal = Eal::init(&config(true)).unwrap();
    assert!(
        mapped_huge_memory_kb() >= PAGES * 2048,
        "{} kB",
        mapped_huge_memory_kb()
    );
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(
        descriptors < PAGES as usize,
        "{descriptors} descriptors: one a page?"
    );
    let prefix = config(true).file_prefix;
    let left = fs::read_dir("/dev/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    assert_eq!(
        left.filter(|file| file.file_name().to_string_lossy().starts_with(&prefix))
            .count(),
        0
    );
    let mempool = pool(&eal, "frames");
    let device = PortDevice::Vdev("net_ring0".to_owned());
    let (_port, mut queues) = Port::open(&eal, &device, &PortConfig::default(), &mempool).unwrap();
    let bytes = content(5, 1514);
    let mut frames = Burst::new();
    frames.push(frame(&mut mempool.local(), &bytes));
    send(&mut queues[0], &mut frames);
    receive(&mut queues[0], "the frame comes back", |frame| {
        (frame == bytes).then_some(())
    });
    assert_eq!(mempool.available(), mempool.count());
}

fn free_pages() -> u64 {
    let text = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Of this process alone: others may take huge pages at the same time.
fn mapped_huge_memory_kb() -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let huge = smaps.lines().filter(|line| line.contains("_Hugetlb:"));
    huge.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}
