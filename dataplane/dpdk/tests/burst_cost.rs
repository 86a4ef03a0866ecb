//! What a burst costs on the packet path, without a device's own cost: net_ring, one lcore.
//!
//! Found on a quiet two-core EPYC machine with DPDK 22.11: 0.93 ns a frame for tx and rx, 10.4 for
//! alloc and free in bulk, 11.2 when freed one by one.
//!
//! `cargo test --release -p dpdk --test burst_cost -- --ignored --nocapture`
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use common::{config, pool};
use dpdk::{Eal, EalConfig, LcorePlan, Mbuf, Port, PortConfig, PortDevice, Queue};
use packet::{BURST, Burst, Link};

const BURSTS: u32 = 2_000_000;

#[test]
#[ignore = "a measurement: wants a quiet machine and a release build"]
fn sending_and_receiving_a_burst_of_32_on_a_ring() {
    let lcore = |id, cpu| LcorePlan { id, cpu: Some(cpu) };
    let eal = Eal::init(&EalConfig {
        lcores: vec![lcore(0, 0), lcore(1, 1)],
        ..config(false)
    });
    let eal = eal.unwrap();
    let mempool = pool(&eal, "frames");
    let device = PortDevice::Vdev("net_ring0".to_owned());
    let (_port, mut queues) = Port::open(&eal, &device, &PortConfig::default(), &mempool).unwrap();
    let mut queue = queues.remove(0);
    let worker = eal.launch(1, move || {
        let mut local = mempool.local();
        let mut frames = Burst::new();
        local.alloc_burst(&mut frames);
        let bare: Vec<f64> = (0..5)
            .map(|_| round_trips(&mut queue, &mut frames))
            .collect();
        Mbuf::free_bulk(&mut frames);
        let start = Instant::now();
        for _ in 0..BURSTS {
            local.alloc_burst(&mut frames);
            Mbuf::free_bulk(&mut frames);
        }
        let bulk = per_frame(start);
        let start = Instant::now();
        for _ in 0..BURSTS {
            local.alloc_burst(&mut frames);
            frames.clear();
        }
        (bare, bulk, per_frame(start))
    });
    let (bare, bulk, one_by_one) = worker.unwrap().join().unwrap();
    println!("tx + rx of 32: {bare:.2?} ns a frame");
    println!("alloc + free of 32, in bulk: {bulk:.2}, freed one by one: {one_by_one:.2}");
    assert!(
        bare.iter().all(|&cost| cost < 100.0),
        "a call into C for each frame? {bare:?}"
    );
}

fn round_trips(queue: &mut Queue, frames: &mut Burst<Mbuf>) -> f64 {
    let start = Instant::now();
    for _ in 0..BURSTS {
        assert_eq!(queue.tx_burst(frames), BURST);
        assert_eq!(queue.rx_burst(frames), BURST);
    }
    per_frame(start)
}

fn per_frame(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / f64::from(BURSTS) / BURST as f64
}
