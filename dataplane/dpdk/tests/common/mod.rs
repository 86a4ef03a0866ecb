//! What the tests of this crate share. EAL starts once a process, so each file is one test that
//! makes several checks.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dpdk::{Eal, EalConfig, LcorePlan, LogLevel, Mbuf, Mempool, Queue};
use packet::{Buffer, Burst, Link, Pool};

/// Two lcores that float over all CPUs.
pub(crate) fn config(huge_pages: bool) -> EalConfig {
    let lcore = |id| LcorePlan { id, cpu: None };
    EalConfig {
        huge_pages,
        memory_mb: 64,
        lcores: vec![lcore(0), lcore(1)],
        vdevs: vec![],
        pci_allow: vec![],
        file_prefix: format!("portgate-test-{}", std::process::id()),
        log_level: LogLevel::Warning,
    }
}

/// A frame that differs from those with other numbers in every byte.
pub(crate) fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|position| (number * 7 + position * 3) as u8)
        .collect()
}

pub(crate) fn frame(pool: &mut impl Pool<Buffer = Mbuf>, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().expect("the pool has a buffer left");
    assert!(mbuf.bytes().is_empty(), "fresh buffers are empty");
    assert!(mbuf.set_len(bytes.len()));
    mbuf.bytes_mut().copy_from_slice(bytes);
    mbuf
}

/// Sends all of `frames`, or panics as [`wait_for`] does.
pub(crate) fn send(queue: &mut Queue, frames: &mut Burst<Mbuf>) {
    wait_for("the queue takes every frame", || {
        queue.tx_burst(frames);
        frames.is_empty().then_some(())
    });
}

/// Receives until `wanted` finds a frame it likes, or panics as [`wait_for`] does.
pub(crate) fn receive<T>(queue: &mut Queue, what: &str, wanted: impl Fn(&[u8]) -> Option<T>) -> T {
    wait_for(what, || {
        let mut frames = Burst::new();
        queue.rx_burst(&mut frames);
        frames.iter().find_map(|frame| wanted(frame.bytes()))
    })
}

pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "waited in vain: {what}"
        );
        thread::sleep(Duration::from_micros(100));
    }
}

pub(crate) fn pool(eal: &Eal, name: &str) -> Mempool {
    Mempool::new(eal, name, 4095, 2176, 256).unwrap()
}

/// Moves the calling thread into a network namespace of its own, which vanishes with it, and lays
/// a veth pair `near`–`far` there, up, without IPv6.
pub(crate) fn enter_namespace_with_veth() {
    // SAFETY: only changes the calling thread's network namespace.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(
        result,
        0,
        "this test needs root: {}",
        std::io::Error::last_os_error()
    );
    for entry in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{entry}/disable_ipv6");
        // Absent in a kernel without IPv6, which is as good.
        let _ = std::fs::write(path, "1");
    }
    ip("link add near type veth peer name far");
    ip("link set near up");
    ip("link set far up");
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}
