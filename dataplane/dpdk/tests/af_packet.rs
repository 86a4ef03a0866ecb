//! A kernel interface through net_af_packet, on a veth pair in a network namespace of its own.
#![allow(clippy::unwrap_used)]

mod common;
mod raw_socket;

use common::{
    config, content, enter_namespace_with_veth, frame, ip, pool, receive, send, wait_for,
};
use dpdk::{Eal, Error, Interface, Mempool, Port, PortConfig, PortDevice};
use packet::{Burst, Link};
use raw_socket::RawSocket;

/// Experimental EtherType (IEEE 802): nothing in the kernel answers it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

#[test]
fn frames_pass_between_a_port_and_the_far_end_of_its_veth() {
    enter_namespace_with_veth();
    let eal = Eal::init(&config(false)).unwrap();
    let mempool = pool(&eal, "frames");
    one_queue_carries_frames_both_ways(&eal, &mempool);
    several_queues_share_the_frames(&eal, &mempool);
    the_interface_is_left_as_it_was_found();
    a_narrow_interface_lowers_the_mtu(&eal, &mempool);
    jumbo_frames_pass_whole(&eal);
    a_link_that_is_down_is_an_error_at_first_and_a_state_later(&eal, &mempool);
    a_replaced_interface_is_noticed_and_can_be_reopened(&eal, &mempool);
}

fn near() -> PortDevice {
    PortDevice::AfPacket("near".to_owned())
}

/// A frame for and from local addresses, with a payload told by `number`.
fn test_frame(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = content(number, len);
    bytes[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    bytes[12..14].copy_from_slice(&ETHERTYPE);
    bytes
}

fn one_queue_carries_frames_both_ways(eal: &Eal, mempool: &Mempool) {
    let far = RawSocket::open("far");
    let wanted = PortConfig {
        mac: Some([2, 0, 0, 0, 0, 1]),
        ..PortConfig::default()
    };
    let (port, mut queues) = Port::open(eal, &near(), &wanted, mempool).unwrap();
    let info = port.info();
    assert_eq!(info.driver, "net_af_packet");
    assert_eq!((info.mtu, info.rx_queues, info.tx_queues), (1500, 1, 1));
    assert_eq!(info.mac, [2, 0, 0, 0, 0, 1]);
    assert!(
        info.promiscuous,
        "the interface keeps its address, so the port must see all frames"
    );
    assert!(!info.rss);
    let queue = &mut queues[0];
    for (number, len) in [14, 60, 64, 590, 1514].into_iter().enumerate() {
        let bytes = test_frame(number, len);
        far.send(&bytes);
        receive(queue, "the port receives", |frame| {
            (frame == bytes).then_some(())
        });
        let answer = test_frame(number + 100, len);
        let mut frames = Burst::new();
        frames.push(frame(&mut mempool.local(), &answer));
        send(queue, &mut frames);
        far.receive(|frame| frame == answer);
    }
    let stats = port.stats();
    assert!(stats.rx_frames >= 5 && stats.tx_frames == 5, "{stats:?}");
    let interface = stats.interface.unwrap();
    assert!(
        interface.rx_packets >= 5 && interface.tx_packets >= 5,
        "{interface:?}"
    );
    let link = port.link();
    assert!(link.up && !link.replaced, "{link:?}");
    let twice = Port::open(eal, &near(), &wanted, mempool).unwrap_err();
    assert_eq!(twice, Error::AlreadyOpen { device: near() });
}

fn several_queues_share_the_frames(eal: &Eal, mempool: &Mempool) {
    let far = RawSocket::open("far");
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 1,
        ..PortConfig::default()
    };
    let (port, mut queues) = Port::open(eal, &near(), &config, mempool).unwrap();
    assert_eq!((port.info().rx_queues, port.info().tx_queues), (2, 2));
    for number in 0..200 {
        far.send(&test_frame(number, 64 + number));
    }
    let mut seen = [false; 200];
    wait_for("every frame arrives on one of the queues", || {
        for queue in &mut queues {
            let mut frames = Burst::new();
            queue.rx_burst(&mut frames);
            for mbuf in frames {
                let len = packet::Buffer::bytes(&mbuf).len();
                let number = len.checked_sub(64).filter(|&number| number < 200)?;
                assert_eq!(packet::Buffer::bytes(&mbuf), test_frame(number, len));
                assert!(!seen[number], "frame {number} came twice");
                seen[number] = true;
            }
        }
        seen.iter().all(|&seen| seen).then_some(())
    });
}

