//! A kernel interface through net_af_xdp, on a veth pair in a network namespace of its own.
#![allow(clippy::unwrap_used)]

mod common;
mod raw_socket;

use common::{config, content, enter_namespace_with_veth, frame, ip, pool, receive, send};
use dpdk::{Eal, Error, Mempool, Port, PortConfig, PortDevice};
use packet::Burst;
use raw_socket::RawSocket;

#[test]
fn frames_pass_over_af_xdp_with_one_queue_and_up_to_its_mtu() {
    enter_namespace_with_veth();
    let eal = Eal::init(&config(false)).unwrap();
    let wanted = PortConfig {
        rx_queues: 2,
        tx_queues: 2,
        ..PortConfig::default()
    };
    let mempool = pool(&eal, "frames");
    let (port, queues) = frames_pass(&eal, &mempool, &wanted, 1514);
    assert_eq!(port.info().driver, "net_af_xdp");
    assert_eq!((port.info().rx_queues, port.info().tx_queues), (1, 1));
    let has: Vec<_> = queues
        .iter()
        .map(|queue| (queue.has_rx(), queue.has_tx()))
        .collect();
    assert_eq!(has, [(true, true), (false, false)]);
    assert!(port.link().up);
    drop((port, queues));
    // The driver of 22.11 keeps its socket when it is closed, so that the same interface cannot be
    // opened again by this process; one that was deleted and made anew can.
    ip("link del near");
    for command in [
        "add near mtu 3400 type veth peer name far mtu 3400",
        "set near up",
        "set far up",
    ] {
        ip(&format!("link {command}"));
    }
    let room = near().data_room(3400).unwrap();
    let large = Mempool::new(&eal, "large", 4095, room, 256).unwrap();
    let wanted = PortConfig {
        mtu: 3400,
        ..PortConfig::default()
    };
    let (port, _queues) = frames_pass(&eal, &large, &wanted, 3414);
    assert_eq!(port.info().mtu, 3400);
    let wanted = PortConfig {
        mtu: 9000,
        ..PortConfig::default()
    };
    let error = Port::open(&eal, &near(), &wanted, &large).unwrap_err();
    assert!(matches!(error, Error::Mtu { mtu: 9000, .. }), "{error}");
}

fn near() -> PortDevice {
    PortDevice::AfXdp("near".to_owned())
}

/// Opens the port and passes frames of up to `longest` bytes both ways.
fn frames_pass(
    eal: &Eal,
    mempool: &Mempool,
    wanted: &PortConfig,
    longest: usize,
) -> (Port, Vec<dpdk::Queue>) {
    let (port, mut queues) = Port::open(eal, &near(), wanted, mempool).unwrap();
    let far = RawSocket::open("far");
    for (number, len) in [60, 590, longest].into_iter().enumerate() {
        let mut bytes = content(number, len);
        bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
        far.send(&bytes);
        receive(&mut queues[0], "the port receives", |frame| {
            (frame == bytes).then_some(())
        });
        bytes.reverse();
        let mut frames = Burst::new();
        frames.push(frame(&mut mempool.local(), &bytes));
        send(&mut queues[0], &mut frames);
        far.receive(|frame| frame == bytes);
    }
    (port, queues)
}
