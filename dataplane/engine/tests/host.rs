//! Frames for the host's own programs: which ones it gets, how many, and what it never sees.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use engine::counters::Total;
use engine::{Host, Reason};
use packet::Buffer;
use packet::build::FrameSpec;
use packet::memory::HeapBuffer;
use packet::tcp::{ACK, SYN};

const NODEPORT: &str = "203.0.113.10:32000";
const POD: &str = "100.96.2.2:9090";
const PEER: &str = "203.0.113.50:40000";

/// Frames that the host got, and how many more it takes.
#[derive(Debug, Clone)]
struct Kept(Arc<Mutex<(Vec<Vec<u8>>, usize)>>);

impl Host<HeapBuffer> for Kept {
    fn take(&mut self, link: usize, frame: HeapBuffer) -> Result<(), HeapBuffer> {
        assert_eq!(link, OUTSIDE);
        let mut kept = self.0.lock().unwrap();
        if kept.1 == 0 {
            return Err(frame);
        }
        kept.1 -= 1;
        kept.0.push(frame.bytes().to_vec());
        Ok(())
    }

    fn wants(&self, link: usize) -> bool {
        link == OUTSIDE
    }
}

impl Kept {
    fn frames(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }
}

/// A gateway with one service, whose host takes `room` frames of the link outside, `rate` of them a second.
fn gateway(rate: u32, room: usize) -> (Gateway, Kept) {
    let mut gateway = Gateway::new(&[Spec::new("default/web", &[NODEPORT], &[POD])]);
    let kept = Kept(Arc::new(Mutex::new((Vec::new(), room))));
    gateway.workers[0].set_host(Box::new(kept.clone()), rate);
    (gateway, kept)
}

fn drops(gateway: &Gateway, reason: Reason) -> u64 {
    gateway.workers[0].counters().drops(reason)
}

#[test]
fn what_is_no_services_at_an_own_address_goes_to_the_host_as_it_came() {
    let (mut gateway, kept) = gateway(1000, 1000);
    for to in [
        "203.0.113.10:179",
        "203.0.113.10:22",
        "[2001:db8:1::10]:179",
    ] {
        let from = if to.starts_with('[') {
            "[2001:db8:1::50]:40000"
        } else {
            PEER
        };
        for flags in [SYN, ACK] {
            let frame = from_client(FrameSpec::tcp(at(from), at(to), flags));
            assert_eq!(gateway.put(0, OUTSIDE, &frame), []);
            assert_eq!(kept.frames(), [frame]);
        }
        let frame = from_client(FrameSpec::udp(at(from), at(to)).with_payload(b"hello"));
        assert_eq!(gateway.put(0, OUTSIDE, &frame), []);
        assert_eq!(kept.frames(), [frame]);
    }
    let total = gateway.workers[0].counters().total(Total::HandedOver);
    assert_eq!(total, 9);
}

#[test]
fn a_ttl_of_1_does_not_matter_to_the_host_and_does_to_a_service() {
    let (mut gateway, kept) = gateway(1000, 1000);
    let with_ttl = |to: &str| {
        let mut spec = FrameSpec::tcp(at(PEER), at(to), SYN);
        spec.ttl = 1;
        from_client(spec)
    };
    let bgp = with_ttl("203.0.113.10:179");
    gateway.put(0, OUTSIDE, &bgp);
    assert_eq!(kept.frames(), [bgp]);
    let out = gateway.put(0, OUTSIDE, &with_ttl(NODEPORT));
    assert_eq!(out.len(), 1, "time exceeded");
    assert_eq!(kept.frames(), Vec::<Vec<u8>>::new());
}

#[test]
fn services_others_addresses_and_other_links_are_not_the_hosts() {
    let (mut gateway, kept) = gateway(1000, 1000);
    for to in [NODEPORT, "192.0.2.77:179"] {
        gateway.put(
            0,
            OUTSIDE,
            &from_client(FrameSpec::tcp(at(PEER), at(to), SYN)),
        );
    }
    let pods = FrameSpec::tcp(at("100.96.2.2:5"), at("100.96.2.1:179"), SYN);
    gateway.put(0, PODS, &from_pod(pods));
    assert_eq!(kept.frames(), Vec::<Vec<u8>>::new());
    assert_eq!(drops(&gateway, Reason::NotOurs), 1);
    assert_eq!(drops(&gateway, Reason::NotServed), 1);
    gateway.assert_balanced();
}

#[test]
fn the_host_gets_so_many_a_second_and_no_more_than_it_has_room_for() {
    let (mut limited, kept) = gateway(5, 1000);
    let (mut full, few) = gateway(1000, 3);
    for _ in 0..20 {
        let frame = from_client(FrameSpec::tcp(at(PEER), at("203.0.113.10:179"), SYN));
        limited.put(0, OUTSIDE, &frame);
        full.put(0, OUTSIDE, &frame);
    }
    assert_eq!(kept.frames().len(), 5);
    assert_eq!(drops(&limited, Reason::HostLimit), 15);
    assert_eq!(few.frames().len(), 3);
    assert_eq!(drops(&full, Reason::HostLimit), 17);
}

#[test]
fn answers_to_the_hosts_questions_reach_it_and_questions_to_the_gateway_do_not() {
    let (mut gateway, kept) = gateway(1000, 1000);
    let arp = |operation: u8, target: [u8; 4]| {
        let mut frame = [
            &OUTSIDE_MAC[..],
            &CLIENT_MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        ]
        .concat();
        frame.extend_from_slice(&CLIENT_MAC);
        frame.extend_from_slice(&[203, 0, 113, 50]);
        frame.extend_from_slice(&OUTSIDE_MAC);
        frame.extend_from_slice(&target);
        frame.resize(60, 0);
        frame
    };
    let reply = arp(2, [203, 0, 113, 10]);
    assert_eq!(gateway.put(0, OUTSIDE, &reply), []);
    assert_eq!(kept.frames(), [reply]);
    let out = gateway.put(0, OUTSIDE, &arp(1, [203, 0, 113, 10]));
    assert_eq!(out.len(), 1, "the gateway answers itself");
    assert_eq!(kept.frames(), Vec::<Vec<u8>>::new());
}