/// Promiscuous mode and the interface's address outlive neither the port nor a process.
fn the_interface_is_left_as_it_was_found() {
    let output = std::process::Command::new("ip")
        .args(["link", "show", "near"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("PROMISC"), "{text}");
    assert!(!text.contains("02:00:00:00:00:01"), "{text}");
}

fn a_narrow_interface_lowers_the_mtu(eal: &Eal, mempool: &Mempool) {
    ip("link set near mtu 1400");
    let (port, _) = Port::open(eal, &near(), &PortConfig::default(), mempool).unwrap();
    assert_eq!(
        (port.info().mtu, port.info().interface_mtu),
        (1400, Some(1400))
    );
    ip("link set near mtu 1500");
}

fn jumbo_frames_pass_whole(eal: &Eal) {
    ip("link set near mtu 9000");
    ip("link set far mtu 9000");
    let far = RawSocket::open("far");
    let config = PortConfig {
        mtu: 9000,
        ..PortConfig::default()
    };
    let room = near().data_room(9000).unwrap();
    let mempool = Mempool::new(eal, "jumbo", 511, room, 32).unwrap();
    let (port, mut queues) = Port::open(eal, &near(), &config, &mempool).unwrap();
    assert_eq!(port.info().mtu, 9000);
    let bytes = test_frame(9, 9014);
    far.send(&bytes);
    receive(&mut queues[0], "the port receives", |frame| {
        (frame == bytes).then_some(())
    });
    let mut frames = Burst::new();
    frames.push(frame(&mut mempool.local(), &bytes));
    send(&mut queues[0], &mut frames);
    far.receive(|frame| frame == bytes);
    ip("link set near mtu 1500");
    ip("link set far mtu 1500");
}

fn a_link_that_is_down_is_an_error_at_first_and_a_state_later(eal: &Eal, mempool: &Mempool) {
    let (port, _queues) = Port::open(eal, &near(), &PortConfig::default(), mempool).unwrap();
    ip("link set far down");
    assert!(!port.link().up, "no carrier");
    ip("link set far up");
    wait_for("the carrier is back", || port.link().up.then_some(()));
    drop((port, _queues));
    ip("link set near down");
    let error = Port::open(eal, &near(), &PortConfig::default(), mempool).unwrap_err();
    let interface = "near".to_owned();
    assert_eq!(
        error,
        Error::InterfaceDown {
            device: near(),
            interface
        }
    );
    assert!(error.to_string().contains("ip link set near up"), "{error}");
    ip("link set near up");
}

fn a_replaced_interface_is_noticed_and_can_be_reopened(eal: &Eal, mempool: &Mempool) {
    let wanted = PortConfig::default();
    let (port, queues) = Port::open(eal, &near(), &wanted, mempool).unwrap();
    let before = Interface::query("near").unwrap().unwrap();
    assert_eq!(port.info().interface_index, Some(before.index));
    ip("link del near");
    let link = port.link();
    assert!(link.replaced && !link.up, "{link:?}");
    ip("link add near type veth peer name far");
    ip("link set near up");
    ip("link set far up");
    assert!(port.link().replaced, "the same name, but another interface");
    drop((port, queues));
    let (port, mut queues) = Port::open(eal, &near(), &wanted, mempool).unwrap();
    assert!(!port.link().replaced);
    let bytes = test_frame(1, 100);
    RawSocket::open("far").send(&bytes);
    receive(&mut queues[0], "the port receives", |frame| {
        (frame == bytes).then_some(())
    });
}
